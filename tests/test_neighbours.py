"""Lattices and neighbour searches that mean nothing, or would never end; and hard ones that are found as by hand."""

import time

import numpy as np
import pytest
from test_graph import by_hand

from gaq.errors import StructureError
from gaq.lattice import heights, reduced
from gaq.neighbours import MANY_SHIFTS, SPREAD, find_neighbours
from gaq.structure import Structure

EVERYWHERE, NOWHERE = (True, True, True), (False, False, False)


def structure(positions, cell=None, pbc=NOWHERE) -> Structure:
    return Structure(species=np.full(len(positions), 6), positions=positions, cell=cell, pbc=pbc)


def pairs(found) -> set[tuple[int, ...]]:
    return set(zip(found.centers.tolist(), found.neighbours.tolist(), *found.shifts.astype(int).T.tolist(), strict=True))


@pytest.mark.parametrize(("cell", "pbc"), [
    ([[8, 0, 0], [16, 0, 0], [0, 0, 8]], (True, True, False)),  # one along the other
    ([[8, 0, 0], [8 * 2**0.5, 0, 0], [0, 0, 8]], (True, True, False)),  # and in no whole ratio
    ([[8, 0, 0], [-8, 0, 1e-6], [0, 5, 0]], (True, True, False)),
    ([[8, 0, 0], [0, 7, 0], [8 * 2**0.5, 7 * 3**0.5, 0]], EVERYWHERE),  # in one plane
    ([[6, 0, 0], [0, 6, 0], [6, 6, 3e-5]], EVERYWHERE),  # a needle
    ([[6, 0, 0], [0, 6, 0], [6006, -60006, 0.03]], EVERYWHERE),
    ([[0.04, 0, 0], [0, 6, 0], [0, 0, 6]], EVERYWHERE),
])
def test_lattices_that_bring_an_atom_to_its_image_are_refused_at_once(cell, pbc):
    begin = time.perf_counter()
    with pytest.raises(StructureError, match=r"no volume|length is 0"):
        structure([[0.1, 0.2, 0.3]], cell, pbc)
    assert time.perf_counter() - begin < 1.0


@pytest.mark.parametrize(("positions", "cell", "pbc", "message"), [
    ([[0, 0, 0], [1e300, 0, 0]], None, NOWHERE, r"atom 1 is at 1e\+300"),
    ([[0, 0, 0], [0, -2e7, 0]], None, NOWHERE, r"atom 1 is at -2e\+07"),
    ([[0, 0, 0]], 1e300 * np.eye(3), EVERYWHERE, r"lattice vector 0 has a component of 1e\+300"),
    ([[0, 0, 0]], np.diag([1, 1, np.inf]), EVERYWHERE, "cell must be finite"),
    ([[0, 0, 0]], np.diag([1, 1, np.nan]), (True, True, False), "cell must be finite"),
])
def test_lengths_without_a_meaning(positions, cell, pbc, message):
    with pytest.raises(StructureError, match=message):
        structure(positions, cell, pbc)


@pytest.mark.parametrize(("positions", "cell", "pbc"), [
    (np.zeros((100_000, 3)), None, NOWHERE),
    (np.random.default_rng(0).uniform(0, 1, (20_000, 3)), None, NOWHERE),
    ([[0, 0, 0]], 0.051 * np.eye(3), EVERYWHERE),
    (np.zeros((3000, 3)), 30.0 * np.eye(3), EVERYWHERE),
    ([[0, 0, 0], [1, 0, 0]], np.diag([1e7, 5, 5]), EVERYWHERE),
])
def test_searches_that_would_take_all_memory_or_time_are_refused_at_once(positions, cell, pbc):
    begin = time.perf_counter()
    with pytest.raises(StructureError, match=r"pairs within 5 Å|as long as it is wide"):
        find_neighbours(structure(positions, cell, pbc), 5.0)
    assert time.perf_counter() - begin < 2.0


@pytest.mark.parametrize("distance", [1e3, 1e6, 9e6])
@pytest.mark.parametrize(("axis", "pbc"), [(0, NOWHERE), (1, NOWHERE), (1, (True, False, False)), (2, (True, False, False)),
                                           (2, (True, True, False)), (1, (True, False, True))])
