"""Readers: from the bytes of a file to clean text, or to a phrase that says why it cannot be read.

All but plain text is parsed in a separate process (`reader_process.py`), because parsers of foreign files loop, crash
and fill the memory. That process has limits, so the readers need none.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import Any, Final

from synth_dspy.domains.documents.cleaning import clean

PLAIN: Final = (".txt", ".text", ".md", ".markdown", ".rst")
MAX_INFLATED: Final = 200 * 2**20
"""Total size in bytes that a DOCX file's parts may unpack to."""
MAX_DEPTH: Final = 5_000
"""Nesting depth of an HTML page's elements. Pages with unclosed tags reach hundreds."""

_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r\f\b\x1b")
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# A page declares its encoding within its first 1,024 bytes, as in browsers.
_DECLARED: Final = re.compile(rb"<(?:meta|\?xml)\b[^>]*?\b(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
_SLICE: Final = 2**16
_LEFT_OUT: Final = frozenset({"script", "style", "noscript", "template", "nav", "svg"})
_PARAGRAPHS: Final = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "tr"})
_LINES: Final = _PARAGRAPHS | {"div", "br", "title", "section", "table"}
_CELLS: Final = frozenset({"td", "th"})


class Unreadable(Exception):
    """A file cannot be read; the message is a phrase that follows its name. Not raised outside this package."""


def read_document(suffix: str, data: bytes) -> str:
    """The clean text of a file.

    Args:
        suffix: Its extension, in lower case; one of `READERS`.
        data: Its contents.

    Raises:
        Unreadable: It is damaged, encrypted, of another kind than its extension says, or has no text.
        MemoryError: It takes more memory than this process may use.
    """
    try:
        text = READERS[suffix](data)
    except (Unreadable, MemoryError):
        raise
    except RecursionError as error:
        raise Unreadable("is nested too deeply") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        reason = str(error) or type(error).__name__
        raise Unreadable(f"is not a {suffix[1:].upper()} file that can be parsed ({reason})") from error
    text = clean(text)
    if not any(map(str.isalnum, text)):
        hint = " (a scan? it would need text recognition first)" if suffix == ".pdf" else ""
        raise Unreadable(f"holds no text{hint}")
    return text


def decode(data: bytes) -> str:
    """Text from bytes: by byte order mark, else UTF-8, else cp1252 (the usual encoding of older Western files).

    Raises:
        Unreadable: The bytes are not text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise Unreadable(f"begins as {encoding} text but is not") from error
    if sum(byte in _CONTROLS for byte in data[:65536]) > len(data[:65536]) // 1000:
        raise Unreadable("is binary, not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Five byte values are undefined in cp1252; latin-1 then keeps the rest of the text.
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            return data.decode("latin-1")


class _HtmlText:
    """Collects the text from the events of lxml's HTML parser, without building a tree."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._depth = self._left_out = 0

    def start(self, tag: str, attributes: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"is nested too deeply (more than {MAX_DEPTH:,} elements inside each other)")
        self._left_out += tag in _LEFT_OUT
        if tag in _PARAGRAPHS:
            self._parts.append("\n\n")

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._left_out -= tag in _LEFT_OUT
        if tag in _LINES:
            self._parts.append("\n")
        elif tag in _CELLS:
            self._parts.append(" ")

    def data(self, text: str) -> None:
        if not self._left_out:
            self._parts.append(text)

    def close(self) -> str:
        return "".join(self._parts)


def _read_html(data: bytes) -> str:
    from lxml import etree

    # Some encodings give halves of surrogate pairs, and the parser's library is written in C.
    page = _decode_html(data).replace("\0", "").encode("utf-8", "replace")
    if not page.strip():
        return ""
    parser = etree.HTMLParser(target=_HtmlText(), encoding="utf-8", huge_tree=True)
    for start in range(0, len(page), _SLICE):  # the target's exceptions surface after each slice
        parser.feed(page[start : start + _SLICE])
    return str(parser.close())


def _decode_html(data: bytes) -> str:
    """A page's text in its declared encoding; decoded as plain text if it declares none, or a wrong one."""
    declared = _DECLARED.search(data[:1024])
    if declared and not data.startswith(tuple(mark for mark, _ in _MARKS)):
        try:
            encoding = codecs.lookup(declared[1].decode("ascii", "replace")).name
            # Latin-1 means cp1252 on pages, and a page that declares UTF-16 in ASCII is not UTF-16.
            if encoding not in ("ascii", "iso8859-1") and not encoding.startswith("utf-16"):
                return data.decode(encoding)
        except (LookupError, UnicodeError):
            pass
    return decode(data)


def _read_pdf(data: bytes) -> str:
    import logging

    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    # pypdf warns of everything it repairs; here it only matters whether there is text.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = PdfReader(io.BytesIO(data))
    try:
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("is encrypted with a password")
        text = "\f".join(page.extract_text() for page in reader.pages)
    except DependencyError as error:
        raise Unreadable("is encrypted") from error
    # A font's own table may give halves of surrogate pairs.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_docx(data: bytes) -> str:
    import zipfile

    import docx
    from docx.table import Table

    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise Unreadable("is encrypted, or an old .doc file under a new name")
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        inflated = sum(part.file_size for part in parts.infolist())  # zipfile unpacks no more than these sizes
    if inflated > MAX_INFLATED:
        raise Unreadable(
            f"unpacks to too much ({inflated / 2**20:,.0f} MiB; at most {MAX_INFLATED / 2**20:.0f} MiB are read)"
        )
    blocks = []
    for block in docx.Document(io.BytesIO(data)).iter_inner_content():
        if isinstance(block, Table):
            rows = (" | ".join(dict.fromkeys(cell.text.strip() for cell in row.cells)) for row in block.rows)
            blocks.append("\n\n".join(rows))
        else:
            blocks.append(block.text)
    return "\n\n".join(blocks)


READERS: Final[dict[str, Callable[[bytes], str]]] = {
    **dict.fromkeys(PLAIN, decode),
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
    ".docx": _read_docx,
}
"""From a file's extension, in lower case, to the function that reads its bytes."""
ENDINGS: Final = f"{', '.join([*READERS][:-1])} or {[*READERS][-1]}"
