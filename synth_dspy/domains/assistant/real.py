"""Real questions for the scope decision: to a bank, and to general assistants.

* Banking77 (Casanueva et al. 2020, CC BY 4.0): questions to a bank in 77 intents; all in scope. The publisher has
  `train.csv` and `test.csv` with the columns text and category.
* CLINC150 (Larson et al. 2019, CC BY 3.0): 150 intents in ten domains and questions outside them. The domains banking
  and credit cards are in scope; the other eight domains and the questions outside them are not. The publisher has
  `data_full.json`.

Both can also be JSON lines, with `text` and `category` (Banking77) or `text` and `intent` (CLINC150).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, read_rows
from synth_dspy.core.io.reading import parse_json, read_text
from synth_dspy.core.splits import hash_order

BANKING77, CLINC150 = "banking77", "clinc150"
_BANKING = (
    "transfer transactions balance freeze_account pay_bill bill_balance bill_due interest_rate routing min_payment "
    "order_checks pin_change report_fraud account_blocked spending_history"
)
_CREDIT_CARDS = (
    "credit_score report_lost_card credit_limit rewards_balance new_card application_status card_declined "
    "international_fees apr redeem_rewards credit_limit_change damaged_card replacement_card_duration "
    "improve_credit_score expiration_date"
)
IN_SCOPE = frozenset(_BANKING.split()) | frozenset(_CREDIT_CARDS.split())
"""CLINC150's intents of the domains banking and credit cards, as its paper lists them."""
OUTSIDE = "oos"
OUTSIDE_GROUPS = 30
"""Questions outside all intents have nothing in common: they are divided into this many groups by hash."""


@dataclass(frozen=True, slots=True)
class RealQuestion:
    """A question that somebody really asked. `group`, the unit of splits, is its intent."""

    id: str
    text: str
    source: str
    intent: str
    in_scope: bool

    @property
    def group(self) -> str:
        if self.intent == OUTSIDE:
            return f"{self.source}:{OUTSIDE}-{int(hash_order(self.text)[:8], 16) % OUTSIDE_GROUPS}"
        return f"{self.source}:{self.intent}"


def read_real(path: Path) -> list[RealQuestion]:
    """The questions of a file, or of a folder with the files named above; each text once.

    Raises:
        SetupError: neither data set is there, or a file is not in its publisher's format.
    """
    path = Path(path).expanduser()
    files = [path] if path.is_file() else _files(path)
    questions: dict[str, RealQuestion] = {}
    for file in files:
        for text, intent, source in _read(file):
            text = " ".join(text.split())
            in_scope = source == BANKING77 or intent in IN_SCOPE
            identity = f"{source}-{hash_order(text)[:12]}"
            questions.setdefault(text.casefold(), RealQuestion(identity, text, source, intent, in_scope))
    return list(questions.values())


def some(questions: Iterable[RealQuestion], each: int) -> list[RealQuestion]:
    """At most `each` questions of every group, in the order of their hash."""
    chosen: dict[str, list[RealQuestion]] = {}
    for question in sorted(questions, key=lambda question: hash_order(question.text)):
        members = chosen.setdefault(question.group, [])
        if len(members) < each:
            members.append(question)
    return [question for group in sorted(chosen) for question in chosen[group]]


def balanced(questions: Iterable[RealQuestion], each: int) -> list[RealQuestion]:
    """As `some`, but with as many questions in scope as out of it if there are both, so that no constant answer wins.

    Groups are balanced, then their questions: splits and held-out sets are made by group.
    """
    scopes: dict[bool, dict[str, list[RealQuestion]]] = {True: {}, False: {}}
    for question in some(questions, each):
        scopes[question.in_scope].setdefault(question.group, []).append(question)
    groups = min(map(len, scopes.values())) or None
    kept = [
        [question for group in sorted(by_group, key=hash_order)[:groups] for question in by_group[group]]
        for by_group in scopes.values()
    ]
    number = min(map(len, kept)) or None
    first = [sorted(part, key=lambda question: hash_order(question.text))[:number] for part in kept]
    return sorted((question for part in first for question in part), key=lambda question: (question.group, question.id))


def is_real(path: Path) -> bool:
    """Whether a path looks like one of the data sets, rather than the house's own labelled questions."""
    if path.is_dir() or path.suffix in (".csv", ".json"):
        return True
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = parse_json(next((line for line in file if line.strip()), "null"))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and "text" in first and "question" not in first


def _files(folder: Path) -> list[Path]:
    publishers = [folder / name for name in ("data_full.json", "train.csv", "test.csv") if (folder / name).is_file()]
    files = publishers or sorted(folder.glob("*.jsonl"))
    if not files:
        raise SetupError(
            f"Looked for Banking77 or CLINC150 in {folder} and found neither train.csv, data_full.json nor JSON lines; "
            "give the folder that holds one of them."
        )
    return files


def _read(file: Path) -> Iterator[tuple[str, str, str]]:
    """(text, intent, data set) of every question of a file."""
    if file.suffix == ".jsonl":
        yield from _read_lines(file)
        return
    try:
        if file.suffix == ".csv":
            for row in csv.DictReader(io.StringIO(read_text(file), newline="")):
                yield _filled(row["text"]), _filled(row["category"]), BANKING77
            return
        splits: Mapping[str, Any] = parse_json(read_text(file))
        for rows in splits.values():
            for text, intent in rows:
                yield _filled(text), _filled(intent), CLINC150
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise SetupError(
            f"{file} is neither Banking77's CSV nor CLINC150's data_full.json ({type(error).__name__}: {error}); "
            "fetch it again from its publisher."
        ) from error


def _filled(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{str(value)[:60]!r} is in the place of a text")
    return value


def _read_lines(file: Path) -> Iterator[tuple[str, str, str]]:
    for row in read_rows(file, {"text": FILLED}, optional={"category": FILLED, "intent": FILLED}):
        if row.get("intent"):
            yield row["text"], row["intent"], CLINC150
        elif row.get("category"):
            yield row["text"], row["category"], BANKING77
        else:
            raise SetupError(
                f"{file}: the question {row['text'][:40]!r} has neither category (Banking77) nor intent (CLINC150)."
            )
