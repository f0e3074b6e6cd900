"""What the reader of a report should be wary of, plainly: one sentence for each thing that limits the figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from synth_dspy.evaluation.records import ArmRecord, ChangeRecord, Results, TrainingRecord
from synth_dspy.evaluation.report.verdict import (
    ALPHA,
    SMALL_SAMPLE,
    is_measured,
    listed,
    points,
    score_name,
    trivial_sentences,
)

SUBSTANTIAL_KAPPA = 0.6  # "substantial agreement" begins here (Landis & Koch 1977)
PREFERENCES = ("dpo", "orpo", "kto")
FEW_PREFERENCES = 32
"""Below this many preferences a training makes only a few steps."""
_HUMAN = "human: "
"""Begins why a preference of people was dropped, in the counts of a training."""


def notes(results: Results, first: Sequence[str] = ()) -> list[str]:
    """What limits the figures, most important first; empty if nothing does.

    Args:
        results: without their notes.
        first: sentences of the run's own; those that differ by the name of an arm alone become one.
    """
    arms = results["arms"]
    made = _merged(first, [a["name"] for a in arms])
    made += [
        f"{listed(names)} failed and {'has' if len(names) == 1 else 'have'} no score: {reason}"
        for reason, names in _by((a["failed"], a["name"]) for a in arms if a["failed"])
    ]
    if results["held_out"] == "synthetic":
        made.append(
            "The held-out items are synthetic, written by the teacher: nobody has labelled these "
            f"{results['noun']}s, so real questions may be answered better or worse."
        )
    made += [] if is_measured(results) else _agreement((results["judge"] or {}).get("kappa"))
    made += trivial_sentences(results, [a["name"] for a in arms if a["n"]])
    made += _prompts(results)
    made += [
        f"{listed(names)} gave the same answer to every item that is compared: these items cannot tell them apart."
        for names in results["alike"]
    ]
    made += _few_preferences(arms)
    made += _unused_feedback(arms)
    taught = [a["name"] for a in arms if a["n"] and _judge_taught(a["training"])]
    if taught and not is_measured(results):
        own = list(dict.fromkeys(score_name(c["score"], results) for c in results["comparisons_own"]))
        beside = listed(own) if own else "the sample answers"
        made.append(
            f"The judge that scores {listed(taught)} also chose the answers that "
            f"{'it' if len(taught) == 1 else 'they'} learned from: read {beside} beside judged accuracy."
        )
    items = results["items"]
    if 0 < items["headline"] < SMALL_SAMPLE:
        made.append(f"Only {items['headline']} items were scored: nothing but large differences can show.")
    if results["method"]["unit"] == "items" and 0 < items["groups"] < items["n"]:
        few = f"{items['groups']} {results['noun']}{'s' if items['groups'] != 1 else ''}"
        made.append(
            f"The items come from only {few}, too few to resample: intervals treat items as independent and may be "
            f"too narrow for new {results['noun']}s."
        )
    made += [
        f"{listed(names)} answered {n} of {items['n']} items; comparisons use the items that both arms answered."
        for n, names in _by((a["n"], a["name"]) for a in arms if 0 < a["n"] < items["n"])
    ]
    errors = [f"{a['name']} {a['errors']} of {a['n']}" for a in arms if a["errors"]]
    if errors:
        made.append(f"Calls that ended in an error count as wrong: {', '.join(errors)}.")
    lost = ((_lost(model["change"]), model["model"]) for model in results["retention"] if "change" in model)
    made += [f"Tuning cost {listed(names)} something elsewhere: {what}." for what, names in _by(lost) if what]
    return made


def _agreement(kappa: float | None) -> list[str]:
    """Why a judge's scores are to be read with care."""
    if kappa is None:
        return [
            "How well the judge agrees with people is unknown: read judged accuracy as an indication, and check the "
            "sample answers."
        ]
    if kappa < SUBSTANTIAL_KAPPA:
        return [
            f"The judge agrees poorly with people (kappa {kappa:.2f}, below {SUBSTANTIAL_KAPPA}): differences in "
            "judged accuracy may be the judge's."
        ]
    return []


