"""CUAD: contracts with clauses marked by lawyers, as labelled questions.

The Contract Understanding Atticus Dataset v1 (Hendrycks, Burns, Chen & Ball 2021) is published by The Atticus Project
under CC BY 4.0: see https://www.atticusprojectai.org/cuad, "CUAD_v1.zip". Two layouts are read:

* the publisher's `CUAD_v1.json` (SQuAD's format), or a folder that holds it;
* a folder with `contracts/<id>.txt` and `clauses.jsonl`, one category of one contract per line.

Every category becomes one question in plain words. The answers to short facts (names, dates, periods, the law) are the
expert's short form, if any, and the marked words, the shorter first; those of other categories are the clauses.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import parse_json
from synth_dspy.core.knowledge import Document
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.documents.cleaning import Cleaner
from synth_dspy.domains.documents.cuad_questions import CLAUSES, FACTS

UNANSWERABLE: Final = 0.15
YES_NO: Final = 0.10


@dataclass(frozen=True, slots=True)
class _Label:
    """One category of one contract: marked spans as (start, text) in the raw text; without spans, it is silent."""

    category: str
    spans: tuple[tuple[int, str], ...]
    short: str = ""

    def __post_init__(self) -> None:
        spans = all(type(start) is int and isinstance(text, str) for start, text in self.spans)
        if not (spans and isinstance(self.category, str) and isinstance(self.short, str)):
            raise TypeError(f"the label {str(self.category)[:60]!r} holds a value of another kind")


@dataclass(frozen=True, slots=True)
class _Contract:
    id: str
    title: str
    text: str
    path: str
    labels: tuple[_Label, ...]

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in (self.id, self.title, self.text)):
            raise TypeError(f"the contract {str(self.title)[:60]!r} holds a value of another kind")


def read_cuad(
    path: Path,
    limit: int | None = None,
    unanswerable: float = UNANSWERABLE,
    yes_no: float = YES_NO,
    categories: Collection[str] = (),
) -> tuple[list[Document], list[dict[str, Any]]]:
    """Read contracts and labelled questions about them.

    Args:
        path: A folder in one of the two layouts, or `CUAD_v1.json` itself.
        limit: How many contracts, in an order that depends on their ids only. None: all.
        unanswerable: Share of the questions on which the contract is silent (references are empty).
        yes_no: Share of the clause categories asked as yes/no questions, as many again being answered by "No".
        categories: What is asked about; empty: all 41 categories.

    Returns:
        The documents, and one dict for each question with `id`, `document`, `question`, `references` (accepted
        answers), `spans` (the marked words as they stand in the document), `category` and `answer_type` (name,
        party, date, period, law, clause or yes_no; "none" where the contract is silent).

    Raises:
        SetupError: If there is no CUAD at `path`, it cannot be parsed, or a category is not one of CUAD's.
    """
    if unknown := sorted(set(categories) - set(FACTS) - set(CLAUSES)):
        raise SetupError(
            f"CUAD has no category {unknown[0]!r}; it has {', '.join((*FACTS, *CLAUSES))} (with commas between them)."
        )
    wanted = set(categories) or {*FACTS, *CLAUSES}
    contracts = sorted(_read(Path(path).expanduser()), key=lambda contract: hash_order(contract.id))
    documents: list[Document] = []
    rows: list[dict[str, Any]] = []
    for contract in contracts[:limit]:
        cleaner = Cleaner(contract.text)
        documents.append(Document(contract.id, contract.title, cleaner.text(), contract.path))
        labels = tuple(label for label in contract.labels if label.category in wanted)
        rows.extend(_questions(replace(contract, labels=labels), cleaner, unanswerable, yes_no))
    return documents, rows


def _questions(contract: _Contract, cleaner: Cleaner, unanswerable: float, yes_no: float) -> Iterator[dict[str, Any]]:
    # Which category is asked how is a matter of the hash order of its name within the contract, nothing else.
    order = sorted(contract.labels, key=lambda label: hash_order(f"{contract.id}\n{label.category}"))
    stated = [label for label in order if label.spans]
    silent = [label for label in order if not label.spans]
    clauses = [label for label in stated if label.category in CLAUSES]
    # Rounding by hash keeps the shares right on average where a contract has few of a kind.
    chance = int(hash_order(contract.id, 1)[:8], 16) / 16**8
    yes_labels = clauses[: int(len(clauses) * yes_no + chance)]
    no_labels = [label for label in silent if label.category in CLAUSES][: len(yes_labels)]
    silent_labels = [label for label in silent if label not in no_labels][
        : int(len(stated) * unanswerable / max(1 - unanswerable, 0.01) + chance)
    ]
    for label in contract.labels:
        if label in yes_labels or label in no_labels:
            question = CLAUSES[label.category][1]
            yield _row(contract, label, cleaner, question, ["Yes" if label.spans else "No"], "yes_no")
        elif label in stated or label in silent_labels:
            answer_type, question = FACTS.get(label.category) or ("clause", CLAUSES[label.category][0])
            references = _references(contract, label, cleaner)
            yield _row(contract, label, cleaner, question, references, answer_type if label.spans else "none")


def _row(
    contract: _Contract, label: _Label, cleaner: Cleaner, question: str, references: list[str], answer_type: str
) -> dict[str, Any]:
    return {
        "id": f"{contract.id}-{re.sub(r'[^a-z]+', '-', label.category.lower())}",
        "document": contract.id,
        "question": question,
        "references": references,
        "spans": list(dict.fromkeys(cleaner.quote(text) for _, text in label.spans)),
        "category": label.category,
        "answer_type": answer_type,
    }


def _references(contract: _Contract, label: _Label, cleaner: Cleaner) -> list[str]:
    """The marked words (a sentence marked in two pieces counts as one answer) and the expert's short form.

    The first is what a program should learn to say. Of a fact that is the fewest words: of "This Agreement shall be
    governed by the laws of the State of Kansas." the expert's "Kansas".
    """
    if not label.spans:
        return []
    quotations = [cleaner.quote(text).replace("\n", " ") for text in _joined(label.spans, contract.text)]
    # "[]/[]/2000": the contract leaves the date blank; the short form would be no better an answer than the span.
    short = label.short if label.category in FACTS and "[]" not in label.short else ""
    if label.category == "Parties":
        names = _party_names(short) or quotations
        return list(dict.fromkeys(filter(None, [" and ".join(names) if len(names) < 3 else ", ".join(names), short])))
    if short.lower() in ("yes", "no"):
        short = ""
    short = " ".join(short.split())
    accepted = [*quotations, _written_date(short)]
    if label.category in FACTS:
        accepted.sort(key=lambda text: len(text.split()))
    # The expert's 12/31/18 is right too, but no contract says it so.
    return list(dict.fromkeys(filter(None, [*accepted, short])))


def _written_date(short: str) -> str:
    """The expert's "12/31/18" as contracts write dates, "December 31, 2018"; any other short form as it is."""
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4})", short)
    if match is None:
        return short
    try:
        day = datetime.strptime(short, "%m/%d/%Y" if len(match[3]) == 4 else "%m/%d/%y")
    except ValueError:
        return short
    return f"{day:%B} {day.day}, {day.year}"


