"""What limits the figures of a report, in one sentence each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from synth_dspy.core.text import counted
from synth_dspy.core.training_facts import is_judge
from synth_dspy.evaluation.records import ArmRecord, ChangeRecord, Results, TrainingRecord
from synth_dspy.evaluation.report.figures import HEADLINE
from synth_dspy.evaluation.report.judge import NOT_MEASURED, agreement_of, best_estimate
from synth_dspy.evaluation.report.verdict import (
    ALPHA,
    SMALL_SAMPLE,
    headline_name,
    is_measured,
    is_zero,
    listed,
    p_value,
    percent,
    points,
    score_name,
    trivial_sentences,
)

SUBSTANTIAL_KAPPA = 0.6  # "substantial agreement" begins here (Landis & Koch 1977)
PREFERENCES = ("dpo", "orpo", "kto")
FEW_PREFERENCES = 32
"""Below this many preferences, training makes only a few steps."""
FALLING = ("sft", "cpt", *PREFERENCES)
"""Methods whose loss falls when they learn."""
RISEN = 1.1
"""A loss has risen above this multiple of its first value: a few rows differ by some per cent."""
_HUMAN = "human: "
"""Prefix of the reasons for which people's preferences were dropped, in a training's counts."""


def notes(results: Results, first: Sequence[str] = ()) -> list[str]:
    """What limits the figures, most important first; empty if nothing does.

    Args:
        results: a run's, their notes not yet filled in.
        first: the run's own sentences; those that differ only in an arm's name are merged.
    """
    arms = results["arms"]
    sentences = _merged(first, [a["name"] for a in arms])
    sentences += [
        f"{listed(names)} failed and {'has' if len(names) == 1 else 'have'} no score: {reason}"
        for reason, names in _group_names((a["failed"], a["name"]) for a in arms if a["failed"])
    ]
    if results["held_out"] == "synthetic":
        sentences.append(
            "The held-out items are synthetic, written by the teacher: nobody has labelled these "
            f"{results['noun']}s, so accuracy on real questions may be higher or lower."
        )
    sentences += [] if is_measured(results) else _judge(results)
    sentences += trivial_sentences(results, [a["name"] for a in arms if a["n"]])
    sentences += _prompts(results)
    sentences += [
        f"{listed(names)} gave the same answer to every item compared: these items cannot tell them apart."
        for names in results["alike"]
    ]
    sentences += _discarded(arms)
    sentences += _few_preferences(arms)
    sentences += _risen_loss(arms)
    sentences += _unused_feedback(arms)
    judged = [a["name"] for a in arms if a["n"] and _learned_from_judge(a["training"])]
    if judged and not is_measured(results):
        own = list(dict.fromkeys(score_name(c["score"], results) for c in results["comparisons_own"]))
        other_scores = listed(own) if own else "the sample answers"
        sentences.append(
            f"The judge that scores {listed(judged)} also chose or rewarded the answers that "
            f"{'it' if len(judged) == 1 else 'they'} learned from: read {other_scores} as well as the "
            f"{headline_name(results)}."
        )
    items = results["items"]
    if 0 < items["headline"] < SMALL_SAMPLE:
        sentences.append(f"Only {counted(items['headline'], 'item')} scored: only large differences can show.")
    if results["method"]["unit"] == "items" and 0 < items["groups"] < items["n"]:
        few = counted(items["groups"], results["noun"])
        sentences.append(
            f"The items come from only {few}, too few to resample: intervals treat items as independent and may be "
            f"too narrow for new {results['noun']}s."
        )
    sentences += [
        f"{listed(names)} answered {n} of {items['n']} items; comparisons use the items that both arms answered."
        for n, names in _group_names((a["n"], a["name"]) for a in arms if 0 < a["n"] < items["n"])
    ]
    errors = [f"{a['name']} {a['errors']} of {a['n']}" for a in arms if a["errors"]]
    if errors:
        sentences.append(f"Calls that ended in an error count as wrong: {', '.join(errors)}.")
    if tuned := [a["name"] for a in arms if a["n"] and a["training"] and "same_as" not in a]:
        sentences.append(
            f"The intervals are of {listed(tuned)} as trained here: the same training with another seed "
            f"(training.options.{tuned[0]}.seed) would score differently, which no interval includes."
        )
    lost = ((_lost(model["change"]), model["model"]) for model in results["retention"] if "change" in model)
    sentences += [
        f"Tuning made {listed(names)} worse outside the task: {what}." for what, names in _group_names(lost) if what
    ]
    return sentences


def _judge(results: Results) -> list[str]:
    """Why a judge's scores need care."""
    judge = results["judge"] or {}
    kappa, graded = judge.get("kappa"), judge.get("sensitivity")
    score = headline_name(results)
    if kappa is None and graded is None:
        return [
            f"How well the judge agrees with people on answers such as these was {NOT_MEASURED}: read the {score} as "
            "an indication, and check the sample answers."
        ]
    sentences = []
    if kappa is not None and kappa < SUBSTANTIAL_KAPPA:
        sentences.append(
            f"The judge agrees poorly with people (kappa {kappa:.2f}, below {SUBSTANTIAL_KAPPA}): differences in the "
            f"{score} may be the judge's errors."
        )
    if graded is not None and agreement_of(judge) is None:
        sentences.append(
            "By its measured sensitivity and specificity the judge does no better than chance, so nothing can be "
            "corrected for its errors."
        )
    cut = [
        arm["name"]
        for arm in results["arms"]
        if "corrected" in arm
        and (mean := arm["corrected"]["mean"]) in (0, 1)
        and mean != arm["scores"][HEADLINE]["mean"]
    ]
    if cut:
        sentences.append(
            f"By the judge's measured errors the share of right answers of {listed(cut)} would lie outside 0 to 100 %, "
            "and is cut off there: on these answers the judge errs otherwise than on those it was measured on."
        )
    return sentences


