"""What lies in a folder besides good files: links, pipes, devices, odd names, files that change."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Skipped
from synth_dspy.core.printable import printable_name
from synth_dspy.domains.documents import documents as documents_module
from synth_dspy.domains.documents import folder as folder_module
from synth_dspy.domains.documents.documents import read_folder
from synth_dspy.domains.documents.index import Index

SENTENCE = "Insurance is due."
READ = ".txt, .text, .md, .markdown, .rst, .html, .htm, .pdf or .docx"
OUTSIDE = "is a link out of the folder, which is not followed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "good.txt").write_text(SENTENCE)
    (tmp_path / "secret.txt").write_text("The password is swordfish.")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key.txt").write_text("The key is swordfish.")
    return folder


def reasons(folder: Path) -> dict[str, str]:
    """Why files were skipped; only good.txt may have been read."""
    documents, skipped = read_folder(folder)
    assert [document.path for document in documents] == ["good.txt"]
    return {item.path: item.why for item in skipped}


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("../secret.txt", OUTSIDE),
        ("../secrets", OUTSIDE),
        ("../documents/../secret.txt", OUTSIDE),
        ("..", OUTSIDE),
        ("/etc/passwd", OUTSIDE),
        ("/dev/zero", OUTSIDE),
        ("/dev/tty", OUTSIDE),
        ("/proc/self/environ", OUTSIDE),
        ("/proc/self/fd/0", OUTSIDE),
        ("nowhere.txt", "is a link to nothing"),
        ("link.txt", "is a link that leads in a circle"),
        (".", "is a link to a folder, which is not followed"),
        ("good.txt/x", "is a link to nothing"),
        ("x" * 255 + "/" + "y" * 255, "is a link to nothing"),
    ],
)
def test_links_are_listed_not_followed(folder: Path, target: str, why: str) -> None:
    (folder / "link.txt").symlink_to(target)
    assert reasons(folder) == {"link.txt": why}


def test_a_chain_of_links_that_ends_outside_is_not_followed(folder: Path) -> None:
    (folder / "a.txt").symlink_to("b.txt")
    (folder / "b.txt").symlink_to("../secret.txt")
    assert reasons(folder) == {"a.txt": OUTSIDE, "b.txt": OUTSIDE}


def test_two_links_in_a_circle_are_listed(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert set(reasons(folder).values()) == {"is a link that leads in a circle"}


def test_links_within_the_folder_are_read(folder: Path) -> None:
    (folder / "blobs").mkdir()
    (folder / "blobs" / "1f3a").write_text(SENTENCE)
    (folder / "lease.txt").symlink_to("blobs/1f3a")
    documents, _ = read_folder(folder)
    assert [document.path for document in documents] == ["good.txt", "lease.txt"]


def test_a_folder_or_a_file_given_as_a_link_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "one.txt").symlink_to(folder / "good.txt")
    assert [document.id for document in read_folder(tmp_path / "link")[0]] == ["good"]
    assert [document.id for document in read_folder(tmp_path / "one.txt")[0]] == ["one"]


def test_pipes_and_sockets_are_listed_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.txt")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.txt")
    (folder / "link.txt").symlink_to("pipe.txt")
    assert reasons(folder) == {
        "link.txt": "is a named pipe, not a file",
        "pipe.txt": "is a named pipe, not a file",
        "socket.txt": "is a socket, not a file",
    }


def test_a_device_is_listed_not_opened(folder: Path) -> None:
    try:
        os.mknod(folder / "zero.txt", 0o20600, os.makedev(1, 5))
    except OSError:
        pytest.skip("only root makes devices")
    assert reasons(folder) == {"zero.txt": "is a device, not a file"}


def test_a_pipe_given_as_the_folder_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(SetupError, match=r"\(pipe.txt is a named pipe, not a file\)"):
        read_folder(tmp_path / "pipe.txt")


def test_folders_named_like_files_are_folders(folder: Path) -> None:
    (folder / "contract.pdf").mkdir()
    (folder / "contract.pdf" / "part.txt").write_text(SENTENCE)
    assert [document.path for document in read_folder(folder)[0]] == ["contract.pdf/part.txt", "good.txt"]


def test_folders_nested_deeper_than_calls_may_be_are_read(folder: Path) -> None:
    depth = 1_100
    place = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("a", dir_fd=place)
        inner = os.open("a", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(os.open("deep.txt", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    try:
        assert reasons(folder) == {"a/" * depth + "deep.txt": "is empty"}
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)  # pytest's own removal of old folders calls itself


def test_a_path_too_long_to_open_is_listed(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("a" * 250, dir_fd=place)
        inner = os.open("a" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    (why,) = reasons(folder).values()
    assert why == f"cannot be opened ({os.strerror(errno.ENAMETOOLONG)})"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_files_and_folders_that_may_not_be_opened_are_listed(folder: Path) -> None:
    (folder / "closed.txt").write_text(SENTENCE)
    (folder / "closed.txt").chmod(0)
    (folder / "closed").mkdir(mode=0)
    why = f"cannot be opened ({os.strerror(errno.EACCES)})"
    assert reasons(folder) == {"closed.txt": why, "closed": why}


def test_what_the_system_refuses_to_open_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed.txt").write_text(SENTENCE)
    open_file = os.open

    def refuse(path: str, flags: int) -> int:
        if path.endswith("closed.txt"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, flags)

    monkeypatch.setattr(folder_module.os, "open", refuse)
    assert reasons(folder) == {"closed.txt": "cannot be opened (Permission denied)"}


def _vanish(path: Path) -> None:
    path.unlink()


def _become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../secret.txt")


def _become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_vanish, f"cannot be opened ({os.strerror(errno.ENOENT)})"),
        (_become_link, OUTSIDE),
        (_become_pipe, "is a named pipe, not a file"),
        (_become_folder, f"cannot be opened ({os.strerror(errno.EISDIR)})"),
    ],
)
def test_files_that_change_after_they_were_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], why: str
) -> None:
    (folder / "odd.txt").write_text(SENTENCE)
    list_files = documents_module.list_files

    def listed_then_changed(root: Path) -> object:
        files = list_files(root)
        change(folder / "odd.txt")
        return files

    monkeypatch.setattr(documents_module, "list_files", listed_then_changed)
    assert reasons(folder) == {"odd.txt": why}


@pytest.mark.parametrize("length", [3, 100])
def test_a_file_that_grows_or_shrinks_while_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    (folder / "odd.txt").write_text(SENTENCE)
    status = os.fstat

    def changed_after(descriptor: int) -> os.stat_result:
        result = status(descriptor)
        if os.path.samestat(result, (folder / "odd.txt").stat()):
            os.truncate(folder / "odd.txt", length)
        return result

    monkeypatch.setattr(folder_module.os, "fstat", changed_after)
    assert reasons(folder) == {"odd.txt": "changes while it is read"}


def test_a_huge_file_is_not_read(folder: Path) -> None:
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(10 * 2**30)  # sparse
    assert reasons(folder) == {"huge.txt": "is too large (10,240.0 MiB; at most 20 MiB are read)"}


NAMES = {
    b"caf\xe9.txt": "caf\\xe9",
    "contract\u202efdp.txt".encode(): "contract\\u202efdp",
    "a\U000e0041\U000e007f.txt".encode(): "a\\U000e0041\\U000e007f",
    b"\x1b[2Jclear.txt": "\\x1b[2Jclear",
    b"two\nlines.txt": "two\\nlines".replace("\\n", "\\x0a"),
    b"bell\x07\x7f.txt": "bell\\x07\\x7f",
    "half\ud800.txt".encode("utf-8", "surrogatepass"): "half\\xed\\xa0\\x80",
    "wide\u202fblank\u3000.txt".encode(): "wide blank ",
    "zero\u200bwidth\u2066.txt".encode(): "zero\\u200bwidth\\u2066",
    "private\ue000.txt".encode(): "private\\ue000",
    b"<script>alert(1)<|im_end|>.txt": "<script>alert(1)<|im_end|>",
    "Vertrag – Zürich ✓ 契約.txt".encode(): "Vertrag – Zürich ✓ 契約",
    b"x" * 251 + b".txt": "x" * 251,
    b" .txt": " ",
    b"-rf.txt": "-rf",
    b"%s{0}$HOME.txt": "%s{0}$HOME",
}


def test_odd_names_become_harmless_ids(tmp_path: Path) -> None:
    """In ids, titles, paths, JSON, the index and on a terminal."""
    for name in NAMES:
        with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:
            file.write(SENTENCE)
    documents, skipped = read_folder(tmp_path)
    assert skipped == []
    assert {document.id for document in documents} == set(NAMES.values())
    for document in documents:
        assert document.id.isprintable()
        assert document.title == document.id
        assert document.path == f"{document.id}.txt"
        json.dumps(document.id, ensure_ascii=False).encode()
    index = Index(tmp_path / "index", HashingEmbedder())
    assert index.update(documents).added == len(NAMES)
    assert {chunk.document for chunk in index.chunks()[0]} == set(NAMES.values())


def test_odd_names_of_skipped_files_are_harmless(folder: Path) -> None:
    for name in (b"\xff\x1b[31m.p\xffdf", "a\u202etxt.exe".encode(), b"\xff.txt"):
        (Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))).touch()
    os.symlink("../secret.txt", os.path.join(os.fsencode(folder), b"\xfe.txt"))
    skip_reasons = reasons(folder)
    assert set(skip_reasons) == {"\\xff\\x1b[31m.p\\xffdf", "a\\u202etxt.exe", "\\xff.txt", "\\xfe.txt"}
    assert all(f"{path} {why}".isprintable() for path, why in skip_reasons.items())


def test_names_that_are_shown_alike_have_ids_of_their_own(tmp_path: Path) -> None:
    for name in (b"caf\xe9.txt", b"caf\\xe9.txt", "a\u00a0b.txt".encode(), b"a b.txt"):
        with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:
            file.write(SENTENCE)
    documents, _ = read_folder(tmp_path)
    assert len({document.id for document in documents}) == 4


def test_a_folder_whose_name_is_odd(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J"))
    with pytest.raises(SetupError, match=r"\\xff\\x1b\[2J, which does not exist") as caught:
        read_folder(folder)
    assert str(caught.value).isprintable()
    folder.mkdir()
    (folder / "a.txt").write_text(SENTENCE)
    assert [document.path for document in read_folder(folder)[0]] == ["a.txt"]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "~no-such-user/documents"])
def test_impossible_folders_are_one_sentence(name: str) -> None:
    with pytest.raises(SetupError, match=r"Looked for documents in .*; check the path") as caught:
        read_folder(Path(name))
    assert str(caught.value).isprintable()


def test_skipped_files_are_in_order(folder: Path) -> None:
    os.mkfifo(folder / "b.txt")
    (folder / "a.txt").touch()
    (folder / "c.png").touch()
    (folder / "d").touch()
    assert read_folder(folder)[1] == [
        Skipped("a.txt", "is empty"),
        Skipped("b.txt", "is a named pipe, not a file"),
        Skipped("c.png", f"has the ending .png, and only {READ} files are read"),
        Skipped("d", f"has no ending, and only {READ} files are read"),
    ]


def test_printable_names_stay_as_they_are() -> None:
    for name in ("lease", "Müller & Söhne (2)", "契約書", "עברית", "a-b_c.d", "naïve’s"):
        assert printable_name(name) == name
