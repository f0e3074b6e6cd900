"""Takes feedback on answers: a thumb, a score, a comment, a corrected answer, the better of two."""

from __future__ import annotations

from typing import Annotated, Any, Literal
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


_FEEDBACK: TypeAdapter[Any] = TypeAdapter(
    Annotated[Thumb | Score | Comment | Correction | Better, Field(discriminator="kind")]
)


def feedback_routes(
    answers: Answers, store: Store, writer: Writer, redaction: Redaction, metrics: Metrics
) -> APIRouter:
    """The route `/feedback`."""
    router = APIRouter()

    async def digest_of(request: str, param: str) -> str:
        """A digest of a request's inputs."""
        if (recent := answers.digest(request)) is not None:
            return recent
        kept = await run_in_threadpool(store.read, records.Request, id=request)
        if not kept:
            raise ServiceError(404, f"There is no request {request[:100]!r}.", param=param)
        return inputs_digest(kept[0].inputs)

    @router.post("/feedback", status_code=201)
    async def give(request: Request) -> JSONResponse:
        given = await read_json(request, _FEEDBACK)
        about, value = given.request.removeprefix(PREFIX), given.value
        digest = await digest_of(about, "request")
        if given.kind == "better":
            value = value.removeprefix(PREFIX)
            if value == about or await digest_of(value, "value") != digest:
                raise ServiceError(
                    422, "The better of two answers needs two requests with the same inputs.", param="value"
                )
        elif isinstance(value, str):
            value = redaction.text(value)
        identifier = (given.id or uuid4()).hex
        rater = given.rater or person_of(request)
        record = records.Feedback(identifier, now(), about, given.kind, value, rater=rater)
        try:
            is_new = await writer.add(record)
        except Exception as error:
            raise ServiceError(
                503, "The feedback could not be kept: the store cannot be written to. Try again."
            ) from error
        if is_new:
            metrics.feedback.labels(given.kind).inc()
        return JSONResponse({"id": identifier}, 201 if is_new else 200)

    return router
