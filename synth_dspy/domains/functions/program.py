"""Parts of the function-calling program: finds functions to show, executes calls, constrains and parses replies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from synth_dspy.core.protocols import Embedder, Retriever
from synth_dspy.domains.functions.details import what_it_does
from synth_dspy.domains.functions.examples import resolve
from synth_dspy.domains.functions.replay import RecordedSandbox
from synth_dspy.domains.functions.sandbox.run import Outcome, Sandbox
from synth_dspy.domains.functions.schema import Call, Function, calls_schema
from synth_dspy.domains.functions.syntax import Syntax, parse, render
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.models.grammar.constraints import CALL_TOKEN, grammar_format, python_calls_grammar
from synth_dspy.models.roles import EMBEDDED

SHOWN = 6
"""The most functions that are shown: the most relevant ones."""


class Finder:
    """The functions to show for a question, the most relevant first.

    The order helps a small model, which chooses worse than the embedder: that ranks the right function first in 46 of
    the sample's 50 requests with several functions on offer.

    Args:
        registry: functions by name.
        retriever: the index of their descriptions; None ranks with the embedder.
        embedder: ranks functions that are not in an index.
        most: the most functions that are shown.
    """

    def __init__(
        self, registry: Mapping[str, Function], retriever: Retriever | None, embedder: Embedder, most: int = SHOWN
    ) -> None:
        self.registry = dict(registry)
        self.retriever = retriever
        self.embedder = embedder
        self.most = most
        self._vectors: dict[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> Finder:
        return self  # copies of a program search the same functions

    def __call__(self, question: str, available: Sequence[Any] | None) -> list[Function]:
        """Functions to show, the best first: from those offered, or from all."""
        if available is None and self.retriever is not None:
            return self._searched(question)
        offered = resolve(self.registry if available is None else available, self.registry)
        if len(offered) < 2:
            return offered
        texts = [what_it_does(function) for function in offered]
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, self.embedder.embed(new), strict=True))
        scores = np.stack([self._vectors[text] for text in texts]) @ self.embedder.embed([question])[0]
        # Rounded: the last digits depend on what is embedded in the same batch, and must not change the order.
        return [offered[i] for i in np.argsort(-scores.round(5), kind="stable")[: self.most]]

    def _searched(self, question: str) -> list[Function]:
        assert self.retriever is not None
        words = 40 * self.most
        while True:
            passages = self.retriever.search(question, None, words)
            names = list(dict.fromkeys(p.document for p in passages if p.document in self.registry))
            if len(names) >= self.most or words > 5000:
                return [self.registry[name] for name in names[: self.most]]
            words *= 4  # their descriptions are long


class Workshop:
    """Executes calls of functions of several modules, each in its own sandbox; results feed nested calls.

    Within a run, outcomes go through its ledger: a resumed run does not repeat them.

    Args:
        functions: the functions; those without a `target` cannot be executed.
        only_read_only: refuse functions that are not marked read-only.
    """

    def __init__(self, functions: Iterable[Function], only_read_only: bool = True) -> None:
        self._module: dict[str, Path] = {}
        by_module: dict[Path, list[Function]] = {}
        for function in functions:
            if function.target:
                module = Path(function.target.rpartition(":")[0])
                self._module[function.name] = module
                by_module.setdefault(module, []).append(function)
        self._functions = by_module
        self._only_read_only = only_read_only
        self._sandboxes: dict[Path, RecordedSandbox] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> Workshop:
        return self  # copies of a program share the child processes

    def run(self, calls: Sequence[Call], again: int = 0) -> list[Outcome]:
        """The outcome of each call; if a nested call fails, that call's outcome.

        Args:
            calls: the calls, which may be nested.
            again: the number of this execution of the same calls: a run's ledger has a separate outcome for each.
        """
        return [self._run(call, again) for call in calls]

    def close(self) -> None:
        """End the child processes."""
        for sandbox in self._sandboxes.values():
            sandbox.close()
        self._sandboxes.clear()

    def _run(self, call: Call, again: int) -> Outcome:
        arguments: dict[str, Any] = {}
        for name, value in call.arguments.items():
            if isinstance(value, Call):
                fed = self._run(value, again)
                if not fed.ok:
                    return fed
                value = fed.result
            arguments[name] = value
        module = self._module.get(call.name)
        if module is None:
            return Outcome(stopped=f"not run: {call.name} is not a function that can be called")
        with self._lock:
            if module not in self._sandboxes:
                sandbox = Sandbox(module, self._functions[module], only_read_only=self._only_read_only)
                self._sandboxes[module] = RecordedSandbox(sandbox)
        return self._sandboxes[module].run([Call(call.name, arguments)], again)[0]


def constraint(
    functions: Sequence[Function], syntax: Syntax, max_tokens: int, *, embedded: bool = True, call_token: str = ""
) -> dict[str, Any]:
    """The `response_format` that allows only valid calls of these functions, or `[]`.

    Embedded models write the list itself, in either syntax, after the call token if there is one; servers require an
    object: `{"calls": [...]}` in JSON, which `CallsAdapter` reads.
    """
    schema = calls_schema(functions, most=4, nested=1 if len(functions) > 1 else 0)
    if not embedded:
        return json_format("calls", in_object("calls", schema))
    if call_token:
        schema[CALL_TOKEN] = call_token
    if syntax == "python":
        return grammar_format(python_calls_grammar(schema, max_tokens), call_token)
    return json_format("calls", schema)


def is_embedded(predictor: dspy.Predict) -> bool:
    """Whether a predictor's model runs in this process, where a grammar may begin with any text."""
    lm = predictor.lm or dspy.settings.lm
    return str(getattr(lm, "model", "")).startswith(EMBEDDED)


def json_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` of a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(schema)}}


def in_object(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with one property; definitions stay at the root."""
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    fields = {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}
    return {**fields, **definitions}


class CallsAdapter(PlainAdapter):
    """Converts a server's `{"calls": [...]}` to the list that demonstrations show, and handles the call token.

    Args:
        syntax: the syntax of the list.
        call_token: the possible beginning of a reply that is not an empty list; the program's own fields lack it.
        shown: whether demonstrations and training rows begin with it. A server is asked for an object, which has
            no place for it; a model that was tuned with it may write it all the same if no schema is enforced.
    """

    def __init__(self, syntax: Syntax, call_token: str = "", *, shown: bool = True) -> None:
        super().__init__()
        self.syntax: Syntax = syntax
        self.call_token = call_token
        self.shown = shown

    def format_assistant_message_content(
        self, signature: Any, outputs: Mapping[str, Any], missing_field_message: str | None = None
    ) -> str:
        text = super().format_assistant_message_content(signature, outputs, missing_field_message)
        return f"{self.call_token}{text}" if self.shown and text.startswith("[") and text != "[]" else text

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        parsed = super().parse(signature, completion)
        return {name: self._unwrapped(text.removeprefix(self.call_token).strip()) for name, text in parsed.items()}

    def _unwrapped(self, text: str) -> str:
        try:
            value = json.loads(text)
            if isinstance(value, dict) and isinstance(value.get("calls"), list):
                return render(parse(json.dumps(value["calls"]), "json"), self.syntax) if value["calls"] else "[]"
        except (ValueError, RecursionError):  # not JSON, or not calls: the program reports it
            pass
        return text
