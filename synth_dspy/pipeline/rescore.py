"""Scores saved programs on new labelled items, with the judge and metrics of their run.

Every call goes through a ledger in the results folder, so that the same command resumes where it was stopped. Items
that a program has learned from are left out, and the report says how many.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from synth_dspy.core.budget import Budget
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import limit_access, limit_access_to, restoring_umask
from synth_dspy.core.io.reading import parse_json, read_part
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.progress import Bars
from synth_dspy.core.protocols import Judge
from synth_dspy.core.run import Run, log_to
from synth_dspy.core.task import CompleteTask
from synth_dspy.core.text import counted
from synth_dspy.core.training_facts import DiscardedTraining, TrainingFacts
from synth_dspy.evaluation import runner
from synth_dspy.evaluation.facts import ArmFacts, RowFacts, RunFacts
from synth_dspy.evaluation.records import Measurements, Prediction, Results
from synth_dspy.evaluation.results import write_results
from synth_dspy.evaluation.spending import Spending, spending_of
from synth_dspy.models.ledger_lm import LedgerEngine
from synth_dspy.pipeline import compile as compiled
from synth_dspy.pipeline import saved
from synth_dspy.pipeline.compile_plan import price_of
from synth_dspy.pipeline.defaults import judge_of, with_resources
from synth_dspy.pipeline.plan import Step, describe, former_rate
from synth_dspy.pipeline.resources import open_executor, open_judged
from synth_dspy.pipeline.saved_files import Saved
from synth_dspy.pipeline.trust import Caller, refuse_links

log = logging.getLogger("synth_dspy.pipeline.rescore")

EVALUATIONS = "evaluations"
FEEDBACK = "feedback"
LEARNED_FROM = ("train", "dev", FEEDBACK)
"""Splits whose rows a program has seen in its prompt or its training, or when it was chosen."""


def find_programs(paths: Sequence[Path], caller: Caller | None = None) -> list[Saved]:
    """The programs of runs (`runs/<task>/<id>`, all of them) and of single folders (`.../programs/<arm>`), in order.

    Args:
        paths: the folders.
        caller: what they are allowed.

    Raises:
        SetupError: a folder has no program, the tasks differ, or a program asks for more than the caller allows.
    """
    programs: dict[Path, Saved] = {}
    for path in paths:
        folder = path.expanduser().resolve()
        if (folder / saved.PROGRAM).is_file():
            folders = [folder]
        else:
            folders = sorted(each.parent for each in folder.glob(f"programs/*/{saved.PROGRAM}"))
        if not folders:
            raise SetupError(
                f"There is no saved program in {path}: name a run, runs/<task>/<id>, or a folder of one, "
                "runs/<task>/<id>/programs/<arm>."
            )
        order = [arm["name"] for arm in _arms(folders[0].parent.parent)]
        folders.sort(key=lambda each: order.index(each.name) if each.name in order else len(order))
        for each in folders:
            programs[each] = saved.read_saved(each, caller or Caller(), roles=("student", "judge", "embedder"))
    tasks = sorted({program.about["task"] for program in programs.values()})
    if len(tasks) > 1:
        raise SetupError(
            f"Only programs of the same task can be compared; these are of {', '.join(tasks)}: name runs of one."
        )
    return list(programs.values())


def rescore(
    paths: Sequence[Path],
    seeds: Path,
    out: Path | None,
    *,
    bars: Bars,
    command: str = "",
    caller: Caller | None = None,
    budget: Budget | None = None,
) -> tuple[Results, Measurements, Path]:
    """Score saved programs on labelled items and write predictions, results and report.

    Args:
        paths: runs, or folders of single programs.
        seeds: labelled items, as the task's source reads them.
        out: folder for the results; by default in the first run's `evaluations/`.
        bars: shows the progress.
        command: the command that was typed, for the report.
        caller: what programs that somebody else made are allowed.
        budget: limits of money and time.

    Returns:
        `results`, `measurements`, and the folder that they were written to.

    Raises:
        SetupError: there is nothing to score, a line of `seeds` is wrong, every item was learned from, or the programs'
            runs had different task settings or limits.
    """
    began = time.perf_counter()
    caller = caller or Caller()
    programs = find_programs(paths, caller)
    if out is None and not programs[0].own:
        refuse_links(programs[0].run / EVALUATIONS, programs[0].run, caller)
    task_name = programs[0].about["task"]
    workspace = programs[0].workspace
    config = _settings(programs)
    task = saved.build_task(workspace, task_name, config)
    items, notes = _unseen(_items(task, seeds, config), programs, seeds, task.noun)
    for note in notes:
        bars.say(note)
    names = _names(programs)
    folder = out or programs[0].run / EVALUATIONS / _folder_name(seeds, names)
    run = Run(task_name, folder)
    limit_access(share=config.share)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        limit_access_to(run.folder, share=config.share)
    except OSError as error:
        raise SetupError(f"The folder of results {run.folder} cannot be made: {error.strerror or error}.") from error
    log_to(run)
    bars.say(_plan(programs, len(items), config))
    predictions, task, judge, spending = predict(
        dict(zip(names, programs, strict=True)), items, task, config, run, bars, caller, command, budget
    )
    named = {(program.run, program.arm): name for name, program in zip(names, programs, strict=True)}
    arms = [_arm_facts(program, named) for program in programs]
    facts = RunFacts(
        baseline=_baseline(task, programs, names),
        arms=arms,
        rows=RowFacts(held_out="human-labelled"),
        notes=notes,
        wall_s=time.perf_counter() - began,
        command=command,
        every_pair=any(arm.training for arm in arms),
        spending=spending,
    )
    results, measurements = write_results(run, task, config, judge, predictions, facts)
    return results, measurements, run.folder


def predict(
    programs: Mapping[str, Saved],
    items: Sequence[dspy.Example],
    task: CompleteTask,
    config: CompileConfig,
    run: Run,
    bars: Bars,
    caller: Caller,
    command: str = "",
    budget: Budget | None = None,
) -> tuple[list[Prediction], CompleteTask, Judge, list[Spending]]:
    """Answers of saved programs to items, scored by the task's judge and metrics.

    Args:
        programs: by the names that their answers have.
        items: what they are asked.
        task: the programs'.
        config: of the judge and the embedder.
        run: whose folder receives the ledger, which answers what was asked before.
        bars: shows the progress.
        caller: what programs that somebody else made are allowed.
        command: resumes this.
        budget: limits of money and time.

    Returns:
        The answers, the task with its resources, the judge, and what the calls cost by role.

    Raises:
        SetupError: a program or a model cannot be opened, or the ledger is damaged.
    """
    with Ledger(run.folder / LEDGER, resume_command=command, budget=budget) as ledger:
        ledger.budget.check()
        executor = open_executor(config)
        resources = open_judged(config, task, ledger=ledger, executor=executor)
        ledger.budget.check()
        task = with_resources(task, resources)
        judge = judge_of(task, resources)
        predictions: list[Prediction] = []
        for name, program in programs.items():
            module = saved.rebuild(program, caller)
            attach_ledger(module, ledger)
            with bars.bar(f"evaluation: {name}", len(items)) as advance:
                predictions += runner.run_arm(
                    name,
                    module,
                    items,
                    metrics=task.metrics,
                    judge=judge,
                    executor=executor,
                    ledger=ledger,
                    advance=advance,
                )
        ledger.budget.check_refused()
        ledger.snapshot()  # raises, before any result is written, if the ledger is damaged
        return predictions, task, judge, spending_of(ledger)


@restoring_umask()
def evaluate_program(
    programs: Path | str | Sequence[Path | str],
    items: Path | str,
    *,
    out: Path | str | None = None,
    trust: bool = False,
    api_base: str | None = None,
    api_key_name: str | None = None,
    allow_http: bool = False,
) -> compiled.Run:
    """Score saved programs on labelled items that they have not learned from.

    Args:
        programs: runs, `runs/<task>/<id>`, or folders of single programs, `.../programs/<arm>`.
        items: labelled items, as the task's source reads them.
        out: where the results go; by default into the first run's `evaluations/`.
        trust: see `load`, as for the addresses.

    Returns:
        The evaluation, with results and a report like a run's.

    Raises:
        SetupError: as `rescore`.
    """
    paths = [Path(programs)] if isinstance(programs, str | Path) else [Path(path) for path in programs]
    caller = Caller(trust, api_base, api_key_name, allow_http)
    folder = rescore(paths, Path(items), None if out is None else Path(out), bars=Bars(), caller=caller)[2]
    return compiled.Run(folder)


def _settings(programs: Sequence[Saved]) -> CompileConfig:
    """The first run's settings; all runs must have read the same knowledge, which the items are about.

    Raises:
        SetupError: two runs differ in the task's settings or the limit; names the settings.
    """
    first, *others = {program.run: program for program in programs}.values()
    config = first.config
    ours = _knowledge(config)
    for other in others:
        theirs = _knowledge(other.config)
        differing = [f"{key} ({theirs[key]}, not {ours[key]})" for key in ours if theirs[key] != ours[key]]
        if differing:
            raise SetupError(
                f"Only programs with the same task settings can be compared: {other.run} differs from {first.run} in "
                f"{', '.join(differing)}. Evaluate each by itself."
            )
    return config


def _knowledge(config: CompileConfig) -> dict[str, Any]:
    """The settings that decide what a run reads, by flag."""
    return {f"task.{key}": value for key, value in getattr(config, "task", ())} | {"limit": config.limit}


def _items(task: CompleteTask, seeds: Path, config: CompileConfig) -> list[dspy.Example]:
    read = getattr(task.source, "read_labelled", None)
    if read is None:
        raise SetupError(
            f"The source of this task, {type(task.source).__name__}, cannot read labelled items from a file: give it a "
            "method read_labelled(path, limit)."
        )
    return list(read(seeds, config.limit))


def _unseen(
    items: Sequence[dspy.Example], programs: Sequence[Saved], seeds: Path, noun: str
) -> tuple[list[dspy.Example], list[str]]:
    """The items that no program has learned from, and sentences about the others."""
    rows = [row for run in dict.fromkeys(program.run for program in programs) for row in learned_from(run)]
    groups = {str(row.get("group")) for row in rows}
    if not items:
        raise SetupError(f"{seeds} has no labelled item that this task can be scored on.")
    unseen = new_items(items, rows)
    if not unseen:
        raise SetupError(f"The programs have learned from every item of {seeds}: name items that are new to them.")
    notes = []
    if len(unseen) < len(items):
        notes.append(
            f"{len(items) - len(unseen)} of {counted(len(items), 'item')} left out, because the programs had learned "
            "from them."
        )
    same_group = sum(str(item.group) in groups for item in unseen)
    if same_group:
        notes.append(
            f"The programs have learned from the {noun}s of {same_group} of the {counted(len(unseen), 'item')}, with "
            f"other questions: on new {noun}s they may do worse."
        )
    return unseen, notes


def learned_from(run: Path) -> list[dict[str, Any]]:
    rows = []
    for name in LEARNED_FROM:
        path = run / "datasets" / f"{name}.jsonl"
        if name == FEEDBACK and not path.exists():
            continue
        try:
            rows += [parse_json(line) for line in read_part(path).split("\n") if line.strip()]
        except (OSError, ValueError) as error:
            raise SetupError(
                f"The training rows of {run} cannot be read from {path} ({error}), so it is unknown which items are "
                "new to its programs."
            ) from error
    return rows


def new_items(items: Iterable[dspy.Example], rows: Sequence[Mapping[str, Any]]) -> list[dspy.Example]:
    """The items that no row asks: by id, by question and group, or by what the program is given.

    A row of a table is a group by itself, so two rows with one text are only found by the text.
    """
    ids, questions = {str(row.get("id")) for row in rows}, {_question(row) for row in rows}
    given: dict[tuple[str, ...], set[str]] = {}

    def is_new(item: dspy.Example) -> bool:
        names = tuple(sorted(item.inputs().keys()))
        if names not in given:
            given[names] = {_given(row, names) for row in rows}
        known = names and _given(item, names) in given[names]
        return not (str(item.id) in ids or _question(item) in questions or known)

    return [item for item in items if is_new(item)]


def _question(row: Any) -> tuple[str, str]:
    """A question and its group, ignoring case and white space."""
    return str(row.get("group")), " ".join(str(row.get("question")).casefold().split())


def _given(row: Any, names: Sequence[str]) -> str:
    """The values of a program's inputs, ignoring case and white space."""
    values = to_jsonable_python([row.get(name) for name in names], fallback=str)
    return " ".join(json.dumps(values, ensure_ascii=False).casefold().split())


