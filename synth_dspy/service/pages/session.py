"""Who a page's visitor is, in cookies: a random id, a session once a key was entered, and a name for ratings.

A session is the time at which it ends, signed with the key that was entered: it needs no table, outlives a restart, and
ends when its key is replaced. All cookies are HttpOnly and SameSite=Strict. Every form carries a token, the visitor's
id under a secret: other sites send no cookie and see no token, and servers on other ports of this machine, which get
its cookies too, do not have the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.responses import Response

VISITOR, SESSION, NAME = "synth_dspy_visitor", "synth_dspy_session", "synth_dspy_name"
SECONDS = 30 * 24 * 3600
"""How long a session lasts."""


class Sessions:
    """Makes and checks sessions and tokens of forms.

    Args:
        keys: any of them opens a session.
    """

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self._keys = tuple(key.encode() for key in keys)
        # With keys, a form that was open while the service was restarted can still be sent.
        self._secret = hashlib.sha256(b"forms" + b"\0".join(self._keys)).digest() if keys else secrets.token_bytes(32)

    @property
    def need_key(self) -> bool:
        """Whether there are keys at all."""
        return bool(self._keys)

    def key(self, given: str) -> bytes | None:
        """The key that was given; all are compared, in constant time, so that the time says nothing about any."""
        equal = [key for key in self._keys if hmac.compare_digest(given.encode(), key)]
        return equal[0] if equal else None

    def open(self, visitor: str, key: bytes) -> str:
        """A session's cookie."""
        ends = str(int(time.time()) + SECONDS)
        return f"{ends}.{_sign(key, f'session {visitor} {ends}')}"

    def is_open(self, cookies: Mapping[str, str]) -> bool:
        """Whether the cookies hold a session that has not ended."""
        ends, _, signature = cookies.get(SESSION, "").partition(".")
        if not (ends.isascii() and ends.isdigit() and int(ends[:12]) > time.time()):
            return False
        text = f"session {cookies.get(VISITOR, '')} {ends}"
        return any(_is_equal(_sign(key, text), signature) for key in self._keys)

    def token(self, visitor: str) -> str:
        """The token of a visitor's forms."""
        return _sign(self._secret, f"form {visitor}")

    def is_token(self, visitor: str, given: str) -> bool:
        """Whether a form has its visitor's token."""
        return bool(visitor) and _is_equal(self.token(visitor), given)


def new_visitor() -> str:
    """A visitor's id."""
    return secrets.token_hex(16)


def set_cookie(request: HTTPConnection, response: Response, name: str, value: str) -> None:
    """Set a cookie that no script and no other site can use."""
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(name, value, max_age=SECONDS, httponly=True, samesite="strict", secure=secure)


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _is_equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
