"""A file appears whole, or the old one stays."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gaq.errors import OutputError
from gaq.files import atomic_path, destination, locked, output_error, sha256, write_atomically


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
    finally:
        os.umask(before)


def test_the_umask_of_the_process_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to all threads; one that makes a file meanwhile would make it for everybody."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("umask"))
    write_atomically(tmp_path / "file", b"x")


def test_a_replaced_file_hands_its_mode_on(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_bytes(b"old")
    target.chmod(0o600)
    write_atomically(target, b"new")
    assert target.stat().st_mode & 0o777 == 0o600


def test_writing_through_a_link_reaches_its_target(tmp_path: Path) -> None:
    real, link, second = tmp_path / "there" / "real", tmp_path / "link", tmp_path / "second"
    real.parent.mkdir()
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to("there/real")
    second.symlink_to(link)
    write_atomically(second, b"new")
    assert second.is_symlink()
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640
    folder = tmp_path / "folder"
    folder.symlink_to("there")
    write_atomically(folder / "other", b"x")
    assert (tmp_path / "there" / "other").read_bytes() == b"x"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["folder", "link", "other", "real", "second", "there"]


def strange(folder: Path) -> dict[str, Path]:
    """Things at which no file can be written, by what the error says of them."""
    os.mkfifo(folder / "pipe")
    (folder / "nowhere").symlink_to("gone")
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    (folder / "kept").write_bytes(b"old")
    (folder / "kept").chmod(0o444)
    (folder / "to-device").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return {"is a device": Path("/dev/null"), "a device$": folder / "to-device", "named pipe": folder / "pipe",
            "a socket": folder / "socket", "is a folder": folder, "link to gone": folder / "nowhere",
            "symbolic links": folder / "a", "read-only": folder / "kept", "no name": folder / "x\0y",
            "too long": folder / ("x" * 10_000_000), "name too long|too long": folder / ("å" * 200),
            "Not a directory": folder / "kept" / "below", "is a folder; give": Path("")}


def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    found = strange(tmp_path)
    before = sorted((p.name, p.lstat().st_ino) for p in tmp_path.iterdir())
    for words, path in found.items():
        for write in (destination, lambda path: write_atomically(path, b"x"), lambda path: locked(path).__enter__()):
            with pytest.raises(OutputError, match=words) as caught:
                write(path)
            assert len(str(caught.value)) < 600
    assert sorted((p.name, p.lstat().st_ino) for p in tmp_path.iterdir()) == before
    assert Path("/dev/null").is_char_device()


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "å" * 127, f"x.{'y' * 250}"):
        write_atomically(tmp_path / name, b"x")
        with locked(tmp_path / name):
            pass
        assert (tmp_path / name).read_bytes() == b"x"


def left_behind(folder: Path, program: str) -> None:
    """Run a block that ends with SIGKILL."""
    text = f"import os, signal\nfrom gaq.files import atomic_path\n{program}\n    os.kill(os.getpid(), signal.SIGKILL)"
    ended = subprocess.run([sys.executable, "-c", text], cwd=folder, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    left_behind(tmp_path, "with atomic_path('file.json') as path:\n    path.write_text('half')")
    (stale,) = tmp_path.iterdir()
    mine = tmp_path / ".file.json.mine.tmp.json"
    mine.write_text("not ours")
    with atomic_path(tmp_path / "file.json") as first:  # one that is being written is nobody's waste
        first.write_text("first")
        write_atomically(tmp_path / "file.json", b"second")
        assert first.exists()
        assert not stale.exists()
    assert (tmp_path / "file.json").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".file.json.mine.tmp.json", "file.json"]


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    """Each sweeps, and none loses its temporary file to another."""
    failures: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(40):
                write_atomically(tmp_path / "file", letter * 1000)
                assert len(set((tmp_path / "file").read_bytes())) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_lock_keeps_a_second_process_out_and_says_who_has_it(tmp_path: Path) -> None:
    program = ("import sys, time\nfrom gaq.files import locked\nwith locked('file'):\n    print('have it', flush=True)\n"
               "    time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "have it\n"
        (tmp_path / "link").symlink_to("file")
        (tmp_path / "file").write_bytes(b"")
        for name in ("file", "link"):
            with pytest.raises(OutputError, match=rf"in use by process {holder.pid} on "), locked(tmp_path / name):
                pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(tmp_path / "file"):  # what the killed one left means nothing
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12, where there are threads
def test_a_lock_is_given_up_though_a_forked_child_lives(tmp_path: Path) -> None:
    with locked(tmp_path / "file"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with locked(tmp_path / "file"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lock_is_for_one_writer_of_a_process_too(tmp_path: Path) -> None:
    with (locked(tmp_path / "file"), pytest.raises(OutputError, match=rf"process {os.getpid()} on"),
          locked(tmp_path / "file")):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone is let in, and nothing is taken for left behind."""
    import fcntl

    def unsupported(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    other = tmp_path / ".file.01234567.tmp"
    other.write_bytes(b"of another process")
    write_atomically(tmp_path / "file", b"x")
    with locked(tmp_path / "file"), locked(tmp_path / "file"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, "file"]


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
