"""What every stage of a run works with: task, settings, run folder, ledger and progress bars."""

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
"""Limits of a `--quick` run: enough to see that everything works, too little for a comparison."""


@dataclass
class Context:
    """One compile of one task. `notes` are sentences for the beginning of the report's notes."""

    workspace: Path
    task: CompleteTask
    config: CompileConfig
    run: Run
    ledger: Ledger
    bars: Bars
    command: str = ""
    notes: list[str] = field(default_factory=list)

    def bound(self, name: str) -> int:
        """The run's limit with a name from `QUICK`, which is lower in a quick run."""
        synthesis, evaluation = self.config.synthesis, self.config.evaluation
        setting = {
            "candidates": synthesis.candidates,
            "held_out": sys.maxsize if evaluation.held_out is None else evaluation.held_out,
            "validation": evaluation.validation,
            "with_demonstrations": evaluation.with_demonstrations,
            "retention": self.config.retention.prompts,
        }[name]
        return min(setting, QUICK[name]) if self.config.quick else setting

    def say(self, sentence: str) -> None:
        """Print a line on the console, and write it to the run's log."""
        self.bars.say(sentence)
        log.info(sentence)

    def note(self, *sentences: str) -> None:
        """Add notes to the report, before its own."""
        self.notes.extend(sentences)
