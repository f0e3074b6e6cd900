"""What to do next after a run: two sentences with their commands, chosen by rule from the results.

They are written with the report and not stored in the results, because they name the run's folder, which may move.
"""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.invocation import CALL
from synth_dspy.core.io.reading import parse_json, read_part
from synth_dspy.core.splits import FOLDS
from synth_dspy.core.text import counted
from synth_dspy.evaluation.records import ArmMeasured, Measurements, Results
from synth_dspy.evaluation.report.verdict import SMALL_SAMPLE, listed, trivial_sentences

TARGET_DIFFERENCE = 0.15
"""The difference that a comparison should detect with 80 % power."""
MOST_ROWS = 0.8
"""An arm that was trained on less than this share of the available rows might gain from the others."""
_SPREAD = 0.5
"""The assumed standard deviation of paired differences where there are too few to estimate it."""
_QUICK = "quick=True"
"""A quick run's argument in a call from Python."""
_NO_SETTINGS = ("config", "resume", "trust", "allow_http", "api_base", "api_key_name")
"""Flags of `compile` that are no settings, as fields are written."""
_LONGEST_QUESTION = 300
"""Characters of the longest question that is put on a command line."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, as a sentence, and the command for it."""

    sentence: str
    command: str


def next_steps(results: Results, measurements: Measurements, folder: Path) -> list[Step]:
    """The two steps that are likely to help most, each with a command of its own.

    Args:
        results: a run's, also of earlier versions.
        measurements: the same run's.
        folder: the run's.
    """
    steps = list(_steps(results, measurements, _relative(folder)))
    if (measurements.get("command") or "").startswith(CALL):  # `compile` needs a task file
        steps = [step for step in steps if step.command.startswith(CALL) or "compile" not in step.command]
    unique: dict[str, Step] = {}
    for step in steps:
        unique.setdefault(step.command, step)
    return list(unique.values())[:2]


def needed_items(results: Results) -> int:
    """About how many held-out items would show `TARGET_DIFFERENCE`, estimated from the spread of these items."""
    baseline = results["baseline"]
    least = [
        (c["n"], c["smallest_detectable"])
        for c in results["comparisons"]
        if c["against"] == baseline and c["n"] >= SMALL_SAMPLE and c["smallest_detectable"]
    ]
    items: float
    if least:
        items = max(n * (value / TARGET_DIFFERENCE) ** 2 for n, value in least)
    else:
        from scipy.stats import norm

        tests = max(1, sum(c["against"] == baseline for c in results["comparisons"]))
        items = float(((norm.ppf(1 - 0.025 / tests) + norm.ppf(0.8)) * _SPREAD / TARGET_DIFFERENCE) ** 2)
    return math.ceil(items / 10) * 10


def _steps(results: Results, measurements: Measurements, folder: Path) -> Iterator[Step]:
    verdict, baseline = results["verdict"], results["baseline"]
    again = _command(results, measurements, folder)
    call = _call(measurements)
    if verdict["highest"] is None:
        yield Step("No arm was scored: mend what made the arms fail, and run it again.", call or again)
        return
    n, best = results["items"]["headline"], verdict["best"]
    quick = _is_quick(measurements, folder)
    scored = n
    if quick:  # in full it scores all
        again = _without(again, "--evaluation.held-out")
        test = results["splits"].get("test")
        scored = (test.get("available") if test else None) or n
    few = n < SMALL_SAMPLE or (best is None and needed_items(results) > n)
    more = list(_more_items(results, again, scored, every=quick)) if few else []
    if quick and call:
        yield Step("A quick run only shows that everything works: make the call without quick=True.", call)
    elif quick:
        items = f"all {scored} held-out items" if scored > n else "every held-out item"
        also = " ".join(step.sentence for step in more if step.command == again)
        yield Step(f"A quick run only shows that everything works: run it in full, on {items}. {also}".strip(), again)
    if best is not None and best != baseline:
        yield from _use(best, folder)
    if (labelled := results.get("labelled")) is not None:
        yield _cross_fitting(labelled, n, measurements, again)
    yield from more
    yield from _more_rows(results, measurements, again)
    if best is None and trivial_sentences(results, [baseline]):
        # The weights of a server's model are not here, so arms that train them cannot be named.
        command = _without(_without(again, "--models.student"), "--evaluation.arms")
        command += " --evaluation.arms" if "--config" in _flags(command) else ""  # the task's, whatever the file names
        yield Step(
            "The model does no better than the same answer to every question: name a stronger student.",
            f"{command} --models.student ollama_chat/llama3.2",
        )
    written = results.get("synthesis") is not None
    if written and best in (None, baseline) and str(results["models"].get("teacher")).startswith("embedded/"):
        yield Step(
            "Training rows are only as good as the model that writes them: name a stronger teacher.",
            f"{_without(again, '--models.teacher')} --models.teacher openai/gpt-5-mini",
        )
    arms = [arm["name"] for arm in results["arms"] if arm["n"] and "same_as" not in arm]
    if len(arms) > 1:
        ranked = [*(name for name in (best, verdict["highest"]) if name), *arms]
        pair = [baseline, next(a for a in ranked if a != baseline)] if baseline in arms else arms[:2]
        yield Step(
            f"Let people vote on {listed(pair)} without knowing whose answer is whose.",
            f"python -m synth_dspy.blind sheets {_quoted(folder)} --arms {shlex.join(pair)} --out blind",
        )
    yield Step(
        "Weigh the arms against each other by quality, latency, memory, cost and licence.",
        f"python -m synth_dspy.choose {_quoted(folder)}",
    )


