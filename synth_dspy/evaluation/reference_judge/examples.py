"""The reference judge's training examples: people's verdicts, and generated answers whose verdict is known.

People's verdicts (rows of question, references, prediction, label) define what counts as the same answer. They contain
hardly any attacks, so for the same items wrong answers of every kind in `phrasings.ATTACKS` and right ones in other
words are generated. Labelled contract clauses, where given, add long references: parts and light paraphrases of a
clause are right; clauses of other contracts, and clauses that were negated or changed, are wrong.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_dspy.core.text import MONTHS, parse
from synth_dspy.evaluation.reference_judge import perturb
from synth_dspy.evaluation.reference_judge.phrasings import ATTACKS, TRUTHS, Templates
from synth_dspy.evaluation.reference_judge.quantities import quantities, respell


@dataclass(frozen=True, slots=True)
class Example:
    """An answer with its verdict. `target` is in [0, 1]; folds are made by `phrasing` and by `group`."""

    question: str
    references: tuple[str, ...]
    prediction: str
    target: float
    weight: float
    kind: str
    group: str
    phrasing: str
    from_contract: bool = False


@dataclass(frozen=True, slots=True)
class AnsweredItem:
    """An item with its right answer."""

    question: str
    references: tuple[str, ...]
    answer: str
    group: str
    shape: str
    """Answers of the same shape can stand for each other: they are the wrong answers of attacks."""
    from_contract: bool = False


MADE_WEIGHT = 0.25
"""Of a made example beside a natural one: the made ones are many, and people's verdicts have the last word."""
CONTRACTS = "contracts"
_CONTRACT_WEIGHT = 2.0
"""Of a graded answer about a contract: they are few, and of the kind of model that is judged most."""
_LONG = 20
_MOST_CLAUSES = 700
_ATTACKS_OF_ITEM, _CHANGES_OF_ITEM = 6, 2
_BOTH_SIDES = frozenset({"{x}", "{x}."})
"""Phrasings that any fold may use."""


def verdict_examples(rows: Iterable[Mapping[str, Any]]) -> list[Example]:
    """People's verdicts as examples."""
    return [
        Example(
            row["question"], tuple(row["references"]), row["prediction"], float(row["label"]),
            _CONTRACT_WEIGHT if row.get("domain") == CONTRACTS else 1.0, "natural", row["group"], row["group"],
            row.get("domain") == CONTRACTS,
        )
        for row in rows
    ]  # fmt: skip


def items_from_verdicts(rows: Iterable[Mapping[str, Any]], rng: random.Random) -> list[AnsweredItem]:
    """One item for each question, with one of its references as the answer."""
    questions: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        questions.setdefault((row["group"], row["question"]), row)
    items = []
    for (group, question), row in sorted(questions.items()):
        usable = [r for r in row["references"] if 1 < len(r) < 120 and "/" not in r and "(" not in r]
        if usable:
            answer = rng.choice(usable[:4])
            contract = row.get("domain") == CONTRACTS
            items.append(AnsweredItem(question, tuple(row["references"]), answer, group, shape(answer), contract))
    return items


def items_from_clauses(clauses: Iterable[Mapping[str, Any]], rng: random.Random) -> list[AnsweredItem]:
    """Items of contracts: the expert's short form where there is one, and the clauses themselves."""
    items = []
    for clause in clauses:
        if clause["is_impossible"]:
            continue
        category, group = clause["category"], clause["contract"]
        questions = (
            f"What is the {category.lower()}?",
            clause["details"],
            f"What does the contract say about {category}?",
        )
        spans = [" ".join(span.split()) for span in clause["answers"] if len(span.split()) < 300]
        short = clause["normalized_answer"].strip()
        if short and short.lower() not in {"yes", "no"} and "[" not in short:
            references = (short, *spans[:2]) if rng.random() < 0.5 else (short,)
            items.append(AnsweredItem(rng.choice(questions), references, short, group, f"{category} short", True))
        if spans:
            answer = rng.choice(spans)
            references = tuple(spans) if rng.random() < 0.5 else (answer,)
            items.append(AnsweredItem(rng.choice(questions), references, answer, group, f"{category} span", True))
    return rng.sample(items, min(_MOST_CLAUSES, len(items)))


def shape(answer: str) -> str:
    """Number, date, name or words, and how long."""
    text = parse(answer)
    norms = {token.norm for token in text.tokens}
    kinds = {token.kind for token in text.tokens}
    kind = "date" if norms & set(MONTHS) and "n" in kinds else "number" if "n" in kinds else "words"
    if kind == "words" and answer[:1].isupper():
        kind = "name"
    return f"{kind} {min(3, len(text.words))}"


