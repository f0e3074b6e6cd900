"""What people's feedback says about questions: items to score on, and lines to learn from, never the same questions.

A third of the questions, by a hash of their inputs, is kept for scoring, in every cycle the same. Answers that people
corrected are answers that were wrong, so a comparison on these alone would favour whatever is new. The items therefore
hold approved answers too, in the proportion in which people call answers right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from synth_dspy.core.splits import hash_order
from synth_dspy.loop.feedback import BAD, GOOD, Answer
from synth_dspy.loop.records import Feedback

T = TypeVar("T")

HELD_BACK = 3
"""One question in so many is kept for scoring."""


def score_of(feedback: Feedback) -> float | None:
    """What a record says of an answer, in [0, 1]; None where it does not say."""
    feedback = feedback.opinion
    if feedback.kind == "thumb":
        return float(bool(feedback.value))
    if feedback.kind == "score":
        return (int(feedback.value) - 1) / 4
    return 0.0 if feedback.kind == "correction" else None


def is_held_back(inputs: Mapping[str, Any]) -> bool:
    """Whether a question is kept for scoring."""
    text = " ".join(json.dumps(inputs, sort_keys=True, ensure_ascii=False).casefold().split())
    return int(hash_order(text)[:8], 16) % HELD_BACK == 0


def labelled_rows(
    prompts: Iterable[Mapping[str, Answer]], output: str, inputs: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Labelled items, as a task's source reads them, of questions that are kept for scoring.

    Args:
        prompts: for each prompt, its answers by their text.
        output: the program's answer field.
        inputs: the program's inputs; without any, all that was given.
    """
    right: list[dict[str, Any]] = []
    corrected: list[dict[str, Any]] = []
    verdicts: list[bool] = []
    for answers in prompts:
        each = _settled(list(answers.values()))
        if each is None:
            continue
        given = {name: value for name, value in each.request.inputs.items() if not inputs or name in inputs}
        if not is_held_back(given):
            continue
        correction, rating = each.correction(), each.by_people
        verdicts.append(correction is None and rating is not None and rating >= GOOD)
        row = {**given, "id": f"person-{each.request.id[:12]}"}
        if correction is not None:
            corrected.append({**row, output: correction[0]})
        elif verdicts[-1] and not each.request.abstained:
            right.append({**row, output: each.text})
    # Not every wrong answer is corrected: take as many of each kind as gives their share among the rated answers.
    share = sum(verdicts) / len(verdicts) if verdicts else 0.0
    sizes = [len(part) / weight for part, weight in ((right, share), (corrected, 1 - share)) if weight]
    most = min(sizes, default=0)
    return [*_some(right, round(most * share), _key), *_some(corrected, round(most * (1 - share)), _key)]


def _settled(answers: Sequence[Answer]) -> Answer | None:
    """The latest answer to a prompt that people agree about; None where there is none."""
    clear = [
        each
        for each in answers
        if each.correction() is not None or ((r := each.by_people) is not None and not BAD < r < GOOD)
    ]
    return max(clear, key=lambda each: each.request.at, default=None)


def _key(row: Mapping[str, Any]) -> str:
    return hash_order(str(row["id"]))


def _some(rows: Sequence[T], most: int, key: Callable[[T], str]) -> list[T]:
    return sorted(rows, key=key)[:most]
