"""Blind review: raters compare outputs without knowing whose they are; the organiser sees how the votes stand."""

from __future__ import annotations

import hmac
import shlex
from collections.abc import Callable

from fastapi import APIRouter, Depends, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.printable import visible
from synth_dspy.evaluation.blind.report import sentences, tables_of
from synth_dspy.evaluation.blind.review import Review, Turn
from synth_dspy.evaluation.blind.votes import parse_choice
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.login import login_routes
from synth_dspy.service.pages.protected import protect
from synth_dspy.service.pages.session import VISITOR, Sessions
from synth_dspy.service.pages.site import Site, fields
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics

PATH, RESULTS = "/review", "/review/results"
_LONGEST = 10_000  # characters of a comment
_REFRESH_S = 15


def review_app(review: Review, keys: tuple[str, ...], limits: Limits) -> FastAPI:
    """The pages of one comparison as an application of its own.

    Args:
        review: the comparison.
        keys: of raters on other machines.
        limits: of sizes and rates.
    """
    app = FastAPI(title="synth_dspy: blind review", docs_url=None, redoc_url=None, openapi_url=None)
    site = Site("Blind review", Sessions(keys))
    protect(app, site, limits, Metrics())
    app.include_router(login_routes(site))
    app.include_router(review_routes(site, lambda: review))

    @app.exception_handler(SetupError)
    async def refuse(request: Request, error: SetupError) -> Response:
        return site.refusal(request, ServiceError(503, f"{error} If you have just voted, send your vote again."))

    @app.get("/")
    async def begin() -> Response:
        return site.redirect(PATH)

    return app


def results_path(review: Review) -> str:
    """The organiser's page, whose address cannot be guessed without the comparison's key."""
    return f"{RESULTS}?key={review.secret('organiser')}"


def review_routes(site: Site, open_review: Callable[[], Review]) -> APIRouter:
    """The routes `/review` and below, of the comparison that `open_review` gives at the time."""
    router = APIRouter()

    async def page(
        request: Request, review: Review, turn: Turn, status: int = 200, problem: str = "", comment: str = ""
    ) -> Response:
        done, total = await run_in_threadpool(review.progress, site.rater(request))
        return site.render(
            request,
            "review.html.j2",
            status,
            turn=turn,
            right=review.asks_right,
            question=visible(turn.question),
            references=[visible(text) for text in turn.references],
            outputs=[visible(text) for text in turn.outputs],
            passages=[visible(text) for text in turn.passages],
            comment=comment or turn.comment,
            problem=problem,
            done=done,
            total=total,
        )

    @router.get(PATH)
    async def begin(request: Request, review: Review = Depends(open_review)) -> Response:
        rater = site.rater(request) if VISITOR in request.cookies else "a visitor without a name"
        done, total = await run_in_threadpool(review.progress, rater)
        about = {"outputs": review.outputs, "right": review.asks_right}
        return site.render(request, "review_start.html.j2", rater=rater, done=done, total=total, **about)

    @router.get(RESULTS)
    async def results(request: Request, review: Review = Depends(open_review)) -> Response:
        given = request.query_params.get("key", "")
        if not hmac.compare_digest(given.encode(), review.secret("organiser").encode()):
            raise ServiceError(404, "The results have an address of their own, which was printed at the start.")
        standing = await run_in_threadpool(review.standing)
        tally = standing["results"]
        response = site.render(
            request,
            "review_results.html.j2",
            standing=standing,
            wanted=review.raters,
            command=f"{command('blind report')} {shlex.quote(str(review.folder))}",
            headline=tally and tally["headline"],
            sentences=sentences(tally) if tally else [],
            tables=tables_of(tally) if tally else [],
            comments=tally["comments"] if tally else [],
        )
        response.headers["Refresh"] = str(_REFRESH_S)
        return response

    @router.get(f"{PATH}/next")
    async def go_on(request: Request, review: Review = Depends(open_review)) -> Response:
        if VISITOR not in request.cookies:  # the first page sets it
            return site.redirect(PATH)
        turn = await run_in_threadpool(review.turn, site.rater(request))
        return site.redirect(f"{PATH}/done" if turn is None else f"{PATH}/{turn.number}")

    @router.get(f"{PATH}/done")
    async def end(request: Request, review: Review = Depends(open_review)) -> Response:
        done, _ = await run_in_threadpool(review.progress, site.rater(request))
        return site.render(request, "review_done.html.j2", done=done)

    @router.get(f"{PATH}/{{number:int}}")
    async def show(request: Request, number: int, review: Review = Depends(open_review)) -> Response:
        has_visited = VISITOR in request.cookies
        turn = await run_in_threadpool(review.turn, site.rater(request), number) if has_visited else None
        if turn is None or turn.number != number:
            return site.redirect(f"{PATH}/next")
        return await page(request, review, turn)

    @router.post(f"{PATH}/{{number:int}}")
    async def keep(request: Request, number: int, review: Review = Depends(open_review)) -> Response:
        rater = site.rater(request)
        token, given, comment = fields(await site.form(request), "turn", "choice", "comment")
        comment = visible(comment)
        turn = await run_in_threadpool(review.turn, rater, number)
        shown = turn if turn is not None and turn.token == token else None
        before = shown.choice if shown is not None else None
        choice = parse_choice(given) if given else before  # a comment may be added later
        if shown is not None and len(comment) > _LONGEST:
            return await page(request, review, shown, 422, f"A comment has at most {_LONGEST:,} characters.", comment)
        if shown is not None and choice is None:
            other = "both are right or both wrong" if review.asks_right else "neither is better"
            return await page(request, review, shown, 422, f"Choose an output, or say that {other}.", comment)
        if choice is None or not await run_in_threadpool(review.vote, rater, token, choice, comment):
            raise ServiceError(409, "This vote is another rater's, or of another comparison: it was not kept.")
        return site.redirect(f"{PATH}/next")

    return router
