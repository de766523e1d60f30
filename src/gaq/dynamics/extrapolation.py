"""What a force field is asked beyond its training data: told once, and counted."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gaq.errors import ExtrapolationWarning
from gaq.graph import Graph

MANY_CLIPPED = 0.05  # of the values of one quantizer; learned steps clip about half a percent within their range
OFTEN = 10  # structures that are looked at one by one, and then together: a look takes a few microseconds


class Extrapolation:
    """Structures in which two atoms are nearer than training saw them, or the codes of a model clip much.

    Nearer means nearer than `Potential.nearest`, where the model begins to hold back. The first such structure is told by
    an `ExtrapolationWarning`, and the first one of which one quantizer clips more than 5 % of its values by another; codes
    are counted by the engine alone, and after ten structures looked at for ten together.

    Args:
        potential: any predictor; one without `nearest` has no range to leave.

    Attributes:
        structures, beyond: how many were looked at, and how many of them had atoms too near.
        shortest: the shortest of these distances for each pair of species, Å.
    """

    def __init__(self, potential: Any) -> None:
        self.structures = self.beyond = 0
        self.shortest: dict[tuple[int, int], float] = {}
        self._nearest: NDArray[np.float64] | None = getattr(potential, "nearest", None)
        self._engine: Any = getattr(potential, "engine", None)
        self._quantizers: Sequence[str] = getattr(potential, "quantizers", ())
        self._counted = self._first = self._engine.saturation() if self._engine is not None and self._quantizers else None
        self._told: set[str] = set()
        self._pairs: _Pairs | None = None

    @property
    def most_clipped(self) -> tuple[str, float] | None:
        """The quantizer that clipped the largest share of its values since this was made, and that share; None without."""
        if self._first is None:
            return None
        shares = _shares(self._engine.saturation(), self._first)
        return self._quantizers[int(shares.argmax())], float(shares.max())

    def look(self, graph: Graph, positions: NDArray[np.float64]) -> None:
        """Look at the distances of one structure, and at what its codes clipped if it was predicted just now.

        Args:
            graph: its pairs; those beyond the cutoff do not matter.
            positions: where its atoms are, Å.
        """
        self.structures += 1
        self._look_at_distances(graph, positions)
        self._look_at_codes()

    def _look_at_distances(self, graph: Graph, positions: NDArray[np.float64]) -> None:
        if self._nearest is None or not len(graph.centers):
            return
        if self._pairs is None or not self._pairs.are_of(graph):
            self._pairs = _Pairs(graph, self._nearest)
        pairs = self._pairs
        squares = pairs.squares(positions)
        too_near = squares < pairs.limits
        if not too_near.any():
            return
        self.beyond += 1
        near = np.flatnonzero(too_near)
        for edge in near[np.argsort(-squares[near])]:  # the shortest last
            i, j = int(pairs.i[edge]), int(pairs.j[edge])
            first, second = sorted((int(graph.species[i]), int(graph.species[j])))
            distance = float(np.sqrt(squares[edge]))
            self.shortest[first, second] = min(distance, self.shortest.get((first, second), np.inf))
        known = self._nearest[first, second]
        self._tell("distances", f"atoms {i} and {j} ({named((first, second))}) are {distance:.2f} Å apart, and "
                                f"the model knows such pairs from {known:.2f} Å on; do not trust the forces")

    def _look_at_codes(self) -> None:
        often = self.structures <= OFTEN or self.structures % OFTEN == 0
        if self._counted is None or "codes" in self._told or not often:
            return
        before, self._counted = self._counted, self._engine.saturation()
        shares = _shares(self._counted, before)
        worst = int(shares.argmax())
        if shares[worst] > MANY_CLIPPED:
            self._tell("codes", f"{self._quantizers[worst]} clips {100 * shares[worst]:.0f} % of its values, which are "
                                "beyond the range that its codes were made for; do not trust the forces")

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warnings.warn(f"the structure is outside of the model's training data: {message}", ExtrapolationWarning,
                          stacklevel=5)


class _Pairs:
    """Each pair of a graph once, with the square of the distance that training saw."""

    def __init__(self, graph: Graph, nearest: NDArray[np.float64]) -> None:
        self._centers, self._cell = graph.centers, graph.cell
        once = np.flatnonzero(graph.centers <= graph.neighbours)
        self.i, self.j = graph.centers[once], graph.neighbours[once]
        self.limits = nearest[graph.species[self.i], graph.species[self.j]] ** 2
        self._offsets = None
        if graph.cell.any():
            self._offsets = np.einsum("ev,eva->ea", graph.shifts[once], graph.cell[graph.batch[self.i]])

    def are_of(self, graph: Graph) -> bool:
        """Return whether they are those of `graph`: the very arrays."""
        return graph.centers is self._centers and graph.cell is self._cell

    def squares(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return r_ij² in Å²."""
        vectors = positions.take(self.j, 0) - positions.take(self.i, 0)
        if self._offsets is not None:
            vectors += self._offsets
        return np.einsum("ea,ea->e", vectors, vectors)


def named(pair: Sequence[int]) -> str:
    """Return e.g. `C-H` for atomic numbers."""
    return "-".join(chemical_symbols[z] for z in sorted(pair, reverse=True))


def _shares(now: tuple[NDArray[np.uint64], ...], before: tuple[NDArray[np.uint64], ...]) -> NDArray[np.float64]:
    clipped, seen = now[0] - before[0], now[1] - before[1]
    return clipped / np.maximum(seen, 1)
