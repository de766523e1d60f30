"""What a backend is: it makes a `Potential` of a stored model, or says why it cannot. Fast or absent, never different."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaq.graph import Graph, Potential, build_graph
from gaq.stored import StoredModel
from gaq.structure import Structure


class OfStored:
    """What every potential of a stored model says of it; a backend adds how it computes.

    Args:
        stored: the model.
    """

    def __init__(self, stored: StoredModel) -> None:
        self.stored = stored

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self.stored.config.species

    @property
    def cutoff(self) -> float:
        """Å."""
        return self.stored.config.cutoff

    @property
    def nearest(self) -> NDArray[np.float64] | None:
        """How near training saw two atoms by their atomic numbers, Å, less 5 %; nearer, the model holds back."""
        return self.stored.nearest

    @property
    def sha256(self) -> str:
        """Digest of what computes: shape, recipe and tensors; the same in memory and from a file, audited or not."""
        return self.stored.sha256

    def graph(self, structure: Structure) -> Graph:
        """Return the graph of a structure at the model's cutoff."""
        return build_graph(structure, self.cutoff)


class Computed(Potential, Protocol):
    """A potential that comes from a stored model."""

    stored: StoredModel  # what it computes

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
