"""Documents in: every readable file of a folder as clean text, and every other file named with why it was skipped.

Text, Markdown, HTML, PDF and DOCX are read; the text of each is cleaned once, here, so that whatever is cut, indexed
or shown later is the same text. One bad file never stops a run: it becomes a `Skipped` that the report lists. Only a
folder with nothing to read in it is an error.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from synth_dspy.corpus.cleaning import clean
from synth_dspy.errors import SetupError

MAX_BYTES: Final = 20 * 1024 * 1024
_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r\f\b\x1b")


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the rest of the engine sees it.

    Attributes:
        id: Stable from run to run: the file's stem where that is unique in its folder, else a hash of its path.
        title: For people: the file's stem, or the title that a data set gives.
        text: Cleaned text; paragraphs are separated by newlines.
        path: Where it was read from, relative to the folder that was given.
    """

    id: str
    title: str
    text: str
    path: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not read: its path relative to the folder, and why, as a phrase that follows the path."""

    path: str
    why: str


class _Unreadable(Exception):
    """Why one file cannot be read. Never leaves this module."""


def read_folder(folder: Path, max_bytes: int = MAX_BYTES) -> tuple[list[Document], list[Skipped]]:
    """Read every file below `folder`, in the order of their paths. Hidden files and folders are not looked at.

    Args:
        folder: The folder; subfolders are read too. A single file is taken as a folder of one.
        max_bytes: Larger files are skipped: they are dumps rather than documents, and would fill the index.

    Returns:
        The documents, and the files that were skipped with why.

    Raises:
        SetupError: If the folder does not exist, holds no files, or holds none that can be read.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise SetupError(f"Looked for documents in {folder}, which does not exist; check the path.")
    root = folder if folder.is_dir() else folder.parent
    paths = [path for path in (sorted(folder.rglob("*")) if folder.is_dir() else [folder]) if _is_visible(path, root)]
    names = [path.relative_to(root).as_posix() for path in paths]
    if not paths:
        raise SetupError(f"Looked for documents in {folder}, which holds no files; put {_KINDS} into it.")
    stems = Counter(path.stem for path in paths if path.suffix.lower() in _READERS)
    documents: list[Document] = []
    skipped: list[Skipped] = []
    for path, name in zip(paths, names, strict=True):
        try:
            text = _read(path, max_bytes)
        except _Unreadable as why:
            skipped.append(Skipped(name, str(why)))
            continue
        unique = stems[path.stem] == 1
        id = path.stem if unique else f"{path.stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        documents.append(Document(id=id, title=path.stem, text=text, path=name))
    if not documents:
        first = "; ".join(f"{item.path} {item.why}" for item in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        raise SetupError(
            f"Looked for documents in {folder}, and none of its {len(skipped)} files can be read ({first}{more}); "
            f"put {_KINDS} into it."
        )
    return documents, skipped


def _is_visible(path: Path, root: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)


def _read(path: Path, max_bytes: int) -> str:
    """The clean text of one file, or `_Unreadable`."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kind = f"is of a kind that is not read ({path.suffix})" if path.suffix else "has no file name extension"
        raise _Unreadable(f"{kind}; {_KINDS} are")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise _Unreadable(f"is too large ({size / 2**20:.1f} MiB; at most {max_bytes / 2**20:.0f} MiB are read)")
        if size == 0:
            raise _Unreadable("is empty")
        text = clean(reader(path))
    except OSError as error:
        raise _Unreadable(f"cannot be opened ({error.strerror or error})") from error
    if not any(character.isalnum() for character in text):
        hint = " (a scan? it would need text recognition first)" if path.suffix.lower() == ".pdf" else ""
        raise _Unreadable(f"holds no text{hint}")
    return text


def decode(data: bytes) -> str:
    """Text from bytes: by byte order mark, else UTF-8, else cp1252 (the usual encoding of older Western files).

    Raises:
        _Unreadable: If the bytes are no text at all.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise _Unreadable(f"begins as {encoding} text but is not") from error
    if sum(byte in _CONTROLS for byte in data[:65536]) > len(data[:65536]) // 1000:
        raise _Unreadable("is binary, not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # Five byte values mean nothing in cp1252; there latin-1 at least keeps the rest of the text.
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            return data.decode("latin-1")


def _read_text(path: Path) -> str:
    return decode(path.read_bytes())


def _read_html(path: Path) -> str:
    from bs4 import BeautifulSoup
    from bs4.builder import ParserRejectedMarkup

    # The bytes go in, not decoded text: the page may declare its own encoding.
    try:
        soup = BeautifulSoup(path.read_bytes(), "html.parser")
    except ParserRejectedMarkup as error:
        raise _Unreadable("is not HTML that can be parsed") from error
    for element in soup(["script", "style", "noscript", "template", "nav", "svg"]):
        element.decompose()
    for element in soup(
        ["p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "title", "section", "table"]
    ):
        element.append("\n")
    for element in soup(["p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "tr"]):
        element.insert(0, "\n\n")
    for element in soup(["td", "th"]):
        element.append(" ")
    return str(soup.get_text())


def _read_pdf(path: Path) -> str:
    import logging

    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    # pypdf reports every repaired oddity of a file; the reader of a report cares only whether there is text.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as file:
            reader = PdfReader(file)
            if reader.is_encrypted and not reader.decrypt(""):
                raise _Unreadable("is encrypted with a password")
            return "\f".join(page.extract_text() for page in reader.pages)
    except DependencyError as error:
        raise _Unreadable("is encrypted") from error
    except OSError:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        # A corrupt file surfaces as whichever of these its first broken object leads to.
        raise _Unreadable(f"is not a PDF file that can be parsed ({str(error) or type(error).__name__})") from error


def _read_docx(path: Path) -> str:
    import zipfile

    import docx
    from docx.opc.exceptions import PackageNotFoundError
    from docx.table import Table

    if path.read_bytes()[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise _Unreadable("is encrypted, or an old .doc file under a new name")
    try:
        blocks = []
        for block in docx.Document(str(path)).iter_inner_content():
            if isinstance(block, Table):
                rows = (" | ".join(dict.fromkeys(cell.text.strip() for cell in row.cells)) for row in block.rows)
                blocks.append("\n\n".join(rows))
            else:
                blocks.append(block.text)
    except (PackageNotFoundError, zipfile.BadZipFile, SyntaxError, KeyError, ValueError) as error:
        raise _Unreadable("is not a DOCX file that can be parsed") from error
    return "\n\n".join(blocks)


_READERS: Final[dict[str, Callable[[Path], str]]] = {
    ".txt": _read_text,
    ".text": _read_text,
    ".md": _read_text,
    ".markdown": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
    ".docx": _read_docx,
}
_KINDS: Final = ".txt, .md, .html, .pdf or .docx files"
