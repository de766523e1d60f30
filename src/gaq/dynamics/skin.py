"""A Verlet skin: pairs within the cutoff and a margin, good until atoms or the cell have moved by it.

Source: L. Verlet, Phys. Rev. 159, 98 (1967).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gaq.errors import StructureError
from gaq.neighbours import Neighbours, find_neighbours
from gaq.structure import Structure

SKIN = 0.6  # Å
SMALL = 32  # atoms of a molecule whose pairs are all looked at: one block of the engine, hence one order of sums


class Skin:
    """Pairs of R copies of a structure that may come within the cutoff, found anew only when some may be missing.

    A pair at d > c + s when the pairs were found is at d' ≥ σ d - 2u after a strain of the cell whose least singular value is
    σ, and displacements of at most u beside it; none is missing while u ≤ ½ (σ (c + s) - c), which is s/2 in a fixed cell.

    Of a molecule of up to 32 atoms all pairs are taken, once. What is computed from them then depends on the positions
    alone; of larger structures the order of sums, and so the last bits, depend on where the pairs were found.

    Args:
        structure: species, cell and periodicity.
        cutoff: c, Å.
        replicas: R; the copies differ in their positions.

    Attributes:
        pairs: those of all copies, whose atoms are numbered one copy after the other; distances are those at `reference`.
        reference: positions at which they were found, Å, shape (R N, 3); None where they are to be found anew.
        complete: whether they are all pairs.
    """

    def __init__(self, structure: Structure, cutoff: float, replicas: int = 1) -> None:
        self.structure = Structure(structure.species, structure.positions, structure.cell, structure.pbc)
        self.cutoff, self.replicas = cutoff, replicas
        self.complete = len(structure) <= SMALL and replicas == 1 and not any(structure.pbc)
        self.reference: NDArray[np.float64] | None = None
        self.pairs = Neighbours(*(np.zeros(0, np.int64),) * 2, np.zeros((0, 3)), np.zeros(0))
        self._found: list[Neighbours] = []

    @property
    def cell(self) -> NDArray[np.float64]:
        """Cell in which the pairs were found, Å, shape (3, 3)."""
        assert self.structure.cell is not None  # filled by Structure.__post_init__
        return self.structure.cell

    @property
    def reach(self) -> float:
        """How far atoms may move from `reference` in a fixed cell, Å."""
        return np.finfo(np.float64).max if self.complete else SKIN / 2

    def forget(self) -> None:
        """Find the pairs anew next time, so that what follows depends on the positions of that moment alone."""
        if not self.complete:
            self.reference = None

    def update(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> bool:
        """Find pairs where some may be missing, and return whether any were found.

        Raises:
            StructureError: positions that are not finite, atoms at one place, or too many pairs.
        """
        if not np.isfinite(positions).all():
            raise StructureError("positions must be finite numbers in Å")
        stale = self._stale(positions, cell)
        if not stale:
            return False
        if self.complete:
            self.pairs = _all_pairs(positions)
        else:
            self._find(stale, positions.reshape(self.replicas, -1, 3), cell)
        self.reference = positions.copy()
        return True

    def _stale(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> list[int]:
        """Return the copies whose pairs have to be found."""
        if self.reference is None:
            return list(range(self.replicas))
        if self.complete:
            return []
        moved, reach = positions - self.reference, SKIN / 2
        if not np.array_equal(cell, self.cell):
            if not all(self.structure.pbc):
                return list(range(self.replicas))
            strain = np.linalg.solve(self.cell, cell)
            moved = positions - self.reference @ strain
            reach = 0.5 * (np.linalg.svd(strain, compute_uv=False)[-1] * (self.cutoff + SKIN) - self.cutoff)
        squares = np.einsum("na,na->n", moved, moved).reshape(self.replicas, -1).max(1)
        return np.flatnonzero(~(squares <= max(reach, 0.0) ** 2)).tolist()

    def _find(self, stale: list[int], places: NDArray[np.float64], cell: NDArray[np.float64]) -> None:
        fresh = {k: find_neighbours(replace(self.structure, positions=places[k], cell=cell), self.cutoff + SKIN)
                 for k in stale}
        self._found = [fresh[k] if k in fresh else self._found[k] for k in range(self.replicas)]
        self.structure, atoms = replace(self.structure, cell=cell), len(self.structure)
        if self.replicas == 1:
            self.pairs = self._found[0]
            return
        self.pairs = Neighbours(
            np.concatenate([found.centers + k * atoms for k, found in enumerate(self._found)]),
            np.concatenate([found.neighbours + k * atoms for k, found in enumerate(self._found)]),
            np.concatenate([found.shifts for found in self._found]),
            np.concatenate([found.distances for found in self._found]))


def _all_pairs(positions: NDArray[np.float64]) -> Neighbours:
    i, j = np.nonzero(~np.eye(len(positions), dtype=bool))
    return Neighbours(i, j, np.zeros((len(i), 3)), np.linalg.norm(positions[j] - positions[i], axis=1))
