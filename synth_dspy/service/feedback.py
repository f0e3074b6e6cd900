"""Takes feedback on answers: a thumb, a score, a comment, a corrected answer, the better of two, what became of one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from synth_dspy.loop import records
from synth_dspy.loop.store import Store, now
from synth_dspy.service.answers import Answers, inputs_digest
from synth_dspy.service.bodies import NAME, person_of, read_json
from synth_dspy.service.chat import PREFIX
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.redaction import Redaction
from synth_dspy.service.telemetry import Metrics
from synth_dspy.service.writer import Writer

_Text = Annotated[str, Field(min_length=1, max_length=100_000, pattern=r"\S")]


class _Given(BaseModel):
    """What every kind has. `id` may be given, so that a caller that got no reply can send the same again."""

    model_config = ConfigDict(extra="forbid")

    request: str
    rater: str | None = Field(default=None, pattern=f"^{NAME}$")
    id: UUID | None = None


class Thumb(_Given):
    """Up (true) or down."""

    kind: Literal["thumb"]
    value: StrictBool


class Score(_Given):
    """1 to 5."""

    kind: Literal["score"]
    value: Annotated[StrictInt, Field(ge=1, le=5)]


class Comment(_Given):
    """What is wrong, or good, in words."""

    kind: Literal["comment"]
    value: _Text


class Correction(_Given):
    """The answer as it should be."""

    kind: Literal["correction"]
    value: _Text


class Better(_Given):
    """The request whose answer is the better one; `request` is the other's."""

    kind: Literal["better"]
    value: str


class Acceptance(_Given):
    """A suggestion was accepted (true), rejected (false), or taken with another text (the text)."""

    kind: Literal["acceptance"] = "acceptance"
    value: StrictBool | _Text


class Decisions(BaseModel):
    """Several of these, kept together."""

    model_config = ConfigDict(extra="forbid")

    rater: str | None = Field(default=None, pattern=f"^{NAME}$")
    decisions: Annotated[list[Acceptance], Field(min_length=1, max_length=1000)]


Given = Thumb | Score | Comment | Correction | Better | Acceptance
DECISIONS: TypeAdapter[Decisions] = TypeAdapter(Decisions)
FEEDBACK: TypeAdapter[Given] = TypeAdapter(Annotated[Given, Field(discriminator="kind")])


class Intake:
    """Takes feedback, whether it comes from the API or from a page.

    Args:
        answers: knows the latest requests, and the program whose answers are corrected.
        store: knows all.
        writer: keeps feedback.
        redaction: what is not kept of texts.
        metrics: counts feedback.
    """

    def __init__(self, answers: Answers, store: Store, writer: Writer, redaction: Redaction, metrics: Metrics) -> None:
        self._answers = answers
        self._store = store
        self._writer = writer
        self._redaction = redaction
        self._metrics = metrics

    async def take(self, given: Given, rater: str | None) -> tuple[str, bool]:
        """Keep feedback.

        Args:
            given: of a kind.
            rater: who gave it, where it does not say so itself.

        Returns:
            Its id, and whether it is new.

        Raises:
            ServiceError: there is no such request, the two of a comparison have other inputs, a corrected answer is not
                of the output's type, or it cannot be written.
        """
        return (await self.take_all([given], rater))[0]

    async def take_all(self, given: Sequence[Given], rater: str | None) -> list[tuple[str, bool]]:
        """Keep several, or none of them if one is refused."""
        checked = [await self._record(each, rater) for each in given]
        try:
            new = await asyncio.gather(*map(self._writer.add, checked))
        except Exception as error:
            raise ServiceError(
                503, "The feedback could not be kept: the store cannot be written to. Try again."
            ) from error
        for record, is_new in zip(checked, new, strict=True):
            if is_new:
                self._metrics.feedback.labels(record.kind).inc()
        return [(record.id, is_new) for record, is_new in zip(checked, new, strict=True)]

    async def _record(self, given: Given, rater: str | None) -> records.Feedback:
        about, kind = given.request.removeprefix(PREFIX), given.kind
        value: bool | int | str = given.value
        digest = await self._digest(about, "request")
        if isinstance(given, Better):
            value = given.value.removeprefix(PREFIX)
            if value == about or await self._digest(value, "value") != digest:
                raise ServiceError(
                    422, "The better of two answers needs two requests with the same inputs.", param="value"
                )
        elif isinstance(value, str):
            if isinstance(given, Correction | Acceptance):
                value = value.strip()
                await self._check(value)
            value = self._redaction.text(value)
        identifier = (given.id or uuid4()).hex
        return records.Feedback(identifier, now(), about, kind, value, rater=given.rater or rater)

    async def _check(self, corrected: str) -> None:
        """Refuse a corrected answer that is not of the type of the program's output."""
        program = self._answers.programs.champion.program
        problem = await asyncio.wrap_future(program.check_answer(corrected)) if program.shape.typed else None
        if problem is not None:
            raise ServiceError(422, problem, param="value")

    async def _digest(self, request: str, param: str) -> str:
        """A digest of a request's inputs."""
        if (recent := self._answers.digest(request)) is not None:
            return recent
        kept = await run_in_threadpool(self._store.read, records.Request, id=request)
        if not kept:
            raise ServiceError(404, f"There is no request {request[:100]!r}.", param=param)
        return inputs_digest(kept[0].inputs)


def feedback_routes(intake: Intake) -> APIRouter:
    """The routes `/feedback` and `/acceptance`."""
    router = APIRouter()

    @router.post("/feedback", status_code=201)
    async def give(request: Request) -> JSONResponse:
        given = await read_json(request, FEEDBACK)
        identifier, is_new = await intake.take(given, person_of(request))
        return JSONResponse({"id": identifier}, 201 if is_new else 200)

    @router.post("/acceptance", status_code=201)
    async def decide(request: Request) -> JSONResponse:
        given = await read_json(request, DECISIONS)
        kept = await intake.take_all(given.decisions, given.rater or person_of(request))
        return JSONResponse({"ids": [identifier for identifier, _ in kept]}, 201)

    return router
