"""Calls to a model of Bedrock as batch jobs, at batch prices: `CreateModelInvocationJob` in the form of Converse.

Calls are collected until no more come, and become one job. Too few for a job are made at once, at the usual price, and
so are those that a job could not answer. The answers are in the ledger under the keys of the usual calls. A job's name
and calls are in the run's folder before it is made: a run that was killed waits for the same job when it is resumed.

https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspy import lm15

from synth_dspy.core import aws
from synth_dspy.core.aws_record import Made, record
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.s3.address import require_address
from synth_dspy.core.s3.objects import addresses_in, read_lines, write_text
from synth_dspy.core.usage import ModelCall
from synth_dspy.models.bedrock.calls import model_id
from synth_dspy.models.bedrock.converse import from_converse, structure_of, to_converse
from synth_dspy.models.bedrock.engine import IMPORTED, BedrockEngine
from synth_dspy.models.ledger_lm import answered, checked
from synth_dspy.models.prices import Price, model_facts

log = logging.getLogger("synth_dspy.models.bedrock")

FOLDER = "bedrock"
"""In the run's folder: one file for each job that is under way."""
MINIMUM, MAXIMUM = 100, 50_000
"""Records of a job, by Bedrock's default quotas."""
_ENDED = frozenset({"Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired"})


@dataclass(slots=True)
class _Waiting:
    """A call without its answer. `request` is None if an earlier process made the call, and nobody has repeated it."""

    call: ModelCall
    tools: Sequence[str] = ()
    request: lm15.Request | None = None
    future: Future[ModelCall] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # a job cannot be cancelled for one call


@dataclass(frozen=True, slots=True)
class _Job:
    """A batch job, as it is noted in the run's folder.

    Attributes:
        name: given by us.
        model: the model string.
        place: `s3://bucket/folder` of its files.
        role: ARN of the role that reads and writes them.
        file: the note.
    """

    name: str
    model: str
    place: str
    role: str
    file: Path

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.file.parent.parent


