"""QM9 in its compact and official forms."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase.units import Hartree

from gaq.data.qm9 import Qm9Request, load, parse_molecule, read
from gaq.data.units import all_electron_energy
from gaq.errors import DataError

WATER = """3
gdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702\t\
-76.401867\t-76.400922\t-76.422349\t6.002\t
O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706
H\t 0.0647664923\t 0.0205721989\t 2.1*^-6\t 0.294853
H\t 0.8717903737\t 1.3007924048\t 0.0006931336\t 0.294853
1671.4222\t3803.6305\t3907.698
O\tO
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""


def water(number: int) -> str:
    """Water again under another number, with its number as U0."""
    return WATER.replace("gdb 3", f"gdb {number}").replace("-76.404702", f"-{number}.0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dsgdb9nsd.xyz").mkdir()
    for number in (1, 2, 4, 10):
        (tmp_path / "dsgdb9nsd.xyz" / f"dsgdb9nsd_{number:06d}.xyz").write_text(water(number))
    return tmp_path / "dsgdb9nsd.xyz"


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:bz2") as target:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            target.addfile(info, io.BytesIO(text.encode()))
    return path


def test_official_file() -> None:
    frame = parse_molecule(WATER, "U0", "test")
    assert frame.energy == pytest.approx(-76.404702 * Hartree)
    assert frame.forces is None
    assert frame.species.tolist() == [8, 1, 1]
    assert frame.positions[1].tolist() == [0.0647664923, 0.0205721989, 2.1e-6]
    assert parse_molecule(WATER, "gap", "test").energy == pytest.approx(0.3615 * Hartree)
    assert parse_molecule(WATER, "zpve", "test").energy == pytest.approx(0.021375 * Hartree)


@pytest.mark.parametrize("text", ["", "3", WATER[:150], WATER.replace("gdb", "abc"), WATER.replace("O\t-0", "Qx\t-0"),
                                  WATER.replace("3\ngdb", "9\ngdb"), WATER.replace("-76.404702", "much")])
def test_damaged_text(text: str) -> None:
    with pytest.raises(DataError, match="molecule 7"):
        parse_molecule(text, "U0", "molecule 7")


def test_folder_archive_and_single_file_agree(folder: Path, tmp_path: Path) -> None:
    packed = archive(tmp_path / "dsgdb9nsd.xyz.tar.bz2",
                     {f"dsgdb9nsd_{number:06d}.xyz": water(number) for number in (10, 2, 1, 4)})
    assert read(folder, "f").fingerprint == read(packed, "a").fingerprint
    assert [round(-frame.energy / Hartree) for frame in read(folder, "f")] == [1, 2, 4, 10]
    assert len(read(folder / "dsgdb9nsd_000004.xyz", "one")) == 1
    assert read(folder, "f").origin == "qm9"


def test_uncharacterized_molecules_are_left_out(folder: Path) -> None:
    rows = "==\nIndex\n==\n    2   C  C  1.0\n   10   N  N  1.0\n2 compounds\n"
    (folder.parent / "uncharacterized.txt").write_text(rows)
    assert [round(-frame.energy / Hartree) for frame in load("qm9", [folder.parent])] == [1, 4]


def test_damaged_archives(folder: Path, tmp_path: Path) -> None:
    packed = archive(tmp_path / "dsgdb9nsd.xyz.tar.bz2", {f"dsgdb9nsd_{k:06d}.xyz": water(k) for k in range(1, 200)})
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        read(packed, "a")
    archive(packed, {"readme.txt": "nothing"})
    with pytest.raises(DataError, match="holds no files dsgdb9nsd_"):
        read(packed, "a")
    archive(packed, {"dsgdb9nsd_1.txt": "nothing"})
    with pytest.raises(DataError, match=r"dsgdb9nsd_1\.txt is not called"):
        read(packed, "a")


def compact(path: Path, count: int, **changes: np.ndarray) -> Path:
    arrays = {"n_atoms": np.full(count, 3, dtype=np.int16), "z": np.tile([8, 1, 1], count).astype(np.uint8),
              "pos_A": np.tile(np.eye(3), (count, 1)).astype(np.float32), "U0_Ha": -np.arange(1.0, count + 1)} | changes
    np.savez(path, **arrays)
    return path


def test_splits_are_disjoint_whole_and_fixed(tmp_path: Path) -> None:
    compact(tmp_path / "qm9_130831_compact.npz", 200)
    parts = {part: [frame.energy for frame in load(f"qm9:{part}", [tmp_path])] for part in ("train", "valid", "test")}
    assert [len(energies) for energies in parts.values()] == [168, 15, 17]
    assert len({energy for energies in parts.values() for energy in energies}) == 200
    assert [frame.energy for frame in load("qm9:U0:test:5", [tmp_path])] == parts["test"][:5]
    assert len(load("qm9:7", [tmp_path])) == 7
    with pytest.raises(DataError, match="there are 17 to choose from"):
        load("qm9:test:18", [tmp_path])


def test_the_whole_set_splits_as_in_the_literature() -> None:
    for part, size in (("train", 110_000), ("valid", 10_000), ("test", 10_831)):
        assert len(Qm9Request(part=part).choose(130_831)) == size


@pytest.mark.parametrize(("changes", "problem"), [
    ({"pos_A": np.zeros((5, 3))}, "do not fit together"), ({"U0_Ha": np.zeros(3)}, "do not fit together"),
    ({"n_atoms": np.zeros(0, dtype=int), "z": np.zeros(0, dtype=int)}, "do not fit together")])
def test_damaged_compact(tmp_path: Path, changes: dict[str, np.ndarray], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read(compact(tmp_path / "c.npz", 4, **changes), "c")
    with pytest.raises(DataError, match="no array 'gap_Ha'"):
        read(compact(tmp_path / "c.npz", 4), "c", Qm9Request("gap"))


@pytest.mark.parametrize(("name", "advice"), [
    ("qm9:U1", "did you mean 'U'"), ("qm9:mu", "does not fit"), ("qm9:0", "at least 1"),
    ("qm9:train:test", "'test' does not fit"), ("qm9:", "must be qm9")])
def test_bad_names(name: str, advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        Qm9Request.parse(name)


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gaq data get qm9"):
        load("qm9", [tmp_path])


def test_real_molecules(shared_data: Path) -> None:
    frames = load("qm9:test:500", [shared_data])
    assert {int(z) for frame in frames for z in frame.species} == {1, 6, 7, 8, 9}
    assert max(len(frame) for frame in frames) <= 29
    for frame in frames:
        assert frame.energy == pytest.approx(all_electron_energy(frame.species), rel=0.06)
        vectors = frame.positions[:, None] - frame.positions
        assert np.sort(np.linalg.norm(vectors, axis=2), axis=1)[:, 1].max() < 1.6  # every atom is bonded
