"""Render a run's report again: `python -m synth_dspy.report runs/<task>/<id>`."""

from __future__ import annotations

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.run_names import RunPath


class ReportConfig(Settings):
    """What can be set on the command line."""

    run: Positional[RunPath]
    """Id or folder of a finished run, with results.json, measurements.json and predictions.jsonl."""


def main(args: list[str]) -> None:
    """Write report.html and report.md into the run's folder."""
    config = parse(ReportConfig, verb="report", description="Render a run's report again.", args=args)

    from synth_dspy.evaluation.report.render import write_report

    for path in write_report(config.run):
        print(path)
