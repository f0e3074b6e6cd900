"""A training in a training job of Amazon SageMaker, in place of a process on this machine.

The same spec and rows are sent to S3 and trained by `container`; the finished folder comes back, so that everything
after it is as if it had been trained here. A job's name is in the training's folder before the job is made: a run that
was killed waits for the same job when it is resumed. A job that was stopped goes on, as another job, from the last
checkpoint on S3.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from synth_dspy.core import aws
from synth_dspy.core.aws_record import Made, record
from synth_dspy.core.config import SageMaker
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.s3.address import require_address
from synth_dspy.core.s3.objects import addresses_in, download_file
from synth_dspy.models.weights.trained import RESULT, SPEC, read_result
from synth_dspy.training.job import Cancelled, Progress, require_success
from synth_dspy.training.sagemaker.cost import Costs
from synth_dspy.training.sagemaker.inputs import Place, send_inputs
from synth_dspy.training.sagemaker.logs import JobLog, progress_of
from synth_dspy.training.sagemaker.request import training_job
from synth_dspy.training.spec import TrainSpec, read_spec

log = logging.getLogger("synth_dspy.training")

NOTE = "sagemaker.json"
"""In the training's folder: the name of the job that is under way."""
ENDED = frozenset({"Completed", "Failed", "Stopped"})
LIMITS: Mapping[str, str] = {
    "MaxRuntimeExceeded": "it ran for its longest time: raise training.sagemaker.max_hours",
    "MaxWaitTimeExceeded": "no spot instance came in time: raise training.sagemaker.wait_hours, or set "
    "training.sagemaker.spot to false",
}
_FAILURE = re.compile(r"(?:AlgorithmError|InternalServerError|ClientError):\s*(.*?)(?:,\s*exit code: \d+)?")


class SageMakerJobs:
    """Trains folders in training jobs.

    Args:
        settings: machine, image, limits.
        s3: `s3://bucket/folder` for rows, weights and checkpoints.
        role: ARN of the role that jobs take.
        run: the run's folder.
        say: receives lines for the user.
        ledger: the run's, which keeps what jobs have cost; its budget limits what they may cost.
        poll_s: seconds between two looks at a job; the first ones are closer, so that what fails at once is soon seen.

    Raises:
        SetupError: the address is none, or the budget is limited and the price of the machine is not known.
    """

    def __init__(
        self,
        settings: SageMaker,
        s3: str,
        role: str,
        run: Path,
        say: Callable[[str], None] = log.info,
        *,
        ledger: Ledger | None = None,
        poll_s: float = 15.0,
    ) -> None:
        require_address(s3)
        self.settings, self.role, self.run, self.say, self.poll_s = settings, role, run, say, poll_s
        self.costs = Costs(settings, ledger)
        self.home = f"{s3.rstrip('/')}/{run.name}/sagemaker"

    def __call__(self, folder: Path) -> SageMakerTraining:
        """The training of a folder that holds a spec."""
        return SageMakerTraining(folder, self)


