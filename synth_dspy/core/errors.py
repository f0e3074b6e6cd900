"""What can go wrong, as types. One sentence each: what was tried, what was found, how to mend it.

SynthDspyError
├── SetupError      the user can mend it: a typo, a missing file, no network (exit status 2, no traceback)
├── AwaitingReview  a person is to look at something first (exit status 3)
├── ArmError        an arm cannot be made: the report names the reason, the other arms go on
└── ModelError      a model call failed for good: the request is named, the run goes on or stops with its ledger
"""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class SynthDspyError(Exception):
    """Base of every error this package raises on purpose."""


class SetupError(SynthDspyError):
    """Something the user can mend. Verbs print the message alone and exit with status 2."""


class AwaitingReview(SynthDspyError):
    """The work waits for a person, who is told what to do. Verbs print the message alone and exit with status 3."""


class ArmError(SynthDspyError):
    """An arm that cannot be made here. A finding for the report; the other arms go on."""


class ModelError(SynthDspyError):
    """A model call that failed for good: after its retries, or because the request can never succeed."""


def message_of(error: BaseException) -> str:
    """An error's message on one line, without the addresses of objects: they differ from run to run."""
    return _ADDRESS.sub("", " ".join(str(error).split()))


def explain_failure(error: BaseException) -> str:
    """Why something failed, as a sentence for a report: this package's own, or what another library raised."""
    message = message_of(error)
    if isinstance(error, SynthDspyError):
        return message
    return f"An unexpected {type(error).__name__} ended it ({message or 'without a message'}); run.log says where."
