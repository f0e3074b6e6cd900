"""Documents made to hurt whoever reads them, each a name, its bytes, and what must become of it.

What must become of one is a pattern that the reason for skipping it matches; or `READ`, and then the text must hold
"Insurance is due" where `SENTENCE` is in the file; or `EITHER`, where the libraries of one machine read what those of
another refuse.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Final

SENTENCE: Final = "Insurance is due."
READ: Final = "READ"
EITHER: Final = "EITHER"
MIB: Final = 2**20
Attack = tuple[str, Callable[[], bytes], str]  # file's name, its bytes, what must become of it

_S = SENTENCE.encode()
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATION = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"{more}/>'
    "</Relationships>"
)
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_P = f"<w:p><w:r><w:t>{SENTENCE}</w:t></w:r></w:p>"


def docx(body: str = _P, prolog: str = "", more: Mapping[str, str | bytes] | None = None) -> bytes:
    """A minimal DOCX file with so much in its body, after so much before its root element, and further parts."""
    parts: dict[str, str | bytes] = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": _RELATION.format(kind="officeDocument", target="word/document.xml", more=""),
        "word/document.xml": f"{prolog}<w:document {_W}><w:body>{body}</w:body></w:document>",
        **(more or {}),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return out.getvalue()


def pdf(
    content: bytes = b"BT /F1 12 Tf 72 720 Td (" + _S + b") Tj ET",
    stream: bytes = b"",
    objects: Mapping[int, bytes] | None = None,
    trailer: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A minimal PDF of one page; further entries of its content stream's and of its trailer's dictionary, and objects
    from 6 on or instead of: 1 the catalogue, 2 the pages, 3 the font, 4 the page, 5 its content."""
    bodies = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        4: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R "
        b"/Resources << /Font << /F1 3 0 R >> /XObject << /X 6 0 R >> >> >>",
        5: stream_object(content, stream),
        **(objects or {}),
    }
    out = b"%PDF-1.7\n"
    offsets = {}
    for number, body in sorted(bodies.items()):
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    size = max(bodies) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    out += b"".join(b"%010d 00000 n \n" % offsets.get(number, 0) for number in range(1, size))
    return out + b"trailer << /Size %d /Root 1 0 R %s>>\n%sstartxref\n%d\n%%%%EOF\n" % (size, trailer, after, start)


def stream_object(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(content), entries, content)


