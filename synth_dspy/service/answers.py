"""Answers a request with the program that its route leads to, and keeps the request before the answer is sent."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import dspy
from dspy.utils.exceptions import ContextWindowExceededError
from pydantic_core import to_jsonable_python

from synth_dspy.core.errors import ModelError, SetupError, message_of
from synth_dspy.core.executor import LEAN
from synth_dspy.core.masking import mask_message
from synth_dspy.core.text import as_text
from synth_dspy.core.usage import Usage, measure
from synth_dspy.loop.records import Request, shadow_of
from synth_dspy.loop.store import now
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.programs import Loaded, Programs
from synth_dspy.service.redaction import Redaction
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics, Spans
from synth_dspy.service.writer import Writer

log = logging.getLogger("synth_dspy.service.answers")

RECENT = 20_000
"""Requests whose inputs' digests are kept in memory: feedback on them needs no look into the store."""
SHADOWS = 16
"""Copies of requests that the challenger may have before it; further ones are skipped."""
_OWN = frozenset({"answer", "abstained", "passages"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as it was kept, but nothing redacted.

    Attributes:
        outputs: what else the program returns, as JSON.
    """

    request: Request
    outputs: Mapping[str, Any]


class Answers:
    """Answers requests.

    Args:
        programs: the champion, and a challenger if there is one.
        writer: keeps requests.
        limits: of requests at once and of time.
        redaction: what is not kept.
        metrics: counts answers.
        spans: traces them.
    """

    def __init__(
        self,
        programs: Programs,
        writer: Writer,
        limits: Limits,
        redaction: Redaction,
        metrics: Metrics,
        spans: Spans,
    ) -> None:
        self.programs = programs
        self._writer = writer
        self._limits = limits
        self._redaction = redaction
        self._metrics = metrics
        self._spans = spans
        self._threads = ThreadPoolExecutor(limits.concurrency, thread_name_prefix="answer")
        self._shadow_threads = ThreadPoolExecutor(max(1, limits.concurrency // 4), thread_name_prefix="shadow")
        self._under_way = 0
        self._shadows: set[asyncio.Task[Any]] = set()
        self._recent: OrderedDict[str, str] = OrderedDict()

    async def answer(self, given: Any, person: str | None, headers: Mapping[str, str]) -> Answer:
        """The answer to a request, which is kept by then.

        Args:
            given: the inputs, as JSON.
            person: the caller's pseudonym; all requests of one go to one version.
            headers: of the request, which may name a trace.

        Raises:
            ServiceError: the inputs are wrong, the program failed, there are too many requests, or it took too long.
        """
        loaded, route = self.programs.pick(person)
        inputs = loaded.inputs.check(given)
        if self._under_way >= self._limits.concurrency + self._limits.waiting:
            raise ServiceError(
                503, f"{self._under_way} requests are under way already: try again.", headers={"Retry-After": "2"}
            )
        began = Request(uuid4().hex, now(), loaded.version.id, route, inputs, "", False, (), 0, 0, 0.0, person=person)
        self._under_way += 1
        self._metrics.under_way.set(self._under_way)
        try:
            with self._spans.span("synth_dspy.answer", headers) as attributes:
                answer, refusal = await self._run(loaded, began, self._threads)
                attributes |= _attributes(answer.request)
            await self._keep(answer.request)
        finally:
            self._under_way -= 1
            self._metrics.under_way.set(self._under_way)
        self._shadow(began)
        if refusal is not None:
            raise refusal
        return answer

    def digest(self, request: str) -> str | None:
        """A digest of a recent request's inputs."""
        return self._recent.get(request)

    async def close(self) -> None:
        """Wait for the challenger's copies that have begun, but not for answers that timed out."""
        if self._shadows:
            await asyncio.wait(self._shadows, timeout=self._limits.answer_s)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._shadow_threads.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, loaded: Loaded, began: Request, threads: ThreadPoolExecutor
    ) -> tuple[Answer, ServiceError | None]:
        """The answer of one program; with what the caller is told where it failed."""
        start = time.perf_counter()
        context = contextvars.copy_context()  # with the span
        call = asyncio.get_running_loop().run_in_executor(threads, context.run, _call, loaded.program, began.inputs)
        refusal: ServiceError | None = None
        outputs: Mapping[str, Any] = {}
        request = began
        try:
            prediction, usage = await asyncio.wait_for(call, self._limits.answer_s)
            fields = dict(prediction.items())
            request = replace(
                request,
                answer=as_text(fields.get("answer", "")),
                abstained=bool(fields.get("abstained", False)),
                passages=tuple(map(str, fields.get("passages") or ())),
                prompt_tokens=usage.input_tokens,
                completion_tokens=usage.output_tokens,
                cost_usd=usage.cost_usd if usage.calls else None,
            )
            outputs = {key: to_jsonable_python(value, fallback=str) for key, value in fields.items() if key not in _OWN}
        except Exception as error:
            refusal = _refusal(error, request.id, self._limits)
            request = replace(request, error=mask_message(f"{type(error).__name__}: {message_of(error)}")[:2000])
            log.warning("%s failed on %s: %s", request.version, request.id, request.error)
        request = replace(request, latency_s=time.perf_counter() - start)
        outcome = "error" if refusal else "answered"
        self._metrics.answers.labels(request.version, request.route, outcome).inc()
        self._metrics.latency.labels(request.version, request.route).observe(request.latency_s)
        self._metrics.tokens.labels(request.version, "prompt").inc(request.prompt_tokens)
        self._metrics.tokens.labels(request.version, "completion").inc(request.completion_tokens)
        if request.abstained:
            self._metrics.abstentions.labels(request.version, request.route).inc()
        return Answer(request, outputs), refusal

    async def _keep(self, request: Request) -> None:
        """Keep a request, redacted.

        Raises:
            ServiceError: it cannot be written.
        """
        inputs = self._redaction.value(to_jsonable_python(request.inputs, fallback=str))
        kept = replace(
            request,
            inputs=inputs,
            answer=self._redaction.text(request.answer),
            passages=tuple(map(self._redaction.text, request.passages)),
            error=request.error and self._redaction.text(request.error),
        )
        try:
            await self._writer.add(kept)
        except Exception as error:
            raise ServiceError(
                503,
                "The answer could not be kept, so it is not given: the store cannot be written to. Try again later.",
            ) from error
        self._recent[request.id] = inputs_digest(inputs)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def _shadow(self, began: Request) -> None:
        """Give the challenger a copy of a request, in the background."""
        loaded = self.programs.shadow
        if loaded is None or began.route == "shadow":
            return
        if len(self._shadows) >= SHADOWS:
            self._metrics.shadows_skipped.inc()
            return
        copy = replace(began, id=shadow_of(began.id), version=loaded.version.id, route="shadow", at=now())

        async def run() -> None:
            try:
                answer, _ = await self._run(loaded, copy, self._shadow_threads)
                await self._keep(answer.request)
            except ServiceError as error:
                log.error("the challenger's answer to %s was lost: %s", began.id, error)

        task = asyncio.create_task(run())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)