def _plan(programs: Sequence[Saved], items: int, config: CompileConfig) -> str:
    """What the evaluation will probably cost, by the calls of the programs' own runs."""
    steps = []
    for program in programs:
        rate = former_rate([program.run], station="evaluation", role="student", arm=program.arm)
        price = price_of(program.config.models, "student")
        steps.append(Step(f"{program.arm}, student", items, rate, price, config.concurrency))
    if config.models.judge != "reference":
        rate = former_rate([programs[0].run], station="evaluation", role="judge")
        steps.append(Step("judge", items * len(programs), rate, price_of(config.models, "judge"), config.concurrency))
    return describe(steps)


def attach_ledger(program: dspy.Module, ledger: Ledger) -> None:
    """Send a loaded program's calls through the ledger.

    Raises:
        SetupError: the ledger's budget is limited, and the price of a model is not known.
    """
    for predictor in program.predictors():
        engine = getattr(predictor.lm, "engine", None)
        if isinstance(engine, LedgerEngine):
            engine.ledger = ledger
            engine.require_price(predictor.lm.model)
        else:
            log.warning("the calls of %s are not recorded: an evaluation that is resumed repeats them", predictor)


def _names(programs: Sequence[Saved]) -> list[str]:
    """The arms' names: as in their run, prefixed with the run if there are several."""
    several = len({program.run for program in programs}) > 1
    return [f"{program.run.name}/{program.arm}" if several else program.arm for program in programs]


