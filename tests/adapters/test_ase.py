"""ASE sees what the force field says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import BFGS
from tiny import cluster, forcefield
from tiny import crystal as tiny_crystal
from toys import Broken, LennardJones, Springs, molecule

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of, structure_of
from gaq.errors import GaqError, StructureError
from gaq.graph import Prediction
from gaq.neighbours import find_neighbours


def crystal() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.0, cubic=True)
    atoms.set_cell(atoms.cell + np.array([[0, 0.2, 0], [0, 0, 0.1], [0.1, 0, 0.1]]), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_energy_and_forces_are_the_predictors():
    toy, atoms = Springs(), atoms_of(molecule())
    atoms.calc = GaqCalculator(toy)
    prediction = toy(toy.graph(molecule()))
    assert atoms.get_potential_energy() == prediction.energy.item()
    assert atoms.get_potential_energy(force_consistent=True) == prediction.energy.item()
    np.testing.assert_array_equal(atoms.get_forces(), prediction.forces)
    np.testing.assert_array_equal(atoms.get_potential_energies(), prediction.atom_energies)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())


def test_moving_atoms_gives_new_forces():
    atoms = atoms_of(molecule())
    atoms.calc = GaqCalculator(Springs())
    before = atoms.get_forces()
    atoms.positions[0, 0] += 0.1
    assert not np.allclose(before, atoms.get_forces())


def test_an_unchanged_structure_is_computed_once():
    toy, atoms = Broken(after=1), atoms_of(molecule())
    atoms.calc = GaqCalculator(toy)
    atoms.get_potential_energy()
    atoms.get_forces()
    assert toy.calls == 1


def test_stress_is_the_strain_derivative_of_the_energy():
    atoms = crystal()
    atoms.calc = GaqCalculator(LennardJones())
    stress = atoms.get_stress(voigt=False)
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        energies = []
        for h in (1e-4, -1e-4):
            strain = np.eye(3)
            strain[a, b] += h / 2
            strain[b, a] += h / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell @ strain, scale_atoms=True)
            strained.calc = GaqCalculator(LennardJones())
            energies.append(strained.get_potential_energy())
        assert stress[a, b] == pytest.approx((energies[0] - energies[1]) / 2e-4 / atoms.get_volume(), abs=1e-9)
    assert atoms.get_stress()[3] == pytest.approx(stress[1, 2])


def test_a_compressed_crystal_pushes_outwards():
    atoms = bulk("Ar", "fcc", a=4.0, cubic=True)
    atoms.calc = GaqCalculator(LennardJones())
    assert (atoms.get_stress()[:3] < 0).all()  # ASE: compression is negative


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, False)])
def test_stress_without_a_volume_is_refused_in_both_languages(pbc):
    atoms = crystal()
    atoms.pbc = pbc
    atoms.calc = GaqCalculator(LennardJones())
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(StructureError, match="periodicity in all three directions"):
        atoms.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_forces_are_differences_of_the_energy_with_mixed_periodicity():
    atoms = crystal()
    atoms.pbc = (True, False, True)
    atoms.calc = GaqCalculator(LennardJones())
    force = atoms.get_forces()[0, 1]
    energies = []
    for h in (1e-4, -2e-4):
        atoms.positions[0, 1] += h
        energies.append(atoms.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / 2e-4, abs=1e-7)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda atoms: atoms.positions.__setitem__((0, 0), np.nan), "finite"),
    (lambda atoms: atoms.positions.__setitem__((0, 0), np.inf), "finite"),
    (lambda atoms: atoms.set_initial_charges([1, 0, 0, 0, 0]), "net charge of 1 e"),
    (lambda atoms: atoms.info.update(charge=-1), "net charge of -1 e"),
    (lambda atoms: atoms.positions.__setitem__(0, atoms.positions[1]), "at one place"),
    (lambda atoms: atoms.__delitem__(slice(None)), "at least one atom"),
    (lambda atoms: atoms.set_atomic_numbers([0, 1, 1, 1, 1]), "atomic numbers"),
])
def test_impossible_structures_are_typed_errors(damage, message):
    atoms = atoms_of(molecule())
    atoms.calc = GaqCalculator(Springs())
    damage(atoms)
    with pytest.raises(StructureError, match=message):
        atoms.get_potential_energy()


def test_partial_charges_that_sum_to_zero_are_no_charge():
    atoms = atoms_of(molecule())
    atoms.set_initial_charges([0.4, -0.3, 0.1, -0.3, 0.1001])
    atoms.calc = GaqCalculator(Springs())
    assert np.isfinite(atoms.get_potential_energy())


def test_nan_predictions_are_errors():
    atoms = atoms_of(molecule())
    atoms.calc = GaqCalculator(Broken())
    with pytest.raises(GaqError, match="not finite"):
        atoms.get_forces()


def test_after_an_error_the_calculator_goes_on():
    atoms = atoms_of(molecule())
    atoms.calc = GaqCalculator(Springs())
    good = atoms.positions.copy()
    atoms.positions[0] = np.nan
    with pytest.raises(StructureError):
        atoms.get_forces()
    atoms.positions[:] = good
    assert np.isfinite(atoms.get_forces()).all()


def test_a_model_without_atom_energies_says_so():
    class Total(Springs):
        def predict(self, graph, stress=False):
            prediction = super().predict(graph)
            return Prediction(prediction.energy, prediction.forces)

    atoms = atoms_of(molecule())
    atoms.calc = GaqCalculator(Total())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energies()


def test_ase_optimizers_work():
    atoms = Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.5]])
    atoms.calc = GaqCalculator(Springs(length=1.2))
    BFGS(atoms, logfile=None).run(fmax=1e-4)
    assert atoms.get_distance(0, 1) == pytest.approx(1.2, abs=1e-4)


def test_structures_survive_the_round_trip():
    structure = structure_of(crystal())
    again = structure_of(atoms_of(structure))
    np.testing.assert_array_equal(structure.positions, again.positions)
    np.testing.assert_array_equal(structure.cell, again.cell)
    assert structure.pbc == again.pbc == (True, True, True)


FORK = """
import os, sys
sys.path.insert(0, {tests!r})
from tiny import cluster, forcefield
from gaq.atoms import atoms_of
for atoms in map(atoms_of, (cluster(8), cluster(40, spacing=1.5))):
    atoms.calc = forcefield("l1", "fp32").on("engine").calculator()
    first = atoms.get_forces()
    child = os.fork()
    atoms.positions[0, 0] += 0.01
    there = atoms.get_forces()
    atoms.positions[0, 0] -= 0.01
    same = abs(atoms.get_forces() - first).max() < 1e-5 and abs(there - first).max() > 1e-4
    if not child:
        os._exit(not same)
    assert same and not os.waitpid(child, 0)[1]
