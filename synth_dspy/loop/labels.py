"""What people's feedback says about questions: items to score on, and rows to learn from, never the same questions.

A third of the questions, by a hash of their inputs, is kept for scoring, in every cycle the same. Answers that people
corrected are answers that were wrong, so a comparison on these alone would favour whatever is new. The items therefore
hold approved answers too, in the proportion in which people found answers right.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from synth_dspy.core.splits import hash_order
from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.store import Store

HELD_BACK = 3
"""One question in so many is kept for scoring."""


@dataclass(slots=True)
class Rated:
    """An answer with what people said of it.

    Attributes:
        scores: in [0, 1]: 1 for a thumb up, 0 for a thumb down or a correction, (s - 1) / 4 for a score from 1 to 5.
        corrected: the latest corrected answer.
        preferred: requests whose answers were better.
        feedback: ids of the records.
    """

    request: Request
    scores: list[float] = field(default_factory=list)
    corrected: str | None = None
    preferred: list[str] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool | None:
        """Whether people found the answer right; None where they did not say."""
        return sum(self.scores) / len(self.scores) > 0.5 if self.scores else None


def score_of(feedback: Feedback) -> float | None:
    """What a record says of an answer, in [0, 1]; None where it does not say."""
    if feedback.kind == "thumb":
        return float(bool(feedback.value))
    if feedback.kind == "score":
        return (int(feedback.value) - 1) / 4
    return 0.0 if feedback.kind == "correction" else None


def rated(store: Store, before: datetime) -> list[Rated]:
    """Answers that people gave feedback on before a time, the oldest request first."""
    given: dict[str, list[Feedback]] = defaultdict(list)
    for record in store.read(Feedback):
        if record.source == "person" and record.at < before:
            given[record.request].append(record)
    answers = []
    for identifier, records in given.items():
        for request in store.read(Request, id=identifier):
            answer = Rated(request)
            for record in records:
                answer.feedback.append(record.id)
                if (score := score_of(record)) is not None:
                    answer.scores.append(score)
                if record.kind == "correction":
                    answer.corrected = str(record.value)
                elif record.kind == "better":
                    answer.preferred.append(str(record.value))
            if request.error is None:
                answers.append(answer)
    return sorted(answers, key=lambda each: (each.request.at, each.request.id))


def is_held_back(inputs: Mapping[str, Any]) -> bool:
    """Whether a question is kept for scoring."""
    text = " ".join(json.dumps(inputs, sort_keys=True, ensure_ascii=False).casefold().split())
    return int(hash_order(text)[:8], 16) % HELD_BACK == 0


def labelled_rows(answers: Iterable[Rated], output: str) -> list[dict[str, Any]]:
    """Labelled items, as a task's source reads them, of questions that are kept for scoring.

    Args:
        answers: with people's feedback.
        output: the program's answer field.
    """
    latest = {json.dumps(each.request.inputs, sort_keys=True): each for each in answers}  # the last one of a question
    kept = [each for each in latest.values() if is_held_back(each.request.inputs)]
    right = [each for each in kept if each.good and each.corrected is None and not each.request.abstained]
    corrected = [each for each in kept if each.corrected is not None]
    share = _share([each.good for each in kept if each.good is not None])
    # Not all wrong answers are corrected: take as many of each kind as gives their share among rated answers.
    most = min(
        len(right) / share if share else len(corrected), len(corrected) / (1 - share) if share < 1 else len(right)
    )
    chosen = [*_first(right, round(most * share)), *_first(corrected, round(most * (1 - share)))]
    chosen.sort(key=lambda each: each.request.at)
    return [
        {**each.request.inputs, output: each.corrected or each.request.answer, "id": f"person-{each.request.id[:12]}"}
        for each in chosen
    ]


def preferences(answers: Sequence[Rated]) -> list[dict[str, Any]]:
    """Rows to learn from: a corrected answer is chosen over the answer, the better of two over the other."""
    by_id = {each.request.id: each.request.answer for each in answers}
    rows = []
    for each in answers:
        if is_held_back(each.request.inputs):
            continue
        better = [each.corrected, *(by_id.get(other) for other in each.preferred)]
        rows += [
            {**each.request.inputs, "chosen": chosen, "rejected": each.request.answer}
            for chosen in better
            if chosen and each.request.answer.strip() and chosen != each.request.answer
        ]
    return rows


def _share(verdicts: Sequence[bool | None]) -> float:
    return sum(map(bool, verdicts)) / len(verdicts) if verdicts else 0.0


def _first(answers: Sequence[Rated], most: int) -> list[Rated]:
    """So many of them, in an order that depends on the questions alone."""
    return sorted(answers, key=lambda each: hash_order(json.dumps(each.request.inputs, sort_keys=True)))[:most]
