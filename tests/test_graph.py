"""Neighbour lists against counting by hand, and structures that have no physical meaning."""

import itertools

import numpy as np
import pytest
import torch
from tiny import cluster, crystal
from toys import molecule

from gaq.errors import StructureError
from gaq.graph import Graph, build_graph, collate
from gaq.nn.tensors import tensors
from gaq.rotations import random_rotations
from gaq.structure import Structure


def by_hand(structure: Structure, cutoff: float) -> set[tuple[int, int, int, int, int]]:
    """All (i, j, S) with |x_j - x_i + S · cell| <= cutoff, by trying every image."""
    ranges = [range(-6, 7) if p else range(1) for p in structure.pbc]
    found = set()
    for i, j in itertools.product(range(len(structure)), repeat=2):
        for shift in itertools.product(*ranges):
            if i == j and not any(shift):
                continue
            vector = structure.positions[j] - structure.positions[i] + np.array(shift) @ structure.cell
            if np.linalg.norm(vector) <= cutoff:
                found.add((i, j, *shift))
    return found


def listed(graph: Graph) -> list[tuple[int, ...]]:
    return list(zip(graph.centers.tolist(), graph.neighbours.tolist(), *graph.shifts.astype(int).T.tolist(), strict=True))


@pytest.mark.parametrize("structure", [
    cluster(9, seed=1), crystal(2.6), crystal(5.0), molecule(cell=np.diag([3.0, 3.2, 0.0]), pbc=(True, True, False)),
    molecule(cell=np.diag([0.0, 0.0, 2.8]), pbc=(False, False, True)),
    molecule(cell=np.array([[0.0, 3.0, 0.1], [0, 0, 0], [0, 0, 0]]), pbc=(True, False, False)),
    molecule(positions=np.array(molecule().positions) + 50.0, cell=np.eye(3) * 3.9, pbc=(True, True, True)),
], ids=["molecule", "small cell", "large cell", "slab", "chain along z", "chain along y", "outside of the cell"])
def test_neighbours_are_those_counted_by_hand(structure: Structure) -> None:
    graph = build_graph(structure, 4.0)
    found = listed(graph)
    assert len(found) == len(set(found))
    assert set(found) == by_hand(structure, 4.0)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in found} == set(found)  # both directions


def test_an_atom_alone_has_no_edges() -> None:
    graph = build_graph(Structure(species=np.array([1]), positions=np.zeros((1, 3))), 5.0)
    assert (graph.structures, len(graph.centers), graph.shifts.shape) == (1, 0, (0, 3))
    assert graph.centers.dtype == np.int64


def test_dtypes_and_shapes() -> None:
    graph = build_graph(molecule(energy=-3.0, forces=np.ones((5, 3))), 4.0)
    for name in ("positions", "shifts", "cell", "energy", "forces"):
        assert getattr(graph, name).dtype == np.float64
    for name in ("species", "centers", "neighbours", "batch"):
        assert getattr(graph, name).dtype == np.int64
    assert graph.cell.shape == (1, 3, 3)
    assert bool((np.diff(graph.centers) >= 0).all())


def test_lattice_vectors_without_periodicity_are_dropped() -> None:
    graph = build_graph(molecule(cell=np.eye(3) * 9, pbc=(True, False, False)), 4.0)
    np.testing.assert_array_equal(graph.cell[0], np.diag([9.0, 0, 0]))


def test_a_structure_is_not_changed_through_its_arrays() -> None:
    positions = np.array(molecule().positions)
    structure = molecule(positions)
    graph = build_graph(structure, 4.0)
    positions += 1.0
    graph.positions[...] += 5.0
    np.testing.assert_array_equal(structure.positions, molecule().positions)


