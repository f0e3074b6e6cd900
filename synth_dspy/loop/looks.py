"""Compares a cycle's challenger with the champion, and looks at the gate, again where people have said more.

People may label more questions, or judge the pairs of answers that are there (`judging`). When a further look takes
place is fixed by the one before it: at twice as many items, or when all drawn pairs have been judged. An item that
earlier cycles were decided on weighs less (`gate.freshest`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import limit_access
from synth_dspy.core.io.jsonl import FILLED, ID, read_rows
from synth_dspy.core.text import counted
from synth_dspy.domains.documents.proposals import PROPOSED, ProposedQuestions
from synth_dspy.loop import comparison, watch
from synth_dspy.loop.cycle import Cycle, Cycles, Outcome
from synth_dspy.loop.gate import Decision, Pair, Policy, decide, freshest
from synth_dspy.loop.judging import Judging, draw_pairs, read_judging
from synth_dspy.loop.labels import HELD_BACK
from synth_dspy.loop.proposing import FILE
from synth_dspy.loop.rows import LABELLED, propose_questions, write_labelled, write_rows
from synth_dspy.loop.status import JUDGING, PAGE
from synth_dspy.loop.store import now
from synth_dspy.loop.work import DOCUMENTS, Work, read_documents
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.rows import feedback_checks
from synth_dspy.pipeline.saved_files import Saved

PAIRS, ANSWERS = "pairs.jsonl", "answers.jsonl"
"""In a cycle's folder: the scores, and the answers that have them."""


@dataclass(frozen=True, slots=True)
class Items:
    """What both answer.

    Attributes:
        held_out: items of the cycle's run that neither has learned from.
        seen: how many others there are, that one of them has learned from.
        labelled: items that people labelled.
        why_not: why some of these cannot be used.
    """

    held_out: list[Any]
    seen: int
    labelled: list[Any]
    why_not: str | None

    @property
    def all(self) -> list[Any]:
        """Both, each once."""
        return list({str(item.id): item for item in (*self.held_out, *self.labelled)}.values())


def compare(work: Work, cycle: Cycle) -> Outcome:
    """Let champion and challenger answer the same items: held-out ones, and those that people labelled since."""
    if cycle.memory["challenger"] is None:
        return Outcome("compared", "There is nothing to compare.", {"pairs": 0})
    items = _items(work, cycle, LABELLED)
    pairs, cheaper, crossed = _answer(work, cycle, items)
    memory = cycle.memory
    rest = f" (one of them has learned from {counted(items.seen, 'other')})" if items.seen else ""
    more = f"; in the folds of their runs, their arms answered {counted(crossed, 'item')}" if crossed else ""
    reason = (
        f"{memory['champion']} and {memory['challenger']} answered {counted(len(items.held_out), 'held-out item')}"
        f"{rest} and {counted(len(items.labelled), 'item')} that people labelled{more}."
    )
    evidence: dict[str, Any] = {
        "pairs": len(pairs),
        "crossed": crossed,
        "cheaper": cheaper,
        "held_out": len(items.held_out),
        "labelled": len(items.labelled),
    }
    if items.why_not:
        evidence["labels_not_used"] = items.why_not
        reason = f"{reason} People's labels were not all used: {items.why_not}"
    return Outcome("compared", reason, evidence)


