"""A Chroma server by its address: the same passages, a collection for each folder, a sentence where none answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder
from test_index import documents

from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.opening import Collection

QUESTION = "How long must promise number 7 of document 2 be kept?"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port, folder = free_port(), tmp_path_factory.mktemp("server")
    program = [sys.executable, "-c", "from chromadb.cli.cli import app; app()"]
    arguments = ["run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False"}
        process = subprocess.Popen([*program, *arguments], stdout=log, stderr=log, env=environment)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}", process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_server_finds_what_a_folder_does(
    tmp_path: Path, embedder: HashingEmbedder, server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    address, process = server
    there = Retrieval(chroma=address)
    here = Collection(tmp_path / "here", documents(), embedder).retriever(Retrieval())
    first = Collection(tmp_path / "first", documents(), embedder)
    second = Collection(tmp_path / "second", documents(2), embedder).retriever(there)
    for question, document in ((QUESTION, "d2"), (QUESTION, None)):
        expected = here.search(question, document)
        assert first.retriever(there).search(question, document) == expected
    graph = first.retriever(there.model_copy(update={"exact": 0})).search(QUESTION)
    assert [p.score for p in graph] == pytest.approx([p.score for p in here.search(QUESTION)], abs=1e-3)
    assert {chunk.document for chunk in second.index.all_chunks()} == {"d0", "d1"}  # another folder, another collection
    embedder.seen.clear()
    assert first.retriever(there).search(QUESTION) == here.search(QUESTION)
    assert set(embedder.seen) == {QUESTION}  # what the server holds is not embedded again
    process.kill()
    process.wait()
    with pytest.raises(SetupError, match="The index in http"):
        second.search("Another question?", "d1")
    with pytest.raises(SetupError, match="start one"):
        first.retriever(there)


def test_no_server_is_a_sentence(tmp_path: Path, embedder: HashingEmbedder) -> None:
    with pytest.raises(SetupError, match=r"The Chroma server http://127.*start one"):
        Collection(tmp_path, documents(), embedder).retriever(Retrieval(chroma=f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "http://user:pass@127.0.0.1:8000", "http://127.0.0.1/v1"])
def test_what_is_not_the_address_of_a_server(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Retrieval(chroma=address)