def test_molecules_far_apart_are_molecules_alone(axis, distance, pbc):
    cell = 8.0 * np.eye(3)
    away = np.zeros(3)
    away[axis] = distance
    pair = np.array([[0.0, 0, 0], [0.3, 1.2, 0.1]])
    found = find_neighbours(structure(np.concatenate([pair, pair + away]), cell, pbc), 4.0)
    assert pairs(found) == {(0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (2, 3, 0, 0, 0), (3, 2, 0, 0, 0)}


def test_what_a_cell_says_of_directions_that_are_not_periodic_is_ignored():
    pair, pbc = [[0.0, 0, 0], [1.0, 0.5, 0.2]], (True, True, False)
    clean = find_neighbours(structure(pair, np.diag([5.0, 6.0, 0.0]), pbc), 5.5)
    for garbage in ([1e300, 0, 0], [5, 6, 0], [0, 0, 1e-300]):
        odd = find_neighbours(structure(pair, np.array([[5.0, 0, 0], [0, 6.0, 0], garbage]), pbc), 5.5)
        assert pairs(odd) == pairs(clean)


SKEWED = np.array([[6.0, 0, 0], [0, 6.0, 0], [6.0, 6.0, 0.5]])


@pytest.mark.parametrize(("cell", "pbc"), [
    (SKEWED, EVERYWHERE), (-SKEWED, EVERYWHERE), (SKEWED[[1, 0, 2]], EVERYWHERE),
    (np.array([[3.0, 0, 0], [0, 3, 0], [300, -600, 3]]), EVERYWHERE),
    (np.array([[3.0, 0, 0], [900.0, 2.5, 0], [0, 0, 1]]), (True, True, False)),
    (np.array([[0.0, 0, 1], [3.0, 0, 0], [900.0, 2.5, 0]]), (False, True, True)),
    (0.4 * np.eye(3), EVERYWHERE),
])
def test_a_skewed_lattice_has_the_distances_of_its_reduced_form(cell, pbc):
    positions = np.array([[0.1, 0.2, 0.3], [1.3, 0.9, 0.35], [-70.0, 44.0, 1.0]])
    shortest, made = reduced(np.array(cell)[np.array(pbc)])
    np.testing.assert_allclose(made @ cell[np.array(pbc)], shortest, atol=1e-9)
    assert abs(np.linalg.det(made)) == pytest.approx(1.0)
    found = find_neighbours(structure(positions, cell, pbc), 4.0)
    vectors = positions[found.neighbours] - positions[found.centers] + found.shifts @ cell
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), found.distances, atol=1e-9)
    assert len(pairs(found)) == len(found.distances)
    plain = cell.copy()
    plain[np.array(pbc)] = shortest
    other = find_neighbours(structure(positions, plain, pbc), 4.0)
    np.testing.assert_allclose(np.sort(found.distances), np.sort(other.distances), atol=1e-9)


def test_both_ways_of_the_search_find_what_is_counted_by_hand():
    rng = np.random.default_rng(3)
    wide = 4.0 * SPREAD + 10.0
    skewed = np.array([[3.0, 0, 0], [0.1, 3.2, 0], [3.1, 3.0, 3.0]])
    for cell, pbc in ((skewed, EVERYWHERE), (skewed, (True, False, True)), (skewed, (False, True, False))):
        positions = rng.uniform(0, 3, (3, 3))
        positions[2] += wide * np.array([not p for p in pbc])
        made = structure(positions, cell, pbc)
        assert pairs(find_neighbours(made, 4.0)) == by_hand(made, 4.0)


def test_many_images_up_to_the_bound_are_found():
    cell = 0.2 * np.eye(3)
    found = find_neighbours(structure([[0.0, 0, 0]], cell, EVERYWHERE), 4.0)
    assert np.prod(2 * np.ceil(4.0 / heights(cell)) + 1) > MANY_SHIFTS
    expected = 4 / 3 * np.pi * 4.0**3 / 0.2**3
    assert len(found.distances) == pytest.approx(expected, rel=0.01)
