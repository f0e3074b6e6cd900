"""Traces of the program on the trainset: every predictor's prompts, reference replies and sampled replies.

For each example the program runs once with the reference answers in place of the LM's replies (so the prompts are
exactly those that will be served, without any model call if one predictor gives the answer), and `samples` times with
sampled replies of the student, each scored. The rows of all methods are made from these traces; see `rows.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy import lm15
from dspy.utils.callback import BaseCallback

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.protocols import Metric

log = logging.getLogger("synth_dspy.training")

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PredictorCall:
    """One predictor's call: its chat messages as sent to the model, and the reply as the adapter formats it.

    `limit` is the maximum number of reply tokens; None if unknown.
    """

    predictor: str
    messages: tuple[Message, ...]
    reply: str
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the program: its calls in order, the score of its prediction, in [0, 1], and whether it abstained."""

    calls: tuple[PredictorCall, ...]
    score: float
    abstained: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """The runs of one example. `reference` is None if the program failed, or nobody has answered the question."""

    example: dspy.Example
    reference: Attempt | None
    samples: tuple[Attempt, ...] = ()


def collect(
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    *,
    executor: Executor,
    score: Metric,
    samples: int = 0,
    temperature: float = 0.8,
    progress: Callable[[int], None] | None = None,
) -> list[Trace]:
    """Run the program over the examples.

    Args:
        program: the program, whose predictors have LMs; it is not changed.
        examples: examples with the known values of output fields, under the signatures' names.
        executor: runs the examples concurrently.
        score: scores a prediction against its example.
        samples: number of sampled runs per example; a question that nobody has answered (see `is_unanswered`) also
            gets the student's greedy answer as one.
        temperature: sampling temperature.
        progress: called with the number of examples done since the last call.

    Returns:
        A trace for each example, in order; failed runs are left out.
    """

    def trace(example: dspy.Example) -> Trace:
        first = _attempt(program, example, score, None)
        sampled = [_sampled(program, example, score, temperature, index) for index in range(samples)]
        reference, attempts = (None, [first, *sampled]) if is_unanswered(example) else (first, sampled)
        return Trace(example, reference, tuple(attempt for attempt in attempts if attempt is not None))

    outcomes = executor.map(trace, examples, progress=progress)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors:
        log.warning("%d of %d examples could not be traced; the first: %r", len(errors), len(outcomes), errors[0])
        if len(errors) == len(outcomes):
            raise errors[0]
    return [
        Trace(example, None) if outcome.error is not None else outcome.unwrap()
        for example, outcome in zip(examples, outcomes, strict=True)
    ]


def is_unanswered(example: dspy.Example) -> bool:
    """Whether a question has no reference, which differs from one whose right answer is to abstain."""
    return bool(example.get("unanswered"))


def prediction_of(program: dspy.Module, example: dspy.Example, predictor: str, reply: str) -> dspy.Prediction | None:
    """What the program makes of a model's reply to one of its predictors; None if it cannot read it.

    Other predictors ask their LMs.
    """
    from dspy.utils.exceptions import AdapterParseError

    own = program.deepcopy()
    recorder = _Replay({id(each): name for name, each in own.named_predictors()}, example, predictor, reply)
    for each, theirs in zip(own.predictors(), program.predictors(), strict=True):
        each.lm = _forced(theirs.lm, recorder)
    try:
        with dspy.context(callbacks=[*dspy.settings.callbacks, recorder]):
            return own(**example.inputs())
    except AdapterParseError:
        return None


def prompts(program: dspy.Module, examples: Sequence[dspy.Example], executor: Executor) -> list[tuple[Message, ...]]:
    """The program's prompts for each example, without model calls where the outputs are known."""
    traces = collect(program, examples, executor=executor, score=lambda example, prediction, trace=None: 1.0)
    return [call.messages for trace in traces if trace.reference for call in trace.reference.calls]


def _sampled(
    program: dspy.Module, example: dspy.Example, score: Metric, temperature: float, index: int
) -> Attempt | None:
    """One sampled run; None if it failed, which is logged."""
    try:
        return _attempt(program, example, score, (temperature, index))
    except SetupError:
        raise  # it would fail every call
    except Exception as error:
        log.warning("a sample of %s failed: %r", example.get("id"), error)
        return None


