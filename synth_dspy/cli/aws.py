"""What a run needs on AWS, and its removal: `python -m synth_dspy.aws plan compile TASK ...`, `... aws clean RUN`."""

from __future__ import annotations

import json

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import print_table
from synth_dspy.core.config import Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.run_names import RunPath

USAGE = """usage: {aws} plan compile TASK [options of compile]
       {aws} plan train sagemaker TASK [options of compile]
       {aws} plan deploy bedrock|sagemaker PROGRAM --s3 ... --role ...
           resources, their prices, and the least policy for them; sends nothing
       {aws} clean RUN
           remove everything that a run, runs/<task>/<id>, has made on AWS
"""


class CleanConfig(Settings):
    """What is removed."""

    run: Positional[RunPath]
    """The run's id or folder."""
    trust: bool = False
    """Remove also what is listed in the folder of a run that somebody else made (docs/trust.md)."""


def main(args: list[str]) -> int:
    """Parse `args`, then print a plan, or clean up."""
    usage = USAGE.format(aws=command("aws"))
    if not args or args[0] in ("-h", "--help"):
        print(usage)
        return 0 if args else 2
    what, *rest = args
    if what == "clean":
        _clean(rest)
    elif what == "plan":
        _plan(rest)
    else:
        raise SetupError(f"{what!r} is neither plan nor clean; see {command('aws')} --help.")
    return 0


def _clean(args: list[str]) -> None:
    description = "Remove everything that a run has made on AWS."
    config = parse(CleanConfig, verb="aws clean", description=description, args=args)
    run = config.run
    from synth_dspy.pipeline.cloud.clean import clean

    if not run.is_dir():
        raise SetupError(f"There is no run {run}: name its folder, runs/<task>/<id>.")
    count = clean(run, print, trust=config.trust)
    print("nothing is left" if count else "the run has made nothing on AWS, or nothing is left")


def _plan(args: list[str]) -> None:
    verb, *rest = args or [""]
    if verb == "train" and rest[:1] == ["sagemaker"]:
        verb, rest = "compile", [*rest[1:], "--training.backend", "sagemaker"]
    if verb not in ("compile", "deploy") or not rest:
        raise SetupError(
            f"Name what is planned: {command('aws')} plan compile TASK ..., plan train sagemaker TASK ..., or plan "
            "deploy bedrock|sagemaker ..."
        )

    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    from synth_dspy.pipeline.cloud import plan as plans
    from synth_dspy.pipeline.cloud.sagemaker_plan import plan_endpoint

    if verb == "compile":
        from synth_dspy.cli.compile import configured

        plan = plans.plan_run(configured(rest[0], rest[1:], None)[1])
    else:
        from synth_dspy.cli.deploy import hosting, read

        config = read(rest)
        if config.backend == "sagemaker":
            plan = plan_endpoint(config.s3, hosting(config))
        else:
            plan = plans.plan_import(config.s3, config.role)
    if not plan.resources:
        print("This needs nothing on AWS.")
        return
    print_table(("for", "what", "price"), plan.resources)
    for whose, policy in plan.policies().items():
        print(f"\npolicy, {whose}:\n{json.dumps(policy, indent=2)}")
