"""What a calculator is asked beyond the training data of its force field: told once, and counted."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from gaq.errors import ExtrapolationWarning
from gaq.graph import Graph

MANY_CLIPPED = 0.05  # of the values of one quantizer; learned steps clip about half a percent within their range


class Extrapolation:
    """Structures in which two atoms are nearer than training saw them, or the codes of a model clip much.

    Nearer means nearer than `ForceField.nearest`, where the model begins to hold back. The first such structure is told by
    an `ExtrapolationWarning`, and the first one of which one quantizer clips more than 5 % of its values by another; codes
    are counted by the engine alone.

    Args:
        forcefield: any predictor; one without `nearest` has no range to leave.

    Attributes:
        structures, beyond: how many were looked at, and how many of them had atoms too near.
        shortest: the shortest of these distances for each pair of species, Å.
    """

    def __init__(self, forcefield: Any) -> None:
        self.structures = self.beyond = 0
        self.shortest: dict[tuple[int, int], float] = {}
        self._nearest: NDArray[np.float64] | None = getattr(forcefield, "nearest", None)
        self._engine: Any = getattr(forcefield, "engine", None)
        self._quantizers: Sequence[str] = getattr(forcefield, "quantizers", ())
        self._counted = self._engine.saturation() if self._engine is not None and self._quantizers else None
        self._told: set[str] = set()

    def look(self, graph: Graph) -> None:
        """Look at the distances of one structure, and at what its codes clipped if it was predicted just now."""
        self.structures += 1
        self._look_at_distances(graph)
        self._look_at_codes()

    def _look_at_distances(self, graph: Graph) -> None:
        if self._nearest is None or not len(graph.centers):
            return
        i, j, x, species = (np.asarray(t) for t in (graph.centers, graph.neighbours, graph.positions, graph.species))
        vectors = x[j] - x[i]
        if np.asarray(graph.cell).any():
            vectors += np.asarray(graph.shifts) @ np.asarray(graph.cell)[0]
        squares = np.einsum("ea,ea->e", vectors, vectors)
        limits = self._nearest[species[i], species[j]]
        near = np.flatnonzero(squares < limits * limits)
        if not len(near):
            return
        self.beyond += 1
        for edge in near[np.argsort(-squares[near])]:  # the shortest last
            first, second = sorted((int(species[i[edge]]), int(species[j[edge]])))
            distance = float(np.sqrt(squares[edge]))
            self.shortest[first, second] = min(distance, self.shortest.get((first, second), np.inf))
        known = self._nearest[first, second]
        self._tell("distances", f"atoms {i[edge]} and {j[edge]} ({named((first, second))}) are {distance:.2f} Å apart, and "
                                f"the model knows such pairs from {known:.2f} Å on; do not trust the forces")

    def _look_at_codes(self) -> None:
        if self._engine is None or self._counted is None or "codes" in self._told:
            return
        (clipped, seen), (clipped_before, seen_before) = self._engine.saturation(), self._counted
        self._counted = clipped, seen
        shares = (clipped - clipped_before) / np.maximum(seen - seen_before, 1)
        worst = int(shares.argmax())
        if shares[worst] > MANY_CLIPPED:
            self._tell("codes", f"{self._quantizers[worst]} clips {100 * shares[worst]:.0f} % of its values, which are "
                                "beyond the range that its codes were made for; do not trust the forces")

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warnings.warn(f"the structure is outside of the model's training data: {message}", ExtrapolationWarning,
                          stacklevel=5)


def named(pair: Sequence[int]) -> str:
    """Return e.g. `C-H` for atomic numbers."""
    return "-".join(chemical_symbols[z] for z in sorted(pair, reverse=True))
