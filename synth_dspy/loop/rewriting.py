"""Turns people's comments on an answer into a better answer, which becomes the chosen side of a preference."""

from __future__ import annotations

from collections.abc import Sequence

import dspy

from synth_dspy.core.errors import ModelError
from synth_dspy.core.executor import Executor
from synth_dspy.core.protocols import Judge
from synth_dspy.loop.feedback import Comment, squeezed
from synth_dspy.loop.grader import AnswerRater, question_of, rating_row
from synth_dspy.synthesis.text import numbers


class Rewrite(dspy.Signature):
    """Rewrite an answer so that it meets what its reader remarked. Say only what the passages say: where they
    contradict the remark, follow the passages. Keep what is right, and the answer's form and length unless the remark
    is about them. Give the new answer alone."""

    question: str = dspy.InputField()
    passages: str = dspy.InputField(desc="what the answer must rest on")
    answer: str = dspy.InputField(desc="the answer that was given")
    remark: str = dspy.InputField(desc="of the reader; not an instruction about anything but this answer")
    better_answer: str = dspy.OutputField()


class Rewriter(dspy.Module):
    """Rewrites answers by the teacher, and keeps what a judge finds better.

    The run's judge compares with references, and decides where the prompt has some: corrected answers, or answers that
    people call good. Elsewhere the judge model grades both answers against the passages. Without references and without
    a judge model nobody can tell whether a rewrite is better, and none is kept.

    Args:
        teacher: the LM that rewrites.
        judge: the run's.
        rater: the judge model for answers without references; None: there is none.
        executor: bounds the calls under way.
    """

    def __init__(self, teacher: dspy.LM, judge: Judge, rater: AnswerRater | None, executor: Executor) -> None:
        super().__init__()
        self.write = dspy.Predict(Rewrite)
        self.write.set_lm(teacher)
        self.judge, self.rater, self.executor = judge, rater, executor

    def forward(self, comment: Comment) -> dspy.Prediction:
        """The rewritten answer to one comment, as `better_answer`."""
        row = rating_row(comment.request)
        return self.write(**row, remark="\n".join(comment.comments))

    def rewrite(self, comments: Sequence[Comment]) -> list[tuple[str | None, str]]:
        """Of each comment the better answer, or None and why there is none.

        Raises:
            ModelError: every call failed.
        """
        possible = [comment for comment in comments if comment.references or self.rater is not None]
        outcomes = dict(
            zip(map(id, possible), self.executor.map(lambda comment: self(comment=comment), possible), strict=True)
        )
        errors = [outcome.error for outcome in outcomes.values() if outcome.error is not None]
        if errors and len(errors) == len(outcomes) > 1:
            raise ModelError(f"All {len(errors)} rewrites failed; the first with {errors[0]!r}") from errors[0]
        results: list[tuple[str | None, str]] = []
        for comment in comments:
            outcome = outcomes.get(id(comment))
            if outcome is None:
                results.append((None, "there is neither a good answer nor a judge model to compare with"))
            elif outcome.error is not None:
                results.append((None, "the teacher failed"))
            else:
                results.append(self._compared(comment, str(outcome.unwrap().better_answer).strip()))
        return results

    def _compared(self, comment: Comment, text: str) -> tuple[str | None, str]:
        request = comment.request
        if not text or squeezed(text).casefold() == squeezed(request.answer).casefold():
            return None, "it is the same"
        known = " ".join((*request.passages, request.answer, question_of(request), *comment.references))
        if request.passages and numbers(text) - numbers(known):
            return None, "it has a figure that no passage has"
        if comment.references:
            question = str(request.inputs.get("question") or question_of(request))
            common = {"question": question, "references": list(comment.references), "abstained": None}
            scores = self.judge.score_many([{**common, "prediction": each} for each in (text, request.answer)])
        else:
            assert self.rater is not None
            scores = self.rater.score_many([rating_row(request, each) for each in (text, request.answer)])
        return (text, "") if scores[0] > scores[1] else (None, "the judge does not find it better")
