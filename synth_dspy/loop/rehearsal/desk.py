"""Answers simulated people as the service does: by the champion, and by a challenger that has a part of the traffic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import dspy
import numpy as np

from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.protocols import Judge
from synth_dspy.core.resources import Resources
from synth_dspy.evaluation.records import Prediction
from synth_dspy.evaluation.runner import run_arm
from synth_dspy.loop.comparison import JUDGED
from synth_dspy.loop.records import AliasMove, Request, Route, shadow_of
from synth_dspy.loop.rehearsal.users import Users
from synth_dspy.loop.store import now
from synth_dspy.loop.work import Work
from synth_dspy.pipeline.defaults import with_resources
from synth_dspy.pipeline.resources import open_judged
from synth_dspy.pipeline.saved import open_program

RIGHT = 0.5
"""An answer is right from this score on, unless the judge has a threshold of its own."""


class Desk:
    """The service and its people, in this process.

    Args:
        work: the task in production.
        users: who rate the answers.
        folder: for the ledger.
    """

    def __init__(self, work: Work, users: Users, folder: Path) -> None:
        self.work, self.users, self.folder = work, users, folder
        self._programs: dict[str, dspy.Module] = {}

    @cached_property
    def resources(self) -> Resources:
        """The models that the task's factories get."""
        task, config = self.work.declared()
        return open_judged(config, task)

    @cached_property
    def judge(self) -> Judge:
        """The task's judge."""
        return with_resources(self.work.declared()[0], self.resources).judge(self.resources)

    def ask(self, examples: Sequence[dspy.Example], draws: np.random.Generator) -> list[float]:
        """Let people ask, answer by the aliases as they are now, keep requests and feedback.

        Args:
            examples: labelled questions, whose references only people know.
            draws: random numbers.

        Returns:
            Whether each answer that people saw is right.
        """
        registry, output = self.work.registry, self.work.declared()[0].output
        champion = registry.version("champion").id
        challenger = registry.alias("challenger")
        moves = registry.store.read(AliasMove, alias="challenger", last=1)
        share = float(moves[0].evidence.get("share", 0.0)) if challenger and moves else 0.0
        shadow = bool(challenger and moves and moves[0].evidence.get("shadow"))
        theirs = draws.random(len(examples)) < share
        requests: list[Request] = []
        right: list[float] = []
        routes: list[tuple[str, Route, list[dspy.Example]]] = [
            (champion, "champion", [e for e, other in zip(examples, theirs, strict=True) if not other]),
            (challenger or "", "challenger", [e for e, other in zip(examples, theirs, strict=True) if other]),
        ]
        references: list[str] = []
        for version, route, given in routes:
            answered, scores = self._answer(version, route, given)
            requests += answered
            right += scores
            references += [str(example.get(output) or example.get("answer")) for example in given]
        registry.store.add_together(requests)
        registry.store.add_together(self.users.rate(requests, [each >= RIGHT for each in right], references, draws))
        if shadow and challenger:
            copies, _ = self._answer(challenger, "shadow", routes[0][2])
            firsts = [each for each in requests if each.route == "champion"]
            registry.store.add_together(
                [replace(copy, id=shadow_of(first.id)) for first, copy in zip(firsts, copies, strict=True)]
            )
        return right

    def predict(self, name: str, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Prediction]:
        """A program's answers, scored by the task's judge."""
        config = self.work.declared()[1]
        with Ledger(self.folder / "asked.sqlite") as ledger:
            if self.resources.judge_lm is not None:
                self.resources.judge_lm.engine.ledger = ledger
            return run_arm(
                name,
                program,
                examples,
                metrics={},
                judge=self.judge,
                executor=Executor(config.concurrency),
                ledger=ledger,
            )

    def is_right(self, row: Prediction) -> bool:
        """Whether an answer is right, by the task's judge."""
        score = row["scores"].get(JUDGED)
        return score is not None and score >= getattr(self.judge, "threshold", RIGHT)

    def _answer(self, version: str, route: Route, given: Sequence[dspy.Example]) -> tuple[list[Request], list[float]]:
        if not given:
            return [], []
        rows = self.predict(version, self._program(version), given)
        requests = [_request(row, example, version, route) for row, example in zip(rows, given, strict=True)]
        return requests, [float(self.is_right(row)) for row in rows]

    def _program(self, version: str) -> dspy.Module:
        if version not in self._programs:
            self._programs[version] = open_program(
                self.work.saved(self.work.registry.version(version)).folder, self.work.caller
            )
        return self._programs[version]


def _request(row: Prediction, example: dspy.Example, version: str, route: Route) -> Request:
    inputs = json.loads(json.dumps(dict(example.inputs().items()), default=str))
    return Request(
        uuid4().hex,
        now(),
        version,
        route,
        inputs,
        row["prediction"],
        row["abstained"],
        tuple(each["text"] for each in row["passages"]),
        row["prompt_tokens"] or 0,
        row["completion_tokens"] or 0,
        row["latency_s"] or 0.0,
        row["cost_usd"],
        row["error"],
    )
