"""What to do next after a run: two sentences with their commands, chosen by rule from what the report found.

They are made when a report is written, not kept in the results: they name the run's folder, which may have moved.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.invocation import CALL
from synth_dspy.core.io.reading import parse_json, read_part
from synth_dspy.core.splits import FOLDS
from synth_dspy.evaluation.records import ArmMeasured, Measurements, Results
from synth_dspy.evaluation.report.verdict import SMALL_SAMPLE, listed, trivial_sentences

WANTED = 0.15
"""The difference that a comparison should be able to show, four times in five."""
MOST_ROWS = 0.8
"""An arm that learned from less than this share of the rows there are might learn more from the others."""
_SPREAD = 0.5
"""The standard deviation that is supposed of paired differences where there are too few to measure it."""
_SHOWN = 300
"""Characters of a question up to which it is put on a command line."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, as a sentence, and the command for it."""

    sentence: str
    command: str


def next_steps(results: Results, measurements: Measurements, folder: Path) -> list[Step]:
    """The two steps that are likeliest to help most, the first one first.

    Args:
        results: of a run; of an older one, too.
        measurements: of it.
        folder: where it lies.
    """
    steps = list(_steps(results, measurements, _shown(folder)))
    if (measurements.get("command") or "").startswith(CALL):  # no task file could be compiled by a command
        steps = [step for step in steps if step.command.startswith(CALL) or "compile" not in step.command]
    return steps[:2]


def needed_items(results: Results) -> int:
    """How many held-out items would show a difference of `WANTED`, about: by the spread that these items have."""
    baseline = results["baseline"]
    least = [
        (c["n"], c["smallest_detectable"])
        for c in results["comparisons"]
        if c["against"] == baseline and c["n"] >= SMALL_SAMPLE and c["smallest_detectable"]
    ]
    items: float
    if least:
        items = max(n * (value / WANTED) ** 2 for n, value in least)
    else:
        from scipy.stats import norm

        tests = max(1, sum(c["against"] == baseline for c in results["comparisons"]))
        items = float(((norm.ppf(1 - 0.025 / tests) + norm.ppf(0.8)) * _SPREAD / WANTED) ** 2)
    return math.ceil(items / 10) * 10


def _steps(results: Results, measurements: Measurements, folder: Path) -> Iterator[Step]:
    verdict, baseline = results["verdict"], results["baseline"]
    again = _command(results, measurements, folder)
    n, best = results["items"]["headline"], verdict["best"]
    if "--quick" in shlex.split(measurements.get("command") or ""):
        yield Step("A quick run only shows that everything works: run it whole, which asks every held-out item.", again)
    elif (measurements.get("command") or "") == f"{CALL}quick=True)":
        yield Step("A quick run only shows that everything works: make the call without quick=True.", f"{CALL}...)")
    if best is not None and best != baseline:
        yield from _use(best, folder)
    if (labelled := results.get("labelled")) is not None:
        yield _cross_fitting(labelled, n, measurements, again)
    few = n < SMALL_SAMPLE
    if few or (best is None and needed_items(results) > n):
        yield from _more_items(results, again, n)
    yield from _more_rows(results, measurements, again)
    if best is None and trivial_sentences(results, [baseline]):
        yield Step(
            "The model does no better than one answer to every question: name a stronger student.",
            f"{_without(again, '--models.student')} --models.student ollama_chat/llama3.2",
        )
    written = results.get("synthesis") is not None
    if written and best in (None, baseline) and str(results["models"].get("teacher")).startswith("embedded/"):
        yield Step(
            "Training rows are as good as the model that writes them: name a stronger teacher.",
            f"{_without(again, '--models.teacher')} --models.teacher openai/gpt-5-mini",
        )
    arms = [arm["name"] for arm in results["arms"] if arm["n"]]
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
    in_memory = (measurements.get("command") or "").startswith(CALL)
    flag = f"{_without(again, '--splits.folds')} --splits.folds {FOLDS}"
    return Step(
        f"Hold every labelled question out once, by cross-fitting: {labelled} are scored, not {n}, for about "
        f"{FOLDS + 1} times the work.",
        f"{CALL}..., splits={{'folds': {FOLDS}}})" if in_memory else flag,
    )


def _use(best: str, folder: Path) -> Iterator[Step]:
    """How to put an arm to work."""
    program = folder / "programs" / best
    if program.is_dir():
        code = f"import synth_dspy; print(synth_dspy.load({str(program)!r})({_asked(folder)}).answer)"
        yield Step(
            f"Ask {best}; in Python, `synth_dspy.load` gives the same program.", f"python -c {shlex.quote(code)}"
        )
    yield Step(
        f"See whether {best} is worth its latency, memory and cost, and which licences it depends on.",
        f"python -m synth_dspy.choose {_quoted(folder)}",
    )


