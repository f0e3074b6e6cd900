"""What a report says of scores that judge an answer together with its passages."""

from __future__ import annotations

from collections.abc import Sequence

from synth_dspy.evaluation.records import JudgeRecord, Results


def support_note(results: Results) -> str:
    """What hallucinated and unsupported mean, and how far that can be relied on; empty where it was not measured."""
    if "support" not in results:
        return ""
    return (
        "Hallucinated: wrong, and not supported by the passages that the program was given; the other wrong answers "
        "can be read there, but are not what the references say. Unsupported: right, though the passages do not say "
        f"so. {_judges(results, [results['support']], 'Support')}"
    )


def retrieval_note(results: Results) -> str:
    """How it was judged whether passages suffice; empty where it was not."""
    names = [name for name in results.get("passage_judges") or {} if name != results.get("support")]
    return _judges(results, names, "Whether the passages let one answer (of the questions that have an answer)")


def _judges(results: Results, names: Sequence[str], what: str) -> str:
    """Sentences about the judges of these scores."""
    judges = [judge for name in names if (judge := (results.get("passage_judges") or {}).get(name))]
    return " ".join(f"{what} is judged by {judge['name']}, {_agreement(judge)}." for judge in judges)


def _agreement(judge: JudgeRecord) -> str:
    kappa = judge.get("kappa")
    if kappa is None:
        return "whose agreement with people was not measured"
    source = f", {judge['source']}" if judge.get("source") else ""
    return f"whose kappa with people is {kappa:.2f} elsewhere (n = {judge['n']}{source}), and not measured here"
