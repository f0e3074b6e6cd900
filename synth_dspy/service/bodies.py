"""Reads the JSON of a request."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from synth_dspy.service.errors import ServiceError
from synth_dspy.service.inputs import refusal

Value = TypeVar("Value")

PERSON = "x-person"
"""Header with the caller's pseudonym."""
NAME = r"[\w.@:+-]{1,100}"
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


async def read_json(request: Request, adapter: TypeAdapter[Value] | None = None) -> Value:
    """A request's body, checked.

    A page in a browser cannot send `application/json` to another site unless that allows it, and so cannot use the
    service of a visitor's own machine.

    Raises:
        ServiceError: it is not JSON, or not what the adapter describes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ServiceError(415, "Send JSON with the header Content-Type: application/json.")
    try:
        return (adapter or _ANYTHING).validate_json(await request.body())
    except ValidationError as error:
        raise refusal(error) from None


def person_of(request: Request) -> str | None:
    """The caller's pseudonym, if one is given.

    Raises:
        ServiceError: it is not a name.
    """
    given = request.headers.get(PERSON)
    if given is not None and not re.fullmatch(NAME, given):
        raise ServiceError(400, "The header X-Person is a pseudonym of at most 100 letters, digits and . @ : + - _")
    return given