def _attempt(
    program: dspy.Module, example: dspy.Example, score: Metric, sampled: tuple[float, int] | None
) -> Attempt | None:
    """One run: with the reference answers, or sampled with (temperature, index)."""
    from dspy.utils.exceptions import AdapterParseError

    own = program.deepcopy()
    recorder = _Recorder({id(predictor): name for name, predictor in own.named_predictors()}, example)
    for predictor in own.predictors():
        if sampled is None:
            predictor.lm = _forced(predictor.lm, recorder)
        else:
            predictor.lm = predictor.lm.copy(temperature=sampled[0], rollout_id=sampled[1] + 1)
    try:
        with dspy.context(callbacks=[*dspy.settings.callbacks, recorder]):
            prediction = own(**example.inputs())
    except AdapterParseError:  # an empty or malformed reply
        return None
    return Attempt(tuple(recorder.calls), float(score(example, prediction)), bool(prediction.get("abstained")))


def _forced(lm: dspy.LM, recorder: _Recorder) -> dspy.LM:
    engine = _Reference(lm.engine, recorder)
    return lm.copy(engine=engine, cache=False)  # the answer is the example's, not the LM's


class _Reference:
    """An engine that replies with the reference answer, or calls the model if there is none."""

    def __init__(self, inner: Any, recorder: _Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def complete(self, request: lm15.Request) -> lm15.Response:
        text = self._recorder.reference(request.config.max_tokens)
        if text is None:
            response: lm15.Response = self._inner.complete(request)
            return response
        message = lm15.Message.assistant([lm15.TextPart(text)])
        usage = lm15.Usage(input_tokens=0, output_tokens=0)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


@dataclass(slots=True)
class _OpenCall:
    call_id: str
    predictor: str
    adapter: Any = None
    signature: Any = None
    messages: tuple[Message, ...] = ()
    limit: int | None = None


class _Recorder(BaseCallback):
    """A callback that records one run of a program on one example; DSPy calls it in the run's thread."""

    def __init__(self, predictors: dict[int, str], example: dspy.Example) -> None:
        self._predictors = predictors
        self._example = example
        self._open: list[_OpenCall] = []
        self.calls: list[PredictorCall] = []

    def reference(self, limit: int | None) -> str | None:
        """The reference reply of the running predictor, or None if the example lacks a value; records its limit."""
        if not self._open:
            return None
        open_call = self._open[-1]
        open_call.limit = limit
        values = self._example.toDict()
        names = list(open_call.signature.output_fields)
        if any(values.get(name) is None for name in names):
            return None
        outputs = {name: values[name] for name in names}
        return str(open_call.adapter.format_assistant_message_content(open_call.signature, outputs))

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if id(instance) in self._predictors:
            self._open.append(_OpenCall(call_id, self._predictors[id(instance)]))

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if not self._open or self._open[-1].call_id != call_id:
            return
        open_call = self._open.pop()
        if exception is None and outputs is not None and open_call.adapter is not None:
            reply = open_call.adapter.format_assistant_message_content(open_call.signature, dict(outputs))
            self.calls.append(PredictorCall(open_call.predictor, open_call.messages, str(reply), open_call.limit))

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        # DSPy calls this once for each class that wraps `format`; only the outermost call has named arguments.
        if self._open and "signature" in inputs:
            self._open[-1].adapter, self._open[-1].signature = instance, inputs["signature"]

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if self._open and exception is None:
            self._open[-1].messages = tuple(dict(message) for message in outputs)


class _Replay(_Recorder):
    """Gives one predictor a reply; see `prediction_of`."""

    def __init__(self, predictors: dict[int, str], example: dspy.Example, predictor: str, reply: str) -> None:
        super().__init__(predictors, example)
        self._predictor, self._reply = predictor, reply

    def reference(self, limit: int | None) -> str | None:
        return self._reply if self._open and self._open[-1].predictor == self._predictor else None