def _asked(folder: Path) -> str:
    """A held-out question of the run as the arguments of its program, or `...` where none is short and plain."""
    try:
        for line in read_part(folder / "datasets" / "test.jsonl").splitlines():
            row = parse_json(line)
            inputs = {name: row[name] for name in row["inputs"] if row.get(name) is not None}
            if all(isinstance(v, str) for v in inputs.values()) and sum(map(len, inputs.values())) < _SHOWN:
                return ", ".join(f"{name}={value!r}" for name, value in inputs.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return "..."


def _more_items(results: Results, again: str, n: int) -> Iterator[Step]:
    test = results["splits"].get("test")
    wanted, available = needed_items(results), (test.get("available") if test else None) or 0
    purpose = f"to find a difference of {100 * WANTED:.0f} points about {wanted} held-out items are needed, not {n}"
    if test and available > test["items"]:
        yield Step(
            f"Score all {available} held-out items that there are: {purpose}.",
            f"{_without(again, '--evaluation.held-out')} --evaluation.held-out {available}",
        )
    if available < wanted and "--limit" in _flags(again):
        yield Step(f"Read everything, without a limit: {purpose}.", _without(again, "--limit"))
    if available < wanted:
        groups = {name: part["groups"] for name, part in results["splits"].items()}
        share = groups.get("test", 0) / sum(groups.values()) if sum(groups.values()) else 0
        part = (
            f", and one {results['noun']} in {max(2, round(1 / share))} is held out"
            if share and not results.get("folds")
            else ""
        )
        label = "Label questions by hand" if results["held_out"] == "synthetic" else "Label more questions"
        yield Step(f"{label}: {purpose}{part}.", _with_labels(again, results.get("labels") or ""))


def _more_rows(results: Results, measurements: Measurements, again: str) -> Iterator[Step]:
    """Where an arm learned from few of the rows there were: the time it would take to learn from all."""
    for arm in results["arms"]:
        training = arm.get("training")
        if training is None:
            continue
        rows, there = training["rows"] or 0, training["available"] or 0
        if training["method"] == "sft" and 0 < rows < MOST_ROWS * there:
            seconds = _all_rows_s(measurements["arms"].get(arm["name"]), there / rows)
            minutes = math.ceil(1.2 * seconds / 60) + 1
            yield Step(
                f"{arm['name']} learned from {rows} of {there} rows; all of them take about {math.ceil(seconds / 60)} "
                "minutes: give training more time.",
                f"{_without(again, '--training.minutes')} --training.minutes {minutes}",
            )
            return


def _all_rows_s(measured: ArmMeasured | None, more: float) -> float:
    """Seconds that a training on all rows takes, so many times those that it was on."""
    training = measured.get("training") if measured else None
    if training is None:
        return 0.0
    return training.get("all_rows_s") or (training.get("seconds") or 0) * more


def _command(results: Results, measurements: Measurements, folder: Path) -> str:
    """What runs the same again, whole: the command that was typed, or one with the run's configuration."""
    typed = shlex.split(measurements.get("command") or "")
    if typed and "--resume" not in typed and not any(word.startswith("--resume=") for word in typed):
        return shlex.join(word for word in typed if word != "--quick")
    task = results.get("task") or "TASK"
    config = folder / "config.toml"
    return f"python -m synth_dspy.compile {task}" + (f" --config {_quoted(config)}" if config.exists() else "")


def _with_labels(command: str, labels: str) -> str:
    """A command with the flags that give labelled items, instead of those that give the task other things to know.

    Where it has them all, more is to be labelled in the same place.
    """
    wanted = _flags(labels)
    if wanted <= _flags(command):
        return command
    for flag in _flags(command) - wanted:
        command = _without(command, flag) if flag.startswith("--task.") else command
    words = shlex.split(labels)
    missing = [word for i, word in enumerate(words) if words[i - i % 2] not in _flags(command)]
    return f"{command} {' '.join(missing)}"


def _flags(command: str) -> set[str]:
    return {word.partition("=")[0] for word in shlex.split(command) if word.startswith("--")}


def _without(command: str, flag: str) -> str:
    """A command without a flag and its value."""
    kept: list[str] = []
    dropping = False
    for word in shlex.split(command):
        dropping = word == flag or (dropping and not word.startswith("--"))
        if not dropping and not word.startswith(f"{flag}="):
            kept.append(word)
    return shlex.join(kept)


def _shown(folder: Path) -> Path:
    """The folder as it is named from here, whole where it lies elsewhere."""
    whole = folder.expanduser().resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
