"""Turns pydantic's validation errors into sentences that name the setting, its value, and what is expected."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_SHOWN = 60
_LIST = 'a list, such as ["a", "b"]'


def describe_error(
    error: ValidationError,
    model: type[BaseModel],
    *,
    within: str = "",
    also: Iterable[str] = (),
    hidden: Collection[str] = (),
) -> str:
    """Describe the first error: "epochs is 0: it should be greater than 0." or "epoch does not exist: ...".

    Args:
        error: what pydantic raised.
        model: the model that was validated.
        within: a prefix of the setting's name, such as "training.options.sft.".
        also: further valid names, for suggestions.
        hidden: names of the model's fields that users cannot set, and which are not suggested.
    """
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    key = (within + ".".join(where)).rstrip(".")
    if first["type"] == "extra_forbidden" and where[-1] == "api_key":
        return f"{key} does not exist: put the key into an environment variable and name that with api_key_name."
    if first["type"] == "extra_forbidden":
        names = _fields(model, where[:-1])
        if len(where) == 1:
            names = [*(name for name in names if name not in hidden), *sorted(also)]
        return f"{key} does not exist: {suggest(where[-1], names)}"
    # An option of a model may be a misplaced API key.
    shown = f" is {first['input']!r}" if can_be_shown(first["input"]) and where[:2] != ["models", "options"] else ""
    return f"{key}{shown}: {as_clause(first['msg'])}." if key else f"{as_clause(first['msg'])}."


def can_be_shown(value: Any) -> bool:
    """Whether a value may appear in a message: it is short and not a URL, which may contain a password."""
    if isinstance(value, str):
        return len(value) <= _SHOWN and "://" not in value
    return isinstance(value, bool | int | float)


def as_clause(message: str) -> str:
    """Pydantic's message as the second half of a sentence."""
    message = message.removeprefix("Value error, ")
    for subject in ("Input ", "String "):
        message = message.replace(subject, "it ", 1) if message.startswith(subject) else message
    message = message.replace("not a valid path for <class 'pathlib.Path'>", "not a path, which is a text in quotes")
    return message.replace("a valid tuple", _LIST).replace("a valid list", _LIST)


def suggest(name: str, names: Sequence[str]) -> str:
    """Suggest similar names for one that does not exist, or list all."""
    close = get_close_matches(name, names)
    return f"did you mean {' or '.join(close)}?" if close else f"the valid names are {', '.join(names) or 'none'}."


def _fields(model: Any, path: Sequence[str]) -> list[str]:
    """The names of the settings in a section."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field and field.annotation
    return list(getattr(model, "model_fields", {}))
