"""What a cycle does in each state, from a signal to the gate's decision. `watch` goes on from there.

Every step may be done again: it begins with what is already there, and what it writes is replaced whole. Programs are
trained from the base on all data of the task and all feedback, not on top of the champion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.config import absolute
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import limit_access, write_whole
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.run import CONFIG, jsonl_text
from synth_dspy.core.text import counted
from synth_dspy.loop import comparison, watch
from synth_dspy.loop.cycle import Cycle, Outcome, State, Step
from synth_dspy.loop.feedback import collect_answers, feedback_rows
from synth_dspy.loop.gate import decide
from synth_dspy.loop.grader import fit_grader, grade_unrated
from synth_dspy.loop.labels import labelled_rows, learned_lines
from synth_dspy.loop.registry import sha256
from synth_dspy.loop.signals.documents import document_changes
from synth_dspy.loop.work import Work, cycle_name, read_documents, read_program
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.compile import resume_run, start
from synth_dspy.pipeline.rows import feedback_checks
from synth_dspy.pipeline.saved import open_program

DOCUMENTS, FEEDBACK, LABELLED, PAIRS = "documents.jsonl", "feedback.jsonl", "labelled.jsonl", "pairs.jsonl"
"""Files in a cycle's folder."""
_SHOWN = 5
_GRADED = 2000
"""Latest answers without people's ratings that the grader rates."""


def make_steps(work: Work) -> Mapping[State, Step]:
    """The work of every state."""
    steps: dict[State, Any] = {
        "opened": _index,
        "indexed": _find_what_moved,
        "questions": _collect_rows,
        "rows": _train,
        "trained": _compare,
        "compared": _decide,
        "decided": _go_on,
        "waiting": watch.wait,
        "shadow": watch.shadow,
        "share": watch.share,
        "promoted": watch.watch,
        "watched": watch.close,
        "rolled_back": watch.close,
    }

    def bound(step: Any) -> Step:
        return lambda cycle: step(work, cycle)

    return {state: bound(step) for state, step in steps.items()}


def _index(work: Work, cycle: Cycle) -> Outcome:
    """Find which documents changed, and bring the index up to date."""
    champion = work.champion()
    before, now = read_documents(Path(champion.run) / datasets.DOCUMENTS), work.documents()
    changes = document_changes(before, now) if before is not None else None
    folder = work.cycle_folder(cycle)
    limit_access(share=False)
    _write(folder, DOCUMENTS, datasets.hash_rows(now))
    open_program(work.saved(champion).folder, work.caller)  # which updates the index that the champion searches
    evidence = {"champion": champion.id, "documents_now": len(now)}
    if changes is None:
        return Outcome("indexed", f"{champion.id} was made before runs noted which documents they read.", evidence)
    kinds = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
    said = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items() if names)
    evidence |= {kind: list(names) for kind, names in kinds.items()}
    reason = f"Of {len(now)} documents or groups: {said}" if said else "No document changed"
    return Outcome("indexed", f"{reason} since {champion.id} was made.", evidence)


def _find_what_moved(work: Work, cycle: Cycle) -> Outcome:
    """Say what the next training has to cover. The run itself writes the questions."""
    memory = cycle.memory
    documents = [*memory.get("added", ()), *memory.get("changed", ())]
    questions = list(memory.get("questions_that_moved", ()))
    parts = []
    if documents:
        more = f" and {len(documents) - _SHOWN} more" if len(documents) > _SHOWN else ""
        parts.append(f"questions are written anew about {', '.join(documents[:_SHOWN])}{more}")
    if questions:
        parts.append(f"people ask other things, such as {questions[0]!r}")
    text = "; ".join(parts) or "nothing moved that questions would have to follow"
    return Outcome("questions", f"{text[0].upper()}{text[1:]}.", {"covers": {"documents": len(documents)}})


