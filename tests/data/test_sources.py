"""Every kind of source through the one door."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from gaq.data import Frames, KeyMap, load_frames, write_frames
from gaq.errors import DataError
from gaq.structure import Structure


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the data or the cache of the person who runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GAQ_DATA", raising=False)


def test_a_file(tmp_path: Path) -> None:
    water = molecule("H2O")
    frame = Structure(species=water.numbers, positions=water.positions, energy=-14.0, forces=np.zeros((3, 3)))
    write_frames(tmp_path / "w.extxyz", [frame, frame])
    frames = load_frames(tmp_path / "w.extxyz")
    assert isinstance(frames, Frames)
    assert len(frames) == 2
    assert frames.source == str(tmp_path / "w.extxyz")
    assert frames.origin == "file"
    assert frames.fingerprint == load_frames(str(tmp_path / "w.extxyz")).fingerprint


def test_gaq_data(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAQ_DATA", str(shared_data))
    named = load_frames("rmd17:azobenzene:1:train")
    assert named.source == "rmd17:azobenzene:1:train"
    path = shared_data / "rmd17" / "rmd17_azobenzene_train_01.npz"
    assert load_frames(path).fingerprint == named.fingerprint
    assert load_frames(path).origin == "rmd17"
    assert load_frames("qm9:U0:train:20").origin == "qm9"


def test_gaq_data_must_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAQ_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="GAQ_DATA must name a folder"):
        load_frames("qm9")


def test_the_cache_is_a_place(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cache.*gaq data get rmd17 ethanol"):
        load_frames("rmd17:ethanol:1:test")
    folder = tmp_path / "cache" / "gaq" / "rmd17"
    folder.mkdir(parents=True)
    (folder / "rmd17_ethanol_test_01.npz").symlink_to(shared_data / "rmd17" / "rmd17_ethanol_test_01.npz")
    assert len(load_frames("rmd17:ethanol:1:test")) == 1000


@pytest.mark.parametrize(("source", "advice"), [
    ("rmd71:ethanol:1:train", "did you mean 'rmd17'"), ("none.xyz", "no file at none.xyz"), (".", "is a folder")])
def test_nothing_there(source: str, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        load_frames(source)


def test_wrong_units_are_noticed(shared_data: Path) -> None:
    path = shared_data / "3bpa" / "train_mixedT.xyz.gz"
    assert len(load_frames(path, KeyMap("energy", "forces"))) == 500
    for keys in (KeyMap("energy", "forces", length_unit="Bohr"), KeyMap("energy", "forces", length_unit="nm"),
                 KeyMap("energy", "forces", energy_unit="Ha")):
        with pytest.raises(DataError, match="another unit than said"):
            load_frames(path, keys)


def test_rmd17_written_in_its_own_units_is_noticed(shared_data: Path, tmp_path: Path) -> None:
    arrays = np.load(shared_data / "rmd17" / "rmd17_ethanol_train_01.npz")
    images = []
    for positions, energy, forces in zip(arrays["coords"][:20], arrays["energies"], arrays["forces"], strict=False):
        atoms = ase.Atoms(arrays["nuclear_charges"], positions, info={"REF_energy": energy})
        atoms.arrays["REF_forces"] = forces
        images.append(atoms)
    ase.io.write(tmp_path / "kcal.extxyz", images)
    with pytest.raises(DataError, match="energy_unit"):
        load_frames(tmp_path / "kcal.extxyz")
    frames = load_frames(tmp_path / "kcal.extxyz", KeyMap(energy_unit="kcal/mol"))
    original = load_frames(shared_data / "rmd17" / "rmd17_ethanol_train_01.npz")
    assert frames[0].energy == pytest.approx(original[0].energy)
