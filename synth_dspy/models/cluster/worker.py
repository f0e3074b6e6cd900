"""A worker: a process of a Ray cluster that holds models of its own and answers one call after the other.

It keeps nothing: the driver has the ledger, the seeds and the order of the calls. Errors are returned, not raised, so
that Ray does not wrap them.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import platform
from collections.abc import Mapping
from types import MappingProxyType

import dspy
from dspy import lm15

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.masking import mask_message
from synth_dspy.core.usage import ModelCall
from synth_dspy.core.versions import versions
from synth_dspy.models import roles
from synth_dspy.models.embedded.fingerprint import names_in_keys


class Worker:
    """What runs in a worker's process."""

    def __init__(self) -> None:
        self._lms: dict[str, dspy.LM] = {}

    async def ready(self) -> tuple[str, dict[str, str]]:
        """The machine's name, and the versions of the packages there."""
        return platform.node(), versions()

    async def open(self, spec: str, environment: Mapping[str, str]) -> Exception | None:
        """Open the model of a role.

        Args:
            spec: arguments of `lm_for`, as JSON.
            environment: variables with the keys that it needs. They come as an argument, because Ray writes the
                environment of a `runtime_env` to its logs.
        """
        os.environ.update(environment)
        try:
            if spec not in self._lms:
                self._lms[spec] = roles.lm_for(**json.loads(spec))
        except Exception as error:
            return portable(error)
        return None

    async def check(self, spec: str, model: str) -> Exception | None:
        """Load an embedded model; see `roles.check`."""
        try:
            await asyncio.to_thread(roles.check, self._lms[spec].copy(model=model))
        except Exception as error:
            return portable(error)
        return None

    async def answer(
        self, spec: str, weights: str | None, request: lm15.Request, call: ModelCall
    ) -> ModelCall | Exception:
        """The answered call, or what it failed with.

        Args:
            spec: as given to `open`.
            weights: the content of the driver's weights (see `names_in_keys`), for an embedded model.
            request: what is asked.
            call: the call without its answer.
        """
        try:
            if weights is not None and (here := names_in_keys(request.model)[0]) != weights:
                raise SetupError(
                    f"The worker on {platform.node()} has other weights than this machine under {request.model} "
                    f"({here}, not {weights}): copy them there, or keep them in a folder that all machines share."
                )
            answered: ModelCall = await self._lms[spec].engine.ask_async(request, call)
        except Exception as error:
            return portable(error)
        return answered


def portable(error: Exception) -> Exception:
    """The error if it can be sent to another process, else its message."""
    for name, value in vars(error).items():
        if isinstance(value, MappingProxyType):  # lm15 keeps a reply's headers so, which cannot be pickled
            setattr(error, name, dict(value))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return ModelError(mask_message(f"{type(error).__name__}: {error}"))
    return error
