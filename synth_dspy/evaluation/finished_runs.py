"""Reads finished runs: one, or several of one task with the items that all their arms answered.

Reports, blind comparisons and the choice of a model use it. A run is any folder with results.json,
measurements.json and predictions.jsonl, whether `compile` or `evaluate` wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import finish_writing, write_whole
from synth_dspy.core.io.reading import parse_json, read_part
from synth_dspy.evaluation.records import ArmRecord, Measurements, Prediction, Results

STAGED = ".results"
"""Subfolder in which a run's results are written before they are moved into place together."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run. `name` is its folder's name, or its path if two runs' folders have the same name."""

    folder: Path
    name: str
    results: Results
    measurements: Measurements
    rows: Sequence[Prediction]


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm of a run: `name` is `<run>/<arm>` if there are several runs. `rows` are its predictions by item."""

    name: str
    arm: str
    run: FinishedRun
    rows: Mapping[str, Prediction]

    @property
    def record(self) -> ArmRecord | None:
        """The arm's record in the run's results; None for a variant of an arm."""
        return next((arm for arm in self.run.results["arms"] if arm["name"] == self.arm), None)


def read_run(folder: Path, name: str = "") -> FinishedRun:
    """Read one run; `name` is its folder's name by default.

    Raises:
        SetupError: one of the three files is missing or is not in a run's format.
    """
    try:
        finish_writing(folder, STAGED)
    except OSError as error:
        raise SetupError(
            f"The results in {folder} were being replaced when the run was killed, and the rest cannot be written "
            f"({error.strerror or error}): make the folder writable."
        ) from error
    texts = {}
    for part in ("results.json", "measurements.json", "predictions.jsonl"):
        try:
            texts[part] = read_part(folder / part)
        except (OSError, UnicodeDecodeError):
            raise SetupError(
                f"{folder} is not a finished run: it has no readable {part}; name a run by its id or its folder "
                "runs/<task>/<id>, or finish the run with compile's --resume."
            ) from None
    return parse_run(folder, texts, name)


def parse_run(folder: Path, texts: Mapping[str, str], name: str = "") -> FinishedRun:
    """A run from the texts of its three files, by their names.

    Raises:
        SetupError: one is not in a run's format.
    """
    with as_written(folder):
        results, measurements = (parse_json(texts[part]) for part in ("results.json", "measurements.json"))
        rows = [parse_json(line) for line in texts["predictions.jsonl"].split("\n") if line.strip()]
        _ = [arm["name"] for arm in results["arms"]], measurements["arms"].keys(), results["verdict"]
        _ = [(row["arm"], row["id"], row.get("scores")) for row in rows]
    return FinishedRun(folder, name or folder.name, results, measurements, rows)


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Turn errors from a run's malformed files into a message.

    Raises:
        SetupError: something was missing, or of another type.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SetupError(
            f"{folder} is not a finished run: its files are not in a run's format ({type(error).__name__}: "
            f"{str(error)[:200]}); finish the run with compile's --resume."
        ) from error


def read_runs(paths: Iterable[Path]) -> list[FinishedRun]:
    """Read runs, in the order given, each once.

    Raises:
        SetupError: a folder is not a finished run, or the runs are of different tasks.
    """
    folders = list(dict.fromkeys(path.expanduser().resolve() for path in paths))
    if not folders:
        raise SetupError("Name a finished run, by its id or its folder runs/<task>/<id>.")
    called = Counter(folder.name for folder in folders)
    runs = [read_run(folder, folder.name if called[folder.name] == 1 else str(folder)) for folder in folders]
    tasks = sorted({str(run.results.get("task")) for run in runs})
    if len(tasks) > 1:
        raise SetupError(
            f"Only runs of the same task can be compared; these are of {', '.join(tasks)}: name runs of one task."
        )
    return runs


def find_arms(runs: Sequence[FinishedRun], names: Sequence[str] = ()) -> list[Arm]:
    """The named arms, in that order; without names all arms that have answers and programs of their own, no variants.

    A bare name means that arm in every run; `<run>/<arm>` means one of them.

    Raises:
        SetupError: there is no such arm; lists the arms.
    """
    several = len(runs) > 1
    arms: list[Arm] = []
    for run in runs:
        by_arm: dict[str, dict[str, Prediction]] = {}
        for row in run.rows:
            by_arm.setdefault(str(row["arm"]), {})[str(row["id"])] = row
        declared = [arm["name"] for arm in run.results["arms"]]
        order = [name for name in declared if name in by_arm] + [name for name in by_arm if name not in declared]
        arms += [Arm(f"{run.name}/{name}" if several else name, name, run, by_arm[name]) for name in order]
    if not names:
        return [arm for arm in arms if arm.record and "same_as" not in arm.record]
    chosen: dict[str, Arm] = {}
    for name in names:
        matching = [arm for arm in arms if name in (arm.name, arm.arm)]
        if not matching:
            raise SetupError(
                f"No arm {name!r} has answers here; there are {', '.join(arm.name for arm in arms) or 'none'}."
            )
        chosen |= {arm.name: arm for arm in matching}
    return list(chosen.values())


def common_items(arms: Sequence[Arm], *, errors: bool) -> tuple[list[str], int]:
    """Ids, sorted, of the items that all arms answered, and how many others were left out.

    An id that has different questions in different runs is left out too.

    Args:
        arms: the arms.
        errors: whether a failed call counts as an answer (a wrong one).
    """
    every = sorted({item for arm in arms for item in arm.rows})
    common = [item for item in every if _same(item, arms, errors)]
    return common, len(every) - len(common)


def write(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise SetupError(f"{path} cannot be written ({error.strerror or error}).") from error


def _same(item: str, arms: Sequence[Arm], errors: bool) -> bool:
    rows = [arm.rows.get(item) for arm in arms]
    there = [row for row in rows if row is not None and (errors or not row.get("error"))]
    return len(there) == len(rows) and len({str(row.get("question")) for row in there}) == 1
