"""Answers a request with the program that its route leads to, and keeps the request before the answer is sent."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from synth_dspy.loop.records import Request, Route, shadow_of
from synth_dspy.loop.store import now
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.programs import Loaded, Programs
from synth_dspy.service.redaction import Redaction
from synth_dspy.service.running import Outcome
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics, Spans
from synth_dspy.service.turns import Turns
from synth_dspy.service.writer import Writer

log = logging.getLogger("synth_dspy.service.answers")

RECENT = 20_000
"""Requests whose inputs' digests are kept in memory: feedback on them needs no look into the store."""
SHADOWS = 16
"""Copies of requests that the challenger may have before it; further ones are skipped."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as it was kept, but nothing redacted.

    Attributes:
        outputs: what else the program returns, as JSON.
        truncated: whether a reply that it was made from was cut off at the token limit.
    """

    request: Request
    outputs: Mapping[str, Any]
    truncated: bool = False


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
        self._under_way = 0
        self._turns = Turns(limits.concurrency, limits.answer_s / 2)
        self._shadow_turns = Turns(SHADOWS, limits.answer_s / 2)
        self._shadows: set[asyncio.Task[Any]] = set()
        self._recent: OrderedDict[str, str] = OrderedDict()

    async def answer(
        self, given: Any, person: str | None, headers: Mapping[str, str], *, unlike: Route | None = None
    ) -> Answer:
        """The answer to a request, which is kept by then.

        Args:
            given: the inputs, as JSON.
            person: the caller's pseudonym; all requests of one go to one version.
            headers: of the request, which may name a trace.
            unlike: the route of an earlier answer that this one is compared with; the other version answers, if any.

        Raises:
            ServiceError: the inputs are wrong, the program failed, there are too many requests, or it took too long.
        """
        if self._under_way >= self._limits.concurrency + self._limits.waiting:
            raise ServiceError(
                503, f"{self._under_way} requests are under way already: try again.", headers={"Retry-After": "2"}
            )

        def pick() -> tuple[Loaded, Route]:
            return self.programs.pick(person) if unlike is None else self.programs.other(unlike)

        began = Request(uuid4().hex, now(), "", "champion", {}, "", False, (), 0, 0, 0.0, person=person)
        self._under_way += 1
        self._metrics.under_way.set(self._under_way)
        try:
            with self._spans.span("synth_dspy.answer", headers) as attributes:
                request, outcome = await self._run(pick, began, given, self._turns)
                attributes |= _attributes(request)
            if outcome.inputs is not None:
                await self._keep(request)
        finally:
            self._under_way -= 1
            self._metrics.under_way.set(self._under_way)
        if outcome.inputs is not None:
            self._shadow(began, given)
        refusal = outcome.refusal(request.id)
        if refusal is not None:
            raise refusal
        return Answer(request, outcome.outputs, outcome.truncated)

    def digest(self, request: str) -> str | None:
        """A digest of a recent request's inputs."""
        return self._recent.get(request)

    async def close(self) -> None:
        """Wait for the challenger's copies that have begun."""
        if self._shadows:
            await asyncio.wait(self._shadows, timeout=self._limits.answer_s)

    async def _run(
        self, pick: Callable[[], tuple[Loaded, Route]], began: Request, given: Any, turns: Turns
    ) -> tuple[Request, Outcome]:
        """What one program makes of a request."""
        start = time.perf_counter()
        loaded, route = pick()
        try:
            async with asyncio.timeout(self._limits.answer_s):
                await turns.take()
                loaded, route = pick()  # an alias may have been moved meanwhile
                asked = asyncio.wrap_future(loaded.program.ask(given))
                asked.add_done_callback(lambda _: turns.give_back())
                outcome = await asyncio.shield(asked)  # what computes keeps its turn, though nobody waits any more
        except TimeoutError:
            message = f"There was no answer within {self._limits.answer_s:g} s"
            inputs = given if isinstance(given, Mapping) else {}
            outcome = Outcome(inputs, error=f"TimeoutError: {message}", status=504, message=message)
        request = replace(
            began,
            at=now(),
            version=loaded.version.id,
            route=route,
            inputs=outcome.inputs or {},
            answer=outcome.answer,
            abstained=outcome.abstained,
            passages=outcome.passages,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            cost_usd=outcome.cost_usd,
            error=outcome.error,
            latency_s=time.perf_counter() - start,
        )
        if outcome.error is not None:
            log.warning("%s failed on %s: %s", request.version, request.id, self._redaction.text(outcome.error))
        elif outcome.inputs is None:
            log.info("a request was refused with %d: %s", outcome.status, self._redaction.text(outcome.message))
        if outcome.inputs is not None:
            self._metrics.count(request)
        return request, outcome

    async def _keep(self, request: Request) -> None:
        """Keep a request, redacted.

        Raises:
            ServiceError: it cannot be written.
        """
        inputs = self._redaction.value(request.inputs)
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

    def _shadow(self, began: Request, given: Any) -> None:
        """Give the challenger a copy of a request, in the background."""
        loaded = self.programs.shadow
        if loaded is None:
            return
        if len(self._shadows) >= SHADOWS:
            self._metrics.shadows_skipped.inc()
            return
        copy = replace(began, id=shadow_of(began.id))

        async def run() -> None:
            try:
                request, outcome = await self._run(lambda: (loaded, "shadow"), copy, given, self._shadow_turns)
                if outcome.inputs is not None:
                    await self._keep(request)
            except ServiceError as error:
                log.error("the challenger's answer to %s was lost: %s", began.id, error)

        task = asyncio.create_task(run())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)


def inputs_digest(inputs: Mapping[str, Any]) -> str:
    """A digest by which two requests with the same inputs are told apart from others."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


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
