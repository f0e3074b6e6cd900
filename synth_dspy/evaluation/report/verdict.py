"""The report's first sentences: which arm is best, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from synth_dspy.evaluation.records import (
    ArmRecord,
    ComparisonRecord,
    JudgeRecord,
    PairRecord,
    Results,
    VerdictRecord,
)
from synth_dspy.evaluation.report.figures import HEADLINE
from synth_dspy.evaluation.report.judge import best_estimate, threshold
from synth_dspy.evaluation.scores import label_of

ALPHA = 0.05
SMALL_SAMPLE = 30
"""With fewer items no difference is reported, whatever the test says: small samples are too often unrepresentative."""
FAR = 0.15
"""An arm that scores this much lower than the baseline is named in the headline, significant or not, unless items are
too few to say anything."""
TOO_FEW, NOT_COMPARED, LEVEL = "too few items", "not compared", "no evidence of a difference"
JUDGED = "share judged right"
"""The name of the headline's score where a judge gives it."""
MEAN_SCORE = "mean judge score"
"""The name of it in runs of earlier versions."""
CORRECTED = "corrected for the judge's errors"


NOTHING_SCORED: VerdictRecord = {
    "best": None,
    "highest": None,
    "outcome": "nothing scored",
    "headline": "No arm was scored.",
    "detail": "There are no answers to compare; the failures are listed below.",
}


def outcome(comparison: PairRecord) -> str:
    """ "better" or "worse" (5 %, after Holm's correction), else `LEVEL`, `TOO_FEW` or `NOT_COMPARED`."""
    p = comparison["p_holm"]
    if p is None:
        return NOT_COMPARED
    if comparison["n"] < SMALL_SAMPLE:
        return TOO_FEW
    low, high = comparison["low"], comparison["high"]
    # The test takes the judge's error rates as given; the interval of a corrected difference does not.
    uncertain = "raw" in comparison and low is not None and high is not None and low <= 0 <= high
    if p >= ALPHA or uncertain:
        return LEVEL
    return "better" if (comparison["difference"] or 0.0) > 0 else "worse"


def sentence(comparison: ComparisonRecord) -> str:
    """One comparison in words."""
    arm, other, n = comparison["arm"], comparison["against"], comparison["n"]
    shown = outcome(comparison)
    if shown == NOT_COMPARED:
        return f"{arm} and {other} have no item in common, so they could not be compared."
    figures = (
        f"{points(comparison['difference'])}{_corrected(comparison)}, 95 % interval "
        f"{points(comparison['low'], unit=False)} to "
        f"{points(comparison['high'])}, adjusted {p_value(comparison['p_holm'])}, n = {n}"
    )
    if shown == TOO_FEW:
        return f"Too few items to say whether {arm} and {other} differ ({figures})."
    if shown == LEVEL:
        text = f"No evidence of a difference between {arm} and {other} ({figures})."
        least = comparison["smallest_detectable"]
        return text + (f" {_detectable_sentence(least, n)}" if least else "")
    return f"{arm} is {shown} than {other} ({figures})."


def missing_evidence(baseline: str, n: int) -> str:
    """The sentence that no arm is shown to be better, and why; `choose` uses it too."""
    if n < SMALL_SAMPLE:
        return f"Too few items to say whether any arm is better than {baseline} (n = {n})."
    return f"No evidence that any arm is better than {baseline}."


