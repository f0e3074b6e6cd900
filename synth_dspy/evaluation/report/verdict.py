"""The report's first sentences: which arm is best, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from synth_dspy.evaluation.records import ArmRecord, ComparisonRecord, JudgeRecord, PairRecord, Results, VerdictRecord
from synth_dspy.evaluation.report.figures import HEADLINE
from synth_dspy.evaluation.scores import label_of

ALPHA = 0.05
SMALL_SAMPLE = 30
"""Below this many items no difference is called one, whatever the test says: small samples are too often special."""
FAR = 0.15
"""An arm whose score is this much lower than the baseline's is named in the headline, shown to be worse or not."""
TOO_FEW, NOT_COMPARED, LEVEL = "too few items", "not compared", "no evidence of a difference"
JUDGED = "judged accuracy"
"""What the headline's score is called where a judge estimates it."""


NOTHING_SCORED: VerdictRecord = {
    "best": None,
    "highest": None,
    "outcome": "nothing scored",
    "headline": "No arm was scored.",
    "detail": "There are no answers to compare; the failures are listed below.",
}


def outcome(comparison: PairRecord) -> str:
    """ "better" or "worse" (5 %, after Holm's correction), or why it is neither: `LEVEL`, `TOO_FEW`, `NOT_COMPARED`."""
    p = comparison["p_holm"]
    if p is None:
        return NOT_COMPARED
    if comparison["n"] < SMALL_SAMPLE:
        return TOO_FEW
    if p >= ALPHA:
        return LEVEL
    return "better" if (comparison["difference"] or 0.0) > 0 else "worse"


def sentence(comparison: ComparisonRecord) -> str:
    """One comparison in words."""
    arm, other, n = comparison["arm"], comparison["against"], comparison["n"]
    shown = outcome(comparison)
    if shown == NOT_COMPARED:
        return f"{arm} and {other} have no item in common, so they could not be compared."
    figures = (
        f"{points(comparison['difference'])}, 95 % interval {points(comparison['low'], unit=False)} to "
        f"{points(comparison['high'])}, adjusted {p_value(comparison['p_holm'])}, n = {n}"
    )
    if shown == TOO_FEW:
        return f"Too few items to say whether {arm} and {other} differ ({figures})."
    if shown == LEVEL:
        text = f"No evidence of a difference between {arm} and {other} ({figures})."
        least = comparison["smallest_detectable"]
        return text + (f" {_least(least, n)}" if least else "")
    return f"{arm} is {shown} than {other} ({figures})."


def missing_evidence(baseline: str, n: int) -> str:
    """That no arm is shown to be better, and why; `choose` says it in the same words."""
    if n < SMALL_SAMPLE:
        return f"Too few items to say whether any arm is better than {baseline} (n = {n})."
    return f"No evidence that any arm is better than {baseline}."


def verdict(results: Results) -> VerdictRecord:
    """The report's first lines: `{"best", "highest", "outcome", "headline", "detail"}`.

    `highest` is the arm with the highest score; `best` is an arm only where there is evidence that
    it differs from the baseline (or the baseline from all others), else None.
    """
    scored = {a["name"]: a for a in results["arms"] if a["scores"][HEADLINE]["mean"] is not None}
    means = {name: arm["scores"][HEADLINE]["mean"] or 0.0 for name, arm in scored.items()}
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
        why = f"the baseline {baseline} was not scored" if baseline not in scored else "no other arm was scored"
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
        said: VerdictRecord = _a_winner(top, highest, scored, against[top], results)
    elif worse and len(worse) == len(against):
        said = {
            "best": baseline,
            "highest": highest,
            "outcome": "baseline",
            "headline": f"{baseline} is best, every other arm is worse: {_accuracy(scored[baseline], results)}.",
            "detail": " ".join(c["sentence"] for c in against.values()),
        }
    else:
        n = max(c["n"] for c in against.values())
        few = any(c["outcome"] == TOO_FEW for c in against.values()) and n < SMALL_SAMPLE
        said = {
            "best": None,
            "highest": highest,
            "outcome": TOO_FEW if few else LEVEL,
            "headline": missing_evidence(baseline, n),
            "detail": _detectable(against.get(highest), against),
        }
    further = own_score_sentences(results, said["best"])
    headline = [said["headline"], *([] if said["outcome"] == "baseline" else _far_below(against)), *further[:1]]
    headline += _unread(results)
    detail = [said["detail"], *further[1:], *trivial_sentences(results, [said["best"] or baseline])]
    if further and not is_measured(results):
        detail.append(_judge_error(results["judge"] or {}))
    return {**said, "headline": " ".join(filter(None, headline)), "detail": " ".join(filter(None, detail))}


