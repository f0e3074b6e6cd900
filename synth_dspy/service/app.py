"""The application: routes, limits, and the threads that follow the aliases, write, and forget what is too old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from synth_dspy.loop.records import Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import now
from synth_dspy.service.answers import Answers
from synth_dspy.service.bodies import person_of, read_json
from synth_dspy.service.chat import chat_routes
from synth_dspy.service.feedback import Intake, feedback_routes
from synth_dspy.service.pages.ask import ask_routes
from synth_dspy.service.pages.login import login_routes
from synth_dspy.service.pages.loop import judging_routes, loop_routes
from synth_dspy.service.pages.protected import protect
from synth_dspy.service.pages.session import Sessions
from synth_dspy.service.pages.site import Site
from synth_dspy.service.pages.suggestions import suggestion_routes
from synth_dspy.service.programs import Programs
from synth_dspy.service.redaction import Redaction
from synth_dspy.service.running import Opened
from synth_dspy.service.settings import Limits, Traffic
from synth_dspy.service.telemetry import Metrics, Spans
from synth_dspy.service.writer import Writer

log = logging.getLogger("synth_dspy.service.app")

_FORGET_EVERY_S = 3600.0
_SUGGESTED = "table"
"""An input of programs whose answers are suggestions: the page for them is in the navigation."""


@dataclass(frozen=True, slots=True)
class Service:
    """What the application is made of.

    Attributes:
        registry: versions and aliases of the task.
        open_version: opens a version's program.
        close_version: lets one go.
        keys: of callers from other machines.
        keep_days: days after which requests without feedback are deleted; None keeps them.
    """

    registry: Registry
    open_version: Callable[[Version], Opened]
    close_version: Callable[[Version], None] = lambda version: None
    keys: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    traffic: Traffic = field(default_factory=Traffic)
    redaction: Redaction = field(default_factory=Redaction)
    keep_days: float | None = None


def make_app(service: Service) -> FastAPI:
    """The application.

    Raises:
        SetupError: there is no champion, or it cannot be opened.
    """
    store, task = service.registry.store, service.registry.store.task
    metrics, spans = Metrics(), Spans(task)
    programs = Programs(service.registry, service.open_version, service.traffic, service.close_version)

    def committed(count: int) -> None:
        metrics.commits.inc()
        metrics.records.inc(count)

    writer = Writer(store, committed)
    answers = Answers(programs, writer, service.limits, service.redaction, metrics, spans)

    async def forget() -> None:
        while service.keep_days is not None:
            try:
                count = await run_in_threadpool(store.forget, now() - timedelta(days=service.keep_days))
                log.info("%d requests older than %g days were deleted", count, service.keep_days)
            except Exception as error:
                log.error("old requests could not be deleted: %s", error)
            await asyncio.sleep(_FORGET_EVERY_S)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        programs.follow()
        forgetting = asyncio.create_task(forget())
        yield
        forgetting.cancel()
        with suppress(asyncio.CancelledError):
            await forgetting
        programs.close()
        await answers.close()
        writer.close()
        spans.close()

    app = FastAPI(title=f"synth_dspy: {task}", lifespan=lifespan, docs_url=None, redoc_url=None)
    site = Site(task, Sessions(service.keys))
    protect(app, site, service.limits, metrics)

    @app.post("/answer")
    async def answer(request: Request) -> JSONResponse:
        given: Any = await read_json(request)
        done = await answers.answer(given, person_of(request), request.headers)
        return JSONResponse(
            {
                "request": done.request.id,
                "version": done.request.version,
                "answer": done.request.answer,
                "abstained": done.request.abstained,
                "truncated": done.truncated,
                "passages": list(done.request.passages),
                "outputs": dict(done.outputs),
            }
        )

    @app.get("/health")
    async def health() -> dict[str, Any]:
        challenger = programs.challenger
        return {
            "status": "ok" if programs.problem is None else "degraded",
            "task": task,
            "champion": programs.champion.version.id,
            "challenger": challenger and challenger.version.id,
            "inputs": programs.champion.program.shape.schema,
        }

    @app.get("/metrics")
    async def figures() -> Response:
        metrics.alias.clear()
        metrics.alias.labels("champion", programs.champion.version.id).set(1)
        if programs.challenger is not None:
            metrics.alias.labels("challenger", programs.challenger.version.id).set(1)
        metrics.degraded.set(programs.problem is not None)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    app.include_router(login_routes(site))
    app.include_router(chat_routes(answers, task))
    intake = Intake(answers, store, writer, service.redaction, metrics)
    app.include_router(feedback_routes(intake))
    app.include_router(ask_routes(site, answers, intake, store))
    app.include_router(
        suggestion_routes(site, intake, store, named=_SUGGESTED in programs.champion.program.shape.names)
    )
    app.include_router(loop_routes(site, service.registry))
    app.include_router(judging_routes(site, service.registry))
    return app
