"""What the steps of a cycle work with: the task, its versions, its folder, and what the user decided beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, read_rows
from synth_dspy.core.task import CompleteTask
from synth_dspy.loop.cycle import Cycle
from synth_dspy.loop.gate import Policy
from synth_dspy.loop.records import Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.signals.sequential import RATE
from synth_dspy.pipeline import saved
from synth_dspy.pipeline.datasets import hash_knowledge
from synth_dspy.pipeline.saved_files import Saved, read_saved
from synth_dspy.pipeline.trust import Caller

CYCLES, DOCUMENTS = "cycles", "documents.jsonl"
"""The folder of the cycles, and in a cycle's folder the hashes of the documents as it found them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decided before anything is measured.

    Attributes:
        promote: whether a person approves what the gate lets through (`ask`), or nobody has to.
        arms: arms to train besides the baseline; empty: the champion's, or the task's own where the baseline is it.
        minutes: limit of each training; None: as in the champion's run.
        policy: of the gate.
        rate: probability that a cycle is opened although nothing changed, over all signals together, and that a
            champion that is as good as the one before is rolled back.
        requests: answers that a challenger gives in shadow, then as a share, before the next step; 0: none are waited
            for.
        watched: answers of a new champion that are watched; 0: none.
        copies: whether the champion before answers copies of these, so that the two are compared on the same requests.
        share: of the traffic, that a challenger gets after the shadow.
        patience_h: hours that each of these steps waits for traffic, and the gate for labels.
        canaries: questions that the champion is asked again each day; None: 20 where its model is hosted, else none.
        limits: `max_usd` and `max_minutes` of a cycle's run, and of the comparison that follows it.
        raters: people who judge each pair of answers that the gate asks about.
        verdicts: whether people are asked where the gate is undecided, or always: then nothing is decided by the judge
            alone.
    """

    promote: Literal["ask", "auto"] = "ask"
    arms: tuple[str, ...] = ()
    minutes: float | None = None
    policy: Policy = field(default_factory=Policy)
    rate: float = RATE
    requests: int = 100
    watched: int = 2000
    copies: bool = True
    share: float = 0.2
    patience_h: float = 168.0
    canaries: int | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    raters: int = 1
    verdicts: Literal["undecided", "always"] = "undecided"


@dataclass
class Work:
    """One task in production.

    Attributes:
        workspace: with the task's file.
        folder: of the task's runs.
        registry: its versions, and the store of everything else.
        plan: see there.
        caller: what programs that somebody else made are allowed.
        say: prints a line.
    """

    workspace: Path
    folder: Path
    registry: Registry
    plan: Plan = field(default_factory=Plan)
    caller: Caller = field(default_factory=Caller)
    say: Callable[[str], None] = print

    @property
    def task(self) -> str:
        """The task's name."""
        return self.registry.store.task

    def saved(self, version: Version, arm: str | None = None) -> Saved:
        """A version's saved program, or another arm's of its run."""
        return read_program(Path(version.run), arm or version.arm, self.caller)

    def champion(self) -> Version:
        """The champion."""
        return self.registry.version("champion")

    def declared(self) -> tuple[CompleteTask, CompileConfig]:
        """The task with the settings of the champion's run."""
        config = self.saved(self.champion()).config
        return saved.build_task(self.workspace, self.task, config), config

    def documents(self) -> dict[str, str]:
        """SHA-256 of each document, or other group, as it is now."""
        task, config = self.declared()
        return hash_knowledge(task.source.read(config.limit))

    def cycle_folder(self, cycle: Cycle) -> Path:
        """Where a cycle keeps its files."""
        return self.folder / CYCLES / cycle_name(cycle)

    def run_folder(self, cycle: Cycle) -> Path:
        """The run of a cycle: named after it, so that a loop that was killed resumes it."""
        return self.folder / cycle_name(cycle)


def cycle_name(cycle: Cycle) -> str:
    """A name that no other cycle has, whichever store it is in."""
    return f"{cycle.transitions[0].at:%Y%m%d-%H%M%S}-{cycle.id}"


def read_program(run: Path, arm: str, caller: Caller) -> Saved:
    """A saved program that will also be scored, and whose run's settings the next training takes."""
    return read_saved(run / "programs" / arm, caller, roles=("student", "teacher", "judge", "embedder"))


def read_documents(path: Path) -> dict[str, str] | None:
    """SHA-256 of each document by a run's, or a cycle's, file; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        return {row["id"]: row["sha256"] for row in read_rows(path, {"id": FILLED, "sha256": FILLED})}
    except SetupError:
        if path.stat().st_size:
            raise
        return {}
