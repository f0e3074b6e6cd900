"""What people and models say of answers becomes the rows of a cycle: lines to learn from, and items to score on.

The teacher rewrites answers that people commented on, and a grader rates answers that nobody rated, if it agrees with
people. Their calls are kept beside the cycle's files, so a loop that is killed here does not pay for them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.files import limit_access, write_whole
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.run import jsonl_text
from synth_dspy.core.task import CompleteTask
from synth_dspy.core.text import counted
from synth_dspy.loop.cycle import Cycle, Outcome
from synth_dspy.loop.feedback import collect_answers, feedback_rows
from synth_dspy.loop.grader import AnswerRater, fit_grader, grade_unrated
from synth_dspy.loop.labels import is_held_back, labelled_rows
from synth_dspy.loop.proposing import FILE, MOST, labelled_questions, propose
from synth_dspy.loop.records import Feedback
from synth_dspy.loop.registry import sha256
from synth_dspy.loop.rewriting import Rewriter
from synth_dspy.loop.store import Store
from synth_dspy.loop.work import Work
from synth_dspy.pipeline.defaults import with_resources
from synth_dspy.pipeline.resources import open_embedder, open_role, open_saved
from synth_dspy.pipeline.rows import feedback_checks

FEEDBACK, LABELLED, ABOUT, MODELS = "feedback.jsonl", "labelled.jsonl", "rows.json", "feedback"
"""In a cycle's folder: the lines to learn from, the items to score on, what is known of both, and the folder of the
models' calls."""
_GRADED = 2000
"""Latest answers without people's ratings that the grader rates."""
_REFERENCE = "reference"
_SHOWN = 3


def collect_rows(work: Work, cycle: Cycle) -> Outcome:
    """Turn feedback into lines to learn from, and into items to score on; what is written already stays."""
    folder, store = work.cycle_folder(cycle), work.registry.store
    task, config = work.declared()
    checks = feedback_checks(task.source.read(config.limit), task.noun)
    limit_access(share=False)
    if not (folder / ABOUT).is_file():
        with _models(task, config, folder / MODELS, store) as (rater, rewriter):
            try:
                grader = fit_grader(store, rater=rater)
                graded = grade_unrated(store, grader, most=_GRADED)
                made = feedback_rows(
                    store, checks=checks or None, rewriter=rewriter, keep=lambda inputs: not is_held_back(inputs)
                )
            except ModelError as error:
                raise SetupError(f"The feedback cannot be turned into rows: {error}") from error
        write_rows(folder, FEEDBACK, made.lines)
        about = {
            "grader": grader.sentence,
            "graded": len(graded),
            "feedback_dropped": dict(made.dropped),
            "by_ai": sum(line.get("source") == "ai" for line in made.lines),
            **made.counts,
            "feedback_rows": len(made.lines),
            "labelled_items": write_labelled(work, folder, LABELLED),
            "feedback_sha256": sha256(folder / FEEDBACK),
        }
        write_rows(folder, ABOUT, [about])  # last: now all is written
    evidence = read_json_object(folder / ABOUT)
    return Outcome("rows", _reason(evidence), evidence)


def write_labelled(work: Work, folder: Path, name: str) -> int:
    """Write the items that people have labelled until now, by their feedback and by reviewing proposed questions.

    Returns:
        How many.
    """
    task, config = work.declared()
    checks = feedback_checks(task.source.read(config.limit), task.noun)
    limit_access(share=False)
    by_feedback = labelled_rows(collect_answers(work.registry.store).values(), task.output, checks)
    reviewed = labelled_questions(work.folder / FILE, task.output, checks, checks)
    write_rows(folder, name, [*by_feedback, *reviewed])
    return len(by_feedback) + len(reviewed)


def propose_questions(work: Work, version: str, like: Sequence[str] = (), *, most: int = MOST) -> int:
    """Propose questions of the traffic for labelling, those like some others first; see `propose`.

    Returns:
        How many were added to the file.
    """
    task, config = work.declared()
    inputs = feedback_checks(task.source.read(config.limit), task.noun)
    limit_access(share=False)
    return propose(
        work.registry.store,
        work.folder / FILE,
        version,
        inputs,
        most=most,
        like=like,
        embed=lambda: open_embedder(config).embed,
        choices=task.classes,
    )


def write_rows(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of a cycle whole.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, jsonl_text(rows))
    except OSError as error:
        raise SetupError(f"{folder / name} cannot be written: {error.strerror or error}.") from error


def _reason(evidence: Mapping[str, Any]) -> str:
    lines, labelled, dropped = (evidence[key] for key in ("feedback_rows", "labelled_items", "feedback_dropped"))
    if lines or labelled:
        by_ai = f", {evidence['by_ai']} of them by models," if evidence["by_ai"] else ""
        text = f"Feedback gives {counted(lines, 'line')}{by_ai} to learn from"
        text += f" and {counted(labelled, 'item')} to score on."
    else:
        text = "There is no feedback that could be learned from."
    text = f"{text} {evidence['grader']}"
    if dropped:
        most = sorted(dropped.items(), key=lambda each: -each[1])[:_SHOWN]
        text += f" Not used: {'; '.join(f'{count} ({why})' for why, count in most)}."
    return text


@contextmanager
def _models(
    task: CompleteTask, config: CompileConfig, folder: Path, store: Store
) -> Iterator[tuple[AnswerRater | None, Rewriter | None]]:
    """The judge model that helps the grader, and the rewriter; None where there is no such model or nothing for it."""
    by_people = [record for record in store.read(Feedback) if record.source == "person"]
    commented = any(record.kind == "comment" for record in by_people)
    judged = config.models.judge != _REFERENCE and bool(by_people)
    if not commented and not judged:
        yield None, None
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    with Ledger(folder / LEDGER, resume_command="the same command") as ledger:
        executor = Executor(config.concurrency)
        judge_lm = open_role(config, "judge", ledger) if judged else None
        rater = AnswerRater(judge_lm, executor) if judge_lm is not None else None
        rewriter = None
        if commented:
            resources = replace(open_saved(config, task, ledger=ledger, executor=executor), judge_lm=judge_lm)
            judge = with_resources(task, resources).judge(resources)
            rewriter = Rewriter(open_role(config, "teacher", ledger), judge, rater, executor)
        yield rater, rewriter
