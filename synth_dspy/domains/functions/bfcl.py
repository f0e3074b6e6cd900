"""The Berkeley Function Calling Leaderboard (BFCL v4): its items in this package's format.

Patil et al., "The Berkeley Function Calling Leaderboard (BFCL): From Tool Use to Agentic Evaluation of Large Language
Models", ICML 2025; https://gorilla.cs.berkeley.edu/leaderboard.html. Read from one file per category, as the publisher
writes them (`BFCL_v4_<category>.json`, with `possible_answer/` beside) or with the answers in each row
(`<category>.jsonl`, `ground_truth`); in both, `multi_turn_func_doc/` describes the functions of multi-turn items.

Accepted calls are in BFCL's format, turn by turn: `{name: {argument: [accepted values]}}`, where "" means that
the argument may be left out, and each field of an object has a list of accepted values of its own. Its Python
categories are read; those in Java and JavaScript are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import ID, OBJECTS, Check, read_rows
from synth_dspy.domains.functions.canonical import canonical
from synth_dspy.domains.functions.schema import Call, CallSyntaxError, Function
from synth_dspy.domains.functions.syntax import parse

CATEGORIES = (
    "simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance", "live_simple", "live_multiple",
    "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance", "multi_turn_base",
    "multi_turn_miss_param", "multi_turn_long_context",
)  # fmt: skip
OMITTED = ""
"""Among accepted values: the argument may be left out."""
EMPTY = [OMITTED, OMITTED]
"""Accepted values of an argument that must be the empty string: in BFCL's format a single "" means something else."""

_DOCS = "multi_turn_func_doc"
_DOC_OF = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
_LIST: Check = lambda value: None if isinstance(value, list) else "make it a list"  # noqa: E731


@dataclass(frozen=True, slots=True)
class BfclItem:
    """One item.

    Attributes:
        id: BFCL's.
        category: one of `CATEGORIES`.
        question: the messages of each turn, with `role` and `content`; one turn unless multi-turn.
        functions: the functions offered.
        ground_truth: for each turn the accepted calls; empty if nothing should be called; None if something
            should be, and any call counts (live_relevance).
    """

    id: str
    category: str
    question: tuple[tuple[Mapping[str, str], ...], ...]
    functions: tuple[Function, ...]
    ground_truth: tuple[tuple[Mapping[str, Any], ...] | None, ...]


def read_bfcl(folder: Path, categories: Sequence[str] = ()) -> list[BfclItem]:
    """Read items, in the order of `CATEGORIES` and of the files.

    Args:
        folder: The folder of the files.
        categories: The categories to read; by default all that are there.

    Raises:
        SetupError: A category is unknown or missing, or a file is malformed; names file, line and field.
    """
    unknown = [name for name in categories if name not in CATEGORIES]
    if unknown:
        raise SetupError(f"{unknown[0]!r} is not a category that can be read; there are {', '.join(CATEGORIES)}.")
    files = {name: path for name in CATEGORIES if (path := _file_of(folder, name)) is not None}
    missing = [name for name in categories if name not in files]
    if missing or not files:
        what = missing[0] if missing else "<category>"
        raise SetupError(f"{folder} holds no {what}.jsonl and no BFCL_v4_{what}.json: name the folder of BFCL's files.")
    return [item for name, path in files.items() if not categories or name in categories for item in _items(path, name)]


def accepted_form(call: Call, function: Function) -> dict[str, Any]:
    """A call in BFCL's format, accepting only itself, except that an optional argument's default may be left out."""
    accepted = {key: accepted_values(value) for key, value in call.as_json()["arguments"].items()}
    for name, schema in function.properties.items():
        if name in function.required:
            continue
        default = None if schema.get("default") == "None" else schema.get("default")  # as BFCL's documents write it
        if name not in accepted:
            accepted[name] = [OMITTED] if default in (None, OMITTED) else [OMITTED, *accepted_values(default)]
        elif default is not None and default == call.arguments[name]:
            accepted[name].append(OMITTED)
    return {call.name: accepted}


def accepted_values(value: Any) -> list[Any]:
    """The list of accepted values with this one (JSON) alone, and with such a list for each field inside."""
    return list(EMPTY) if value == OMITTED else [_fields_listed(value)]


