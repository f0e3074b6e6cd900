"""Collects a run's rows: human-labelled ones if there are any, synthetic ones otherwise, and people's feedback.

Held-out rows come first, because training rows are checked against them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import dspy

from synth_dspy.core.errors import NewRunNeeded, SetupError
from synth_dspy.core.io.jsonl import FILLED, GIVEN, Check, one_of
from synth_dspy.core.knowledge import Checked, Knowledge, skipped_sentences
from synth_dspy.core.resources import Resources
from synth_dspy.core.text import counted, is_blank
from synth_dspy.evaluation.ai_feedback import NO_RATER
from synth_dspy.evaluation.facts import HeldOut, RowFacts, SplitFacts
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.context import Context
from synth_dspy.pipeline.proposals import is_unread, unread, with_reviewed
from synth_dspy.synthesis.decontaminate import decontaminate
from synth_dspy.synthesis.pipeline import Synthesis, Tunable, synthesise
from synth_dspy.synthesis.text import tokens
from synth_dspy.training.feedback import read_feedback, read_questions

MOSTLY = 0.5
"""The report warns if at least this share of the labelled training rows are duplicates of held-out ones."""


def read_knowledge(context: Context) -> tuple[Knowledge, datasets.Splits]:
    """The task's knowledge and its splits.

    Raises:
        SetupError: it has too few groups to split, or its source rejects it.
    """
    source = context.task.source
    if isinstance(source, Checked):
        source.check()
    knowledge = with_reviewed(context, source.read(context.config.limit))
    for sentence in skipped_sentences(knowledge.skipped, ", which the report of the finished run lists"):
        context.say(sentence)
    splits = datasets.split(knowledge, context.config.seed)
    groups, noun = len({item.group for item in knowledge.items}), context.task.noun
    if groups < 3:
        raise NewRunNeeded(
            f"At least 3 {noun}s are needed, to learn from some and be scored on others; there are {groups}. "
            f"Add {noun}s, or raise --limit."
        )
    for note in knowledge.notes:
        context.say(note)
        context.note(note)
    if is_unread(context, knowledge):
        context.say(
            f"Nobody has labelled questions about these {noun}s: a quick run is scored on its own, which nobody "
            "reviews, as --unreviewed would have it."
        )
    context.note(*_empty(knowledge.labelled))
    return knowledge, splits


def _empty(labelled: Sequence[dspy.Example]) -> list[str]:
    """Sentences on inputs that are empty in some labelled rows."""
    empty = Counter(
        name for row in labelled for name, value in row.inputs().items() if isinstance(value, str) and is_blank(value)
    )
    return [
        f"The input {name} is empty in {count} of {counted(len(labelled), 'labelled row')}, which are used as they are."
        for name, count in empty.items()
    ]


def wanted_candidates(context: Context, splits: datasets.Splits) -> dict[str, int]:
    """How many candidates are written at most for each split: also to choose or to score on, where nobody has labelled.

    None where nothing would learn from them, or a split has nothing to write about.
    """
    wanted = context.bound("candidates") if context.task.synthesizer is not None else 0
    few = min(wanted, max(1, wanted // 3))
    needed = {
        "train": 0 if context.config.synthesis.train_on == "gold" else wanted,
        "dev": 0 if splits["dev"].labelled else few,
        "test": 0 if splits["test"].labelled else wanted,
    }
    return {name: number if splits[name].items else 0 for name, number in needed.items()}


def collect_rows(
    context: Context, knowledge: Knowledge, splits: datasets.Splits, resources: Resources
) -> tuple[dict[str, list[dspy.Example]], RowFacts]:
    """The rows of every split (`train`, `dev`, `test`), also written to the run's `datasets/`, and facts about them.

    Where no group is held out, nothing is scored.

    Raises:
        SetupError: there are no held-out rows, or every training row is a copy of one.
    """
    wanted = wanted_candidates(context, splits)
    dev, test = list(splits["dev"].labelled), list(splits["test"].labelled)
    seeds = splits["train"].labelled or tuple(knowledge.prompts)
    shown = replace(resources, seeds=seeds, learned=seeds)
    held_out: HeldOut = "human-labelled" if unread(test) < len(test) else "synthetic"
    if not test and splits["test"].items:
        test = list(_synthesise(context, "test", splits, shown, wanted["test"]).kept)
    if not dev:
        dev = list(_synthesise(context, "dev", splits, shown, wanted["dev"]).kept)
    if not test and splits["test"].groups:
        raise NewRunNeeded(
            f"There are no labelled questions about the held-out {context.task.noun}s, and none of the synthetic ones "
            "passed the filters. Name a stronger teacher with --models.teacher, or label some questions yourself."
            if context.task.synthesizer is not None
            else f"No labelled {context.task.noun} is in the held-out split: add some."
        )
    gold, contamination = decontaminate(splits["train"].labelled, (*dev, *test), resources.embedder.embed)
    _warn_of_copies(context, len(splits["train"].labelled), len(gold))
    prompts, train_on = tuple(knowledge.prompts), context.config.synthesis.train_on
    learned = tuple(datasets.training_rows(gold, (), train_on)) or prompts
    shown = replace(resources, seeds=gold or prompts, learned=learned, held_out=(*dev, *test))
    synthesis = _synthesise(context, "train", splits, shown, wanted["train"])
    train = datasets.training_rows(gold, synthesis.kept, train_on)
    seed = context.config.seed
    rows = {
        "train": train,
        "dev": datasets.spread(dev or train, context.bound("validation"), seed),
        "test": datasets.spread(test, context.bound("held_out"), seed),
    }
    if not dev:
        context.note(
            "There are no development questions, so prompts are chosen on training rows: their dev scores and the loss "
            "on dev look better than they are. The held-out items are not affected."
        )
    later = synthesis.contamination or {}
    facts = RowFacts(
        held_out=held_out,
        splits={
            "train": _split(train, train),
            "dev": _split(rows["dev"], dev) if dev else replace(_split(rows["dev"], train), origin="training rows"),
            "test": _split(rows["test"], test),
        },
        synthesis=synthesis.yield_table if context.task.synthesizer is not None else None,
        contamination={kind: count + later.get(kind, 0) for kind, count in contamination.items()},
        skipped=knowledge.skipped,
        unread=unread(rows["test"]),
    )
    for name, examples in rows.items():
        context.run.write_jsonl(f"datasets/{name}.jsonl", map(datasets.as_row, examples))
    context.run.write_jsonl(datasets.DOCUMENTS, datasets.hash_rows(datasets.hash_knowledge(knowledge)))
    return rows, facts


def _warn_of_copies(context: Context, labelled: int, kept: int) -> None:
    """Note that most labelled training rows are copies of held-out ones.

    Raises:
        SetupError: all are, and none can be generated.
    """
    copies = labelled - kept
    if copies < MOSTLY * labelled or not copies:
        return
    if not kept and context.task.synthesizer is None:
        raise NewRunNeeded(
            f"All {labelled} training rows are duplicates of held-out ones, so none is left to learn from, and a score "
            "on rows that repeat means little: give rows that differ from each other."
        )
    sentence = (
        f"{copies} of {counted(labelled, 'labelled training row')} were removed as duplicates of held-out rows: rows "
        "that repeat so often make a score mean little."
    )
    if sentence not in context.notes:  # folds share their notes
        context.note(sentence)


def _split(rows: Sequence[dspy.Example], available: Sequence[dspy.Example]) -> SplitFacts:
    """Facts about a split: the number of groups and rows used, of rows available, and their origin."""
    origins = sorted({str(row.get("origin")) for row in rows})
    named = {"gold": "labelled by people", "synthetic": "synthetic"}
    origin = " and ".join(named.get(each, each) for each in origins)
    return SplitFacts(len({row.group for row in rows}), len(rows), len(available), origin)


def check_feedback(context: Context, knowledge: Knowledge) -> None:
    """Check the files of people's feedback and of questions before the synthesis, after which they are used.

    Raises:
        SetupError: it cannot be read, or a line lacks an answer or an input, or names an unknown group; names the line
            and the field. Nothing can judge answers to the questions.
    """
    if context.config.training.questions and context.config.models.judge == "reference" and not knowledge.documents:
        raise SetupError(NO_RATER)
    training = context.config.training
    checks = feedback_checks(knowledge, context.task.noun)
    for path, read in ((training.feedback, read_feedback), (training.questions, read_questions)):
        if path is not None:
            read(path, list(checks), checks=checks)


def feedback_checks(knowledge: Knowledge, noun: str) -> dict[str, Check]:
    """The checks of the program's inputs in people's feedback, by the inputs' names; none without an example."""
    examples = [*knowledge.labelled, *knowledge.prompts]
    inputs = sorted(examples[0].inputs().keys()) if examples else []
    groups = one_of({item.group for item in knowledge.items}, noun)
    # An input that equals the group in every example, such as the document that a question is about.
    named = {name: groups for name in inputs if all(example.get(name) == example.get("group") for example in examples)}
    return dict.fromkeys(inputs, FILLED) | _types(inputs, examples) | named


