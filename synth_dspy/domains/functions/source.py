"""Functions as a task's source: each is an item to generate from and a document to retrieve; labelled calls are rows.

Splits are by function. Functions that labelled examples call together are one group: a function called in training
is never called in the test; it may be offered in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document, Knowledge, Skipped
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.functions.bfcl import BfclItem, read_bfcl
from synth_dspy.domains.functions.examples import INPUTS, calls_of, example_fields, grouped, read_examples, subject_of
from synth_dspy.domains.functions.introspect import read_functions
from synth_dspy.domains.functions.prompts import Turn, show_functions
from synth_dspy.domains.functions.schema import Function
from synth_dspy.domains.functions.syntax import Syntax
from synth_dspy.domains.functions.units import FunctionItem

EXAMPLES = "examples.jsonl"


@dataclass(frozen=True)
class Functions:
    """Documented functions and, optionally, labelled examples of calling them.

    Attributes:
        sample: a folder with modules and `examples.jsonl`, which is read if nothing else is named. Its examples
            show the teacher how people write requests, if the functions have none of their own.
        functions: a module, a folder of modules, or a file of schemas (OpenAPI, OpenAI's tools), instead of the sample.
        examples: labelled examples of calling those functions (JSONL).
        bfcl: a folder with the Berkeley Function Calling Leaderboard's files, instead of either.
        syntax: the syntax of calls: "json" or "python".
    """

    sample: Path
    functions: Path | None = None
    examples: Path | None = None
    bfcl: Path | None = None
    syntax: Syntax = "json"

    def read(self, limit: int | None = None) -> Knowledge:
        """Read the functions; `limit` takes that many groups, in the order of their names' hashes.

        Raises:
            SetupError: nothing can be read, or the labelled examples are malformed.
        """
        if self.bfcl is not None and (self.functions or self.examples):
            raise SetupError("Name either functions of your own or BFCL, not both.")
        if self.examples is not None and self.functions is None:
            raise SetupError(
                f"The labelled examples {self.examples} call functions that were not named: add --task.functions."
            )
        if self.bfcl is not None:
            return replace(_benchmark(self.bfcl, limit, self.syntax), prompts=self._sample_examples())
        registry, skipped = self._own
        path = self.examples if self.functions is not None else self.sample / EXAMPLES
        rows = read_examples(path, registry) if path is not None else []
        groups = grouped(registry, rows)
        kept = set(sorted(set(groups.values()), key=hash_order)[:limit])
        labelled = [self._example(row, registry, groups) for row in rows]
        return Knowledge(
            items=[
                _item(function, groups[function.name])
                for function in registry.values()
                if groups[function.name] in kept
            ],
            labelled=[example for example in labelled if example.group in kept],
            prompts=() if labelled else self._sample_examples(),
            documents=[_document(function) for name, function in registry.items() if groups[name] in kept],
            skipped=skipped,
        )

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled examples of another file about the same functions, or of BFCL's.

        Raises:
            SetupError: a line is malformed, or calls a function that was not read; names line and field.
        """
        if path.is_dir():
            return list(_benchmark(path, limit, self.syntax).labelled)
        registry = self.own()
        rows = read_examples(path, registry)
        groups = grouped(registry, rows)
        return [self._example(row, registry, groups) for row in rows]

    def registry(self) -> dict[str, Function]:
        """The functions by name, with those of the sample, which the examples in the teacher's prompts call."""
        return self._of_sample | self.own()

    def own(self) -> dict[str, Function]:
        """The functions of the task, by name."""
        if self.bfcl is not None:
            items = _benchmark(self.bfcl, None, self.syntax).items
            return {item.id: item.function for item in items if isinstance(item, FunctionItem)}
        return self._own[0]

    @cached_property
    def _own(self) -> tuple[dict[str, Function], list[Skipped]]:
        return _read(self.functions or self.sample)

    @cached_property
    def _of_sample(self) -> dict[str, Function]:
        return _read(self.sample)[0]

    def _sample_examples(self) -> list[dspy.Example]:
        rows = read_examples(self.sample / EXAMPLES, self._of_sample)
        groups = grouped(self._of_sample, rows)
        return [self._example(row, self._of_sample, groups) for row in rows]

    def _example(
        self, row: Mapping[str, Any], registry: Mapping[str, Function], groups: Mapping[str, str]
    ) -> dspy.Example:
        offered = [registry[name] for name in row["functions"]]
        fields = example_fields(
            row["question"],
            calls_of(row["expected"]),
            offered,
            self.syntax,
            accepted=row["expected"],
            conversation=row.get("conversation") or (),
            system=row.get("system") or "",
        )
        about = {"id": row["id"], "group": groups[subject_of(row)], "category": row["category"], "origin": "gold"}
        if "said" in row:  # a call without one argument: for demonstrations of leaving it out
            about["said"] = {"name": subject_of(row), "arguments": row["said"]}
        inputs = [name for name in INPUTS if name in fields]
        return dspy.Example(**about, **fields).with_inputs(*inputs)


def _item(function: Function, group: str) -> FunctionItem:
    return FunctionItem(function.name, group, show_functions([function]), function)


def _document(function: Function) -> Document:
    words = function.name.replace("_", " ").replace(".", " ")
    notes = [f"{name.replace('_', ' ')}: {each.get('description', '')}" for name, each in function.properties.items()]
    text = " ".join([f"{words}.", function.description.strip(), *notes])
    return Document(function.name, words, " ".join(text.split()), function.where or function.name)


@lru_cache(maxsize=4)
def _benchmark(folder: Path, limit: int | None, syntax: Syntax) -> Knowledge:
    """BFCL as knowledge: an item for every name of a function, a labelled example for every turn."""
    functions: dict[str, Function] = {}
    rows: list[dict[str, Any]] = []
    for item in read_bfcl(folder):
        for function in item.functions:
            functions.setdefault(function.name, function)
        rows += _turns(item)
    groups = grouped(functions, rows)
    kept = set(sorted(set(groups.values()), key=hash_order)[:limit])
    labelled = []
    for row in rows:
        group = groups[subject_of(row)]
        if group in kept:
            fields = example_fields(
                row["question"],
                calls_of(row["expected"], _by_name(row["offered"])),
                row["offered"],
                syntax,
                accepted=row["expected"],
                conversation=row["conversation"],
                system=row["system"],
                by_name=False,
            )
            inputs = [name for name in INPUTS if name in fields]
            example = dspy.Example(id=row["id"], group=group, category=row["category"], origin="gold", **fields)
            labelled.append(example.with_inputs(*inputs))
    own = [function for function in functions.values() if groups[function.name] in kept]
    return Knowledge(
        items=[_item(function, groups[function.name]) for function in own],
        labelled=labelled,
        documents=[_document(function) for function in own],
    )


def _turns(item: BfclItem) -> list[dict[str, Any]]:
    """The rows of a BFCL item: one for each turn, with the right calls in the turns before it."""
    rows: list[dict[str, Any]] = []
    before: list[Turn] = []
    system = ""
    for number, (messages, accepted) in enumerate(zip(item.question, item.ground_truth, strict=True)):
        turns = [message for message in messages if message["role"] != "system"]
        system = " ".join([system, *(m["content"] for m in messages if m["role"] == "system")]).strip()
        if accepted is None or not turns:
            continue  # nothing to compare with
        rows.append(
            {
                "id": item.id if len(item.question) == 1 else f"{item.id}/{number + 1}",
                "category": item.category,
                "question": turns[-1]["content"],
                "functions": [function.name for function in item.functions],
                "offered": item.functions,
                "expected": accepted,
                "conversation": [*before, *turns[:-1]],
                "system": system,
            }
        )
        before += [
            *turns,
            {"role": "assistant", "calls": [call.as_json() for call in calls_of(accepted, _by_name(item.functions))]},
        ]
    return rows


def _by_name(functions: Iterable[Function]) -> dict[str, Function]:
    return {function.name: function for function in functions}


def _read(path: Path) -> tuple[dict[str, Function], list[Skipped]]:
    functions, gaps = read_functions(path)
    return _by_name(functions), [Skipped(f"{gap.file}:{gap.line}", _lacks(gap), kept=True) for gap in gaps]


def _lacks(gap: Any) -> str:
    of = f"{gap.function}({gap.parameter})" if gap.parameter else gap.function
    return f"{of} lacks {gap.missing}"
