"""One pass over the trainset: what every predictor was asked, what it should have said, and what the student said.

A trace holds the program run once with the reference answers put into the LM's mouth (so that prompts are exactly
those that will be served, at no call where one predictor gives the answer), and `samples` times as the student
answers by itself, each scored. Every method's rows are made from these traces; see `rows.py`.
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
    """One predictor's call: its chat messages as the model is sent them, and the reply as the adapter writes it.

    `limit` are the most tokens that the model was allowed for it; None: not known.
    """

    predictor: str
    messages: tuple[Message, ...]
    reply: str
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of the program: its calls, in order, and the score of what came of them, in [0, 1]."""

    calls: tuple[PredictorCall, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Trace:
    """What one example gave. `reference` is None where the program could not be run to its end."""

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
    """Run the program over the examples, its LM set on every predictor.

    Args:
        program: an uncompiled or compiled program; it is not changed.
        examples: with the values of the outputs that are known, under the signatures' names.
        executor: runs many examples at once.
        score: of a prediction against its example.
        samples: how often the student answers each by itself.
        temperature: of those answers.
        progress: called with the number of examples done since the last call.

    Returns:
        A trace for each example, in their order; a run that fails is left out of its trace.
    """

    def trace(example: dspy.Example) -> Trace:
        reference = _attempt(program, example, score, None)
        sampled = [_sampled(program, example, score, temperature, index) for index in range(samples)]
        return Trace(example, reference, tuple(attempt for attempt in sampled if attempt is not None))

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


def prompts(program: dspy.Module, examples: Sequence[dspy.Example], executor: Executor) -> list[tuple[Message, ...]]:
    """The prompts that the program makes of each example: no model is asked where its answer is known."""
    traces = collect(program, examples, executor=executor, score=lambda example, prediction, trace=None: 1.0)
    return [call.messages for trace in traces if trace.reference for call in trace.reference.calls]


def _sampled(
    program: dspy.Module, example: dspy.Example, score: Metric, temperature: float, index: int
) -> Attempt | None:
    """One answer of the student; None, and a line in the log, where it failed."""
    try:
        return _attempt(program, example, score, (temperature, index))
    except SetupError:
        raise  # true of every call
    except Exception as error:
        log.warning("a sample of %s failed: %r", example.get("id"), error)
        return None


def _attempt(
    program: dspy.Module, example: dspy.Example, score: Metric, sampled: tuple[float, int] | None
) -> Attempt | None:
    """One run: sampled at a temperature with a rollout id, or with the reference answers."""
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
    except AdapterParseError:  # a reply that says nothing
        return None
    return Attempt(tuple(recorder.calls), float(score(example, prediction)))


def _forced(lm: dspy.LM, recorder: _Recorder) -> dspy.LM:
    engine = _Reference(lm.engine, recorder)
    return lm.copy(engine=engine, cache=False)  # the answer is the example's


class _Reference:
    """An engine that gives the reference answer where there is one, and asks the model where there is none."""

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
class _Open:
    call_id: str
    predictor: str
    adapter: Any = None
    signature: Any = None
    messages: tuple[Message, ...] = ()
    limit: int | None = None


class _Recorder(BaseCallback):
    """Listens to one run of a program on one example; DSPy calls it in the run's own thread."""

    def __init__(self, predictors: dict[int, str], example: dspy.Example) -> None:
        self._predictors = predictors
        self._example = example
        self._open: list[_Open] = []
        self.calls: list[PredictorCall] = []

    def reference(self, limit: int | None) -> str | None:
        """What the predictor under way, allowed so many tokens, should say, if the example knows."""
        if not self._open:
            return None
        now = self._open[-1]
        now.limit = limit
        known = self._example.toDict()
        names = list(now.signature.output_fields)
        if any(known.get(name) is None for name in names):
            return None
        outputs = {name: known[name] for name in names}
        return str(now.adapter.format_assistant_message_content(now.signature, outputs))

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if id(instance) in self._predictors:
            self._open.append(_Open(call_id, self._predictors[id(instance)]))

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if not self._open or self._open[-1].call_id != call_id:
            return
        done = self._open.pop()
        if exception is None and outputs is not None and done.adapter is not None:
            reply = done.adapter.format_assistant_message_content(done.signature, dict(outputs))
            self.calls.append(PredictorCall(done.predictor, done.messages, str(reply), done.limit))

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        # DSPy announces a format once for each class that wraps it; only the outermost names its arguments.
        if self._open and "signature" in inputs:
            self._open[-1].adapter, self._open[-1].signature = instance, inputs["signature"]

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if self._open and exception is None:
            self._open[-1].messages = tuple(dict(message) for message in outputs)
