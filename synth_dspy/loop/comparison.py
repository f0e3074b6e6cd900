"""Compares a cycle's best program with the champion, on items that neither has learned from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy

from synth_dspy.core.budget import Budget
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import limit_access, write_whole
from synth_dspy.core.io.jsonl import FILLED, ID, read_rows
from synth_dspy.core.io.reading import read_text
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run, jsonl_text, log_to
from synth_dspy.core.task import CompleteTask
from synth_dspy.evaluation.records import Prediction
from synth_dspy.loop.gate import Pair
from synth_dspy.loop.work import Work, read_program
from synth_dspy.pipeline.datasets import from_row
from synth_dspy.pipeline.rescore import learned_from, new_items, predict
from synth_dspy.pipeline.saved_files import PROGRAM, Saved

JUDGED = "judged"
OLD = "documents that did not change"
CHAMPION, CHALLENGER = "champion", "challenger"
CHEAPER = 0.95
"""A challenger is cheaper if it costs less than this share of what the champion costs."""


def read_items(run: Path, split: str) -> list[dspy.Example]:
    """The items of a run's split."""
    path = run / "datasets" / f"{split}.jsonl"
    if not path.is_file() or not path.stat().st_size:
        return []
    return [from_row(row) for row in read_rows(path, {"id": ID})]


def choose_arm(work: Work, run: Path, baseline: str, folder: Path) -> tuple[str | None, dict[str, float]]:
    """The arm of a finished run that does best on the questions that prompts were chosen on.

    The held-out items decide nothing here: they are what the gate looks at.

    Args:
        work: the task in production.
        run: the finished run.
        baseline: the arm that nothing was done to, which is not taken.
        folder: of the cycle.

    Returns:
        Its name, None where no arm could be compiled; and the mean scores where there was a choice.
    """
    arms = sorted(path.parent.name for path in run.glob(f"programs/*/{PROGRAM}") if path.parent.name != baseline)
    items = read_items(run, "dev")
    if len(arms) < 2 or not items:
        return (arms[0] if arms else None), {}
    programs = {arm: read_program(run, arm, work.caller) for arm in arms}
    predictions = answers(work, programs, items, folder / "choice")
    scores = {arm: _mean(row["scores"].get(JUDGED) for row in predictions if row["arm"] == arm) or 0.0 for arm in arms}
    return max(arms, key=lambda arm: scores[arm]), scores


def answers(work: Work, programs: Mapping[str, Saved], items: Sequence[dspy.Example], folder: Path) -> list[Prediction]:
    """Answers of programs to items, scored; what was answered before is not asked again.

    Raises:
        SetupError: the folder cannot be written, or a program cannot be opened.
    """
    task, config = work.declared()
    limit_access(share=config.share)
    run = Run(work.task, folder, resume_command="the same command")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    log_to(run)
    return predict(programs, items, task, config, run, Bars(), work.caller, budget=Budget(**work.plan.limits))[0]


def cross_fitted(program: Saved, groups: Collection[str] | None = None) -> list[Prediction]:
    """The answers of a program's arm in the folds of its run, each made without the item's group; none for a run
    without folds.

    Such a run ends with programs that learned from all that is labelled, so two of them can only be compared by how
    their arms did in the folds.

    Args:
        program: saved.
        groups: whose items are taken: those that have not changed since; None: all.
    """
    path = program.run / "predictions.jsonl"
    rows: list[Any] = read_rows(path, {"id": ID, "arm": FILLED}) if path.is_file() and path.stat().st_size else []
    folded = [row for row in rows if row["arm"] == program.arm and row.get("fold") is not None]
    return [row for row in folded if groups is None or row["group"] in groups]


def unseen(items: Iterable[dspy.Example], programs: Iterable[Saved], *, groups: bool) -> list[dspy.Example]:
    """The items that no program has learned from.

    Args:
        items: labelled.
        programs: saved.
        groups: whether an item is also left out if a program has learned from its document, or other group.
    """
    rows = [row for program in programs for row in learned_from(program.run)]
    seen = {str(row.get("group")) for row in rows} if groups else set()
    return [item for item in new_items(items, rows) if str(item.group) not in seen]


def labelled_items(task: CompleteTask, limit: int | None, path: Path) -> tuple[list[dspy.Example], str | None]:
    """Items that people labelled, and why some cannot be used where they cannot."""
    read: Any = getattr(task.source, "read_labelled", None)
    if not path.is_file() or not path.stat().st_size:
        return [], None
    if read is None:
        return [], f"the task's source, {type(task.source).__name__}, has no method read_labelled"
    wrong: list[str] = []

    def items_of(lines: Sequence[str]) -> list[dspy.Example]:
        """Those of the lines that can be read: a label may be wrong, or its document gone."""
        with TemporaryDirectory() as folder:
            part = Path(folder) / path.name
            part.write_text("".join(lines), encoding="utf-8")
            try:
                return list(read(part, limit))
            except SetupError as error:
                why = str(error).replace(str(part), path.name)
        if len(lines) == 1:
            wrong.append(why)
            return []
        half = len(lines) // 2
        return items_of(lines[:half]) + items_of(lines[half:])

    lines = [f"{line}\n" for line in read_text(path).split("\n") if line]  # not splitlines: a text may hold U+2028
    items = items_of(lines)
    return items, f"{len(wrong)} of {len(lines)}; the first: {wrong[0]}" if wrong else None


def pair_up(predictions: Sequence[Prediction], old: frozenset[str] | None) -> list[Pair]:
    """Pairs of the answers that both have a score for.

    Args:
        predictions: of both.
        old: groups that did not change since the champion was made, which are a protected slice; None: unknown.
    """
    by_arm = {name: {row["id"]: row for row in predictions if row["arm"] == name} for name in (CHAMPION, CHALLENGER)}
    pairs = []
    for name, before in by_arm[CHAMPION].items():
        after = by_arm[CHALLENGER].get(name)
        if after is None:
            continue
        ours, theirs = before["scores"].get(JUDGED), after["scores"].get(JUDGED)
        if ours is None or theirs is None:
            continue
        slices = {each for each in (before["category"],) if each}
        slices |= {OLD} if old is not None and before["group"] in old else set()
        alike = before["prediction"] == after["prediction"] and not before["error"] and not after["error"]
        pairs.append(Pair(ours, theirs, before["group"], frozenset(slices), item=str(name), alike=alike))
    return pairs


def is_cheaper(predictions: Sequence[Prediction], *, same_model: bool) -> bool:
    """Whether the challenger costs less: by price where both have one, else by tokens of one model."""
    for name in ("cost_usd", *(("tokens",) if same_model else ())):
        costs = {arm: _mean(_cost(row, name) for row in predictions if row["arm"] == arm) for arm in _SIDES}
        before, after = costs[CHAMPION], costs[CHALLENGER]
        if before and after is not None:
            return after < CHEAPER * before
    return False


_SIDES = (CHAMPION, CHALLENGER)


def _cost(row: Prediction, name: str) -> float | None:
    if name == "cost_usd":
        return row["cost_usd"]
    if row["prompt_tokens"] is None or row["completion_tokens"] is None:
        return None
    return row["prompt_tokens"] + row["completion_tokens"]


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else None


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Keep pairs as JSON lines."""
    write_whole(path, jsonl_text({**asdict(pair), "slices": sorted(pair.slices)} for pair in pairs))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file that `write_pairs` wrote."""
    lines: list[dict[str, Any]] = []
    with suppress(FileNotFoundError):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [Pair(**{**line, "slices": frozenset(line["slices"])}) for line in lines]