def verdict(results: Results) -> VerdictRecord:
    """The report's first lines: `{"best", "highest", "outcome", "headline", "detail"}`.

    `highest` is the arm with the highest score. `best` is an arm only with evidence that it beats the baseline (or that
    the baseline beats all others), else None.
    """
    every = {a["name"]: a for a in results["arms"] if a["scores"][HEADLINE]["mean"] is not None}
    scored = {name: arm for name, arm in every.items() if "same_as" not in arm}
    means = {name: best_estimate(arm)["mean"] or 0.0 for name, arm in scored.items()}
    baseline = results["baseline"]
    if not scored:
        return NOTHING_SCORED
    # Equal scores: the baseline wins, being the simplest; then the arm declared first.
    highest = max(scored, key=lambda name: (means[name], name == baseline))
    against = {c["arm"]: c for c in results["comparisons"] if c["against"] == baseline}
    if baseline not in scored or len(scored) == 1:
        n = scored[highest]["scores"][HEADLINE]["n"]
        judged = f"Too few items to say how good {highest} is (n = {n})"
        if n >= SMALL_SAMPLE:
            judged = f"{highest}: {_accuracy(scored[highest], results)}"
        others = [same_as(arm) for arm in every.values() if "same_as" in arm]
        alone = f"there is no other program ({listed(others)})" if others else "no other arm was scored"
        why = f"the baseline {baseline} was not scored" if baseline not in scored else alone
        return {
            "best": None,
            "highest": highest,
            "outcome": NOT_COMPARED,
            "headline": " ".join([f"{judged}; {why}, so there is no comparison.", *_unread(results)]),
            "detail": "One score alone does not say whether an optimizer helped.",
        }
    winners = [name for name, c in against.items() if c["outcome"] == "better"]
    worse = [name for name, c in against.items() if c["outcome"] == "worse"]
    if winners:
        top = max(winners, key=lambda name: means[name])
        record: VerdictRecord = _winner_record(top, highest, scored, against[top], results)
    elif worse and len(worse) == len(against):
        record = {
            "best": baseline,
            "highest": highest,
            "outcome": "baseline",
            "headline": f"{baseline} is best; every other arm is worse: {_accuracy(scored[baseline], results)}.",
            "detail": " ".join(c["sentence"] for c in against.values()),
        }
    else:
        n = max(c["n"] for c in against.values())
        few = any(c["outcome"] == TOO_FEW for c in against.values()) and n < SMALL_SAMPLE
        record = {
            "best": None,
            "highest": highest,
            "outcome": TOO_FEW if few else LEVEL,
            "headline": missing_evidence(baseline, n),
            "detail": _detectable_detail(against.get(highest), against, results),
        }
    further = own_score_sentences(results, record["best"])
    headline = [record["headline"], *([] if record["outcome"] == "baseline" else _far_below(against)), *further[:1]]
    headline += _unread(results)
    detail = [record["detail"], *further[1:], *trivial_sentences(results, [record["best"] or baseline])]
    if further and not is_measured(results):
        detail.append(_judge_error(results["judge"] or {}))
    return {**record, "headline": " ".join(filter(None, headline)), "detail": " ".join(filter(None, detail))}


def _unread(results: Results) -> list[str]:
    """A sentence on the held-out items that nobody has read, if any."""
    unread, n = results.get("unread", 0), results["items"]["n"]
    if not unread:
        return []
    return ["Nobody has read the questions." if unread >= n else f"Nobody has read {unread} of the {n} questions."]


def trivial_sentences(results: Results, names: Iterable[str]) -> list[str]:
    """A sentence on the named arms without evidence that they beat the best constant answer, if any.

    Empty if there are too few items to tell, or no constant answer.
    """
    compared = {c["arm"]: c for c in results.get("comparisons_trivial") or []}
    level = [name for name in names if name in compared and compared[name]["outcome"] in (LEVEL, "worse")]
    if not level:
        return []
    trivial = compared[level[0]]["against"]
    (score,) = (best_estimate(row)["mean"] for row in results["reference_rows"] if row["name"] == trivial)
    return [
        f"There is no evidence that {listed(level, 'or')} does better than the same answer to every question: "
        f"{trivial!r} scores {percent(score)} %."
    ]


def same_as(arm: Mapping[str, object]) -> str:
    """ "orpo = sft", for an arm that has another's program; else its name."""
    return " = ".join(str(arm.get(key)) for key in ("name", "same_as") if key in arm)


def with_same(name: str, results: Results) -> str:
    """An arm's name, with those that have the same program: "sft (= orpo)"."""
    same = [arm["name"] for arm in results["arms"] if arm.get("same_as") == name]
    return f"{name} (= {', '.join(same)})" if same else name


def headline_name(results: Results) -> str:
    """The name of the headline's score in a sentence."""
    judged = MEAN_SCORE if threshold(results) is None else JUDGED
    return str(results.get("score") or judged).replace("_", " ")


def is_measured(results: Results) -> bool:
    """Whether the headline's score is measured (by equality or the user's metric) rather than estimated by a judge."""
    return bool(results.get("score"))


def score_name(name: str, results: Results) -> str:
    """The name of one of the task's own scores in a sentence."""
    return label_of(name, results.get("score_labels"))


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def percent(value: float | None, unknown: str = "unknown") -> str:
    """A share in per cent."""
    return unknown if value is None else f"{100 * value:.1f}"


def points(value: float | None, *, unit: bool = True) -> str:
    """A difference of scores in percentage points, with its sign."""
    if value is None:
        return "unknown"
    text = "0.0" if is_zero(value) else f"{100 * value:+.1f}".replace("-", "\u2212")
    return f"{text} points" if unit else text