def own_training(arm: ArmRecord) -> TrainingRecord | None:
    """The training that was the arm's own, also a discarded one; None for a prompt arm."""
    return arm["discarded"]["training"] if "discarded" in arm else arm.get("training")


def has_risen(training: TrainingRecord) -> bool:
    """Whether the loss is higher at the end of a training than at its beginning; a reward's loss says nothing."""
    first, last = ((training.get("loss") or {}).get(name) for name in ("first", "last"))
    falling = training["method"] in FALLING
    return falling and first is not None and last is not None and last > RISEN * first


def _discarded(arms: Sequence[ArmRecord]) -> list[str]:
    """Which arms are the model that they started from."""
    reasons = [((arm["discarded"]["why"], arm.get("same_as")), arm["name"]) for arm in arms if "discarded" in arm]
    return [
        f"{listed([f'{name} = {same}' for name in names])}: {_why_discarded(why, names)}. The same program is not "
        "compared a second time."
        if same
        else f"{listed(names)} {'is' if len(names) == 1 else 'are'} the model that the training started from: "
        f"{_why_discarded(why, names)}."
        for (why, same), names in _group_names(reasons)
    ]


def _why_discarded(why: str, names: Sequence[str]) -> str:
    return f"{why} and was discarded" if len(names) == 1 else f"of each, {why} and was discarded"


def _risen_loss(arms: Sequence[ArmRecord]) -> list[str]:
    """Which trainings ended with a higher loss on their rows than they began with."""
    return [
        f"The loss of {arm['name']} rose over its {counted(training['steps'] or 0, 'step')}, from "
        f"{training['loss']['first']:.3f} to {training['loss']['last']:.3f}: it may not have learned its rows. "
        f"Lower its learning rate (--training.options.{training['method']}.learning_rate), or give it more rows."
        for arm in arms
        if (training := own_training(arm)) and training["loss"] and has_risen(training)
    ]


def _few_preferences(arms: Sequence[ArmRecord]) -> list[str]:
    """Why arms that learn from preferences had few of them."""
    reasons, methods = [], {}
    for arm in arms:
        training = own_training(arm)
        if training is None:
            continue
        rows, dropped = training["rows"] or 0, training["dropped"]
        if training["method"] in PREFERENCES and 0 < rows < FEW_PREFERENCES:
            reasons.append(((rows, dropped.get("equal", 0), dropped.get("margin", 0)), arm["name"]))
            methods[arm["name"]] = training["method"]
    return [
        f"{listed(names)} learned from only {counted(rows, 'preference')}, too few to change a model much: of the "
        f"pairs of sampled answers, {equal} had the same text and {close} were judged about equal. For more, raise the "
        f"number of examples and samples (training.options.{methods[names[0]]}.examples, .samples) or add people's "
        "feedback (--training.feedback)."
        for (rows, equal, close), names in _group_names(reasons)
    ]


