"""Frames made by dynamics: the same for a seed, of the right temperature, with forces that are gradients."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from gaq.data import label as module
from gaq.data.label import label, relabel
from gaq.data.structures import structure_from
from gaq.errors import DataError
from gaq.structure import Structure

pytest.importorskip("tblite", reason="tblite has no wheel for this platform")

SHORT = {"frames": 6, "interval_fs": 5.0, "equilibration_fs": 10.0, "chains": 3, "seed": 4}


@pytest.fixture(scope="module")
def frames() -> list[Structure]:
    return list(label(structure_from("H2O"), **SHORT))


def test_frames_depend_on_the_seed_and_not_on_the_workers(frames: list[Structure]) -> None:
    water = structure_from("H2O")
    two = label(water, workers=2, **SHORT)
    other = label(water, **{**SHORT, "seed": 5})
    assert len(frames) == 6
    for a, b, c in zip(frames, two, other, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.forces, b.forces)
        assert a.energy == b.energy
        assert a.energy != c.energy
    assert len({frame.energy for frame in frames}) == 6  # chains differ


def test_labels_are_those_of_the_level(frames: list[Structure]) -> None:
    for frame, again in zip(frames, relabel(frames, "gfn2-xtb"), strict=True):
        assert again.energy == pytest.approx(frame.energy, abs=1e-6)
        np.testing.assert_allclose(again.forces, frame.forces, atol=1e-4)
        np.testing.assert_array_equal(again.positions, frame.positions)
    assert abs(frames[0].energy - next(relabel(frames, "gfn1-xtb")).energy) > 1


def test_forces_are_minus_the_gradient(frames: list[Structure]) -> None:
    frame = frames[0]
    step = 1e-3
    moved = []
    for sign in (1, -1):
        positions = frame.positions.copy()
        positions[1, 1] += sign * step
        moved.append(replace(frame, positions=positions))
    plus, minus = (shifted.energy for shifted in relabel(moved, "gfn2-xtb"))
    assert -(plus - minus) / (2 * step) == pytest.approx(frame.forces[1, 1], abs=1e-3)


def test_centre_of_mass_rests_and_forces_add_up_to_nothing(frames: list[Structure]) -> None:
    masses = molecule("H2O").get_masses()
    centres = np.array([masses @ frame.positions / masses.sum() for frame in frames])
    assert np.abs(centres - centres[0]).max() < 1e-9
    assert max(np.abs(frame.forces.sum(axis=0)).max() for frame in frames) < 1e-8


@pytest.mark.parametrize(("change", "problem"), [
    ({"temperature": 0}, "temperature must be a positive"), ({"temperature": float("nan")}, "temperature must be"),
    ({"frames": 0}, "frames must be at least 1"), ({"workers": 0}, "workers must be"),
    ({"chains": 0}, "chains must be"), ({"interval_fs": 0.1}, "at least timestep_fs"),
    ({"equilibration_fs": -1}, "equilibration_fs"), ({"seed": -1}, "seed"),
    ({"method": "gfn2"}, "did you mean 'gfn2-xtb'"), ({"multiplicity": 2}, "multiplicity must be 1, 3"),
    ({"charge": 1, "multiplicity": 1}, "multiplicity must be 2, 4"), ({"charge": 11}, "electrons at most")])
def test_bad_arguments_are_told_before_anything_runs(change: dict[str, object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        label(structure_from("H2O"), **change)  # type: ignore[arg-type]


def test_systems_out_of_reach() -> None:
    with pytest.raises(DataError, match="at least two atoms"):
        label(Structure(species=np.array([18]), positions=np.zeros((1, 3))))
    heavy = Structure(species=np.array([92, 8]), positions=np.array([[0.0, 0, 0], [0, 0, 1.8]]))
    with pytest.raises(DataError, match="up to Z = 86"):
        label(heavy)
    with pytest.raises(DataError, match="up to Z = 86"):
        list(relabel([heavy], "gfn1-xtb"))


def test_a_time_step_that_is_too_long_ends_with_advice() -> None:
    with pytest.raises(DataError, match="lower the temperature or the time step"):
        list(label(structure_from("H2O"), frames=50, timestep_fs=8.0, interval_fs=40.0, equilibration_fs=0, seed=1))


def test_atoms_at_one_place_are_an_error_of_the_level() -> None:
    clash = Structure(species=np.array([1, 1]), positions=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"gfn2-xtb failed for frame 0: Too close"):
        list(relabel([clash], "gfn2-xtb"))


def test_a_worker_that_dies_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(program))
    with pytest.raises(DataError, match=r"ended at frame 0 \(exit status 3\): out of luck"):
        list(label(structure_from("H2O")))


def test_a_reader_may_stop_early() -> None:
    frames = label(structure_from("H2O"), workers=2, **{**SHORT, "frames": 1000})
    assert len(list(itertools.islice(frames, 2))) == 2
    frames.close()  # type: ignore[attr-defined]  # ends the workers; a left over pipe would warn


def test_odd_electrons_get_the_lowest_multiplicity() -> None:
    radical = next(relabel([structure_from("CH3")], "gfn2-xtb"))
    anion = next(relabel([structure_from("CH3")], "gfn2-xtb", charge=-1))
    assert radical.energy != anion.energy


def test_periodic_structures_are_labelled(tmp_path: Path) -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0.75, 0, 0]], cell=[6, 6, 6], pbc=True)
    write(tmp_path / "h2.extxyz", atoms)
    structure = structure_from(tmp_path / "h2.extxyz")
    (frame,) = relabel([structure], "gfn1-xtb")
    assert frame.pbc == (True, True, True)
    (free,) = relabel([replace(structure, cell=None, pbc=(False,) * 3)], "gfn1-xtb")
    assert frame.energy == pytest.approx(free.energy, abs=0.05)


def test_charge_and_spin_come_from_the_structure_and_are_written() -> None:
    ethanol = structure_from("ethanol")
    ion = replace(ethanol, charge=1.0)
    (neutral,), (charged,), (told,) = relabel([ethanol], "gfn2-xtb"), relabel([ion], "gfn2-xtb"), relabel(
        [ethanol], "gfn2-xtb", charge=1)
    assert (neutral.charge, charged.charge, told.charge) == (0.0, 1.0, 1.0)
    assert charged.energy == told.energy > neutral.energy + 10.0
    (triplet,) = relabel([replace(ethanol, spin=1.0)], "gfn2-xtb")
    assert triplet.spin == 1.0
    assert triplet.energy > neutral.energy + 1.0
    (cleared,) = relabel([ion], "gfn2-xtb", charge=0)
    assert (cleared.charge, cleared.energy) == (0.0, pytest.approx(neutral.energy, abs=1e-6))


@pytest.mark.parametrize(("said", "message"), [
    ({"charge": 1.0, "spin": 1.0}, "multiplicity must be 2, 4"), ({"spin": 0.5}, "multiplicity must be 1, 3"),
    ({"charge": 0.5}, "a whole number"), ({"charge": 11.0}, "at most"),
])
def test_electrons_that_cannot_be_are_refused(said: dict, message: str) -> None:
    water = replace(structure_from("H2O"), **said)
    with pytest.raises(DataError, match=message):
        list(relabel([water], "gfn2-xtb"))
    with pytest.raises(DataError, match=message):
        list(label(water, **SHORT))


def test_frames_of_an_ion_with_fixed_and_heavy_atoms() -> None:
    water = structure_from("H2O")
    start = replace(water, charge=1.0, masses=np.array([15.999, 2.014, 2.014]), fixed=np.array([True, False, False]),
                    momenta=np.ones((3, 3)))
    frames = list(label(start, **SHORT))
    for frame in frames:
        np.testing.assert_array_equal(frame.positions[0], water.positions[0])
        np.testing.assert_array_equal(frame.masses, start.masses)
        np.testing.assert_array_equal(frame.fixed, start.fixed)
        assert (frame.charge, frame.momenta) == (1.0, None)
        (again,) = relabel([replace(frame, energy=None)], "gfn2-xtb")
        assert again.energy == pytest.approx(frame.energy, abs=1e-4)
    assert not np.array_equal(frames[0].positions, frames[-1].positions)
