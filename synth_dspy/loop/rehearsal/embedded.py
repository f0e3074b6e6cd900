"""Three whole cycles with a model that answers and is trained: what changes is planted, all else is the loop's own.

1. What is right changes: documents are amended, or labels change their meaning.
2. People ask questions of new kinds; once a signal notices, they are labelled.
3. A person promotes the first version again, which is far worse; the loop watches it and rolls it back.

Store, programs, signals, cycle, training, gate and watch are those of production. People are simulated: they ask
questions that no training has labels of, and rate answers by the task's judge and references, with errors. A rehearsal
that was killed goes on where it was: its state is in `rehearsal.json`, the loop's in its store.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.run import CONFIG, jsonl_text
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.stats import Estimate
from synth_dspy.loop.comparison import JUDGED, answers
from synth_dspy.loop.cycle import Cycle, Cycles
from synth_dspy.loop.gate import Policy
from synth_dspy.loop.monitor import Monitor, alarms, describe
from synth_dspy.loop.records import Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.rehearsal.desk import Desk
from synth_dspy.loop.rehearsal.users import Users
from synth_dspy.loop.rehearsal.worlds import AMENDED, ASKED, LABELLED, LAUNCHED, Part, World, make_world
from synth_dspy.loop.store import FILE, Store
from synth_dspy.loop.turn import Loop, make_monitor
from synth_dspy.loop.work import Plan, Work
from synth_dspy.pipeline.compile import resume_run, start
from synth_dspy.pipeline.saved import build_task, open_program

STATE = "rehearsal.json"
BLOCK = 32
"""Requests between two looks at the signals: a window of the two-sample test."""
BY = "person:rehearsal"
NAMES = ("the right answers change", "questions of new kinds", "a bad version is promoted by hand")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much traffic there is.

    Attributes:
        reference: requests before anything is planted.
        patience: requests that a change is waited for to be noticed.
        requests: in shadow and with a share, each; eight times as many under watch.
        after: requests after a cycle, for the figures.
        share: of the traffic, that a challenger gets.
        new: share of the questions that are of new kinds, once people ask these.
        minutes: limit of each training.
        slice_items: fewest held-out items of a slice that the gate protects.
    """

    reference: int = 160
    patience: int = 320
    requests: int = 80
    after: int = 64
    share: float = 0.5
    new: float = 0.6
    minutes: float = 6.0
    slice_items: int = 25


@dataclass(slots=True)
class Round:
    """What a cycle came to.

    Attributes:
        noticed: the reason that the loop opened it for; "" where it noticed nothing.
        delay: requests from the event to the alarm.
        states: that the cycle went through.
        ended: the reason of its last decision.
        versions: the champions before the event, after it, and after the cycle.
        held_out: right held-out answers of these, each as things stood then; the second as they stand after the event.
        gain: the last less the one before, on the same items.
        traffic: right answers that people saw before the event, from then to the end of the cycle, and after it.
        cycles: that there were before it.
        minutes: that it took, without what was lost where it was killed.
        phase: that it has reached.
    """

    name: str
    noticed: str = ""
    delay: int | None = None
    states: list[str] = field(default_factory=list)
    ended: str = ""
    versions: list[str] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    gain: dict[str, Any] | None = None
    traffic: dict[str, list[float]] = field(default_factory=dict)
    cycles: int = 0
    minutes: float = 0.0
    phase: str = "new"


