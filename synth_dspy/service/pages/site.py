"""Renders pages, reads forms, and shows refusals as pages to whoever asked for one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import jinja2
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from synth_dspy.service import bodies
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.marks import mark
from synth_dspy.service.pages.session import NAME, VISITOR, Sessions, new_visitor, set_cookie

LOGIN = "/login"
STATIC = "/pages/{name}"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every page: nothing from elsewhere, no inline scripts or styles, no frames, nothing left on the disk."""
_FORM = "application/x-www-form-urlencoded"


class Site:
    """What pages share.

    Args:
        name: in the title of every page.
        sessions: of visitors.

    Attributes:
        links: path and text of each page, for the navigation.
    """

    def __init__(self, name: str, sessions: Sessions | None = None) -> None:
        self.name = name
        self.sessions = sessions or Sessions()
        self.links: list[tuple[str, str]] = []
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("synth_dspy.service.pages"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["mark"] = mark

    def add_link(self, path: str, text: str) -> None:
        """Show a page in the navigation."""
        self.links.append((path, text))

    def render(self, request: HTTPConnection, template: str, status: int = 200, **values: Any) -> Response:
        """A page.

        Args:
            request: what it answers.
            template: its file in `templates`.
            status: of HTTP.
            **values: of the template; everything is escaped.
        """
        visitor = request.cookies.get(VISITOR) or new_visitor()
        text = self._templates.get_template(template).render(
            site=self, path=request.url.path, token=self.sessions.token(visitor), name=name_of(request), **values
        )
        response = HTMLResponse(text, status, HEADERS)
        if request.cookies.get(VISITOR) != visitor:
            set_cookie(request, response, VISITOR, visitor)
        return response

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form.

        Raises:
            ServiceError: it was not sent by one of this visitor's pages.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            raise ServiceError(415, f"Send the page's form, as {_FORM}.")
        fields = {name: str(value) for name, value in (await request.form()).multi_items()}
        if not self.sessions.is_token(request.cookies.get(VISITOR, ""), fields.pop("token", "")):
            raise ServiceError(
                403,
                "This form was not made for you, or the service has been restarted since: nothing was changed. Go back "
                "(what you typed is still there), copy it, and reload the page; cookies must be allowed.",
            )
        return {name: _with_line_feeds(value) for name, value in fields.items()}

    def rater(self, request: HTTPConnection) -> str:
        """The pseudonym of a visitor's questions and ratings: the name given, or one made of the visitor's id."""
        return name_of(request) or f"page-{request.cookies.get(VISITOR, '')[:12]}"

    def redirect(self, path: str) -> Response:
        """What follows after a form was sent: a page that can be reloaded."""
        return RedirectResponse(path, 303, {"Cache-Control": "no-store"})

    def refusal(self, request: HTTPConnection, error: ServiceError) -> Response:
        """A refusal: JSON, or a page if a browser asked; who needs a key is led to where it is entered."""
        if "text/html" not in request.headers.get("accept", ""):
            return error.response()
        if error.status == 401 and self.sessions.need_key:
            query = f"?{request.url.query}" if request.url.query else ""
            to = quote(request.url.path + query) if request.scope["method"] == "GET" else "/"
            return self.redirect(f"{LOGIN}?next={to}")
        response = self.render(request, "problem.html.j2", error.status, message=error.message)
        response.headers.update(error.headers)
        return response


def name_of(request: HTTPConnection) -> str:
    """The name that a visitor has given, "" without one."""
    name = request.cookies.get(NAME, "")
    return name if is_name(name) else ""


def is_name(name: str) -> bool:
    """Whether a text can be the name of a rater."""
    return re.fullmatch(bodies.NAME, name, re.ASCII) is not None


def here(path: str) -> str:
    """A path of this site, "/" for any other address."""
    return path if re.fullmatch(r"/(?![/\\])[^\\\s]*", path, re.ASCII) else "/"


def as_sent_back(text: str) -> str:
    """A text as `form` has it, without blanks around it, if a page showed it and nobody changed it."""
    return _with_line_feeds(text).strip()


def _with_line_feeds(text: str) -> str:
    """A text with the line ends that a browser makes of any other."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def fields(form: Mapping[str, str], *names: str) -> list[str]:
    """Fields of a form, without blanks around them; "" where one is missing."""
    return [form.get(name, "").strip() for name in names]
