"""Functions as a task's source: each is an item to generate from and a document to find, and labelled calls are rows.

What a program is shown of functions and of a conversation is written here, once: labelled examples carry it as their
evidence, so that a demonstration is what the program itself would be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import dspy

from synth_dspy import jsonl
from synth_dspy.corpus.documents import Document, Skipped
from synth_dspy.corpus.splits import hash_order
from synth_dspy.errors import SetupError
from synth_dspy.functions.bfcl import OMITTED, BfclItem, accepted_form, read_bfcl
from synth_dspy.functions.introspect import read_functions
from synth_dspy.functions.openapi import function_of
from synth_dspy.functions.schema import Call, Function, validate
from synth_dspy.functions.syntax import Syntax, annotation, render
from synth_dspy.task import Item, Knowledge

EXAMPLES = "examples.jsonl"
INPUTS = ("question", "available", "conversation", "system")
CALL = "call"
_LONG = 16  # characters of a type that is not written twice
Turn = Mapping[str, Any]
"""One turn of a conversation: `role` (user, assistant or tool) with `content`, or `calls` that the assistant made."""


@dataclass(frozen=True)
class Functions:
    """Documented functions and, where there are some, labelled examples of calling them.

    Attributes:
        sample: a folder with modules and `examples.jsonl`; what is read when nothing else is named, and whose examples
            show the teacher how people ask where the functions have none of their own.
        functions: a module, a folder of modules, or a file of schemas (OpenAPI, OpenAI's tools), instead of the sample.
        examples: labelled examples of calling those functions (JSONL).
        bfcl: the Berkeley Function Calling Leaderboard's files, as a folder, instead of either.
        syntax: what calls are written in: "json" or "python".
    """

    sample: Path
    functions: Path | None = None
    examples: Path | None = None
    bfcl: Path | None = None
    syntax: Syntax = "json"

    def read(self, limit: int | None = None) -> Knowledge:
        """Read the functions; `limit` takes that many groups in an order that their names' hashes give.

        Raises:
            SetupError: nothing can be read, or the labelled examples are not as they should be.
        """
        if self.bfcl is not None and (self.functions or self.examples):
            raise SetupError("Name either functions of your own or BFCL, not both.")
        if self.examples is not None and self.functions is None:
            raise SetupError(
                f"The labelled examples {self.examples} call functions that were not named: add --task.functions."
            )
        if self.bfcl is not None:
            return replace(_benchmark(self.bfcl, limit, self.syntax), prompts=self._sample_examples())
        functions, skipped = _read(self.functions or self.sample)
        known = {function.name: function for function in functions}
        path = self.examples if self.functions is not None else self.sample / EXAMPLES
        rows = read_examples(path, known) if path is not None else []
        groups = grouped(known, rows)
        kept = set(sorted(set(groups.values()), key=hash_order)[:limit])
        labelled = [self._example(row, known, groups) for row in rows]
        return Knowledge(
            items=[_item(function, groups[function.name]) for function in functions if groups[function.name] in kept],
            labelled=[example for example in labelled if example.group in kept],
            prompts=() if labelled else self._sample_examples(),
            documents=[_document(function) for function in functions if groups[function.name] in kept],
            skipped=skipped,
        )

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled examples of another file about the same functions, or of BFCL's.

        Raises:
            SetupError: a line is not as it should be, or calls a function that is not read; names line and field.
        """
        if path.is_dir():
            return list(_benchmark(path, limit, self.syntax).labelled)
        known = self.own()
        rows = read_examples(path, known)
        groups = grouped(known, rows)
        return [self._example(row, known, groups) for row in rows]

    def known(self) -> dict[str, Function]:
        """The functions by name, those of the sample too: examples for prompting the teacher call them."""
        return _by_name(_read(self.sample)[0]) | self.own()

    def own(self) -> dict[str, Function]:
        """The functions that are called, by name."""
        if self.bfcl is not None:
            return {item.id: item.meta["function"] for item in _benchmark(self.bfcl, None, self.syntax).items}
        return _by_name(_read(self.functions or self.sample)[0])

    def _sample_examples(self) -> list[dspy.Example]:
        known = _by_name(_read(self.sample)[0])
        rows = read_examples(self.sample / EXAMPLES, known)
        groups = grouped(known, rows)
        return [self._example(row, known, groups) for row in rows]

    def _example(
        self, row: Mapping[str, Any], known: Mapping[str, Function], groups: Mapping[str, str]
    ) -> dspy.Example:
        offered = [known[name] for name in row["functions"]]
        fields = example_fields(
            row["question"],
            calls_of(row["expected"]),
            offered,
            self.syntax,
            accepted=row["expected"],
            conversation=row.get("conversation") or (),
            system=row.get("system") or "",
        )
        group = groups[_subject(row)]
        return dspy.Example(id=row["id"], group=group, category=row["category"], origin="gold", **fields).with_inputs(
            *(name for name in INPUTS if name in fields)
        )


# -- rows -------------------------------------------------------------------------------------------------------------


def example_fields(
    question: str,
    calls: Sequence[Call],
    offered: Sequence[Function],
    syntax: Syntax,
    *,
    accepted: Sequence[Mapping[str, Any]] | None = None,
    conversation: Sequence[Turn] = (),
    system: str = "",
    by_name: bool = True,
) -> dict[str, Any]:
    """The fields of a row: the program's inputs, what its predictor is shown and should say, what it is scored by.

    Args:
        question: the last message of the user.
        calls: what it should lead to; none where no function fits or an argument is missing.
        offered: the functions to choose from.
        syntax: what calls are written in.
        accepted: the accepted values of every argument, in BFCL's form; by default those of `calls`.
        conversation: the turns before the question.
        system: rules on when to call.
        by_name: name the functions, which the program then knows; False describes them in full.
    """
    known = {function.name: function for function in offered}
    if accepted is None:
        accepted = [accepted_form(call, known[call.name]) for call in calls]
    available: list[Any] = [*known] if by_name else [tool(function) for function in offered]
    answer = render(calls, "json")
    return {
        "question": question,
        "available": available,
        **({"conversation": [dict(turn) for turn in conversation]} if conversation else {}),
        **({"system": system} if system else {}),
        "functions": show_functions(offered),
        "request": show_request(question, conversation, syntax),
        "calls": render(calls, syntax),
        "answer": answer,
        "references": [answer] if calls else [],
        "expected": {"calls": [dict(each) for each in accepted], "functions": available},
        "answer_type": CALL,
    }


def calls_of(accepted: Iterable[Mapping[str, Any]], known: Mapping[str, Function] | None = None) -> list[Call]:
    """The calls of which these are the accepted values: of each argument the first value.

    Args:
        accepted: calls in BFCL's form.
        known: functions by name: an argument that one of them requires is not left out.
    """
    return [
        Call.from_json({"name": name, "arguments": _first(arguments, _required(name, known or {}))})
        for each in accepted
        for name, arguments in each.items()
    ]


def _required(name: str, known: Mapping[str, Function]) -> tuple[str, ...]:
    return known[name].required if name in known else ()


def _first(accepted: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """Of each list of accepted values the first, also of the fields of objects; nothing where that is `OMITTED`."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping) and "$call" not in value:
            return _first(value)
        return [plain(each) for each in value] if isinstance(value, list) else value

    first = {}
    for key, values in accepted.items():
        values = values if isinstance(values, list) else [values]  # in some of BFCL's objects the value itself
        if key in required:
            values = [value for value in values if value != OMITTED] or values
        if values and (values[0] != OMITTED or key in required):
            first[key] = plain(values[0])
    return first


def read_examples(path: Path, known: Mapping[str, Function]) -> list[dict[str, Any]]:
    """Labelled examples, checked against the functions they call.

    Raises:
        SetupError: a line is not as it should be; names the file, the line and the field.
    """
    rows = jsonl.read_rows(
        path,
        {"id": jsonl.ID, "category": jsonl.FILLED, "question": jsonl.FILLED, "functions": jsonl.FILLED_TEXTS,
         "expected": jsonl.OBJECTS},
        optional={"conversation": jsonl.OBJECTS, "system": jsonl.TEXT, "group": jsonl.FILLED},
        unique="id",
    )  # fmt: skip
    for number, row in enumerate(rows, start=1):
        place = f"{path}, example {number} ({row['id']})"
        unknown = [name for name in [*row["functions"], row.get("group") or row["functions"][0]] if name not in known]
        if unknown:
            raise SetupError(f"{place}: {unknown[0]} is none of the functions that are read; name the file it is in.")
        try:
            calls = calls_of(row["expected"])
        except (ValueError, AttributeError, IndexError, TypeError) as error:
            raise SetupError(
                f'{place}: field \'expected\' is not as it should be ({error}); write [{{"name": {{"argument": '
                "[accepted values]}}]."
            ) from error
        problems = [problem for call in calls for problem in validate(call, [known[name] for name in row["functions"]])]
        if problems:
            raise SetupError(f"{place}: field 'expected' does not fit the functions: {problems[0]}.")
    return rows


def grouped(known: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The group of each function: those that labelled examples call together are on one side of every split.

    A group is named by its first function.
    """
    names = list(known)
    group = {name: name for name in names}
    for row in rows:
        together = {group[name] for call in calls_of(row["expected"]) for name in _names(call)} & set(group.values())
        if len(together) > 1:
            first = min(together, key=names.index)
            group = {name: first if each in together else each for name, each in group.items()}
    return group


def _subject(row: Mapping[str, Any]) -> str:
    """The function that a row is about: the one called, or the first of those that should not be."""
    calls = calls_of(row["expected"])
    return calls[0].name if calls else str(row.get("group") or row["functions"][0])


def _names(call: Call) -> list[str]:
    return [call.name, *(each.name for each in call.inner())]


# -- what is shown ----------------------------------------------------------------------------------------------------


def show_functions(functions: Iterable[Function]) -> str:
    """Functions as a small model is shown them: a signature and a sentence each, notes where a type says little."""
    return "\n".join(_line(function) for function in functions)


def show_request(question: str, conversation: Sequence[Turn], syntax: Syntax) -> str:
    """A question with the turns before it."""
    if not conversation:
        return question
    lines = []
    for turn in conversation:
        if "calls" in turn:
            calls = [call if isinstance(call, Call) else Call.from_json(call) for call in turn["calls"]]
            lines.append(f"Assistant: {render(calls, syntax)}")
        else:
            name = {"tool": "Result"}.get(str(turn["role"]), str(turn["role"]).capitalize())
            lines.append(f"{name}: {' '.join(str(turn['content']).split())}")
    return "\n".join([*lines, f"User: {question}"])


def tool(function: Function) -> dict[str, Any]:
    """A function as a row carries it in full: `name`, `description`, `parameters`."""
    return {"name": function.name, "description": function.description, "parameters": dict(function.parameters)}


def resolve(available: Iterable[Any], known: Mapping[str, Function]) -> list[Function]:
    """The functions that a row offers, by name or in full.

    Raises:
        SetupError: a name is not known.
    """
    functions = []
    for each in available:
        if isinstance(each, Function):
            functions.append(each)
        elif isinstance(each, Mapping):
            functions.append(function_of(each))
        elif each in known:
            functions.append(known[each])
        else:
            raise SetupError(f"There is no function {each!r}; those known are {', '.join(sorted(known)[:12])}.")
    return functions


def first_sentence(text: str) -> str:
    """The first sentence of a description, without its full stop."""
    flat = " ".join(text.split())
    return flat.split(". ")[0].split("; ")[0].rstrip(".")


def _line(function: Function) -> str:
    definitions = function.parameters.get("$defs") or {}
    kinds: list[str] = []
    parts, notes = [], []
    for name, schema in function.properties.items():
        kind = annotation(schema, definitions).replace('"', "")
        if len(kind) > _LONG and kind in kinds:  # from_unit and to_unit: tokens are what a small model has least of
            kind = f"as {list(function.properties)[kinds.index(kind)]}"
        kinds.append(kind)
        optional = "" if name in function.required else "?"
        parts.append(f"{name}{optional}: {kind}")
        if kind in ("str", "str | None", "Any") and schema.get("description"):
            notes.append(f"{name}: {first_sentence(str(schema['description']))}.")
    return f"{function.name}({', '.join(parts)}) {' '.join([first_sentence(function.description) + '.', *notes])}"


def _item(function: Function, group: str) -> Item:
    return Item(function.name, group, show_functions([function]), {"function": function})


def _document(function: Function) -> Document:
    words = function.name.replace("_", " ").replace(".", " ")
    notes = [f"{name.replace('_', ' ')}: {each.get('description', '')}" for name, each in function.properties.items()]
    text = " ".join([f"{words}.", function.description.strip(), *notes])
    return Document(function.name, words, " ".join(text.split()), function.where or function.name)


@lru_cache(maxsize=4)
def _benchmark(folder: Path, limit: int | None, syntax: Syntax) -> Knowledge:
    """BFCL as knowledge: an item for every name of a function, an example for every turn."""
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
        group = groups[_subject(row)]
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
    """The rows of a BFCL item: one for each turn, after the turns before as they should have gone."""
    rows, before = [], []
    system = ""
    for number, (messages, accepted) in enumerate(zip(item.question, item.ground_truth, strict=True)):
        said = [message for message in messages if message["role"] != "system"]
        system = " ".join([system, *(m["content"] for m in messages if m["role"] == "system")]).strip()
        if accepted is None or not said:
            continue  # nothing to compare with
        rows.append(
            {
                "id": item.id if len(item.question) == 1 else f"{item.id}/{number + 1}",
                "category": item.category,
                "question": said[-1]["content"],
                "functions": [function.name for function in item.functions],
                "offered": item.functions,
                "expected": accepted,
                "conversation": [*before, *said[:-1]],
                "system": system,
            }
        )
        before += [
            *said,
            {"role": "assistant", "calls": [call.as_json() for call in calls_of(accepted, _by_name(item.functions))]},
        ]
    return rows


def _by_name(functions: Iterable[Function]) -> dict[str, Function]:
    return {function.name: function for function in functions}


@lru_cache(maxsize=8)
def _read(path: Path) -> tuple[tuple[Function, ...], tuple[Skipped, ...]]:
    functions, gaps = read_functions(path)
    return tuple(functions), tuple(Skipped(f"{gap.file}:{gap.line}", _lacks(gap)) for gap in gaps)


def _lacks(gap: Any) -> str:
    of = f"{gap.function}({gap.parameter})" if gap.parameter else gap.function
    return f"{of} lacks {gap.missing}"
