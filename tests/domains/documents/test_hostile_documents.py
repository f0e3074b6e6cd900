"""Documents that were made to stop a run: each costs one line in the list of skipped files, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hostile_files import EITHER, PAGES, PAPERS, READ, SENTENCE, TEXTS, WORDS, Attack, docx, many_pages, pdf

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents import reader_process
from synth_dspy.domains.documents.documents import read_folder
from synth_dspy.domains.documents.reader_process import Limits, ReaderProcess
from synth_dspy.domains.documents.readers import Unreadable

LIMITS = Limits(memory_bytes=512 * 2**20)


@pytest.mark.parametrize("attacks", [TEXTS, PAGES, WORDS, PAPERS], ids=["texts", "pages", "words", "papers"])
def test_hostile_files_cost_one_line_each(attacks: list[Attack], tmp_path: Path) -> None:
    files = {name: make() for name, make, _ in attacks}
    for name, data in files.items():
        assert len(data) < 20 * 2**20, "it would be skipped for its size"
        (tmp_path / name).write_bytes(data)
    (tmp_path / "zz.txt").write_text(SENTENCE)
    documents, skipped = read_folder(tmp_path, LIMITS)
    texts = {document.path: document.text for document in documents}
    reasons = {item.path: item.why for item in skipped}
    assert texts["zz.txt"] == SENTENCE
    assert texts.keys() | reasons.keys() == {name for name, _, _ in attacks} | {"zz.txt"}
    assert len(texts) + len(reasons) == len(attacks) + 1
    for name, _, expected in attacks:
        if expected == READ:
            assert name in texts, f"{name} {reasons.get(name)}"
            if SENTENCE.encode() in files[name]:
                assert SENTENCE in texts[name], name
        elif expected != EITHER:
            assert re.search(expected, reasons.get(name, "was read")), f"{name}: {reasons.get(name, texts.get(name))}"
        assert reasons.get(name, "").isprintable()
        texts.get(name, "").encode()  # can be written down
        assert "\x1b" not in texts.get(name, "")
        assert "root:" not in texts.get(name, "")  # of /etc/passwd


def test_a_child_that_crashes_or_is_killed_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it dies in the middle of a file; the next file gets a new one."""
    for i, act in enumerate(["os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "os._exit(3)", "sys.exit(0)"]):
        (tmp_path / f"{i}.html").write_text(act)
        (tmp_path / f"{i}b.html").write_text(f"<p>{SENTENCE}</p>")
    _change_child(
        monkeypatch, "import ctypes, os, sys; exec(data) if data.startswith((b'os', b'ctypes', b'sys')) else None"
    )
    documents, skipped = read_folder(tmp_path, LIMITS)
    assert [document.id for document in documents] == ["0b", "1b", "2b", "3b"]
    assert [item.path for item in skipped] == ["0.html", "1.html", "2.html", "3.html"]
    assert [item.why.partition(" (")[0] for item in skipped] == ["crashes the process that reads it"] * 4
    assert "signal 9" in skipped[0].why
    assert "exit status 3" in skipped[2].why


def test_a_child_that_loops_or_sleeps_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text("while True: pass")
    (tmp_path / "b.html").write_text("import time; time.sleep(1e6)")
    (tmp_path / "c.html").write_text("x = bytearray(2**40)")
    (tmp_path / "d.html").write_text(f"<p>{SENTENCE}</p>")
    _change_child(monkeypatch, "exec(data) if not data.startswith(b'<') else None")
    documents, skipped = read_folder(tmp_path, Limits(seconds=0.1))
    assert [document.id for document in documents] == ["d"]
    assert [item.why.split(" than ")[0] for item in skipped] == ["takes longer", "takes longer", "takes more"]
    assert skipped[2].why == "takes more than 1024 MiB of memory to read"


def test_memory_is_bounded_where_the_kernel_does_not_bound_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = "resource.setrlimit = lambda kind, values: None"
    _change_child(monkeypatch, "x = b'x' * 300 * 2**20; import time; time.sleep(1e6)", unlimited)
    with (
        ReaderProcess(Limits(memory_bytes=200 * 2**20)) as process,
        pytest.raises(Unreadable, match="takes more than 200 MiB of memory"),
    ):
        process.read(".html", b"<p>a</p>")


def test_the_child_has_no_keys_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    _change_child(
        monkeypatch,
        f"import os; assert 'OPENAI_API_KEY' not in os.environ; os.write(os.open({str(tmp_path / 'out')!r}, 65), b'x')",
    )
    with ReaderProcess(LIMITS) as process, pytest.raises(Unreadable, match="File too large"):
        process.read(".html", b"<p>a</p>")
    assert (tmp_path / "out").stat().st_size == 0


def test_modules_of_the_working_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lxml.py", "docx.py", "json.py", "pypdf.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with ReaderProcess(LIMITS) as process:
        assert process.read(".docx", docx()) == SENTENCE
        assert process.read(".pdf", pdf(objects={6: b"null"})) == SENTENCE


def test_a_child_that_cannot_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_process, "_CODE", "raise SystemExit('no such library')")
    with (
        ReaderProcess(LIMITS) as process,
        pytest.raises(SetupError, match=r"could not be started \(no such library\)\."),
    ):
        process.read(".html", b"<p>a</p>")


def test_one_child_reads_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = reader_process.subprocess.Popen
    monkeypatch.setattr(
        reader_process.subprocess, "Popen", lambda *args, **options: started.append(1) or popen(*args, **options)
    )
    with ReaderProcess(LIMITS) as process:
        for i in range(50):
            assert process.read(".html", f"<p>{i}</p>".encode()) == str(i)
    assert started == [1]


def test_small_text_needs_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_process, "_CODE", "raise SystemExit")
    (tmp_path / "a.md").write_text(SENTENCE)
    assert read_folder(tmp_path)[0][0].text == SENTENCE