def inputs_digest(inputs: Mapping[str, Any]) -> str:
    """A digest by which two requests with the same inputs are told apart from others."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _call(program: dspy.Module, inputs: Mapping[str, Any]) -> tuple[dspy.Prediction, Usage]:
    with dspy.settings.context(**LEAN), measure() as usage:
        return program(**inputs), usage


def _refusal(error: Exception, request: str, limits: Limits) -> ServiceError:
    """What a caller is told about a failure of the program."""
    message = mask_message(message_of(error))[:500]
    if isinstance(error, TimeoutError):
        return ServiceError(504, f"There was no answer within {limits.answer_s:g} s (request {request}).")
    if isinstance(error, ContextWindowExceededError):
        return ServiceError(422, "The inputs are too long for the model.")
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return ServiceError(422, message)
    if isinstance(error, ModelError | SetupError):
        return ServiceError(502, f"{message} (request {request})")
    return ServiceError(500, f"The program failed with {type(error).__name__} (request {request}); the log says why.")


def _attributes(request: Request) -> dict[str, Any]:
    """A span's attributes; names of models' tokens as in OpenTelemetry's conventions."""
    return {
        "synth_dspy.request": request.id,
        "synth_dspy.version": request.version,
        "synth_dspy.route": request.route,
        "synth_dspy.abstained": request.abstained,
        "gen_ai.usage.input_tokens": request.prompt_tokens,
        "gen_ai.usage.output_tokens": request.completion_tokens,
        "error.type": request.error and request.error.partition(":")[0],
    }
