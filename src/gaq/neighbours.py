"""The neighbour search (vesin), behind a bound on what it may cost: no structure hangs it or takes all memory."""

from dataclasses import dataclass

import numpy as np
import vesin
from numpy.typing import NDArray

from gaq.errors import StructureError
from gaq.lattice import MIN_DISTANCE, heights, reduced
from gaq.structure import Structure

FEWEST = 1_000_000  # pairs that any structure may have, such as an atom and its images in a tiny cell
DENSEST = 1.0  # atoms/Å³ up to which a structure of any size is searched; diamond has 0.18
MANY_SHIFTS = 10_000  # cells that are looked at around each; a cell that needs more is skewed, and reduced first
SPREAD = 25.0  # cutoffs; vesin takes minutes for structures with a lattice that are wider than that away from it
LONG = 1e4  # vesin divides by zero where the boxes of its grid are this many more along one axis than along all others


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Directed pairs within the cutoff, sorted by center.

    Args:
        centers, neighbours: i and j, int64, shape (pairs,).
        shifts: whole numbers S with r_ij = x_j - x_i + S · cell, float64, shape (pairs, 3).
        distances: |r_ij| in Å, shape (pairs,).
    """

    centers: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    shifts: NDArray[np.float64]
    distances: NDArray[np.float64]


def find_neighbours(structure: Structure, cutoff: float) -> Neighbours:
    """Find all pairs r_ij <= cutoff in Å, periodic images included.

    Raises:
        StructureError: two atoms (or an atom and an image) closer than 0.05 Å, or more pairs than a structure of atoms has.
    """
    search = _Search(structure, float(cutoff))
    search.check_cost()
    found = search.find()
    if len(found.distances) and found.distances.min() < MIN_DISTANCE:
        worst = int(np.argmin(found.distances))
        raise StructureError(f"atoms {found.centers[worst]} and {found.neighbours[worst]} are at one place "
                             f"({found.distances[worst]:.3g} Å apart, at least {MIN_DISTANCE} Å needed); are the positions "
                             "in Å?")
    return found


class _Search:
    """One structure: its lattice, how far it reaches along each axis, and what a search of it costs.

    The axes are the periodic lattice vectors, reduced, then unit vectors normal to all of them and to each other.
    """

    def __init__(self, structure: Structure, cutoff: float) -> None:
        assert structure.cell is not None  # filled by Structure.__post_init__
        self.structure, self.cutoff, self.periodic = structure, cutoff, np.array(structure.pbc)
        self.given = structure.cell[self.periodic]
        self.lattice, self.made = reduced(self.given)
        self.normals = _complement(self.lattice)
        self.heights = heights(self.lattice) if len(self.given) else np.zeros(0)
        self.places = np.hstack([structure.positions @ np.linalg.pinv(self.lattice) if len(self.given)
                                 else np.zeros((len(structure), 0)), structure.positions @ self.normals.T])

    def check_cost(self) -> None:
        """Bound the number of pairs by counting atoms in boxes no smaller than the cutoff.

        Raises:
            StructureError: more than `FEWEST` and more than `DENSEST` atoms may have.
        """
        atoms, periodic = len(self.places), len(self.lattice)
        boxes, ways = np.zeros((atoms, 3), dtype=np.int64), 1.0
        for axis in range(3):
            along = self.places[:, axis]
            if axis < periodic:
                count = int(self.heights[axis] // self.cutoff)
                if count < 3:  # all atoms in one box, and the images that one pair may have
                    ways *= 2.0 * self.cutoff // self.heights[axis] + 1.0
                    continue
                boxes[:, axis] = np.minimum((along - np.floor(along)) * count, count - 1)
            else:
                boxes[:, axis] = (along - along.min()) // self.cutoff
            ways *= 3.0
        bound, allowed = atoms * atoms * ways, FEWEST + 27.0 * self.cutoff**3 * DENSEST * atoms
        if bound > allowed:
            numbers = boxes % 2**21 @ np.array([1, 2**21, 2**42])  # boxes that share a number only raise the bound
            in_box = np.unique(numbers, return_counts=True)[1].astype(float)
            bound = float((in_box**2).sum()) * ways
        if bound > allowed:
            raise StructureError(f"{atoms} atoms have up to {bound:.2g} pairs within {self.cutoff:g} Å, images included, "
                                 f"and {allowed:.2g} are the most that are searched; are the positions and the cell in Å?")

    def find(self) -> Neighbours:
        """Let vesin find the pairs; it is given another form of the structure where this one would be too much for it."""
        atoms = len(self.structure)
        if atoms == 1 and not len(self.given):
            return Neighbours(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0))
        skewed = len(self.given) > 0 and np.prod(2.0 * np.ceil(self.cutoff / heights(self.given)) + 1.0) > MANY_SHIFTS
        extents = np.ptp(self.places[:, len(self.given):], axis=0)
        spread = 0 < len(self.given) < 3 and extents.max() > SPREAD * self.cutoff
        if skewed or spread or self._is_long(self.places):
            return self._find_tidied()
        return self._vesin(self.structure.positions, self.given, self.periodic)

    def _is_long(self, places: NDArray[np.float64]) -> bool:
        extents = np.concatenate([self.heights, np.ptp(places[:, len(self.lattice):], axis=0)])
        boxes = np.maximum(extents // self.cutoff, 1.0)
        return bool(boxes.prod() > LONG * boxes.min() ** 3)

    def _find_tidied(self) -> Neighbours:
        """Search with the reduced lattice, wide gaps between atoms narrowed, and images far away where there are none."""
        periodic, places = len(self.lattice), self.places.copy()
        wrapped = np.floor(places[:, :periodic])
        places[:, :periodic] -= wrapped
        for axis in range(periodic, 3):
            order = np.argsort(places[:, axis], kind="stable")
            steps = np.diff(places[order, axis], prepend=places[order[0], axis])
            places[order, axis] = np.cumsum(np.minimum(steps, 2.0 * self.cutoff))
        if self._is_long(places):
            raise StructureError("the structure is more than 10,000 times as long as it is wide, which the search for "
                                 "neighbours does not take; are the positions and the cell in Å?")
        room = np.ptp(places[:, periodic:], axis=0) + 2.0 * self.cutoff
        box = np.vstack([self.lattice, room[:, None] * self.normals])
        positions = places @ np.vstack([self.lattice, self.normals])
        found = self._vesin(positions, box[: 3 if periodic else 0], np.full(3, periodic > 0))
        i, j = found.centers, found.neighbours
        shifts = np.zeros((len(i), 3))
        own = found.shifts[:, :periodic] - wrapped[j] + wrapped[i]
        shifts[:, self.periodic] = own @ self.made
        vectors = self.structure.positions[j] - self.structure.positions[i] + own @ self.lattice
        return Neighbours(i, j, shifts, np.linalg.norm(vectors, axis=1))

    def _vesin(self, positions: NDArray[np.float64], lattice: NDArray[np.float64],
               periodic: NDArray[np.bool_]) -> Neighbours:
        box = np.zeros((3, 3))
        box[periodic] = lattice
        if 0 < len(lattice) < 3:
            box = _filled(box, periodic)
        finder = vesin.NeighborList(cutoff=self.cutoff, full_list=True, sorted=True)
        i, j, shifts, distances = finder.compute(positions, box, periodic.tolist(), quantities="ijSd")
        return Neighbours(np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64),
                          np.asarray(shifts, dtype=np.float64).reshape(-1, 3), distances)


def _complement(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors normal to the lattice and to each other, shape (3 - d, 3); without a lattice, the axes."""
    return np.linalg.svd(lattice)[2][len(lattice):] if len(lattice) else np.eye(3)


def _filled(cell: NDArray[np.float64], periodic: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the aperiodic directions unit vectors normal to the periodic ones, so that the cell has a volume."""
    filled = cell.copy()
    for axis in range(3):
        if not periodic[axis]:
            others = [filled[k] for k in range(3) if periodic[k] or k < axis]
            _, _, basis = np.linalg.svd(np.array(others))
            filled[axis] = basis[-1]
    return filled
