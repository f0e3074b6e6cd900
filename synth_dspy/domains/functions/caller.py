"""The function-calling program: finds the relevant functions, writes calls, and optionally executes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy

from synth_dspy.core.errors import ModelError
from synth_dspy.core.resources import Resources
from synth_dspy.domains.functions.conversation import History, RunningSummary, prune
from synth_dspy.domains.functions.program import SHOWN, CallsAdapter, Finder, Workshop, constraint, is_embedded
from synth_dspy.domains.functions.prompts import Turn, show_functions, show_request
from synth_dspy.domains.functions.schema import Call, CallSyntaxError, Function
from synth_dspy.domains.functions.source import Functions
from synth_dspy.domains.functions.syntax import Syntax, parse, render, tool_messages, tools_json

MAX_TOKENS = 128


class CallFunctions(dspy.Signature):
    """Write the calls of the functions that do what is requested, as a list. Take every value from the request. Leave
    the list empty if no function fits, if a value that is needed was not said, or if nothing is requested."""

    functions: str = dspy.InputField()
    request: str = dspy.InputField()
    calls: str = dspy.OutputField()


class FunctionCaller(dspy.Module):
    """Find the relevant functions, write calls constrained by their schemas, and optionally execute them.

    Args:
        resources: the retriever, the embedder and the most words of a conversation.
        source: the functions that can be called.
        history: how a conversation that is too long is shortened.
        most: the most functions that are shown: the most relevant ones.
        constrained: allow only valid calls; without it, a benchmark also sees invented names and arguments.
        call_token: the beginning of an embedded model's reply that calls something. Servers are asked for
            an object, which has no place for it.
        only_read_only: refuse to execute calls that change something.
    """

    def __init__(
        self,
        resources: Resources,
        source: Functions,
        history: History = "prune",
        *,
        most: int = SHOWN,
        constrained: bool = True,
        call_token: str = "",
        only_read_only: bool = True,
    ) -> None:
        super().__init__()
        registry = source.own()
        self.syntax: Syntax = source.syntax
        self.words, self.constrained, self.call_token = resources.words, constrained, call_token
        self.finder = Finder(registry, resources.retriever, resources.embedder, most)
        self.workshop = Workshop(registry.values(), only_read_only)
        self.shortened = RunningSummary() if history == "summary" else None
        self.prunes = history == "prune"
        self.call = dspy.Predict(CallFunctions)

    def forward(
        self,
        question: str,
        available: Sequence[Any] | None = None,
        conversation: Sequence[Turn] = (),
        system: str = "",
        execute: bool = False,
    ) -> dspy.Prediction:
        """The calls that fulfil the request.

        Args:
            question: the user's last message.
            available: the functions that can be called, by name or as schemas; None searches all functions.
            conversation: the earlier turns.
            system: text put before the instructions.
            execute: execute the calls.

        Returns:
            `answer` (the calls as JSON), `calls` (as the model wrote them), `functions` (those shown), `results` (the
            outcomes of what was executed) and `abstained`.

        Raises:
            ModelError: the reply calls a function that was not shown, although decoding was constrained.
        """
        offered = self._offered(question, available, conversation)
        turns = self._fitting(conversation, question)
        signature = self.call.signature
        if system:
            signature = signature.with_instructions(f"{system}\n\n{signature.instructions}")
        with dspy.context(adapter=CallsAdapter(self.syntax, self.call_token, shown=is_embedded(self.call))):
            prediction = self.call(
                signature=signature,
                functions=show_functions(offered),
                request=show_request(question, turns, self.syntax),
                config={"max_tokens": MAX_TOKENS, **self._constraint(offered)},
            )
        try:
            calls = parse(prediction.calls, self.syntax, offered)
        except CallSyntaxError:  # an unconstrained model's, or a reply cut off at the token limit: a wrong answer
            return dspy.Prediction(
                answer=prediction.calls, calls=prediction.calls, functions=offered, results=[], abstained=False
            )
        if self.constrained:
            _only_shown(calls, offered)
        results = [outcome.as_json() for outcome in self.workshop.run(calls)] if execute else []
        return dspy.Prediction(
            answer=render(calls, "json"),
            calls=prediction.calls,
            functions=offered,
            results=results,
            abstained=not calls,
        )

    def _offered(self, question: str, available: Sequence[Any] | None, turns: Sequence[Turn]) -> list[Function]:
        """The functions to show; the user's previous message is part of the query."""
        before = [turn["content"] for turn in turns if turn["role"] == "user"]
        return self.finder(" ".join([*before[-1:], question]), available)

    def _constraint(self, offered: Sequence[Function]) -> dict[str, Any]:
        if not self.constrained:
            return {}
        embedded, token = is_embedded(self.call), self.call_token
        return {"response_format": constraint(offered, self.syntax, MAX_TOKENS, embedded=embedded, call_token=token)}

    def chat_row(self, example: dspy.Example, call: Any) -> dict[str, Any]:
        """A training row for a model's own chat template: functions as `tools`, calls as `tool_calls`."""
        before, question = example.get("conversation") or [], example.question
        offered = self._offered(question, example.get("available"), before)
        reply = {"role": "assistant", "calls": parse(example.calls, self.syntax, offered)}
        turns = [*before, {"role": "user", "content": question}, reply]
        return {"tools": tools_json(offered), "messages": tool_messages(turns, example.get("system") or "")}

    def _fitting(self, turns: Sequence[Turn], question: str) -> list[Turn]:
        if self.shortened is not None:
            return list(self.shortened(turns, self.words))
        return prune(turns, question, self.finder.embedder.embed, self.words) if self.prunes else list(turns)


def _only_shown(calls: Sequence[Call], shown: Sequence[Function]) -> None:
    """Refuse calls that the grammar would have refused: as references, they would teach what the prompt does not show.

    Raises:
        ModelError: a call is of a function that was not shown.
    """
    names = [function.name for function in shown]
    called = [each.name for call in calls for each in (call, *call.inner())]
    if unknown := [name for name in called if name not in names]:
        raise ModelError(f"The reply calls {unknown[0]}, which is not one of the functions shown: {', '.join(names)}.")
