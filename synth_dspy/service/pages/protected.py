"""An application behind the limits of `access`, whose refusals can be read."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from synth_dspy.core.errors import SetupError
from synth_dspy.service.access import Access
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.site import Site
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics


def protect(app: FastAPI, site: Site, limits: Limits, metrics: Metrics) -> None:
    """Let in who may ask, and show every refusal as a sentence: JSON, or a page in a browser."""
    app.add_middleware(Access, site=site, limits=limits, metrics=metrics)

    @app.exception_handler(ServiceError)
    async def refuse(request: Request, error: ServiceError) -> Response:
        return site.refusal(request, error)

    @app.exception_handler(SetupError)
    async def explain(request: Request, error: SetupError) -> Response:
        return site.refusal(request, ServiceError(409, str(error)))

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        sentence = {
            404: f"There is nothing at {request.url.path[:100]}.",
            405: f"{request.method} is not for this path.",
        }
        return site.refusal(
            request, ServiceError(error.status_code, sentence.get(error.status_code, str(error.detail)))
        )
