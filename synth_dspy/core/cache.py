"""The project's cache folder: weights, converted models, copies of what lies in S3."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """The cache folder: `SYNTH_DSPY_HOME`, else `synth_dspy` in the user's cache folder."""
    home = os.environ.get("SYNTH_DSPY_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("synth_dspy"))
