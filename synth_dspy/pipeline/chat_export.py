"""Exports datasets: chat-format JSON lines, checked line by line, and a Hugging Face dataset card.

A line is `{"messages": [{"role": "system" | "user" | "assistant", "content": ...}, ...]}` with the row's other fields.
A system message comes first or not at all, user and assistant take turns, and the last message is the assistant's: the
format that TRL, Axolotl, Unsloth and the hosted fine-tuning services read.

With function calls, a row also has `tools` (OpenAI's format), the assistant's message has `tool_calls` and no content,
and messages of the role "tool" have the results: a model's own chat template renders all three. A program makes such
rows with a method `chat_row(example, call) -> {"messages": ..., "tools": ...}`, which returns None for a call to export
as it was sent; `tool_messages` helps it.

    chat/train.jsonl validation.jsonl test.jsonl README.md
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.config import Models
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import refuse_to_overwrite, write_whole
from synth_dspy.core.io.jsonl import read_rows
from synth_dspy.core.io.reading import parse_json, read_part
from synth_dspy.pipeline.trust import Caller

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.executor import Executor

Row = dict[str, Any]
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
"""A run's splits, and the Hub's names for them."""
CARD = "README.md"
ROLES = ("system", "user", "assistant", "tool")
_BEFORE = {"user": ("", "assistant", "tool"), "assistant": ("user", "tool"), "tool": ("calls", "tool")}
"""What each role may follow; "" is the beginning, "calls" an assistant's message with calls."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "n>1M"


def problem(messages: Any) -> str | None:
    """An error in a row's messages, as the end of a sentence, or None."""
    if not isinstance(messages, list) or not messages:
        return "messages must be a list that is not empty"
    for number, message in enumerate(messages, start=1):
        calls = "tool_calls" in message if isinstance(message, dict) else False
        if not isinstance(message, dict) or set(message) - {"tool_calls"} != {"role", "content"}:
            return f"message {number} must have a role and a content, and nothing else but tool_calls"
        if message["role"] not in ROLES:
            return f"message {number} has the role {message['role']!r}; the roles are {', '.join(ROLES)}"
        if calls and (message["role"] != "assistant" or message["content"] != "" or not _are_calls(message)):
            return f"message {number}: tool_calls are an assistant's, with empty content, each a name and arguments"
        if not isinstance(message["content"], str) or not (calls or message["content"].strip()):
            return f"message {number} ({message['role']}) is empty"
    turns = [message["role"] for message in messages]
    dialogue = messages[1:] if turns[0] == "system" else messages
    turns = turns[len(turns) - len(dialogue) :]
    before = ""
    for turn, message in zip(turns, dialogue, strict=True):
        allowed = _BEFORE.get(turn, ())
        if before not in allowed and not (before == "calls" and "assistant" in allowed):
            return "after the system message, user and assistant must take turns, the user first; tools follow calls"
        before = "calls" if "tool_calls" in message else turn
    if not turns or turns[-1] != "assistant":
        return "the assistant must have the last word"
    return None


def tools_problem(messages: Sequence[Row], tools: Any) -> str | None:
    """An error in a row's tools, or a call of a function that is not among them, or None.

    Args:
        messages: the row's, already checked.
        tools: the row's, or None.
    """
    if tools is not None and not (isinstance(tools, list) and all(map(_is_tool, tools))):
        return "tools must be a list of functions, each with a name, a description and parameters"
    tool_names = {tool["function"]["name"] for tool in tools or ()}
    called = [call["function"]["name"] for message in messages for call in message.get("tool_calls", ())]
    unknown = next((name for name in called if name not in tool_names), None)
    return None if unknown is None else f"{unknown!r} is called and is not among the tools"


