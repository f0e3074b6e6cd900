"""Exception types. A message is one sentence: what was tried, what went wrong, how to fix it.

SynthDspyError
├── SetupError      the user can fix it: a typo, a missing file, no network (exit status 2, no traceback)
│   ├── BudgetReached   --max-usd or --max-minutes is used up (exit status 4)
│   └── MetricError     a metric of the user's fails, or gives no number from 0 to 1
├── AwaitingReview  a person has to review something first (exit status 3)
├── ArmError        an arm cannot be compiled: the report gives the reason, the other arms continue
└── ModelError      a model call failed for good: the message names the request, the run continues or stops
    └── BusyError       the server had too much to do at every attempt
"""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class SynthDspyError(Exception):
    """Base of every error this package raises on purpose."""


class SetupError(SynthDspyError):
    """Something the user can fix. Commands print the message alone and exit with status 2."""


class NewRunNeeded(SetupError):
    """What a run has read has to change, so that it cannot be resumed: a new run is needed."""


class BudgetReached(SetupError):
    """The run's budget is used up: nothing is lost, and it goes on with more. Commands exit with status 4."""


class MetricError(SetupError):
    """A metric fails, or gives no number from 0 to 1."""


class AwaitingReview(SynthDspyError):
    """A person has to review something first. Commands print the message alone and exit with status 3."""


class ArmError(SynthDspyError):
    """An arm that cannot be compiled here. The report gives the reason; the other arms continue."""


class ModelError(SynthDspyError):
    """A model call that failed after all retries, or that can never succeed."""


class BusyError(ModelError):
    """A model call that was put off at every attempt, since the server has too much to do."""


def message_of(error: BaseException) -> str:
    """An error's message on one line, without memory addresses, which differ from run to run."""
    return _ADDRESS.sub("", " ".join(str(error).split()))


def explain_failure(error: BaseException) -> str:
    """Why something failed, as a sentence for a report."""
    message = message_of(error)
    if isinstance(error, SynthDspyError):
        return message
    return f"An unexpected {type(error).__name__} ended it ({message or 'without a message'}); run.log says where."
