"""Reads the files of a folder as clean text, and lists the skipped ones with the reason.

Text, Markdown, HTML, PDF and DOCX are read. Each text is cleaned once, here, so that the same text is chunked, indexed
and shown later. A bad file does not stop a run: it becomes a `Skipped` in the report. Only a folder without readable
files is an error.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document, Skipped
from synth_dspy.core.printable import printable_name
from synth_dspy.domains.documents.folder import list_files, read_file
from synth_dspy.domains.documents.reader_process import Limits, ReaderProcess
from synth_dspy.domains.documents.readers import ENDINGS, PLAIN, READERS, Unreadable, read_document

PROPOSALS: Final = "questions.proposed.jsonl"
"""A file of this name in a folder of documents holds proposed questions about them; it is not a document."""
# Plain text up to this size is read without a child process: decoding and cleaning take linear time.
_READ_HERE_BYTES: Final = 2**20


def read_folder(folder: Path, limits: Limits | None = None) -> tuple[list[Document], list[Skipped]]:
    """Read every file below `folder`, in the order of their paths, except hidden files and folders.

    Args:
        folder: The folder; subfolders are read, links out of it are not. A single file counts as a folder of one.
        limits: Limits for one file. None: the default.

    Returns:
        The documents, and the skipped files with reasons; their names are printable (`printable_name`).

    Raises:
        SetupError: If the folder does not exist, or has no readable files.
    """
    limits = limits or Limits()
    shown = printable_name(str(folder))
    try:
        root = Path(folder).expanduser()
        files, other = list_files(root)
        files = [file for file in files if file != Path(PROPOSALS) or not root.is_dir()]
    except FileNotFoundError:
        raise SetupError(f"Looked for documents in {shown}, which does not exist; check the path.") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SetupError(
            f"Looked for documents in {shown}, which cannot be opened ({reason}); check the path."
        ) from None
    if not files and not other:
        raise SetupError(f"Looked for documents in {shown}, which holds no files; put {ENDINGS} files into it.")
    stems = Counter(printable_name(file.stem) for file in files if file.suffix.lower() in READERS)
    documents: list[Document] = []
    skipped = [Skipped(printable_name(file.as_posix()), why) for file, why in other]
    with ReaderProcess(limits) as process:
        for file in files:
            name, stem = printable_name(file.as_posix()), printable_name(file.stem)
            try:
                text = _read(root, file, limits, process)
            except Unreadable as why:
                skipped.append(Skipped(name, str(why)))
                continue
            digest = hashlib.sha256(file.as_posix().encode("utf-8", "surrogateescape")).hexdigest()[:8]
            id = stem if stems[stem] == 1 else f"{stem}-{digest}"
            documents.append(Document(id=id, title=stem, text=text, path=name))
    skipped.sort(key=lambda item: item.path)
    if not documents:
        first = "; ".join(f"{item.path} {item.why}" for item in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        raise SetupError(
            f"Looked for documents in {shown}, and none of its {len(skipped)} files can be read ({first}{more}); "
            f"put {ENDINGS} files into it."
        )
    return documents, skipped


def without_copies(documents: Sequence[Document]) -> tuple[list[Document], list[Skipped]]:
    """One document for each text, in the same order, and the others as skipped files, whose names are names of it too.

    The one that is kept has the shortest path: "terms.txt", and not "terms (copy).txt" or "old/terms.txt".
    """
    same: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: (len(document.path), document.path)):
        same.setdefault(document.text, []).append(document)
    kept = {first.id: replace(first, also=tuple((d.id, d.path) for d in others)) for first, *others in same.values()}
    skipped = [
        Skipped(path, f"has the same text as {document.path}")
        for document in kept.values()
        for _, path in document.also
    ]
    return [kept[document.id] for document in documents if document.id in kept], skipped


def _read(root: Path, file: Path, limits: Limits, process: ReaderProcess) -> str:
    """The clean text of one file, or `Unreadable`."""
    suffix = file.suffix.lower()
    if suffix not in READERS:
        ending = f"the ending {printable_name(suffix)}" if suffix else "no ending"
        raise Unreadable(f"has {ending}, and only {ENDINGS} files are read")
    data = read_file(root, file, limits.file_bytes)
    if suffix in PLAIN and len(data) <= _READ_HERE_BYTES:
        return read_document(suffix, data)
    return process.read(suffix, data)
