"""Which model to take: arms and their base models by quality, speed, memory, cost and licence, under the user's limits.

All figures are over the items that every arm answered. Latency is that of the run's calls, which were concurrent;
throughput follows from latency and concurrency (Little's law, L = lambda W; Little 1961). The cost of an embedded model
is its CPU time at the user's price, that of a hosted one is what its provider charged.

The recommendation follows the report: the best-scoring arm that is shown to be better than the baseline, or, without
one, the baseline, which the recommendation then says in the report's words. A cheaper arm replaces it if their scores
are within `ALIKE` and it is not shown to be worse. The tests are the report's own where it has them, else the same ones
on the common items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import Json, parse_json, read_part
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.choice.licences import EMBEDDED, UNKNOWN, licence_of, strictest
from synth_dspy.evaluation.choice.options import Limits, Option
from synth_dspy.evaluation.choice.sentences import exclusions, notes, recommendation
from synth_dspy.evaluation.finished_runs import Arm, common_items
from synth_dspy.evaluation.records import PairRecord, Prediction
from synth_dspy.evaluation.report.figures import HEADLINE, is_cross_fitted, is_yes_no, mean, plain, score
from synth_dspy.evaluation.report.judge import agreement_words, threshold
from synth_dspy.evaluation.report.verdict import NOT_COMPARED, headline_name, is_measured, outcome, own_score_sentences
from synth_dspy.models.weights.registry import REGISTRY

MB = 1e6
CHEAPER = 0.95
"""An option is cheaper only below this share of the other's price: CPU time varies that much between runs."""
ALIKE = 0.05
"""Largest difference of the metric at which price decides between arms without evidence that one is better."""


