"""Documents of every kind, damaged at random: each is read or skipped with a phrase, in bounded time and memory.

`--fuzz N` says how many of each kind. They go through the child process, which bounds both. That it crashes is a
failure here, though a run would survive it.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.chunks import chunk_document
from synth_dspy.domains.documents.documents import read_folder
from synth_dspy.domains.documents.reader_process import Limits, ReaderProcess
from synth_dspy.domains.documents.readers import Unreadable

sys.path.append(str(Path(__file__).parents[1] / "corpus"))
from hostile_files import docx, pdf, stream_object

_STREAM = b"BT /F1 12 Tf 1 0 0 1 72 720 Tm [(The) -250 (price)] TJ T* (is due.) ' ET q /X Do Q"
SEEDS = {
    ".txt": [b"1. Price\n\nThe buyer shall pay EUR 100,-\nwithin ten days.\f2\n", "Zürich".encode("utf-16")],
    ".md": [
        b"# Title\n\n- item (a);  1.2 Section\n\n| a | b |\n|---|---|\n",
        "naïve “x” ﬁ\u00ad".encode("cp1252", "replace"),
    ],
    ".html": [
        b"<!DOCTYPE html><html><head><meta charset=utf-8><title>T</title></head><body><p class='a'>One &amp; two<br>"
        b"<table><tr><td>1</td></tr></table><!-- c --><script>x</script><![CDATA[y]]></p></body></html>"
    ],
    ".pdf": [
        pdf(_STREAM, objects={6: stream_object(b"(form) Tj", b"/Type /XObject /Subtype /Form /BBox [0 0 1 1] ")}),
        pdf(_STREAM.hex().encode() + b">", b"/Filter /ASCIIHexDecode ", {6: b"null"}),
    ],
    ".docx": [docx()],
}
TOKENS = [
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"<",
    b">",
    b"&",
    b"&#xD800;",
    b"<b>",
    b"</p>",
    b"<!--",
    b"]]>",
    b"<svg>",
    b"((",
    b"))",
    b"[" * 400,
    b"<<" * 400,
    b">>",
    b" 5 0 R ",
    b" 2 0 R ",
    b"999999999",
    b"-1",
    b"endstream",
    b"endobj",
    b"stream\n",
    b"/Filter /LZWDecode ",
    b"/Kids [2 0 R]",
    b"/Prev 9 ",
    b"/Length 99999",
    b"PK\x05\x06",
    b"\xff\xff\xff\xff",
    b"<w:p>",
    b"<w:tbl><w:tr><w:tc>",
    b"<w:gridSpan w:val='99999999'/>",
    b"-\n",
    b"\f",
    b"\x1b[2J",
    b"x" * 5_000,
    "\u0301\u0316".encode() * 500,
    b"\r",
]


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid file with some places cut, overwritten, doubled or filled with what means something; or any bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300))
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        put = draw(st.sampled_from(TOKENS) | st.binary(max_size=8))
        data = draw(
            st.sampled_from([data[:start], data[:start] + data[end:], data[:start] + put + data[start:],
                             data[:start] + put + data[end:], data[:end] + data[start:]])
        )  # fmt: skip
    return data


def damaged_parts(archive: bytes) -> st.SearchStrategy[bytes]:
    """A DOCX file that is a whole archive of which one part is damaged."""
    with zipfile.ZipFile(BytesIO(archive)) as file:
        parts = {name: file.read(name) for name in file.namelist()}

    def packed(changed: tuple[str, bytes]) -> bytes:
        out = BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            for name, part in {**parts, changed[0]: changed[1]}.items():
                file.writestr(name, part)
        return out.getvalue()

    choices = [st.tuples(st.just(name), damaged([part])) for name, part in parts.items()]
    return st.one_of(choices).map(packed)


def _element(name: str, inner: list[str]) -> str:
    return f"<w:{name}>{''.join(inner)}</w:{name}>"


elements = st.recursive(
    st.sampled_from(
        ["<w:p><w:r><w:t>The price is due.</w:t></w:r></w:p>", "<w:br/>", "<w:tab/>", "<w:vMerge/>", "<w:sectPr/>"]
    )
    | st.integers(-1, 10**6).map(lambda span: f'<w:tcPr><w:gridSpan w:val="{span}"/></w:tcPr>'),
    lambda inner: st.builds(_element, st.sampled_from(["p", "r", "tbl", "tr", "tc", "tcPr", "sdt"]), st.lists(inner)),
    max_leaves=40,
)
"""What a DOCX file's body holds: its elements, in each other as they come."""


@pytest.fixture(scope="module")
def process() -> Iterator[ReaderProcess]:
    with ReaderProcess(Limits(seconds=10.0)) as process:
        yield process


@pytest.mark.parametrize("suffix", SEEDS)
def test_damaged_documents_are_read_or_skipped(
    suffix: str, process: ReaderProcess, request: pytest.FixtureRequest
) -> None:
    inputs = damaged(SEEDS[suffix])
    if suffix == ".docx":
        inputs |= damaged_parts(SEEDS[suffix][0]) | elements.map(docx)

    @_settings(request)
    @given(inputs)
    def reads_or_skips(data: bytes) -> None:
        why = None
        try:
            text = process.read(suffix, data)
        except Unreadable as reason:
            why, text = str(reason), ""
        assert why is None or (why.isprintable() and not why.startswith("crashes"))
        text.encode()
        chunks = chunk_document(Document("a", "a", text, "a"))
        assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())

    reads_or_skips()


def test_folders_of_any_names_are_read(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    names = st.binary(min_size=1, max_size=60).filter(
        lambda name: not {0, 47} & set(name) and not name.startswith(b".")
    )
    number = iter(range(10**9))

    @_settings(request)
    @given(st.lists(names, max_size=4, unique=True), st.sampled_from([b"", b".txt", b".TXT", b".md"]))
    def reads_or_skips(stems: list[bytes], suffix: bytes) -> None:
        folder = tmp_path / str(next(number))
        folder.mkdir()
        for stem in stems:
            with open(os.path.join(os.fsencode(folder), stem + suffix), "wb") as file:
                file.write(stem * 3)
        (folder / "good.txt").write_text("Insurance is due.")
        documents, skipped = read_folder(folder)
        assert len(documents) + len(skipped) == len({*(stem + suffix for stem in stems), b"good.txt"})
        assert len({document.id for document in documents}) == len(documents)
        assert all(f"{document.id}{document.title}{document.path}".isprintable() for document in documents)
        assert all(f"{item.path} {item.why}".isprintable() for item in skipped)

    reads_or_skips()


def _settings(request: pytest.FixtureRequest) -> settings:
    return settings(
        max_examples=request.config.getoption("--fuzz"),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
