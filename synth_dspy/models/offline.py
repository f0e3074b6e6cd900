"""Keep the libraries quiet: no network and no telemetry in a run that uses embedded models only.

The switches are environment variables that the libraries read when they are first imported, so `quiet_libraries()`
must run before any of them is; it imports nothing heavy itself and never overrides what the user has set. (OpenVINO
has no such variable: its converter, which reports to its makers, is not used.)
"""

from __future__ import annotations

import os

# Set always: none of these libraries' calls home is any use to a run.
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
    "WANDB_DISABLED": "true",
}
# Set where only embedded models are used: then a hub look-up can only be a mistake.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def quiet_libraries(*, offline: bool = False) -> None:
    """Switch off the libraries' telemetry and background downloads; what the environment already says stays.

    Args:
        offline: Also forbid the model hub, for runs that use embedded models only. Fetching weights from a hub
            (`python -m synth_dspy.weights pull`) needs it to be False.
    """
    for name, value in {**_QUIET, **(_OFFLINE if offline else {})}.items():
        os.environ.setdefault(name, value)
