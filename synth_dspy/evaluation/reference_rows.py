"""Reference rows of a report, to put the arms' scores into perspective.

There are two trivial answers, the same for every question: an arm that scores no better has learned nothing, and a
judge or metric that scores them well is unreliable. And there is the baseline under DSPy's own adapter: if it scores
better, an arm's gain may come from the prompt's format. They are not arms, because nobody would use them.
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
"""Least share of the training rows (and at least two rows) with an answer for it to be a constant answer."""


@dataclass(slots=True)
class Adapters:
    """Records whether a program sets an adapter other than DSPy's default, as far as it has been run."""

    differ: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference row.

    Attributes:
        name: its name in the report.
        kind: "silent", "frequent" or "prompts".
        program: the program that answers.
        answer: its answer to every question; None for the baseline under DSPy's adapter.
        adapters: the adapters of that program.
    """

    name: str
    kind: ReferenceKind
    program: dspy.Module
    answer: str | None = None
    adapters: Adapters | None = None

    def most(self, items: int) -> int:
        """The number of held-out items to run it on."""
        return items if self.adapters is None else adapter_items(items)

    def facts(self) -> ReferenceFacts:
        """Facts for the report, once its program has run."""
        same = self.adapters is not None and not self.adapters.differ
        skipped = "the program's prompts are DSPy's own already" if same else ""
        return ReferenceFacts(self.name, self.kind, self.answer, skipped)


def adapter_items(items: int) -> int:
    """On how many of the held-out items the baseline is run under DSPy's adapter.

    The adapter calls twice if a reply cannot be parsed, so half of the items cost no more than an arm. Too few items
    for a comparison would be wasted.
    """
    return max(SMALL_SAMPLE, math.ceil(items / 2))


def under_adapter(baseline: str) -> str:
    """The name of that row."""
    return f"{baseline} (DSPy's adapter)"


class SameAnswer(dspy.Module):
    """Gives the same answer to every question, without a model."""

    def __init__(self, *, abstained: bool, **outputs: Any) -> None:
        super().__init__()
        self.prediction = {**outputs, "abstained": abstained}

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """The answer."""
        return dspy.Prediction(**self.prediction, passages=[])


def trivial_answers(train: Sequence[dspy.Example], outputs: Sequence[str] = ("answer",)) -> list[Reference]:
    """Constant answers: to abstain, and the most frequent answer.

    Args:
        train: training rows with `answer` and `references`, of which the human-labelled ones decide if there are any.
            Held-out rows are not used.
        outputs: of the program, which metrics may read: each is that of the first row with the answer.

    Returns:
        An abstention in the most frequent wording, if some row abstains; the most frequent answer, if it is frequent
        enough.
    """
    rows = [row for row in train if row.get("origin") == "gold"] or list(train)
    silent = Counter(_answer(row) for row in rows if not row.references and _answer(row))
    labels = Counter(_answer(row) for row in rows if row.references and not is_yes_no(row))

    def same(answer: str, *, abstained: bool) -> SameAnswer:
        row = next(row for row in rows if _answer(row) == answer)
        own = {name: row[name] for name in outputs if name in row and (name, row[name]) != ("answer", None)}
        return SameAnswer(**{"answer": answer, **own}, abstained=abstained)

    references = []
    if silent:
        answer = silent.most_common(1)[0][0]
        references.append(Reference("always silent", "silent", same(answer, abstained=True), answer))
    answer, count = labels.most_common(1)[0] if labels else ("", 0)
    if count >= max(2, FREQUENT * len(rows)):
        references.append(Reference("most frequent answer", "frequent", same(answer, abstained=False), answer))
    return references


def _answer(row: dspy.Example) -> str:
    """A row's answer as a text, like its references."""
    answer = row.get("answer")
    if row.references and not isinstance(answer, str):
        return str(row.references[0])
    return as_text(answer or "")


def under_dspy_adapter(baseline: str, program: dspy.Module) -> Reference:
    """The baseline's program with every predictor under DSPy's default adapter, whatever adapter the program sets.

    If the program sets none, or DSPy's own, the calls are the baseline's, which the ledger answers.

    Args:
        baseline: the baseline's name.
        program: its program, which is not changed.
    """
    copy, adapters = program.deepcopy(), Adapters()
    for mine, theirs in zip(copy.predictors(), program.predictors(), strict=True):
        mine.lm = theirs.lm
    copy.map_named_predictors(lambda predictor: _UnderDspyAdapter(predictor, adapters))
    return Reference(under_adapter(baseline), PROMPTS, copy, adapters=adapters)


class _UnderDspyAdapter(dspy.Predict):
    """A predictor under DSPy's default adapter, without `response_format`, which belongs to the program's own."""

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