def test_limits_are_settable_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SENTENCE * 100)
    (tmp_path / "b.txt").write_text(SENTENCE)
    _, (skipped,) = read_folder(tmp_path, Limits(file_bytes=1024))
    assert skipped.why == "is too large (0.0 MiB; at most 0.000976562 MiB are read)"
    (tmp_path / "c.docx").write_bytes(docx(f"<w:p><w:r><w:t>{SENTENCE * 5_000}</w:t></w:r></w:p>"))
    _, skips = read_folder(tmp_path, Limits(file_bytes=64 * 1024))
    assert [item.why for item in skips] == ["holds too much text (more than 0.0625 MiB)"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make"), [("pages.pdf", lambda: many_pages(100_000)), ("words.txt", lambda: b"x" * 19_000_000)]
)
def test_large_hostile_files_end(name: str, make: object, tmp_path: Path) -> None:
    assert callable(make)
    (tmp_path / name).write_bytes(make())
    (tmp_path / "zz.txt").write_text(SENTENCE)
    documents, skipped = read_folder(tmp_path, Limits(seconds=3))
    if name == "words.txt":
        assert [len(document.text) for document in documents] == [19_000_000, len(SENTENCE)]
    else:
        assert re.search("takes longer|MiB of memory", skipped[0].why)


def _change_child(monkeypatch: pytest.MonkeyPatch, statement: str, before: str = "pass") -> None:
    """Have the child run a statement for every HTML file, with its bytes as `data`, before reading it."""
    code = (
        f"{reader_process._CODE.rpartition('; main()')[0]}\n"
        f"import resource\nfrom synth_dspy.domains.documents import readers\n{before}\nread = readers._read_html\n"
        f"def hostile(data):\n    {statement}\n    return read(data)\n"
        "readers.READERS['.html'] = hostile\nmain()"
    )
    monkeypatch.setattr(reader_process, "_CODE", code)