def _types(inputs: Sequence[str], examples: Sequence[dspy.Example]) -> dict[str, Check]:
    """The checks of inputs that are not texts."""
    texts = {name for name in inputs if all(isinstance(example.get(name), str | None) for example in examples)}
    return {name: GIVEN for name in inputs if name not in texts}


def collect_feedback(
    context: Context, rows: Mapping[str, Sequence[dspy.Example]], splits: datasets.Splits
) -> Sequence[dspy.Example]:
    """People's feedback, without what is about held-out groups or asks a held-out question.

    Args:
        context: of the run.
        rows: of every split, as `collect_rows` returns them.
        splits: of the knowledge.
    """
    path, train = context.config.training.feedback, rows["train"]
    if path is None or not train:
        return ()
    feedback = _unseen(context, rows, splits, path, "feedback", read_feedback)
    groups = {str(example.group) for example in train} | set(splits["train"].groups)
    written = []
    for number, example in enumerate(feedback, start=1):
        group = next((value for value in example.inputs().values() if str(value) in groups), None)
        written.append({"id": f"human-{number}", "group": group, **example.toDict()})
    context.run.write_jsonl("datasets/feedback.jsonl", written)
    return feedback


def collect_questions(
    context: Context, rows: Mapping[str, Sequence[dspy.Example]], splits: datasets.Splits
) -> Sequence[dspy.Example]:
    """Questions without references, without those about held-out groups and those that are held out themselves.

    Args:
        context: of the run.
        rows: of every split, as `collect_rows` returns them.
        splits: of the knowledge.
    """
    path = context.config.training.questions
    if path is None or not rows["train"]:
        return ()
    return _unseen(context, rows, splits, path, "questions", read_questions)