"""


def test_a_forked_child_goes_on_with_the_calculator() -> None:
    script = FORK.format(tests=str(Path(__file__).parents[1]))
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=120)


def moving(structure, steps: int = 60):
    """Atoms that shake and drift, each time some hundredths of an Å."""
    rng, positions = np.random.default_rng(3), structure.positions
    for _ in range(steps):
        positions = positions + 0.02 * rng.normal(size=positions.shape) + [0.01, 0, 0]
        yield positions


@pytest.mark.filterwarnings("ignore::gaq.errors.ExtrapolationWarning")
def test_small_molecules_have_the_bits_of_the_force_field_whatever_came_before() -> None:
    for recipe in ("fp32", "w4a8"):
        field, structure = forcefield("robust", recipe).on("engine"), cluster(8, seed=2)
        atoms = atoms_of(structure)
        atoms.calc = field.calculator()
        for positions in moving(structure):
            atoms.positions = positions
            expected = field.predict(field.graph(structure_of(atoms)))
            np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
            assert atoms.get_potential_energy() == expected.energy[0]


@pytest.mark.filterwarnings("ignore::gaq.errors.ExtrapolationWarning")
@pytest.mark.parametrize("start", [cluster(40, seed=1, spacing=1.6), tiny_crystal(4.0)], ids=["many", "crystal"])
def test_larger_structures_have_its_forces_with_a_search_now_and_then(monkeypatch, start) -> None:
    field, searches = forcefield("robust", "fp32").on("engine"), []
    atoms, other = atoms_of(start), field.on("engine")
    atoms.calc = field.calculator()
    monkeypatch.setattr("gaq.dynamics.skin.find_neighbours", lambda *a: searches.append(1) or find_neighbours(*a))
    for step, positions in enumerate(moving(start)):
        atoms.positions = positions
        if atoms.pbc.all() and step % 20 == 10:
            atoms.set_cell(1.01 * atoms.cell)
        here = structure_of(atoms)
        expected = other.potential.predict(other.graph(here), stress=bool(atoms.pbc.all()))
        np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-5)
        if atoms.pbc.all():
            np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress[0], atol=1e-6)
    assert 2 <= len(searches) <= 20
