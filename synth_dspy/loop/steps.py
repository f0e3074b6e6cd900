"""What a cycle does in each state, from a signal to the gate's decision. `watch` goes on from there.

Every step may be done again: it begins with what is already there, and what it writes is replaced whole. Programs are
trained from the base on all data of the task and all feedback, not on top of the champion.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.config import absolute
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import limit_access
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.run import CONFIG
from synth_dspy.core.text import counted
from synth_dspy.loop import comparison, looks, watch
from synth_dspy.loop.cycle import Cycle, Outcome, State, Step
from synth_dspy.loop.proposing import FILE
from synth_dspy.loop.rows import FEEDBACK, collect_rows, propose_questions, write_rows
from synth_dspy.loop.signals.documents import document_changes
from synth_dspy.loop.work import DOCUMENTS, Work, cycle_name, read_documents, read_program
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.arms import arms_again
from synth_dspy.pipeline.compile import resume_run, start
from synth_dspy.pipeline.saved import open_program

_SHOWN = 5


def make_steps(work: Work) -> Mapping[State, Step]:
    """The work of every state."""
    steps: dict[State, Any] = {
        "opened": _index,
        "indexed": _find_what_moved,
        "questions": collect_rows,
        "rows": _train,
        "trained": looks.compare,
        "compared": looks.look,
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
    if watch.BY_HAND in cycle.memory:
        return Outcome("promoted", "It is the champion already: there is nothing to train.")
    champion = work.champion()
    before, now = read_documents(Path(champion.run) / datasets.DOCUMENTS), work.documents()
    changes = document_changes(before, now) if before is not None else None
    folder = work.cycle_folder(cycle)
    limit_access(share=False)
    write_rows(folder, DOCUMENTS, datasets.hash_rows(now))
    evidence = {"champion": champion.id, "documents_now": len(now)}
    open_program(work.saved(champion).folder, work.caller)  # which updates the index that the champion searches
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
    try:
        _arms(work)
    except SetupError as error:
        return Outcome("closed", f"{memory['champion']} stays the champion. {error}", {})
    documents = [*memory.get("added", ()), *memory.get("changed", ())]
    questions = list(memory.get("questions_that_moved", ()))
    proposed = propose_questions(work, str(memory["champion"]), questions) if questions else 0
    parts = []
    if documents:
        more = f" and {len(documents) - _SHOWN} more" if len(documents) > _SHOWN else ""
        parts.append(f"questions are written anew about {', '.join(documents[:_SHOWN])}{more}")
    if questions:
        parts.append(f"people ask other things, such as {questions[0]!r}")
    if proposed:
        path = work.folder / FILE
        parts.append(f"{counted(proposed, 'question')} like these wait for labels ({command(f'label {path}')})")
    text = "; ".join(parts) or "nothing moved that questions would have to follow"
    return Outcome(
        "questions", f"{text[0].upper()}{text[1:]}.", {"covers": {"documents": len(documents)}, "proposed": proposed}
    )


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
    config, arms = champion.config, _arms(work)
    feedback = work.cycle_folder(cycle) / FEEDBACK
    training: dict[str, Any] = {"feedback": feedback if cycle.memory.get("feedback_rows") else None}
    training |= {"minutes": work.plan.minutes} if work.plan.minutes is not None else {}
    update: dict[str, Any] = {
        "evaluation": config.evaluation.model_copy(update={"arms": arms}),
        "training": config.training.model_copy(update=training),
        "quick": False,  # a quick run's limits are for seeing that it works, not for a comparison
        "max_usd": work.plan.limits.get("max_usd"),
        "max_minutes": work.plan.limits.get("max_minutes"),
    }
    if not comparison.cross_fitted(champion):  # the gate needs items that both have never seen
        update["splits"] = config.splits.model_copy(update={"folds": 1})
    if (work.workspace / config.runs_here / work.task).resolve() != work.folder.resolve():
        update["runs"] = work.folder.parent.resolve()
    if config.quick:
        made = f"{work.champion().id} was made by a --quick run"
        work.say(f"{cycle.id}: {made}; this cycle trains and compares in full, with its other settings.")
    ledger = champion.run / LEDGER
    changed = cycle.memory.get("signal") == "model"  # its old answers are not those that it would give now
    start(
        work.workspace,
        work.task,
        absolute(config.model_copy(update=update)),
        identifier=cycle_name(cycle),
        answers=ledger if ledger.is_file() and not changed else None,
    )


def _arms(work: Work) -> tuple[str, ...]:
    """The arms to train: the plan's, else those that make the champion's arm again."""
    task, config = work.declared()
    return tuple(work.plan.arms) or arms_again(task, config, work.champion().arm)


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
