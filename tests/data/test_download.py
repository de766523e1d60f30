"""Downloads from a server on this machine: whole, cut, resumed, wrong, and offline."""

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from gaq.data import download
from gaq.data.download import QM9, RMD17, Remote, fetch, get, unpack
from gaq.data.folders import cache_folder
from gaq.errors import DataError, DownloadError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT with Range; `cuts` lists after how many bytes the next answers break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.statuses: list[int] = []
        self.honours_range = True

    def remote(self, md5: str = MD5) -> Remote:
        return Remote("data.npz", f"http://127.0.0.1:{self.server_address[1]}/file", md5)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.honours_range else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_WAIT", 0.001)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_with_progress_and_cache(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    path = fetch(server.remote(), tmp_path / "new", lambda *args: seen.append(args))
    assert path == tmp_path / "new" / "data.npz"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("data.npz", len(CONTENT), len(CONTENT))
    assert [n for _, n, _ in seen] == sorted(n for _, n, _ in seen)
    assert fetch(server.remote(), tmp_path / "new") == path
    assert server.ranges == [None]  # the second time nothing was asked for
    assert list(path.parent.iterdir()) == [path]


def test_a_cut_connection_is_taken_up_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = [20 * 2**14, 7 * 2**14 + 5]
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert server.ranges[1:] == [f"bytes={20 * 2**14}-", f"bytes={27 * 2**14}-"]


def test_a_later_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [6 * 2**14, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"run the same command again \(0\.1 MB are kept\)"):
        fetch(server.remote(), tmp_path)
    assert (tmp_path / "data.npz.part").read_bytes() == CONTENT[: 6 * 2**14]
    server.ranges.clear()
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={6 * 2**14}-"]


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.honours_range = False
    (tmp_path / "data.npz.part").write_bytes(CONTENT[:1000])
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_or_too_long(server: Server, tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "data.npz.part").write_bytes(kept)
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="another checksum"):
        fetch(server.remote(md5="0" * 32), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_does_not_stay(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.npz.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="another checksum"):
        fetch(server.remote(), tmp_path)
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"x")
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


def test_answers_that_are_not_the_file(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(DownloadError, match="answered 404"):
        fetch(server.remote(), tmp_path)
    server.statuses = [503, 429]  # busy: tried again
    assert fetch(server.remote(), tmp_path).read_bytes() == CONTENT


def test_offline_says_so_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_WAIT", 1000.0)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/file"
        with pytest.raises(DownloadError, match="no connection to the server"):
            fetch(Remote("data.npz", url, MD5), tmp_path)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(server.remote(), tmp_path / "file")


def test_get_uses_the_cache_folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(RMD17, "ethanol", server.remote())
    assert get("rmd17", "ethanol") == tmp_path / "gaq" / "rmd17" / "data.npz"
    monkeypatch.setattr(download, "QM9", (server.remote(),))
    assert get("qm9") == tmp_path / "gaq" / "qm9" / "data.npz"


def test_the_cache_folder_is_where_programs_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path(pooch.os_cache("gaq"))


@pytest.mark.parametrize(("arguments", "advice"), [
    (("rmd71",), "did you mean 'rmd17'"), (("rmd17",), "needs a molecule"),
    (("rmd17", "etanol"), "did you mean 'ethanol'")])
def test_unknown_names(arguments: tuple[str, ...], advice: str) -> None:
    with pytest.raises(DataError, match=advice):
        get(*arguments)


def test_the_table_is_complete() -> None:
    assert list(RMD17) == list(download.rmd17.MOLECULES)
    assert all(len(remote.md5) == 32 and remote.url.startswith("https://") for remote in (*RMD17.values(), *QM9))


def make_archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:bz2") as target:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            target.addfile(info, io.BytesIO(name.encode()))
    return path


def test_the_whole_archive_is_unpacked_by_our_names(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "a.tar.bz2", ["rmd17/splits/i.csv", "../../evil.csv", "rmd17/readme.txt",
                                                   "../npz_data/x.npz"])
    unpack(path, ["splits/i.csv", "npz_data/x.npz"], tmp_path / "out" / "rmd17")
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    assert files == ["a.tar.bz2", "out/rmd17/npz_data/x.npz", "out/rmd17/splits/i.csv"]
    with pytest.raises(DataError, match=r"lacks b\.csv"):
        unpack(path, ["b.csv"], tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged"):
        unpack(path, ["b.csv"], tmp_path / "out")
