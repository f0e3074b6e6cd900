"""A learning curve with the models of a task: how much each training method gains from 8, 32, 128, 512 records.

A record is what a person says of an answer of the untrained program: that it is right, or what would be right instead.
So every method learns from the same records, each in its form: SFT the right answers, DPO and ORPO the preferences,
KTO right and wrong ones; GRPO, RLOO and online DPO the questions, with the right answers as their reward. Each training
starts from the base, with the settings of the method's recipe for this machine. Points are kept as they are made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import dspy

from synth_dspy.core.config import FROM_ANSWERS
from synth_dspy.core.errors import ArmError, SetupError, message_of
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.jsonl import read_rows
from synth_dspy.core.run import jsonl_text
from synth_dspy.evaluation.stats import Estimate
from synth_dspy.loop.comparison import JUDGED
from synth_dspy.loop.rehearsal.embedded import Rehearsal
from synth_dspy.loop.rehearsal.learning import SIZES, Point, Trained, learning_curve
from synth_dspy.loop.rehearsal.page import Page, Section, Table
from synth_dspy.loop.rehearsal.worlds import LABELLED, Row
from synth_dspy.pipeline.resources import open_role
from synth_dspy.training.feedback import BY_METHOD, human_rows
from synth_dspy.training.optimizer import WeightOptimizer, train
from synth_dspy.training.provider import LocalProvider
from synth_dspy.training.recipes import RECIPES
from synth_dspy.training.spec import ONLINE

POINTS = "points.jsonl"


class Curve:
    """Trains the program of a rehearsal with records of feedback.

    Args:
        rehearsal: whose world, models and first version are used.
    """

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal, self.folder = rehearsal, rehearsal.folder
        self._base: Trained | None = None
        self.points: dict[tuple[str, int, int], Point] = {}
        self.missing: list[str] = []
        """Why points are missing, in sentences."""

    def run(
        self, sizes: Sequence[int] = SIZES, methods: Sequence[str] = FROM_ANSWERS, seeds: Sequence[int] = (0,)
    ) -> list[Point]:
        """Make the points that are not there yet; those that failed are tried again.

        Raises:
            SetupError: there are fewer records than the smallest size, or a method does not exist.
        """
        if unknown := sorted(set(methods) - set(FROM_ANSWERS)):
            raise SetupError(f"--methods names {unknown[0]}; the training methods are {', '.join(FROM_ANSWERS)}.")
        rehearsal = self.rehearsal
        rehearsal.launch()
        rehearsal.world.write(LABELLED)
        records, items = self._records(), rehearsal.examples("held_out", LABELLED)
        fit = [size for size in sorted(sizes) if size <= len(records)]
        if not fit:
            raise SetupError(f"The task's labelled questions give {len(records)} records; --sizes begins above that.")
        if too_many := [str(size) for size in sizes if size > len(records)]:
            self.missing.append(f"Not run: {', '.join(too_many)} records; there are {len(records)}.")
        groups = [str(item.group) for item in items]
        for seed in seeds:
            for method in methods:
                for size in fit:
                    self._point((method, size, seed), records, items, groups)
        return list(self.points.values())

    def _point(
        self, name: tuple[str, int, int], records: Sequence[Row], items: Sequence[dspy.Example], groups: Sequence[str]
    ) -> None:
        method, size, seed = name
        path = self.folder / POINTS
        lines = read_rows(path, {}) if path.is_file() else []
        kept = [line for line in lines if (line["method"], line["records"], line["seed"]) == name]
        if not kept or "failed" in kept[0]:
            try:
                (point,) = learning_curve(
                    lambda method, given: self._trained(method, given, items, seed),
                    records,
                    groups,
                    sizes=(size,),
                    methods=(method,),
                    seed=seed,
                )
                line = {**asdict(point), "seed": seed}
            except ArmError as error:
                line = {"method": method, "records": size, "seed": seed, "failed": message_of(error)}
            write_whole(path, jsonl_text([*(each for each in lines if each not in kept), line]))
            kept = [line]
        line = dict(kept[0])
        if line.get("failed"):
            self.missing.append(f"{method} with {size} records: {line['failed']}")
            return
        line.pop("seed")
        point = Point(**{**line, "gain": Estimate(**line["gain"])})
        self.points[name] = point
        self.rehearsal.tell(f"{method}, {size} records, seed {seed}: {gain_text(point)} points")

    def _trained(self, method: str, records: Sequence[Row], items: Sequence[dspy.Example], seed: int) -> Trained:
        """The base where `method` is "", else a training with records."""
        if not method and self._base is not None:
            return self._base
        program, config = self.rehearsal.first_program(), self.rehearsal.config
        began, rows = time.monotonic(), []
        if method:
            lm = open_role(config, "student", None, LocalProvider(self.folder / "adapters"))
            program.set_lm(lm)
            executor = Executor(config.concurrency)
            rows = method_rows(method, records, items[0].inputs().keys(), program, executor)
            if not rows:
                raise ArmError("its records have nothing that this method learns from.")
            recipe = self._recipe(method, executor)
            options = {**recipe.options(len(rows)), "seed": seed, "patience": 0}  # no dev rows are kept back
            if method in ONLINE:
                options.setdefault("reward", "synth_dspy.evaluation.metrics:reward_f1")
            program = train(program, recipe.method, rows, counts={"rows": len(rows)}, **options)
        seconds = time.monotonic() - began
        name = f"{method}-{len(records)}-{seed}" if method else "base"
        predictions = self.rehearsal.desk.predict(name, program, items)
        trained = Trained([row["scores"].get(JUDGED) or 0.0 for row in predictions], len(rows), seconds)
        self._base = self._base if method else trained
        return trained

    def _recipe(self, method: str, executor: Executor) -> WeightOptimizer:
        """The task's own recipe of a method, or else the engine's, with the settings of the run."""
        task, config = self.rehearsal.work.declared()
        desk, training = self.rehearsal.desk, config.training
        resources = replace(
            desk.resources, executor=executor, training=training.options, minutes=training.minutes, judge=desk.judge
        )
        own = task.optimizers[method](resources, desk.judge) if method in task.optimizers else None
        if isinstance(own, WeightOptimizer) and own.method == method:
            return own
        return cast(WeightOptimizer, RECIPES[method](resources, desk.judge))

    def _records(self) -> list[Row]:
        """What people say of the base's answers to all questions that are not held out."""
        path = self.folder / "records.jsonl"
        if path.is_file():
            return read_rows(path, {})
        rehearsal = self.rehearsal
        rehearsal.tell("the base answers the questions that records are made of")
        examples = [each for part in ("labelled", "asked") for each in rehearsal.examples(part, LABELLED)]
        predictions = rehearsal.desk.predict("base", rehearsal.first_program(), examples)
        output = rehearsal.work.declared()[0].output
        records = []
        for example, row in zip(examples, predictions, strict=True):
            right = str(example.get(output) or example.get("answer"))
            inputs = json.loads(json.dumps(dict(example.inputs().items()), default=str))
            good = rehearsal.desk.is_right(row)
            records.append(
                {"id": row["id"], "inputs": inputs, "answer": row["prediction"], "good": good, "right": right}
            )
        write_whole(path, jsonl_text(records))
        return records