def is_zero(difference: float) -> bool:
    """Whether a difference of scores is 0.0 points as reports round it."""
    return abs(100 * difference) < 0.05


def p_value(p: float | None) -> str:
    """ "p = 0.03" or "p < 0.001"."""
    return "p unknown" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b" or "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _corrected(comparison: ComparisonRecord) -> str:
    return f", {CORRECTED}" if "raw" in comparison else ""


def _accuracy(arm: ArmRecord, results: Results) -> str:
    judged, best = arm["scores"][HEADLINE], best_estimate(arm)
    corrected = f", {CORRECTED} {percent(best['mean'])} %," if "corrected" in arm else ""
    return (
        f"{headline_name(results)} {percent(judged['mean'])} %{corrected} on {best['n']} held-out items "
        f"(95 % interval {percent(best['low'])} to {percent(best['high'])} %)"
    )


def _winner_record(
    top: str, highest: str, scored: Mapping[str, ArmRecord], won: ComparisonRecord, results: Results
) -> VerdictRecord:
    baseline = results["baseline"]
    ours, base = (scored[name]["scores"][HEADLINE]["mean"] for name in (top, baseline))
    corrected = [
        percent(best_estimate(scored[name])["mean"]) for name in (top, baseline) if "corrected" in scored[name]
    ]
    also = f", {CORRECTED} {' % against '.join(corrected)} %" if corrected else ""
    relative = won["relative_percent"]
    times = f", a relative improvement of {relative:.0f} %" if relative is not None else ""
    detail = [
        f"On the same {won['n']} held-out items the difference is {points(won['difference'])}{_corrected(won)}{times} "
        f"(95 % interval {points(won['low'], unit=False)} to {points(won['high'])}, {p_value(won['p_holm'])} after "
        "Holm's correction)."
    ]
    detail += _agreeing_scores(top, results)
    rivals = [name for name in scored if name not in (top, baseline)]
    pairs = {frozenset((c["arm"], c["against"])): c for c in results["comparisons"]}
    tested = {name: pairs.get(frozenset((top, name))) for name in rivals}
    level = [n for n, c in tested.items() if c is not None and c["outcome"] == LEVEL]
    untested = [n for n, c in tested.items() if c is None or c["outcome"] in (TOO_FEW, NOT_COMPARED)]
    beaten = [n for n, c in tested.items() if c is not None and _beats(top, c)]
    if beaten:
        detail.append(f"It is also better than {listed(beaten)}.")
    if level:
        detail.append(f"There is no evidence of a difference between {top} and {listed(level, 'or')}.")
    if untested:
        detail.append(f"Whether it differs from {listed(untested, 'or')} was not tested.")
    return {
        "best": top,
        "highest": highest,
        "outcome": "better",
        "headline": f"{top} is better than {baseline}: {headline_name(results)} {percent(ours)} % against "
        f"{percent(base)} %{also}.",
        "detail": " ".join(detail),
    }


def _beats(arm: str, comparison: ComparisonRecord) -> bool:
    """Whether there is evidence that `arm`, on either side of the comparison, is the better one."""
    return bool(comparison["outcome"] == ("better" if comparison["arm"] == arm else "worse"))


def _far_below(against: Mapping[str, ComparisonRecord]) -> list[str]:
    """Sentences on the arms that are worse than the baseline, and on those that scored far lower without evidence."""
    worse = [name for name, c in against.items() if c["outcome"] == "worse"]
    sentences = [f"{listed(worse)} {'is' if len(worse) == 1 else 'are'} worse."] if worse else []
    low = [c for c in against.values() if c["outcome"] == LEVEL and _shortfall(c) >= FAR]
    if low:
        lost = sorted({f"{100 * _shortfall(c):.0f}" for c in low}, key=int)
        score = "scores" if len(low) == 1 else "score"
        span = f"{lost[0]} to {lost[-1]}" if len(lost) > 1 else lost[0]
        sentences.append(f"{listed([c['arm'] for c in low])} {score} {span} points lower.")
    return sentences


def _shortfall(comparison: ComparisonRecord) -> float:
    return -(comparison["difference"] or 0.0)


