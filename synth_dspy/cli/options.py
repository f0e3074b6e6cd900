"""Options of a model's role and of a training method as flags: `--training.options.sft.lora.layers 8`.

They are tables with arbitrary keys of a provider or a recipe, so flags cannot be derived from fields. A value is parsed
as TOML, or else is text. Names are checked once the recipe or the model is known.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from synth_dspy.core.config import METHODS, CompileConfig, Settings
from synth_dspy.core.errors import SetupError

Config = TypeVar("Config", bound=CompileConfig)

TABLES = {"models": "ROLE", "training": "METHOD"}
"""Sections of a configuration that have a table of options, and what its keys mean."""


def take_options(config: Config, args: Sequence[str]) -> tuple[Config, list[str]]:
    """The configuration with options from the arguments, and the other arguments.

    Raises:
        SetupError: a flag lacks a value or the name of an option, or its role or method does not exist.
    """
    rest: list[str] = []
    given = iter(args)
    for argument in given:
        flag, equals, text = argument.partition("=")
        section = next((name for name in TABLES if flag.startswith(f"--{name}.options.")), None)
        if section is None:
            rest.append(argument)
            continue
        path = flag.removeprefix(f"--{section}.options.").split(".")
        # Further ones may be anything, such as a header; with a slash it is a model.
        path[:2] = [name if "/" in name else name.replace("-", "_") for name in path[:2]]
        if len(path) < 2 or not all(path):
            form = f"--{section}.options.{TABLES[section]}.NAME VALUE"
            raise SetupError(f"{flag} lacks the name of an option: write it as {form}.")
        if not equals and (text := next(given, "--")).startswith("--"):
            raise SetupError(f"{flag} needs a value.")
        changed = _with(getattr(config, section), path, _value(text), flag)
        config = config.model_copy(update={section: changed})
    return config, rest


def short_flags(model: type[CompileConfig], args: Sequence[str]) -> list[str]:
    """The arguments with the task's own parameters in full: `--documents DIR` is `--task.documents DIR`."""
    own = set(model.model_fields["task"].annotation.model_fields) if "task" in model.model_fields else set()  # type: ignore[union-attr]
    own -= set(model.model_fields)
    return [_in_full(argument, own) for argument in args]


def _in_full(argument: str, own: set[str]) -> str:
    name = argument.partition("=")[0].removeprefix("--").replace("-", "_")
    is_own = argument.startswith("--") and (name in own or name.removeprefix("no_") in own)
    return f"--task.{argument.removeprefix('--')}" if is_own else argument


def options_help() -> str:
    """The description of the options for `--help`."""
    from synth_dspy.training.spec import RESERVED, Lora, TrainSpec

    names = [name for name in TrainSpec.model_fields if name not in RESERVED]
    names += [f"lora.{name}" for name in Lora.model_fields]
    return (
        f"Trainings: --training.options.METHOD.NAME VALUE, where METHOD is {', '.join(METHODS)}, and NAME is "
        f"{', '.join(names)} (TrainSpec in synth_dspy/training/spec.py), or what the method's "
        "recipe in synth_dspy/training/recipes/ has, such as examples and samples; lora none trains all weights.\n\n"
        "Models: --models.options.ROLE.NAME VALUE, where ROLE is student, teacher or judge, and NAME is temperature, "
        "max_tokens, or another argument of dspy.LM."
    )


def _with(section: Settings, path: Sequence[str], value: Any, flag: str) -> Settings:
    """The section with one more option."""
    options = copy.deepcopy(dict(section)["options"])
    table = options
    for name in path[:-1]:
        if not isinstance(table.get(name), dict):
            table[name] = {}
        table = table[name]
    table[path[-1]] = value
    try:
        return type(section).model_validate({**dict(section), "options": options})
    except ValidationError as error:  # without the value, which may be a key
        raise SetupError(f"{flag}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None


def _value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text.lower() if text in ('True', 'False') else text}")
    except tomllib.TOMLDecodeError:
        return text
    value = read.get("value")
    return value if len(read) == 1 and isinstance(value, bool | int | float | str | list | dict) else text
