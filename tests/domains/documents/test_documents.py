"""Documents: every kind that is read, and every way in which a file can be unreadable."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.documents import read_folder

SENTENCE = "The Supplier shall keep the Goods insured until delivery."


def pdf(*pages: str) -> bytes:
    """A minimal PDF with one line of text on each page."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * i} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def encrypted_pdf() -> bytes:
    import io

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(SENTENCE))))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def write_docx(path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading("SUPPLY AGREEMENT")
    document.add_paragraph(SENTENCE)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text = "Price"
    table.rows[0].cells[1].text = "EUR 4,200"
    document.save(str(path))


def test_every_kind_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SENTENCE)
    (tmp_path / "b.md").write_text(f"# Insurance\n\n{SENTENCE}\n")
    (tmp_path / "c.html").write_text(
        "<html><head><title>Supply</title><style>p {{}}</style></head><body><script>track()</script>"
        "<p>The Supplier shall keep the <b>Goods</b> insured<br>until delivery.</p><ul><li>one</li></ul></body></html>"
    )
    (tmp_path / "d.pdf").write_bytes(pdf(SENTENCE))
    write_docx(tmp_path / "e.docx")
    documents, skipped = read_folder(tmp_path)
    assert skipped == []
    assert [document.id for document in documents] == ["a", "b", "c", "d", "e"]
    for document in documents:
        assert SENTENCE in " ".join(document.text.split()), document.path
    by_id = {document.id: document.text for document in documents}
    assert "track" not in by_id["c"]
    assert "Price | EUR 4,200" in by_id["e"]


def test_unreadable_files_are_named_with_why(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(SENTENCE)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.txt").write_text(" \n\n ... \n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "large.txt").write_text("All work and no play. " * 1_430_000)  # 30 MB
    (tmp_path / "corrupt.pdf").write_bytes(b"%PDF-1.4\nthis is not really one")
    (tmp_path / "truncated.pdf").write_bytes(pdf(SENTENCE)[:200])
    (tmp_path / "locked.pdf").write_bytes(encrypted_pdf())
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    (tmp_path / "corrupt.docx").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "locked.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512)
    with zipfile.ZipFile(tmp_path / "no-word.docx", "w") as file:
        file.writestr("hello.txt", "hello")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text(SENTENCE)
    documents, skipped = read_folder(tmp_path)
    assert [document.id for document in documents] == ["good"]
    why = {item.path: item.why for item in skipped}
    assert why["empty.txt"] == "is empty"
    assert why["blank.txt"] == "holds no text"
    assert why["binary.txt"] == "is binary, not text"
    assert "too large (30.0 MiB; at most 20 MiB" in why["large.txt"]
    assert "not a PDF file" in why["corrupt.pdf"]
    assert "not a PDF file" in why["truncated.pdf"]
    assert "encrypted" in why["locked.pdf"]
    assert "text recognition" in why["scan.pdf"]
    assert "not a DOCX file" in why["corrupt.docx"]
    assert "encrypted" in why["locked.docx"]
    assert "not a DOCX file" in why["no-word.docx"]
    assert ".png" in why["photo.png"]
    assert len(why) == 12


def test_folder_with_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(SetupError, match="holds no files"):
        read_folder(tmp_path)
    (tmp_path / "bad.pdf").write_bytes(b"nothing")
    with pytest.raises(SetupError, match=r"none of its 1 files can be read \(bad.pdf is not a PDF"):
        read_folder(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_give_the_same_text(tmp_path: Path, encoding: str) -> None:
    text = "Café “Zürich” owes £100 – naïvely."
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (document,), _ = read_folder(tmp_path)
    assert document.text == text


def test_ids_are_stable_and_unique(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "lease.txt").write_text("One lease.")
    (tmp_path / "lease.txt").write_text("Another lease.")
    (tmp_path / "nda.txt").write_text("Not to be disclosed.")
    first, _ = read_folder(tmp_path)
    assert len({document.id for document in first}) == 3
    assert [document.id for document in first if document.path == "nda.txt"] == ["nda"]
    assert [document.id for document in read_folder(tmp_path)[0]] == [document.id for document in first]


def test_single_file_is_a_folder_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SENTENCE)
    (tmp_path / "b.txt").write_text(SENTENCE)
    documents, _ = read_folder(tmp_path / "a.txt")
    assert [document.id for document in documents] == ["a"]
