"""Versions of the packages that results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("synth_dspy", "dspy", "chromadb", "openvino-genai", "litellm", "transformers", "torch", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python and of the installed packages, by name."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed
