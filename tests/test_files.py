"""A file appears whole, or the old one stays."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gaq.errors import OutputError
from gaq.files import atomic_path, output_error, sha256, write_atomically


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "text.json", "Å")
    assert (tmp_path / "a" / "b" / "text.json").read_text() == "Å"
    write_atomically(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"x")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027  # asking for it did not change it
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize(("code", "advice"), [(errno.ENOSPC, "disk is full; free some space"),
                                              (errno.EROFS, "no permission to write"), (errno.EIO, "error")])
def test_the_old_file_stays_when_writing_fails(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, advice: str) -> None:
    target = tmp_path / "model"
    target.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OutputError, match=advice) as caught:
        write_atomically(target, b"new")
    assert "what was at that path before is unchanged" in str(caught.value)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_old_file_stays_when_the_writer_fails(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.write_bytes(b"old")
    for error in (ValueError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)), atomic_path(target) as temporary:  # noqa: PT012
            temporary.write_bytes(b"half")
            raise error
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "a" / "b", b"x")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A real disk of 64 kB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    target = small_disk / "model"
    write_atomically(target, b"old" * 1000)
    with pytest.raises(OutputError, match="disk is full"):
        write_atomically(target, b"x" * 200_000)
    assert target.read_bytes() == b"old" * 1000
    assert [p.name for p in small_disk.iterdir()] == ["model"]


def test_errors_are_translated_once() -> None:
    assert "choose another path" in str(output_error(Path("x"), PermissionError(errno.EACCES, "denied")))
    assert "Is a directory" in str(output_error(Path("x"), OSError(errno.EISDIR, "Is a directory")))


def test_checksums(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
