"""Relaxation ends in a minimum, says whether it did, and writes whole files only."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.constraints import FixBondLength
from tiny import cluster, forcefield
from toys import LennardJones, Springs, molecule

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import structure_of
from gaq.data import load_frames
from gaq.errors import ConfigError, Interrupted, OutputError, StructureError
from gaq.relaxation import relax
from gaq.structure import Structure

CHAIN = Structure(np.array([7, 7]), [[0, 0, 0], [0, 0, 1.5]])


def crystal() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.1, cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("optimizer", ["fire", "bfgs", "lbfgs"])
def test_a_spring_relaxes_to_its_length(optimizer) -> None:
    found = relax(Springs(length=1.2), CHAIN, optimizer=optimizer, fmax=1e-5)
    assert found.converged
    assert found.largest_force <= 1e-5
    assert np.linalg.norm(np.diff(found.structure.positions, axis=0)) == pytest.approx(1.2, abs=1e-4)
    assert found.structure.energy == found.energies[-1] < found.energies[0]
    assert len(found.energies) == found.steps + 1


def test_a_cell_relaxes_to_no_stress_or_to_the_pressure() -> None:
    for pressure in (0.0, 1000.0):
        found = relax(LennardJones(), crystal(), cell=True, pressure_bar=pressure, fmax=1e-5, steps=1000)
        assert found.converged
        assert found.structure.stress is not None
        np.testing.assert_allclose(found.structure.stress, -pressure * 6.2415e-7 * np.eye(3), atol=1e-6)
    still = relax(LennardJones(), crystal(), fmax=1e-4)
    np.testing.assert_array_equal(still.structure.cell, crystal().cell.array)


def test_fixed_atoms_stay() -> None:
    start = replace(molecule(), fixed=np.arange(5) < 2)
    found = relax(Springs(), start, fmax=1e-3)
    assert found.converged
    np.testing.assert_array_equal(found.structure.positions[:2], start.positions[:2])
    assert np.abs(found.structure.positions[2:] - start.positions[2:]).max() > 0.01
    constrained = Atoms("N3", [[0, 0, 0], [0, 0, 1.0], [0, 0, 2.0]], constraint=FixBondLength(0, 1))
    with pytest.raises(StructureError, match="only fixed atoms"):
        relax(Springs(), constrained)


def test_what_is_not_converged_says_so_and_is_written(tmp_path) -> None:
    out = tmp_path / "a.extxyz"
    found = relax(Springs(), molecule(), steps=2, fmax=1e-6, out=out)
    assert not found.converged
    assert found.steps == 2
    assert found.largest_force > 1e-6
    (read,) = load_frames(out)
    np.testing.assert_array_equal(read.positions, found.structure.positions)
    np.testing.assert_array_equal(read.forces, found.structure.forces)
    assert read.energy == found.energies[-1]
    with pytest.raises(OutputError, match="overwrite=True"):
        relax(Springs(), molecule(), out=out)
    assert relax(Springs(), read, out=out, overwrite=True).converged


def test_ctrl_c_writes_nothing(tmp_path) -> None:
    def stop(done, total, note):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"after step 3 of at most 500; nothing was written"):
        relax(Springs(), molecule(), out=tmp_path / "a.extxyz", fmax=1e-6, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_any_model_or_calculator_will_do() -> None:
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.3]])
    for model in (AseLennardJones(), GaqCalculator(LennardJones(epsilon=1.0, sigma=1.0))):
        found = relax(model, atoms, fmax=1e-3)
        assert np.linalg.norm(np.diff(found.structure.positions, axis=0)) == pytest.approx(2 ** (1 / 6), abs=0.02)
    assert found.backend


@pytest.mark.parametrize("recipe", ["fp32", "w4", "w4a16", "w4a8"])
@pytest.mark.filterwarnings("ignore::gaq.errors.ExtrapolationWarning")
def test_forces_become_smaller_with_every_recipe(recipe) -> None:
    field, start = forcefield("robust", recipe), cluster(6, seed=1, spacing=1.4)
    before = np.linalg.norm(field.predict(field.graph(start)).forces, axis=1).max()
    found = relax(field, start, fmax=0.1 * before, steps=200)
    assert found.converged
    assert found.energies[-1] < found.energies[0]


@pytest.mark.parametrize(("setting", "message"), [
    ({"fmax": 0.0}, "fmax"), ({"steps": 0}, "steps"), ({"optimizer": "fir"}, "did you mean 'fire'"),
    ({"pressure_bar": 1.0}, "cell=True"), ({"cell": True, "pressure_bar": float("nan")}, "pressure_bar"),
])
def test_settings_without_meaning(setting, message) -> None:
    with pytest.raises(ConfigError, match=message):
        relax(Springs(), molecule(), **setting)
    with pytest.raises(StructureError, match="periodicity"):
        relax(Springs(), molecule(), cell=True)


def test_atoms_of_ase_are_taken_and_not_moved() -> None:
    atoms = crystal()
    found = relax(LennardJones(), atoms, fmax=1e-3)
    np.testing.assert_array_equal(atoms.positions, crystal().positions)
    assert structure_of(atoms).formula == found.structure.formula