def choose(
    arms: Sequence[Arm],
    limits: Limits,
    *,
    metric: str = HEADLINE,
    stated: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Json:
    """Weigh arms against each other.

    Args:
        arms: arms of runs of the same task.
        limits: the user's limits.
        metric: the score that counts as quality.
        stated: the user's licences, by model string.
        seed: for the resampling.

    Returns:
        JSON data: `metric`, its name in sentences (`called`), `limits`, `items`, `left_out`, `options`, `baseline` (the
        cheapest of the runs' baselines within the limits, else the cheapest arm), `comparisons` (of the arms within the
        limits with it, and of the best with the others), `chosen` (a name or None), `recommendation` (a sentence or
        two), `notes`.

    Raises:
        SetupError: no arm, no item in common, or no such metric.
    """
    if not arms:
        raise SetupError("No arm of these runs has answers: finish a run first.")
    common, left_out = common_items(arms, errors=True)
    scores = _scores(arms, common, metric)
    items = list(next(iter(scores.values())))
    if not items:
        raise SetupError(
            f"There is no item that {', '.join(arm.name for arm in arms)} all answered: choose among arms of the same "
            "held-out items."
        )
    groups = [arms[0].rows[item].get("group") for item in items]
    options = [_option(arm, common, list(scores[arm.name].values()), groups, limits, stated, seed) for arm in arms]
    for option in options:
        option.pareto = not any(_dominates(other, option) for other in options)
        option.excluded = exclusions(option, limits)
    allowed = sorted((o for o in options if not o.excluded), key=_rank)
    tests = _Tests(_reported(arms, metric), scores, groups, seed)
    baseline = _baseline(allowed, arms)
    comparisons = tests.against(baseline, allowed)
    better = [o for o in allowed if any(row["arm"] == o.name and row["outcome"] == "better" for row in comparisons)]
    if better:
        comparisons += tests.of(better[0], [option for option in allowed if option is not baseline])
    leader = better[0] if better else baseline
    chosen = _chosen(leader, allowed, comparisons)
    results = arms[0].run.results
    called = headline_name(results) if metric == HEADLINE and is_measured(results) else metric
    choice: Json = plain(
        {
            "task": arms[0].run.results.get("task"),
            "metric": metric,
            "called": called,
            "limits": asdict(limits),
            "items": len(items),
            "left_out": left_out,
            "options": [asdict(option) for option in options],
            "baseline": baseline.name if baseline else None,
            "comparisons": comparisons,
            "chosen": chosen.name if chosen else None,
            "recommendation": recommendation(
                min(options, key=_rank),
                allowed,
                (baseline, leader, chosen),
                comparisons,
                called,
                commercial=limits.commercial,
            ),
            "notes": [
                *_own_scores(arms, metric),
                *_judge(arms, metric),
                *notes(arms, options, left_out, bool(comparisons)),
            ],
        }
    )
    return choice


def _scores(arms: Sequence[Arm], common: Sequence[str], metric: str) -> dict[str, dict[str, float]]:
    """Scores by arm and item, for the items that the metric applies to; a failed answer scores 0.

    Yes/no questions are left out, as they are from the report's headline.
    """
    items = [item for item in common if not is_yes_no(arms[0].rows[item])]
    names = sorted({name for arm in arms for row in arm.rows.values() for name in row.get("scores") or {}})
    if metric not in names:
        raise SetupError(f"These runs have no metric {metric!r}; there are {', '.join(names) or 'none'}.")

    def scored(arm: Arm, item: str) -> float | None:
        row, least = arm.rows[item], threshold(arm.run.results) if metric == HEADLINE else None
        if (row.get("scores") or {}).get(metric) is None:
            return None
        value = score(row, metric) or 0.0
        return value if least is None else float(value >= least)

    items = [item for item in items if any(scored(arm, item) is not None for arm in arms)]
    return {arm.name: {item: scored(arm, item) or 0.0 for item in items} for arm in arms}


def _judge(arms: Sequence[Arm], metric: str) -> list[str]:
    """How far the judge agrees with people, where quality is what it says."""
    results = arms[0].run.results
    if metric != HEADLINE or is_measured(results):
        return []
    corrected = any("raw" in row for arm in arms for row in arm.run.results["comparisons"])
    also = (
        "; differences that the report has tested are corrected for its errors, the shares are not" if corrected else ""
    )
    return [f"Quality is what the judge says: {agreement_words(results['judge'])}{also}."]


def _option(
    arm: Arm,
    items: Sequence[str],
    scores: Sequence[float],
    groups: Sequence[Any],
    limits: Limits,
    stated: Mapping[str, str] | None,
    seed: int,
) -> Option:
    rows = [arm.rows[item] for item in items]
    models = dict(arm.run.results.get("models") or {})
    if arm.record and "model" in arm.record:
        models["student"] = arm.record["model"]
    model = str(models.get("student") or UNKNOWN)
    latencies = [seconds for row in rows if (seconds := row.get("latency_s")) is not None]
    licences = {role: licence_of(str(models.get(role) or UNKNOWN), stated) for role in _made_of(arm)}
    quality = stats.estimate(scores, groups, seed=seed, few_groups=is_cross_fitted(rows))
    measured, record = arm.run.measurements["arms"].get(arm.arm), arm.record
    return Option(
        name=arm.name,
        model=model,
        tuned=bool(record and record["training"]),
        quality={"mean": quality.mean, "low": quality.low, "high": quality.high, "n": quality.n},
        latency_p50_s=stats.percentile(latencies, 50),
        latency_p95_s=stats.percentile(latencies, 95),
        throughput=_throughput(latencies, arm.run.measurements.get("concurrency")),
        weights_mb=_weights_mb(arm, model),
        memory_mb=(measured.get("peak_rss_mb") if measured else None) or arm.run.measurements.get("peak_rss_mb"),
        cost_per_thousand_usd=_cost(rows, model, limits.cpu_hour_usd),
        licences=licences,
        commercial=strictest(list(licences.values())),
    )


def _made_of(arm: Arm) -> list[str]:
    """The roles whose models an arm depends on: its own, its teacher, its embedder."""
    record, synthesis = arm.record, arm.run.results.get("synthesis")
    training = record["training"] if record else None
    origins = training["by_origin"] if training else None
    learned = bool(training or (record and record["demos"])) and bool(synthesis and synthesis["kept"])
    if origins is not None:
        learned = bool(origins.get("synthetic"))
    searches = any(row.get("passages") for row in arm.rows.values())
    return ["student", *(["teacher"] if learned else []), *(["embedder"] if searches else [])]


def _throughput(latencies: Sequence[float], concurrency: int | None) -> float | None:
    total = math.fsum(latencies)
    return min(int(concurrency or 1), len(latencies)) * len(latencies) / total if total > 0 else None


def _cost(rows: Sequence[Prediction], model: str, cpu_hour_usd: float) -> float | None:
    if model.startswith(EMBEDDED):
        seconds = mean(rows, "cpu_s")
        return None if seconds is None else 1000 * seconds * cpu_hour_usd / 3600
    charged = mean(rows, "cost_usd")
    return None if charged is None else 1000 * charged


def _weights_mb(arm: Arm, model: str) -> float | None:
    if not model.startswith(EMBEDDED):
        return 0.0
    try:
        about = parse_json(read_part(arm.run.folder / "programs" / arm.arm / "about.json"))
        if about.get("weights"):
            weights = arm.run.folder / about["weights"]  # a merged file, or the folder of an adapter
            files = list(weights.iterdir()) if weights.is_dir() else [weights]
            return float(sum(file.stat().st_size for file in files) / MB)
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    if arm.record and arm.record["training"]:
        return None  # its weights are elsewhere
    name = model.removeprefix(EMBEDDED)
    if name in REGISTRY:
        return REGISTRY[name].size / MB
    path = Path(name).expanduser()
    parts = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.gguf")]
    return sum(part.stat().st_size for part in parts) / MB if parts else None


def _costs(option: Option) -> tuple[float, ...]:
    """Figures of which less is better; an unknown one is not an advantage."""
    values = (option.latency_p95_s, option.cost_per_thousand_usd, option.weights_mb)
    return tuple(math.inf if value is None else value for value in values)


def _dominates(one: Option, other: Option) -> bool:
    ours = (-_quality(one), *_costs(one))
    theirs = (-_quality(other), *_costs(other))
    return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs


def _quality(option: Option) -> float:
    return option.quality["mean"] or 0.0


def _rank(option: Option) -> tuple[float, tuple[float, ...], str]:
    """Best first; of equals the cheaper one."""
    return (-_quality(option), _price(option), option.name)


def _price(option: Option) -> tuple[float, ...]:
    """The order of prices: cost, then latency, then size."""
    latency, cost, weights = _costs(option)
    return (cost, latency, weights)


def _baseline(allowed: Sequence[Option], arms: Sequence[Arm]) -> Option | None:
    """The arm that the others within the limits must beat."""
    baselines = {arm.name for arm in arms if arm.arm == arm.run.results.get("baseline")}
    return min([o for o in allowed if o.name in baselines] or allowed, key=_price, default=None)


def _own_scores(arms: Sequence[Arm], metric: str) -> list[str]:
    """For a single run, the report's sentences on the task's own scores that differ from the judge's."""
    if metric != HEADLINE or len({arm.run.folder for arm in arms}) > 1:
        return []
    results = arms[0].run.results
    names = {row["score"] for row in results.get("comparisons_own", [])}
    sentences = own_score_sentences(results, results["verdict"]["best"])
    return [f"{' '.join(sentences)} --metric chooses by it ({', '.join(sorted(names))})."] if sentences else []


def _reported(arms: Sequence[Arm], metric: str) -> list[PairRecord]:
    """For a single run, the report's comparisons by the metric; empty for several runs."""
    if len({arm.run.folder for arm in arms}) > 1:
        return []
    results = arms[0].run.results
    made = results["comparisons"] if metric == HEADLINE else results.get("comparisons_own", [])
    return [row for row in made if row.get("score", HEADLINE) == metric]


@dataclass(frozen=True, slots=True)
class _Tests:
    """Paired tests: the report's own if it has them, else on the common items, with Holm's correction."""

    reported: Sequence[PairRecord]
    scores: Mapping[str, Mapping[str, float]]
    groups: Sequence[Any]
    seed: int

    def against(self, baseline: Option | None, allowed: Sequence[Option]) -> list[PairRecord]:
        """The other options against the baseline."""
        return self._family([(o.name, baseline.name) for o in allowed if baseline and o is not baseline])

    def of(self, leader: Option, allowed: Sequence[Option]) -> list[PairRecord]:
        """The leader against the other options."""
        return self._family([(leader.name, o.name) for o in allowed if o is not leader])

    def _family(self, pairs: Sequence[tuple[str, str]]) -> list[PairRecord]:
        reported = {pair: row for pair in pairs if (row := self._reported_pair(*pair))}
        made = {pair: self._compared(*pair, len(pairs)) for pair in pairs if pair not in reported}
        for row, adjusted in zip(made.values(), stats.holm([row["p"] for row in made.values()]), strict=True):
            row["p_holm"] = adjusted
        rows = [reported.get(pair) or made[pair] for pair in pairs]
        return [{**row, "outcome": outcome(row)} for row in rows]

    def _reported_pair(self, arm: str, other: str) -> PairRecord | None:
        """The report's comparison of two arms, with the sign reversed if it lists them in the other order."""
        for row in self.reported:
            sign = {(arm, other): 1, (other, arm): -1}.get((row["arm"], row["against"]))
            if sign and row["difference"] is not None and row["low"] is not None and row["high"] is not None:
                low, high = sorted((sign * row["low"], sign * row["high"]))
                return {
                    "arm": arm,
                    "against": other,
                    "n": row["n"],
                    "difference": sign * row["difference"],
                    "low": low,
                    "high": high,
                    "p": row["p"],
                    "p_holm": row["p_holm"],
                    "smallest_detectable": row["smallest_detectable"],
                    "outcome": row["outcome"],
                }
        return None

    def _compared(self, arm: str, other: str, tests: int) -> PairRecord:
        ours, theirs = (list(self.scores[name].values()) for name in (arm, other))
        compared = stats.compare(ours, theirs, self.groups, tests=tests, seed=self.seed)
        difference = compared.difference
        return {
            "arm": arm,
            "against": other,
            "difference": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "n": difference.n,
            "smallest_detectable": compared.smallest_detectable,
            "p": compared.p,
            "p_holm": None,
            "outcome": NOT_COMPARED,
        }


def _chosen(leader: Option | None, allowed: Sequence[Option], comparisons: Sequence[PairRecord]) -> Option | None:
    """The cheapest among the leader and the options that score about the same and are not shown to be worse."""
    if leader is None:
        return None
    worse = {row["arm"] for row in comparisons if row["against"] == leader.name and row["outcome"] == "worse"}
    worse |= {row["against"] for row in comparisons if row["arm"] == leader.name and row["outcome"] == "better"}
    alike = [o for o in allowed if o.name not in worse and abs(_quality(o) - _quality(leader)) <= ALIKE + 1e-9]
    level = [option for option in alike if _cheaper(option, leader)]
    return min(level, key=_price, default=leader)


def _cheaper(one: Option, other: Option) -> bool:
    """Whether one costs clearly less than the other; without known prices, whether it is clearly faster."""
    ours, theirs = one.cost_per_thousand_usd, other.cost_per_thousand_usd
    if ours is None and theirs is None:
        ours, theirs = one.latency_p50_s, other.latency_p50_s
    return ours is not None and (theirs is None or ours < CHEAPER * theirs)
