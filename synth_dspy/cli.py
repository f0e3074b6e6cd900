"""What every verb shares: parse with tyro, run, turn a `SynthDspyError` into one message and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from synth_dspy.errors import SynthDspyError

Config = TypeVar("Config")

INTERRUPTED = 130


def parse(config: type[Config], *, verb: str, description: str, default: Any = None, args: list[str]) -> Config:
    """Parse `args` into `config` (a frozen pydantic model) with tyro; a wrong flag exits with status 2."""
    import tyro

    extra: dict[str, Any] = {} if default is None else {"default": default}
    parsed: Config = tyro.cli(
        config,
        prog=f"python -m synth_dspy.{verb}",
        description=description,
        args=args,
        config=(tyro.conf.AvoidSubcommands,),
        **extra,
    )
    return parsed


def run_verb(main: Callable[[list[str]], int | None]) -> None:
    """Run a verb's `main(args)`: `SynthDspyError` prints one message and exits 2; anything else keeps its traceback."""
    try:
        status = main(sys.argv[1:])
    except SynthDspyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; nothing that was answered is lost", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(status or 0)