def _collect_rows(work: Work, cycle: Cycle) -> Outcome:
    """Turn feedback into lines to learn from, and into items to score on; what is written already stays."""
    folder, store = work.cycle_folder(cycle), work.registry.store
    task, config = work.declared()
    checks = feedback_checks(task.source.read(config.limit), task.noun)
    limit_access(share=False)
    if not (folder / FEEDBACK).is_file():
        grade_unrated(store, fit_grader(store), most=_GRADED)
        _write(folder, LABELLED, labelled_rows(collect_answers(store).values(), task.output, checks))
        _write(folder, FEEDBACK, learned_lines(feedback_rows(store, checks=checks or None).lines))
    learned, labelled = (_count_lines(folder / name) for name in (FEEDBACK, LABELLED))
    reason = (
        f"Feedback gives {counted(learned, 'line')} to learn from and {counted(labelled, 'item')} to score on."
        if learned or labelled
        else "There is no feedback that could be learned from."
    )
    evidence = {"feedback_rows": learned, "labelled_items": labelled, "feedback_sha256": sha256(folder / FEEDBACK)}
    return Outcome("rows", reason, evidence)


def _train(work: Work, cycle: Cycle) -> Outcome:
    """Compile the arms in a run of the cycle's own, or go on with it."""
    folder, memory = work.run_folder(cycle), cycle.memory
    if not (folder / "results.json").is_file():
        if (folder / CONFIG).is_file():
            resume_run(work.task, str(folder.resolve()), None, work.caller, limits=work.plan.limits)
        else:
            if folder.is_dir():  # killed before its settings were written
                folder.rmdir()
            _start(work, cycle)
    baseline = next(iter(work.declared()[0].optimizers))
    arm, scores = comparison.choose_arm(work, folder, baseline, work.cycle_folder(cycle))
    if arm is None:
        reason = f"No arm besides {baseline} could be compiled; {folder / 'report.md'} says why."
        return Outcome("trained", reason, {"run": str(folder), "challenger": None})
    seed = read_program(folder, arm, work.caller).config.seed
    data = {"feedback": memory["feedback_sha256"]} if memory.get("feedback_rows") else {}
    version = work.registry.register(folder, arm, data=data, seeds={"run": seed}, note=f"cycle {cycle.id}")
    compared = ", ".join(f"{name} {100 * score:.0f}" for name, score in scores.items())
    reason = f"{version.id} is the arm {arm} of {folder.name}" + (f", the best on dev ({compared})." if scores else ".")
    evidence = {"run": str(folder), "challenger": version.id, "dev_scores": scores}
    return Outcome("trained", reason, evidence)


def _start(work: Work, cycle: Cycle) -> None:
    champion = work.saved(work.champion())
    config, baseline = champion.config, next(iter(work.declared()[0].optimizers))
    arms = work.plan.arms or (config.evaluation.arms if champion.arm == baseline else (champion.arm,))
    feedback = work.cycle_folder(cycle) / FEEDBACK
    training: dict[str, Any] = {"feedback": feedback if cycle.memory.get("feedback_rows") else None}
    training |= {"minutes": work.plan.minutes} if work.plan.minutes is not None else {}
    update: dict[str, Any] = {
        "evaluation": config.evaluation.model_copy(update={"arms": tuple(arms)}),
        "training": config.training.model_copy(update=training),
        "max_usd": work.plan.limits.get("max_usd"),
        "max_minutes": work.plan.limits.get("max_minutes"),
    }
    if not comparison.cross_fitted(champion):  # the gate needs items that both have never seen
        update["splits"] = config.splits.model_copy(update={"folds": 1})
    if (work.workspace / config.runs.expanduser() / work.task).resolve() != work.folder.resolve():
        update["runs"] = work.folder.parent.resolve()
    ledger = champion.run / LEDGER
    changed = cycle.memory.get("signal") == "model"  # its old answers are not those that it would give now
    start(
        work.workspace,
        work.task,
        absolute(config.model_copy(update=update)),
        identifier=cycle_name(cycle),
        answers=ledger if ledger.is_file() and not changed else None,
    )


