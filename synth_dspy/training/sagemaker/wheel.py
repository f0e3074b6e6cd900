"""A wheel of this package as it is installed here, so that a container runs the same code as this machine."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from synth_dspy.core.errors import SetupError

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every file, so that the same code makes the same wheel."""


def build_wheel(folder: Path) -> Path:
    """Write the wheel of this package: its files here, with the metadata that it was installed with.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/

    Args:
        folder: where to write it.

    Returns:
        The wheel's path.

    Raises:
        SetupError: the package is not installed, so that its requirements are unknown.
    """
    try:
        installed = distribution("synth_dspy")
    except PackageNotFoundError:
        raise SetupError(
            "A training job needs the package's requirements, and it is not installed here: `pip install -e .` in its "
            "folder."
        ) from None
    root = Path(__file__).parents[2]
    files = {
        f"synth_dspy/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    information = f"synth_dspy-{installed.version}.dist-info"
    files[f"{information}/METADATA"] = (installed.read_text("METADATA") or "").encode()
    files[f"{information}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: synth_dspy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{information}/RECORD"] = "\n".join([*record, f"{information}/RECORD,,", ""]).encode()
    wheel = folder / f"synth_dspy-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return wheel


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
