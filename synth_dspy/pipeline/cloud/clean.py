"""Removes what a run has made on AWS, and makes sure that it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from synth_dspy.core import aws
from synth_dspy.core.aws_record import FILE, Made, forget, is_own, recorded
from synth_dspy.core.errors import SetupError
from synth_dspy.core.s3.objects import addresses_in, remove_folder
from synth_dspy.pipeline.cloud import sagemaker_removal
from synth_dspy.pipeline.trust import Caller, untrusted

_UNDER_WAY = ("Submitted", "Validating", "Scheduled", "InProgress")


def clean(run: Path, say: Callable[[str], None], *, trust: bool = False) -> int:
    """Remove everything that a run has made on AWS; their number.

    Things are forgotten one by one as they are gone: after an error, the same command goes on with the rest.

    Args:
        run: the run's folder.
        say: receives a line for each thing.
        trust: remove also what this user did not note here: somebody else may have written the list.

    Raises:
        SetupError: something cannot be removed, is of an unknown kind, or was not noted by this user; names it.
    """
    made = recorded(run)
    for each in made:
        if each.kind not in REMOVERS:
            raise SetupError(f"{run / FILE} lists a {each.kind}, {each.name}, which this version cannot remove.")
    foreign = [f"{each.kind} {each.name} in {each.region}: is removed" for each in made if not is_own(run, each)]
    if foreign and not trust:
        raise SetupError(untrusted(f"The list of what {run} made on AWS", foreign, Caller(flags=True)))
    for each in reversed(made):  # a model before the weights that it was made from
        say(f"{each.name}: {REMOVERS[each.kind](each)}")
        forget(run, each)
    return len(made)


def _remove_objects(made: Made) -> str:
    count = remove_folder(made.name)
    if left := addresses_in(made.name):
        raise SetupError(f"{left[0]} is still there after its removal: something else writes into {made.name}.")
    return f"{count} objects removed"


def _stop_batch(made: Made) -> str:
    """Stop a batch job that is under way; the record of an ended one stays in the account, and costs nothing."""
    client = aws.client("bedrock", region=made.region)
    with aws.explained(f"The batch job {made.name}"):
        jobs = client.list_model_invocation_jobs(nameContains=made.name).get("invocationJobSummaries", ())
        running = [job["jobArn"] for job in jobs if job["jobName"] == made.name and job["status"] in _UNDER_WAY]
        for arn in running:
            client.stop_model_invocation_job(jobIdentifier=arn)
    return "batch job stopped" if running else "batch job has ended"


def _remove_model(made: Made) -> str:
    client = aws.client("bedrock", region=made.region)
    with aws.explained(f"The imported model {made.name}"):
        try:
            client.delete_imported_model(modelIdentifier=made.name)
        except Exception as error:
            if aws.code_of(error) not in aws.MISSING:
                raise
            under_way = client.list_model_import_jobs(nameContains=made.name, statusEquals="InProgress")
            if under_way.get("modelImportJobSummaries"):
                raise SetupError(
                    f"{made.name} is still being imported, and an import cannot be stopped: run the same command again "
                    "in some minutes."
                ) from None
            return "there is no such imported model any more"
    return "imported model removed"


REMOVERS: Mapping[str, Callable[[Made], str]] = {
    "s3": _remove_objects,
    "bedrock-batch": _stop_batch,
    "bedrock-model": _remove_model,
    "sagemaker-training": sagemaker_removal.stop_training,
    "sagemaker-endpoint": sagemaker_removal.remove_endpoint,
    "sagemaker-config": sagemaker_removal.remove_config,
    "sagemaker-model": sagemaker_removal.remove_model,
    "cloudwatch-alarm": sagemaker_removal.remove_alarm,
}