def _bomb_docx(unit: bytes, mib: int) -> bytes:
    """A few hundred kB whose body unpacks to so many MiB of one thing."""
    start, end = docx(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(start)) as whole, zipfile.ZipFile(end, "w", zipfile.ZIP_DEFLATED) as file:
        for name in whole.namelist()[:-1]:
            file.writestr(name, whole.read(name))
        with file.open("word/document.xml", "w") as part:
            part.write(f"<w:document {_W}><w:body>".encode())
            for _ in range(mib):
                part.write(unit * (MIB // len(unit)))
            part.write(b"</w:body></w:document>")
    return end.getvalue()


def _lying_docx() -> bytes:
    """Says that its document unpacks to 100 bytes."""
    data = docx(_P * 100_000)
    at = data.rindex(b"word/document.xml") - 46  # in the central directory
    return data[: at + 24] + struct.pack("<I", 100) + data[at + 28 :]


def _overlapping_docx() -> bytes:
    """300 names for one part of 4 MiB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.xml", bytes(4 * MIB))
        (first,) = file.filelist
        for i in range(300):
            again = zipfile.ZipInfo(f"a{i:03}.xml")
            again.compress_type, again.CRC = first.compress_type, first.CRC
            again.compress_size, again.file_size, again.header_offset = first.compress_size, first.file_size, 0
            file.filelist.append(again)
            file.NameToInfo[again.filename] = again
    return out.getvalue()


def _flagged_docx() -> bytes:
    """Its entries say that they are encrypted."""
    data = bytearray(docx())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(sign)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(sign, at + 4)
    return bytes(data)


def _encrypted_pdf(user: str, algorithm: str) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(objects={6: b"null"}))))
    writer.encrypt(user, owner_password="owner", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def _deflated(data: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        data = zlib.compress(data, 9)
    return data


def many_pages(pages: int) -> bytes:
    kids = b"4 0 R " * pages
    return pdf(objects={2: b"<< /Type /Pages /Count %d /Kids [%s] >>" % (pages, kids), 6: b"null"})


_LAUGHS = "<!DOCTYPE w [<!ENTITY a0 'lol'>{}]>".format(
    "".join(f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(12))
)
_XXE = "<!DOCTYPE w [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
_HTML = f"<p>{SENTENCE}</p>".encode()
_CMAP = b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange "


def _mapped(cmap: bytes) -> bytes:
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    return pdf(objects={3: font, 6: stream_object(_CMAP + cmap + b" endcmap end")})


TEXTS: Final[list[Attack]] = [
    ("letters.txt", lambda: b"x" * 100_000, READ),
    ("hexadecimal.md", lambda: _S + b" ![](data:image/png;base64," + b"0123456789abcdef" * 3_750 + b")", READ),
    ("underscores.txt", lambda: b"_" * 40_000 + b" " + _S, READ),
    ("hyphens.txt", lambda: b"ab-\n" * 50_000 + _S, READ),
    ("marks.txt", lambda: ("a" + "\u0301\u0316" * 100_000 + "\n" + SENTENCE).encode(), READ),
    ("wrapped.txt", lambda: b"and more of it without an end\n" * 100_000 + _S, READ),
    ("numbers.txt", lambda: b"No. A " * 100_000 + _S, READ),
    ("newlines.txt", lambda: b"\n" * 2 * MIB + _S, READ),
    ("nul.txt", lambda: b"\0" + _S * 200 + b"\0", READ),
    ("only-nul.txt", lambda: bytes(10_000), "is binary"),
    ("little.txt", lambda: b"\xff\xfe" + SENTENCE.encode("utf-16-le"), READ),
    ("big.txt", lambda: b"\xfe\xff" + SENTENCE.encode("utf-16-be"), READ),
    ("wide.txt", lambda: SENTENCE.encode("utf-32"), READ),
    ("unmarked.txt", lambda: SENTENCE.encode("utf-16-le"), "is binary"),
    ("odd.txt", lambda: b"\xff\xfe" + _S[:-2], "begins as utf-16 text but is not"),
    ("half.txt", lambda: b"\xff\xfe\x00\xd8a\0", "begins as utf-16 text but is not"),
    ("surrogate.txt", lambda: b"\xed\xa0\x80 " + _S, READ),
    ("overlong.txt", lambda: b"\xc0\xaf\xe0\x80\xaf " + _S, READ),
    ("cut.txt", lambda: _S + "é".encode()[:1], READ),
    ("empty.txt", lambda: b"", "is empty"),
    ("mark.txt", lambda: b"\xef\xbb\xbf", "holds no text"),
    ("blank.txt", lambda: "\u200b \u2060\ufeff\u3000\n".encode() * 50, "holds no text"),
    ("escapes.txt", lambda: b"\x1b[2J\x1b]0;owned\x1b\\ " + _S, READ),
    ("gzip.txt", lambda: b"\x1f\x8b\x08\0" + _deflated(bytes(range(256)) * 99), "is binary"),
    ("one.txt", lambda: b"a", READ),
]

PAGES: Final[list[Attack]] = [
    ("divs.html", lambda: b"<div>" * 50_000 + _S, "is nested too deeply"),
    ("closed.html", lambda: b"<b>" * 20_000 + _S + b"</b>" * 20_000, "is nested too deeply"),
    ("levels.html", lambda: b"<div>" * 4_000 + _S, READ),
    ("unclosed.html", lambda: b"<b></p>" * 80_000 + _S, "is nested too deeply"),
    ("anchors.html", lambda: _HTML + b"<a " * 100_000, READ),
    ("comments.html", lambda: _HTML + b"<!--" * 100_000, READ),
    ("sections.html", lambda: _HTML + b"<![CDATA[" * 100_000, READ),
    ("script.html", lambda: _HTML + b"<script>x</" * 50_000, READ),
    ("brackets.html", lambda: b"<" * 500_000 + _HTML, READ),
    ("ampersands.html", lambda: b"&" * 500_000 + _HTML, READ),
    ("references.html", lambda: b"&lt;&#xD800;&#x110000;&#0;&bogus;" * 10_000 + _HTML, READ),
    ("attribute.html", lambda: b'<p title="' + b"x" * 5 * MIB + b'">' + _S, EITHER),
    ("attributes.html", lambda: b"<p " + b"".join(b"a%d=1 " % i for i in range(30_000)) + b">" + _S, READ),
    ("text.html", lambda: b"x" * 12 * MIB + _HTML, EITHER),
    ("tables.html", lambda: b"<table><tr><td>" * 1_000 + _S, READ),
    ("laughs.html", lambda: (_LAUGHS + "<p>&a12;</p>").encode() + _HTML, READ),
    ("punycode.html", lambda: b"<meta charset=punycode>" + _HTML + b"-a" * 1_000, EITHER),
    ("nonsense.html", lambda: b"<meta charset='no-such'>" + _HTML, READ),
    ("zlib.html", lambda: b"<meta charset=zlib_codec>" + _HTML, READ),
    ("escape.html", lambda: b"<meta charset=unicode_escape>" + _HTML + b"\\ud800\\N{DIGIT ONE}", READ),
    ("idna.html", lambda: b"<meta charset=idna>" + b"x" * 200_000 + _HTML, READ),
    ("utf-16.html", lambda: f"<p>{SENTENCE}</p>".encode("utf-16"), READ),
    ("nul.html", lambda: b"<p>\0" + _S * 100, READ),
    ("silent.html", lambda: b"<script>hidden()</script>", "holds no text"),
    ("open.html", lambda: b"<svg><title>" + _S, "holds no text"),
]

WORDS: Final[list[Attack]] = [
    ("bomb.docx", lambda: _bomb_docx(b" ", 256), r"unpacks to too much \(256 MiB; at most 200 MiB"),
    ("swelling.docx", lambda: _bomb_docx(b"<w:p/>", 100), "MiB of memory|takes longer|is not a DOCX|crashes"),
    ("overlapping.docx", _overlapping_docx, "unpacks to too much|is not a DOCX"),
    ("lying.docx", _lying_docx, "is not a DOCX"),
    ("laughs.docx", lambda: docx(f"{_P}<w:p><w:r><w:t>&a12;</w:t></w:r></w:p>", _LAUGHS), EITHER),
    ("entity.docx", lambda: docx(f"{_P}<w:p><w:r><w:t>&x;</w:t></w:r></w:p>", _XXE), READ),
    ("nested.docx", lambda: docx("<w:p>" * 100_000), "is not a DOCX"),
    ("tables.docx", lambda: docx("<w:tbl><w:tr><w:tc>" * 80 + _P + "</w:tc></w:tr></w:tbl>" * 80), EITHER),
    ("span.docx", lambda: docx(
        '<w:tbl><w:tblGrid/><w:tr><w:tc><w:tcPr><w:gridSpan w:val="2000000000"/></w:tcPr>'
        f"{_P}</w:tc></w:tr></w:tbl>"), "MiB of memory|takes longer"),
    ("merged.docx", lambda: docx(
        "<w:tbl><w:tblGrid><w:gridCol/></w:tblGrid>" + '<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr><w:p/></w:tc></w:tr>'
        * 3_000 + "</w:tbl>" + _P), EITHER),
    ("loop.docx", lambda: docx(more={"word/_rels/document.xml.rels": _RELATION.format(
        kind="officeDocument", target="document.xml", more="")}), READ),
    ("outside.docx", lambda: docx(more={"word/_rels/document.xml.rels": _RELATION.format(
        kind="image", target="file:///etc/passwd", more=' TargetMode="External"')}), READ),
    ("traversal.docx", lambda: docx(more={"../../../../tmp/owned.txt": "owned"}), READ),
    ("climbing.docx", lambda: docx(more={"word/_rels/document.xml.rels": _RELATION.format(
        kind="image", target="../../../etc/passwd", more="")}), EITHER),
    ("entries.docx", lambda: docx(more={f"a{i}.xml": "" for i in range(30_000)}), READ),
    ("flagged.docx", _flagged_docx, "is not a DOCX"),
    ("cut.docx", lambda: docx()[:-30], "is not a DOCX"),
    ("head.docx", lambda: docx()[40:], EITHER),
    ("text.docx", lambda: _S, "is not a DOCX"),
    ("old.docx", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "is encrypted, or an old .doc"),
    ("bare.docx", lambda: docx("")[:0] + b"PK\x05\x06" + bytes(18), "is not a DOCX"),
    ("wrong.docx", lambda: docx(prolog="<w:wrong/>"), "is not a DOCX"),
    ("utf-7.docx", lambda: docx(prolog='<?xml version="1.0" encoding="utf-7"?>'), EITHER),
]  # fmt: skip

PAPERS: Final[list[Attack]] = [
    ("garbage.pdf", lambda: b"%PDF-1.7\n" + bytes(range(256)) * 40, "is not a PDF"),
    ("cut.pdf", lambda: pdf()[:150], "is not a PDF|holds no text"),
    ("kids.pdf", lambda: pdf(objects={2: b"<< /Type /Pages /Count 1 /Kids [2 0 R 4 0 R] >>", 6: b"null"}), EITHER),
    ("parent.pdf", lambda: pdf(objects={
        2: b"<< /Type /Pages /Count 1 /Kids [4 0 R] /Parent 2 0 R >>",
        4: b"<< /Type /Page /Parent 4 0 R /Contents 5 0 R >>", 6: b"null"}), EITHER),
    ("previous.pdf", lambda: pdf(objects={6: b"null"}, trailer=b"/Prev 700 "), EITHER),
    ("deflated.pdf", lambda: pdf(_deflated(bytes(256 * MIB)), b"/Filter /FlateDecode ", {6: b"null"}),
     "is not a PDF|holds no text|MiB of memory|takes longer"),
    ("filters.pdf", lambda: pdf(
        _deflated(bytes(256 * MIB), 3), b"/Filter [/FlateDecode /FlateDecode /FlateDecode] ", {6: b"null"}),
     "is not a PDF|holds no text|MiB of memory|takes longer"),
    ("lengths.pdf", lambda: pdf(bytes([129, 32]) * MIB, b"/Filter /RunLengthDecode ", {6: b"null"}),
     "is not a PDF|holds no text|MiB of memory|takes longer"),
    ("arrays.pdf", lambda: pdf(b"[" * 200_000, objects={6: b"null"}), EITHER),
    ("objects.pdf", lambda: pdf(objects={
        1: b"<< /Pages 2 0 R /A " + b"[" * 100_000 + b"]" * 100_000 + b" >>"}), EITHER),
    ("dictionaries.pdf", lambda: pdf(objects={1: b"<< /A " * 50_000}), "is not a PDF|nested|crashes|takes longer"),
    ("count.pdf", lambda: pdf(objects={2: b"<< /Type /Pages /Count 999999999 /Kids [4 0 R] >>", 6: b"null"}), EITHER),
    ("length.pdf", lambda: pdf(stream=b"/Length 99999999999 ", objects={6: b"null"}), EITHER),
    ("negative.pdf", lambda: pdf(stream=b"/Length -5 ", objects={6: b"null"}), EITHER),
    ("itself.pdf", lambda: pdf(objects={5: b"5 0 R", 6: b"6 0 R"}), EITHER),
    ("form.pdf", lambda: pdf(b"/X Do", objects={6: stream_object(
        b"/X Do /X Do", b"/Type /XObject /Subtype /Form /Resources << /XObject << /X 6 0 R >> >> ")}), EITHER),
    ("range.pdf", lambda: _mapped(b"1 beginbfrange <00000000> <FFFFFFFF> <0000> endbfrange"), EITHER),
    ("halves.pdf", lambda: _mapped(b"1 beginbfrange <41> <7A> <D800> endbfrange"), EITHER),
    ("locked.pdf", lambda: _encrypted_pdf("secret", "RC4-128"), "is encrypted with a password"),
    ("opened.pdf", lambda: _encrypted_pdf("", "RC4-128"), READ),
    ("odd.pdf", lambda: pdf(objects={6: b"null"}, trailer=b"/Encrypt 6 0 R /ID [<00> <00>] "), EITHER),
    ("sizes.pdf", lambda: pdf(trailer=b"/Size 999999999 ", objects={6: b"null"}), EITHER),
    ("strings.pdf", lambda: pdf(b"BT /F1 12 Tf " + b"(" * 300_000, objects={6: b"null"}), EITHER),
    ("names.pdf", lambda: pdf(objects={
        3: b"<< /Type /Font /BaseFont /#00#FF#1B /Encoding /#ZZ >>", 6: b"null"}), EITHER),
    ("image.pdf", lambda: pdf(b"BI /W 1 /H 1 ID " + b"x" * 500_000, objects={6: b"null"}), EITHER),
]  # fmt: skip
