"""The index: only what changed is embedded again, what is gone leaves, and a crash heals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.index import Index


def documents(count: int = 4, sections: int = 12) -> list[Document]:
    return [
        Document(
            f"d{n}",
            f"d{n}",
            "\n".join(
                f"{s}. Clause {s}\nThe party named number {n} shall keep promise number {s} of document {n} for {s} "
                f"years and shall tell the other party at once when it cannot keep promise {s}."
                for s in range(1, sections + 1)
            ),
            f"d{n}.txt",
        )
        for n in range(count)
    ]


def edited(document: Document, old: str, new: str) -> Document:
    assert old in document.text
    return Document(document.id, document.title, document.text.replace(old, new), document.path)


def test_first_update_and_again_unchanged(tmp_path: Path, embedder: HashingEmbedder) -> None:
    calls: list[tuple[int, int]] = []
    first = Index(tmp_path, embedder).update(documents(), progress=lambda done, total: calls.append((done, total)))
    assert (first.added, first.changed, first.unchanged, first.removed) == (4, 0, 0, 0)
    assert first.embedded == first.chunks == len(embedder.seen) == calls[-1][0] == calls[-1][1]
    embedder.seen.clear()
    again = Index(tmp_path, embedder).update(documents())
    assert (again.added, again.changed, again.unchanged, again.removed) == (0, 0, 4, 0)
    assert embedder.seen == []
    assert again.chunks == first.chunks


def test_only_changed_chunks_are_embedded_and_removed_documents_leave(
    tmp_path: Path, embedder: HashingEmbedder
) -> None:
    index = Index(tmp_path, embedder)
    index.update(documents())
    embedder.seen.clear()
    one, two, three, _ = documents()
    stats = index.update([one, edited(two, "promise number 6", "duty number 6"), three, documents(5)[4]])
    assert (stats.added, stats.changed, stats.unchanged, stats.removed) == (1, 1, 2, 1)
    assert sum("of document 1" in text for text in embedder.seen) <= 3
    assert sum("of document 4" in text for text in embedder.seen) == 12
    chunks, vectors = index.chunks()
    assert {chunk.document for chunk in chunks} == {"d0", "d1", "d2", "d4"}
    assert vectors.shape == (stats.chunks, embedder.dimension)
    text = " ".join(chunk.text for chunk in index.chunks("d1")[0])
    assert "duty number 6" in text
    assert "promise number 6" not in text
    assert [chunk.position for chunk in index.chunks("d1")[0]] == list(range(len(index.chunks("d1")[0])))


def test_a_crash_half_way_heals(tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth_dspy.domains.documents.index._BATCH", 10)
    embedder.fail_after = 20
    with pytest.raises(RuntimeError):
        Index(tmp_path, embedder).update(documents())
    embedder.fail_after = None
    stats = Index(tmp_path, embedder).update(documents())
    assert stats.chunks == len(embedder.seen) == len(set(embedder.seen))  # none embedded twice, none missing
    assert Index(tmp_path, embedder).update(documents()).unchanged == 4


def test_a_crash_before_old_chunks_left_heals(
    tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path, embedder)
    index.update(documents(1))
    changed = [edited(documents(1)[0], "promise number 6", "duty number 6")]
    with monkeypatch.context() as patch:

        def crash(**_: object) -> None:
            raise RuntimeError("killed")

        patch.setattr(type(index._collection), "delete", lambda self, **_: crash())
        with pytest.raises(RuntimeError):
            index.update(changed)
    stats = Index(tmp_path, embedder).update(changed)
    assert stats.embedded == 0
    assert "promise number 6" not in " ".join(chunk.text for chunk in index.chunks()[0])
    assert Index(tmp_path, embedder).update(changed).unchanged == 1


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hashing_embedder import HashingEmbedder
from test_index import documents
import synth_dspy.domains.documents.index as module
module._BATCH = 8
index = module.Index(Path(sys.argv[2]), HashingEmbedder())
index.update(documents(40), progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("batches", [1, 9, 23])
def test_sigkill_half_way_heals(tmp_path: Path, embedder: HashingEmbedder, batches: int) -> None:
    here = str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", KILLED, here, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    done = [int(child.stdout.readline()) for _ in range(batches)][-1]
    child.kill()
    child.communicate()
    stats = Index(tmp_path, embedder).update(documents(40))
    assert len(embedder.seen) <= stats.chunks - done
    assert stats.chunks == len(Index(tmp_path, embedder).chunks()[0]) == 480
    assert Index(tmp_path, embedder).update(documents(40)).unchanged == 40


def test_a_full_disk_is_a_sentence(tmp_path: Path, embedder: HashingEmbedder) -> None:
    index = Index(tmp_path, embedder)

    def full(self: object, **_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(index._collection), "upsert", full)
        with pytest.raises(SetupError, match=r"No space left on device; make room on the disk"):
            index.update(documents())


def test_another_embedder_has_a_collection_of_its_own(tmp_path: Path) -> None:
    small, large = HashingEmbedder("small", 16), HashingEmbedder("large", 128)
    Index(tmp_path, small).update(documents())
    assert Index(tmp_path, large).update(documents()).added == 4
    assert Index(tmp_path, small).update(documents()).unchanged == 4
    assert Index(tmp_path, large).chunks("d0")[1].shape[1] == 128


def test_another_chunk_size_is_another_version(tmp_path: Path, embedder: HashingEmbedder) -> None:
    before = Index(tmp_path, embedder, words=20).update(documents())
    after = Index(tmp_path, embedder, words=80).update(documents())
    assert after.changed == 4
    assert after.chunks < before.chunks


def test_a_folder_that_cannot_be_an_index(tmp_path: Path, embedder: HashingEmbedder) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SetupError, match="The index in"):
        Index(tmp_path / "file", embedder)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "chroma.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(SetupError, match="delete this one"):
        Index(tmp_path / "broken", embedder)