def make_examples(
    items: Sequence[AnsweredItem],
    rng: random.Random,
    attacks: Templates = ATTACKS,
    truths: Templates = TRUTHS,
    *,
    half: int | None = None,
) -> list[Example]:
    """For every item attacks of some kinds and true answers in other words.

    Args:
        items: what they are made from.
        rng: draws phrasings and other answers.
        attacks: phrasings of false answers.
        truths: phrasings of true ones.
        half: which half of the phrasings to use, so that what is fitted on one is measured on the other; None for all.
    """
    by_shape: dict[str, list[str]] = defaultdict(list)
    for item in items:
        by_shape[item.shape].append(item.answer)
    names = [item.answer for item in items if item.shape.startswith("name") and len(item.answer.split()) <= 3]
    mine = {
        kind: [t for t in templates if half is None or t in _BOTH_SIDES or fold(t, 2) == half]
        for kind, templates in (*attacks.items(), *truths.items())
    }
    examples = []
    for item in items:
        others = _others(item, by_shape, items, rng)
        kinds = [kind for kind in attacks if _suits(kind, item)]
        rare = [kind for kind in kinds if kind in _RARE]
        common = [kind for kind in kinds if kind not in _RARE]
        for kind in (*rare, *rng.sample(common, min(_ATTACKS_OF_ITEM - len(rare), len(common)))):
            template = rng.choice(mine[kind])
            said = perturb.fill(perturb.expand(template, rng), item.answer, item.question, others)
            if kind not in _WRONG:
                said = perturb.wrap(said, rng)
            if kind not in _WRONG or not names_reference(item, said):
                examples.append(_example(item, said, 0.0, kind, template))
        for kind in truths:
            for template in rng.sample(mine[kind], 2 if kind == "truth" else 1):
                said = perturb.fill(perturb.expand(template, rng), item.answer, item.question, others)
                examples.append(_example(item, perturb.wrap(said, rng), 1.0, kind, template))
        changes = changed(item, names, rng)
        more = perturb.add_number(item.answer, rng)
        if more and len(set(more.split())) > 1:
            changes.append(("second figure", more))
        for kind, said in rng.sample(changes, min(_CHANGES_OF_ITEM, len(changes))):
            template = rng.choice(mine["truth"]) if rng.random() < 0.6 else "{x}"
            said = perturb.fill(perturb.expand(template, rng), said, item.question, others)
            examples.append(_example(item, said, 0.0, kind, template))
        if len(item.answer.split()) >= _LONG:
            examples += _long(item, others, rng)
    return examples


_RARE = frozenset({"bound", "date bound", "other party"})
"""Attacks that suit few items: they are made of each of these."""
_WRONG = frozenset({"question", "crumb", "forged"})
"""Attacks that need not hold the answer; those that do hold it all the same are left out."""
_ASKS_BOUND = re.compile(
    r"least|most|minim|maxim|limit|\bcap\b|up to|notice|ceiling|exceed|within|before|after|until|by (?:when|what)", re.I
)


def _suits(kind: str, item: AnsweredItem) -> bool:
    """Whether an attack of a kind can be made of an item and is false then."""
    words = len(item.answer.split())
    held = quantities(item.answer)
    dated = any(quantity.kind == "date" for quantity in held)
    if kind in {"bound", "date bound"}:
        fitting = bool(held) and dated == (kind == "date bound") and words <= 6
        return fitting and not _ASKS_BOUND.search(item.question)
    if kind == "other party":
        named = item.shape.startswith("name") or "Parties" in item.shape
        return named and words <= 6 and not held and item.answer[:1].isupper()
    if kind in {"candidates", "false fact"}:
        return words < _LONG
    return True


def changed(item: AnsweredItem, names: Sequence[str], rng: random.Random) -> list[tuple[str, str]]:
    """The answer with a figure, a unit, a month or a name changed, where that names no reference any more."""
    tries = [
        ("digit", perturb.change_number(item.answer, rng)),
        ("digit", perturb.swap_digits(item.answer, rng)),
        ("digit", perturb.change_number_word(item.answer, rng)),
        ("unit", perturb.change_unit(item.answer, rng)),
        ("month", perturb.change_month(item.answer, rng)),
        ("name", perturb.change_name(item.answer, names, rng, word_only=rng.random() < 0.4) if names else None),
    ]
    return [(kind, said) for kind, said in tries if said and not _same_answer(item, said)]


