"""Base of the preference recipes: they start from the SFT model and learn from its own answers.

Examples that SFT was not trained on come first: a tuned model reproduces the answers that it was trained on, so its
errors show on others. After one epoch they show on the trained ones too. Questions without references are learned from
as well, by AI feedback (Lee et al., "RLAIF vs. RLHF: Scaling Reinforcement Learning from Human Feedback with AI
Feedback", arXiv:2309.00267).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import dspy

from synth_dspy.core.text import counted
from synth_dspy.training.optimizer import (
    Method,
    Settings,
    WeightOptimizer,
    bare,
    discarded_training,
    learned_sources,
    note_outcome,
    train,
)
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.rows import Rows, preference_rows
from synth_dspy.training.traces import Trace
from synth_dspy.training.trials import Answers, Trial, answer_all, best_of, dev_accuracy

DEV_ROWS = 24
"""At most so many dev rows are evaluated during a training: they take time from it."""
QUESTIONS = 512
"""At most so many questions without references are learned from."""
TOLERATED = 0.02
"""A mean dev score that falls by no more than this says nothing: a judge scores wrong answers a little above 0."""
EVALUATIONS = 6
"""Number of evaluations on the dev rows in a training."""


@dataclass(frozen=True)
class AfterSft(WeightOptimizer):
    """A recipe that starts from the result of `LoraSft`, whose training is not repeated if it has been done.

    Where several trainings are tried, the one whose greedy answers to the dev questions score best is kept: first the
    highest learning rate, then lower ones, then other values of beta at the best rate. Each stops early by the loss on
    dev rows. If the first leaves all greedy answers as they were, no other is tried. If even the best scores lower on
    the dev questions than the model that it started from (by more than `TOLERATED`), or changes none of its answers,
    the arm is that model: no training is one of the choices, as in early stopping. By default a large model on a GPU is
    searched, and a small one on a few cores, where it would take most of a run's time, is not.

    Attributes:
        warm: start from the SFT model; False: from the student as it is.
        most: maximum number of rows; 0: all there are, as with questions that a run was given to learn from.
        margin: minimum difference of two answers' scores that makes a preference.
        per_example: maximum number of pairs per question.
        rates: multiples of `learning_rate` to try, where the run or the task does not set that.
        betas: multiples of `beta` to try, where neither sets that.
    """

    examples: int | None = 64
    samples: int = 2
    warm: bool = True
    most: int = 40
    margin: float = 0.5
    per_example: int = 2
    rates: Sequence[float] = (1.0,)
    betas: Sequence[float] = (1.0,)

    begins_with: ClassVar[Method | None] = "sft"
    cpu: ClassVar[Settings] = {
        **LoraSft.cpu,
        "learning_rate": 2e-4,
        "batch": 4,
        "beta": 0.1,
        "warmup_steps": 1,
    }
    gpu: ClassVar[Settings] = {"beta": 0.1, "patience": 2}
    large: ClassVar[Settings] = {"samples": 4, "rates": (1.0, 0.3), "betas": (1.0, 0.3)}

    @classmethod
    def most_trainings(cls, settings: Settings, *, large: bool) -> int:
        chosen = {"rates": cls.rates, "betas": cls.betas, **(cls.large if large else {}), **settings}
        return len(chosen["rates"]) + len(chosen["betas"]) - 1

    def start(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None
    ) -> dspy.Module:
        return self._sft().compile(student, trainset=trainset, valset=valset) if self.warm else student

    def chosen(self, program: dspy.Module, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        learned = learned_sources(program)
        unseen_first = sorted(self.ordered(trainset), key=lambda example: str(example.id) in learned)
        return unseen_first[: self.bound()]

    def unanswered(self) -> list[dspy.Example]:
        if self.resources.rater is None:
            return []
        return self.ordered(self.resources.questions)[: self.bounded(QUESTIONS)]

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return preference_rows(traces, margin=self.margin, per_example=self.per_example, most=self.limit())

    def limit(self) -> int | None:
        """Maximum number of rows; None: all."""
        if self.most == 0 or (self.resources.questions and "most" not in self.resources.training.get(self.method, {})):
            return None
        return self.bounded(self.most)

    def fit(
        self,
        program: dspy.Module,
        rows: Sequence[Mapping[str, Any]],
        options: dict[str, Any],
        held_out: Sequence[dspy.Example],
    ) -> dspy.Module:
        dev = options.pop("dev", ())[:DEV_ROWS]
        if dev:
            steps = -(-len(rows) // options["batch"])
            options |= {"dev": dev, "eval_steps": options.get("eval_steps") or max(1, steps // EVALUATIONS)}
        else:
            options["patience"] = 0
        before = answer_all(program, held_out, self.resources.executor, self.score())
        tried: list[Trial] = []
        for changes in self._search(options, tried):
            tuned = train(bare(program), self.method, rows, **{**options, **changes})
            after = answer_all(tuned, held_out, self.resources.executor, self.score())
            tried.append(Trial({**options, **changes}, tuned, after, dev_accuracy(tuned)))
            if before.texts and after.texts == before.texts:
                break  # at the highest learning rate; a lower one would not change them either
        best = best_of(tried)
        if why := _reason_to_discard(best.answers, before):
            note_outcome(
                self,
                f"{'Its training' if len(tried) == 1 else f'The best of its {len(tried)} trainings'} on "
                f"{counted(len(rows), 'row')} was discarded, as {why[1]}: the arm is the model that it started from.",
                discarded_training(best.program, why[0]),
            )
            return program
        if before.texts:
            note_outcome(
                self,
                f"Of {len(tried)} trainings, the one with learning rate {best.options['learning_rate']:g} and beta "
                f"{best.options['beta']:g} was chosen on the dev questions: mean score {before.mean:.3f} before and "
                f"{best.answers.mean:.3f} after.",
            )
        return best.program

    def _search(self, options: Settings, tried: Sequence[Trial]) -> Iterator[Settings]:
        """Settings to try next; `tried` grows meanwhile."""
        rate, beta = options["learning_rate"], options["beta"]
        fixed = self.settings.keys()
        rates, betas = (
            [1.0] if name in fixed else list(factors)
            for name, factors in (("learning_rate", sorted(self.rates, reverse=True)), ("beta", self.betas))
        )
        quick = self.resources.quick
        for factor in rates[:1] if quick else rates:
            yield {"learning_rate": rate * factor, "beta": beta * betas[0]}
        for factor in () if quick else betas[1:]:
            yield {"learning_rate": best_of(tried).options["learning_rate"], "beta": beta * factor}

    def _sft(self) -> LoraSft:
        return LoraSft(self.resources, self.metric)


def _reason_to_discard(after: Answers, before: Answers) -> tuple[str, str] | None:
    """Why a model is not better than the one before its training on the dev questions, in short and in full."""
    n = len(before.texts)
    if n and after.texts == before.texts:
        return "its training changed no answer", f"it left all {n} greedy answers to the dev questions as they were"
    if n and after.mean < before.mean - TOLERATED:
        return (
            "its training made the dev answers worse",
            f"it lowered the mean score on the {counted(n, 'dev question')} from {before.mean:.3f} to {after.mean:.3f}",
        )
    return None