def _unread(results: Results) -> list[str]:
    """That nobody has read the held-out items, or some of them."""
    unread, n = results.get("unread", 0), results["items"]["n"]
    if not unread:
        return []
    return ["Nobody has read the questions." if unread >= n else f"Nobody has read {unread} of the {n} questions."]


def trivial_sentences(results: Results, names: Iterable[str]) -> list[str]:
    """Of some arms those that are not shown to beat the best answer that is the same for every question, in words.

    Empty where there are too few items to show it, or no such answer.
    """
    compared = {c["arm"]: c for c in results.get("comparisons_trivial") or []}
    level = [name for name in names if name in compared and compared[name]["outcome"] in (LEVEL, "worse")]
    if not level:
        return []
    trivial = compared[level[0]]["against"]
    (score,) = (row["scores"][HEADLINE]["mean"] for row in results["reference_rows"] if row["name"] == trivial)
    return [
        f"There is no evidence that {listed(level, 'or')} does better than one answer to every question: "
        f"{trivial!r} scores {percent(score)} %."
    ]


def headline_name(results: Results) -> str:
    """What the headline's score is called in a sentence."""
    return str(results.get("score") or JUDGED).replace("_", " ")


def is_measured(results: Results) -> bool:
    """Whether the headline's score is measured, by equality or a metric of the user's, and not a judge's estimate."""
    return bool(results.get("score"))


def score_name(name: str, results: Results) -> str:
    """What one of the task's further scores is called in a sentence."""
    return label_of(name, results.get("score_labels"))


