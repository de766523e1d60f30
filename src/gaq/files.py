"""Writing files so that nothing is lost: a file appears whole, or the old one stays; one process writes at a time."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from gaq.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

SHOWN = 200  # characters of a path in a message
KEPT = 40  # characters of a name in the names of files beside it, which have to stay below 255 bytes
KINDS = {stat.S_IFDIR: "it is a folder; give the path of a file", stat.S_IFCHR: "it is a device",
         stat.S_IFBLK: "it is a device", stat.S_IFIFO: "it is a named pipe", stat.S_IFSOCK: "it is a socket"}


def destination(path: str | Path) -> Path:
    """Return the file that writing to `path` reaches: itself, or the one that a symbolic link leads to.

    Raises:
        OutputError: a folder, device, pipe or socket; a link that leads nowhere; a read-only file; no name of a file.
    """
    shown = _shown(path)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise OutputError(f"cannot write {shown}: it is a link to {_shown(os.readlink(path))}, and there is nothing; "
                              "remove the link, or choose another path") from None
        return Path(os.path.realpath(path))
    except OSError as error:
        raise output_error(path, error) from error
    except ValueError as error:  # a NUL, or signs that no file system takes
        raise OutputError(f"cannot write {shown}: this is no name of a file ({error})") from error
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise OutputError(f"cannot write {shown}: {KINDS.get(kind, 'it is no regular file')}")
    if not found.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {shown}: the file is read-only; choose another path, or change its permissions")
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there, synced to disk, when the block ends without an error.

    A symbolic link stays one and what it leads to is replaced; a file that is replaced hands its mode on.

    Raises:
        OutputError: as `destination`; the folder is missing or read-only, or the disk is full. An old file stays as it was.
    """
    target = destination(path)
    try:
        handle, temporary = _temporary(target)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        _unlock(handle)


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write `content` to `path` through `atomic_path`."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Keep a file, or a run by a file in its folder, to this process; a second one that asks is refused.

    The lock is the system's own, on `.NAME.lock` beside the file, and ends with the process, however that ends: a lock
    file that a killed process left behind means nothing. Where the file system has no locks, all are let in.

    Raises:
        OutputError: another process has it, whose number is said; or as `destination`.
    """
    target = destination(path)
    file = target.with_name(f".{target.name[:KEPT]}.lock")
    try:
        handle = _owned(file)
    except BlockingIOError as error:
        raise OutputError(f"{_shown(path)} is in use by {error.strerror}; wait until it ends, or choose another path"
                          ) from None
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        _unlock(handle)


def output_error(path: str | Path, error: OSError) -> OutputError:
    """Translate an operating-system error into one that says what to do."""
    if error.errno == errno.ENOSPC:
        advice = "the disk is full; free some space and run again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "no permission to write there; choose another path"
    else:
        advice = error.strerror or str(error)
    return OutputError(f"cannot write {_shown(path)}: {advice} (what was at that path before is unchanged)")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _owned(file: Path) -> int:
    """Open and lock a lock file, and write into it who has it; BlockingIOError names another owner."""
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock(handle):
            owner = os.pread(handle, SHOWN, 0).decode(errors="replace").strip()
            os.close(handle)
            raise BlockingIOError(errno.EAGAIN, f"process {owner}" if owner else "another process")
        if _is_at(handle, file):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return handle
        os.close(handle)  # its owner has just given it up, and removed it


def _temporary(target: Path) -> tuple[int, Path]:
    """Create a file beside `target`, locked for as long as it is open, and remove what killed processes left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stem, suffix = f".{target.name[:KEPT]}.", target.suffix[:KEPT]
    _sweep(target.parent, re.compile(rf"{re.escape(stem)}[0-9a-f]{{8}}\.tmp{re.escape(suffix)}"))
    while True:
        path = target.with_name(f"{stem}{secrets.token_hex(4)}.tmp{suffix}")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _lock(handle) and _is_at(handle, path):
            return handle, path
        os.close(handle)  # another process took it for one that was left behind


def _sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove the temporary files that no process has locked any more."""
    for name in os.listdir(folder):
        if pattern.fullmatch(name):
            with contextlib.suppress(OSError):
                handle = os.open(folder / name, os.O_RDWR)
                if _lock(handle, without=False):
                    os.unlink(folder / name)
                _unlock(handle)


def _lock(handle: int, without: bool = True) -> bool:
    """Lock an open file, and return whether that is done; `without` is the answer where there are no locks."""
    if fcntl is None:
        return without
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    return True


def _unlock(handle: int) -> None:
    """Close a locked file; a forked child may have it open, too, and shall not keep the lock."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _shown(path: str | Path) -> str:
    text = str(path)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
