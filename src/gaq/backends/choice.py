"""Which of the two implementations computes a force field: the native engine, or its definition in PyTorch."""

from typing import Literal

import torch

from gaq.backends.native.engine import NativeForceField
from gaq.backends.native.errors import EngineMissing, NotLowered
from gaq.errors import ConfigError, did_you_mean
from gaq.forcefield import ForceField
from gaq.graph import Predictor
from gaq.threads import MOST_THREADS

Backend = Literal["auto", "engine", "torch"]
BACKENDS = ("auto", "engine", "torch")


def on_backend(forcefield: ForceField, backend: str = "auto", threads: int | None = None
               ) -> ForceField | NativeForceField:
    """Return the force field on a backend.

    Args:
        forcefield: float or low-bit.
        backend: "engine", "torch", or "auto": the engine where it is installed and computes this model on the CPU.
        threads: of the engine; None for as many as PyTorch uses.

    Raises:
        ConfigError: an unknown backend.
        EngineMissing, NotLowered: the engine was asked for, and is not installed or does not compute this model.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}{did_you_mean(backend, BACKENDS)}")
    if backend == "torch":
        return forcefield
    count = min(torch.get_num_threads(), MOST_THREADS) if threads is None else threads
    if backend == "engine":
        return NativeForceField(forcefield, count)
    if forcefield.device.type != "cpu":
        return forcefield
    try:
        return NativeForceField(forcefield, count)
    except (EngineMissing, NotLowered):  # `gaq info` and `gaq md` say which one computes
        return forcefield


def computed_on(predict: Predictor, backend: str = "auto") -> Predictor:
    """Return a force field on a backend, and any other predictor as it is.

    Raises:
        ConfigError, EngineError: as `on_backend`.
    """
    return on_backend(predict, backend) if isinstance(predict, ForceField) else predict
