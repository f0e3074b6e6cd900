"""Turns off the libraries' telemetry, and their network access in runs with embedded models only.

The libraries read these environment variables when they are first imported, so `quiet_libraries()` must run before
that. It imports nothing heavy and never overrides what the user has set. (OpenVINO has no such variable; its converter,
which sends telemetry, is not used.)
"""

from __future__ import annotations

import os

# Always set.
_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "CHROMA_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",  # several libraries honour it
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # the fetcher draws its own
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the first call waits for a download (25 s without a network)
    "LITELLM_TELEMETRY": "False",
    "OTEL_SDK_DISABLED": "true",  # Chroma carries an OpenTelemetry exporter
    "TOKENIZERS_PARALLELISM": "false",  # else it warns after a fork, and its threads fight the model's for the cores
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",  # its version is pinned
    "WANDB_DISABLED": "true",
}
# Set if only embedded models are used: then the model hub is never needed.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def quiet_libraries(*, offline: bool = False) -> None:
    """Turn off the libraries' telemetry and background downloads; variables that are set already are kept.

    Args:
        offline: Also forbid access to the model hub, for runs with embedded models only; must be False for fetching
            weights from a hub (`python -m synth_dspy.weights pull`).
    """
    for name, value in {**_QUIET, **(_OFFLINE if offline else {})}.items():
        os.environ.setdefault(name, value)
