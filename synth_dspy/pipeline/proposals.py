"""Held-out questions for documents that nobody has labelled: proposed by the teacher, reviewed by a person.

The documents that they are about are chosen first, and nothing is learned from these. Where they have too little text
for a verdict, questions about all documents are proposed, and each document is held out in turn (`folds.py`).
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import dspy

from synth_dspy.core.errors import AwaitingReview, NewRunNeeded, SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.knowledge import Knowledge
from synth_dspy.core.resources import Resources
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.documents.chunks import chunk_document
from synth_dspy.domains.documents.proposals import PROPOSED, REVIEWED, STATUSES, ProposedQuestions, propose
from synth_dspy.domains.documents.source import as_examples
from synth_dspy.evaluation.report.verdict import SMALL_SAMPLE
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.context import Context
from synth_dspy.pipeline.folds import CHOICES, FEWEST_GROUPS
from synth_dspy.synthesis.pipeline import SYNTHETIC, Synthesis

WANTED = 40
"""Questions that are proposed, where the documents hold so many: a fourth may be rejected, and 30 make a verdict."""
FEWEST, MOST = 0.4, 0.5
"""Shares of the documents that are held out for proposed questions: the second if the first has too little text."""
WORDS_A_QUESTION = 250
"""Words of documents that are held out for each question that is wanted."""
NAMED = 3
"""Answers that are named at most, of those that their documents do not hold."""
SILENT = 0.15
"""At most this share of the proposed questions is not answered by its document."""


@runtime_checkable
class Proposing(Protocol):
    """A source whose held-out questions a person reviews; `proposals` is their file, None where it has labels."""

    @property
    def proposals(self) -> Path | None: ...


def with_reviewed(context: Context, knowledge: Knowledge) -> Knowledge:
    """Knowledge with the proposed questions that a person has let pass; as it is where none were proposed.

    Raises:
        AwaitingReview: none of them has passed yet.
        SetupError: their file is not as it should be.
    """
    path = _file(context, knowledge)
    if path is None or not path.is_file():
        return knowledge
    questions = ProposedQuestions.read(path).about(knowledge.documents)
    statuses = (*REVIEWED, PROPOSED) if context.config.unreviewed else REVIEWED
    rows = questions.labels(knowledge.documents, context.task.abstain, statuses)
    if not rows:
        if context.config.quick:
            return knowledge
        if not questions.counts[PROPOSED]:
            raise SetupError(
                f"None of the {len(questions)} questions in {path} was accepted: write some of your own with "
                f"{_label(path)}, or remove the file to have others proposed."
            )
        raise AwaitingReview(_waiting(context, questions, knowledge))
    chunks = {document.id: chunk_document(document) for document in knowledge.documents}
    examples = as_examples(rows, chunks, context.task.abstain)
    read = {row["id"] for row in rows if row["status"] in REVIEWED}
    labelled = [e if e.id in read else e.copy(origin=SYNTHETIC) for e in examples]
    _describe(context, questions, len(read), len(rows))
    _warn_of_others_words(context, questions.not_held(knowledge.documents, context.task.abstain))
    every = questions.documents if _are_held_out(questions, knowledge) else frozenset()
    return replace(knowledge, labelled=labelled, held_out=every)


def proposes(context: Context, knowledge: Knowledge) -> bool:
    """Whether a compile proposes questions, since nobody has labelled any."""
    missing = _file(context, knowledge) is not None and not knowledge.labelled
    return missing and context.task.synthesizer is not None and not context.config.quick


def is_unread(context: Context, knowledge: Knowledge) -> bool:
    """Whether a run is scored on questions that nobody has read because it is quick, without --unreviewed."""
    return context.config.quick and not context.config.unreviewed and _file(context, knowledge) is not None


def with_proposed(context: Context, knowledge: Knowledge, resources: Resources) -> Knowledge:
    """Knowledge with questions that are proposed now, where nobody has labelled any; else the same.

    Raises:
        AwaitingReview: they are in their file, and wait for a person.
        NewRunNeeded: no question could be made, or none passed the filters.
        SetupError: the file cannot be written.
    """
    path, make = _file(context, knowledge), context.task.synthesizer
    if path is None or make is None or not proposes(context, knowledge):
        return knowledge
    task, bars = context.task, context.bars
    held_out = _held_out(knowledge, context.config.seed)
    shown = replace(resources, seeds=tuple(knowledge.prompts), learned=(), scored=True)

    def synthesizer() -> dspy.Module:
        module = make(shown)
        module.set_lm(resources.teacher)
        return module

    def proposed(groups: frozenset[str]) -> Synthesis:
        with bars.bar("proposing questions", None) as bar, context.ledger.unit(station="synthesis"):
            return propose(
                [item for item in knowledge.items if item.group in groups],
                synthesizer,
                lambda: task.filters(shown),
                wanted=WANTED,
                executor=resources.executor,
                ledger=context.ledger,
                progress=bar.reach,
            )

    synthesis = proposed(held_out)
    kept = _chosen(synthesis.kept, context.config.seed)
    groups = frozenset(item.group for item in knowledge.items)
    if len(kept) < SMALL_SAMPLE and len(groups) >= FEWEST_GROUPS:
        synthesis = proposed(groups)
        kept = _chosen(synthesis.kept, context.config.seed)
    context.run.write_jsonl("datasets/candidates-proposed.jsonl", synthesis.candidate_rows())
    if not kept:
        raise NewRunNeeded(
            f"None of the {len(synthesis.candidates)} questions that the teacher wrote about {len(groups)} "
            f"{task.noun}s passed the filters: start a new run with a stronger teacher, named with --models.teacher, "
            "or label some yourself (--labelled)."
            if synthesis.candidates
            else f"No question could be made about the {len(groups)} {task.noun}s: the rules that make questions of "
            "their statements know English sentences only, and the teacher, which is the student itself, found nothing "
            "to ask for. Start a new run with a larger teacher, named with --models.teacher, or label some questions "
            "yourself (--labelled)."
        )
    questions = ProposedQuestions.of(path, sorted(kept, key=lambda e: str(e.group)), context.config.models.teacher)
    questions.save()
    if not context.config.unreviewed:
        raise AwaitingReview(_waiting(context, questions, knowledge))
    return with_reviewed(context, knowledge)


def unread(rows: Sequence[object]) -> int:
    """How many examples no person has read."""
    return sum(getattr(row, "origin", None) == SYNTHETIC for row in rows)


def _file(context: Context, knowledge: Knowledge) -> Path | None:
    source = context.task.source
    return source.proposals if isinstance(source, Proposing) and not knowledge.labelled else None


def _held_out(knowledge: Knowledge, seed: int) -> frozenset[str]:
    """The documents that questions are proposed about; at least two are left to learn from and to choose on."""
    words: Counter[str] = Counter()
    for item in knowledge.items:
        words[item.group] += len(item.text.split())
    held_out: list[str] = []
    for group in sorted(words, key=lambda group: hash_order(group, seed)):
        enough = sum(words[each] for each in held_out) >= WANTED * WORDS_A_QUESTION
        fewest = min(WANTED, round(FEWEST * len(words)))
        if (enough and len(held_out) >= fewest) or len(held_out) >= min(MOST * len(words), len(words) - 2):
            break
        held_out.append(group)
    return frozenset(held_out)


def _chosen(kept: Sequence[dspy.Example], seed: int) -> list[dspy.Example]:
    """At most `WANTED` questions, even over the documents, few of them unanswerable."""
    answered = [example for example in kept if example.references]
    silent = [example for example in kept if not example.references]
    few = datasets.spread(silent, round(SILENT / (1 - SILENT) * len(answered)), seed)
    return datasets.spread([*answered, *few], WANTED, seed)


def _are_held_out(questions: ProposedQuestions, knowledge: Knowledge) -> bool:
    """Whether enough documents are left to learn from, so that those with proposed questions can all be held out."""
    return len(questions.documents) <= MOST * len({item.group for item in knowledge.items})


def _waiting(context: Context, questions: ProposedQuestions, knowledge: Knowledge) -> str:
    noun, number, documents = context.task.noun, questions.counts[PROPOSED], len(questions.documents)
    again, few = "give the same command again", ""
    if not _are_held_out(questions, knowledge):
        again += f" with --splits.folds {CHOICES[-1]}, which holds out each of these few {noun}s in turn"
    if number < SMALL_SAMPLE:
        few = " These are few: write your own there, or remove the file and name a stronger teacher (--models.teacher)."
    return (
        f"{number} proposed question{'s' if number != 1 else ''} about {documents} {noun}s wait for you in "
        f"{questions.path}: review them with {_label(questions.path)} ({SMALL_SAMPLE} accepted ones make a verdict), "
        f"then {again}; --unreviewed goes on without.{few}"
    )


def _describe(context: Context, questions: ProposedQuestions, read: int, used: int) -> None:
    """Say on the console and in the report where the held-out questions come from.

    Args:
        context: the run.
        questions: all in the file.
        read: how many of the used ones a person has reviewed.
        used: how many are used.
    """
    counts = questions.counts
    counted = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    if counts[PROPOSED] and not context.config.unreviewed:
        context.say(f"{counts[PROPOSED]} proposed questions in {questions.path} are not reviewed and are left out.")
    part = "them all" if read == used else f"{read} of the {used}" if read else ""
    reviewed = f"a person has reviewed {part}" if part else "nobody has read them"
    context.note(f"The held-out questions were proposed by the teacher, and {reviewed} ({counted}).")


def _warn_of_others_words(context: Context, sentences: Sequence[str]) -> None:
    """Name answers that their documents do not hold: each may be a slip, or right in other words."""
    for sentence in sentences[:NAMED]:
        context.say(sentence)
    if len(sentences) > NAMED:
        context.say(f"{len(sentences) - NAMED} further answers are not in their {context.task.noun}s.")


def _label(path: Path) -> str:
    return f"{command('label')} {shlex.quote(str(path.parent))}"
