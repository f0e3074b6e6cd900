"""Arms as options, and the user's limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from synth_dspy.evaluation.choice.licences import Licence
from synth_dspy.evaluation.records import EstimateRecord


@dataclass(frozen=True, slots=True)
class Limits:
    """The user's limits; None means no limit. `cpu_hour_usd` prices an embedded model's CPU time."""

    max_latency_s: float | None = None
    max_cost_usd: float | None = None
    max_memory_mb: float | None = None
    commercial: bool = False
    cpu_hour_usd: float = 0.05


@dataclass(slots=True)
class Option:
    """An arm as an option.

    Attributes:
        name: the arm's, prefixed with its run's if there are several.
        model: model string of the base model.
        tuned: whether its weights were tuned.
        quality: `mean`, `low`, `high`, `n` of the metric.
        latency_p50_s: median seconds of an answer.
        latency_p95_s: 95th percentile.
        throughput: approximate answers per second.
        weights_mb: size of the model's files, a lower bound of its memory; 0 if a server has them.
        memory_mb: peak memory of the run's process, an upper bound.
        cost_per_thousand_usd: cost of a thousand answers.
        licences: licences of the arm's models, by role.
        commercial: the commercial use that they allow together.
        pareto: whether no other arm is at least as good in everything and better in something.
        excluded: by flag, why the arm is not within that limit.
    """

    name: str
    model: str
    tuned: bool
    quality: EstimateRecord
    latency_p50_s: float | None
    latency_p95_s: float | None
    throughput: float | None
    weights_mb: float | None
    memory_mb: float | None
    cost_per_thousand_usd: float | None
    licences: dict[str, Licence]
    commercial: str
    pareto: bool = False
    excluded: dict[str, str] = field(default_factory=dict)
