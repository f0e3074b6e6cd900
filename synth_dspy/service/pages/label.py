"""The page where proposed questions are reviewed: the step of `synth-dspy label DIR`, on the same file."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from synth_dspy.core.errors import SetupError
from synth_dspy.core.text import as_text
from synth_dspy.domains.documents.proposals import PROPOSED, REVIEWED, STATUSES, ProposedQuestions
from synth_dspy.loop.proposing import problem_with, shown_inputs
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.login import login_routes
from synth_dspy.service.pages.protected import protect
from synth_dspy.service.pages.site import Site, fields
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics

PATH = "/label"
VERDICTS = ("accept", "reject", "edit", "own")


def label_app(path: Path, limits: Limits) -> FastAPI:
    """An application with this page alone, for whoever has no program to serve yet; for this machine.

    Args:
        path: of the proposed questions.
        limits: of bodies and times.
    """
    app = FastAPI(title="synth_dspy: label", docs_url=None, redoc_url=None, openapi_url=None)
    site = Site(path.parent.name or "synth_dspy")
    protect(app, site, limits, Metrics())
    app.include_router(login_routes(site))
    app.include_router(label_routes(site, path))

    @app.get("/")
    async def start() -> Response:
        return site.redirect(PATH)

    return app


def label_routes(site: Site, path: Path) -> APIRouter:
    """The route `/label`.

    Args:
        site: see there.
        path: of the proposed questions. It is read for every page, so that an editor may change it at the same time.
    """
    router = APIRouter()
    site.add_link(PATH, "Label questions")
    writing = threading.Lock()

    def page(request: Request, name: str, typed: dict[str, str] | None = None, problem: str = "") -> Response:
        questions = ProposedQuestions.read(path)
        row = questions[name] if name else _next(questions, request.query_params.get("after", ""))
        done, verdict = request.query_params.get("done", ""), request.query_params.get("verdict", "")
        counts = questions.counts
        return site.render(
            request,
            "label.html.j2",
            422 if problem else 200,
            row=row,
            last=questions[done] if done and verdict in STATUSES else None,
            verdict=verdict,
            counted=", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]),
            decided=len(questions) - counts[PROPOSED],
            waiting=counts[PROPOSED],
            total=len(questions),
            reviewed=any(counts[status] for status in REVIEWED),
            documents=sorted(questions.documents),
            typed=dict.fromkeys(("verdict", "question", "answer", "document"), "") | (typed or {}),
            problem=problem,
            file=str(path),
            inputs={name: as_text(value) for name, value in shown_inputs(row or {}).items()},
            choices=(row or {}).get("choices") or (),
            by_loop=any(each.get("inputs") for each in questions),
        )

    @router.get(PATH)
    def show(request: Request) -> Response:
        return page(request, request.query_params.get("question", ""))

    @router.post(PATH)
    async def decide(request: Request) -> Response:
        form = await site.form(request)
        verdict, name = fields(form, "verdict", "id")
        if verdict not in VERDICTS:
            raise ServiceError(422, "Press one of the page's buttons.")
        try:
            done = await run_in_threadpool(_decide, path, writing, form)
        except SetupError as error:
            problem = str(error)
            return await run_in_threadpool(lambda: page(request, name, form, problem))
        return site.redirect(f"{PATH}?{urlencode(done)}")

    return router


def _decide(path: Path, writing: threading.Lock, form: dict[str, str]) -> dict[str, str]:
    """Write a decision; returns what the next page shows."""
    verdict, name, question, answer, document = fields(form, "verdict", "id", "question", "answer", "document")
    with writing:
        questions = ProposedQuestions.read(path)
        if verdict == "own":
            questions.add(question, answer, document)
            row: Any = questions.rows[-1]
        elif verdict == "edit":
            _check(questions[name], answer)
            questions.edit(name, question=question, answer=answer)
            row = questions[name]
        else:
            if verdict == "accept":
                _check(questions[name], str(questions[name].get("answer") or ""))
            (questions.accept if verdict == "accept" else questions.reject)(name)
            row = questions[name]
        questions.save()
    if verdict == "own":  # the question that was shown is shown again
        return {"question": name, "done": row["id"], "verdict": row["status"]} if name else {"done": row["id"]}
    return {"after": name, "done": name, "verdict": row["status"]}


def _check(row: Mapping[str, Any], answer: str) -> None:
    if (problem := problem_with(row, answer)) is not None:
        raise SetupError(problem)


def _next(questions: ProposedQuestions, after: str) -> dict[str, Any] | None:
    """The next question that nobody has decided on, from the one after `after` on, and round; None where all are."""
    names = [row["id"] for row in questions]
    start = names.index(after) + 1 if after in names else 0
    rows = questions.rows[start:] + questions.rows[:start]
    return next((row for row in rows if row["status"] == PROPOSED), None)
