"""No pair within the cutoff is ever missing, however atoms and cells move, and the search is rare."""

import numpy as np
import pytest
from tiny import cluster

from gaq.dynamics.skin import SKIN, SMALL, Skin
from gaq.errors import StructureError
from gaq.neighbours import Neighbours, find_neighbours
from gaq.structure import Structure

CUTOFF = 3.0


def box(pbc: tuple[bool, bool, bool] = (True, True, True)) -> Structure:
    rng = np.random.default_rng(0)
    grid = 2.5 * np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3) + 0.3 * rng.normal(size=(27, 3))
    return Structure(np.full(27, 6), grid, cell=7.5 * np.eye(3) + 0.2 * rng.normal(size=(3, 3)), pbc=pbc)


def within(pairs: Neighbours, positions: np.ndarray, cell: np.ndarray) -> list[tuple]:
    vectors = positions[pairs.neighbours] - positions[pairs.centers] + pairs.shifts @ cell
    near = np.linalg.norm(vectors, axis=1) <= CUTOFF
    return sorted(zip(pairs.centers[near].tolist(), pairs.neighbours[near].tolist(),
                      map(tuple, pairs.shifts[near].tolist()), strict=True))


@pytest.mark.parametrize("structure", [box(), box((True, False, True)), cluster(8, spacing=1.5), cluster(40, spacing=1.5)],
                         ids=["crystal", "slab", "small", "many"])
@pytest.mark.parametrize("strained", [False, True])
def test_no_pair_is_missing_while_atoms_and_cell_move(structure: Structure, strained: bool) -> None:
    rng, skin, searches = np.random.default_rng(1), Skin(structure, CUTOFF), 0
    positions, cell = structure.positions, np.array(structure.cell)
    for _ in range(60):
        if strained and any(structure.pbc):
            strain = np.eye(3) + 0.004 * rng.normal(size=(3, 3))
            positions, cell = positions @ strain, cell @ strain
        positions = positions + 0.02 * rng.normal(size=positions.shape)
        searches += skin.update(positions, cell)
        fresh = find_neighbours(Structure(structure.species, positions, cell, structure.pbc), CUTOFF)
        assert within(skin.pairs, positions, cell) == within(fresh, positions, cell)
    assert searches == 1 if skin.complete else searches > 1
    if not strained or all(structure.pbc):
        assert searches < 30


def test_a_pair_that_comes_straight_at_the_cutoff_is_found_in_time() -> None:
    """Both atoms of a pair move by the most that is allowed, in the worst direction."""
    start = np.zeros((SMALL + 1, 3))
    start[:, 2] = 20.0 * np.arange(SMALL + 1)
    start[1] = [CUTOFF + SKIN + 1e-9, 0, 0]
    skin = Skin(Structure(np.full(SMALL + 1, 6), start), CUTOFF)
    assert skin.update(start, np.zeros((3, 3)))
    moved = start.copy()
    for share, found in ((0.499, False), (0.501, True)):
        moved[0, 0], moved[1, 0] = share * SKIN, start[1, 0] - share * SKIN
        assert skin.update(moved, np.zeros((3, 3))) is found


def test_what_was_found_after_forgetting_depends_on_the_positions_alone() -> None:
    structure = cluster(40, spacing=1.5)
    moved, cell = structure.positions + 0.05, np.zeros((3, 3))
    first, second = Skin(structure, CUTOFF), Skin(structure, CUTOFF)
    first.update(structure.positions, cell)
    assert not first.update(moved, cell)
    first.forget()
    assert first.update(moved, cell)
    assert second.update(moved, cell)
    for name in ("centers", "neighbours", "shifts", "distances"):
        np.testing.assert_array_equal(getattr(first.pairs, name), getattr(second.pairs, name))


def test_a_search_that_fails_leaves_the_skin_as_it_was() -> None:
    structure = box()
    skin, cell, positions = Skin(structure, CUTOFF), np.array(structure.cell), structure.positions
    skin.update(positions, cell)
    for spoil in (np.nan, positions[5]):
        wrong = positions.copy()
        wrong[4] = spoil
        with pytest.raises(StructureError, match=r"finite|at one place"):
            skin.update(wrong, cell)
    assert not skin.update(positions, cell)
