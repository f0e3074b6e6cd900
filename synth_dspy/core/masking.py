"""Secrets as `***`: keys, and the credentials of URLs, in whatever is stored or printed.

Two kinds of text are masked. A message (an error, a log line) is no one's data, so everything in it that looks like a
credential goes. A reply is data: only what was sent to its endpoint as a secret is taken out, and nothing else changes.

A server that echoes a secret may write it in another way. A secret is therefore looked for with each of its characters
as it is or as a percent, backslash or HTML escape of it, and in Base64; of a key that was cut off, the first half is
enough.
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
"""Characters of a secret that is looked for in replies: a shorter one ("none", "EMPTY") may be a word of the answer."""
SHORTEST_IN_MESSAGES = 4

_LONGEST = 128
"""Characters of a secret that are looked for one by one; of a longer one, what follows them belongs to it."""
_SECRET_NAME = re.compile(r"(?!.*_(?:name|file|path|type)$).*(?:key|token|secret|passw|pwd|credential|auth)", re.I)
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}:(?:/|\\/|%2f){2})[^\s\"'<>]{0,500}@", re.I)
"""What stands before the last `@` of a URL: a password may hold `@` and `/` itself."""
_HEADER = re.compile(r"\b(bearer|basic|negotiate)(\s+|%20|\+)[\w.~+/=%\\-]{4,}", re.I)
_FIELD = re.compile(
    r"((?:api[-_ ]?key|x-api-key|authorization|access[-_]token|auth[-_]token|client[-_]secret|passw(?:or)?d|pwd)"
    r"[\"'\\]*\s*[=:]\s*[\"'\\]*)(?!\s|\*\*\*|bearer|basic)[^\s\"'\\,;&}<]{4,}",
    re.I,
)


def mask_message(text: str, secrets: Iterable[str] = ()) -> str:
    """A message without `secrets`, without those of the environment, and without anything that looks like one."""
    known = (*secrets, *environment_secrets())
    text = _pattern(known, SHORTEST_IN_MESSAGES).sub(MASK, text)
    text = _CREDENTIALS.sub(rf"\1{MASK}@", text)
    return _FIELD.sub(rf"\1{MASK}", _HEADER.sub(rf"\1 {MASK}", text))


def mask_reply(text: str, secrets: Iterable[str]) -> str:
    """A reply without the secrets that were sent for it."""
    known = tuple(secrets)
    if not any(probe in text for probe in _probes(known)):
        return text
    return _pattern(known, SHORTEST).sub(MASK, text)


def environment_secrets(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Values of the variables that are named like secrets, and the credentials of URLs in any variable."""
    found: list[str] = []
    for name, value in (os.environ if environment is None else environment).items():
        if "://" in value:
            found += url_secrets(value)
        elif _SECRET_NAME.match(name) and len(value) >= SHORTEST and not value.startswith(("/", "~", ".")):
            found.append(value)
    return tuple(dict.fromkeys(found))


def url_secrets(url: str) -> list[str]:
    """The password of a URL, and the user with it as a server gets them (`Authorization: Basic ...`)."""
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        return []
    if not user and not password:
        return []
    return [secret for secret in (password or user, base64.b64encode(f"{user}:{password}".encode()).decode()) if secret]


def without_credentials(url: str) -> str:
    """The URL with what stands before its host cut out."""
    scheme, slashes, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}" if slashes else url


class MaskingFormatter(logging.Formatter):
    """A formatter of log lines, tracebacks among them, that masks what looks like a secret."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_message(super().format(record))


@lru_cache(maxsize=64)
def _pattern(secrets: tuple[str, ...], shortest: int) -> re.Pattern[str]:
    """Finds any of the secrets, however it is escaped."""
    wanted = sorted({secret for secret in secrets if len(secret) >= shortest}, key=len, reverse=True)
    forms = [_escaped(secret) for secret in wanted]
    forms += ["".join(map(_base64, code)) for secret in wanted if len(secret) >= SHORTEST for code in _codes(secret)]
    return re.compile("|".join(forms) or r"(?!)")


@lru_cache(maxsize=64)
def _probes(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Texts of which a reply that holds any of the secrets holds at least one: most replies hold none of them."""
    wanted = [secret for secret in secrets if len(secret) >= SHORTEST]
    starts = {re.split(r"[+/]", code, maxsplit=1)[0][:4] for secret in wanted for code in _codes(secret)}
    starts |= {re.split(r"[^\w.-]", secret, maxsplit=1)[0][:4] for secret in wanted}
    return (*sorted(starts), "%", "&", "\\u", "\\x", "\\U") if wanted else ()


def _escaped(secret: str) -> str:
    """A pattern of the secret, or of its first half and some more, each character plain or escaped."""
    characters = [_character(character) for character in secret[:_LONGEST]]
    half = max(SHORTEST, (len(characters) + 1) // 2)
    rest = r"[\w.~+/=%\\-]*" if len(secret) > _LONGEST else ""
    for character in reversed(characters[half:]):
        rest = f"(?:{character}{rest})?"
    return "".join(characters[:half]) + rest


def _character(character: str) -> str:
    """One character as it may stand in HTML, an address, a JSON or Python text."""
    code = ord(character)
    percent = "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    forms = [f"&{name};" for name, meant in _HTML.items() if meant == character]
    forms += [f"(?i:&#0{{0,6}}{code};|&#x0{{0,6}}{code:x};)", f"(?i:{percent})"]
    # Bounded, as all repetitions here: a server may send as many backslashes as it likes.
    forms.append(rf"(?i:\\{{1,8}}(?:u{{?0{{0,6}}|x0{{0,6}}){code:x}}}?)")
    forms.append(re.escape(character) if character.isalnum() else r"\\{0,8}" + re.escape(character))
    return f"(?:{'|'.join(forms)})"


def _codes(secret: str) -> list[str]:
    """The characters that the secret, and nothing else, decides in Base64, wherever in the coded text it begins."""
    data = secret.encode("utf-8", "surrogatepass")
    codes = []
    for before in range(3):  # Base64 reads three bytes at once
        coded = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        codes.append(coded[-(-before * 4 // 3) : len(coded) - bool((before + len(data)) % 3)])
    return codes


def _base64(character: str) -> str:
    return {"+": r"(?:[+-]|%2[Bb])", "/": r"(?:\\?/|_|%2[Ff])"}.get(character, re.escape(character))


_HTML = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
