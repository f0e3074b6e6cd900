"""What every verb shares: parse with tyro, run, turn a `SynthDspyError` into one message and exit status 2."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import TYPE_CHECKING, Any, TypeVar

from synth_dspy.errors import SetupError, SynthDspyError
from synth_dspy.mistakes import tellable, wanted
from synth_dspy.visible import visible

if TYPE_CHECKING:
    from pydantic import ValidationError

Config = TypeVar("Config")

INTERRUPTED = 130


def parse(config: type[Config], *, verb: str, description: str, default: Any = None, args: list[str]) -> Config:
    """Parse `args` into `config` (a frozen pydantic model or dataclass) with tyro; a wrong flag exits with status 2.

    Raises:
        SetupError: a value is of the right type and outside its bounds; names the flag.
    """
    import tyro

    extra: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()  # tyro frames pydantic's whole report in a box, and then exits
    try:
        with redirect_stderr(said):
            parsed: Config = tyro.cli(
                config,
                prog=f"python -m synth_dspy.{verb}",
                description=description,
                args=args,
                config=(tyro.conf.AvoidSubcommands,),
                **extra,
            )
    except SystemExit as left:
        refused = _refused(left) if left.code else None  # help exits too
        if refused is not None:
            said = io.StringIO()
            raise SetupError(_sentence(config, refused)) from None
        raise
    finally:
        print(said.getvalue(), end="", file=sys.stderr)
    return parsed


def run_verb(main: Callable[[list[str]], int | None]) -> None:
    """Run a verb's `main(args)`: `SynthDspyError` prints one message and exits 2; anything else keeps its traceback."""
    try:
        status = main(sys.argv[1:])
    except SynthDspyError as error:
        print(f"error: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; nothing that was answered is lost", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(status or 0)


def _refused(left: BaseException) -> ValidationError | None:
    """What pydantic refused, where that is why tyro exits."""
    from pydantic import ValidationError

    error: BaseException | None = left
    while error is not None and not isinstance(error, ValidationError):
        error = error.__context__
    return error


def _sentence(config: type, refused: ValidationError) -> str:
    """The flag, its value, and what it should be."""
    first = refused.errors()[0]
    parts = [*(_section(config, refused.title) or ()), *map(str, first["loc"])]
    flag = "--" + ".".join(parts).replace("_", "-")
    value = f" is {first['input']}" if tellable(first["input"]) else ""
    return f"{flag}{value}: {wanted(first['msg'])}."


def _section(config: Any, title: str) -> list[str] | None:
    """The names that lead from a settings model to the section of that title; None where there is none."""
    if config.__name__ == title:
        return []
    for name, field in getattr(config, "model_fields", {}).items():
        inner = _section(field.annotation, title) if hasattr(field.annotation, "model_fields") else None
        if inner is not None:
            return [name, *inner]
    return None
