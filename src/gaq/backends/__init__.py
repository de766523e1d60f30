"""What computes a model: its definition on PyTorch, or the native engine."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

from gaq.backends.contract import Backend, Computed
from gaq.backends.native.errors import EngineMissing
from gaq.errors import ConfigError, PackageMissing, did_you_mean
from gaq.lowering.blob import NotLowered
from gaq.optional import extras
from gaq.stored import StoredModel

Made = TypeVar("Made")

HOMES = {"engine": "gaq.backends.native", "torch": "gaq.backends.torch"}  # of the modules that are a `contract.Backend`
BACKENDS = ("auto", *HOMES)


def compute(stored: StoredModel, backend: str = "auto", threads: int | None = None,
            device: str | None = None, dtype: str | None = None) -> Computed:
    """Return a stored model on a backend.

    Args:
        backend: "engine", "torch", or "auto": the engine where it is installed and computes this model.
        threads: of the engine; None for as many as PyTorch would use.
        device, dtype: of PyTorch, which computes if one of them is given.

    Raises:
        ConfigError: an unknown backend, or a device or precision of the engine.
        EngineMissing, NotLowered: the engine was asked for, and is not installed or does not compute this model.
        MissingPackage: PyTorch was asked for, or nothing else computes the model, and it is not installed.
    """
    return _chosen(backend, device, dtype, lambda home: home.potential(stored, threads, device, dtype))


def variants(stored: StoredModel, backend: str = "auto", threads: int | None = None, device: str | None = None,
             dtype: str | None = None) -> dict[str, Computed]:
    """Return, for each activation quantizer by the name of its leaf, a potential in which it alone rounds.

    Args and raises as for `compute`.
    """
    return _chosen(backend, device, dtype, lambda home: dict(home.variants(stored, threads, device, dtype)))


def _chosen(backend: str, device: str | None, dtype: str | None, make: Callable[[Backend], Made]) -> Made:
    if backend not in BACKENDS:
        raise ConfigError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}{did_you_mean(backend, BACKENDS)}")
    if device is not None or dtype is not None:
        if backend == "engine":
            raise ConfigError("the engine computes on the CPU in float32; take backend=\"torch\" for others")
        backend = "torch"
    if backend != "auto":
        return make(_home(backend))
    try:
        return make(_home("engine"))
    except (EngineMissing, NotLowered) as reason:  # `gaq info`, `gaq md` and `calculator.backend` say which one computes
        try:
            return make(_home("torch"))
        except PackageMissing as missing:
            raise PackageMissing(f"{reason}; {missing}") from None


def _home(backend: str) -> Backend:
    with extras():
        home: Backend = import_module(HOMES[backend])  # type: ignore[assignment]
    return home