def _group_names(pairs: Iterable[tuple[Any, str]]) -> list[tuple[Any, list[str]]]:
    """Names by key, keys in the order in which they first occur."""
    grouped: dict[Any, list[str]] = defaultdict(list)
    for key, name in pairs:
        grouped[key].append(name)
    return list(grouped.items())


def _merged(sentences: Sequence[str], names: Sequence[str]) -> list[str]:
    """Sentences, with those that differ only in an arm's name merged into one that lists the names."""
    grouped = _group_names(_split_at_name(sentence, names) for sentence in sentences)
    return [parts[0] if len(parts) == 1 else listed(arms).join(parts) for parts, arms in grouped]


def _split_at_name(sentence: str, names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """What precedes and follows the first arm's name in a sentence, and the name; the sentence and "" without one."""
    for name in sorted(names, key=len, reverse=True):
        before, separator, after = f" {sentence} ".partition(f" {name} ")
        if separator:
            return (f"{before} ".lstrip(), f" {after}".rstrip()), name
    return (sentence,), ""


def _prompts(results: Results) -> list[str]:
    """A warning if the baseline scores higher under DSPy's own adapter: the arms' gains may come from its format."""
    rows = {row["name"]: row for row in results["reference_rows"]}
    sentences = []
    for c in results["comparisons_prompts"]:
        difference = c["difference"] or 0.0
        if c["against"] != results["baseline"] or difference <= 0 or is_zero(difference):
            continue
        there = best_estimate(rows[c["arm"]])["mean"] or 0.0
        here = max(0.0, there - difference)  # on the items of that row, which may be fewer
        sentence = (
            f"Under DSPy's own adapter {c['against']} scores {percent(there)} %, not {percent(here)} %, on "
            f"the same {counted(c['n'], 'item')} ({points(difference)}, {p_value(c['p_holm'])}), so the gains of other "
            "arms may come from the prompt's format, not from what they learned"
        )
        others = [other for other in results["comparisons_prompts"] if other["against"] == c["arm"] and other["n"]]
        best = max(others, key=lambda other: other["difference"] or 0.0, default=None)
        if best is not None:
            sentence += (
                f": from that, the best of them, {best['arm']}, differs by {points(best['difference'])} (adjusted "
                f"{p_value(best['p_holm'])}, n = {best['n']})"
            )
        sentences.append(f"{sentence}.")
    return sentences


def _unused_feedback(arms: Sequence[ArmRecord]) -> list[str]:
    unused: Counter[str] = Counter()
    for a in arms:  # all have the same preferences
        training = own_training(a)
        dropped = training["dropped"].items() if training else ()
        unused |= Counter({why.removeprefix(_HUMAN): count for why, count in dropped if why.startswith(_HUMAN)})
    if not unused:
        return []
    reasons = ", ".join(f"{why}: {count}" for why, count in unused.items())
    return [
        f"Of people's feedback, {counted(unused.total(), 'line')} could not be used ({reasons}): a preference "
        "needs two different answers, and every line a question that the program takes and an answer that is its reply."
    ]


def _learned_from_judge(training: TrainingRecord | None) -> bool:
    """Whether an arm was tuned on the judge's labels: answers accepted or rewarded, or sides of preferences.

    In a preference of "gold" or "synthetic" origin the rejected answer is one that the judge scored as wrong; only
    people's preferences do not depend on the judge.
    """
    if training is None:
        return False
    origins = {origin for origin, n in (training.get("by_origin") or {}).items() if n}
    preferred = training.get("method") in PREFERENCES and bool(origins - {"human"})
    return "ai" in origins or preferred or is_judge(training.get("reward"))


def _lost(change: ChangeRecord) -> str:
    """What a tuned model has significantly lost outside the task; empty if nothing."""
    losses = []
    followed, perplexity = change["ifeval"], change["perplexity"]
    if followed and (followed["difference"] or 0.0) < 0 and _is_significant(followed["p_holm"]):
        losses.append(f"fewer instructions followed ({points(followed['difference'])})")
    if perplexity and perplexity["percent"] and perplexity["percent"] > 0 and _is_significant(perplexity["p_holm"]):
        losses.append(f"perplexity of general text rose {perplexity['percent']:.0f} %")
    return " and ".join(losses)


def _is_significant(p: float | None) -> bool:
    return p is not None and p < ALPHA
