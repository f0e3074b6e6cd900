"""Errors that callers can read: a status, and one sentence in the form of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

TYPES = {  # other errors of the caller are `invalid_request_error`, those of the service `server_error`
    401: "authentication_error",
    404: "not_found_error",
    408: "request_timeout",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class ServiceError(Exception):
    """A refusal, as the caller sees it.

    Args:
        status: of HTTP.
        message: a sentence: what is wrong and how to correct it.
        param: the part of the request that is wrong.
        headers: of the response.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, dict(headers or {})

    def response(self) -> JSONResponse:
        """The response."""
        kind = TYPES.get(self.status, "invalid_request_error" if 400 <= self.status < 500 else "server_error")
        error: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": None}
        return JSONResponse({"error": error}, self.status, self.headers)