def method_rows(
    method: str, records: Sequence[Row], inputs: Sequence[str], program: dspy.Module, executor: Executor
) -> list[dict[str, Any]]:
    """Records as the rows that a method trains on."""

    def example(record: Row, name: str, **values: Any) -> dspy.Example:
        return dspy.Example(**record["inputs"], id=f"{record['id']}-{name}", **values).with_inputs(*inputs)

    wrong = [record for record in records if not record["good"] and record["answer"].strip()]
    pairs = [example(each, "pair", chosen=each["right"], rejected=each["answer"]) for each in wrong]
    good = [
        example(each, "good", answer=each["answer"] if each["good"] else each["right"], good=True) for each in records
    ]
    bad = [example(each, "bad", answer=each["answer"], good=False) for each in wrong]
    kind = BY_METHOD.get(method, "good")
    rows = list(human_rows([*pairs, *good, *bad], program, executor, kind).rows)
    if method not in ONLINE:
        return rows
    return [{**row, "references": [row["completion"][0]["content"]]} for row in rows]


def gain_text(point: Point) -> str:
    """A gain in points with its interval."""
    gain = point.gain
    if gain.mean is None or gain.low is None or gain.high is None:
        return "-"
    return f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def write_curve(curve: Curve) -> list[Path]:
    """Write `curve.html`, `curve.md`; `points.jsonl` is there already."""
    head = ("method", "records of feedback", "seed", "rows", "gain in points (95 % interval)", "training, seconds")
    rows = [
        (method, str(size), str(seed), str(point.rows), gain_text(point), f"{point.seconds:.0f}")
        for (method, size, seed), point in curve.points.items()
    ]
    table: Table = (head, rows)
    note = (
        "Each training starts from the base and takes the first records of one shuffled sequence. Gains are over the "
        "base on the same held-out questions."
    )
    sections: list[Section] = [("Gain of each method", table, note)]
    page = Page("Learning curve of feedback", [f"Task: {curve.rehearsal.task}.", *curve.missing], sections)
    paths = [curve.folder / "curve.html", curve.folder / "curve.md"]
    for path, text in zip(paths, (page.html(), page.markdown()), strict=True):
        write_whole(path, text)
    return [*paths, curve.folder / POINTS]
