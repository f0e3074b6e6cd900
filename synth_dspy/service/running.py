"""Runs a program on a request's inputs; what comes of it can be sent from one process to another."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import dspy
from dspy.utils.exceptions import ContextWindowExceededError
from pydantic_core import to_jsonable_python

from synth_dspy.core.errors import ModelError, SetupError, message_of
from synth_dspy.core.executor import LEAN
from synth_dspy.core.masking import mask_message
from synth_dspy.core.text import as_text
from synth_dspy.core.usage import measure
from synth_dspy.service.corrections import Corrections
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.inputs import Inputs, Shape

_OWN = frozenset({"answer", "abstained", "passages"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program made of a request.

    Attributes:
        inputs: as they were given to the program, as JSON; None where they are wrong, whether that was seen before the
            program was called or by itself: such a request is not kept, since it says nothing about the program.
        outputs: what the program returns besides answer, passages and whether it abstained, as JSON.
        cost_usd: None where a model has no price.
        truncated: whether a reply that it was made from was cut off at the token limit.
        error: what failed, for those who run the service.
        status, message, param: the same for the caller.
    """

    inputs: Mapping[str, Any] | None
    answer: str = ""
    abstained: bool = False
    passages: tuple[str, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    truncated: bool = False
    error: str | None = None
    status: int = 200
    message: str = ""
    param: str | None = None

    def refusal(self, request: str) -> ServiceError | None:
        """What the caller is told if there is no answer."""
        if self.status == 200:
            return None
        named = f" (request {request})" if self.status >= 500 else ""
        return ServiceError(self.status, f"{self.message}{named}", param=self.param)

    @classmethod
    def failed(cls, inputs: Mapping[str, Any] | None, error: BaseException) -> Outcome:
        """Of a program that raised an error, by which it may have refused its inputs."""
        status, message = _for_caller(error)
        if status < 500:
            return cls(None, status=status, message=message)
        detail = mask_message(f"{type(error).__name__}: {message_of(error)}")[:2000]
        return cls(inputs, error=detail, status=status, message=message)


class Opened(Protocol):
    """A program that is ready to answer."""

    @property
    def shape(self) -> Shape: ...

    def ask(self, given: Any) -> Future[Outcome]:
        """What it makes of a request's JSON; the future never fails."""
        ...

    def check_answer(self, text: str) -> Future[str | None]:
        """What is wrong with a corrected answer, as a sentence; the future never fails."""
        ...


class OpenHere:
    """A program in this process.

    Args:
        program: the program.
        threads: where it runs.
    """

    def __init__(self, program: dspy.Module, threads: ThreadPoolExecutor) -> None:
        self._program, self._threads = program, threads
        self._inputs = Inputs(program)
        corrections = Corrections(program)
        self.problem_with = corrections.problem_with
        self.shape = replace(self._inputs.shape, typed=corrections.typed, choices=corrections.choices)

    def ask(self, given: Any) -> Future[Outcome]:
        """See `Opened`."""
        return self._threads.submit(self.ask_now, given)

    def check_answer(self, text: str) -> Future[str | None]:
        """See `Opened`."""
        return self._threads.submit(self.problem_with, text)

    def ask_now(self, given: Any) -> Outcome:
        """The same in the caller's thread."""
        return run(self._program, self._inputs, given)


def run(program: dspy.Module, inputs: Inputs, given: Any) -> Outcome:
    """Check a request's JSON, and call the program."""
    try:
        checked = inputs.check(given)
    except ServiceError as error:
        return Outcome(None, status=error.status, message=error.message, param=error.param)
    asked = to_jsonable_python(checked, fallback=str)
    try:
        with dspy.settings.context(**LEAN), measure() as usage:
            fields = dict(program(**checked).items())
        return Outcome(
            asked,
            answer=as_text(fields.get("answer", "")),
            abstained=bool(fields.get("abstained", False)),
            passages=tuple(map(str, fields.get("passages") or ())),
            outputs={key: to_jsonable_python(value, fallback=str) for key, value in fields.items() if key not in _OWN},
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd if usage.calls else None,
            truncated=usage.truncated > 0,
        )
    except Exception as error:  # the task's own code may raise anything
        return Outcome.failed(asked, error)


def _for_caller(error: BaseException) -> tuple[int, str]:
    """Status and sentence for a failure of the program."""
    message = mask_message(message_of(error))[:500]
    if isinstance(error, ContextWindowExceededError):
        return 422, "The inputs are too long for the model."
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return 422, message
    if isinstance(error, ModelError | SetupError):
        return 502, message
    return 500, f"The program failed with {type(error).__name__}"