def own_score_sentences(results: Results, best: str | None) -> list[str]:
    """Differences from the baseline in the task's own scores that the judge does not show, or contradicts.

    One sentence per score. All these scores and arms are corrected together.
    """
    judged = {c["arm"]: c["outcome"] for c in results["comparisons"] if c["against"] == results["baseline"]}
    sentences = []
    own = [c for c in results.get("comparisons_own") or [] if c["against"] == results["baseline"]]
    for name in dict.fromkeys(c["score"] for c in own):
        shown = [
            c
            for c in own
            if c["score"] == name and c["outcome"] in ("better", "worse") and c["outcome"] != judged.get(c["arm"])
        ]
        label = capitalised(score_name(name, results))
        contradicting = [c for c in shown if judged.get(c["arm"]) in ("better", "worse")]
        showing = [c for c in shown if c not in contradicting]
        parts = [f"{'also shows' if best else 'does show'} a difference: {_gain_list(showing)}"] if showing else []
        other = headline_name(results) if is_measured(results) else "the judge"
        parts += [f"says the opposite of {other}: {_gain_list(contradicting)}"] if contradicting else []
        sentences += [f"{label} {'; it '.join(parts)}."] if parts else []
    return sentences


def _agreeing_scores(top: str, results: Results) -> list[str]:
    """Sentences on the judge's winner by the task's own scores, where they do not contradict it."""
    sentences = []
    for c in results["comparisons_own"]:
        if c["arm"] != top or c["against"] != results["baseline"]:
            continue
        figures = f"({points(c['difference'])}, {p_value(c['p_holm'])})"
        if c["outcome"] == "better":
            sentences.append(f"It is also better by {score_name(c['score'], results)} {figures}.")
        elif c["outcome"] == LEVEL:
            sentences.append(f"By {score_name(c['score'], results)} there is no evidence of a difference {figures}.")
    return sentences


def _gain_list(comparisons: Sequence[ComparisonRecord]) -> str:
    return listed([f"{c['arm']} {points(c['difference'])} ({p_value(c['p_holm'])})" for c in comparisons])


def _judge_error(judge: JudgeRecord) -> str:
    """How often the judge is wrong, for where a score that needs no judge disagrees with it."""
    accuracy, n = judge.get("accuracy"), judge.get("n")
    caveat = "a score of words may miss a difference of meaning"
    if accuracy is None:
        return f"The judge's error rate was not measured here, so it may miss a difference; {caveat}."
    graded = judge.get("graded") or judge.get("source")
    source = f" ({graded})" if graded else ""
    return (
        f"The judge differed from people on {100 * (1 - accuracy):.1f} % of "
        f"{f'{n:,}' if n else 'the'} answers that it was measured on"
        f"{source}, so it may miss a difference; {caveat}."
    )


def _detectable_detail(
    nearest: ComparisonRecord | None, against: Mapping[str, ComparisonRecord], results: Results
) -> str:
    """The largest difference observed, with all arms that have it, and the smallest that would have been detected."""
    nearest = nearest or max(against.values(), key=lambda c: c["difference"] if c["difference"] is not None else -2)
    if nearest["difference"] is None:
        return str(nearest["sentence"])
    tied = [c for c in against.values() if abs((c["difference"] or 0.0) - nearest["difference"]) < 1e-9]
    several = len(tied) > 1
    names = [with_same(c["arm"], results) for c in tied]
    subject = f"other arms, {listed(names)}, tied," if several else f"other arm, {names[0]},"
    gap, s = points(nearest["difference"]), "" if several else "s"
    predicate = f"score{s} the same" if is_zero(nearest["difference"]) else f"differ{s} by {gap}"
    of = "" if len({(c["low"], c["high"], c["p_holm"]) for c in tied}) == 1 else f"for {nearest['arm']}: "
    difference = (
        f"The highest-scoring {subject} {predicate}{_corrected(nearest)} ({of}95 % interval "
        f"{points(nearest['low'], unit=False)} to {points(nearest['high'])}, {p_value(nearest['p_holm'])} after "
        "Holm's correction)."
    )
    least = nearest["smallest_detectable"]
    if least is None:
        same = abs(nearest["difference"]) < 1e-9 and nearest["n"] > 1
        reason = (
            f"{'They' if several else 'The two'} have the same score on every item."
            if same
            else "That is too few items to show anything."
        )
        return f"{difference} {reason}"
    return f"{difference} {_detectable_sentence(least, nearest['n'])}"


def _detectable_sentence(least: float, n: int) -> str:
    if least >= 1:
        return f"With n = {n}, no difference, however large, would be detected reliably."
    return (
        f"With n = {n}, only a difference of about {100 * least:.0f} points or more would be detected four times in "
        "five."
    )
