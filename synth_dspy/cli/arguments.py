"""What every verb shares: parse with tyro, run, turn a `SynthDspyError` into one message and exit status 2."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from synth_dspy.core.errors import AwaitingReview, SetupError, SynthDspyError
from synth_dspy.core.invocation import AWAITING_REVIEW, CLOSED_PIPE, INTERRUPTED, command
from synth_dspy.core.masking import mask_message
from synth_dspy.core.printable import visible
from synth_dspy.core.validation import as_clause, can_be_shown

if TYPE_CHECKING:
    from pydantic import ValidationError

Config = TypeVar("Config")


def parse(config: type[Config], *, verb: str, description: str, default: Any = None, args: list[str]) -> Config:
    """Parse `args` into `config` (a frozen pydantic model or dataclass) with tyro.

    Raises:
        SetupError: a flag does not exist, lacks its value, or has a wrong one; names it.
    """
    import tyro

    extra: dict[str, Any] = {} if default is None else {"default": default}
    program, box = command(verb), io.StringIO()
    try:
        with redirect_stderr(box):
            parsed: Config
            parsed, unknown = tyro.cli(
                config,
                prog=program,
                description=description,
                args=args,
                config=(tyro.conf.AvoidSubcommands,),
                return_unknown_args=True,
                **extra,
            )
    except SystemExit as left:
        if not left.code:  # --help
            raise
        refused = _refused(left)
        raise SetupError(_sentence(config, refused) if refused else _unboxed(box.getvalue(), program)) from None
    if unknown:
        raise SetupError(_not_taken(config, unknown, program))
    return parsed


def run_verb(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Run a verb's `main(args)` and exit with its status.

    A `SynthDspyError` prints one message and exits 2, or 3 where a person is to go on first. Ctrl-C and a closed pipe
    (`... | head -1`) end without a traceback; anything else keeps its own.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without dashes is no reason to lose a table
    try:
        status = _status(main)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        if not any(map(_closed, (1, 2))):  # a pipe of the program's own
            raise
        status = CLOSED_PIPE
    if status == CLOSED_PIPE:
        _discard_output()
    sys.exit(status)


def _status(main: Callable[[list[str]], int | None]) -> int | str:
    """The exit status of a verb, which has said what there is to say."""
    try:
        return main(sys.argv[1:]) or 0
    except AwaitingReview as waiting:
        print(visible(mask_message(str(waiting))), file=sys.stderr)
        return AWAITING_REVIEW
    except SynthDspyError as error:
        print(f"error: {visible(mask_message(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends what is still closing, without a traceback
        print(str(stop) or "stopped; nothing that was answered is lost", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as left:
        return left.code or 0


def _closed(fd: int) -> bool:
    """Whether a pipe's reader has gone."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard_output() -> None:
    """Let what is still in the buffers of closed pipes go nowhere: Python flushes them as it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in filter(_closed, (1, 2)):
        os.dup2(nowhere, fd)


def _unboxed(box: str, program: str) -> str:
    """What tyro says in a box, as one sentence: the first paragraph, without the frame and the extract of the help."""
    plain = re.sub(r"[│╰╯]", " ", re.sub(r"\x1b\[[\d;]*m", "", box))  # without UTF-8 the frame is plain
    lines = [re.sub(r"^\s*[─-]{9,}\s*$", "", line).rstrip() for line in plain.splitlines()[1:]]
    paragraph, *others = [part for part in "\n".join(lines).split("\n\n") if part.strip()] or [""]
    first, rest = " ".join(paragraph.split()), " ".join(others)
    if first.startswith("Missing from "):
        names = re.findall(r"^ {6}(\S.*)$", paragraph, re.MULTILINE)
        first = f"Not given, and needed: {', '.join(names)}"
    elif wrong := re.match(r"Error parsing (\S+): (.*)", first):
        kind = re.search(rf"\s{re.escape(wrong[1])} (\S+)\s", rest)
        wanted_ = kind and _KINDS.get(kind[1].removeprefix("{None}|"))
        given = re.search(r"'([^']*)'\]?\.?$", wrong[2])
        if wanted_ and given:
            first = f"{wrong[1]} is {given[1]!r}: it should be {wanted_}"
    return f"{first.rstrip(' .')} (see {program} --help)."


_KINDS = {"INT": "a whole number", "FLOAT": "a number"}


def _not_taken(config: type, unknown: Sequence[str], program: str) -> str:
    """About arguments that nothing takes: the first flag among them, else the first."""
    name = next((each for each in unknown if each.startswith("-")), unknown[0]).partition("=")[0]
    if not name.startswith("-"):
        return f"{name!r} is one argument too many; see {program} --help."
    close = get_close_matches(name.replace("_", "-"), list(_flags(config)), n=1, cutoff=0.7)
    return f"There is no option {name}: {f'did you mean {close[0]}?' if close else f'see {program} --help.'}"


def _flags(config: Any, within: str = "--") -> Iterator[str]:
    """The flags of a settings model and its sections, or of a dataclass."""
    if dataclasses.is_dataclass(config):
        yield from (within + field.name.replace("_", "-") for field in dataclasses.fields(config))
    for name, field in getattr(config, "model_fields", {}).items():
        flag = within + name.replace("_", "-")
        if hasattr(field.annotation, "model_fields"):
            yield from _flags(field.annotation, f"{flag}.")
        else:
            yield flag


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
    value = f" is {first['input']}" if can_be_shown(first["input"]) else ""
    return f"{flag}{value}: {as_clause(first['msg'])}."


def _section(config: Any, title: str) -> list[str] | None:
    """The names that lead from a settings model to the section of that title; None where there is none."""
    if config.__name__ == title:
        return []
    for name, field in getattr(config, "model_fields", {}).items():
        inner = _section(field.annotation, title) if hasattr(field.annotation, "model_fields") else None
        if inner is not None:
            return [name, *inner]
    return None
