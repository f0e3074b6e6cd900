"""LoRA GRPO, RLOO and online DPO: the student samples, the judge scores, better samples of a prompt become likelier.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", arXiv:2402.03300;
Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
arXiv:2402.14740; Guo et al., "Direct Language Model Alignment from Online AI Feedback", arXiv:2402.04792. They take the
place of PPO, which TRL has removed: they need no value model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

import dspy

from synth_dspy.core.guarded import guarded
from synth_dspy.core.text import as_text
from synth_dspy.core.training_facts import JUDGE, is_judge
from synth_dspy.training.optimizer import Method, Settings
from synth_dspy.training.recipes.preferences import AfterSft
from synth_dspy.training.reward_server import Scorer
from synth_dspy.training.rows import ACCEPT, Rows, grpo_rows
from synth_dspy.training.traces import Trace, is_unanswered, prediction_of

USUAL_WORDS = 40
"""Length of an answer where no reference says what is usual."""


@dataclass(frozen=True)
class LoraGrpo(AfterSft):
    """LoRA group relative policy optimisation with the judge as reward, after SFT.

    The reward is the score of the program's answer by the run's judge (for questions without references, by the judge
    model), calibrated, and guarded against what raises a score without a better answer; see `core/guarded.py`. The
    setting `reward` names a function of the workspace instead, of a row and a reply.
    """

    samples: int = 0

    method: ClassVar[Method] = "grpo"
    unused: ClassVar[frozenset[str]] = frozenset({"most", "margin", "per_example"})
    cpu: ClassVar[Settings] = {**AfterSft.cpu, "learning_rate": 2e-5, "beta": 0.04}
    gpu: ClassVar[Settings] = {**AfterSft.gpu, "beta": 0.04, "generations": 8, "patience": 0}
    large: ClassVar[Settings] = {}

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return grpo_rows(traces)

    def fit(
        self,
        program: dspy.Module,
        rows: Sequence[Mapping[str, Any]],
        options: dict[str, Any],
        held_out: Sequence[dspy.Example],
    ) -> dspy.Module:
        if is_judge(options.get("reward", JUDGE)):
            name = getattr(self.resources.judge, "name", "metric")
            options |= {"reward": f"{JUDGE}:{name}", "scorer": self._scorer(program, rows)}
        return super().fit(program, rows, options, held_out)

    def traced(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Trace]:
        kept = {**getattr(self, "_examples", {}), **{str(example.id): example for example in examples}}
        object.__setattr__(self, "_examples", kept)  # of the dev questions, too
        return super().traced(program, examples)

    def _scorer(self, program: dspy.Module, rows: Sequence[Mapping[str, Any]]) -> Scorer:
        """Scores replies by what the program makes of them."""
        by_id: Mapping[str, dspy.Example] = getattr(self, "_examples", {})
        lengths = [len(reference.split()) for example in by_id.values() for reference in _references(example)]
        usual = int(median(lengths)) if lengths else USUAL_WORDS
        judge, threshold = self.score(), float(getattr(self.resources.judge, "threshold", ACCEPT))

        def reward(sample: tuple[Mapping[str, Any], str]) -> float:
            row, reply = sample
            example = by_id[row["source"]]
            prediction = prediction_of(program, example, row["predictor"], reply)
            if prediction is None:
                return 0.0  # a reply that the program cannot read
            answer = as_text(prediction.get("answer") or "")

            def score(text: str) -> float:
                shown = prediction if text == answer else dspy.Prediction(**{**prediction.toDict(), "answer": text})
                return float(judge(example, shown))

            if is_unanswered(example):  # against forgery it is guarded already
                return guarded(score, answer, expected_words=usual)
            if is_structured(answer, example.get("expected")):
                return score(answer)  # compared part by part: nothing in it is read as words
            expected = max((len(reference.split()) for reference in _references(example)), default=usual)
            question = " ".join([*map(as_text, example.inputs().toDict().values()), *_references(example)])
            return guarded(score, answer, question=question, expected_words=expected, threshold=threshold)

        def scorer(rows: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
            outcomes = self.resources.executor.map(reward, list(zip(rows, replies, strict=True)))
            return [outcome.unwrap() for outcome in outcomes]

        return scorer


@dataclass(frozen=True)
class LoraRloo(LoraGrpo):
    """LoRA REINFORCE with a leave-one-out baseline, with the judge as reward, after SFT."""

    method: ClassVar[Method] = "rloo"
    cpu: ClassVar[Settings] = {**LoraGrpo.cpu, "beta": 0.05}
    gpu: ClassVar[Settings] = {**LoraGrpo.gpu, "beta": 0.05}


@dataclass(frozen=True)
class LoraOnlineDpo(LoraGrpo):
    """LoRA DPO on pairs that the student samples while it is trained, with the judge as reward, after SFT."""

    method: ClassVar[Method] = "online_dpo"
    cpu: ClassVar[Settings] = {**LoraGrpo.cpu, "beta": 0.1}
    gpu: ClassVar[Settings] = {**LoraGrpo.gpu, "beta": 0.1}


def is_structured(answer: str, expected: Any) -> bool:
    """Whether an answer is JSON of the expected form: a list, or an object with some of the same keys."""
    try:
        value = json.loads(answer)
    except ValueError:
        return False
    if isinstance(value, dict) and isinstance(expected, dict):
        return not value.keys().isdisjoint(expected)
    return isinstance(value, list) and isinstance(expected, list)


def _references(example: dspy.Example) -> list[str]:
    return [str(reference) for reference in example.get("references") or []]
