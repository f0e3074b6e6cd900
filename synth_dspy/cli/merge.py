"""Merge the adapters of tuned arms into one: `python -m synth_dspy.merge RUN:ARM RUN:ARM --how ties`.

The result is a PEFT adapter, an arm of another run with `compile --arm merged=FOLDER`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from tyro.conf import Positional, arg

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.run_names import find_run
from synth_dspy.training.merged_adapter import How


class MergeConfig(Settings):
    """What can be set on the command line."""

    arms: Positional[tuple[Annotated[str, arg(metavar="RUN:ARM")], ...]]
    """Two tuned arms or more: the id or folder of a run, and the arm's name."""
    how: How = "linear"
    """linear: the weighted sum of the adapters' factors; ties: small values trimmed, signs elected; dare_linear,
    dare_ties: values dropped at random first."""
    weights: tuple[float, ...] = ()
    """One for each arm; by default equal, with the sum 1."""
    density: float = Field(default=0.5, gt=0, le=1)
    """Share of values that ties and dare keep."""
    seed: int = 0
    """Of dare's choice."""
    out: Path | None = None
    """The adapter's folder; by default in the first run's `merged/`."""


def main(args: list[str]) -> None:
    """Parse `args`, merge, print how to score the result."""
    about = "Merge the adapters of tuned arms on one base into one adapter."
    config = parse(MergeConfig, verb="merge", description=about, args=args)

    from synth_dspy.models.offline import quiet_libraries
    from synth_dspy.training.merged_adapter import merge_adapters

    quiet_libraries()
    trainings = [training_of_arm(name) for name in config.arms]
    out = config.out
    if out is None and trainings:
        arms = "-".join(name.rpartition(":")[2] for name in config.arms)
        out = find_run(config.arms[0].rpartition(":")[0]) / "merged" / f"{config.how}-{arms}"
    target = (out or Path()).expanduser().resolve()
    if out is None or target.exists():
        raise SetupError(f"There is something in {target} already: name another folder with --out.")
    merge_adapters(trainings, target, config.how, weights=config.weights, density=config.density, seed=config.seed)
    print(f"{target}\nscore it: {command('compile')} TASK --arm merged={target}")


def training_of_arm(name: str) -> Path:
    """The folder of the training of RUN:ARM.

    Raises:
        SetupError: there is no such run or arm, or it was not tuned.
    """
    from synth_dspy.core.io.reading import read_json_object
    from synth_dspy.models.weights.trained import SPEC
    from synth_dspy.pipeline.saved_files import ABOUT

    run, _, arm_name = name.rpartition(":")
    folder = find_run(run)
    about = folder / "programs" / arm_name / ABOUT
    if not run or not about.is_file():
        raise SetupError(f"There is no arm {arm_name!r} of a run {run!r}: write <id>:ARM or runs/<task>/<id>:ARM.")
    weights = read_json_object(about).get("weights")
    training = (folder / weights).resolve().parent if isinstance(weights, str) else None
    if training is None or not (training / SPEC).is_file():
        raise SetupError(f"The arm {name} has no adapter that was trained here: name arms such as sft or dpo.")
    return training
