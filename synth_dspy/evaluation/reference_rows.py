"""What stands beside the arms in a report, so that their scores can be read.

Two trivial answers, the same for every question: an arm that scores as they do has learned nothing, and a judge or a
metric that likes them is to be read with care. And the baseline under DSPy's own adapter: where that scores better, an
arm's gain may be the prompt's format. None of them is an arm: nobody would use them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.core.text import as_text
from synth_dspy.evaluation.facts import ReferenceFacts, ReferenceKind
from synth_dspy.evaluation.report.figures import PROMPTS, is_yes_no
from synth_dspy.evaluation.report.verdict import SMALL_SAMPLE

FREQUENT = 0.1
"""An answer that this share of the training rows has, and at least two rows, is worth giving to every question."""


@dataclass(slots=True)
class Adapters:
    """Whether an adapter that a program sets differs from DSPy's default, as far as it has been asked."""

    differ: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A row beside the arms.

    Attributes:
        name: what the report calls it.
        kind: "silent", "frequent" or "prompts".
        program: gives its answers.
        answer: what it answers to every question; None for the baseline under DSPy's adapter.
        adapters: of that program.
    """

    name: str
    kind: ReferenceKind
    program: dspy.Module
    answer: str | None = None
    adapters: Adapters | None = None

    def most(self, items: int) -> int:
        """How many of the held-out items it is asked.

        DSPy's adapter asks twice where a reply cannot be parsed: of half the items that costs no more than an arm.
        Fewer items than can be compared would be wasted.
        """
        return items if self.adapters is None else max(SMALL_SAMPLE, math.ceil(items / 2))

    def facts(self) -> ReferenceFacts:
        """What the report says of it once its program was run."""
        same = self.adapters is not None and not self.adapters.differ
        skipped = "the program's prompts are DSPy's own already" if same else ""
        return ReferenceFacts(self.name, self.kind, self.answer, skipped)


class SameAnswer(dspy.Module):
    """Gives one answer to every question, and asks no model."""

    def __init__(self, *, abstained: bool, **outputs: Any) -> None:
        super().__init__()
        self.prediction = {**outputs, "abstained": abstained}

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """The answer."""
        return dspy.Prediction(**self.prediction, passages=[])


def trivial_answers(train: Sequence[dspy.Example], output: str = "answer") -> list[Reference]:
    """The answers that could be given to every question unread: to abstain, and the most frequent answer.

    Args:
        train: training rows with `answer` and `references`; what is held out is not looked at. Human-labelled ones
            decide where there are some.
        output: what the program calls its answer, which metrics may read.

    Returns:
        One that abstains, in the words that most rows do, if some row does; the most frequent answer, if it is frequent
        enough to be a label.
    """
    rows = [row for row in train if row.get("origin") == "gold"] or list(train)
    silent = Counter(_answer(row) for row in rows if not row.references and _answer(row))
    labels = Counter(_answer(row) for row in rows if row.references and not is_yes_no(row))
    values = {_answer(row): row.get(output) for row in rows if output != "answer" or not isinstance(row["answer"], str)}

    def same(answer: str, *, abstained: bool) -> SameAnswer:
        outputs = {output: values[answer]} if values.get(answer) is not None else {}
        return SameAnswer(**{"answer": answer, **outputs}, abstained=abstained)

    references = []
    if silent:
        answer = silent.most_common(1)[0][0]
        references.append(Reference("always silent", "silent", same(answer, abstained=True), answer))
    answer, count = labels.most_common(1)[0] if labels else ("", 0)
    if count >= max(2, FREQUENT * len(rows)):
        references.append(Reference("most frequent answer", "frequent", same(answer, abstained=False), answer))
    return references


def _answer(row: dspy.Example) -> str:
    """A row's answer as a text, such as its references are."""
    answer = row.get("answer")
    if row.references and not isinstance(answer, str):
        return str(row.references[0])
    return as_text(answer or "")


def under_dspy_adapter(baseline: str, program: dspy.Module) -> Reference:
    """The baseline's program, each of whose predictors asks under DSPy's default adapter whatever the program sets.

    Where the program sets none, or DSPy's own, it makes the calls that the baseline made, which the ledger answers.

    Args:
        baseline: its name.
        program: it; left as it is.
    """
    copy, adapters = program.deepcopy(), Adapters()
    for mine, theirs in zip(copy.predictors(), program.predictors(), strict=True):
        mine.lm = theirs.lm
    copy.map_named_predictors(lambda predictor: _UnderDspyAdapter(predictor, adapters))
    return Reference(f"{baseline} (DSPy's adapter)", PROMPTS, copy, adapters=adapters)


class _UnderDspyAdapter(dspy.Predict):
    """A predictor that is asked under DSPy's default adapter.

    What the program wants of the reply's form (`response_format`) belongs to its own format, and is left out.
    """

    def __init__(self, inner: dspy.Predict, adapters: Adapters) -> None:
        super().__init__(inner.signature, **inner.config)
        self.lm, self.demos = inner.lm, inner.demos
        self.inner, self.adapters = inner, adapters

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """The inner predictor's reply."""
        own = dspy.settings.adapter
        if own is None or (type(own) is dspy.ChatAdapter and own.use_json_adapter_fallback):
            return self.inner(**inputs)
        self.adapters.differ = True
        config = {key: value for key, value in (inputs.pop("config", None) or {}).items() if key != "response_format"}
        with dspy.context(adapter=dspy.ChatAdapter()):
            return self.inner(**inputs, config=config)
