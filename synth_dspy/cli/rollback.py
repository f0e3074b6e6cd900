"""Return to the previous champion: `python -m synth_dspy.rollback TASK --reason "answers in French"`.

A running service follows within a second or two. Another rollback goes further back; a version that was
left comes back only by its name, with `promote`.
"""

from __future__ import annotations

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import MoveConfig, TaskName, open_registry, print_aliases, track


class RollbackConfig(MoveConfig):
    """Which task returns to its previous champion."""

    task: TaskName
    """The task's name."""


def main(args: list[str]) -> None:
    """Parse `args`, move the alias, print where the aliases are."""
    about = "Return to the previous champion."
    config = parse(RollbackConfig, verb="rollback", description=about, args=args)
    registry = open_registry(config, config.task)
    registry.roll_back(config.person, config.reason or "rolled back by hand")
    print_aliases(registry)
    track(registry)
