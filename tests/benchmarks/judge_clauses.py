"""Answers about CUAD's clauses in words of their own, true and false, and how many of them the judge accepts.

    python tests/benchmarks/judge_clauses.py ../shared/data --side seen      wordings looked at while rules were made
    python tests/benchmarks/judge_clauses.py ../shared/data                  those scored once, when they were done
    python tests/benchmarks/judge_clauses.py ../shared/data --show 5         with five of each kind that are misjudged

The wordings (`judge_clauses.toml`) were written before their author read the judge's features and phrasings. Both
sides have one author, who then changed the judge: whoever changes it again should write further ones.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from scipy.stats import binomtest

from synth_dspy.core.text import MONTHS as MONTHS_LOWER
from synth_dspy.evaluation.judges import ReferenceJudge
from synth_dspy.evaluation.reference_judge.calibration import ACCEPTED

MONTHS = [month.capitalize() for month in MONTHS_LOWER]
TABLES: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_DATE = re.compile(rf"({'|'.join(MONTHS)}) (\d+), (\d{{4}})")
_ROLES = (
    ("Licensor", "Licensee"), ("Distributor", "Company"), ("Supplier", "Customer"), ("Seller", "Buyer"),
    ("Company", "Consultant"), ("Franchisor", "Franchisee"), ("Purchaser", "Manufacturer"), ("Provider", "Client"),
    ("Developer", "Owner"), ("Agent", "Issuer"),
)  # fmt: skip
_ALONE = {
    "seen": ("the first-named party", "only the buyer"),
    "unseen": ("the party that drafted it", "one of the parties alone", "the weaker party"),
}
_FIGURES = {
    "seen": (("{a}", "It is {a}.", "{a}, to be exact"), ("more than {a}", "no more than half of {a}")),
    "unseen": (
        ("{a}", "The contract sets it at {a}.", "a full {a}", "{a} at the outside"),
        ("fewer than {a}", "anything above {a}", "just short of {a}"),
    ),
}
_ONES, _TENS = (
    tuple(names.split())
    for names in (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen",
        "- - twenty thirty forty fifty sixty seventy eighty ninety",
    )
)


class Item(NamedTuple):
    """A question about a contract and its answer; `other` is a party that the question names."""

    question: str
    answer: str
    shape: str
    other: str = ""


def items(data: Path) -> list[Item]:
    """Short answers and clauses of 7 to 32 words that answer one question alone."""
    made = []
    for line in (data / "cuad" / "clauses.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        category, short = row["category"], row["normalized_answer"].strip()
        question = TABLES["questions"].get(category)
        if row["is_impossible"] or question is None:
            continue
        span = " ".join(row["answers"][0].split())
        parties = [re.sub(r"\s*\(.*?\)", "", name).strip() for name in short.split(";")]
        if category == "Governing Law" and re.fullmatch(r"[A-Z][a-z]+( [A-Z][a-z]+)?", short):
            made.append(Item(question, short, "law"))
        elif category == "Notice Period to Terminate Renewal" and re.fullmatch(r"\d+ (days|months)", short):
            made.append(Item(question, short, "notice"))
        elif category == "Agreement Date" and _DATE.fullmatch(span):
            made.append(Item(question, span, "date"))
        elif category == "Parties" and len(parties) == 2 and all(map(_is_name, parties)):
            made.append(Item(question.format(other=parties[0]), parties[1], "party", parties[0]))
        plain = span.endswith(".") and span[0].isupper() and span.upper() != span
        if category in {"Parties", "Agreement Date"} or len(row["answers"]) > 1 or not plain:
            continue
        if 7 <= len(span.split()) <= 32 and not re.search(r"\[|__|\*|--|\(a\)|: ", span):
            made.append(Item(question, span, "clause"))
    return made


def _is_name(text: str) -> bool:
    return 3 < len(text) < 50 and bool(re.search(r"[ .]", text)) and not re.search('["_]|agent', text)


class Maker:
    """Draws answers of each kind from items.

    Args:
        items: what they are made from.
        side: the wordings, "seen" or "unseen".
        seed: of what is drawn.
    """

    def __init__(self, items: list[Item], side: str, seed: int = 3) -> None:
        self.rng = random.Random(f"{seed} {side}")
        self.side, self.table = side, TABLES[side]
        self.by_shape: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            self.by_shape[item.shape].append(item)

    def draw(self, *shapes: str, clauses: float = 0.5) -> Item:
        """A clause with some probability, else a short answer of one of the shapes."""
        shape = (
            "clause" if self.rng.random() < clauses else self.rng.choice(shapes or ("law", "notice", "date", "party"))
        )
        return self.rng.choice(self.by_shape[shape])

    def wrong(self, item: Item, *taken: str) -> str:
        """Another answer of an item's shape."""
        pool = [
            each.answer for each in self.by_shape[item.shape] if each.answer not in (item.answer, item.other, *taken)
        ]
        return self.rng.choice(pool)

    def framed(self, kind: str, item: Item) -> str:
        """An answer in a wording of a kind."""
        other = self.wrong(item)
        return fill(self.rng.choice(self.table[kind]), item.answer, other, self.wrong(item, other))

    def answers(self, kind: str) -> Iterator[tuple[Item, str]]:
        """Items with answers of a kind, without end."""
        make = getattr(self, "_" + kind.replace(" ", "_"))
        while True:
            made = make()
            if made and made[1].strip(". ").lower() != made[0].answer.strip(". ").lower():
                yield made[0], made[1][0].upper() + made[1][1:]

    def _reversal(self) -> tuple[Item, str]:
        item = self.draw()
        return item, self.framed("reversal", item)

    def _false_fact(self) -> tuple[Item, str]:
        item = self.draw()
        return item, self.framed("false fact", item)

    def _list(self) -> tuple[Item, str]:
        item = self.draw(clauses=0)
        return item, self.framed("list", item)

    def _forged(self) -> tuple[Item, str]:
        item = self.draw(clauses=0.3)
        return item, self.framed("forged", item)

    def _other_number(self) -> tuple[Item, str] | None:
        item = self.draw("notice", "date", clauses=0.25)
        framed, compared = _FIGURES[self.side]
        if item.shape != "clause" and self.rng.random() < 0.25:
            wording = self.rng.choice(("before {a}", "later than {a}") if item.shape == "date" else compared)
            return item, wording.replace("{a}", item.answer)
        changed = self._dated(item.answer) if item.shape == "date" else self._numbered(item.answer)
        if changed is None:
            return None
        return item, changed if item.shape == "clause" else self.rng.choice(framed).replace("{a}", changed)

    def _dated(self, text: str) -> str:
        month, day, year = _split_date(text)
        other = self.rng.choice([name for name in MONTHS if name != month])
        years = year + self.rng.choice((-1, 1, 10))
        return self.rng.choice((f"{other} {day}, {year}", f"{month} {day}, {years}", f"{month} {day % 28 + 1}, {year}"))

    def _numbered(self, text: str) -> str | None:
        match = re.search(r"(?:\b[a-z]+(?:-[a-z]+)? )?\(?(\d+)\)? ?(%|percent|days|months|years)", text)
        if match is None:
            return None
        old = int(match.group(1))
        new = self.rng.choice((old + 5, old * 10, old + 1, old * 3, old + 15))
        figure = spelled(new) if new < 900 and self.rng.random() < 0.5 else str(new)
        kept = re.match(r"(?:at least|least|than|of|for|upon|every) ", match.group())  # no part of the number
        return (
            text[: match.start()] + (kept.group() if kept else "") + f"{figure} {match.group(2)}" + text[match.end() :]
        )

    def _negation(self) -> tuple[Item, str] | None:
        item = self.draw(clauses=0.75)
        if item.shape != "clause":
            return item, self.framed("negated short", item)
        fitting = [
            (old, new)
            for old, new in self.table["negation"]
            if re.search(old, item.answer)
            and not re.search(old + r" (?:not|never|in no)\b", item.answer)
            # The governing law is as it is with or without its rules on conflicts; two denials deny nothing.
            and not ("without" in old and "law" in item.question)
            and not (new in {"no", "neither"} and re.search(r"\bnot\b", item.answer))
        ]
        if not fitting:
            return None
        old, new = self.rng.choice(fitting)
        return item, re.sub(old, new, item.answer, count=1)

    def _other_party(self) -> tuple[Item, str] | None:
        if self.rng.random() < 0.4:
            item = self.draw("party", clauses=0)
            other = self.rng.choice((self.wrong(item), item.other))
            return item, self.rng.choice(self.table["other party"]).replace("{X}", item.answer).replace("{O}", other)
        item = self.draw(clauses=1)
        one = re.search(r"\b(?:[Ee]ither|each|any) [Pp]arty\b", item.answer)
        if one and self.rng.random() < 0.4:
            alone = self.rng.choice(_ALONE[self.side])
            return item, item.answer[: one.start()] + alone + item.answer[one.end() :]
        roles = [(a, b) for two in _ROLES for a, b in (two, two[::-1]) if re.search(rf"\b{a}\b", item.answer)]
        if not roles:
            return None
        old, new = self.rng.choice(roles)
        return item, re.sub(rf"\b(?:{old}|{new})\b", lambda m: new if m.group() == old else old, item.answer)

    def _true_short(self) -> tuple[Item, str]:
        item = self.draw(clauses=0)
        answer = item.answer
        if item.shape == "date":
            month, day, year = _split_date(answer)
            answer = self.rng.choice(
                (
                    answer,
                    f"{day} {month} {year}",
                    f"{year}-{MONTHS.index(month) + 1:02d}-{day:02d}",
                    f"{month[:3]} {day} {year}",
                )
            )
        elif item.shape == "notice":
            number, unit = answer.split()
            answer = self.rng.choice((answer, f"{spelled(int(number))} {unit}"))
        elif item.shape == "law":
            answer = self.rng.choice((answer, f"the law of {answer}", f"{answer} law", f"the laws of {answer}"))
        return item, fill(self.rng.choice(self.table["true short"]), answer)

    def _true_clause(self) -> tuple[Item, str] | None:
        item = self.draw(clauses=1)
        fitting = [two for two in self.table["rewording"] if re.search(two[0], item.answer)]
        if not fitting:
            return None
        answer = item.answer
        for old, new in self.rng.sample(fitting, min(len(fitting), self.rng.choice((1, 2, 3)))):
            answer = re.sub(old, new, answer)
        if "forbidden" in answer and re.search(r"\bto be\b", answer):
            return None
        return item, fill(self.rng.choice(self.table["true clause"]), answer) if self.rng.random() < 0.3 else answer


