"""What every station of a run works with: the declaration, the settings, the run's folder, its ledger and its bars."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run
from synth_dspy.core.task import CompleteTask

log = logging.getLogger("synth_dspy")

QUICK = {"candidates": 12, "held_out": 8, "validation": 4, "with_demonstrations": 0, "retention": 0}
"""Bounds of a `--quick` run: enough to see that everything works, too little to compare by."""


@dataclass
class Context:
    """One compile of one task. `notes` gathers sentences that the report begins with."""

    workspace: Path
    task: CompleteTask
    config: CompileConfig
    run: Run
    ledger: Ledger
    bars: Bars
    command: str = ""
    notes: list[str] = field(default_factory=list)

    def bound(self, name: str) -> int:
        """How much of something the run takes, by its name in `QUICK`; less in a quick run."""
        synthesis, evaluation = self.config.synthesis, self.config.evaluation
        asked = {
            "candidates": synthesis.candidates,
            "held_out": sys.maxsize if evaluation.held_out is None else evaluation.held_out,
            "validation": evaluation.validation,
            "with_demonstrations": evaluation.with_demonstrations,
            "retention": self.config.retention.prompts,
        }[name]
        return min(asked, QUICK[name]) if self.config.quick else asked

    def say(self, sentence: str) -> None:
        """Print a line on the console, and write it to the run's log."""
        self.bars.say(sentence)
        log.info(sentence)

    def note(self, *sentences: str) -> None:
        """Say something in the report, before its own notes."""
        self.notes.extend(sentences)
