"""From predictions and facts of a run to what is reported: `results` and `measurements`.

`results` is the same, byte for byte, for the same answers: a run whose every call was answered gives the same results
when it is resumed. Whatever differs between two equal runs (time, memory, cost, the run's name) is in
`measurements`. Both hold only what JSON can: an unknown number is None, never NaN.

Yes/no questions are kept out of the headline figures: small models answer them at chance, and a one-word answer
flatters similarity scores. They have their own figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.report import notes, tuning, verdict
from synth_dspy.evaluation.report.classification import classification
from synth_dspy.evaluation.report.figures import (
    HEADLINE,
    PROMPTS,
    RETRIEVAL,
    SCORES,
    TRIVIAL,
    Json,
    Row,
    estimate,
    is_yes_no,
    mean,
    outcomes,
    plain,
    score,
)

_BREAKDOWN_RESAMPLES = 2_000  # many small cells, looked at rather than tested


def summarise(predictions: Iterable[Row], facts: Mapping[str, Any]) -> tuple[Json, Json]:
    """Aggregate one row per arm and item into `(results, measurements)`, independent of the order of the rows.

    Args:
        predictions: rows with arm, id, group, category, answer_type ("yes_no" for yes/no questions), references
            (empty: the right answer is to abstain), prediction, abstained, scores (judged, f1, exact, recall, mrr, in
            [0, 1] or None), latency_s, prompt_tokens, completion_tokens, cpu_s, cost_usd, error.
        facts: what is known of the run besides: task, noun (what a group is called), baseline, seed, models, versions,
            splits, held_out ("human-labelled" or "synthetic"), synthesis, contamination, judge, skipped, arms, notes
            (sentences that come before the report's own), and the measured run_id, command, stations, concurrency,
            wall_s, peak_rss_mb. Missing entries are reported as unknown. `pairs` is "all" to compare every pair of
            arms, else each is compared with the baseline; Holm's correction covers the comparisons with the baseline,
            and all others by themselves, of judged accuracy and of the task's own scores (token F1 and exact match
            where it has them, and its `objective`). `score` is what the headline's score is called where it is measured
            and no judge's estimate, `classes` the labels that an answer can be, where it is one. Of weights that were
            tuned: `training` of each arm, `variants` and `retention`, see `tuning`. `reference_rows`: what stands
            beside the arms, see `reference_rows`.

    Raises:
        ValueError: two rows for the same arm and item.
    """
    seed = int(facts.get("seed") or 0)
    baseline = str(facts.get("baseline") or "rag")
    every = _by_arm(predictions)
    variants = {variant["name"]: variant["of"] for variant in facts.get("variants") or []}
    reference = [dict(row) for row in facts.get("reference_rows") or []]
    named = [row["name"] for row in reference]
    beside = {*variants, *named}
    rows = {name: found for name, found in every.items() if name not in beside}
    arms = _arms(facts, rows)
    pairs = str(facts.get("pairs") or "baseline")
    scored = [arm["name"] for arm in arms if rows.get(arm["name"])]
    headline = {name: [r for r in rows[name] if not is_yes_no(r)] for name in scored}
    yes_no = {name: [r for r in rows[name] if is_yes_no(r)] for name in scored}
    comparisons = _comparisons(headline, baseline, pairs, seed, (HEADLINE,))
    measured = _measured_scores(rows)
    own = _own_scores(_measured_scores(headline), facts.get("objective"))
    further = [name for name in measured if name not in (*SCORES, *RETRIEVAL)]
    results: Json = {
        "task": facts.get("task"),
        "noun": facts.get("noun") or "document",
        "scores": measured,
        "baseline": baseline,
        "labels": facts.get("labels") or "",
        "seed": seed,
        "models": facts.get("models") or {},
        "versions": facts.get("versions") or {},
        "splits": facts.get("splits") or {},
        "synthesis": facts.get("synthesis"),
        "contamination": facts.get("contamination"),
        "held_out": facts.get("held_out"),
        "judge": facts.get("judge"),
        "skipped": facts.get("skipped") or [],
        "items": _items(rows),
        "method": _method(headline, pairs),
        "arms": [
            _arm(
                arm,
                rows.get(arm["name"], []),
                headline.get(arm["name"], []),
                yes_no.get(arm["name"], []),
                further,
                seed,
            )
            for arm in arms
        ],
        "alike": _alike(headline),
        "comparisons": comparisons,
        "comparisons_own": _comparisons(headline, baseline, pairs, seed, own) if own else [],
        **_reference(reference, every, headline, baseline, further, seed),
        "variants": tuning.variants(variants, every, seed),
        "tokens_saved": tuning.tokens_saved(arms, rows),
        "retention": tuning.retention(facts.get("retention") or {}, seed),
        "majority_yes_no": _majority(yes_no),
        "breakdown": {
            "answer": _breakdown(headline, lambda r: "answerable" if r["references"] else "must abstain", seed),
            "category": _breakdown(headline, lambda r: str(r.get("category") or "(none)"), seed),
            "answer_type": _breakdown(headline, lambda r: str(r.get("answer_type") or "(none)"), seed),
        },
    }
    if facts.get("score"):
        results["score"] = facts["score"]
    if facts.get("classes") and results["items"]["unanswerable"] < results["items"]["n"]:  # rows may have no label
        shown = {name: [r for r in every[name] if not is_yes_no(r)] for name in (*scored, *named) if name in every}
        results["classification"] = classification(facts["classes"], shown, seed)
    results["verdict"] = verdict.verdict(results)
    results["notes"] = notes.notes(results, facts.get("notes") or [])
    return plain(results), plain(_measurements(facts, arms, rows))


def _by_arm(predictions: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in predictions:
        arm = found.setdefault(str(row["arm"]), {})
        if str(row["id"]) in arm:
            raise ValueError(f"two predictions of arm {row['arm']!r} for item {row['id']!r}")
        arm[str(row["id"])] = row
    return {name: [arm[i] for i in sorted(arm)] for name, arm in sorted(found.items())}


def _arms(facts: Mapping[str, Any], rows: Mapping[str, Any]) -> list[Json]:
    declared = [dict(arm) for arm in facts.get("arms") or []]
    names = {arm["name"] for arm in declared}
    return declared + [{"name": name} for name in rows if name not in names]


def _items(rows: Mapping[str, Sequence[Row]]) -> Json:
    items = {str(r["id"]): r for arm in rows.values() for r in arm}.values()
    return {
        "n": len(items),
        "headline": sum(not is_yes_no(r) for r in items),
        "yes_no": sum(is_yes_no(r) for r in items),
        "unanswerable": sum(not r["references"] for r in items),
        "groups": len({r.get("group") for r in items}),
    }


def _method(headline: Mapping[str, Sequence[Row]], pairs: str) -> Json:
    groups = [r.get("group") for rows in headline.values() for r in rows]
    return {
        "unit": stats.resampling_unit(groups),
        "groups": len(set(groups)),
        "interval": stats.method(min(map(len, headline.values()), default=stats.FEW)),
        "test": "paired sign-flip permutation, two-sided",
        "correction": "Holm",
        "pairs": pairs,
        "resamples": stats.RESAMPLES,
    }


def _arm(
    arm: Json,
    rows: Sequence[Row],
    headline: Sequence[Row],
    yes_no: Sequence[Row],
    further: Sequence[str],
    seed: int,
) -> Json:
    return {
        "name": arm["name"],
        "optimizer": arm.get("optimizer"),
        "description": arm.get("description"),
        "demos": arm.get("demos"),
        "failed": arm.get("failed"),
        "training": tuning.training(arm),
        "n": len(rows),
        "errors": sum(bool(r.get("error")) for r in rows),
        "scores": {name: estimate(headline, name, seed) for name in SCORES},
        "yes_no": {name: estimate(yes_no, name, seed) for name in SCORES},
        "retrieval": {name: estimate(rows, name, seed) for name in RETRIEVAL},
        "further": {name: estimate(rows, name, seed) for name in further},
        "abstention": _abstention(rows, seed),
        "outcomes": outcomes(headline),
        "tokens": {k: mean(rows, f"{k}_tokens") for k in ("prompt", "completion")},
    }


def _abstention(rows: Sequence[Row], seed: int) -> Json:
    """Precision: how many abstentions were right. Recall: how many that were called for were made. F1: of both."""
    must = [r for r in rows if not r["references"]]
    did = [r for r in rows if r.get("abstained")]
    right = sum(bool(r.get("abstained")) for r in must)
    correct = sum(bool(r.get("abstained")) == (not r["references"]) for r in rows)
    pairs = [(bool(r.get("abstained")), not r["references"]) for r in rows]
    f1 = stats.ratio(
        [2.0 * (d and m) for d, m in pairs], [float(d + m) for d, m in pairs], [r.get("group") for r in rows], seed=seed
    )
    return {
        "f1": {"mean": f1.mean, "low": f1.low, "high": f1.high, "n": f1.n},
        "must": len(must),
        "did": len(did),
        "right": right,
        "precision": right / len(did) if did else None,
        "recall": right / len(must) if must else None,
        "accuracy": correct / len(rows) if rows else None,
    }


def _alike(rows: Mapping[str, Sequence[Row]]) -> list[list[str]]:
    """Groups of arms that gave the same answers to the same items, in the arms' order; a call that failed gave none."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, answers in rows.items():
        if answers and not any(r.get("error") for r in answers):
            found.setdefault(tuple((str(r["id"]), str(r.get("prediction"))) for r in answers), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def _measured_scores(rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """Names of the scores that at least one answer has, in the order of the task's metrics."""
    found: dict[str, bool] = {}
    for row in (row for arm in rows.values() for row in arm):
        for name, value in (row.get("scores") or {}).items():
            found[name] = found.get(name, False) or value is not None
    return [name for name, there in found.items() if there and name not in (HEADLINE, "abstention")]


def _own_scores(measured: Sequence[str], objective: str | None) -> list[str]:
    """The task's own scores that are tested beside the judge's: its objective, token F1, exact match."""
    wanted = dict.fromkeys((objective or HEADLINE, *SCORES))
    return [name for name in wanted if name in measured and name != HEADLINE]


def _comparisons(
    headline: Mapping[str, Sequence[Row]], baseline: str, pairs: str, seed: int, scores: Sequence[str]
) -> list[Json]:
    """Paired comparisons of some scores; those with the baseline and all others are two families of Holm's correction.

    What the report is about, does an arm beat the baseline, is decided by itself; the other pairs are another family.
    """
    names = list(headline)
    if pairs == "all":  # the baseline, where there, is always the second of its pairs
        order = [baseline] * (baseline in names) + [n for n in names if n != baseline]
        wanted = [(arm, other) for i, other in enumerate(order) for arm in order[i + 1 :]]
    else:
        wanted = [(arm, baseline) for arm in names if arm != baseline and baseline in names]
    compared = []
    for against in (True, False):
        family = [(score, *pair) for score in scores for pair in wanted if (pair[1] == baseline) is against]
        compared += _family(family, headline, seed)
    return compared


def _family(family: Sequence[tuple[str, str, str]], rows: Mapping[str, Sequence[Row]], seed: int) -> list[Json]:
    """Comparisons, each a score, an arm and the other one, that are corrected for together."""
    compared = [_compare(arm, other, rows, seed, name, len(family)) for name, arm, other in family]
    for row, adjusted in zip(compared, stats.holm([row["p"] for row in compared]), strict=True):
        row["p_holm"] = adjusted
        row["outcome"] = verdict.outcome(row)
        label = "" if row["score"] == HEADLINE else f"In {verdict.score_name(row['score'])}: "
        row["sentence"] = label + verdict.sentence(row)
    return compared


def _reference(
    declared: Sequence[Json],
    every: Mapping[str, Sequence[Row]],
    headline: Mapping[str, Sequence[Row]],
    baseline: str,
    further: Sequence[str],
    seed: int,
) -> Json:
    """What stands beside the arms, with its scores, and its comparisons: they take no part in the arms' corrections.

    Each arm is compared with the better of the trivial answers, one family; the baseline's other prompts with its own.
    """
    found = []
    for row in declared:
        asked = every.get(row["name"], [])
        scored = [r for r in asked if not is_yes_no(r)]
        figures = {"n": len(asked), "errors": sum(bool(r.get("error")) for r in asked), "outcomes": outcomes(scored)}
        figures |= {"scores": {name: estimate(scored, name, seed) for name in SCORES}}
        found.append({**row, **figures, "further": {name: estimate(asked, name, seed) for name in further}})
    rows = {**headline, **{row["name"]: [r for r in every.get(row["name"], []) if not is_yes_no(r)] for row in found}}
    trivial = [row for row in found if row["kind"] in TRIVIAL and row["scores"][HEADLINE]["mean"] is not None]
    best = max(trivial, key=lambda row: float(row["scores"][HEADLINE]["mean"]), default=None)
    prompts = [row["name"] for row in found if row["kind"] == PROMPTS and row["n"] and baseline in headline]
    return {
        "reference_rows": found,
        "comparisons_trivial": _family([(HEADLINE, arm, best["name"]) for arm in headline if best], rows, seed),
        "comparisons_prompts": _family([(HEADLINE, name, baseline) for name in prompts], rows, seed),
    }


def _compare(arm: str, other: str, headline: Mapping[str, Sequence[Row]], seed: int, name: str, tests: int) -> Json:
    theirs = {r["id"]: r for r in headline[other]}
    common = [(r, theirs[r["id"]]) for r in headline[arm] if r["id"] in theirs]
    found = stats.compare(
        [score(a, name) or 0.0 for a, _ in common],
        [score(b, name) or 0.0 for _, b in common],
        [a.get("group") for a, _ in common],
        tests=tests,
        seed=seed,
    )
    return {
        "score": name,
        "arm": arm,
        "against": other,
        "n": found.difference.n,
        "units": found.difference.units,
        "unit": found.difference.unit,
        "difference": found.difference.mean,
        "low": found.difference.low,
        "high": found.difference.high,
        "p": found.p,
        "relative_percent": found.relative_percent,
        "smallest_detectable": found.smallest_detectable,
    }


def _majority(yes_no: Mapping[str, Sequence[Row]]) -> float | None:
    """Exact share of yes/no items won by always giving the more frequent answer."""
    items = {r["id"]: r for rows in yes_no.values() for r in rows}.values()
    answers = Counter("yes" if str(r["references"][0]).strip().lower().startswith("y") else "no"
                      for r in items if r["references"])  # fmt: skip
    return max(answers.values()) / len(items) if answers else None


def _breakdown(headline: Mapping[str, Sequence[Row]], key: Callable[[Row], str], seed: int) -> list[Json]:
    """Judged accuracy and F1 of each arm for each value of `key`, largest first."""
    size: dict[str, set[str]] = {}
    for rows in headline.values():
        for row in rows:
            size.setdefault(key(row), set()).add(str(row["id"]))
    table = []
    for value in sorted(size, key=lambda v: (-len(size[v]), v)):
        cells = {}
        for name, rows in headline.items():
            part = [r for r in rows if key(r) == value]
            cells[name] = {s: estimate(part, s, seed, _BREAKDOWN_RESAMPLES) for s in ("judged", "f1")}
        table.append({"value": value, "n": len(size[value]), "arms": cells})
    return table


def _measurements(facts: Mapping[str, Any], arms: Sequence[Json], rows: Mapping[str, Sequence[Row]]) -> Json:
    measured = {}
    for arm in arms:
        ours = rows.get(arm["name"], [])
        latencies = [float(r["latency_s"]) for r in ours if r.get("latency_s") is not None]
        measured[arm["name"]] = {
            "compile_seconds": arm.get("compile_seconds"),
            "training": tuning.measured(arm),
            "latency_p50_s": stats.percentile(latencies, 50),
            "latency_p95_s": stats.percentile(latencies, 95),
            "cpu_s_per_item": mean(ours, "cpu_s"),
            "cost_usd_per_item": mean(ours, "cost_usd"),
        }
    known = ("run_id", "date", "machine", "command", "concurrency", "wall_s", "peak_rss_mb", "stations")
    return {**{key: facts.get(key) for key in known}, "arms": measured}
