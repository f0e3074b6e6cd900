"""The versions a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("synth_dspy", "dspy", "chromadb", "openvino-genai", "litellm", "transformers", "torch", "numpy")


def versions() -> dict[str, str]:
    """Installed versions by package, and Python's."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
