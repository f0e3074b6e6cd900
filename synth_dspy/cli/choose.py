"""Recommend a model for any task: `python -m synth_dspy.choose RUN [RUN ...]`, within your limits."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import refuse_to_overwrite
from synth_dspy.core.run_names import RunPath

NOTHING_WITHIN_LIMITS = 3


class ChooseConfig(Settings):
    """The runs to compare, and the limits of the choice."""

    runs: Positional[tuple[RunPath, ...]]
    """Finished runs of one task, by their ids or folders: of several students, if they are to be compared."""
    arms: tuple[str, ...] = ()
    """Arms to choose from, separated by spaces or commas; of one run among several: <run>/<arm>; by default all."""
    metric: str = "judged"
    """The score that counts as quality: judged, or one of the task's metrics."""
    max_latency: float | None = Field(default=None, gt=0)
    """At most this many seconds for 19 of 20 answers."""
    max_cost: float | None = Field(default=None, ge=0)
    """At most this many US dollars for a thousand answers."""
    max_memory: float | None = Field(default=None, gt=0)
    """At most this many megabytes of memory."""
    commercial: bool = False
    """Only models that may be used commercially; unknown licences are excluded."""
    cpu_hour_usd: float = Field(default=0.05, ge=0)
    """Price of an hour of one CPU in US dollars, for embedded models (0.05 is about a cloud's vCPU)."""
    licence: tuple[str, ...] = ()
    """Licences of models with an unknown licence, each as MODEL=SPDX-IDENTIFIER."""
    out: Path | None = None
    """Folder for choice.json and choice.md."""
    force: bool = False
    """Overwrite these files if they exist."""


def main(args: list[str]) -> int:
    """Parse `args`, then compare the arms and recommend one; the exit status is 3 if no arm is within the limits."""
    about = (
        "Compare arms and base models by quality, speed, memory, cost and licence, and recommend one: the best of "
        "those that the report shows to be better than the baseline, or the baseline. Exit status: 0, or 3 if no "
        "arm is within the limits."
    )
    config = parse(ChooseConfig, verb="choose", description=about, args=args)
    licences = dict(_licence(one) for one in config.licence)
    files = [config.out / name for name in ("choice.json", "choice.md")] if config.out is not None else []
    refuse_to_overwrite(files, force=config.force)

    from synth_dspy.core.terminal import standard_output
    from synth_dspy.evaluation.choice.candidates import choose
    from synth_dspy.evaluation.choice.options import Limits
    from synth_dspy.evaluation.choice.report import markdown, table
    from synth_dspy.evaluation.finished_runs import find_arms, read_runs, write

    wanted = [name for given in config.arms for name in given.split(",") if name]
    limits = Limits(config.max_latency, config.max_cost, config.max_memory, config.commercial, config.cpu_hour_usd)
    results = choose(find_arms(read_runs(config.runs), wanted), limits, metric=config.metric, stated=licences)
    console = standard_output()
    console.print(table(results))
    for sentence in (results["recommendation"], *results["notes"]):
        console.print(sentence, soft_wrap=True)
    if files:
        write(files[0], json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        write(files[1], markdown(results))
        console.print(str(files[1]), soft_wrap=True)
    return 0 if results["chosen"] is not None else NOTHING_WITHIN_LIMITS


def _licence(text: str) -> tuple[str, str]:
    model, equals, licence = text.rpartition("=")
    if not (equals and model and licence):
        raise SetupError(f"--licence {text} is incomplete: write MODEL=SPDX-IDENTIFIER, such as openai/x=Apache-2.0.")
    return model, licence
