"""A structure by its name: files, frames, data sets, molecules, boxes."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.build.molecule import extra
from ase.collections import g2
from ase.io import write

from gaq.data import write_frames
from gaq.data.structures import COMMON_NAMES, named, structure_from
from gaq.errors import DataError
from gaq.structure import Structure


@pytest.mark.parametrize(("name", "formula"), [
    ("ethanol", "C2H6O"), ("Ethanol", "C2H6O"), ("WATER", "H2O"), ("CH3CH2OH", "C2H6O"), ("ch3ch2oh", "C2H6O"),
    ("C6H6", "C6H6"), ("biphenyl", "C12H10"), ("Azobenzene", "C12H10N2"), ("acetic acid", "C2H4O2"), (" methane ", "CH4"),
    ("H4C", "CH4"), ("OH2", "H2O"), ("CO", "CO"), ("water-8", "H16O8"), ("Water-1", "H2O")])
def test_molecules(name: str, formula: str) -> None:
    assert structure_from(name).formula == formula


def test_every_common_name_is_a_molecule() -> None:
    assert set(COMMON_NAMES.values()) <= {*g2.names, *extra}
    assert len({name.lower() for name in (*g2.names, *extra)}) == len((*g2.names, *extra))


@pytest.mark.parametrize(("name", "words"), [
    ("Co", "did you mean 'CO'"), ("Hf", "did you mean 'HF'"), ("ethanoll", "did you mean 'ethanol'"), ("", "no file"),
    ("C2H6O", "CH3OCH3"), ("water-100", "cubic"), ("water-0", "cubic"), ("water-" + "9" * 400, "cubic"),
    ("x" * 5000, "no file"), ("nul\0name", "no file"), ("no/such.xyz", "no file"), ("rmd71:ethanol:1:test", "no file")])
def test_what_means_nothing_is_said_in_one_short_line(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        structure_from(name)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 400


def test_frames_of_files(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", [molecule("H2O"), molecule("CH4"), molecule("CO2")])
    path = str(tmp_path / "a.xyz")
    found = {at: structure_from(path + at).formula for at in ("", "@0", "@1", "@-1", "@-3")}
    assert found == {"": "CO2", "@0": "H2O", "@1": "CH4", "@-1": "CO2", "@-3": "H2O"}
    for at in ("@3", "@-4", "@99999999999999999999999"):
        with pytest.raises(DataError, match="3 frames"):
            structure_from(path + at)
    for at in ("@", "@x", "@1.5", "@-"):
        with pytest.raises(DataError, match="no file"):
            structure_from(path + at)
    write(tmp_path / "run@5.xyz", molecule("NH3"))
    assert structure_from(tmp_path / "run@5.xyz").formula == "H3N"
    write(tmp_path / "b@1", [molecule("H2O"), molecule("CH4")], format="extxyz")
    assert structure_from(tmp_path / "b@1").formula == "CH4"  # that file, and no frame of another one
    assert structure_from(f"{tmp_path / 'b@1'}@0").formula == "H2O"


def test_a_file_comes_before_a_molecule_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("ethanol", Atoms("He"), format="extxyz")
    assert structure_from("ethanol").formula == "He"


def test_labels_are_left_behind(tmp_path: Path) -> None:
    frame = Structure(species=np.array([1, 1]), positions=np.array([[0, 0, 0], [0, 0, 0.7]]), energy=-1.0,
                      forces=np.zeros((2, 3)), cell=5 * np.eye(3), pbc=(True,) * 3)
    write_frames(tmp_path / "f.extxyz", [frame])
    found = structure_from(tmp_path / "f.extxyz")
    assert found.energy is found.forces is None
    assert found.pbc == (True, True, True)


def test_frames_of_data_sets(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAQ_DATA", str(shared_data))
    source = "rmd17:ethanol:1:test"
    first, last = structure_from(f"{source}@0"), structure_from(source)
    assert first.formula == last.formula == "C2H6O"
    assert not np.array_equal(first.positions, last.positions)
    with pytest.raises(DataError, match="1000 frames"):
        structure_from(f"{source}@1000")
    file = shared_data / "rmd17" / "rmd17_ethanol_test_01.npz"
    assert np.array_equal(structure_from(f"{file}@0").positions, first.positions)


def test_named_molecules_are_those_of_ase() -> None:
    for name in (*g2.names, *extra):
        expected = molecule(name)
        found = named(name)
        assert (found.species == expected.numbers).all()
        assert (found.positions == expected.positions).all()