class BatchEngine:
    """Makes the calls of a `LedgerEngine` in batch jobs.

    Args:
        engine: makes the calls that are too few for a job.
        s3: `s3://bucket/folder` for requests and replies.
        role: ARN of the role that Bedrock takes to read and write there.
        quiet_s: seconds without a new call after which a job is made.
        poll_s: seconds between two looks at a job.
        minimum: fewest calls of a job.
    """

    def __init__(
        self,
        engine: BedrockEngine,
        *,
        s3: str,
        role: str,
        quiet_s: float = 3.0,
        poll_s: float = 30.0,
        minimum: int = MINIMUM,
    ) -> None:
        require_address(s3)
        self.engine, self.s3, self.role = engine, s3.rstrip("/"), role
        self.quiet_s, self.poll_s, self.minimum = quiet_s, poll_s, minimum
        self.supports_function_calling = engine.supports_function_calling
        self.supports_reasoning = engine.supports_reasoning
        self.supports_response_schema = engine.supports_response_schema
        self.supported_params = engine.supported_params
        self._control = aws.client("bedrock", endpoint=engine.endpoint)
        self._lock = threading.Lock()
        self._collected: dict[str, _Waiting] = {}
        self._running: dict[str, _Waiting] = {}
        self._adopted: set[Path] = set()
        self._last_call = 0.0
        self._collecting = False

    def with_attempts(self, attempts: int) -> BedrockEngine:
        """The engine without batches, with another number of attempts."""
        return self.engine.with_attempts(attempts)

    def submit(self, request: lm15.Request, call: ModelCall, ledger: Ledger | None) -> Future[ModelCall]:
        """Make a call; the future returns it answered and committed, or raises as `BedrockEngine.complete`."""
        if ledger is None:
            raise SetupError("Batch jobs need a run's ledger, which they are resumed from: leave out --aws.batch.")
        if IMPORTED in request.model:
            raise SetupError(
                f"Batch jobs are for Bedrock's own models, not for {request.model}: leave out --aws.batch."
            )
        with self._lock:
            if ledger.path not in self._adopted:
                self._adopted.add(ledger.path)
                self._adopt(ledger)
            if (running := self._running.get(call.key)) is not None:
                running.request = running.request or request
                return running.future
            waiting = _Waiting(call, [tool.name for tool in request.tools], request)
            self._collected[call.key] = waiting
            self._last_call = time.monotonic()
            if not self._collecting:
                self._collecting = True
                self._start(self._collect, ledger)
            return waiting.future

    def _start(self, run: Any, *args: Any) -> None:
        threading.Thread(target=run, args=args, name="bedrock-batch", daemon=True).start()

    def _collect(self, ledger: Ledger) -> None:
        """Wait until no more calls come, then make them."""
        while True:
            with self._lock:
                quiet = self._last_call + self.quiet_s - time.monotonic()
                if quiet <= 0 or len(self._collected) >= MAXIMUM:
                    calls = list(self._collected.values())[:MAXIMUM]
                    for each in calls:
                        self._running[each.call.key] = self._collected.pop(each.call.key)
                    self._collecting = bool(self._collected)
                    break
            time.sleep(max(min(quiet, 1.0), 0.01))
        if self._collecting:
            self._start(self._collect, ledger)
        models = {each.call.model for each in calls}
        for model in sorted(models):
            self._start(self._make, model, [each for each in calls if each.call.model == model], ledger)

    def price_of(self, model: str) -> Price | None:
        """What a token costs in a batch job."""
        return self.engine.price_of(model, batch=True)

    def _make(self, model: str, calls: list[_Waiting], ledger: Ledger) -> None:
        """Make a job of calls, or make them at once if they are too few."""
        try:
            if len(calls) < self.minimum:
                log.info("%d calls are too few for a batch job (%d): made at the usual price", len(calls), self.minimum)
                self._at_once(calls, ledger)
                return
            name, run = f"synth-dspy-{uuid.uuid4().hex[:16]}", ledger.path.parent
            place = f"{self.s3}/{run.name}/batch/{name}"
            job = _Job(name, model, place, self.role, run / FOLDER / f"{name}.jsonl")
            self._upload(job, calls)
            lines: list[Any] = [{"name": name, "model": model, "place": place, "role": self.role}]
            lines += [{"call": each.call.to_dict(), "tools": list(each.tools)} for each in calls]
            write_whole(job.file, "".join(json.dumps(line) + "\n" for line in lines))
            self._follow(job, {each.call.key: each for each in calls}, ledger)
        except BaseException as error:
            self._fail(calls, error)

    def _upload(self, job: _Job, calls: Sequence[_Waiting]) -> None:
        structure = structure_of(model_facts(f"bedrock/{model_id(job.model)}"))
        records = [
            {"recordId": each.call.key[:32], "modelInput": to_converse(each.request, structure)}
            for each in calls
            if each.request is not None
        ]
        record(job.run, Made("s3", f"{job.place}/", aws.region_of(self._control)))
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)
        write_text(f"{job.place}/input.jsonl", text)

    def _adopt(self, ledger: Ledger) -> None:
        """Wait for the jobs of an earlier process. The lock is held."""
        for file in sorted((ledger.path.parent / FOLDER).glob("*.jsonl")):
            try:
                head, *lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
                calls = {each.call.key: each for each in map(_waiting, lines)}
                job = _Job(**head, file=file)
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise SetupError(f"The note of a batch job {file} is damaged ({error}): remove it.") from error
            calls = {key: each for key, each in calls.items() if not ledger.has_answer(key)}
            self._running |= calls
            log.info("waiting for the batch job %s of %d calls, which was made before", job.name, len(calls))
            self._start(self._follow_or_fail, job, calls, ledger)

    def _follow_or_fail(self, job: _Job, calls: dict[str, _Waiting], ledger: Ledger) -> None:
        try:
            self._follow(job, calls, ledger)
        except BaseException as error:
            self._fail(list(calls.values()), error)

    def _follow(self, job: _Job, calls: dict[str, _Waiting], ledger: Ledger) -> None:
        """Make the job unless it exists, wait for its end, and commit its answers."""
        arn = self._arn(job)
        while True:
            with aws.explained(f"The batch job {job.name}"):
                state = self._control.get_model_invocation_job(jobIdentifier=arn)
            if state["status"] in _ENDED:
                break
            time.sleep(self.poll_s)
        log.info("batch job %s: %s", job.name, state["status"])
        if state["status"] in ("Failed", "Stopped"):
            job.file.unlink(missing_ok=True)  # the next resume makes another job
            why = " ".join(str(state.get("message") or "no reason is given").split()).rstrip(".")
            raise SetupError(
                f"The batch job {job.name} ended as {state['status']} ({why}): mend that and resume the run, or leave "
                "out --aws.batch."
            )
        self._commit(job, f"{job.place}/output/{arn.rpartition('/')[2]}/", calls, ledger)
        job.file.unlink(missing_ok=True)
        with self._lock:
            left = [each for each in calls.values() if each.request is not None]
            for key, each in calls.items():
                if each.request is None:  # nobody waits for it yet
                    self._running.pop(key, None)
        if left:
            log.info("batch job %s left %d calls without an answer: made at the usual price", job.name, len(left))
            self._at_once(left, ledger)

    def _commit(self, job: _Job, output: str, calls: dict[str, _Waiting], ledger: Ledger) -> None:
        """Commit a job's answers, and remove the answered calls from `calls`."""
        prices, by_record = self.price_of(job.model), {key[:32]: key for key in calls}
        for row in self._rows(output):
            key = by_record.get(str(row.get("recordId")))
            if key not in calls or "modelOutput" not in row:
                continue
            waiting = calls[key]
            try:
                response = from_converse(row["modelOutput"], job.model, waiting.tools, prices)
                done = answered(waiting.call, checked(response, self.engine.max_bytes), None)
            except (ValueError, ModelError) as error:
                log.warning("batch job %s, record %s: %s", job.name, row["recordId"], error)
                continue
            ledger.record(done)
            del calls[key]
            self._running.pop(key, None)
            waiting.future.set_result(done)

    def _arn(self, job: _Job) -> str:
        """The ARN of a job, which is made if there is none of its name."""
        with aws.explained(f"The batch job {job.name}"):
            same = self._control.list_model_invocation_jobs(nameContains=job.name)
            for each in same.get("invocationJobSummaries", ()):
                if each["jobName"] == job.name:
                    return str(each["jobArn"])
            record(job.run, Made("bedrock-batch", job.name, aws.region_of(self._control)))
            request = job_request(job.name, model_id(job.model), job.role, job.place)
            return str(self._control.create_model_invocation_job(**request)["jobArn"])

    def _rows(self, output: str) -> Iterator[dict[str, Any]]:
        for uri in addresses_in(output):
            if uri.endswith(".jsonl.out"):
                for line in read_lines(uri):
                    with suppress(ValueError):
                        yield json.loads(line)

    def _at_once(self, calls: Sequence[_Waiting], ledger: Ledger) -> None:
        """Make calls at the usual price."""

        def make(waiting: _Waiting) -> None:
            assert waiting.request is not None
            began = time.perf_counter()
            try:
                done = answered(waiting.call, self.engine.complete(waiting.request), time.perf_counter() - began)
                ledger.record(done)
            except BaseException as error:
                if isinstance(error, Exception):
                    ledger.record_failure(waiting.call, error)
                self._fail([waiting], error)
                return
            self._running.pop(waiting.call.key, None)
            waiting.future.set_result(done)

        with ThreadPoolExecutor(min(self.engine.connections, len(calls))) as pool:
            list(pool.map(make, calls))

    def _fail(self, calls: Sequence[_Waiting], error: BaseException) -> None:
        for each in calls:
            self._running.pop(each.call.key, None)
            if not each.future.done():
                each.future.set_exception(error)


def job_request(name: str, model: str, role: str, place: str) -> dict[str, Any]:
    """The arguments of `CreateModelInvocationJob`.

    Args:
        name: the job's; the same name twice is one job.
        model: Bedrock's identifier.
        role: ARN of the role that Bedrock takes.
        place: folder on S3 with `input.jsonl`, which receives `output/`.
    """
    return {
        "jobName": name,
        "clientRequestToken": name,
        "roleArn": role,
        "modelId": model,
        "modelInvocationType": "Converse",
        "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{place}/input.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{place}/output/"}},
    }


def _waiting(line: dict[str, Any]) -> _Waiting:
    return _Waiting(ModelCall.from_dict(line["call"]), line["tools"])
