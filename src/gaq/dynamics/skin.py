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
    """Pairs of a structure that may come within the cutoff, found anew only when some may be missing.

    A pair at d > c + s when the pairs were found is at d' ≥ σ d - 2u after a strain of the cell whose least singular value
    is σ, and displacements of at most u beside it; none is missing while u ≤ ½ (σ (c + s) - c), s/2 in a fixed cell.

    Of a molecule of up to 32 atoms all pairs are taken, once. What the engine computes from them then depends on the
    positions alone; of larger structures the order of sums, and so the last bits, depend on where the pairs were found.

    Args:
        structure: species, cell and periodicity.
        cutoff: c, Å.

    Attributes:
        pairs: those found; their distances are those at `reference`.
        reference: positions at which they were found, Å, shape (N, 3); None where they are to be found anew.
        complete: whether they are all pairs.
    """

    def __init__(self, structure: Structure, cutoff: float) -> None:
        self.structure = Structure(structure.species, structure.positions, structure.cell, structure.pbc)
        self.cutoff = cutoff
        self.complete = len(structure) <= SMALL and not any(structure.pbc)
        self.reference: NDArray[np.float64] | None = None
        self.pairs = Neighbours(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0))

    @property
    def reach(self) -> float:
        """How far atoms may move from `reference` in a fixed cell, Å."""
        return np.finfo(np.float64).max if self.complete else SKIN / 2

    def forget(self) -> None:
        """Find the pairs anew next time, so that what follows depends on the positions of that moment alone."""
        if not self.complete:
            self.reference = None

    def update(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> bool:
        """Find the pairs where some may be missing, and return whether that was so.

        Raises:
            StructureError: positions that are not finite, atoms at one place, or too many pairs.
        """
        if not np.isfinite(positions).all():
            raise StructureError("positions must be finite numbers in Å")
        if not self._is_stale(positions, cell):
            return False
        here = replace(self.structure, positions=positions, cell=cell)
        self.pairs = _all_pairs(positions) if self.complete else find_neighbours(here, self.cutoff + SKIN)
        self.structure, self.reference = here, here.positions
        return True

    def _is_stale(self, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> bool:
        if self.reference is None or self.complete:
            return self.reference is None
        found_in = self.structure.cell
        assert found_in is not None  # filled by Structure.__post_init__
        moved, reach = positions - self.reference, SKIN / 2
        if not np.array_equal(cell, found_in):
            if not all(self.structure.pbc):
                return True
            strain = np.linalg.solve(found_in, cell)
            moved = positions - self.reference @ strain
            reach = 0.5 * (np.linalg.svd(strain, compute_uv=False)[-1] * (self.cutoff + SKIN) - self.cutoff)
        return not np.einsum("na,na->n", moved, moved).max() <= max(reach, 0.0) ** 2


def _all_pairs(positions: NDArray[np.float64]) -> Neighbours:
    i, j = np.nonzero(~np.eye(len(positions), dtype=bool))
    return Neighbours(i, j, np.zeros((len(i), 3)), np.linalg.norm(positions[j] - positions[i], axis=1))
