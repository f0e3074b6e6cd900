"""The sentences of a choice: what to take and why, what is excluded and by which limit."""

from __future__ import annotations

from collections.abc import Sequence

from synth_dspy.core.text import counted
from synth_dspy.evaluation.choice.licences import NO, UNKNOWN
from synth_dspy.evaluation.choice.options import Limits, Option
from synth_dspy.evaluation.finished_runs import Arm
from synth_dspy.evaluation.records import PairRecord
from synth_dspy.evaluation.report.verdict import is_zero, listed, missing_evidence, percent, points


def exclusions(option: Option, limits: Limits) -> dict[str, str]:
    """By flag, why an arm is not within that limit; an unknown figure is not within it."""
    reasons: dict[str, str] = {}
    latency, cost, most = limits.max_latency_s, limits.max_cost_usd, limits.max_memory_mb
    if latency is not None and (option.latency_p95_s is None or option.latency_p95_s > latency):
        reasons["--max-latency"] = (
            "its latency is unknown"
            if option.latency_p95_s is None
            else f"a p95 latency of {option.latency_p95_s:.2f} s is above {latency:g} s"
        )
    if cost is not None and (option.cost_per_thousand_usd is None or option.cost_per_thousand_usd > cost):
        reasons["--max-cost"] = (
            "its cost is unknown"
            if option.cost_per_thousand_usd is None
            else f"{usd(option.cost_per_thousand_usd)} for a thousand answers is above {usd(cost)}"
        )
    if most is not None and (option.memory_mb is None or option.memory_mb > most):
        least = option.weights_mb
        if least is not None and least > most:
            reasons["--max-memory"] = f"its weights alone take {least:,.0f} MB, above {most:,.0f} MB"
        else:
            bound = (
                "unknown"
                if option.memory_mb is None
                else f"only known to be below {option.memory_mb:,.0f} MB, the peak of a run with all its models"
            )
            reasons["--max-memory"] = f"its memory is {bound}; `evaluate` on its saved program alone measures it"
    if limits.commercial and option.commercial in (NO, UNKNOWN):
        roles = [role for role, licence in option.licences.items() if licence.commercial == option.commercial]
        what = ", ".join(f"the {role}'s licence {option.licences[role].name}" for role in roles)
        reasons["--commercial"] = (
            f"{what} does not allow commercial use"
            if option.commercial == NO
            else f"{what} is not known; state it with --licence"
        ).replace("licence unknown is", "licence is")
    return reasons


def recommendation(
    best: Option,
    allowed: Sequence[Option],
    roles: tuple[Option | None, Option | None, Option | None],
    comparisons: Sequence[PairRecord],
    metric: str,
    *,
    commercial: bool,
) -> str:
    """The recommendation: what the report shows, and what to take.

    Args:
        best: the best-scoring arm of all, within the limits or not.
        allowed: arms within the limits, the best-scoring first.
        roles: the baseline, the leader (the best arm shown to be better than it, or the baseline), the one to take.
        comparisons: of the arms within the limits with the baseline, then of the leader with the others.
        metric: the name of the score.
        commercial: whether to state the conditions of commercial use.
    """
    baseline, leader, chosen = roles
    excluded = "; ".join(f"{reason} ({flag})" for flag, reason in best.excluded.items())
    if baseline is None or leader is None or chosen is None:
        return (
            f"No arm is within the limits: the best, {best.name} ({_figures(best, metric)}), is excluded because "
            f"{excluded}."
        )
    text = f"Take {chosen.name}: {_figures(chosen, metric)}, {_measures(chosen)}"
    conditions = [
        f"{role} {licence.name}: {licence.terms}" for role, licence in chosen.licences.items() if licence.terms
    ]
    if commercial and conditions:
        text += f", commercially on conditions ({'; '.join(conditions)})"
    against = {row["arm"]: row for row in comparisons if row["against"] == baseline.name}
    if chosen is not leader:
        difference = (leader.quality["mean"] or 0.0) - (chosen.quality["mean"] or 0.0)
        gap = (
            "scores the same" if is_zero(difference) else f"differs by {points(difference)}, which is not significant,"
        )
        text += f"; {leader.name} {gap} and "
        text += _dearer(leader, chosen)
    beaten = [row["against"] for row in comparisons if row["arm"] == chosen.name and row["outcome"] == "better"]
    beaten += [row["arm"] for row in comparisons if row["against"] == chosen.name and row["outcome"] == "worse"]
    if beaten:
        text += f"; it is better than {listed(list(dict.fromkeys(beaten)))} (p < 0.05 after Holm's correction)"
    top = allowed[0]
    if leader is baseline and top not in (baseline, chosen) and top.name in against:
        row = against[top.name]
        text += (
            f"; {top.name} scores highest ({points(row['difference'])}, 95 % interval "
            f"{points(row['low'], unit=False)} to {points(row['high'])}, n = {row['n']}), without evidence "
            "that it is better"
        )
    if best.excluded:
        text += f"; {best.name}, the best of all ({_figures(best, metric)}), is excluded because {excluded}"
    if leader is baseline and against:
        n = max(row["n"] for row in against.values())
        text = f"{missing_evidence(baseline.name, n)} {text}"
    return f"{text}."