def look(work: Work, cycle: Cycle) -> Outcome | None:
    """The gate. Undecided, it waits for as many items again or for people's verdicts on pairs, and looks once more."""
    memory, policy = cycle.memory, work.plan.policy
    if memory["challenger"] is None:
        return Outcome("decided", "There is no challenger.", {"verdict": "reject"})
    looks = [each for each in cycle.transitions if each.before == each.after == "compared"]
    cheaper, folder = memory["cheaper"], work.cycle_folder(cycle)
    judging = read_judging(folder, len(looks))
    # Once people have begun to judge pairs, the rest of these is waited for, and not more items.
    current = judging is not None and judging.look == len(looks) and judging.begun
    if looks:
        if (moved := watch.champion_moved(work, cycle)) is not None:
            return moved
        name = f"labelled-{len(looks) + 1}.jsonl"
        write_labelled(work, folder, name)
        items = _items(work, cycle, name)
        missing = memory["items_wanted"] - len(items.all) - memory["crossed"]
        waits = not judging.complete if judging is not None and current else missing > 0
        if waits and now() - looks[-1].at < timedelta(hours=work.plan.patience_h):
            return None
        if waits and not current:
            reason = f"{counted(missing, 'item')} that the next look needs were not labelled. {looks[-1].reason}"
            return Outcome("decided", reason, {"verdict": "undecided"})
        _, cheaper, _ = _answer(work, cycle, items)
    whole = every = comparison.read_pairs(folder / PAIRS)
    if judging is not None:
        # Only of the pairs that these were drawn from are they a random part.
        labelled = judging.label([pair for pair in whole if pair.item in judging.compared])
        if current or any(pair.labelled_gain is not None for pair in labelled):
            every = labelled
    used = _uses(work, cycle, whole)
    pairs, uses = freshest(every, used, policy)
    number = len(looks) + 1
    decision = decide(pairs, policy, cheaper=cheaper, look=number, uses=uses)
    same = sum(pair.alike for pair in pairs)
    evidence: dict[str, Any] = {
        "verdict": decision.verdict,
        "look": number,
        "uses": uses,
        "items": len(pairs),
        "same_answers": same,
        **decision.evidence(),
    }
    reason = decision.reason
    if pairs and same == len(pairs):
        reason += " Both gave the same answer to every item: these items cannot tell them apart."
    by_people = any(pair.labelled_gain is not None for pair in pairs)
    if judging is not None and by_people:
        evidence["people"], sentence = _correction(judging, pairs, decision, policy)
        reason += sentence
    if uses:
        reason += f" {counted(uses, 'earlier cycle')} decided on some of these items, so the interval is wider."
    if len(pairs) < len(every):
        reason += f" {counted(len(every) - len(pairs), 'item')} that earlier cycles decided on are left out."
    if not every:
        reason += (
            f" {memory['champion']} has learned from all that is labelled: label questions that are new to it, or "
            "compile the champion with --splits.folds 1."
        )
    if work.plan.verdicts == "always" and not by_people:
        evidence["verdict"] = "undecided"
        reason += " By the judge alone nothing is decided (--verdicts always)."
    if evidence["verdict"] != "undecided" or number == policy.looks or not work.plan.patience_h:
        return Outcome("decided", reason, evidence)
    drawn = _draw(work, folder, number, freshest(whole, used, policy)[0])
    if drawn is None and not _can_label(work):
        return Outcome("decided", reason, evidence)
    wanted = max(2 * int(memory["items_wanted"] if looks else len(whole)), policy.fewest_labels)
    evidence |= {"items_wanted": wanted, JUDGING: None if drawn is None else str(drawn.folder.resolve())}
    ways = _ways(work, cycle, drawn, wanted, len(whole))
    text = f"{reason} The next look, of {policy.looks}, is {ways}, within {work.plan.patience_h:g} hours."
    return Outcome("compared", text, evidence)


def _ways(work: Work, cycle: Cycle, drawn: Judging | None, wanted: int, have: int) -> str:
    """Ask people for verdicts and labels, and say where."""
    ways = []
    if _can_label(work):
        path = work.folder / FILE
        missing = max(wanted - have, 1)
        propose_questions(work, str(cycle.memory["champion"]), most=missing)
        waiting = ProposedQuestions.read(path).counts[PROPOSED] if path.is_file() else 0
        where = _where(work, path, waiting, missing)
        ways.append(f"at {wanted:,} items: {missing:,} more labelled ones that neither has learned from ({where})")
    if drawn is not None:
        pairs = counted(drawn.shown, "pair")
        ways.append(
            f"when people have judged {pairs} of answers (blind, on the service's page {PAGE} or with "
            f"{command(f'blind page {drawn.folder}')})"
        )
    return ", or ".join(ways)


def _where(work: Work, path: Path, waiting: int, missing: int) -> str:
    """Where the missing labels may come from: the questions that wait for a review, and what else there is to do."""
    review = f"review the {counted(waiting, 'proposed one')} with {command(f'label {path}')}"
    if waiting >= missing:
        return review
    task, config = work.declared()
    names = sorted(feedback_checks(task.source.read(config.limit), task.noun))
    given: dict[str, Any] = {"question": "..."} | ({"document": "..."} if "document" in names else {})
    if len(names) > 1 and not set(names) <= set(given):
        given["inputs"] = dict.fromkeys(names, "...")
    line = json.dumps({"status": "accepted", **given, "answer": "..."})
    first = f"{review}; for the other {missing - waiting:,}, " if waiting else "no proposed one waits: "
    rated = f"have more answers rated or corrected, of which one in {HELD_BACK} is kept for scoring"
    return f"{first}{rated}, or add lines {line} to {path}"