def capitalised(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


def percent(value: float | None, unknown: str = "unknown") -> str:
    """A share in per cent; in tables a dash is short for `unknown`."""
    return unknown if value is None else f"{100 * value:.1f}"


def points(value: float | None, *, unit: bool = True) -> str:
    """A difference of scores in percentage points, with its sign."""
    if value is None:
        return "unknown"
    text = f"{100 * value:+.1f}".replace("-", "\u2212")
    return f"{text} points" if unit else text


def p_value(p: float | None) -> str:
    """ "p = 0.03" or "p < 0.001"."""
    return "p unknown" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b" or "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def _accuracy(arm: ArmRecord, results: Results) -> str:
    score = arm["scores"][HEADLINE]
    return (
        f"{headline_name(results)} {percent(score['mean'])} % on {score['n']} held-out items "
        f"(95 % interval {percent(score['low'])} to {percent(score['high'])} %)"
    )


def _a_winner(
    top: str, highest: str, scored: Mapping[str, ArmRecord], won: ComparisonRecord, results: Results
) -> VerdictRecord:
    baseline = results["baseline"]
    ours, base = (scored[name]["scores"][HEADLINE]["mean"] for name in (top, baseline))
    relative = won["relative_percent"]
    times = f", a relative improvement of {relative:.0f} %" if relative is not None else ""
    detail = [
        f"On the same {won['n']} held-out items the difference is {points(won['difference'])}{times} (95 % interval "
        f"{points(won['low'], unit=False)} to {points(won['high'])}, {p_value(won['p_holm'])} after Holm's correction)."
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
        f"{percent(base)} %.",
        "detail": " ".join(detail),
    }


def _beats(arm: str, comparison: ComparisonRecord) -> bool:
    """Whether there is evidence that `arm`, on either side of the comparison, is the better one."""
    return bool(comparison["outcome"] == ("better" if comparison["arm"] == arm else "worse"))


def _far_below(against: Mapping[str, ComparisonRecord]) -> list[str]:
    """The arms that are worse than the baseline, and those that scored far lower without being shown to be."""
    worse = [name for name, c in against.items() if c["outcome"] == "worse"]
    sentences = [f"{listed(worse)} {'is' if len(worse) == 1 else 'are'} worse."] if worse else []
    low = [c for name, c in against.items() if name not in worse and _lost(c) >= FAR]
    if low:
        lost = sorted({f"{100 * _lost(c):.0f}" for c in low}, key=int)
        score = "scores" if len(low) == 1 else "score"
        span = f"{lost[0]} to {lost[-1]}" if len(lost) > 1 else lost[0]
        sentences.append(f"{listed([c['arm'] for c in low])} {score} {span} points lower.")
    return sentences


def _lost(comparison: ComparisonRecord) -> float:
    return -(comparison["difference"] or 0.0)


def own_score_sentences(results: Results, best: str | None) -> list[str]:
    """Differences from the baseline that the task's own scores show and the judge does not, or contradicts.

    One sentence a score. They are corrected together, over all these scores and arms, so that none is found by trying
    many.
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
        parts = [f"{'also shows' if best else 'does show'} a difference: {_gains(showing)}"] if showing else []
        other = headline_name(results) if is_measured(results) else "the judge"
        parts += [f"says the opposite of {other}: {_gains(contradicting)}"] if contradicting else []
        sentences += [f"{label} {'; it '.join(parts)}."] if parts else []
    return sentences


def _agreeing_scores(top: str, results: Results) -> list[str]:
    """What the task's own scores say of the judge's winner, where they do not contradict it."""
    sentences = []
    for c in results["comparisons_own"]:
        if c["arm"] != top or c["against"] != results["baseline"]:
            continue
        figures = f"({points(c['difference'])}, {p_value(c['p_holm'])})"
        if c["outcome"] == "better":
            sentences.append(f"By {score_name(c['score'], results)} it is better too {figures}.")
        elif c["outcome"] == LEVEL:
            sentences.append(f"By {score_name(c['score'], results)} there is no evidence of it {figures}.")
    return sentences


def _gains(comparisons: Sequence[ComparisonRecord]) -> str:
    return listed([f"{c['arm']} {points(c['difference'])} ({p_value(c['p_holm'])})" for c in comparisons])


def _judge_error(judge: JudgeRecord) -> str:
    """How often the judge is mistaken, where a score that needs no judge says otherwise."""
    accuracy, n = judge.get("accuracy"), judge.get("n")
    words = "a score of words may miss one of meaning"
    if accuracy is None:
        return f"How often the judge is mistaken is unknown, so it may miss a difference; {words}."
    source = f" ({judge['source']})" if judge.get("source") else ""
    return (
        f"The judge differed from people on {100 * (1 - accuracy):.1f} % of "
        f"{f'{n:,}' if n else 'the'} answers that it was measured on"
        f"{source}, so it may miss a difference; {words}."
    )


def _detectable(nearest: ComparisonRecord | None, against: Mapping[str, ComparisonRecord]) -> str:
    """What was seen, and the smallest difference that could have been."""
    nearest = nearest or max(against.values(), key=lambda c: c["difference"] if c["difference"] is not None else -2)
    if nearest["difference"] is None:
        return str(nearest["sentence"])
    seen = (
        f"The highest-scoring other arm, {nearest['arm']}, differs by {points(nearest['difference'])} (95 % interval "
        f"{points(nearest['low'], unit=False)} to {points(nearest['high'])}, {p_value(nearest['p_holm'])} after "
        "Holm's correction)."
    )
    least = nearest["smallest_detectable"]
    if least is None:
        same = abs(nearest["difference"]) < 1e-9 and nearest["n"] > 1
        return f"{seen} {'The two scored alike throughout.' if same else 'That is too few items to show anything.'}"
    return f"{seen} {_least(least, nearest['n'])}"


def _least(least: float, n: int) -> str:
    if least >= 1:
        return f"With n = {n}, no difference, however large, would be found reliably."
    return (
        f"With n = {n}, only a difference of about {100 * least:.0f} points or more would be found four times in five."
    )
