"""What can go wrong, as types. One sentence each: what was tried, what was found, how to mend it.

SynthDspyError
├── SetupError      the user can mend it: a typo, a missing file, no network (exit status 2, no traceback)
├── ArmError        an arm cannot be made: the report names the reason, the other arms go on
└── ModelError      a model call failed for good: the request is named, the run goes on or stops with its ledger
"""

from __future__ import annotations


class SynthDspyError(Exception):
    """Base of every error this package raises on purpose."""


class SetupError(SynthDspyError):
    """Something the user can mend. Verbs print the message alone and exit with status 2."""


class ArmError(SynthDspyError):
    """An arm that cannot be made here. A finding for the report; the other arms go on."""


class ModelError(SynthDspyError):
    """A model call that failed for good: after its retries, or because the request can never succeed."""