def _compare(work: Work, cycle: Cycle) -> Outcome:
    """Let champion and challenger answer the same items: held-out ones, and those that people labelled since."""
    memory, folder = cycle.memory, work.cycle_folder(cycle)
    if memory["challenger"] is None:
        return Outcome("compared", "There is nothing to compare.", {"pairs": 0})
    versions = {comparison.CHAMPION: memory["champion"], comparison.CHALLENGER: memory["challenger"]}
    programs = {side: work.saved(work.registry.version(name)) for side, name in versions.items()}
    task, config = work.declared()
    old = _unchanged(programs[comparison.CHAMPION].run / datasets.DOCUMENTS, folder / DOCUMENTS)
    held_out = comparison.read_items(work.run_folder(cycle), "test")
    new = comparison.unseen(held_out, programs.values(), groups=True)
    given, why_not = comparison.labelled_items(task, config.limit, folder / LABELLED)
    labelled = comparison.unseen(given, programs.values(), groups=False)
    items = list({str(item.id): item for item in (*new, *labelled)}.values())
    predictions = comparison.answers(work, programs, items, folder / "comparison") if items else []
    folds = {side: comparison.cross_fitted(program, old) for side, program in programs.items()}
    if all(folds.values()):
        predictions += [{**row, "arm": side} for side, rows in folds.items() for row in rows]
    pairs = comparison.pair_up(predictions, old)
    limit_access(share=False)
    comparison.write_pairs(folder / PAIRS, pairs)
    same_model = len({program.config.models.student for program in programs.values()}) == 1
    cheaper = comparison.is_cheaper(predictions, same_model=same_model)
    seen = len(held_out) - len(new)
    rest = f" (one of them has learned from {counted(seen, 'other')})" if seen else ""
    crossed = len(pairs) - len(items) if all(folds.values()) else 0
    more = f"; in the folds of their runs, their arms answered {counted(crossed, 'item')}" if crossed else ""
    reason = (
        f"{versions[comparison.CHAMPION]} and {versions[comparison.CHALLENGER]} answered "
        f"{counted(len(new), 'held-out item')}{rest} and {counted(len(labelled), 'item')} that people labelled{more}."
    )
    evidence: dict[str, Any] = {
        "pairs": len(pairs),
        "cheaper": cheaper,
        "held_out": len(new),
        "labelled": len(labelled),
    }
    if why_not:
        evidence["labels_not_used"] = why_not
        reason = f"{reason} People's labels were not used: {why_not}"
    return Outcome("compared", reason, evidence)


def _unchanged(before: Path, now: Path) -> frozenset[str] | None:
    """The documents, or other groups, that are in both files with one hash; None where one was not written."""
    earlier, later = read_documents(before), read_documents(now)
    if earlier is None or later is None:
        return None
    return frozenset(name for name, value in later.items() if earlier.get(name) == value)


def _decide(work: Work, cycle: Cycle) -> Outcome:
    """The gate."""
    memory = cycle.memory
    if memory["challenger"] is None:
        return Outcome("decided", "There is no challenger.", {"verdict": "reject"})
    pairs = comparison.read_pairs(work.cycle_folder(cycle) / PAIRS)
    decision = decide(pairs, work.plan.policy, cheaper=memory["cheaper"])
    reason = decision.reason
    if not pairs:
        reason += (
            f" {memory['champion']} has learned from all that is labelled: label questions that are new to it, or "
            "compile the champion with --splits.folds 1."
        )
    return Outcome("decided", reason, {"verdict": decision.verdict, **decision.evidence()})


def _go_on(work: Work, cycle: Cycle) -> Outcome:
    """Promote by steps, wait for a person, or end."""
    memory, challenger = cycle.memory, cycle.memory["challenger"]
    decided = cycle.transitions[-1].reason
    if memory["verdict"] != "promote":
        kept = f"{memory['champion']} stays the champion"
        return Outcome("closed", f"{kept}. {decided}", {"labels_needed": memory.get("labels_needed")})
    if (moved := watch.champion_moved(work, cycle)) is not None:
        return moved
    if work.plan.promote == "ask":
        return Outcome("waiting", f"{challenger} waits for a person's approval. {decided}")
    return Outcome("shadow", f"{challenger} goes on by itself. {decided}")


def _write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, jsonl_text(rows))
    except OSError as error:
        raise SetupError(f"{folder / name} cannot be written: {error.strerror or error}.") from error
    return folder / name


def _count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
