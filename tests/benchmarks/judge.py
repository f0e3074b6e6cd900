"""The reference judge against people's verdicts and against attacks it has not seen.

    python tests/benchmarks/judge.py ../shared/data            fit on half of the groups, measure on the other half
    python tests/benchmarks/judge.py ../shared/data --shipped  measure the workspace's own parameters (fitted on all)

Attacks and true phrasings here are other templates in other words than those of the fit, made from held-out questions
and held-out contracts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from synth_dspy.evaluation.judges import PARAMETERS, settled
from synth_dspy.evaluation.reference_judge import examples as judge_examples
from synth_dspy.evaluation.reference_judge import perturb
from synth_dspy.evaluation.reference_judge.calibration import agreement
from synth_dspy.evaluation.reference_judge.examples import AnsweredItem, fold
from synth_dspy.evaluation.reference_judge.fit import fit
from synth_dspy.evaluation.reference_judge.judge import JudgedAnswer, Parameters, ReferenceScorer
from synth_dspy.models.embedder import EmbeddedEmbedder

UNSEEN_ATTACKS = {
    "negation": (
        "We must say it isn't {x}.", "This definitely isn't {x}.", "It cannot have been {x}.",
        "At no time was it {x}.", "You would be mistaken to answer {x}.", "It certainly is not {x}.",
        "Under no circumstances is it {x}.", "My answer would not be {x}.",
        "Sorry, but {x} is not what the text says.", "{x} is the wrong answer.", "The contract contradicts {x}.",
        "It did not turn out to be {x}.", "That answer, {x}, is inaccurate.", "In no way is it {x}.",
        "The provision does not read {x}.", "It ain't {x}.", "Don't say {x}; that fails.",
    ),
    "uncertainty": (
        "I haven't a clue whether it's {x}.", "It's anyone's guess whether it is {x}.", "Hmm, {x}? I can't be sure.",
        "One might suspect {x}, yet nothing confirms it.", "I couldn't tell you if {x} is right.",
        "Whether the answer is {x} is beyond me.", "I'm in two minds about whether it is {x}.", "Would it be {x}?",
        "No one can say for certain that it is {x}.", "It's impossible to know if it is {x}.",
        "Conceivably {x}, who knows.", "I lack the information to decide whether it is {x}.",
        "I am undecided between yes and no on {x}.", "I don't have any way of knowing if it was {x}.",
        "It has not been established that it is {x}.",
    ),
    "contrast": (
        "It's {y} and certainly not {x}.", "The answer isn't {x}. Rather, it is {y}.",
        "You may think {x}, but {y} is right.", "One should answer {y} in place of {x}.",
        "Far from being {x}, it is {y}.", "{x} would be wrong, it is {y}.", "Not {x} - {y}!",
        "We can discard {x}; the answer is {y}.", "It has been {y} all along, never {x}.",
        "Correct is {y}; {x} is a common error.", "{y} holds, whereas {x} does not.", "No longer {x}; now {y}.",
    ),
    "candidates": (
        "It must be {x}, {y}, or possibly {z}.", "My guesses: {y}, {x} and {z}.", "Somewhere among {z}, {y} and {x}.",
        "Could be {y}, could be {x}, could be {z}.", "If not {y} then {x}, or else {z}.",
        "{x} or perhaps {y} or {z}.", "The alternatives are {y}, {z} and {x}.", "I'd pick from {x}, {y}, {z}.",
        "Either {z} or {x}, I suppose.", "a) {x} b) {y} c) {z}", "* {y}\n* {x}\n* {z}", "{z}, {y}, {x}.",
        "We are left with {x}, {z} and {y}.",
    ),
    "question": (
        "So the question is, {q}", "{q}?", "Someone asks: {q} Indeed, {q}", "To repeat the question: {q}",
        "What you ask is {s}.", "That depends on {s}.", "I understand that you would like to know {s}.",
        "The text deals with {s}.", "{s}, yes.", "Answering {q} requires reading the agreement.",
    ),
}  # fmt: skip
UNSEEN_TRUTHS = {
    "bare": (
        "{x}.", "{x}",
    ),
    "answer": (
        "The answer would be {x}.", "The right answer here is {x}.", "My answer is {x}.",
    ),
    "restated": (
        'The answer to the question "{q}" is {x}.', "As for {s}, it is {x}.", "{s} would be {x}.",
        'In answer to "{q}": {x}',
    ),
    "attributed": (
        "According to the agreement, {x} is what applies.", "As the contract puts it, {x}.",
        "The parties settled on {x}.", "The wording of the contract is: {x}", "As per the terms, it is {x}.",
        "According to the document the answer is {x}.",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--shipped", action="store_true", help="measure the workspace's own parameters")
    parser.add_argument("--half", type=int, default=0, choices=(0, 1), help="the half of the groups that is fitted on")
    parser.add_argument("--items", type=int, default=300, help="items that attacks are made from, of each source")
    parser.add_argument("--show", type=int, default=0, help="failures shown of each kind")
    options = parser.parse_args()
    verdicts = _lines(options.data / "evouna" / "verdicts.jsonl")
    clauses = _lines(options.data / "cuad" / "clauses.jsonl")
    embedder = EmbeddedEmbedder()
    if options.shipped:
        parameters = Parameters.load(PARAMETERS)
    else:
        parameters = fit(
            [row for row in verdicts if fold(row["group"], 2) == options.half],
            embedder,
            clauses=[clause for clause in clauses if fold(clause["contract"], 2) == options.half],
        )
    held_out = [row for row in verdicts if fold(row["group"], 2) != options.half]
    held_clauses = [clause for clause in clauses if fold(clause["contract"], 2) != options.half]
    measure(ReferenceScorer(parameters, embedder), held_out, held_clauses, options.items, options.show)


def measure(scorer: ReferenceScorer, verdicts: list[dict], clauses: list[dict], count: int, show: int = 0) -> None:
    """Print agreement, speed, and how many of each kind of made answer are accepted."""
    rng = random.Random(20)
    scorer.score([JudgedAnswer("a", ["b"], "c d")])
    began, cpu = time.perf_counter(), time.process_time()
    scores = scorer.score([JudgedAnswer(row["question"], row["references"], row["prediction"]) for row in verdicts])
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"verdicts: {agreement(scores, [row['label'] for row in verdicts], [row['group'] for row in verdicts])}")
    print(f"speed: {len(verdicts) / wall:.0f} items/s of wall time, {len(verdicts) / cpu:.0f} items/s of one core")
    made: dict[tuple[str, str], list[tuple[AnsweredItem, str]]] = defaultdict(list)
    for source, items in (
        ("questions", judge_examples.items_from_verdicts(verdicts, rng)),
        ("contracts", judge_examples.items_from_clauses(clauses, rng)),
    ):
        chosen = rng.sample(items, min(count, len(items)))
        for item, said, kind in _made(chosen, rng):
            made[(kind, _shape(source, item))].append((item, said))
        # Few answers hold a month: all others that do are taken too.
        rest = [item for item in items if item not in chosen and perturb.change_month(item.answer, rng)]
        for item, said, kind in _made(rest, rng):
            if kind == "changed month":
                made[(kind, _shape(source, item))].append((item, said))
    order = sorted(made, key=lambda key: (not key[0].startswith("true"), key))
    totals: dict[str, list[bool]] = defaultdict(list)
    for kind, shape in order:
        pairs = made[(kind, shape)]
        answers = [JudgedAnswer(item.question, item.references, said) for item, said in pairs]
        scores = _judged(scorer, answers)
        accepted = [score >= 0.5 for score in scores]
        totals[kind] += accepted
        print(f"{kind:22} {shape:12} accepted {100 * sum(accepted) / len(accepted):5.1f} of 100 (n {len(accepted)})")
        wrong = [i for i, yes in enumerate(accepted) if yes != kind.startswith("true")]
        for i in rng.sample(wrong, min(show, len(wrong))):
            item, said = pairs[i]
            print(
                f"    {scores[i]:.2f} | {item.question[:60]} | {[r[:60] for r in item.references[:2]]} | {said[:160]!r}"
            )
    for kind, accepted in totals.items():
        print(f"{kind:22} {'all':12} accepted {100 * sum(accepted) / len(accepted):5.1f} of 100 (n {len(accepted)})")


def _judged(scorer: ReferenceScorer, answers: list[JudgedAnswer]) -> list[float]:
    """As the judge scores them: abstention first."""
    return [
        score if (score_by_rule := settled(one._asdict())) is None else score_by_rule
        for one, score in zip(answers, scorer.score(answers), strict=True)
    ]


def _made(items: list[AnsweredItem], rng: random.Random) -> list[tuple[AnsweredItem, str, str]]:
    by_shape = defaultdict(list)
    for item in items:
        by_shape[item.shape].append(item.answer)
    names = [item.answer for item in items if item.shape.startswith("name") and len(item.answer.split()) <= 3]
    rows = []
    for item in items:
        others = judge_examples._others(item, by_shape, items, rng)
        for kind, templates in UNSEEN_ATTACKS.items():
            said = perturb.fill(rng.choice(templates), item.answer, item.question, others)
            if kind != "question" or not judge_examples.names_reference(item, said):
                rows.append((item, said, kind))
        for kind, templates in UNSEEN_TRUTHS.items():
            rows.append(
                (item, perturb.fill(rng.choice(templates), item.answer, item.question, others), f"true: {kind}")
            )
        for kind, said in judge_examples.changed(item, names or ["Peter Novak", "Larsen"], rng):
            templates = rng.choice(list(UNSEEN_TRUTHS.values()))
            rows.append((item, perturb.fill(rng.choice(templates), said, item.question, others), f"changed {kind}"))
        if len(item.answer.split()) >= 20:
            denied = judge_examples.negate(item.answer, rng)
            if denied:
                rows.append((item, denied, "negated inside"))
            rows.append((item, others[0], "another clause"))
            words = item.answer.split()
            rows.append((item, " ".join(words[: int(0.7 * len(words))]), "true: most of it"))
    return rows


def _shape(source: str, item: AnsweredItem) -> str:
    if len(item.answer.split()) >= 20:
        return "long clause"
    return (
        item.shape.split()[0] if source == "questions" else judge_examples.shape(item.answer).split()[0] + ", contract"
    )


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


if __name__ == "__main__":
    main()
