"""Serve a program's tuned model on Amazon Bedrock: `python -m synth_dspy.deploy bedrock PROGRAM --s3 ... --role ...`.

    python -m synth_dspy.deploy bedrock contract_qa:champion        a version, or an alias, of a task's program
    python -m synth_dspy.deploy bedrock runs/contract_qa/<id>:sft   an arm of a finished run

The tuned model becomes the student of the same program, in a folder beside it, to be scored again with `evaluate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import ProductionConfig, open_registry
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.pipeline.saved_files import PROGRAM


class DeployConfig(ProductionConfig):
    """What is deployed, and where."""

    backend: Positional[Literal["bedrock"]]
    """`bedrock`: Custom Model Import, which answers on demand and costs nothing idle."""
    program: Positional[Annotated[str, arg(metavar="TASK:VERSION|RUN:ARM|FOLDER")]]
    """A version or an alias of a task, an arm of a run, or a folder runs/<task>/<id>/programs/<arm>."""
    s3: str
    """`s3://bucket/folder` for the weights."""
    role: str
    """ARN of the role that the service takes to read them; `aws plan deploy` prints its policy."""


def main(args: list[str]) -> None:
    """Parse `args`, deploy, print the program's new folder and how to score it."""
    config = read(args)
    program = find_program(config)

    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    bars = Bars()
    with bars.status("loading libraries"):
        from synth_dspy.pipeline.cloud.bedrock import BedrockImport
        from synth_dspy.pipeline.cloud.deploy import deploy
    folder = deploy(program, BedrockImport(config.role), config.s3, bars.say)
    print(folder)
    print(f"score it again: {command('evaluate')} {program} {folder} --seeds FILE")


def read(args: list[str]) -> DeployConfig:
    """The parsed arguments."""
    description = (__doc__ or "").partition("\n")[0].partition(":")[0] + "."
    return parse(DeployConfig, verb="deploy", description=description, args=args)


def find_program(config: DeployConfig) -> Path:
    """The folder of the program that was named.

    Raises:
        SetupError: there is none.
    """
    folder = Path(config.program).expanduser()
    if (folder / PROGRAM).is_file():
        return folder
    before, colon, after = config.program.rpartition(":")
    run = Path(before).expanduser()
    if colon and (run / "programs").is_dir():
        folder = run / "programs" / after
        if (folder / PROGRAM).is_file():
            return folder
        arms = ", ".join(sorted(path.parent.name for path in run.glob(f"programs/*/{PROGRAM}")))
        raise SetupError(f"The run {run} has no program of {after!r}; it has {arms or 'none: it is not finished'}.")
    if not colon or "/" in before:
        raise SetupError(
            f"There is no program {config.program}: name TASK:VERSION, such as contract_qa:champion, RUN:ARM, such as "
            "runs/contract_qa/<id>:sft, or a folder runs/<task>/<id>/programs/<arm>."
        )
    version = open_registry(config, before).version(after)
    return Path(version.run) / "programs" / version.arm
