"""The results of a run as Python sees them: typed, a table in a notebook, a data frame on demand."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.evaluation.finished import read_run
from synth_dspy.evaluation.records import ArmMeasured, ArmRecord, ClassificationRecord, ComparisonRecord, EstimateRecord
from synth_dspy.evaluation.report.charts import arms_chart
from synth_dspy.evaluation.report.figures import HEADLINE

OTHER = "(other)"
"""What answers that are none of the classes are called in a confusion matrix."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over held-out items with its 95 % interval; None where it could not be had."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms on the same items.

    Attributes:
        arm: the one.
        against: the other.
        difference: of their means, the first less the second, with its interval.
        p: of the paired permutation test, after Holm's correction.
        outcome: `better`, `worse`, or `no evidence`.
        smallest_detectable: the difference that so many items would find with 80 % power.
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
        score: what the headline is about, from 0 to 1.
        scores: the task's other scores by name.
        failed: why it could not be made; None if it could.
        latency_p50_s: median seconds of an answer, many being asked at once.
        tokens: mean tokens of prompt and reply.
        cost_usd: mean cost of an answer; None where nothing is charged.
    """

    name: str
    score: Estimate
    scores: Mapping[str, Estimate]
    failed: str | None
    latency_p50_s: float | None
    tokens: tuple[float | None, float | None]
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How an arm labels.

    Attributes:
        macro_f1: the mean of the F1 scores of the classes that held-out items have.
        confusion: for each right label how often each label was answered, and any `OTHER` answer.
    """

    macro_f1: Estimate
    confusion: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Classification:
    """How the arms label, where an answer is one of several classes.

    Attributes:
        classes: the labels, in the task's order.
        arms: of every arm that was scored, and of what stands in the report for comparison.
    """

    classes: tuple[str, ...]
    arms: Mapping[str, LabelScores]

    def to_pandas(self, arm: str) -> Any:
        """An arm's confusion matrix as a `pandas.DataFrame`: a row for each right label, a column for each answer."""
        return _frame(self.arms[arm].confusion).T


@dataclass(frozen=True, slots=True)
class Results:
    """What a run found.

    Attributes:
        folder: the run's.
        baseline: the arm that the others are compared with.
        arms: every arm, the baseline first.
        comparisons: of each arm with the baseline, by the headline's score.
        verdict: the report's headline, with its detail.
        n: held-out items that the headline is about.
        classification: macro F1 and confusion matrices, where an answer is one of several labels; else None.
    """

    folder: Path
    baseline: str
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    verdict: str
    n: int
    classification: Classification | None = None

    @classmethod
    def read(cls, folder: Path) -> Results:
        """The results in a run's folder.

        Raises:
            SetupError: its files are missing, or are not what a run writes.
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
        )

    def __getitem__(self, arm: str) -> ArmResult:
        """An arm's results, by its name."""
        match = next((each for each in self.arms if each.name == arm), None)
        if match is None:
            raise KeyError(f"there is no arm {arm!r}; there are {', '.join(each.name for each in self.arms)}")
        return match

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row an arm."""
        return _frame([_row(arm) for arm in self.arms]).set_index("arm")

    def __str__(self) -> str:
        return self.verdict

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, the table, and the chart of the report."""
        run = read_run(self.folder)
        table = self.to_pandas().to_html(float_format=lambda value: f"{value:.3g}", na_rep="–", border=0)
        return f"<p>{html.escape(self.verdict)}</p>{table}{arms_chart(run.results)}"


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
    return {
        "arm": arm.name,
        "score": arm.score.mean,
        "low": arm.score.low,
        "high": arm.score.high,
        "n": arm.score.n,
        **scores,
        "latency_p50_s": arm.latency_p50_s,
        "prompt_tokens": arm.tokens[0],
        "completion_tokens": arm.tokens[1],
        "cost_usd": arm.cost_usd,
        "failed": arm.failed,
    }