@pytest.mark.parametrize(("changes", "message"), [
    ({"species": np.array([], dtype=int), "positions": np.zeros((0, 3))}, "at least one atom"),
    ({"species": np.array([[1]])}, r"at least one atom; species has shape \(1, 1\)"),
    ({"positions": np.zeros((2, 3))}, r"positions must have shape \(3, 3\)"),
    ({"positions": np.zeros((3, 2))}, r"positions must have shape \(3, 3\)"),
    ({"species": np.array([1, 0, 1])}, "from 1 to 118"),
    ({"species": np.array([1, 119, 1])}, "from 1 to 118"),
    ({"species": np.array([1.0, 6.0, 1.0])}, "of type float64"),
    ({"positions": np.array([[0, 0, 0], [0, np.nan, 0], [1, 1, 1]])}, r"positions must be finite numbers in Å; row 1"),
    ({"positions": np.array([[0, 0, 0], [0, 1, 0], [1, np.inf, 1]])}, "row 2"),
    ({"energy": float("nan")}, "reference energy is nan"),
    ({"forces": np.zeros((2, 3))}, r"forces must have shape \(3, 3\)"),
    ({"forces": np.full((3, 3), np.inf)}, "forces must be finite numbers in eV/Å"),
    ({"cell": np.zeros(3)}, r"cell must have shape \(3, 3\)"),
    ({"cell": np.full((3, 3), np.nan)}, "cell must be finite"),
    ({"pbc": (True, True)}, "one value for each lattice vector"),
    ({"pbc": (False, True, False)}, "along lattice vector 1, but its length is 0"),
    ({"pbc": (True, True, True), "cell": np.ones((3, 3))}, "no volume"),
])
def test_structures_without_a_meaning(changes: dict, message: str) -> None:
    good = {"species": np.array([8, 1, 1]), "positions": np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])}
    with pytest.raises(StructureError, match=message):
        Structure(**(good | changes))


def test_atoms_at_one_place() -> None:
    with pytest.raises(StructureError, match=r"atoms 0 and 2 are at one place \(0.01 Å apart"):
        build_graph(Structure(species=np.array([1, 1, 1]), positions=np.array([[0.0, 0, 0], [1, 0, 0], [0, 0.01, 0]])), 4)
    with pytest.raises(StructureError, match="at one place"):
        build_graph(Structure(species=np.array([1, 1]), positions=np.array([[0.0, 0, 0], [4.0, 0, 0]]),
                              cell=np.eye(3) * 4, pbc=(True, True, True)), 3.0)


def test_batches_keep_their_members_apart() -> None:
    members = [build_graph(s, 4.0) for s in (molecule(), crystal(), cluster(7, seed=2))]
    whole = collate(members)
    assert whole.structures == 3
    assert whole.atoms_per_structure().tolist() == [5, 2, 7]
    assert bool((whole.batch[whole.centers] == whole.batch[whole.neighbours]).all())
    assert len(whole.centers) == sum(len(m.centers) for m in members)
    nested = collate([collate(members[:2]), members[2]])
    for name in ("species", "positions", "centers", "neighbours", "shifts", "cell", "batch"):
        assert np.array_equal(getattr(whole, name), getattr(nested, name))
    assert collate(members[:1]) is members[0]
    with pytest.raises(StructureError, match="at least one structure"):
        collate([])


def test_labels_are_kept_where_all_have_them() -> None:
    labelled = build_graph(molecule(energy=-1.0, forces=np.ones((5, 3))), 4.0)
    half = build_graph(molecule(energy=-2.0), 4.0)
    assert collate([labelled, labelled]).forces.shape == (10, 3)
    mixed = collate([labelled, half])
    assert mixed.forces is None
    assert mixed.energy.tolist() == [-1.0, -2.0]


def test_rotations_keep_distances_and_turn_labels() -> None:
    graph = collate([build_graph(s, 4.0) for s in (molecule(forces=np.ones((5, 3))), molecule(forces=np.eye(5)[:, :3]))])
    matrices = random_rotations(2, torch.Generator().manual_seed(0))
    turned = tensors(graph).rotated(matrices)
    for array, tensor in zip(vars(graph.rotated(matrices.numpy())).values(), vars(turned).values(), strict=True):
        assert array is tensor is None or np.abs(array - tensor.numpy()).max(initial=0) < 1e-12
    graph = tensors(graph)
    torch.testing.assert_close(turned.positions[:5], graph.positions[:5] @ matrices[0].T)
    torch.testing.assert_close(turned.forces[5:], graph.forces[5:] @ matrices[1].T)
    periodic = tensors(build_graph(crystal(), 4.0))
    again = build_graph(Structure(species=crystal().species, pbc=crystal().pbc,
                                  positions=periodic.rotated(matrices[0]).positions.numpy(),
                                  cell=periodic.rotated(matrices[0]).cell[0].numpy()), 4.0)
    assert sorted(listed(again)) == sorted(listed(build_graph(crystal(), 4.0)))
    assert tensors(graph, "cpu").forces is not None
