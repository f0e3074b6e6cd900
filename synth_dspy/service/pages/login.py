"""Where a key is entered once, and a name for ratings; and the files that every page uses."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.session import NAME, SESSION, VISITOR, set_cookie
from synth_dspy.service.pages.site import LOGIN, STATIC, Site, fields, here, is_name

_FOLDER = Path(__file__).parent / "static"
_TYPES = {"style.css": "text/css", "pages.js": "text/javascript"}


def login_routes(site: Site) -> APIRouter:
    """The routes `/login`, which asks only for a name where there are no keys, and `/pages/...`."""
    router, needs_key = APIRouter(), site.sessions.need_key

    def page(request: Request, to: str, problem: str = "", name: str = "", status: int = 200) -> Response:
        values = {"next": here(to), "problem": problem, "given": name, "needs_key": needs_key}
        return site.render(request, "login.html.j2", status, **values)

    @router.get(LOGIN)
    async def show(request: Request) -> Response:
        return page(request, request.query_params.get("next", "/"), name=request.cookies.get(NAME, ""))

    @router.post(LOGIN)
    async def enter(request: Request) -> Response:
        to, given, name = fields(await site.form(request), "next", "key", "name")
        key = site.sessions.key(given)
        if name and not is_name(name):
            return page(request, to, "A name is at most 100 letters without accents, digits and . @ : + - _", name, 422)
        if needs_key and given and key is None:
            return page(request, to, "The key is wrong: enter one of those in the service's SYNTH_DSPY_KEY.", name, 401)
        response = site.redirect(here(to))
        if key is not None:
            set_cookie(request, response, SESSION, site.sessions.open(request.cookies[VISITOR], key))
        set_cookie(request, response, NAME, name)
        return response

    @router.get(STATIC)
    async def file(name: str) -> Response:
        if name not in _TYPES:
            raise ServiceError(404, f"There is nothing at /pages/{name[:100]}.")
        return FileResponse(_FOLDER / name, media_type=_TYPES[name], headers={"Cache-Control": "max-age=300"})

    return router