def _dearer(top: Option, chosen: Option) -> str:
    ours, theirs = top.cost_per_thousand_usd, chosen.cost_per_thousand_usd
    if theirs is None:
        return "is slower"
    return "its cost is unknown" if ours is None else f"costs {100 * (ours / theirs - 1):.0f} % more" if theirs else (
        f"costs {usd(ours)}"
    )  # fmt: skip


def _figures(option: Option, metric: str) -> str:
    mean, low, high = (percent(option.quality[name], "–") for name in ("mean", "low", "high"))
    return f"{metric} {mean} %, 95 % interval {low} to {high} %"


def _measures(option: Option) -> str:
    measures = [f"p95 latency {option.latency_p95_s:.2f} s"] if option.latency_p95_s is not None else []
    cost = option.cost_per_thousand_usd
    measures.append(f"{usd(cost)} for a thousand answers" if cost is not None else "at unknown cost")
    return ", ".join(measures)


def notes(arms: Sequence[Arm], options: Sequence[Option], left_out: int, compared: bool) -> list[str]:
    """What limits the figures."""
    sentences = []
    if left_out:
        sentences.append(
            f"{counted(left_out, 'item')} that not all arms were asked {'is' if left_out == 1 else 'are'} left out."
        )
    if compared:
        sentences.append("Intervals are not corrected; an arm is called better only after Holm's correction.")
    concurrency = {arm.run.measurements.get("concurrency") for arm in arms}
    if len(concurrency) > 1:
        sentences.append("The runs had different numbers of calls under way: their latencies are not comparable.")
    elif len({arm.run.folder for arm in arms}) > 1:
        sentences.append("Latencies of several runs are comparable only if the same machine was as busy.")
    if concurrency != {1}:
        under_way = ", ".join(str(n or "an unknown number") for n in sorted(concurrency, key=str))
        sentences.append(
            f"Latency is that of an answer with {under_way} calls under way, waiting included; throughput follows from "
            "it."
        )
    if any(option.memory_mb is not None for option in options):
        sentences.append(
            "Memory is bounded, not measured by arm: from below by the weights, from above by the peak of the run's "
            "process, which also held the other models."
        )
    if any(option.tuned for option in options):
        sentences.append("The one-time cost of tuning is not in the price of an answer; the report has its time.")
    unknown = sorted({option.model for option in options if option.commercial == UNKNOWN})
    if unknown:
        sentences.append(f"Whether everything may be used commercially is unknown for arms on {', '.join(unknown)}.")
    return sentences


def usd(value: float | None) -> str:
    """A sum of money with three significant digits where it is small."""
    return "–" if value is None else f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.3g}"