def _draw(work: Work, folder: Path, look: int, pairs: Sequence[Pair]) -> Judging | None:
    """Draw pairs for people to judge: after each look as many as the gate has labels at."""
    if not (folder / ANSWERS).is_file():  # a version before this one compared them
        return None
    answers: dict[str, dict[str, Any]] = {side: {} for side in (comparison.CHAMPION, comparison.CHALLENGER)}
    for row in read_rows(folder / ANSWERS, {"id": ID, "arm": FILLED}):
        answers[row["arm"]][str(row["id"])] = row
    limit_access(share=False)
    plan = work.plan
    return draw_pairs(
        folder, look, pairs, answers, task=work.task, most=plan.policy.labels_at(look), raters=plan.raters
    )


def _correction(
    judging: Judging, pairs: Sequence[Pair], decision: Decision, policy: Policy
) -> tuple[dict[str, Any], str]:
    """How many pairs people judged, and what that did to the judge's figure: as evidence, and as a sentence."""
    unlabelled = [replace(pair, champion_label=None, challenger_label=None) for pair in pairs]
    alone, corrected = decide(unlabelled, policy).difference.mean or 0.0, decision.difference.mean or 0.0
    people = judging.evidence(pairs)
    alike = f", and {people['alike']} more have the same answer twice" if people["alike"] else ""
    raters, judged = counted(len(people["raters"]), "person", "people"), counted(people["pairs"], "pair")
    text = (
        f" {raters} judged {judged} blind{alike}; by that the judge's {100 * alone:+.1f} points became "
        f"{100 * corrected:+.1f}."
    )
    return {**people, "by_judge": alone, "correction": corrected - alone}, text


def _uses(work: Work, cycle: Cycle, pairs: Sequence[Pair]) -> Mapping[str, int]:
    """How many earlier cycles were decided on each item; all of them on one whose file is not there any more."""
    uses: Counter[str] = Counter()
    for earlier in Cycles(work.registry.store, {}).all():
        if earlier.id == cycle.id:
            break
        if not any(each.before == "compared" for each in earlier.transitions) or not earlier.memory.get("pairs"):
            continue
        path = work.cycle_folder(earlier) / PAIRS
        used = comparison.read_pairs(path) if path.is_file() else pairs
        uses.update({pair.item for pair in used})
    return uses


def _can_label(work: Work) -> bool:
    return hasattr(work.declared()[0].source, "read_labelled")


def _programs(work: Work, cycle: Cycle) -> dict[str, Saved]:
    versions = {side: cycle.memory[side] for side in (comparison.CHAMPION, comparison.CHALLENGER)}
    return {side: work.saved(work.registry.version(name)) for side, name in versions.items()}


def _items(work: Work, cycle: Cycle, labelled: str) -> Items:
    programs = _programs(work, cycle)
    task, config = work.declared()
    held_out = comparison.read_items(work.run_folder(cycle), "test")
    new = comparison.unseen(held_out, programs.values(), groups=True)
    given, why_not = comparison.labelled_items(task, config.limit, work.cycle_folder(cycle) / labelled)
    return Items(new, len(held_out) - len(new), comparison.unseen(given, programs.values(), groups=False), why_not)


def _answer(work: Work, cycle: Cycle, items: Items) -> tuple[list[Pair], bool, int]:
    """Write the pairs of the answers to items.

    Returns:
        The pairs, whether the challenger costs less, and how many of the pairs are answers in folds.
    """
    folder, programs = work.cycle_folder(cycle), _programs(work, cycle)
    old = _unchanged(programs[comparison.CHAMPION].run / datasets.DOCUMENTS, folder / DOCUMENTS)
    asked = items.all
    predictions = comparison.answers(work, programs, asked, folder / "comparison") if asked else []
    folds = {side: comparison.cross_fitted(program, old) for side, program in programs.items()}
    crossed = all(folds.values())
    if crossed:
        predictions += [{**row, "arm": side} for side, rows in folds.items() for row in rows]
    pairs = comparison.pair_up(predictions, old)
    limit_access(share=False)
    comparison.write_pairs(folder / PAIRS, pairs)
    write_rows(folder, ANSWERS, predictions)
    same_model = len({program.config.models.student for program in programs.values()}) == 1
    cheaper = comparison.is_cheaper(predictions, same_model=same_model)
    return pairs, cheaper, len(pairs) - len(asked) if crossed else 0


def _unchanged(before: Path, today: Path) -> frozenset[str] | None:
    """The documents, or other groups, that are in both files with one hash; None where one was not written."""
    earlier, later = read_documents(before), read_documents(today)
    if earlier is None or later is None:
        return None
    return frozenset(name for name, value in later.items() if earlier.get(name) == value)
