"""How data sets get into the cache: downloads that resume, with checksums."""

import logging
import os
import tarfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from gaq.data import qm9, rmd17
from gaq.data.folders import cache_folder
from gaq.errors import DataError, DownloadError, did_you_mean
from gaq.files import atomic_path

Progress = Callable[[str, int, int | None], None]
"""Is told the name of the file, the bytes present and the bytes in all (None while unknown)."""

_FIGSHARE = "https://ndownloader.figshare.com/files"
_CHUNK = 1 << 14  # bytes; what a cut connection may lose
_ATTEMPTS, _WAIT = 4, 2.0  # a cut connection is taken up again, after 2, 4 and 8 s
_TIMEOUT = 30.0  # s without a byte


@dataclass(frozen=True)
class Remote:
    """A file on the web; `md5` is what its publisher states."""

    name: str
    url: str
    md5: str


def _figshare(name: str, number: int, md5: str) -> Remote:
    return Remote(name, f"{_FIGSHARE}/{number}", md5)


RMD17 = {molecule: _figshare(f"rmd17_{molecule}.npz", number, md5) for molecule, number, md5 in (
    ("aspirin", 62265757, "17fd6fb69066888613f7e16b358a7553"),
    ("azobenzene", 62265754, "be79df918468eb3579aa73a0becf7390"),
    ("benzene", 62265739, "18c9242bc90fbf28215f6dd81e650f16"),
    ("ethanol", 62265733, "eb837fb8deb27d4e0d52f71a03aff776"),
    ("malonaldehyde", 62265736, "cdc1d70c0c34062ddde6e5071eb6fe21"),
    ("naphthalene", 62265751, "0efba19c9907e3852318b1e6008b3b9e"),
    ("paracetamol", 62265760, "ba10784f7b67635427085f6d7ec2dd97"),
    ("salicylic", 62265748, "900fedf242da438400fa4293348d7dd1"),
    ("toluene", 62265742, "0f2913d51f8149c90ab28d697a076f64"),
    ("uracil", 62265745, "992a4479c28a07e0cce6da964805be31"))}
RMD17_ARCHIVE = _figshare("rmd17.tar.bz2", 23950376, "cb1a927628d96f2e966025da4fb63d18")
QM9 = (_figshare(qm9.ARCHIVE, 3195389, "ad1ebd51ee7f5b3a6e32e974e5d54012"),
       _figshare(qm9.EXCLUDED, 3195404, "a361887bacb427b8a0ce7903d92a53b4"))


def get(dataset: str, molecule: str | None = None, *, progress: Progress | None = None) -> Path:
    """Download a data set into the cache, unless it is there, and return its file or folder.

    Args:
        dataset: rmd17 or qm9.
        molecule: for rmd17, a molecule (65 to 175 MB), or all for the whole archive with its split indices (1 GB).
        progress: is told how far the download is.

    Raises:
        DataError: an unknown data set or molecule.
        DownloadError: no connection, or a wrong checksum.
    """
    if dataset == "qm9":
        paths = [fetch(remote, cache_folder() / "qm9", progress) for remote in QM9]
        return paths[0]
    if dataset != "rmd17":
        raise DataError(f"the data sets are rmd17 and qm9, not {dataset!r}{did_you_mean(dataset, ('rmd17', 'qm9'))}")
    folder = cache_folder() / "rmd17"
    if molecule == "all":
        return _get_archive(folder, progress)
    if molecule not in RMD17:
        raise DataError(f"rmd17 needs a molecule: {', '.join(RMD17)}, or all; not {molecule!r}"
                        f"{did_you_mean(molecule or '', [*RMD17, 'all'])}")
    return fetch(RMD17[molecule], folder, progress)


