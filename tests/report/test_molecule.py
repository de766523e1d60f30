"""The molecule in the 3D view."""

import numpy as np
import pytest

from gaq.report.molecule import bonds, scene
from gaq.report.results import Molecule


def test_azobenzene_has_its_bonds_and_formula(results):
    drawn = scene(Molecule(**results["structure"]))
    assert drawn["formula"] == "C12H10N2"
    # two rings of 6, 10 C-H, 2 C-N, 1 N=N
    assert len(drawn["bonds"]) == 25
    degree = np.bincount(np.ravel(drawn["bonds"]), minlength=24)
    expected = {"C": 3, "N": 2, "H": 1}
    assert [expected[atom["symbol"]] for atom in drawn["atoms"]] == degree.tolist()


def test_the_flat_face_looks_at_the_reader_and_shapes_stay(results):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    positions = np.asarray(results["structure"]["positions"])
    turned = Molecule(species=results["structure"]["species"], positions=(positions @ turn.T).tolist())
    placed = np.array([atom["position"] for atom in scene(turned)["atoms"]])
    spread = placed.std(axis=0)
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] == pytest.approx(0, abs=1e-3)


def test_the_view_is_no_mirror_image():
    chiral = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1.3, 0], [0, 0, 1.7]])
    molecule = Molecule(species=[6, 1, 9, 17], positions=chiral.tolist())
    placed = np.array([atom["position"] for atom in scene(molecule)["atoms"]])
    assert np.linalg.det(placed[1:] - placed[0]) == pytest.approx(np.linalg.det(chiral[1:]), rel=1e-3)


def test_far_atoms_are_not_bonded():
    assert bonds(np.array([1, 1, 8]), np.array([[0.0, 0, 0], [0, 0, 5], [0, 0, 0.96]])) == [[0, 2]]


def test_a_single_atom_and_bad_coordinates_can_be_drawn():
    assert scene(Molecule(species=[18], positions=[[1.0, 2, 3]]))["bonds"] == []
    assert scene(Molecule(species=[1, 1], positions=[[0, 0, 0], [float("nan"), 0, 0]]))["atoms"]
