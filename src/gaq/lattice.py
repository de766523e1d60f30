"""Lattices of one, two or three vectors: the shortest basis, its heights, and lattices that have no meaning."""

import itertools

import numpy as np
from numpy.typing import NDArray

from gaq.errors import StructureError

MIN_DISTANCE = 0.05  # Å; below it two atoms, or an atom and its image, are taken to be at one place
LARGEST = 1e7  # Å; beyond a millimetre float64 has no digits left for the distances of atoms
_ROUNDS = 500  # Euclid's algorithm needs a few for each power of ten between the longest and the shortest vector


def reduced(lattice: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the basis of the d shortest independent lattice vectors, shortest first, and how it is made of the given one.

    Each vector in turn is made as short as the ones before it can make it, until none becomes shorter; a vector shorter
    than `MIN_DISTANCE` ends this, as then the lattice means nothing.

    Args:
        lattice: vectors as rows, Å, shape (d, 3), d from 0 to 3.

    Returns:
        The basis, shape (d, 3), and whole numbers C of shape (d, d): basis = C · lattice.

    Source: P. Q. Nguyen and D. Stehlé, Low-dimensional lattice basis reduction revisited, ACM Trans. Algorithms 5, 46
    (2009).
    """
    basis, made = lattice.copy(), np.eye(len(lattice), dtype=np.int64)
    for _ in range(_ROUNDS):
        order = np.argsort(np.linalg.norm(basis, axis=1), kind="stable")
        basis, made = basis[order], made[order]
        degenerate = len(basis) and np.linalg.norm(basis[0]) < MIN_DISTANCE
        if degenerate or not any(_shorten(basis, made, k) for k in range(1, len(basis))):
            break
    return basis, made


def heights(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances in Å, shape (d,), between neighbouring lattice planes (lines, points) along each vector."""
    return 1.0 / np.linalg.norm(np.linalg.pinv(lattice), axis=0)


def check_lattice(cell: NDArray[np.float64], pbc: tuple[bool, ...]) -> None:
    """Refuse a cell whose periodic vectors do not make a lattice of atoms; the others are not looked at.

    Raises:
        StructureError: a vector missing or far too long, or vectors that are linearly dependent or nearly so.
    """
    for axis in np.flatnonzero(pbc):
        longest = np.abs(cell[axis]).max()
        if longest > LARGEST:
            raise StructureError(f"lattice vector {axis} has a component of {longest:.3g} Å, and at most {LARGEST:g} Å "
                                 "have a meaning; is the cell in Å?")
        if np.linalg.norm(cell[axis]) < MIN_DISTANCE:
            raise StructureError(f"pbc is set along lattice vector {axis}, but its length is 0 (at least {MIN_DISTANCE} Å "
                                 "are needed); give a cell")
    if sum(pbc) > 1:
        shortest = np.linalg.norm(reduced(cell[np.array(pbc)])[0][0])
        if shortest < MIN_DISTANCE:
            raise StructureError(f"the cell has no volume: its periodic lattice vectors add up to one of {shortest:.2g} Å, "
                                 f"which brings atoms nearer than {MIN_DISTANCE} Å to their images; give vectors that are "
                                 "linearly independent")


def _shorten(basis: NDArray[np.float64], made: NDArray[np.int64], k: int) -> bool:
    """Take the nearest sum of the vectors before vector k from it, in place; return whether this made it shorter."""
    before = np.linalg.norm(basis[k])
    nearest = np.rint(np.linalg.lstsq(basis[:k].T, basis[k], rcond=None)[0])
    sums = nearest + np.array(list(itertools.product((-1, 0, 1), repeat=k)))
    lengths = np.linalg.norm(basis[k] - sums @ basis[:k], axis=1)
    best = sums[np.argmin(lengths)]
    if not lengths.min() < before * (1.0 - 1e-9):
        return False
    basis[k] -= best @ basis[:k]
    made[k] -= best.astype(np.int64) @ made[:k]
    return True