def _baseline(task: CompleteTask, programs: Sequence[Saved], names: Sequence[str]) -> str:
    """The first program of the task's baseline, else the first."""
    first = next(iter(task.optimizers))
    return next((name for name, program in zip(names, programs, strict=True) if program.arm == first), names[0])


def _arm_facts(program: Saved, names: Mapping[tuple[Path, str], str]) -> ArmFacts:
    """Facts about an arm from its run's results, under its name here."""
    record: Mapping[str, Any] = next((arm for arm in _arms(program.run) if arm["name"] == program.arm), {})
    training, discarded = record.get("training"), record.get("discarded")
    return ArmFacts(
        name=names[program.run, program.arm],
        optimizer=record.get("optimizer"),
        description=record.get("description"),
        demos=record.get("demos"),
        training=TrainingFacts.of(training) if training else None,
        discarded=DiscardedTraining(TrainingFacts.of(discarded["training"]), discarded["why"]) if discarded else None,
        same_as=names.get((program.run, str(record.get("same_as")))),
    )


def _folder_name(seeds: Path, names: Sequence[str]) -> str:
    digest = sha256(json.dumps(list(names)).encode() + seeds.read_bytes()).hexdigest()
    return f"{seeds.stem}-{digest[:8]}"


def _arms(run: Path) -> list[Mapping[str, Any]]:
    """The arms in a run's results; empty if they cannot be read."""
    try:
        arms = parse_json(read_part(run / "results.json"))["arms"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [arm for arm in arms if isinstance(arm, dict) and "name" in arm] if isinstance(arms, list) else []
