"""Native force fields of the tiny models, on every instruction set that this processor has."""

from functools import cache

import numpy as np
import pytest
import torch
from tiny import forcefield

from gaq.backends.native.engine import NativeEngine
from gaq.backends.native.errors import NoSuchInstructionSet
from gaq.backends.native.potential import NativePotential
from gaq.dynamics.state import Bath
from gaq.dynamics.steppers import EngineStepper
from gaq.dynamics.surface import PotentialSurface
from gaq.forcefield import ForceField
from gaq.graph import Prediction
from gaq.structure import Structure

SETS = ("scalar", "avx2", "avx512")
LOWERED = ("fp32", "w4", "w4a16", "w4a8", "w8a8")  # the recipes that the engine computes


@cache
def native(shape: str, recipe: str, isa: str | None = None, threads: int = 1) -> NativePotential:
    """The deployed tiny model on the engine; skips where this processor lacks the instruction set."""
    return on_engine(forcefield(shape, recipe), isa, threads)


def on_engine(field: ForceField, isa: str | None = None, threads: int = 1) -> NativePotential:
    try:
        return NativePotential(field.stored, threads=threads, isa=isa)
    except NoSuchInstructionSet as missing:
        pytest.skip(str(missing))


def stepper(field: NativePotential, structure: Structure, masses: np.ndarray, bath: Bath) -> EngineStepper:
    """The engine's own loop."""
    return EngineStepper(PotentialSurface(field, structure), masses, bath)


def engine_of(field: NativePotential) -> NativeEngine:
    return field.engine


def force_gap(first: Prediction, second: Prediction) -> torch.Tensor:
    """|ΔF| of each component, eV/Å."""
    return (first.forces - second.forces).abs()