class SageMakerTraining:
    """As `TrainingProcess`: call `run()` once; `cancel()` may come from any thread."""

    def __init__(self, folder: Path, jobs: SageMakerJobs) -> None:
        self.folder = folder
        self._jobs = jobs
        self._place = Place(jobs.home, folder.name)
        self._client = aws.client("sagemaker")
        self._cancelled = threading.Event()
        self._looks = 0

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train, unless the folder has a result; a job that is under way is waited for.

        Returns:
            The content of `result.json`.

        Raises:
            ArmError: the training failed; says why. `Cancelled` if it was cancelled.
            SetupError: AWS refused something.
        """
        result = read_result(self.folder)
        if result is not None:
            return require_success(result)
        spec = read_spec(self.folder / SPEC)
        with aws.explained(f"The training job of {self.folder.name}"):
            name, state = self._adopted()
            with self._jobs.costs.affordable(state) as seconds:
                if state is None:
                    name, state = self._create(name, spec, seconds)
                state = self._follow(name, state, progress)
                self._count_cost(name, state)
        if state["TrainingJobStatus"] != "Completed":
            self._note().unlink(missing_ok=True)
            if self._jobs.costs.ended_by_budget(state):  # spot may have cost less than was held
                return self.run(progress)
            raise ArmError(explain_end(name, state))
        try:
            result = self._fetch(name, state, spec)
        except ArmError:  # what it made is of no use, so another job may be made
            self._note().unlink(missing_ok=True)
            raise
        self._note().unlink(missing_ok=True)
        return result

    def cancel(self) -> bool:
        """Stop the job; False if it has ended. Its checkpoint stays on S3."""
        self._cancelled.set()
        name = self._noted()
        if name is None:
            return False
        with aws.explained(f"Stopping the training job {name}"):
            state = self._describe(name)
            if state is None or state["TrainingJobStatus"] in ENDED:
                return False
            if state["TrainingJobStatus"] == "InProgress":
                self._client.stop_training_job(TrainingJobName=name)
        self._jobs.say(
            f"the training job {name} is being stopped; its last checkpoint stays on S3, and the same command goes on "
            "from it"
        )
        return True

    def _note(self) -> Path:
        return self.folder / NOTE

    def _noted(self) -> str | None:
        """The name of the job that is under way."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(self._note().read_text(encoding="utf-8"))["job"])
        return None

    def _adopted(self) -> tuple[str, dict[str, Any] | None]:
        """Name and state of the noted job, if it is of use; else a name for another, and None."""
        name = self._noted()
        if name is not None:
            state = self._describe(name)
            if state is None:
                return name, None  # it was noted, and never made
            if state["TrainingJobStatus"] not in ("Stopping", "Stopped", "Deleting"):
                self._jobs.say(f"waiting for the training job {name}, which was made before")
                return name, state
            self._count_cost(name, self._wait_until_stopped(name, state))
        return f"synth-dspy-{self.folder.name[:32]}-{uuid.uuid4().hex[:8]}", None

    def _wait_until_stopped(self, name: str, state: dict[str, Any]) -> dict[str, Any]:
        """Wait for the last checkpoint of a job that is being stopped; its last state."""
        while state["TrainingJobStatus"] == "Stopping":
            self._pause()
            state = self._describe(name) or {"TrainingJobStatus": "Stopped"}
        return state

    def _create(self, name: str, spec: TrainSpec, seconds: int) -> tuple[str, dict[str, Any]]:
        jobs = self._jobs
        jobs.say(f"{self.folder.name}: {jobs.costs.before(spec, seconds)}")
        region = aws.region_of(self._client)
        record(jobs.run, Made("s3", f"{jobs.home}/", region))
        channels = send_inputs(self.folder, spec, self._place)
        if self._cancelled.is_set():
            raise Cancelled(f"The training {self.folder.name} was cancelled before it began.")
        write_whole(self._note(), json.dumps({"job": name}) + "\n")
        record(jobs.run, Made("sagemaker-training", name, region))
        request = training_job(
            name, jobs.settings, jobs.role, self._place, channels,
            seconds=seconds, fingerprint=spec.fingerprint(), run=jobs.run, region=region,
        )  # fmt: skip
        self._client.create_training_job(**request)
        jobs.say(f"training job {name}: waits for {jobs.settings.instance}")
        return name, {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}

    def _describe(self, name: str) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = self._client.describe_training_job(TrainingJobName=name)
            return state
        except Exception as error:
            if aws.code_of(error) == "ResourceNotFound" or "not found" in aws.text_of(error).lower():
                return None
            raise

    def _follow(self, name: str, state: dict[str, Any], progress: Progress | None) -> dict[str, Any]:
        """Pass on a job's progress until it has ended; its last state."""
        lines, shown, self._looks = JobLog(name), "", 0
        while True:
            for line in lines.lines():
                steps = progress_of(line)
                if steps is None:
                    log.info("%s: %s", name, line.rstrip())
                elif progress is not None:
                    progress(*steps)
            if (phase := str(state.get("SecondaryStatus"))) != shown:
                shown = phase
                log.info("training job %s: %s", name, phase)
            if state["TrainingJobStatus"] in ENDED:
                return state
            self._pause()
            state = self._describe(name) or {"TrainingJobStatus": "Stopped", "SecondaryStatus": "Deleted"}

    def _pause(self) -> None:
        self._looks += 1
        if self._cancelled.wait(min(self._jobs.poll_s, self._looks)):
            raise Cancelled(f"The training {self.folder.name} was cancelled; start it again to resume.")

    def _count_cost(self, name: str, state: Mapping[str, Any]) -> None:
        """Tell what an ended job has cost, and keep it."""
        if state.get("BillableTimeInSeconds"):
            self._jobs.say(f"training job {name}: {self._jobs.costs.after(state)}")
            self._jobs.costs.count(name, self.folder.name, state)

    def _fetch(self, name: str, state: Mapping[str, Any], spec: TrainSpec) -> dict[str, Any]:
        """Bring the finished training's folder here; its result last, which says that it is complete."""
        source = str(state["ModelArtifacts"]["S3ModelArtifacts"]).rstrip("/")
        files = addresses_in(source)
        for uri in sorted(files, key=lambda each: each.endswith(f"/{RESULT}")):
            inside = uri.removeprefix(f"{source}/")
            if Path(inside).is_absolute() or ".." in Path(inside).parts:
                raise SetupError(f"{uri} leads out of the training's folder: something else writes into {source}.")
            if inside == RESULT:
                # Not under its own name before it is known to be this spec's.
                download_file(uri, self.folder / f".{RESULT}")
            else:
                download_file(uri, self.folder / inside)
        received = self.folder / f".{RESULT}"
        if not received.is_file():
            raise ArmError(f"The training job {name} ended without a result in {source}; see its log in CloudWatch.")
        result = json.loads(received.read_text(encoding="utf-8"))
        if result.get("fingerprint") != spec.fingerprint():
            received.unlink()
            raise ArmError(f"The training job {name} trained something else than {self.folder / SPEC}; start it again.")
        received.replace(self.folder / RESULT)
        return require_success(result)


def explain_end(name: str, state: Mapping[str, Any]) -> str:
    """Why a job that did not complete ended, as one sentence."""
    if state["TrainingJobStatus"] == "Failed":
        reason = " ".join(str(state.get("FailureReason") or "no reason is given").split())
        match = _FAILURE.fullmatch(reason)
        if match and reason.startswith("AlgorithmError") and match[1].endswith((".", "!", "?")):
            return match[1]  # the container's own sentence
        return f"The training job {name} failed: {match[1] if match else reason}"
    why = LIMITS.get(str(state.get("SecondaryStatus")), "not by this command")
    return f"The training job {name} was stopped ({why}); the same command goes on from its last checkpoint."
