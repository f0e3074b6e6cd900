"""Shared by all commands: parses arguments with tyro, turns a `SynthDspyError` into one message and exit status 2."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from synth_dspy.core.errors import AwaitingReview, BudgetReached, SetupError, SynthDspyError
from synth_dspy.core.invocation import AWAITING_REVIEW, BUDGET_REACHED, CLOSED_PIPE, INTERRUPTED, command
from synth_dspy.core.masking import mask_message
from synth_dspy.core.printable import visible
from synth_dspy.core.validation import as_clause, can_be_shown

if TYPE_CHECKING:
    from pydantic import ValidationError

Config = TypeVar("Config")


def parse(config: type[Config], *, verb: str, description: str, default: Any = None, args: list[str]) -> Config:
    """Parse `args` into `config` (a frozen pydantic model or dataclass) with tyro.

    Raises:
        SetupError: an option does not exist, lacks its value, or has a wrong one; names it.
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
    except SystemExit as exit_:
        if not exit_.code:  # --help
            raise
        refused = _refused(exit_)
        raise SetupError(_sentence(config, refused) if refused else _unboxed(box.getvalue(), program)) from None
    if unknown:
        raise SetupError(_not_taken(config, unknown, program))
    return _with_local_copies(parsed)


_READ = ("seeds", "items", "clauses", "graded", "questions", "program", "input")
"""Arguments with a file or a folder that a command only reads, besides the lists of them."""


def _with_local_copies(config: Config) -> Config:
    """The settings of a command with local copies of files in S3; a run's settings keep addresses, for other machines.

    Raises:
        SetupError: a file cannot be fetched, or is one that the command writes.
    """
    from pydantic import BaseModel

    from synth_dspy.core.config import CompileConfig
    from synth_dspy.core.s3.address import is_address
    from synth_dspy.core.s3.reading import local

    if isinstance(config, CompileConfig) or not isinstance(config, BaseModel):
        return config
    update: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, tuple) and any(map(is_address, value)):
            update[name] = tuple(local(each) if is_address(each) else each for each in value)
        elif is_address(value) and name in _READ:
            update[name] = type(value)(local(value))
        elif isinstance(value, Path) and is_address(value):
            raise SetupError(f"--{name.replace('_', '-')} is in S3: this command takes a path on this machine there.")
    return config.model_copy(update=update)


def run_verb(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Run a command's `main(args)` and exit with its status.

    A `SynthDspyError` prints one message and exits with 2, with 3 if a person must act, or with 4 if the
    budget is used up. Ctrl-C and a closed pipe
    (`... | head -1`) end without a traceback; other exceptions keep theirs.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without dashes must not cost the user a table
    try:
        status = _status(main)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        if not any(map(_closed, (1, 2))):  # some other pipe, opened by the program itself
            raise
        status = CLOSED_PIPE
    if status == CLOSED_PIPE:
        _discard_output()
    sys.exit(status)


def _status(main: Callable[[list[str]], int | None]) -> int | str:
    """Run a command; the exit status, after any message was printed."""
    try:
        return main(sys.argv[1:]) or 0
    except AwaitingReview as waiting:
        print(visible(mask_message(str(waiting))), file=sys.stderr)
        return AWAITING_REVIEW
    except BudgetReached as reached:
        print(f"stopped: {visible(mask_message(str(reached)))}", file=sys.stderr)
        return BUDGET_REACHED
    except SynthDspyError as error:
        print(f"error: {visible(mask_message(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the cleanup, without a traceback
        print(str(stop) or "stopped; no answered call is lost", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as exit_:
        return exit_.code or 0


def _closed(fd: int) -> bool:
    """Whether a pipe's reader has closed it."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard_output() -> None:
    """Redirect closed pipes to the null device: Python flushes their buffers when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in filter(_closed, (1, 2)):
        os.dup2(nowhere, fd)


def _unboxed(box: str, program: str) -> str:
    """tyro's boxed message as one sentence: the first paragraph, without the frame and the excerpt of the help."""
    plain = re.sub(r"[│╰╯]", " ", re.sub(r"\x1b\[[\d;]*m", "", box))  # without UTF-8 the frame is ASCII
    lines = [re.sub(r"^\s*[─-]{9,}\s*$", "", line).rstrip() for line in plain.splitlines()[1:]]
    paragraph, *others = [part for part in "\n".join(lines).split("\n\n") if part.strip()] or [""]
    first, rest = " ".join(paragraph.split()), " ".join(others)
    if first.startswith("Missing from "):
        names = re.findall(r"^ {6}(\S.*)$", paragraph, re.MULTILINE)
        first = f"Missing: {', '.join(names)}"
    elif wrong := re.match(r"Error parsing (\S+): (.*)", first):
        kind = re.search(rf"\s{re.escape(wrong[1])} (\S+)\s", rest)
        expected = kind and _KINDS.get(kind[1].removeprefix("{None}|"))
        given = re.search(r"'([^']*)'\]?\.?$", wrong[2])
        if expected and given:
            first = f"{wrong[1]} is {given[1]!r}: it should be {expected}"
    return f"{first.rstrip(' .')} (see {program} --help)."


_KINDS = {"INT": "a whole number", "FLOAT": "a number"}


def _not_taken(config: type, unknown: Sequence[str], program: str) -> str:
    """The message about unknown arguments: about the first option among them, else about the first."""
    name = next((each for each in unknown if each.startswith("-")), unknown[0]).partition("=")[0]
    if not name.startswith("-"):
        return f"{name!r} is one argument too many; see {program} --help."
    close = get_close_matches(name.replace("_", "-"), list(_flags(config)), n=1, cutoff=0.7)
    return f"There is no option {name}: {f'did you mean {close[0]}?' if close else f'see {program} --help.'}"


def _flags(config: Any, within: str = "--") -> Iterator[str]:
    """The options of a settings model and its sections, or of a dataclass."""
    if dataclasses.is_dataclass(config):
        yield from (within + field.name.replace("_", "-") for field in dataclasses.fields(config))
    for name, field in getattr(config, "model_fields", {}).items():
        flag = within + name.replace("_", "-")
        if hasattr(field.annotation, "model_fields"):
            yield from _flags(field.annotation, f"{flag}.")
        else:
            yield flag


def _refused(exit_: BaseException) -> ValidationError | None:
    """The validation error because of which tyro exits, if that is the reason."""
    from pydantic import ValidationError

    error: BaseException | None = exit_
    while error is not None and not isinstance(error, ValidationError):
        error = error.__context__
    return error


def _sentence(config: type, refused: ValidationError) -> str:
    """The message about a wrong value: the option, its value, and what it should be."""
    first = refused.errors()[0]
    parts = [*(_section(config, refused.title) or ()), *map(str, first["loc"])]
    flag = "--" + ".".join(parts).replace("_", "-")
    value = f" is {first['input']}" if can_be_shown(first["input"]) else ""
    return f"{flag}{value}: {as_clause(first['msg'])}."


def _section(config: Any, title: str) -> list[str] | None:
    """The path of names from a settings model to the section with that title; None if there is none."""
    if config.__name__ == title:
        return []
    for name, field in getattr(config, "model_fields", {}).items():
        inner = _section(field.annotation, title) if hasattr(field.annotation, "model_fields") else None
        if inner is not None:
            return [name, *inner]
    return None
