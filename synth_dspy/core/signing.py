"""Signatures that identify this user's own saved programs and runs, made with a secret that never leaves this machine.

The secret is created at first use in the user's configuration folder, readable by the user only. A signature covers
everything that was written and the workspace that it was made in, so a file that was changed, made by somebody else, or
moved to another workspace or machine does not verify.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any

log = logging.getLogger("synth_dspy.core.signing")

_BYTES = 32


def sign(workspace: Path, *parts: Any) -> str | None:
    """Sign JSON values that were written in a workspace; None if no secret can be stored."""
    secret = _secret(make=True)
    return None if secret is None else _digest(secret, workspace, parts)


def is_own(signature: Any, workspace: Path, *parts: Any) -> bool:
    """Whether a signature was made by this user, on this machine, for these values in this workspace."""
    secret = _secret(make=False)
    if secret is None or not isinstance(signature, str):
        return False
    return hmac.compare_digest(signature.encode(), _digest(secret, workspace, parts).encode())


def _digest(secret: bytes, workspace: Path, parts: tuple[Any, ...]) -> str:
    text = json.dumps([str(workspace.resolve()), *parts], sort_keys=True)
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _secret(*, make: bool) -> bytes | None:
    import platformdirs

    path = Path(platformdirs.user_config_dir("synth_dspy")) / "signing.key"
    try:
        if not path.is_file() and make:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
            try:
                os.link(fresh, path)  # atomic: only one of two processes creates it
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        secret = path.read_bytes()
    except OSError as error:
        if make:
            log.warning("nothing can be signed: %s", error)
        return None
    return secret if len(secret) == _BYTES else None
