"""What a backend is: it makes a `Potential` of a stored model, or says why it cannot. Fast or absent, never different."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from gaq.graph import Graph, Potential
from gaq.stored import StoredModel


class Computed(Potential, Protocol):
    """A potential that comes from a stored model."""

    @property
    def stored(self) -> StoredModel:
        """What it computes."""
        ...

    @property
    def engine(self) -> Any | None:
        """What takes steps of dynamics by itself (`gaq.backends.native.engine.NativeEngine`), or None."""
        ...

    def saturation(self, graphs: Iterable[Graph]) -> list[tuple[str, float]]:
        """Return, for each activation quantizer, the share of values beyond its range when these graphs are predicted."""
        ...


class Backend(Protocol):
    """A way to compute models."""

    def potential(self, stored: StoredModel, threads: int | None = None, device: str | None = None,
                  dtype: str | None = None) -> Computed:
        """Return what computes a model.

        Args:
            threads: that share out the work; None for the backend's own choice.
            device, dtype: where and how precisely; None for what is usual.

        Raises:
            GaqError: it is not installed, or does not compute this model; the message says what to do.
        """
        ...

    def variants(self, stored: StoredModel, threads: int | None = None, device: str | None = None,
                 dtype: str | None = None) -> Iterator[tuple[str, Computed]]:
        """Yield, for each activation quantizer by the name of its leaf, a potential in which it alone rounds."""
        ...