def may_be_left_out(accepted: Sequence[Any]) -> bool:
    """Whether accepted values allow leaving the argument out."""
    return OMITTED in accepted and list(accepted) != EMPTY


def _fields_listed(value: Any) -> Any:
    if isinstance(value, Mapping) and "$call" not in value:
        return {key: accepted_values(each) for key, each in value.items()}
    return [_fields_listed(each) for each in value] if isinstance(value, list) else value


def _file_of(folder: Path, category: str) -> Path | None:
    return next((p for p in (folder / f"{category}.jsonl", folder / f"BFCL_v4_{category}.json") if p.is_file()), None)


def _items(path: Path, category: str) -> Iterable[BfclItem]:
    multi_turn = category.startswith("multi_turn")
    fields = {"id": ID, "question": _LIST, **({"involved_classes": _LIST} if multi_turn else {"function": OBJECTS})}
    rows = read_rows(path, fields, unique="id")
    answers = _answers(path, category, rows)
    docs: dict[str, list[Function]] = {}
    for row in rows:
        place = f"{path}, {row['id']}"
        functions = _offered(path.parent / _DOCS, row, docs) if multi_turn else _functions(row["function"], place)
        turns = answers[row["id"]] if multi_turn else [answers[row["id"]]]
        yield BfclItem(
            str(row["id"]),
            category,
            tuple(tuple(turn) for turn in row["question"]),
            tuple(functions),
            tuple(_accepted(turn, functions, place) for turn in turns),
        )


def _answers(path: Path, category: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The ground truth of each item, by its id."""
    if category.endswith("relevance"):  # "irrelevance" as well
        answer: list[Any] | None = [] if category.endswith("irrelevance") else None
        return dict.fromkeys((row["id"] for row in rows), answer)
    answers = {row["id"]: row["ground_truth"] for row in rows if "ground_truth" in row}
    answer_file = path.parent / "possible_answer" / path.name
    if len(answers) < len(rows) and answer_file.is_file():
        answers |= {row["id"]: row["ground_truth"] for row in read_rows(answer_file, {"id": ID, "ground_truth": _LIST})}
    lacking = [row["id"] for row in rows if row["id"] not in answers]
    if lacking:
        raise SetupError(f"{path}: {lacking[0]} has no ground_truth, nor {answer_file}; add the publisher's answers.")
    return answers


def _functions(descriptions: Iterable[Mapping[str, Any]], place: str) -> list[Function]:
    try:
        return [
            Function(str(each["name"]), str(each.get("description", "")), canonical(each.get("parameters") or {}))
            for each in descriptions
        ]
    except (KeyError, ValueError) as error:
        raise SetupError(f"{place}: a function is not described as in BFCL: {error}.") from None


def _offered(folder: Path, row: Mapping[str, Any], docs: dict[str, list[Function]]) -> list[Function]:
    """The functions of a multi-turn item's classes; `docs` caches what was read."""
    functions = []
    for name in row["involved_classes"]:
        if name not in docs:
            path = folder / f"{_DOC_OF.get(name, name)}.json"
            docs[name] = _functions(read_rows(path, {}), str(path))
        functions += docs[name]
    excluded = row.get("excluded_function") or ()
    return [function for function in functions if function.name not in excluded]


def _accepted(turn: Any, functions: Sequence[Function], place: str) -> tuple[Mapping[str, Any], ...] | None:
    """A turn's accepted calls; those of multi-turn items are written as Python."""
    if turn is None:
        return None
    registry = {function.name: function for function in functions}
    accepted: list[Mapping[str, Any]] = []
    for each in turn:
        if isinstance(each, str):
            try:
                (call,) = parse(each, "python", functions)
                each = accepted_form(call, registry[call.name])
            except (CallSyntaxError, KeyError, ValueError) as error:
                raise SetupError(f"{place}: the accepted call {each!r} cannot be read: {error}.") from None
        if not isinstance(each, Mapping) or not all(isinstance(values, Mapping) for values in each.values()):
            shown = json.dumps(each)[:60]
            raise SetupError(f"{place}: the accepted call {shown} is not {{name: {{argument: [...]}}}}.")
        accepted.append(each)
    return tuple(accepted)