class Rehearsal:
    """A rehearsal of a task in a folder of its own.

    Args:
        workspace: with the task's file.
        task: the task's name.
        config: its settings; where its files are replaced by copies.
        folder: for everything; a rehearsal that is there is gone on with.
        users: the people.
        scale: of the traffic.
        seed: of everything that is drawn.
        arms: that the cycles train.
        say: prints a line.

    Raises:
        SetupError: the task cannot be rehearsed, or the folder holds a rehearsal with other settings.
    """

    def __init__(
        self,
        workspace: Path,
        task: str,
        config: CompileConfig,
        folder: Path,
        *,
        users: Users | None = None,
        scale: Scale | None = None,
        seed: int = 0,
        arms: tuple[str, ...] = ("sft",),
        say: Callable[[str], None] = print,
    ) -> None:
        self.workspace, self.task, self.folder, self.arms = workspace, task, folder, arms
        self.users, self.scale, self.seed, self.say = users or Users(), scale or Scale(), seed, say
        self.world: World = make_world(build_task(workspace, task, config), config, folder / "knowledge", seed)
        self.baseline = next(iter(build_task(workspace, task, config).optimizers))
        self.config = _configured(self.world.configured(config), folder, self.baseline)
        settings = {"users": asdict(self.users), "scale": asdict(self.scale), "seed": seed}
        self._settings = json.loads(json.dumps({"config": self.config.model_dump(mode="json"), **settings}))
        state = read_json_object(folder / STATE) if (folder / STATE).is_file() else {}
        begun = bool(state) or (folder / "runs").exists()  # the settings are kept before anything else
        if begun and state.get("settings") != self._settings:
            raise SetupError(
                f"{folder} holds a rehearsal with other settings: name another folder with --out, or delete it."
            )
        self.rounds = [Round(**each) for each in state.get("rounds", [])] or [Round(name) for name in NAMES]
        self.launch_minutes: float = state.get("launch_minutes", 0.0)
        self._begun = time.monotonic()
        self._monitor: Monitor | None = None
        self._examples: dict[tuple[Part, int], list[dspy.Example]] = {}

    def run(self) -> list[Round]:
        """Go through the three cycles, or go on with them.

        Raises:
            SetupError: a compile or a program failed; the same command goes on from there.
        """
        self.launch()
        for number, each in enumerate(self.rounds):
            self._round(number, each)
        return self.rounds

    def launch(self) -> None:
        """Put the first version into production: the program as it is declared."""
        self._write_state()
        folder = self.folder / "runs" / self.task
        registry = Registry(Store.open(folder / FILE, self.task))
        plan = Plan(
            promote="auto",
            arms=self.arms,
            minutes=self.scale.minutes,
            policy=Policy(slice_items=self.scale.slice_items),
            requests=self.scale.requests,
            watched=8 * self.scale.requests,
            share=self.scale.share,
            canaries=0,
        )
        self.work = Work(self.workspace, folder, registry, plan, say=self.tell)
        if not registry.versions():
            self.tell("compiling the first version")
            self.world.write(LAUNCHED)
            run = folder / "launch"
            if not (run / CONFIG).is_file():
                start(self.workspace, self.task, self.config, identifier=run.name)
            elif not (run / "results.json").is_file():
                resume_run(self.task, str(run), None, self.work.caller)
            registry.register(run, self.baseline)
            self.launch_minutes = (time.monotonic() - self._begun) / 60
        if registry.alias("champion") is None:
            registry.promote(registry.versions()[0].id, BY, "The first version.")
        self.desk = Desk(self.work, self.users, self.folder)

    def first_program(self) -> dspy.Module:
        """The first version's program, opened anew."""
        version = self.work.registry.versions()[0]
        return open_program(self.work.saved(version).folder, self.work.caller)

    def _round(self, number: int, each: Round) -> None:
        if each.phase == "done":
            return
        begun = time.monotonic()
        last = LABELLED if self.rounds[1].noticed else ASKED
        stages = ((LAUNCHED, AMENDED), (AMENDED, ASKED), (last, last))[number]
        if each.phase == "new":
            self.world.write(stages[0])
            each.versions = [self._champion()]
            each.held_out = [self._score(f"{number}-before", stages[0])[0]]
            self.tell(f"{each.name}: {self._champion()} answers {_percent(each.held_out[0]['mean'])} right")
            each.traffic["before"] = self._ask(self.scale.reference, stages[0])
            self._keep(each, "asked", begun)
        begun = time.monotonic()
        if each.phase == "asked":
            if number == 2 and each.versions[0] == self.work.registry.versions()[0].id:
                each.ended = "The first version is still the champion: there is no worse one that could be promoted."
                self._keep(each, "done", begun)
                return
            self._plant(number, stages[1])
            each.versions.append(self._champion())
            self._keep(each, "planted", begun)
        begun = time.monotonic()
        if each.phase == "planted":
            if number < 2:
                self._wait(each, stages[1])
            if number == 1 and each.noticed:
                self.world.write(LABELLED)  # somebody labels the new kinds, now that the alarm names them
            each.cycles = len(Cycles(self.work.registry.store, {}).all())
            self._keep(each, "noticed", begun)
        begun = time.monotonic()
        if each.phase == "noticed":
            cycle = self._turn(each, stages[1])
            if cycle is not None:
                each.states = [transition.after for transition in cycle.transitions]
                decided = [t for t in cycle.transitions if t.after in ("decided", "watched", "rolled_back", "closed")]
                each.ended = " ".join(dict.fromkeys(t.reason for t in decided))
                if "rolled_back" in each.states:
                    each.noticed, each.delay = decided[-2].reason, len(each.traffic["during"])
            each.versions.append(self._champion())
            self._keep(each, "closed", begun)
        begun = time.monotonic()
        each.traffic["after"] = self._ask(self.scale.after, stages[1])
        self._figures(number, each, stages[1])
        self._keep(each, "done", begun)

    def _plant(self, number: int, stage: int) -> None:
        registry = self.work.registry
        if number < 2:
            self.world.write(stage)
        elif self._champion() != (first := registry.versions()[0].id):
            registry.promote(first, BY, "A person takes the wrong version.")
        self.tell(f"planted: {NAMES[number]}")

    def _wait(self, each: Round, stage: int) -> None:
        """Until the loop notices, or patience ends."""
        seen = each.traffic.setdefault("during", [])
        while len(seen) < self.scale.patience:
            seen += self._ask(BLOCK, stage)
            raised = alarms(self._signals().look())
            if raised:
                each.noticed, each.delay = " ".join(map(describe, raised)), len(seen)
                self.tell(f"noticed after {len(seen)} requests: {each.noticed}")
                return
        self.tell(f"not noticed within {len(seen)} requests")

    def _turn(self, each: Round, stage: int) -> Cycle | None:
        """The loop's turns, with traffic between them, until its cycle is closed."""
        loop = Loop(self.work, self._signals())
        every = loop.cycles.all()
        if len(every) > each.cycles and every[-1].state == "closed":  # killed just then
            return every[-1]
        cycle = loop.turn()
        while cycle is not None and cycle.state != "closed":
            if cycle.state == "compared":  # for labels, which nobody gives here
                return loop.cycles.answer(cycle.id, BY, approve=False, reason=cycle.transitions[-1].reason)
            seen = each.traffic.setdefault("during", [])
            seen += self._ask(BLOCK, stage)
            self.tell(f"{cycle.id} {cycle.state}: {len(seen)} requests")
            cycle = loop.turn()
        return cycle

    def _signals(self) -> Monitor:
        if self._monitor is None:
            self._monitor = make_monitor(self.work)
            self._monitor.settle_s = 0.0  # requests are kept in the order that they came in
        return self._monitor

    def _ask(self, count: int, stage: int) -> list[float]:
        pool = self.examples("asked", stage)
        rows = self.world.rows("asked", stage)
        new = [each for each, row in zip(pool, rows, strict=True) if self.world.is_new(row)]
        old = [each for each, row in zip(pool, rows, strict=True) if not self.world.is_new(row)]
        draws = np.random.default_rng([self.seed, self.work.registry.store.count(Request)])
        right: list[float] = []
        for begin in range(0, count, BLOCK):
            kinds = draws.random(min(BLOCK, count - begin)) < (self.scale.new if new else 0.0)
            asked = [part[int(draws.integers(len(part)))] for part in (new if is_new else old for is_new in kinds)]
            right += self.desk.ask(asked, draws)
        return right

    def examples(self, part: Part, stage: int) -> list[dspy.Example]:
        """The questions of a part, as a stage has them."""
        if (part, stage) not in self._examples:
            task, config = self.work.declared()
            path = self.folder / f"{part}.jsonl"
            write_whole(path, jsonl_text(self.world.rows(part, stage)))
            read: Any = task.source.read_labelled  # type: ignore[attr-defined]
            self._examples[part, stage] = list(read(path, config.limit))
        return self._examples[part, stage]

    def _score(self, name: str, stage: int, version: str = "") -> tuple[dict[str, Any], list[float], list[str]]:
        version = version or self._champion()
        items = self.examples("held_out", stage)
        saved = self.work.saved(self.work.registry.version(version))
        rows = answers(self.work, {version: saved}, items, self.folder / "figures" / f"{name}-{version}")
        scores = [row["scores"].get(JUDGED) or 0.0 for row in rows]
        groups = [row["group"] for row in rows]
        return _figures(stats.estimate(scores, groups)), scores, groups

    def _figures(self, number: int, each: Round, stage: int) -> None:
        """Held-out answers after the event, by the champion then and the one in the end."""
        during, groups = self._score(f"{number}-during", stage, each.versions[1])[:2], None
        after, scores, groups = self._score(f"{number}-after", stage, each.versions[2])
        each.held_out = [each.held_out[0], during[0], after]
        gains = [ours - theirs for ours, theirs in zip(scores, during[1], strict=True)]
        each.gain = _figures(stats.estimate(gains, groups, bounds=(-1.0, 1.0)))
        shown = ", ".join(_percent(figure["mean"]) for figure in each.held_out)
        self.tell(f"{each.name}: held-out answers right before, after the event, after the cycle: {shown}")

    def _champion(self) -> str:
        return self.work.registry.version("champion").id

    def _keep(self, each: Round, phase: str, begun: float) -> None:
        each.phase = phase
        each.minutes += (time.monotonic() - begun) / 60
        self._write_state()

    def _write_state(self) -> None:
        state = {
            "settings": self._settings,
            "launch_minutes": self.launch_minutes,
            "rounds": [asdict(each) for each in self.rounds],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / STATE, json.dumps(state, indent=1))

    def tell(self, text: str) -> None:
        """Say how far it is, with the time and the machine's load."""
        load = os.getloadavg()[0]
        self.say(f"{(time.monotonic() - self._begun) / 60:5.1f} min, load {load:4.1f}  {text}")


def _configured(config: CompileConfig, folder: Path, baseline: str) -> CompileConfig:
    """Settings of the first version: one split, the baseline alone, and nothing that the rehearsal does not show."""
    return config.model_copy(
        update={
            "evaluation": config.evaluation.model_copy(update={"arms": (baseline,)}),
            "splits": config.splits.model_copy(update={"folds": 1}),
            "synthesis": config.synthesis.model_copy(update={"candidates": 0}),
            "retention": config.retention.model_copy(update={"prompts": 0}),
            "runs": (folder / "runs").resolve(),
        }
    )


def _figures(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