def fill(wording: str, answer: str, other: str = "", third: str = "") -> str:
    """A wording with its slots filled."""
    plain = answer.rstrip(". ")
    starts = r"(?:This|The|Neither|Either|Any|No|Unless|Upon|Except|All|Such|In|At|Without|During|If|Each)\b"
    inside = plain[0].lower() + plain[1:] if re.match(starts, plain) else plain
    for slot, text in (("{X}", plain), ("{x}", inside), ("{Y}", other.rstrip(". ")), ("{Z}", third.rstrip(". "))):
        wording = wording.replace(slot, text)
    return wording


def spelled(number: int) -> str:
    """A number below 1,000 in words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_ONES[number % 10]}" if number % 10 else "")
    return f"{_ONES[number // 100]} hundred" + (f" and {spelled(number % 100)}" if number % 100 else "")


def _split_date(text: str) -> tuple[str, int, int]:
    match = _DATE.fullmatch(text)
    assert match is not None
    return match.group(1), int(match.group(2)), int(match.group(3))


KINDS = (
    "reversal",
    "list",
    "other number",
    "false fact",
    "negation",
    "other party",
    "forged",
    "true short",
    "true clause",
)


def rows(data: Path, side: str, count: int) -> list[dict[str, Any]]:
    """Answers of every kind in the layout that a judge scores, with their kind and whether they are right."""
    maker = Maker(items(data), side)
    made: list[dict[str, Any]] = []
    for kind in KINDS:
        for (item, answer), _ in zip(maker.answers(kind), range(count), strict=False):
            row = {"question": item.question, "references": [item.answer], "prediction": answer}
            made.append({**row, "kind": kind, "right": kind.startswith("true")})
    for each in TABLES["paraphrases"]:
        if each["side"] == side:
            row = {"question": each["question"], "references": [each["clause"]], "prediction": each["answer"]}
            made.append({**row, "kind": "true by hand", "right": True})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", choices=("seen", "unseen"), default="unseen")
    parser.add_argument("--count", type=int, default=120, help="answers of each kind")
    parser.add_argument("--show", type=int, default=0, help="misjudged answers to print of each kind")
    options = parser.parse_args()
    made = rows(options.data, options.side, options.count)
    judge, began = ReferenceJudge(), time.perf_counter()
    scores = judge.score_many(made)
    for kind in dict.fromkeys(row["kind"] for row in made):
        mine = [(score, row) for score, row in zip(scores, made, strict=True) if row["kind"] == kind]
        accepted = sum(score >= ACCEPTED for score, _ in mine)
        low, high = binomtest(accepted, len(mine)).proportion_ci(method="wilson")
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
        print(f"{kind:14} accepted {100 * accepted / len(mine):5.1f} of 100 {interval}, n {len(mine)}")
        for score, row in [each for each in mine if (each[0] >= ACCEPTED) != each[1]["right"]][: options.show]:
            print(f"    {score:.2f} | {row['references'][0][:110]} => {row['prediction'][:180]!r}")
    print(f"{len(made) / (time.perf_counter() - began):.0f} items/s")


if __name__ == "__main__":
    main()
