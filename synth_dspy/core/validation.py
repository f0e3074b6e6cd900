"""What pydantic refused, in a sentence that names the setting, its value, and what it should be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_SHOWN = 60
_LIST = 'a list, such as ["a", "b"]'


def mistake(
    refused: ValidationError,
    model: type[BaseModel],
    *,
    within: str = "",
    also: Iterable[str] = (),
    hidden: Collection[str] = (),
) -> str:
    """The first thing that was refused: "epochs is 0: it should be greater than 0." or "epoch does not exist: ...".

    Args:
        refused: what pydantic raised.
        model: what was being read.
        within: stands before the setting's name, such as "training.options.sft.".
        also: names that are known beside the model's own, for the spelling of one that does not exist.
        hidden: names of the model's own that are not the user's to set.
    """
    first = refused.errors()[0]
    where = [str(part) for part in first["loc"]]
    key = within + ".".join(where)
    if first["type"] == "extra_forbidden" and where[-1] == "api_key":
        return f"{key} does not exist: a key stands in the environment, in the variable that api_key_name names."
    if first["type"] == "extra_forbidden":
        known = _fields(model, where[:-1])
        if len(where) == 1:
            known = [*(name for name in known if name not in hidden), *sorted(also)]
        return f"{key} does not exist: {spelling(where[-1], known)}"
    # An option of a model may be a key that stands in the wrong place.
    shown = f" is {first['input']!r}" if tellable(first["input"]) and where[:2] != ["models", "options"] else ""
    return f"{key}{shown}: {wanted(first['msg'])}." if key else f"{wanted(first['msg'])}."


def tellable(value: Any) -> bool:
    """Whether a value may stand in a message: short, and no URL, which may hold a password."""
    if isinstance(value, str):
        return len(value) <= _SHOWN and "://" not in value
    return isinstance(value, bool | int | float)


def wanted(message: str) -> str:
    """Pydantic's message as the second half of a sentence."""
    message = message.removeprefix("Value error, ")
    for subject in ("Input ", "String "):
        message = message.replace(subject, "it ", 1) if message.startswith(subject) else message
    return message.replace("a valid tuple", _LIST).replace("a valid list", _LIST)


def spelling(name: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that does not exist, or else all that there is."""
    close = get_close_matches(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known) or 'none'}."


def _fields(model: Any, path: Sequence[str]) -> list[str]:
    """The names of the settings in a section."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field and field.annotation
    return list(getattr(model, "model_fields", {}))
