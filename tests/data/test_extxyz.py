"""Frames written and read again are the same frames, whatever the molecule, the cell and the labels."""

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gaq.data.extxyz import read_frames, write_frames
from gaq.data.units import KeyMap
from gaq.errors import DataError, OutputError
from gaq.structure import Structure

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False, width=64)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    atoms = draw(st.integers(1, 6))
    vectors = arrays(np.float64, (atoms, 3), elements=NUMBERS)
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    skew = draw(arrays(np.float64, (3, 3), elements=st.floats(-0.5, 0.5)))
    cell = np.diag([3.0, 4.0, 5.0]) + skew if any(pbc) else np.zeros((3, 3))
    return Structure(
        species=draw(arrays(np.int64, atoms, elements=st.integers(1, 100))),
        positions=draw(vectors), cell=cell, pbc=pbc, energy=draw(NUMBERS), forces=draw(vectors))


@given(st.lists(structures(), min_size=1, max_size=3), st.sampled_from(["a.extxyz", "a.xyz", "a.extxyz.gz"]))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip_keeps_every_digit(tmp_path: Path, frames: list[Structure], name: str) -> None:
    path = tmp_path / name
    write_frames(path, frames)
    again = read_frames(path, KeyMap())
    assert len(again) == len(frames)
    for a, b in zip(frames, again, strict=True):
        for field in ("species", "positions", "cell", "forces"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
        assert (a.pbc, a.energy) == (b.pbc, b.energy)


def test_ase_reads_what_we_write(tmp_path: Path) -> None:
    atoms = bulk("Si")
    frame = Structure(species=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=(True, True, True),
                      energy=-1.5, forces=np.ones((2, 3)))
    write_frames(tmp_path / "si.extxyz", [frame])
    read = ase.io.read(tmp_path / "si.extxyz")
    assert read.info["REF_energy"] == -1.5
    np.testing.assert_array_equal(read.arrays["REF_forces"], 1.0)
    np.testing.assert_array_equal(read.cell, atoms.cell)
    assert read.pbc.all()


def test_frames_without_labels(tmp_path: Path) -> None:
    water = molecule("H2O")
    write_frames(tmp_path / "w.xyz", [Structure(species=water.numbers, positions=water.positions)])
    (read,) = read_frames(tmp_path / "w.xyz", KeyMap(energy=None, forces=None))
    assert read.energy is None
    assert read.forces is None
    with pytest.raises(DataError, match=r"no energy called 'REF_energy'.*energy_key"):
        read_frames(tmp_path / "w.xyz", KeyMap())


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.json"])
def test_values_of_a_calculator_are_found_by_name(tmp_path: Path, name: str) -> None:
    atoms = molecule("CH4")
    atoms.calc = LennardJones()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    ase.io.write(tmp_path / name, atoms)
    (frame,) = read_frames(tmp_path / name, KeyMap("energy", "forces"))
    assert frame.energy == pytest.approx(energy)
    np.testing.assert_allclose(frame.forces, forces, atol=1e-7)


@given(energy=st.sampled_from([("eV", 1.0), ("kcal/mol", 0.0433641), ("kJ/mol", 0.0103643), ("Ha", 27.2113862),
                               ("meV", 1e-3)]),
       length=st.sampled_from([("Ang", 1.0), ("Bohr", 0.52917721), ("nm", 10.0)]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_units(tmp_path: Path, energy: tuple[str, float], length: tuple[str, float]) -> None:
    frame = Structure(species=np.array([8, 1]), positions=np.array([[0.0, 0, 0], [0, 0, 1.0]]),
                      cell=2 * np.eye(3), pbc=(True, True, True), energy=3.0,
                      forces=np.array([[0.0, 0, 5], [0, 0, -5]]))
    write_frames(tmp_path / "u.xyz", [frame])
    (read,) = read_frames(tmp_path / "u.xyz", KeyMap(energy_unit=energy[0], length_unit=length[0]))
    assert read.energy == pytest.approx(3 * energy[1], rel=1e-5)
    assert read.positions[1, 2] == pytest.approx(length[1], rel=1e-5)
    assert read.cell[0, 0] == pytest.approx(2 * length[1], rel=1e-5)
    assert read.forces[0, 2] == pytest.approx(5 * energy[1] / length[1], rel=1e-5)


def test_missing_forces_names_what_is_there(tmp_path: Path) -> None:
    atoms = molecule("CH4")
    atoms.info["REF_energy"] = 1.0
    atoms.arrays["dft_forces"] = np.zeros((5, 3))
    ase.io.write(tmp_path / "m.extxyz", atoms)
    with pytest.raises(DataError, match="frame 0 has no forces called 'REF_forces'; it has dft_forces; did you mean"):
        read_frames(tmp_path / "m.extxyz", KeyMap())


@pytest.mark.parametrize("content", [b"", b"3\n\nH 0 0 0\n", b"not a number\n", b"2\n\nH 0 0 0\nQq 0 0 1\n",
                                     b"\x00\xff" * 50,
                                     b"1\nProperties=species:S:1:pos:R:3 REF_energy=abc\nH 0 0 0\n",
                                     b"1\nProperties=species:S:1:pos:R:3 REF_energy=nan\nH 0 0 0\n",
                                     b"1\nProperties=species:S:1:pos:R:3 REF_energy=1\nH 0 nan 0\n"])
@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.gz"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(DataError):
        read_frames(tmp_path / name, KeyMap(forces=None))


def test_cut_gzip_and_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(b"1\n\nH 0 0 0\n" * 100)[:-20])
    with pytest.raises(DataError, match="cannot read"):
        read_frames(tmp_path / "a.xyz.gz", KeyMap())
    (tmp_path / "a.toml").write_text("[x]")
    with pytest.raises(DataError, match="unknown format"):
        read_frames(tmp_path / "a.toml", KeyMap())
    with pytest.raises(DataError, match="no file at"):
        read_frames(tmp_path / "none.xyz", KeyMap())


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text("old")
    frame = Structure(species=np.array([1]), positions=np.zeros((1, 3)))

    def broken():
        yield frame
        raise DataError("the molecule fell apart")

    with pytest.raises(DataError, match="fell apart"):
        write_frames(path, broken())
    with pytest.raises(DataError, match="no frames"):
        write_frames(path, [])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_frames(tmp_path / "file" / "a.xyz", [frame])


def test_3bpa(shared_data: Path) -> None:
    frames = read_frames(shared_data / "3bpa" / "train_300K.xyz.gz", KeyMap("energy", "forces"))
    assert len(frames) == 500
    assert frames[0].energy == -17660.461737861464
    forces = np.array([frame.forces for frame in frames])
    assert np.abs(forces.sum(axis=1)).max() < 0.05  # no net force on a molecule
    thermal = 3 * 27 / 2 * units.kB * 300  # equipartition: half of the kinetic energy's twin, anharmonicity apart
    energies = np.array([frame.energy for frame in frames])
    assert 0.3 * thermal < energies.mean() - energies.min() < 1.5 * thermal