def _cross_fitting(labelled: int, n: int, measurements: Measurements, again: str) -> Step:
    """Every label used, where a single split scored few."""
    call = _call(measurements)
    flag = f"{_without(again, '--splits.folds')} --splits.folds {FOLDS}"
    return Step(
        f"Hold every labelled question out once, by cross-fitting: {labelled} are scored, not {n}, for about "
        f"{FOLDS + 1} times the work.",
        f"{call[:-1]}, splits={{'folds': {FOLDS}}})" if call else flag,
    )


def _use(best: str, folder: Path) -> Iterator[Step]:
    """How to use an arm."""
    program = folder / "programs" / best
    if program.is_dir():
        code = f"import synth_dspy; print(synth_dspy.load({str(program)!r})({_example_arguments(folder)}).answer)"
        # Double quotes where the shell finds nothing in them to replace: the code has single ones.
        quoted = shlex.quote(code) if re.search(r'[$`"\\!]', code) else f'"{code}"'
        yield Step(f"Ask {best}; in Python, synth_dspy.load gives the same program.", f"python -c {quoted}")
    yield Step(
        f"See whether {best} is worth its latency, memory and cost, and which licences it depends on.",
        f"python -m synth_dspy.choose {_quoted(folder)}",
    )


def _example_arguments(folder: Path) -> str:
    """The arguments of the program for a held-out item of the run, or `...` if no item is short plain text."""
    try:
        for line in read_part(folder / "datasets" / "test.jsonl").split("\n"):
            row = parse_json(line)
            inputs = {name: row[name] for name in row["inputs"] if row.get(name) is not None}
            if all(isinstance(v, str) for v in inputs.values()) and sum(map(len, inputs.values())) < _LONGEST_QUESTION:
                return ", ".join(f"{name}={value!r}" for name, value in inputs.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return "..."


def _more_items(results: Results, again: str, n: int, *, every: bool) -> Iterator[Step]:
    """Ways to more held-out items; only the first says what they are for.

    Args:
        results: the run's.
        again: the command for the same run.
        n: how many items that scores.
        every: whether these are all that there are.
    """
    test = results["splits"].get("test")
    needed, available = needed_items(results), (test.get("available") if test else None) or 0
    purpose = (
        f"detecting a difference of {100 * TARGET_DIFFERENCE:.0f} points takes about {needed} held-out items, not {n}"
    )
    ways = []
    if test and available > test["items"] and not every:
        command = f"{_without(again, '--evaluation.held-out')} --evaluation.held-out {available}"
        ways.append((f"Score all {available} held-out items", command))
    if available < needed and "--limit" in _flags(again):
        ways.append(("Read everything, without --limit", _without(again, "--limit")))
    if available < needed:
        groups = {name: part["groups"] for name, part in results["splits"].items()}
        share = groups.get("test", 0) / sum(groups.values()) if sum(groups.values()) else 0
        divided = share and not results.get("folds")
        part = f" (one {results['noun']} in {max(2, round(1 / share))} is held out)" if divided else ""
        label = "Label questions by hand" if results["held_out"] == "synthetic" else "Label more questions"
        label = "Add rows" if results["noun"] == "row" else label
        ways.append((f"{label}{part}", _with_labels(again, results.get("labels") or "")))
    for i, (sentence, command) in enumerate(ways):
        yield Step(f"{sentence}: {purpose}." if i == 0 else f"{sentence}.", command)


def _more_rows(results: Results, measurements: Measurements, again: str) -> Iterator[Step]:
    """More training time, where an arm was trained on few of the available rows."""
    for arm in results["arms"]:
        training = arm.get("training")
        if training is None:
            continue
        rows, available = training["rows"] or 0, training["available"] or 0
        if training["method"] == "sft" and 0 < rows < MOST_ROWS * available:
            seconds = _all_rows_s(measurements["arms"].get(arm["name"]), available / rows)
            minutes = math.ceil(1.2 * seconds / 60) + 1
            yield Step(
                f"{arm['name']} was trained on {rows} of {available} rows; all of them take about "
                f"{counted(math.ceil(seconds / 60), 'minute')}: give training more time.",
                f"{_without(again, '--training.minutes')} --training.minutes {minutes}",
            )
            return


def _all_rows_s(measured: ArmMeasured | None, more: float) -> float:
    """Seconds that training on all rows takes, `more` times as many as it was trained on."""
    training = measured.get("training") if measured else None
    if training is None:
        return 0.0
    return training.get("all_rows_s") or (training.get("seconds") or 0) * more


def _command(results: Results, measurements: Measurements, folder: Path) -> str:
    """The command for the same run in full: the one that was typed, or one with the run's configuration."""
    typed = shlex.split(measurements.get("command") or "")
    if typed and "--resume" not in typed and not any(word.startswith("--resume=") for word in typed):
        return _short(shlex.join(word for word in typed if word != "--quick"))
    task = results.get("task") or "TASK"
    config = folder / "config.toml"
    words = ["python", "-m", "synth_dspy.compile", task]
    if config.exists():
        words += ["--config", str(config), *(["--no-quick"] if _is_quick(measurements, folder) else [])]
    return shlex.join(words)


def _is_quick(measurements: Measurements, folder: Path) -> bool:
    """Whether the run was a quick one, by the command that was typed or by its configuration."""
    command = measurements.get("command") or ""
    if command.startswith(CALL):
        return _QUICK in command
    try:
        configured = bool(tomllib.loads(read_part(folder / "config.toml")).get("quick"))
    except (OSError, ValueError):
        configured = False
    return configured or "--quick" in shlex.split(command)


def _call(measurements: Measurements) -> str:
    """The call from Python that is the same run in full; empty for a run that a command started."""
    command = measurements.get("command") or ""
    earlier = f"{CALL}{_QUICK})"  # as earlier versions have it
    return "" if not command.startswith(CALL) else command.replace(earlier, f"{CALL}...)").replace(f", {_QUICK}", "")


def typed(measurements: Measurements) -> str:
    """The command or the call that is the run, as people type it; empty if that is not known."""
    command = measurements.get("command") or ""
    return command if command.startswith(CALL) else _short(command)


def _short(command: str) -> str:
    """A command with the task's own flags as people type them: `--documents` for `--task.documents`."""
    return shlex.join(
        f"--{word.removeprefix('--task.')}"
        if word.startswith("--task.") and _field(word.removeprefix("--task.")) not in CompileConfig.model_fields
        else word
        for word in shlex.split(command)
    )


def _field(flag: str) -> str:
    return flag.partition("=")[0].removeprefix("--").replace("-", "_").removeprefix("no_")


def _is_of_task(flag: str) -> bool:
    """Whether a flag is one of the task's own, in full or short."""
    name = _field(flag)
    return name.startswith("task.") or not ("." in name or name in CompileConfig.model_fields or name in _NO_SETTINGS)


def _with_labels(command: str, labels: str) -> str:
    """A command with the flags of labelled items in place of the task's other flags.

    A command that has them all is returned as it is: more items are labelled in the same file.
    """
    labels = _short(labels)
    label_flags = _flags(labels)
    if label_flags <= _flags(command):
        return command
    for flag in _flags(command) - label_flags:
        command = _without(command, flag) if _is_of_task(flag) else command
    words = shlex.split(labels)
    missing = [word for i, word in enumerate(words) if words[i - i % 2] not in _flags(command)]
    return f"{command} {' '.join(missing)}"


def _flags(command: str) -> set[str]:
    return {word.partition("=")[0] for word in shlex.split(command) if word.startswith("--")}


def _without(command: str, flag: str) -> str:
    """A command without a flag and its value."""
    words: list[str] = []
    dropping = False
    for word in shlex.split(command):
        dropping = word == flag or (dropping and not word.startswith("--"))
        if not dropping and not word.startswith(f"{flag}="):
            words.append(word)
    return shlex.join(words)


def _relative(folder: Path) -> Path:
    """The folder relative to the current one, absolute if it is not inside it."""
    absolute = folder.expanduser().resolve()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
