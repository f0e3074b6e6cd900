"""Addresses of model servers: what may be sent where."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import mask_message


def is_this_machine(address: str) -> bool:
    """Whether what is sent to the address stays on this machine."""
    host = _host(address)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_plain_http(address: str, key_name: str, *, role: str, allowed: bool) -> None:
    """Refuse to send a key where everyone on the way can read it.

    Args:
        address: of the server that is sent the key.
        key_name: the environment variable that holds it.
        role: whose model it is.
        allowed: whether the user has allowed it.

    Raises:
        SetupError: the address begins with `http://`, is not this machine's, and it is not allowed.
    """
    if allowed or not address.lower().startswith("http://") or is_this_machine(address):
        return
    options = f"--models.options.{role}.api_key_name" if role != "embedder" else "OPENAI_API_KEY"
    raise SetupError(
        f"The key in {key_name} would be sent unencrypted to {mask_message(address)}: use https://, name another "
        f"variable (one that is not set sends no key) with {options}, or allow it with --models.allow-http."
    )


def refuse_credentials(address: str | None) -> str | None:
    """An address that a configuration may hold, which is stored and shown with every run.

    Raises:
        ValueError: it holds a user or a password, or more than a server and a path.
    """
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        credentials = "@" in parts.netloc or "@" in address.partition("://")[2]
    except ValueError:
        raise ValueError("it is not an address, such as http://127.0.0.1:8000/v1") from None
    if credentials:
        raise ValueError(
            "an address in a configuration holds no user and no password; put a key into an environment variable and "
            "name that with api_key_name, or the whole address into OPENAI_API_BASE"
        )
    if parts.query or parts.fragment:
        raise ValueError("it is an address without ? and #, such as http://127.0.0.1:8000/v1")
    return address


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