def write_chat(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows with `messages`, one per line; the file is complete or not written.

    Returns:
        How many rows.

    Raises:
        SetupError: a row is malformed, or the file cannot be written.
    """
    lines = []
    for number, row in enumerate(rows, start=1):
        if wrong := _row_problem(row):
            raise SetupError(f"Row {number} ({row.get('id', 'without id')}) cannot be written to {path}: {wrong}.")
        lines.append(json.dumps(dict(row), ensure_ascii=False) + "\n")
    try:
        write_whole(path, "".join(lines))
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror or error}; free some space or rights.") from error
    return len(lines)


def chat_rows(program: dspy.Module, examples: Sequence[dspy.Example], executor: Executor) -> list[Row]:
    """The calls that a program makes for labelled examples, with the reference answers as replies.

    Prompts are exactly those that the program sends, instructions and demonstrations included; no model is called if
    the example has the predictor's output. An example that fails is left out. A program's `chat_row` takes precedence;
    see above.

    Args:
        program: a program with its LM set.
        examples: examples with the program's inputs and its predictors' outputs.
        executor: runs examples concurrently.
    """
    from synth_dspy.training.traces import collect

    traces = collect(program, examples, executor=executor, score=lambda example, prediction, trace=None: 1.0)
    rows = []
    for trace in traces:
        for call in trace.reference.calls if trace.reference else ():
            own = program.chat_row(trace.example, call) if hasattr(program, "chat_row") else None
            if own is not None:
                rows.append({**_identity(trace.example), "predictor": call.predictor, **own})
                continue
            messages = [{"role": str(each["role"]), "content": _text(each["content"])} for each in call.messages]
            messages.append({"role": "assistant", "content": call.reply})
            rows.append({**_identity(trace.example), "predictor": call.predictor, "messages": messages})
    return [row for row in rows if _row_problem(row) is None]


def dataset_card(splits: Mapping[str, Sequence[Row]], about: Mapping[str, Any]) -> str:
    """A dataset card for the Hugging Face Hub: YAML metadata, then a description.

    Args:
        splits: rows by split; each is in `<name>.jsonl`.
        about: `name`, `task`, `license` (an identifier of the Hub, or "other"), `language`, `teacher`, `description`,
            `notes` (sentences); all but the name may be missing.
    """
    total = sum(map(len, splits.values()))
    size = next((name for bound, name in _SIZES if total < bound), _LARGEST)
    metadata = [
        "---",
        f"pretty_name: {json.dumps(str(about['name']), ensure_ascii=False)}",
        f"license: {about.get('license') or 'other'}",
        "language:",
        f"- {about.get('language') or 'en'}",
        "task_categories:",
        "- text-generation",
        "tags:",
        "- synthetic",
        "- chat",
        "- dspy",
        "size_categories:",
        f"- {size}",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    for name in splits:
        metadata += [f"  - split: {name}", f"    path: {name}.jsonl"]
    parts = ["\n".join([*metadata, "---"]), f"# {about['name']}"]
    if about.get("description"):
        parts.append(str(about["description"]))
    origin = [f"Task: `{about['task']}`." if about.get("task") else ""]
    origin.append(f"Synthetic rows were written by `{about['teacher']}` and filtered." if about.get("teacher") else "")
    parts.append(" ".join(["Made with synth_dspy.", *filter(None, origin)]))
    parts.append(
        "Each line has `messages` (system, user and assistant; the assistant's last message is the target), "
        "`tools` if functions can be called, and "
        "`id`, `group`, `category` and `origin` (gold: labelled by people; synthetic). Splits are by group: no group "
        "is in two of them."
    )
    parts.append(_table(["split", "rows", "gold", "synthetic", "groups"], [_counts(n, r) for n, r in splits.items()]))
    for title, field in (("Groups", "group"), ("Categories", "category")):
        counts = Counter(str(row.get(field) or "(none)") for rows in splits.values() for row in rows)
        parts.append(f"## {title}\n\n" + _table([field, "rows"], [[name, str(n)] for name, n in counts.most_common()]))
    if about.get("notes"):
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in about["notes"]))
    return "\n\n".join(parts) + "\n"


def write_dataset(folder: Path, splits: Mapping[str, Sequence[Row]], about: Mapping[str, Any]) -> dict[str, int]:
    """Write every split and the card.

    Returns:
        Rows of each split; splits without rows are not written.

    Raises:
        SetupError: as for `write_chat`, or there are no rows.
    """
    filled = {name: rows for name, rows in splits.items() if rows}
    if not filled:
        raise SetupError(f"There is nothing to write to {folder}: no row of the run can be exported as a chat.")
    counts = {name: write_chat(folder / f"{name}.jsonl", rows) for name, rows in filled.items()}
    try:
        write_whole(folder / CARD, dataset_card(filled, about))
    except OSError as error:
        raise SetupError(f"{folder / CARD} cannot be written: {error.strerror or error}.") from error
    return counts


def export_run(
    program: Path,
    out: Path,
    *,
    license: str = "other",
    workspace: Path | None = None,
    force: bool = False,
    caller: Caller | None = None,
) -> dict[str, int]:
    """Export a finished run's rows with the prompts of one of its saved programs.

    Args:
        program: `runs/<task>/<id>/programs/<arm>`. The rows have its prompts: a tuned arm's may be short.
        out: the folder to write.
        license: the data's, as the Hub names it.
        workspace: the folder with the program's declaration.
        force: overwrite an earlier export; files of splits that are now empty are removed.
        caller: what a program that somebody else made is allowed.

    Raises:
        SetupError: the program or its run cannot be read, or `out` has such files already.
    """
    from synth_dspy.core.executor import Executor
    from synth_dspy.pipeline import saved
    from synth_dspy.pipeline.datasets import from_row

    files = {name: out / f"{name}.jsonl" for name in SPLITS.values()}
    refuse_to_overwrite([*files.values(), out / CARD], force=force)
    folder = program.expanduser().resolve()
    run = folder.parents[1]
    module = saved.open_program(folder, caller or Caller(), workspace=workspace)
    splits: dict[str, list[Row]] = {}
    for name, called in SPLITS.items():
        path = run / "datasets" / f"{name}.jsonl"
        rows = read_rows(path, {}) if path.is_file() and path.stat().st_size else []
        splits[called] = chat_rows(module, [from_row(row) for row in rows], Executor()) if rows else []
    about = parse_json(read_part(folder / saved.ABOUT))
    facts = {
        "name": f"{about['task']} ({run.name})",
        "task": about["task"],
        "teacher": about["config"].get("models", {}).get("teacher", Models().teacher),
        "license": license,
        "notes": [f"Prompts are those of the arm `{about.get('arm', folder.name)}`."],
    }
    counts = write_dataset(out, splits, facts)
    for name in files.keys() - counts.keys():
        files[name].unlink(missing_ok=True)
    return counts


def _row_problem(row: Mapping[str, Any]) -> str | None:
    messages = row.get("messages")
    return problem(messages) or tools_problem(messages or [], row.get("tools"))


def _are_calls(message: Row) -> bool:
    calls = message["tool_calls"]
    return isinstance(calls, list) and bool(calls) and all(_is_function(call, arguments=dict) for call in calls)


def _is_tool(tool: Any) -> bool:
    return _is_function(tool, description=str, parameters=dict)


def _is_function(value: Any, **fields: type) -> bool:
    """Whether it is `{"type": "function", "function": {"name": ..., ...}}` with these fields."""
    inner = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    return isinstance(inner, dict) and all(
        isinstance(inner.get(k), kind) for k, kind in {"name": str, **fields}.items()
    )


def _identity(example: Any) -> Row:
    return {key: str(example.get(key) or "") for key in ("id", "group", "category", "origin")}


def _text(content: Any) -> str:
    """A message's text; DSPy may give a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)


def _counts(name: str, rows: Sequence[Row]) -> list[str]:
    origins = Counter(row.get("origin") for row in rows)
    groups = len({row.get("group") for row in rows})
    return [name, str(len(rows)), str(origins["gold"]), str(origins["synthetic"]), str(groups)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