def _few_preferences(arms: Sequence[ArmRecord]) -> list[str]:
    """Why arms that learn from preferences had only few of them."""
    reasons = []
    for arm in arms:
        training = arm["training"]
        if training is None:
            continue
        rows, dropped = training["rows"] or 0, training["dropped"]
        if training["method"] in PREFERENCES and 0 < rows < FEW_PREFERENCES:
            reasons.append(((rows, dropped.get("equal", 0), dropped.get("margin", 0)), arm["name"]))
    return [
        f"{listed(names)} learned from only {rows} preference{'s' if rows != 1 else ''}, too few to move a model far: "
        f"of the pairs of sampled answers {equal} were the same text and {close} were judged about alike. More come of "
        f"more examples and samples (training.options.{names[0]}.examples, .samples) and of people's feedback "
        "(--training.feedback)."
        for (rows, equal, close), names in _by(reasons)
    ]


def _by(pairs: Iterable[tuple[Any, str]]) -> list[tuple[Any, list[str]]]:
    """Names by what is said of them, in the order in which it is first said."""
    grouped: dict[Any, list[str]] = defaultdict(list)
    for key, name in pairs:
        grouped[key].append(name)
    return list(grouped.items())


def _merged(sentences: Sequence[str], names: Sequence[str]) -> list[str]:
    """Sentences of which those that are equal but for an arm's name, as a word of its own, are said once."""
    merged = []
    for parts, about in _by(_about(sentence, names) for sentence in sentences):
        merged.append(parts[0] if len(parts) == 1 else listed(about).join(parts))
    return merged


def _about(sentence: str, names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """A sentence without the first arm that it names, and that arm; whole, and nothing, if it names none."""
    for name in sorted(names, key=len, reverse=True):
        before, there, after = f" {sentence} ".partition(f" {name} ")
        if there:
            return (f"{before} ".lstrip(), f" {after}".rstrip()), name
    return (sentence,), ""


def _prompts(results: Results) -> list[str]:
    """A baseline that DSPy's own adapter serves better: what arms gain on it may be no more than that."""
    return [
        f"Under DSPy's own adapter {c['against']} is better ({points(c['difference'])}): what other arms gain may be "
        "the prompt's format, not what they learned."
        for c in results["comparisons_prompts"]
        if c["outcome"] == "better"
    ]


def _unused_feedback(arms: Sequence[ArmRecord]) -> list[str]:
    unused: Counter[str] = Counter()
    for a in arms:  # each is given the same preferences
        dropped = a["training"]["dropped"].items() if a["training"] else ()
        unused |= Counter({why.removeprefix(_HUMAN): count for why, count in dropped if why.startswith(_HUMAN)})
    if not unused:
        return []
    reasons = ", ".join(f"{why}: {count}" for why, count in unused.items())
    return [
        f"Of the feedback that people gave, {unused.total()} could not be used ({reasons}): preferences need two "
        "different answers, and a question that the program can be asked."
    ]


def _judge_taught(training: TrainingRecord | None) -> bool:
    """Whether an arm was tuned on the judge's labels: an answer it accepted, or a side of a preference it judged.

    A preference of "gold" or "synthetic" origin sets a reference against an answer that the judge found wrong; only
    those of people owe the judge nothing.
    """
    if training is None:
        return False
    origins = {origin for origin, n in (training.get("by_origin") or {}).items() if n}
    return "ai" in origins or (training.get("method") in PREFERENCES and bool(origins - {"human"}))


def _lost(change: ChangeRecord) -> str:
    """What a tuned model has demonstrably lost elsewhere; nothing if nothing."""
    losses = []
    followed, perplexity = change["ifeval"], change["perplexity"]
    if followed and (followed["difference"] or 0.0) < 0 and _shown(followed["p_holm"]):
        losses.append(f"fewer instructions followed ({points(followed['difference'])})")
    if perplexity and perplexity["percent"] and perplexity["percent"] > 0 and _shown(perplexity["p_holm"]):
        losses.append(f"perplexity of general text rose {perplexity['percent']:.0f} %")
    return " and ".join(losses)


def _shown(p: float | None) -> bool:
    return p is not None and p < ALPHA
