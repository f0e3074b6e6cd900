"""Notes in a report on scores that judge an answer together with its passages."""

from __future__ import annotations

from collections.abc import Sequence

from synth_dspy.evaluation.records import JudgeRecord, Results


def support_note(results: Results) -> str:
    """What hallucinated and unsupported mean, and how reliable that is; empty if support was not scored."""
    if "support" not in results:
        return ""
    return (
        "Hallucinated: wrong, and not supported by the passages that the program was given; the passages support the "
        "other wrong answers, but the references disagree. Unsupported: right, but not supported by the passages. "
        + _judges(results, [results["support"]], "Support")
    )


def retrieval_note(results: Results) -> str:
    """How it was judged whether the passages contain an answer; empty if it was not."""
    names = [name for name in results.get("passage_judges") or {} if name != results.get("support")]
    return _judges(results, names, "Whether the passages contain an answer, where the question has one,")


def _judges(results: Results, names: Sequence[str], what: str) -> str:
    """A sentence on the judge of each score."""
    judges = [judge for name in names if (judge := (results.get("passage_judges") or {}).get(name))]
    return " ".join(f"{what} is judged by {judge['name']}; {_agreement(judge)}." for judge in judges)


def _agreement(judge: JudgeRecord) -> str:
    kappa = judge.get("kappa")
    if kappa is None:
        return "its agreement with people was not measured"
    source = f"; {judge['source']}" if judge.get("source") else ""
    return f"its kappa with people is {kappa:.2f} on other data (n = {judge['n']}{source}), and was not measured here"