def _joined(spans: tuple[tuple[int, str], ...], text: str) -> list[str]:
    """Spans in order; those that nothing but white space or a page's end parts, put together."""
    out: list[tuple[int, int]] = []
    for start, span in sorted(spans):
        if out and not text[out[-1][0] : out[-1][1]].rstrip().endswith((".", ";")) and start - out[-1][1] <= 1:
            out[-1] = (out[-1][0], max(out[-1][1], start + len(span)))
        elif out and text[out[-1][1] : start].isspace():
            out[-1] = (out[-1][0], start + len(span))
        else:
            out.append((start, start + len(span)))
    return [text[start:end] for start, end in out]


def _party_names(short: str) -> list[str]:
    """Names out of the expert's 'TOM WATSON ("CONSULTANT"); ADAMS GOLF, LTD. ("ADAMS GOLF")'."""
    without = re.sub(r"\([^()]*\)", "", short.strip().removeprefix("(") if short.startswith("(") else short)
    return [name for part in without.split(";") if (name := " ".join(part.split()).strip(" ,()"))]


def _read(path: Path) -> list[_Contract]:
    try:
        if path.is_dir() and (path / "clauses.jsonl").is_file():
            return _read_clauses(path)
        file = path / "CUAD_v1.json" if path.is_dir() else path
        if file.suffix == ".json" and file.is_file():
            return _read_squad(file)
    except OSError as error:
        raise SetupError(f"Tried to read CUAD from {path}: {error.strerror or error}; check the path.") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SetupError(
            f"Tried to read CUAD from {path}, which is not in either of its layouts ({type(error).__name__}: {error}); "
            "fetch CUAD_v1.zip again from The Atticus Project."
        ) from error
    raise SetupError(
        f"Looked for CUAD in {path} and found neither CUAD_v1.json nor clauses.jsonl; give the folder that holds one "
        "(CUAD_v1.zip is published by The Atticus Project)."
    )


def _read_clauses(folder: Path) -> list[_Contract]:
    labels: defaultdict[str, list[_Label]] = defaultdict(list)
    titles: dict[str, str] = {}
    with (folder / "clauses.jsonl").open(encoding="utf-8") as file:
        for row in map(parse_json, file):
            spans = (
                () if row["is_impossible"] else tuple(sorted(zip(row["answer_starts"], row["answers"], strict=True)))
            )
            labels[row["contract"]].append(_Label(row["category"], spans, row.get("normalized_answer") or ""))
            titles[row["contract"]] = row["title"]
    contracts = []
    for id, of in labels.items():
        if "/" in id or "\\" in id:
            raise ValueError(f"the contract {id[:60]!r} is not the name of a file")
        # newline="": the offsets count the characters of the file as it is
        with (folder / "contracts" / f"{id}.txt").open(encoding="utf-8", newline="") as file:
            contracts.append(_Contract(id, titles[id], file.read(), f"contracts/{id}.txt", tuple(of)))
    return contracts


def _read_squad(file: Path) -> list[_Contract]:
    contracts = []
    for entry in parse_json(file.read_bytes())["data"]:
        paragraphs = entry["paragraphs"]
        title = entry["title"]
        labels = tuple(_squad_labels(paragraphs))
        text = "\n\n".join(paragraph["context"] for paragraph in paragraphs)
        contracts.append(_Contract(hashlib.sha256(title.encode()).hexdigest()[:12], title, text, file.name, labels))
    return contracts


def _squad_labels(paragraphs: Iterable[dict[str, Any]]) -> Iterator[_Label]:
    """The categories of a contract; the publisher has one paragraph a contract, but the format allows several."""
    spans: dict[str, list[tuple[int, str]]] = {}
    offset = 0
    for paragraph in paragraphs:
        for qa in paragraph["qas"]:
            marked = spans.setdefault(qa["id"].rsplit("__", 1)[-1], [])
            if not qa.get("is_impossible"):
                marked.extend((offset + answer["answer_start"], answer["text"]) for answer in qa["answers"])
        offset += len(paragraph["context"]) + len("\n\n")
    for category, marked in spans.items():
        yield _Label(category, tuple(sorted(dict.fromkeys(marked))))
