"""Masks secrets as `***`: keys, and the credentials in URLs, in everything that is stored or printed.

Two kinds of text are masked. A message (an error, a log line) is not data, so everything in it that looks like a
credential is masked. A reply is data: only the secrets that were sent to its endpoint are masked.

A server that echoes a secret may encode it. The search therefore accepts each character plain or as a percent,
backslash or HTML escape, and the secret in Base64; of a truncated key, the first half is enough.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote, urlsplit

MASK = "***"
SHORTEST = 8
"""Minimum length of a secret to mask in replies: a shorter one ("none", "EMPTY") may be a word of the answer."""
SHORTEST_IN_MESSAGES = 4

_LONGEST = 128
"""Number of characters of a secret that are matched one by one; whatever follows them is masked too."""
_SECRET_NAME = re.compile(r"(?!.*_(?:name|file|path|type)$).*(?:key|token|secret|passw|pwd|credential|auth)", re.I)
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}:(?:/|\\/|%2f){2})[^\s\"'<>]{0,500}@", re.I)
"""Everything before the last `@` of a URL: a password may itself contain `@` and `/`."""
_HEADER = re.compile(r"\b(bearer|basic|negotiate)(\s+|%20|\+)[\w.~+/=%\\-]{4,}", re.I)
_FIELD = re.compile(
    r"((?:api[-_ ]?key|x-api-key|authorization|access[-_]token|auth[-_]token|client[-_]secret|passw(?:or)?d|pwd)"
    r"[\"'\\]*\s*[=:]\s*[\"'\\]*)(?!\s|\*\*\*|bearer|basic)[^\s\"'\\,;&}<]{4,}",
    re.I,
)


def mask_message(text: str, secrets: Iterable[str] = ()) -> str:
    """A message with `secrets`, those of the environment, and anything that looks like one masked."""
    all_secrets = (*secrets, *environment_secrets())
    text = _pattern(all_secrets, SHORTEST_IN_MESSAGES).sub(MASK, text)
    text = _CREDENTIALS.sub(rf"\1{MASK}@", text)
    return _FIELD.sub(rf"\1{MASK}", _HEADER.sub(rf"\1 {MASK}", text))


def mask_reply(text: str, secrets: Iterable[str]) -> str:
    """A reply with the secrets that were sent with its request masked."""
    all_secrets = tuple(secrets)
    if not any(probe in text for probe in _probes(all_secrets)):
        return text
    return _pattern(all_secrets, SHORTEST).sub(MASK, text)


def environment_secrets(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Values of variables with names like secrets, and the credentials of URLs in any variable."""
    secrets: list[str] = []
    for name, value in (os.environ if environment is None else environment).items():
        if "://" in value:
            secrets += url_secrets(value)
        elif _SECRET_NAME.match(name) and len(value) >= SHORTEST and not value.startswith(("/", "~", ".")):
            secrets.append(value)
    return tuple(dict.fromkeys(secrets))


def url_secrets(url: str) -> list[str]:
    """The password of a URL, and its credentials as sent in `Authorization: Basic ...`."""
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return []
    if not user and not password:
        return []
    return [secret for secret in (password or user, base64.b64encode(f"{user}:{password}".encode()).decode()) if secret]


def without_credentials(url: str) -> str:
    """The URL without user and password."""
    scheme, slashes, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}" if slashes else url


class MaskingFormatter(logging.Formatter):
    """A log formatter that masks what looks like a secret, in tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_message(super().format(record))


@lru_cache(maxsize=64)
def _pattern(secrets: tuple[str, ...], shortest: int) -> re.Pattern[str]:
    """A pattern that matches any of the secrets, however it is escaped."""
    longest_first = sorted({secret for secret in secrets if len(secret) >= shortest}, key=len, reverse=True)
    forms = [_escaped(secret) for secret in longest_first]
    encodable = (secret for secret in longest_first if len(secret) >= SHORTEST)
    forms += ["".join(map(_base64, code)) for secret in encodable for code in _codes(secret)]
    return re.compile("|".join(forms) or r"(?!)")


@lru_cache(maxsize=64)
def _probes(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Substrings, at least one of which occurs in every reply that contains a secret: a quick first test."""
    longest_first = [secret for secret in secrets if len(secret) >= SHORTEST]
    starts = {re.split(r"[+/]", code, maxsplit=1)[0][:4] for secret in longest_first for code in _codes(secret)}
    starts |= {re.split(r"[^\w.-]", secret, maxsplit=1)[0][:4] for secret in longest_first}
    return (*sorted(starts), "%", "&", "\\u", "\\x", "\\U") if longest_first else ()


def _escaped(secret: str) -> str:
    """A pattern that matches at least the first half of the secret, each character plain or escaped."""
    characters = [_character(character) for character in secret[:_LONGEST]]
    half = max(SHORTEST, (len(characters) + 1) // 2)
    rest = r"[\w.~+/=%\\-]*" if len(secret) > _LONGEST else ""
    for character in reversed(characters[half:]):
        rest = f"(?:{character}{rest})?"
    return "".join(characters[:half]) + rest


def _character(character: str) -> str:
    """A pattern of one character as it may be escaped in HTML, a URL, JSON or Python."""
    code = ord(character)
    percent = "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [f"&{name};" for name, meant in _HTML.items() if meant == character]
    forms += [f"(?i:&#0{{0,6}}{code};|&#x0{{0,6}}{code:x};)", f"(?i:{percent})"]
    # Repetitions are bounded: a server may send any number of backslashes.
    forms.append(rf"(?i:\\{{1,8}}(?:u{{?0{{0,6}}|x0{{0,6}}){code:x}}}?)")
    forms.append(re.escape(character) if character.isalnum() else r"\\{0,8}" + re.escape(character))
    return f"(?:{'|'.join(forms)})"


def _codes(secret: str) -> list[str]:
    """The Base64 characters that depend on the secret alone, for each alignment in the encoded text."""
    data = secret.encode("utf-8", "surrogatepass")
    codes = []
    for before in range(3):  # Base64 reads three bytes at once
        coded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        codes.append(coded[-(-before * 4 // 3) : len(coded) - bool((before + len(data)) % 3)])
    return codes


def _base64(character: str) -> str:
    return {"+": r"(?:[+-]|%2[Bb])", "/": r"(?:\\?/|_|%2[Ff])"}.get(character, re.escape(character))


_HTML = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
