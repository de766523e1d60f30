"""What a structure says is what is simulated: fixed atoms, momenta and masses, through ASE and inside the engine."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from tiny import cluster, crystal, deployed, float_model
from toys import LennardJones, Springs, molecule

from gaq.adapters.ase import GaqCalculator
from gaq.atoms import atoms_of, structure_of
from gaq.data import KeyMap, load_frames, write_frames
from gaq.data.structures import structure_from
from gaq.errors import DataError, StructureError
from gaq.simulation import run_md
from gaq.structure import Structure

SHORT = {"steps": 12, "every": 4, "timestep_fs": 0.25}
UNLABELLED = KeyMap(energy=None, forces=None)
BACKENDS = ("engine", "torch")


@pytest.fixture(scope="module")
def soft():
    """A tiny model whose forces are weak enough for a simulation of any structure, for a while."""
    model = copy.deepcopy(float_model("l1"))
    model.energy_scale.mul_(0.1)
    return deployed(model)


def mask(count: int, *fixed: int) -> np.ndarray:
    return np.isin(np.arange(count), fixed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("start", [cluster(8, seed=2), crystal(4.0), cluster(40, seed=3, spacing=1.3)],
                         ids=["molecule", "crystal", "many"])
@pytest.mark.filterwarnings("ignore::gaq.dynamics.extrapolation.ExtrapolationWarning")
def test_fixed_atoms_stay_to_the_last_bit_and_the_others_move(soft, backend, ensemble, start, tmp_path):
    fixed = replace(start, fixed=mask(len(start), 0, 1) if len(start) > 2 else mask(len(start), 1))
    out = tmp_path / "a.extxyz"
    result = run_md(soft.on(backend), fixed, ensemble=ensemble, temperature_K=100.0, out=out, **SHORT)
    np.testing.assert_array_equal(result.final.positions[fixed.fixed], fixed.positions[fixed.fixed])
    moved = np.abs(result.final.positions - fixed.positions)[~fixed.fixed]
    assert moved.max(1).min() > 1e-4
    np.testing.assert_array_equal(result.final.momenta[fixed.fixed], 0.0)
    last = load_frames(out, UNLABELLED)[-1]
    np.testing.assert_array_equal(last.fixed, fixed.fixed)
    np.testing.assert_array_equal(last.momenta, result.final.momenta)


@pytest.mark.filterwarnings("ignore::gaq.dynamics.extrapolation.ExtrapolationWarning")
def test_the_engine_moves_as_ase_does_around_fixed_atoms(soft):
    start = replace(cluster(8, seed=2), fixed=mask(8, 0, 3), masses=np.linspace(2.0, 9.0, 8))
    inside, through = (run_md(soft.on(backend), start, temperature_K=100.0, **SHORT) for backend in BACKENDS)
    np.testing.assert_allclose(inside.final.positions, through.final.positions, atol=1e-5)
    np.testing.assert_allclose(inside.temperature, through.temperature, rtol=1e-3)


def test_fixed_atoms_have_no_temperature_and_hold_the_others():
    start = replace(molecule(), fixed=mask(5, 0, 2))
    drawn = [run_md(Springs(), start, steps=1, temperature_K=400.0, seed=seed).temperature[0] for seed in range(60)]
    assert np.mean(drawn) == pytest.approx(400.0, abs=4 * 400.0 * np.sqrt(2 / 9 / 60))  # 3 (5 - 2) = 9
    everything = replace(molecule(), fixed=np.ones(5, dtype=bool))
    still = run_md(Springs(), everything, steps=3, temperature_K=400.0)
    np.testing.assert_array_equal(still.final.positions, everything.positions)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore::gaq.dynamics.extrapolation.ExtrapolationWarning")
def test_given_momenta_are_the_start_unless_a_temperature_is_asked_for(soft, backend, tmp_path):
    start = cluster(8, seed=2)
    masses = atoms_of(start).get_masses()
    drifting = replace(start, momenta=0.05 * masses[:, None] * np.array([0.0, 0, 1.0]))
    write_frames(tmp_path / "given.extxyz", [drifting])
    read = structure_from(tmp_path / "given.extxyz")
    run_md(soft.on(backend), read, out=tmp_path / "a.extxyz", **SHORT)
    first, *_, last = load_frames(tmp_path / "a.extxyz", UNLABELLED)
    np.testing.assert_array_equal(first.momenta, drifting.momenta)
    total = 0.05 * masses.sum()
    np.testing.assert_allclose(last.momenta.sum(0), [0.0, 0.0, total], atol=1e-4 * total)  # the whole goes on drifting
    other = run_md(soft.on(backend), read, temperature_K=100.0, **SHORT)
    assert np.abs(other.final.momenta.sum(0)).max() < 1e-3 * total


def test_zero_momenta_are_momenta_and_their_temperature_is_told():
    result = run_md(Springs(), replace(molecule(), momenta=np.zeros((5, 3))), steps=1)
    assert result.temperature[0] == result.temperature_K == 0.0
    moving = replace(molecule(), momenta=0.2 * np.random.default_rng(0).normal(size=(5, 3)))
    result = run_md(Springs(), moving, steps=1)
    kinetic = (moving.momenta**2).sum(1) / atoms_of(moving).get_masses() / 2
    assert result.temperature_K == result.temperature[0] == pytest.approx(2 * kinetic.sum() / (15 * units.kB))
    assert run_md(Springs(), moving, steps=1, ensemble="nvt").temperature_K == 300.0
    assert run_md(Springs(), molecule(), steps=1).temperature_K == 300.0


def test_momenta_of_fixed_atoms_are_not_followed():
    start = replace(molecule(), momenta=np.ones((5, 3)), fixed=mask(5, 4))
    result = run_md(Springs(), start, steps=3)
    np.testing.assert_array_equal(result.final.positions[4], start.positions[4])
    kinetic = (3.0 / atoms_of(start).get_masses()[:4] / 2).sum()
    assert result.temperature[0] == pytest.approx(2 * kinetic / (12 * units.kB))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore::gaq.dynamics.extrapolation.ExtrapolationWarning")
def test_heavy_atoms_move_slowly_and_conserve_energy(soft, backend, tmp_path):
    start = cluster(8, seed=2)
    heavy = replace(start, masses=4.0 * atoms_of(start).get_masses(), momenta=np.zeros((8, 3)))
    light = replace(heavy, masses=None)
    # Newton's equations are the same in units of time √m: half the step does with m what the whole step does with 4m.
    slow = run_md(soft.on(backend), heavy, steps=40, every=40, timestep_fs=0.5, out=tmp_path / "a.extxyz")
    fast = run_md(soft.on(backend), light, steps=40, every=40, timestep_fs=0.25)
    np.testing.assert_allclose(slow.final.positions, fast.final.positions, atol=1e-6)
    np.testing.assert_allclose(slow.total_energy, fast.total_energy, atol=1e-6)
    assert 1000 * abs(slow.total_energy[-1] - slow.total_energy[0]) / 8 < 2.0
    np.testing.assert_array_equal(load_frames(tmp_path / "a.extxyz", UNLABELLED)[-1].masses, heavy.masses)


def test_a_run_in_pieces_keeps_masses_momenta_and_fixed_atoms(tmp_path):
    start = replace(molecule(), masses=np.array([2.014, 16.0, 2.014, 14.0, 12.0]), fixed=mask(5, 3),
                    momenta=np.random.default_rng(1).normal(size=(5, 3)))
    run_md(Springs(), start, out=tmp_path / "whole.extxyz", **SHORT)
    run_md(Springs(), start, out=tmp_path / "pieces.extxyz", **{**SHORT, "steps": 4})
    run_md(Springs(), start, out=tmp_path / "pieces.extxyz", resume=True, **SHORT)
    assert (tmp_path / "whole.extxyz").read_bytes() == (tmp_path / "pieces.extxyz").read_bytes()
    for other in (replace(start, masses=start.masses + 1.0), replace(start, masses=None), replace(start, fixed=None),
                  replace(start, fixed=mask(5, 2))):
        with pytest.raises(DataError, match=r"masses or fixed atoms"):
            run_md(Springs(), other, out=tmp_path / "pieces.extxyz", resume=True, **{**SHORT, "steps": 20})


def charged(**info: object) -> Atoms:
    atoms = atoms_of(molecule())
    atoms.set_atomic_numbers([6, 8, 1, 6, 1])  # 22 electrons
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize(("info", "charge", "spin"), [
    ({}, 0, 0), ({"charge": 1}, 1, 0), ({"total_charge": -2.0}, -2, 0), ({"charge": 0, "spin": 1}, 0, 0),
    ({"charge": 0, "spin": 0}, 0, 0), ({"multiplicity": 3}, 0, 1), ({"spin": 3}, 0, 1),
    ({"charge": 1, "spin": 2}, 1, 0.5), ({"total_spin": 1}, 0, 1),
    ({"charge": 1, "total_spin": 0.5}, 1, 0.5), ({"charge": 0.9999}, 1, 0),
])
def test_charges_and_spins_have_the_names_that_data_sets_use(info, charge, spin):
    read = structure_of(charged(**info))
    assert (read.charge, read.spin) == (charge, spin)


@pytest.mark.parametrize("info", [{"charge": "plus"}, {"charge": [1, 2]}, {"charge": np.nan}, {"spin": 2}, {"spin": -1},
                                  {"multiplicity": 1.5}, {"multiplicity": 1001}, {"charge": 1, "multiplicity": 1},
                                  {"charge": None}])
def test_charges_and_spins_without_a_meaning(info):
    with pytest.raises(StructureError, match=r"charge|spin|multiplicity"):
        structure_of(charged(**info))


@pytest.mark.parametrize("said", [{"charge": 1.0}, {"spin": 1.0}])
def test_a_model_without_charges_refuses_them_on_every_path(soft, said, tmp_path):
    ion = replace(cluster(6), **said)
    with pytest.raises(StructureError, match=r"net charge|total spin"):
        soft.graph(ion)
    for backend in BACKENDS:
        with pytest.raises(StructureError, match=r"net charge|total spin"):
            run_md(soft.on(backend), ion, out=tmp_path / "a.extxyz", **SHORT)
        atoms = atoms_of(ion)
        atoms.calc = soft.on(backend).calculator()
        with pytest.raises(StructureError, match=r"net charge|total spin"):
            atoms.get_potential_energy()
    assert not (tmp_path / "a.extxyz").exists()


def test_a_charge_that_comes_later_is_not_answered_with_the_old_energy():
    atoms = charged()
    atoms.calc = GaqCalculator(Springs())
    energy = atoms.get_potential_energy()
    for name, value in (("charge", 1), ("total_charge", -1), ("multiplicity", 3)):
        atoms.info[name] = value
        with pytest.raises(StructureError):
            atoms.get_potential_energy()
        del atoms.info[name]
        assert atoms.get_potential_energy() == energy


def test_constraints_that_are_not_fixed_atoms_are_refused_by_name_and_left_to_ase():
    atoms = charged()
    atoms.set_constraint([FixAtoms([1]), FixCartesian(2), FixCartesian(3, mask=(False, False, False))])
    np.testing.assert_array_equal(structure_of(atoms).fixed, mask(5, 1, 2))
    for constraint in (FixBondLength(0, 1), FixCartesian(0, mask=(True, False, False))):
        atoms.set_constraint(constraint)
        with pytest.raises(StructureError, match=f"constraint {type(constraint).__name__}, and only fixed atoms"):
            structure_of(atoms)
        atoms.calc = GaqCalculator(Springs())
        assert np.isfinite(atoms.get_forces()).all()  # the calculator does not move atoms


def test_what_is_written_is_read_again(tmp_path):
    rng = np.random.default_rng(0)
    full = Structure(species=np.array([6, 8]), positions=crystal().positions, cell=crystal().cell, pbc=crystal().pbc,
                     energy=-3.25, forces=rng.normal(size=(2, 3)), stress=np.diag([1.0, 2.0, 3.0]), charge=-1.0, spin=0.5,
                     masses=np.array([13.003, 15.995]), momenta=rng.normal(size=(2, 3)), fixed=mask(2, 1), weight=0.5)
    bare = replace(full, stress=None, charge=0.0, spin=0.0, masses=None, momenta=None, fixed=None, weight=1.0)
    for written in (full, bare, replace(full, momenta=np.zeros((2, 3)))):
        write_frames(tmp_path / "a.extxyz", [written])
        (read,) = load_frames(tmp_path / "a.extxyz")
        for name, value in vars(written).items():
            if value is None:
                assert getattr(read, name) is None, name
            else:
                np.testing.assert_array_equal(getattr(read, name), value, err_msg=name)
        again = structure_of(atoms_of(written))
        for name in ("charge", "spin", "masses", "momenta", "fixed", "pbc", "cell"):
            np.testing.assert_array_equal(getattr(again, name), getattr(written, name), err_msg=name)


def test_every_reader_keeps_what_a_file_says(tmp_path):
    atoms = charged()
    atoms.set_constraint(FixAtoms([0, 2]))
    atoms.set_momenta(np.arange(15.0).reshape(5, 3), apply_constraint=False)
    atoms.set_masses([2.014, 16.0, 2.014, 14.0, 12.0])
    for name in ("a.traj", "a.json"):
        atoms.write(tmp_path / name)
        read = structure_from(tmp_path / name)
        np.testing.assert_array_equal(read.fixed, mask(5, 0, 2))
        np.testing.assert_array_equal(read.masses, atoms.get_masses())
        np.testing.assert_array_equal(read.momenta, atoms.get_momenta())
    atoms.set_constraint(FixBondLength(0, 1))
    atoms.write(tmp_path / "b.traj")
    with pytest.raises(DataError, match=r"b\.traj, frame 0: .*constraint FixBondLength"):
        load_frames(tmp_path / "b.traj", UNLABELLED)


def test_a_crystal_with_fixed_atoms_conserves_energy():
    rng = np.random.default_rng(0)
    grid = 4.0 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3) + 0.05 * rng.normal(size=(8, 3))
    start = Structure(species=np.full(8, 18), positions=grid, cell=8.0 * np.eye(3), pbc=(True, True, True),
                      fixed=mask(8, 0, 5))
    result = run_md(LennardJones(), start, steps=60, every=5, temperature_K=50.0)
    assert 1000 * (result.total_energy.max() - result.total_energy.min()) / 8 < 0.05
