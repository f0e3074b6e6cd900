"""The results of a run in Python: typed values, a table in a notebook, a data frame on demand."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from synth_dspy.core.printable import visible
from synth_dspy.evaluation.finished_runs import read_run
from synth_dspy.evaluation.records import ArmMeasured, ArmRecord, ClassificationRecord, ComparisonRecord, EstimateRecord
from synth_dspy.evaluation.report.charts import arms_chart, differences_chart, on_its_own, yield_chart
from synth_dspy.evaluation.report.figures import HEADLINE
from synth_dspy.evaluation.report.judge import agreement_sentence
from synth_dspy.evaluation.report.verdict import is_measured, p_value

REPORT = "report.html"
OTHER = "(other)"
"""The name of all other answers in a confusion matrix."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over held-out items with its 95 % interval; None if it could not be computed."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms on the same items.

    Attributes:
        arm: the first arm.
        against: the second arm.
        difference: the first arm's mean minus the second's, with its interval.
        p: p value of the paired permutation test, after Holm's correction.
        outcome: `better`, `worse`, or `no evidence`.
        smallest_detectable: the difference that so many items would detect with 80 % power.
    """

    arm: str
    against: str
    difference: Estimate
    p: float | None
    outcome: str
    smallest_detectable: float | None


@dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm's scores.

    Attributes:
        name: the arm's.
        score: the headline's score, from 0 to 1; the share judged right if a judge gives it.
        corrected: that share, corrected for the judge's errors; None if these were not measured on such answers.
        same_as: the arm with the same program, if the arm's own training was discarded.
        scores: the task's other scores by name.
        failed: the error, if it could not be made.
        latency_p50_s: median seconds of an answer, with concurrent calls.
        tokens: mean tokens of prompt and reply.
        cost_usd: mean cost of an answer; None if nothing is charged.
    """

    name: str
    score: Estimate
    scores: Mapping[str, Estimate]
    failed: str | None
    latency_p50_s: float | None
    tokens: tuple[float | None, float | None]
    cost_usd: float | None
    corrected: Estimate | None = None
    same_as: str | None = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """An arm's classification figures.

    Attributes:
        macro_f1: the mean of the F1 scores of the classes that held-out items have.
        confusion: for each right label, how often each label, or any `OTHER` answer, was given.
    """

    macro_f1: Estimate
    confusion: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Classification:
    """Classification figures, for a task whose answer is one of several classes.

    Attributes:
        classes: the labels, in the task's order.
        arms: figures of every scored arm and reference row.
    """

    classes: tuple[str, ...]
    arms: Mapping[str, LabelScores]

    def to_pandas(self, arm: str) -> Any:
        """An arm's confusion matrix as a `pandas.DataFrame`: a row for each right label, a column for each answer."""
        return _frame(self.arms[arm].confusion).T


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart of the report, which a notebook shows; empty if the run has no figures for it."""

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a run.

    Attributes:
        folder: the run's.
        baseline: the arm that the others are compared with.
        arms: every arm, the baseline first.
        comparisons: each arm with the baseline, by the headline's score.
        verdict: the report's headline, with its detail.
        n: held-out items of the headline.
        classification: macro F1 and confusion matrices if the answer is one of several labels; else None.
        judge: the judge's agreement with people, in a sentence; empty if the score is measured.
    """

    folder: Path
    baseline: str
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    verdict: str
    n: int
    classification: Classification | None = None
    judge: str = ""

    @classmethod
    def read(cls, folder: Path) -> Results:
        """The results in a run's folder.

        Raises:
            SetupError: its files are missing or damaged.
        """
        run = read_run(folder)
        results, measured = run.results, run.measurements["arms"]
        return cls(
            folder=folder,
            baseline=results["baseline"],
            arms=tuple(_arm(arm, measured.get(arm["name"])) for arm in results["arms"]),
            comparisons=tuple(
                _comparison(row) for row in results["comparisons"] if row["against"] == results["baseline"]
            ),
            verdict=f"{results['verdict']['headline']} {results['verdict']['detail']}".strip(),
            n=results["items"]["headline"],
            classification=_classification(results.get("classification")),
            judge="" if is_measured(results) else agreement_sentence(results["judge"]),
        )

    def __getitem__(self, arm: str) -> ArmResult:
        """An arm's results, by its name."""
        match = next((each for each in self.arms if each.name == arm), None)
        if match is None:
            raise KeyError(f"there is no arm {arm!r}; there are {', '.join(each.name for each in self.arms)}")
        return match

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row per arm."""
        return _frame([_row(arm) for arm in self.arms]).set_index("arm")

    def figure(self, name: Literal["arms", "differences", "yield"] = "arms") -> Figure:
        """A chart of the report: the arms' scores, their differences from the baseline, or what synthesis yielded."""
        record = read_run(self.folder).results
        if name == "yield":
            chart = yield_chart(record["synthesis"]) if record["synthesis"] else None
        else:
            chart = {"arms": arms_chart, "differences": differences_chart}[name](record)
        return Figure(str(on_its_own(chart)) if chart else "")

    def __str__(self) -> str:
        """The verdict, a table of the arms, and the report's path."""
        tested = {each.arm: each for each in self.comparisons}
        corrected = any(arm.corrected for arm in self.arms)
        rows = [["arm", "n", "score %", *(["corrected %"] if corrected else []), "95 % interval", "p (Holm)"]]
        for arm in self.arms:
            best, versus = arm.corrected or arm.score, tested.get(arm.name)
            shown = [_percent(arm.score.mean), *([_percent(best.mean)] if corrected else [])]
            p = p_value(versus.p).removeprefix("p ").removeprefix("= ") if versus else ""
            interval = "failed" if arm.failed and not arm.score.n else f"{_percent(best.low)} to {_percent(best.high)}"
            name = f"{arm.name} = {arm.same_as}" if arm.same_as else arm.name
            rows.append([name, str(arm.score.n), *shown, interval, p])
        first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
            for row in rows
        ]
        return visible("\n".join([self.verdict, "", *map(str.rstrip, table), "", f"Report: {self.folder / REPORT}"]))

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, the table, and the chart of the report."""
        table = (
            self.to_pandas()
            .dropna(axis="columns", how="all")
            .to_html(float_format=lambda value: f"{value:.3g}", na_rep="–", border=0)
        )
        judge = f"<p>{html.escape(self.judge)}</p>" if self.judge else ""
        return f"<p>{html.escape(self.verdict)}</p>{table}{judge}{self.figure().html}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _frame(values: Any) -> Any:
    import pandas  # type: ignore[import-untyped]

    return pandas.DataFrame(values)


def _estimate(record: EstimateRecord) -> Estimate:
    return Estimate(record["mean"], record["low"], record["high"], record["n"])


def _arm(arm: ArmRecord, measured: ArmMeasured | None) -> ArmResult:
    every = {**arm["scores"], **arm["retrieval"], **arm["further"]}
    return ArmResult(
        name=arm["name"],
        score=_estimate(arm["scores"][HEADLINE]),
        scores={name: _estimate(values) for name, values in every.items() if name != HEADLINE and values["n"]},
        failed=arm["failed"],
        latency_p50_s=measured["latency_p50_s"] if measured else None,
        tokens=(arm["tokens"]["prompt"], arm["tokens"]["completion"]),
        cost_usd=measured["cost_usd_per_item"] if measured else None,
        corrected=_estimate(arm["corrected"]) if "corrected" in arm else None,
        same_as=arm.get("same_as"),
    )


def _comparison(row: ComparisonRecord) -> Comparison:
    difference = Estimate(row["difference"], row["low"], row["high"], row["n"])
    return Comparison(row["arm"], row["against"], difference, row["p_holm"], row["outcome"], row["smallest_detectable"])


def _classification(record: ClassificationRecord | None) -> Classification | None:
    if record is None:
        return None
    classes = tuple(record["classes"])
    return Classification(
        classes,
        {
            name: LabelScores(
                _estimate(arm["macro_f1"]),
                {
                    label: dict(zip((*classes, OTHER), counts, strict=True))
                    for label, counts in zip(classes, arm["matrix"], strict=True)
                },
            )
            for name, arm in record["arms"].items()
        },
    )


def _row(arm: ArmResult) -> dict[str, Any]:
    scores = {name: estimate.mean for name, estimate in arm.scores.items()}
    corrected = {} if arm.corrected is None else {"corrected": arm.corrected.mean}
    return {
        "arm": arm.name,
        "score": arm.score.mean,
        "low": arm.score.low,
        "high": arm.score.high,
        "n": arm.score.n,
        **corrected,
        **scores,
        "latency_p50_s": arm.latency_p50_s,
        "prompt_tokens": arm.tokens[0],
        "completion_tokens": arm.tokens[1],
        "cost_usd": arm.cost_usd,
        "failed": arm.failed,
    }