def fetch(remote: Remote, folder: Path, progress: Progress | None = None) -> Path:
    """Return the file `remote` in `folder`, after downloading it if it is missing or damaged.

    Raises:
        DownloadError: no connection, an answer other than the file, a wrong checksum, or a folder that is not writable.
    """
    try:
        with _quiet(pooch.get_logger()):
            found = pooch.retrieve(remote.url, known_hash=f"md5:{remote.md5}", fname=remote.name, path=folder,
                                   downloader=Resuming(folder / f"{remote.name}.part", progress))
    except DownloadError:
        raise
    except ValueError as error:  # pooch found another checksum
        raise DownloadError(f"{remote.name} from {remote.url} has another checksum than its publisher states; it was "
                            "discarded; run the same command again, and if it fails again, tell us") from error
    except OSError as error:
        raise DownloadError(f"cannot write {folder / remote.name}: {error.strerror or error}") from error
    return Path(found)


class Resuming:
    """A downloader for pooch that keeps what it has in a .part file and goes on from there.

    Args:
        part: where the bytes are kept until the file is whole.
        progress: is told how far the download is.
    """

    def __init__(self, part: Path, progress: Progress | None = None) -> None:
        self._part, self._progress = part, progress
        self._reached = False

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`, as pooch asks for.

        Raises:
            DownloadError: no connection after several attempts, or an answer that is not the file.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._attempt(url)
                break
            except requests.RequestException as error:
                if attempt == _ATTEMPTS - 1 or not self._reached:  # offline: waiting would not help
                    raise DownloadError(f"cannot download {url}: {_reason(error)}; check the connection and run the "
                                        f"same command again ({self._kept() / 1e6:.1f} MB are kept)") from error
                time.sleep(_WAIT * 2**attempt)
        os.replace(self._part, output_file)

    def _kept(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _attempt(self, url: str) -> None:
        """Add to the part file until it is whole; requests.RequestException when the connection ends before."""
        have = self._kept()
        headers = {"User-Agent": "gaq", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            self._reached = True
            if answer.status_code == 416:  # nothing follows: the part is whole, or not of this file
                if answer.headers.get("Content-Range") == f"bytes */{have}":
                    return
                self._part.unlink()
                raise requests.ConnectionError("the kept part did not fit; starting again")
            if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
                raise DownloadError(f"{url} answered {answer.status_code} {answer.reason}; the file may have moved")
            answer.raise_for_status()
            resumed = answer.status_code == 206
            have = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else None
            with open(self._part, "ab" if resumed else "wb") as target:
                for chunk in answer.iter_content(_CHUNK):
                    target.write(chunk)
                    have += len(chunk)
                    if self._progress is not None:
                        self._progress(self._part.name.removesuffix(".part"), have, total)
        if total is not None and have < total:
            raise requests.ConnectionError(f"the connection ended at {have} of {total} bytes")


def _get_archive(folder: Path, progress: Progress | None) -> Path:
    """Download the whole archive of rMD17 and unpack its arrays and split indices; the archive is not kept."""
    wanted = [f"npz_data/rmd17_{molecule}.npz" for molecule in rmd17.MOLECULES]
    wanted += [f"splits/index_{part}_{k:02d}.csv" for part in ("train", "test") for k in rmd17.OFFICIAL_SPLITS]
    if all((folder / name).is_file() for name in wanted):
        return folder
    path = fetch(RMD17_ARCHIVE, folder, progress)
    unpack(path, wanted, folder)
    path.unlink()
    return folder


def unpack(archive: Path, wanted: list[str], folder: Path) -> None:
    """Copy the `wanted` members of a tar archive into `folder`; the archive decides nothing about paths.

    Raises:
        DataError: the archive is damaged, or lacks a member.
    """
    missing = set(wanted)
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                name = next((name for name in missing if member.name.endswith(f"/{name}")), None)
                content = members.extractfile(member) if name and member.isfile() else None
                if name is None or content is None:
                    continue
                with atomic_path(folder / name) as temporary, open(temporary, "wb") as target:
                    while chunk := content.read(_CHUNK):
                        target.write(chunk)
                missing.remove(name)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is damaged or cut short ({error}); delete it and download it again") from error
    if missing:
        raise DataError(f"{archive} lacks {', '.join(sorted(missing))}; it is not the archive of rMD17")


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer for {_TIMEOUT:.0f} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate was not accepted"
    if isinstance(error, requests.HTTPError):
        return str(error)
    return "no connection to the server, or it was cut"


@contextmanager
def _quiet(logger: logging.Logger):
    """Keep pooch from writing to the terminal, where a progress bar may be."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
