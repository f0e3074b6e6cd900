"""Addresses of model servers, and what may be sent to them."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import mask_message


def setting(name: str, role: str | None = None) -> str:
    """A setting of a model's server in all its spellings: the argument's in Python, and the flags of the commands.

    Args:
        name: of the setting.
        role: whose options it is among when a run is compiled; None: it is of all models.
    """
    flag, options = name.replace("_", "-"), f"options.{role}." if role else ""
    return f"{name} (--models.{options}{flag} when compiling, else --{flag})"


def is_this_machine(address: str) -> bool:
    """Whether the address is on this machine (loopback)."""
    host = _host(address)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_plain_http(address: str, key_name: str, *, role: str, allowed: bool) -> None:
    """Refuse to send a key over an unencrypted connection.

    Args:
        address: the server's address.
        key_name: the environment variable that holds the key.
        role: the role of the model: student, teacher, judge or embedder.
        allowed: whether the user allows it (`allow_http`).

    Raises:
        SetupError: the address starts with `http://`, is on another machine, and `allowed` is false.
    """
    if allowed or not address.lower().startswith("http://") or is_this_machine(address):
        return
    other = f"unset {key_name}"  # the embedder's has one name only
    if role != "embedder":
        name = setting("api_key_name", role)
        other = f"name another variable (one that is not set sends no key) with {name}"
    raise SetupError(
        f"The key in {key_name} would be sent unencrypted to {mask_message(address)}: use https://, {other}, or allow "
        f"it with {setting('allow_http')}."
    )


def refuse_credentials(address: str | None) -> str | None:
    """Return the address if it is safe to store: a run keeps and shows its configuration.

    Raises:
        ValueError: it contains a user, a password, a query or a fragment.
    """
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        credentials = "@" in parts.netloc or "@" in address.partition("://")[2]
    except ValueError:
        raise ValueError("it is not a valid address, such as http://127.0.0.1:8000/v1") from None
    if credentials:
        raise ValueError(
            "an address in a configuration must not contain a user or a password; put a key into an environment "
            "variable and name that with api_key_name, or put the whole address into OPENAI_API_BASE"
        )
    if parts.query or parts.fragment:
        raise ValueError("an address must not contain ? or #; write it like http://127.0.0.1:8000/v1")
    return address


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
