"""Prompt iteration: a small batch first, its verdicts grouped by cause, and the writing of requests compiled on it.

Khattab et al., "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines", arXiv:2310.03714.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import dspy

from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.core.protocols import Filter
from synth_dspy.core.text import counted
from synth_dspy.domains.functions.units import RequestUnit
from synth_dspy.domains.functions.writer import RequestWriter
from synth_dspy.synthesis.pipeline import reason
from synth_dspy.training import prompting


class Writing(Protocol):
    """The synthesizer to improve: its units, the `writer` of requests for them, and the checks that these must pass."""

    writer: RequestWriter
    checks: Sequence[Filter]

    def plan(self, items: Sequence[Item], limit: int | None) -> list[RequestUnit]: ...
    def ask(self, wanted: str, shots: Sequence[dspy.Example]) -> str: ...
    def candidate(self, unit: RequestUnit, question: str) -> Candidate[RequestUnit]: ...
    def passes(self, candidate: Candidate[RequestUnit]) -> bool: ...


def improve(
    synthesizer: Writing, items: Sequence[Item], executor: Executor, *, batch: int = 8, most: int = 2
) -> dict[str, Any]:
    """Compile the writer of requests against the filters, before the large batch.

    A first batch is written; requests that pass all checks become the writer's demonstrations, by DSPy's
    BootstrapFewShot with the checks as its metric. A second batch, of other calls, is written before and after, to
    measure the gain; without a gain, the writer stays as it was.

    Args:
        synthesizer: its LM set; its writer is changed in place.
        items: training items.
        executor: runs many calls at once.
        batch: units in each of the two batches.
        most: the most demonstrations.

    Returns:
        `batch`, `before` and `after` (shares of the second batch that pass), `causes` of rejections before and after,
        `demonstrations`, `kept` (whether they are used).
    """
    units = [unit for unit in synthesizer.plan(items, 2 * batch) if unit.category != "multi_turn"]
    units.sort(key=lambda unit: hashlib.sha256(unit.id.encode()).hexdigest())
    first, second = units[::2], units[1::2]
    if not second:
        return {"batch": 0, "before": 0.0, "after": 0.0, "causes": {}, "demonstrations": 0, "kept": False}
    examples = [
        dspy.Example(wanted=unit.wanted, shots=unit.shots, unit=unit).with_inputs("wanted", "shots") for unit in first
    ]

    def passes(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
        return synthesizer.passes(synthesizer.candidate(example.unit, prediction.request))

    writer = synthesizer.writer
    before, causes_before = _yield(synthesizer, second, executor)
    prompting.prefetch_answers(writer, examples, executor)
    optimizer = dspy.BootstrapFewShot(metric=passes, max_bootstrapped_demos=most, max_labeled_demos=0)
    with prompting.quiet("prompt iteration"):
        compiled = optimizer.compile(writer.reset_copy(), teacher=writer, trainset=examples)
    demonstrations = [dspy.Example(wanted=demo["wanted"], request=demo["request"]) for demo in compiled.write.demos]
    writer.write.demos = demonstrations
    after, causes_after = _yield(synthesizer, second, executor)
    if after <= before:
        writer.write.demos = []
    return {
        "batch": len(second),
        "before": before,
        "after": after,
        "causes": {"before": causes_before, "after": causes_after},
        "demonstrations": len(demonstrations),
        "kept": after > before,
    }


def in_words(measures: Mapping[str, Any]) -> list[str]:
    """The results of a prompt iteration, in sentences for the report; empty if there were no units to try it on."""
    if not measures["batch"]:
        return []
    causes = ", ".join(f"{cause} ({count})" for cause, count in measures["causes"]["before"].items()) or "none"
    use = "are used" if measures["kept"] else "gave no gain and are not used"
    return [
        f"Of a first batch of {counted(measures['batch'], 'request')}, {measures['before']:.0%} passed the checks "
        f"(rejected: {causes}).",
        f"With {counted(measures['demonstrations'], 'demonstration')} from those that passed, {measures['after']:.0%} "
        f"did; these {use}.",
    ]


def _yield(synthesizer: Writing, units: Sequence[RequestUnit], executor: Executor) -> tuple[float, dict[str, int]]:
    """The share of units whose first request passes all checks, and the causes of the others' rejection."""

    def write(unit: RequestUnit) -> str:
        return synthesizer.ask(unit.wanted, unit.shots)

    causes: Counter[str] = Counter()
    for unit, outcome in zip(units, executor.map(write, units), strict=True):
        if outcome.error is not None:
            causes[f"call failed: {type(outcome.error).__name__}"] += 1
            continue
        candidate = synthesizer.candidate(unit, outcome.unwrap())
        for check in synthesizer.checks:
            verdict = check(candidate)
            if not verdict.keep:
                causes[f"{check.name}: {reason(verdict.why)}"] += 1
                break
    return 1 - causes.total() / max(1, len(units)), dict(causes.most_common())