def _unseen(
    context: Context,
    rows: Mapping[str, Sequence[dspy.Example]],
    splits: datasets.Splits,
    path: Path,
    noun: str,
    read: Callable[..., tuple[list[dspy.Example], int]],
) -> list[dspy.Example]:
    """What a file of the user's says about training groups and questions; notes what is left out."""
    train = rows["train"]
    inputs = sorted(train[0].inputs().keys())
    unseen = {group for name in ("dev", "test") for group in splits[name].groups}
    given, naming = read(path, inputs, unseen, _types(inputs, train))
    asked = {
        name: {_asked(example, inputs) for example in (*rows[name], *splits[name].labelled)}
        for name in ("train", "dev", "test")
    }
    questions = asked["test"] | (asked["dev"] - asked["train"])  # without dev questions, "dev" is the trainset
    feedback = [example for example in given if _asked(example, inputs) not in questions]
    reasons = {f"name a held-out {context.task.noun}": naming, "ask a held-out question": len(given) - len(feedback)}
    for why, count in reasons.items():
        sentence = f"Of the {noun} in {path.name}, {counted(count, 'line')} left out: they {why}."
        if count and sentence not in context.notes:  # folds share their notes
            context.note(sentence)
    return feedback


def _asked(example: dspy.Example, inputs: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The words of an example's inputs."""
    return tuple(tokens(str(example.get(name))) for name in inputs)


def _synthesise(context: Context, name: str, splits: datasets.Splits, resources: Resources, wanted: int) -> Synthesis:
    task, bars, ledger = context.task, context.bars, context.ledger
    if task.synthesizer is None:
        return Synthesis(items=0, candidates=(), verdicts={}, kept=(), filters=())
    synthesizer = task.synthesizer(resources)
    synthesizer.set_lm(resources.teacher)
    items = splits[name].items if wanted else ()
    if isinstance(synthesizer, Tunable) and items:
        with bars.bar(f"prompts of the synthesis ({name})", None), ledger.unit(station="synthesis"):
            synthesizer.tune(items, task.filters(resources), resources.executor)
    with bars.bar(f"synthesis ({name})", None) as bar, ledger.unit(station="synthesis"):
        synthesis = synthesise(
            items,
            synthesizer,
            task.filters(resources),
            executor=resources.executor,
            ledger=ledger,
            limit=wanted,
            progress=bar.reach,
        )
    context.run.write_jsonl(f"datasets/candidates-{name}.jsonl", synthesis.candidate_rows())
    return synthesis
