"""An arm as a choice, and the limits that a user sets it."""

from __future__ import annotations

from dataclasses import dataclass, field

from synth_dspy.evaluation.choice.licences import Licence
from synth_dspy.evaluation.records import EstimateRecord


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user sets; None sets no limit. `cpu_hour_usd` prices an embedded model's CPU time."""

    max_latency_s: float | None = None
    max_cost_usd: float | None = None
    max_memory_mb: float | None = None
    commercial: bool = False
    cpu_hour_usd: float = 0.05


@dataclass(slots=True)
class Option:
    """An arm as a choice.

    Attributes:
        name: the arm's, with its run's before it where there are several.
        model: model string of the base model.
        tuned: whether its weights were tuned.
        quality: `mean`, `low`, `high`, `n` of the metric.
        latency_p50_s: half of the answers took no longer.
        latency_p95_s: 19 of 20 answers took no longer.
        throughput: answers a second, about.
        weights_mb: size of the model's files, which memory cannot fall short of; 0 where a server holds them.
        memory_mb: what the run's process took at most, which bounds memory from above.
        cost_per_thousand_usd: of a thousand answers.
        licences: of what the arm is made of, by role.
        commercial: what these allow together.
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
