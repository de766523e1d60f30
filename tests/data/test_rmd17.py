"""rMD17 in both layouts, its splits and its damages."""

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.units import kcal, mol

from gaq.data.rmd17 import MOLECULES, Rmd17Request, load, read
from gaq.errors import DataError

KCAL = kcal / mol


def make(count: int, **changes: np.ndarray) -> dict[str, np.ndarray]:
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    return {"nuclear_charges": atoms.numbers.astype(np.uint8),
            "coords": atoms.positions + rng.normal(0, 0.05, (count, 9, 3)),
            "energies": -97079.0 + rng.normal(0, 4, count), "forces": rng.normal(0, 20, (count, 9, 3)),
            "old_indices": np.arange(count), **changes}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """The layout of the archive, with few frames."""
    (tmp_path / "rmd17" / "npz_data").mkdir(parents=True)
    (tmp_path / "rmd17" / "splits").mkdir()
    np.savez(tmp_path / "rmd17" / "npz_data" / "rmd17_ethanol.npz", **make(2100))
    for part, rows in (("train", [5, 3, 8]), ("test", [2099, 0])):
        (tmp_path / "rmd17" / "splits" / f"index_{part}_03.csv").write_text("".join(f"{row}\n" for row in rows))
    return tmp_path


def test_official_layout_follows_the_index(official: Path) -> None:
    frames = load("rmd17:ethanol:3:train", [official / "none", official])
    arrays = make(2100)
    assert frames.origin == "rmd17"
    assert [frame.energy for frame in frames] == pytest.approx((arrays["energies"][[5, 3, 8]] * KCAL).tolist())
    np.testing.assert_allclose(frames[1].forces, arrays["forces"][3] * KCAL)
    np.testing.assert_array_equal(frames[1].positions, arrays["coords"][3])
    assert len(load("rmd17:ethanol:3:test", [official / "rmd17"])) == 2


def test_without_indices_the_error_says_how_to_go_on(official: Path) -> None:
    with pytest.raises(DataError, match=r"split indices are missing.*gaq data get rmd17 all.*rmd17:ethanol:seed1:test"):
        load("rmd17:ethanol:1:test", [official])


def test_seeded_splits_are_disjoint_and_repeatable(official: Path) -> None:
    train, test = (load(f"rmd17:ethanol:seed7:{part}", [official]) for part in ("train", "test"))
    assert (len(train), len(test)) == (1000, 1000)
    assert not {frame.energy for frame in train} & {frame.energy for frame in test}
    assert train.fingerprint == load("rmd17:ethanol:seed7:train", [official]).fingerprint
    assert train.fingerprint != load("rmd17:ethanol:seed8:train", [official]).fingerprint


@pytest.mark.parametrize("content", ["a,b\n", "", "2100\n", "-1\n"])
def test_bad_indices(official: Path, content: str) -> None:
    (official / "rmd17" / "splits" / "index_train_03.csv").write_text(content)
    with pytest.raises(DataError, match="index_train_03"):
        load("rmd17:ethanol:3:train", [official])


def test_nothing_found_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/a and {tmp_path}/b; run: gaq data get rmd17 uracil.*GAQ_DATA"):
        load("rmd17:uracil:1:train", [tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(("name", "advice"), [
    ("rmd17:azobenzen:1:train", "did you mean 'azobenzene'"), ("rmd17:ethanol", "must be rmd17:<molecule>"),
    ("rmd17:ethanol:6:train", "must be 1 to 5"), ("rmd17:ethanol:seed:train", "seed0"),
    ("rmd17:ethanol:01:train", "1 to 5"), ("rmd17:ethanol:1:tests", "did you mean 'test'"),
    ("rmd17:../x:1:train", "molecules of rMD17"), ("rmd17", "must be")])
def test_bad_names(name: str, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        Rmd17Request.parse(name)


@pytest.mark.parametrize(("changes", "problem"), [
    ({"coords": np.zeros((4, 8, 3))}, r"positions must have shape \(4, 9, 3\)"),
    ({"forces": np.zeros((3, 9, 3))}, r"forces must have shape \(4, 9, 3\)"),
    ({"energies": np.zeros(0)}, "at least one energy"),
    ({"nuclear_charges": np.zeros(9, dtype=np.uint8)}, "atomic numbers"),
    ({"forces": np.full((4, 9, 3), np.nan)}, "finite"),
    ({"energies": np.full(4, -4209.7)}, "seem to be in eV"),
    ({"nuclear_charges": np.array([6, 6, 8, 1, 1, 1, 1, 1, 1], dtype=object)}, "Python objects")])
def test_damaged_arrays(tmp_path: Path, changes: dict[str, np.ndarray], problem: str) -> None:
    np.savez(tmp_path / "bad.npz", **make(4, **changes))
    with pytest.raises(DataError, match=problem):
        read(tmp_path / "bad.npz", "bad")


def test_foreign_arrays_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", coords=np.zeros(3), charges=np.zeros(3))
    with pytest.raises(DataError, match=r"nuclear_charges, .* or z, R, E, F .*it has coords, charges"):
        read(tmp_path / "x.npz", "x")


def test_md17_names(tmp_path: Path) -> None:
    arrays = make(4)
    np.savez(tmp_path / "m.npz", z=arrays["nuclear_charges"], R=arrays["coords"], E=arrays["energies"][:, None],
             F=arrays["forces"], name=np.array("ethanol"))
    frames = read(tmp_path / "m.npz", "m")
    assert frames.origin == "file"
    assert frames[3].energy == pytest.approx(arrays["energies"][3] * KCAL)


@pytest.mark.parametrize("name", sorted(set(MOLECULES) - {"naphthalene", "uracil"}))
def test_real_frames(shared_data: Path, name: str) -> None:
    train, test = (load(f"rmd17:{name}:1:{part}", [shared_data]) for part in ("train", "test"))
    assert (len(train), len(test)) == (1000, 1000)
    assert not {frame.energy for frame in train} & {frame.energy for frame in test}
    forces = np.array([frame.forces for frame in train])
    assert np.abs(forces.sum(axis=1)).max() < 0.02  # a molecule exerts no force on itself
    assert 0.5 < np.sqrt((forces**2).sum(axis=2).mean()) < 3.0


def test_the_first_frame_of_ethanol(shared_data: Path) -> None:
    frame = load("rmd17:ethanol:1:train", [shared_data])[0]
    assert frame.energy == pytest.approx(-97079.92222179 / 23.0605478, abs=0.01)  # kcal/mol per eV
    in_file = np.array([-17.64730699, -26.13751651, 40.70575377])
    np.testing.assert_allclose(frame.forces[0], in_file / 23.0605478, rtol=1e-6)
