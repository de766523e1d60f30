"""Native force fields of the tiny models, on every instruction set that this processor has."""

from functools import cache

import pytest
import torch
from tiny import forcefield

from gaq.backends.native.engine import NativeEngine, NativePotential
from gaq.backends.native.errors import NoSuchInstructionSet
from gaq.forcefield import ForceField
from gaq.graph import Prediction

SETS = ("scalar", "avx2", "avx512")
LOWERED = ("fp32", "w4", "w4a16", "w4a8", "w8a8")  # the recipes that the engine computes


@cache
def native(shape: str, recipe: str, isa: str | None = None, threads: int = 1) -> NativePotential:
    """The deployed tiny model on the engine; skips where this processor lacks the instruction set."""
    return on_engine(forcefield(shape, recipe), isa, threads)


def on_engine(field: ForceField, isa: str | None = None, threads: int = 1) -> NativePotential:
    try:
        return NativePotential(field, threads=threads, isa=isa)
    except NoSuchInstructionSet as missing:
        pytest.skip(str(missing))


def engine_of(field: NativePotential) -> NativeEngine:
    return field.engine


def force_gap(first: Prediction, second: Prediction) -> torch.Tensor:
    """|ΔF| of each component, eV/Å."""
    return (first.forces - second.forces).abs()