def _same_answer(item: AnsweredItem, said: str) -> bool:
    """Whether a changed answer names a reference still, or equals one in other units."""
    return any(names_reference(item, respell(said, reference)) for reference in item.references)


def _others(
    item: AnsweredItem, by_shape: Mapping[str, Sequence[str]], items: Sequence[AnsweredItem], rng: random.Random
) -> tuple[str, str]:
    accepted = {reference.lower() for reference in item.references} | {item.answer.lower()}
    pool = [other for other in by_shape[item.shape] if other.lower() not in accepted]
    if len(pool) < 2:
        pool = [other.answer for other in items if other.answer.lower() not in accepted]
    first, second = rng.sample(pool, 2)
    return first, second


def names_reference(item: AnsweredItem, prediction: str) -> bool:
    """Whether a generated answer still contains all content words of a reference: it may be right and is not used."""
    inside = {token.norm for token in parse(prediction).tokens}
    contents = ({text.tokens[i].norm for i in text.words} for text in map(parse, item.references))
    return any(content and content <= inside for content in contents)


def _example(item: AnsweredItem, prediction: str, target: float, kind: str, template: str) -> Example:
    return Example(
        item.question, item.references, prediction, target, MADE_WEIGHT, kind, item.group, template, item.from_contract
    )


def _long(item: AnsweredItem, others: Sequence[str], rng: random.Random) -> list[Example]:
    """Answers to a long reference: parts and paraphrases of it, and texts that only resemble it."""
    words = item.answer.split()
    examples = []

    def add(prediction: str, target: float, kind: str) -> None:
        examples.append(_example(item, prediction, target, kind, kind))

    keep = rng.uniform(0.25, 0.95)
    start = rng.randrange(1 + len(words) - max(1, int(keep * len(words))))
    part = " ".join(words[start : start + max(6, int(keep * len(words)))])
    add(part, min(1.0, 0.35 + keep), "part")
    add(paraphrase(item.answer, rng), 0.95, "paraphrase")
    add(others[0], 0.05, "other clause")
    mixed = " ".join(words[: len(words) // 2]) + " " + " ".join(others[0].split()[: len(words) // 2])
    add(mixed, 0.45, "mixed")
    around = " ".join(others[0].split()[-20:]) + " " + item.answer + " " + " ".join(others[1].split()[:20])
    add(around, 0.85, "surrounded")
    for _ in range(2):
        denied = negate(item.answer, rng)
        if denied:
            add(denied, 0.0, "negated inside")
    return examples


_MODAL = re.compile(r"\b(shall|will|may|must|is|are|can|has|have|agrees?)\b(\s+not\b)?", re.IGNORECASE)


def negate(clause: str, rng: random.Random) -> str | None:
    """A clause with one verb negated, or its negation removed; None if it has no such verb."""
    verbs = list(_MODAL.finditer(clause))
    if not verbs:
        return None
    match = rng.choice(verbs)
    return clause[: match.start()] + match.group(1) + ("" if match.group(2) else " not") + clause[match.end() :]


_SYNONYMS = {
    "shall": "will", "will": "shall", "agreement": "contract", "prior": "previous", "terminate": "end", "upon": "on",
    "commence": "begin", "party": "side", "parties": "sides", "written": "in writing", "notice": "notification",
    "any": "all", "such": "the", "pursuant to": "under", "hereunder": "under this contract", "provide": "give",
    "obligations": "duties", "including": "such as", "term": "period", "entire": "whole", "receive": "get",
    "obtain": "get", "purchase": "buy", "within": "in", "however": "but", "each": "every", "request": "ask for",
}  # fmt: skip


def paraphrase(clause: str, rng: random.Random) -> str:
    """The clause in slightly other words: some replaced, some small ones left out, now and then two halves swapped."""
    words = []
    for word in clause.split():
        plain = word.lower().strip(",.;:()")
        if plain in _SYNONYMS and rng.random() < 0.7:
            words.append(word.lower().replace(plain, _SYNONYMS[plain]))
        elif (plain in {"the", "a", "an", "this", "that", "hereby", "herein", "thereof"} and rng.random() < 0.5) or (
            len(plain) > 3 and plain.islower() and plain.isalpha() and rng.random() < 0.08
        ):
            continue
        else:
            words.append(word)
    if rng.random() < 0.25 and len(words) > 16:
        cut = len(words) // 2
        words = words[cut:] + words[:cut]
    return " ".join(words)


def fold(key: str, folds: int) -> int:
    """The fold of a key: the same on every machine and in every run."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % folds
