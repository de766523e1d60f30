"""Arrays of others are numbers or nothing."""

from pathlib import Path

import numpy as np
import pytest

from gaq.data.npz import array_names, read_arrays
from gaq.errors import DataError


@pytest.fixture
def good(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "good.npz", a=np.arange(1000.0), b=np.ones(3))
    return tmp_path / "good.npz"


def test_reads_what_is_wanted(good: Path) -> None:
    assert set(read_arrays(good)) == {"a", "b"}
    assert set(read_arrays(good, ["b", "c"])) == {"b"}
    assert array_names(good) == ["a", "b"]


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(DataError, match="'a' holds Python objects"):
        read_arrays(tmp_path / "o.npz")


def test_a_file_cut_anywhere_is_damaged(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    for length in (0, 3, 50, len(content) // 2, len(content) - 10):
        cut = tmp_path / "cut.npz"
        cut.write_bytes(content[:length])
        with pytest.raises(DataError):
            read_arrays(cut)
        with pytest.raises(DataError):
            array_names(cut)


def test_flipped_bytes_are_noticed(good: Path, tmp_path: Path) -> None:
    content = bytearray(good.read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        read_arrays(tmp_path / "bad.npz")


def test_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match="single array"):
        read_arrays(tmp_path / "one.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match="not an npz archive"):
        read_arrays(tmp_path / "text.npz")
    with pytest.raises(DataError, match="no file"):
        read_arrays(tmp_path / "none.npz")
