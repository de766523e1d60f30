"""Labels in files: names, units, shapes, and frames that lack what others have."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from gaq.data import KeyMap, load_frames, write_frames
from gaq.data.extxyz import read_frames
from gaq.errors import DataError
from gaq.structure import Structure

TENSOR = np.array([[0.01, 0.002, -0.003], [0.002, -0.02, 0.004], [-0.003, 0.004, 0.03]])
VOIGT = TENSOR[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def crystal() -> Atoms:
    return Atoms("CO", positions=[[0.1, 0, 0.2], [1.2, 0.3, 0.1]], cell=[[3.0, 0, 0], [0.3, 4, 0], [0, 0.2, 5]], pbc=True)


def saved(folder: Path, *frames: Atoms, name: str = "f.extxyz") -> Path:
    ase.io.write(folder / name, list(frames), format="extxyz")
    return folder / name


def test_frames_may_lack_what_others_have(tmp_path: Path) -> None:
    frames = [molecule("H2O") for _ in range(4)]
    for k, atoms in enumerate(frames[:3]):
        atoms.info["REF_energy"] = float(k)
    for atoms in frames[1:]:
        atoms.arrays["REF_forces"] = np.ones((3, 3))
    read = read_frames(saved(tmp_path, *frames), KeyMap())
    assert [s.energy for s in read] == [0.0, 1.0, 2.0, None]
    assert [s.forces is not None for s in read] == [False, True, True, True]


@pytest.mark.parametrize("none", [None, "none", "None", "NONE"])
def test_none_is_no_label(tmp_path: Path, none: str | None) -> None:
    atoms = crystal()
    atoms.info |= {"REF_energy": 1.0, "REF_stress": TENSOR, "weight": 3.0}
    atoms.arrays["REF_forces"] = np.ones((2, 3))
    (read,) = read_frames(saved(tmp_path, atoms), KeyMap(none, none, stress=none, weight=none))
    assert (read.energy, read.forces, read.stress, read.weight) == (None, None, None, 1.0)


def test_unwanted_labels_are_left_out_of_npz_files_too(tmp_path: Path) -> None:
    positions = molecule("CH4").positions + 0.01 * np.random.default_rng(0).normal(size=(3, 5, 3))
    np.savez(tmp_path / "rmd17_methane.npz", nuclear_charges=[6, 1, 1, 1, 1], coords=positions,
             energies=np.full(3, -25000.0), forces=np.ones((3, 5, 3)))
    assert load_frames(tmp_path / "rmd17_methane.npz")[0].forces is not None
    read = load_frames(tmp_path / "rmd17_methane.npz", KeyMap(forces=None))
    assert {s.forces is None for s in read} == {True}
    assert read.origin == "rmd17"
    assert read[0].energy == load_frames(tmp_path / "rmd17_methane.npz")[0].energy


def test_single_atoms_need_no_forces(tmp_path: Path) -> None:
    atoms = [Atoms("H"), Atoms("O")]
    for each in atoms:
        each.info["REF_energy"] = -13.6
    assert [s.forces for s in read_frames(saved(tmp_path, *atoms), KeyMap())] == [None, None]
    water = molecule("H2O")
    water.info["REF_energy"] = -1.0
    with pytest.raises(DataError, match=r"frame 2 has no forces called 'REF_forces'"):
        read_frames(saved(tmp_path, *atoms, water), KeyMap())


@pytest.mark.parametrize("given", [TENSOR, VOIGT, TENSOR.ravel()])
def test_stresses_have_six_numbers_or_nine(tmp_path: Path, given: np.ndarray) -> None:
    atoms = crystal()
    atoms.info |= {"REF_energy": 1.0, "REF_stress": given}
    (read,) = read_frames(saved(tmp_path, atoms), KeyMap(forces=None))
    np.testing.assert_allclose(read.stress, TENSOR, atol=1e-12)


@pytest.mark.parametrize("name", ["virial", "REF_virial", "dft_Virial"])
def test_a_virial_is_minus_the_stress_times_the_volume(tmp_path: Path, name: str) -> None:
    atoms = crystal()
    atoms.info |= {"REF_energy": 1.0, name: -TENSOR * atoms.get_volume()}
    (read,) = read_frames(saved(tmp_path, atoms), KeyMap(forces=None, stress=name))
    np.testing.assert_allclose(read.stress, TENSOR, atol=1e-9)


def test_stresses_of_calculators(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.ones((2, 3)), stress=VOIGT)
    for name in ("a.extxyz", "a.traj"):
        ase.io.write(tmp_path / name, atoms)
        (read,) = read_frames(tmp_path / name, KeyMap("energy", "forces", stress="stress"))
        np.testing.assert_allclose(read.stress, TENSOR, atol=1e-9)


def test_stresses_in_other_units(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.info |= {"REF_energy": 1.0, "REF_stress": TENSOR, "REF_virial": -TENSOR * atoms.get_volume()}
    path = saved(tmp_path, atoms)
    for name in ("REF_stress", "REF_virial"):
        (read,) = read_frames(path, KeyMap(forces=None, energy_unit="Ha", length_unit="Bohr", stress=name))
        np.testing.assert_allclose(read.stress, TENSOR * units.Hartree / units.Bohr**3, rtol=1e-7)


def test_molecules_and_slabs_have_no_stress(tmp_path: Path) -> None:
    slab, water = crystal(), molecule("H2O")
    slab.pbc = (True, True, False)
    for atoms in (slab, water):
        atoms.info |= {"REF_energy": 1.0, "REF_stress": np.zeros(6)}
    assert [s.stress for s in read_frames(saved(tmp_path, slab, water), KeyMap(forces=None))] == [None, None]


@pytest.mark.parametrize(("info", "keys", "message"), [
    ({"REF_stress": np.arange(5.0)}, {}, r"frame 0: the stress 'REF_stress' must be 6 numbers .* or 3 x 3, not .*\(5,\)"),
    ({"REF_stress": np.arange(9.0)}, {}, "frame 0: the stress 'REF_stress' is not symmetric"),
    ({"REF_stress": "much"}, {}, "frame 0: the stress 'REF_stress' must be numbers, not 'much'"),
    ({"REF_stress": np.full(6, np.nan)}, {}, "frame 0: stress must be finite"),
    ({"dft_stress": VOIGT}, {"stress": "dft_stres"}, r"no stress called 'dft_stres'.*mean 'dft_stress'\?.*stress_key"),
    ({"weight": -1.0}, {}, "frame 0: weight must be a finite number from 0, not -1"),
    ({"weight": np.nan}, {}, "frame 0: weight must be a finite number"),
    ({"weight": np.ones(3)}, {}, "frame 0: the weight 'weight' must be one number"),
    ({"weight": 2.0}, {"weight": "config_weight"}, "no weight called 'config_weight'"),
])
def test_mistakes_are_named(tmp_path: Path, info: dict[str, object], keys: dict[str, str], message: str) -> None:
    atoms = crystal()
    atoms.info |= {"REF_energy": 1.0, **info}
    with pytest.raises(DataError, match=message):
        read_frames(saved(tmp_path, atoms), KeyMap(forces=None, **keys))


def test_weights_are_read_by_name(tmp_path: Path) -> None:
    frames = [crystal() for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.info["REF_energy"] = 1.0
        if k:
            atoms.info |= {"weight": k - 1.0, "config_weight": 10.0 * k}
    path = saved(tmp_path, *frames)
    assert [s.weight for s in read_frames(path, KeyMap(forces=None))] == [1.0, 0.0, 1.0]
    assert [s.weight for s in read_frames(path, KeyMap(forces=None, weight="config_weight"))] == [1.0, 10.0, 20.0]


def test_written_stresses_and_weights_are_read_again(tmp_path: Path) -> None:
    bare = crystal()
    frame = Structure(species=bare.numbers, positions=bare.positions, cell=bare.cell.array, pbc=(True,) * 3, energy=1.0 / 3,
                      stress=TENSOR / 3, weight=1.0 / 7)
    write_frames(tmp_path / "w.extxyz", [frame])
    (read,) = read_frames(tmp_path / "w.extxyz", KeyMap(forces=None))
    np.testing.assert_array_equal(read.stress, frame.stress)
    assert (read.weight, read.energy, read.forces) == (1.0 / 7, 1.0 / 3, None)


@pytest.mark.parametrize("kind", ["IsolatedAtom", "isolated_atom", "isolated atom", "ISOLATED-ATOM"])
def test_an_isolated_atom_has_no_box(tmp_path: Path, kind: str) -> None:
    atoms = Atoms("Fe", cell=12 * np.eye(3), pbc=True)
    atoms.info |= {"REF_energy": -3400.0, "config_type": kind}
    (read,) = read_frames(saved(tmp_path, atoms), KeyMap(forces=None))
    assert read.pbc == (False, False, False)
    assert not read.cell.any()


def test_an_isolated_atom_is_one_atom(tmp_path: Path) -> None:
    atoms = molecule("H2")
    atoms.info |= {"REF_energy": -30.0, "config_type": "IsolatedAtom"}
    with pytest.raises(DataError, match="frame 0 has config_type=IsolatedAtom and 2 atoms"):
        read_frames(saved(tmp_path, atoms), KeyMap(forces=None))
