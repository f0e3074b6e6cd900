"""Serve a program's tuned model on AWS: `python -m synth_dspy.deploy bedrock|sagemaker PROGRAM --s3 ... --role ...`.

    python -m synth_dspy.deploy bedrock contract_qa:champion        a version, or an alias, of a task's program
    python -m synth_dspy.deploy bedrock runs/contract_qa/<id>:sft   an arm of a finished run

The tuned model becomes the student of the same program, in a folder beside it, to be scored again with `evaluate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from tyro.conf import Positional, arg

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import ProductionConfig, open_registry
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.run_names import find_run
from synth_dspy.pipeline.saved_files import PROGRAM

if TYPE_CHECKING:
    from synth_dspy.pipeline.cloud.deploy import Backend
    from synth_dspy.pipeline.cloud.sagemaker import Hosting


class DeployConfig(ProductionConfig):
    """What is deployed, and where."""

    backend: Positional[Literal["bedrock", "sagemaker"]]
    """`bedrock`: Custom Model Import, which answers on demand and costs nothing idle. `sagemaker`: an endpoint, which
    costs its machine until it is removed."""
    program: Positional[Annotated[str, arg(metavar="TASK:VERSION|RUN:ARM|FOLDER")]]
    """A version or an alias of a task, an arm of a run, or a folder runs/<task>/<id>/programs/<arm>."""
    s3: str
    """`s3://bucket/folder` for the weights."""
    role: str
    """ARN of the role that the service takes to read them; `aws plan deploy` prints its policy."""
    instance: str = "ml.g5.xlarge"
    """Type of an endpoint's machines."""
    count: int = Field(default=1, ge=1)
    """Number of an endpoint's machines."""
    image: str | None = None
    """Address of an endpoint's image, which serves /opt/ml/model in the chat format; by default AWS's vLLM."""
    endpoint: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,47}$")
    """Name of an endpoint to make, or to update; an alarm on server errors rolls an update back. By default the weights
    get an endpoint of their own."""
    alarms: tuple[str, ...] = ()
    """Names of further CloudWatch alarms that roll an update back."""
    price: float | None = Field(default=None, ge=0)
    """US dollars an hour of one machine in your region; by default AWS's list of us-east-1, where known."""


def main(args: list[str]) -> None:
    """Parse `args`, deploy, print the program's new folder and how to score it."""
    config = read(args)
    program = find_program(config)

    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    bars = Bars()
    with bars.status("loading libraries"):
        from synth_dspy.pipeline.cloud.deploy import deploy

        backend = open_backend(config)
    folder = deploy(program, backend, config.s3, bars.say)
    print(folder)
    print(f"score it again: {command('evaluate')} {program} {folder} --seeds FILE")


def read(args: list[str]) -> DeployConfig:
    """The parsed arguments."""
    description = (__doc__ or "").partition("\n")[0].partition(":")[0] + "."
    return parse(DeployConfig, verb="deploy", description=description, args=args)


def open_backend(config: DeployConfig) -> Backend:
    """What serves the weights."""
    if config.backend == "bedrock":
        from synth_dspy.pipeline.cloud.bedrock import BedrockImport

        return BedrockImport(config.role)
    from synth_dspy.pipeline.cloud.sagemaker import SageMakerEndpoint

    return SageMakerEndpoint(hosting(config))


def hosting(config: DeployConfig) -> Hosting:
    """How an endpoint is hosted."""
    from synth_dspy.pipeline.cloud.sagemaker import Hosting

    return Hosting(
        role=config.role,
        instance=config.instance,
        count=config.count,
        image=config.image,
        endpoint=config.endpoint,
        alarms=config.alarms,
        price=config.price,
    )


def find_program(config: DeployConfig) -> Path:
    """The folder of the program that was named.

    Raises:
        SetupError: there is none.
    """
    folder = find_run(config.program)
    if (folder / PROGRAM).is_file():
        return folder
    before, colon, after = config.program.rpartition(":")
    run = find_run(before)
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
