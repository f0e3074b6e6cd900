"""The sandbox's child process: confines itself, imports the user's module, and executes calls one at a time.

Started by `process.py` with the descriptor of a Unix socket and the parent's process id. On the socket both
sides write JSON, one object a line. The first line has the module to load and the limits; every further one is a call,
or requests the description of a module. A message from the child carries the token of the line that it answers.

`core/process_limits.py` and `seccomp.py` have what the kernel enforces, `hook.py` the second layer, Python's
audit hook.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import io
import json
import os
import socket
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))  # the same package as the parent's, installed or not
from synth_dspy.core import process_limits as limits
from synth_dspy.domains.functions.importing import import_file
from synth_dspy.domains.functions.sandbox.hook import Hook
from synth_dspy.domains.functions.sandbox.seccomp import restrict_system_calls
from synth_dspy.domains.functions.sandbox.values import SHOWN, bounded, result_of

del sys.path[0]

_PLAIN = (str, int, float, bool, type(None), list, dict, object, Any, inspect.Parameter.empty)


class Capped(io.TextIOBase):
    """The output of a call, up to a limit."""

    def __init__(self) -> None:
        self.kept = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.kept += text[: SHOWN - len(self.kept)]
        return len(text)


class Child:
    """One confined process: its channel to the parent, its functions, and the state of the current call."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.lines = channel.makefile("r", encoding="utf-8")
        self.output = Capped()
        self.began = 0.0
        self.loading = True
        self.token = ""
        self.functions: dict[str, tuple[Callable[..., Any], dict[str, Callable[[Any], Any]]]] = {}

    def serve(self) -> None:
        """Set up as the first line requires, then answer until the parent closes the channel."""
        settings = json.loads(self.lines.readline())
        self.token = settings["token"]
        layers = self._confine(settings)
        with self._watched() as problem:
            if settings["module"]:
                self._load(Path(settings["module"]), settings["targets"])
        self.loading = False
        self._send({**problem, "layers": layers})
        for line in self.lines:
            message = json.loads(line)
            self.token = message["token"]
            os.chdir(settings["scratch"])
            result = None
            with self._watched() as problem:
                if "describe" in message:
                    result = self._describe(**message["describe"])
                else:
                    result = result_of(self._evaluate(message))
            self._send(problem if "error_type" in problem else {**problem, "result": result})

    def stop(self, reason: str) -> typing.NoReturn:
        """Report a violation and exit.

        While they are imported, modules may try such things to detect what the system offers (urllib3 opens a socket,
        `ctypes.util.find_library` starts a compiler), and can do without it: then it is only refused.
        """
        if self.loading:
            raise PermissionError(errno.EPERM, f"The sandbox refused this: {reason}")
        self._send({"stopped": reason})
        os._exit(1)

    def _send(self, message: dict[str, Any]) -> None:
        message |= {"token": self.token, "stdout": self.output.kept, "seconds": time.perf_counter() - self.began}
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def _confine(self, settings: dict[str, Any]) -> dict[str, Any]:
        readable, listable = ([Path(path) for path in settings[name]] for name in ("readable", "listable"))
        scratch = Path(settings["scratch"])
        lacking = limits.limit_resources(settings["memory"], settings["file"], settings["cpu"])
        landlock = limits.restrict_files(readable, listable, scratch)
        limits.drop_privileges()
        how = restrict_system_calls(self._hand_over)
        if not how:
            limits.forbid_processes()
        # Seccomp alone leaves C code the files, Landlock alone the network: ctypes needs both.
        sys.addaudithook(Hook(readable, listable, scratch, self.stop, native=bool(how and landlock)))
        return {"landlock": landlock, "seccomp": how, "lacking": lacking}

    def _hand_over(self, listener: int | None) -> None:
        """Give the parent the descriptor that notifies it of violations."""
        if listener is None:
            self.channel.sendall(b".")
            return
        socket.send_fds(self.channel, [b"!"], [listener])
        os.close(listener)  # a process that has it could allow its own violations

    def _describe(self, path: str, file: str) -> dict[str, Any]:
        """The description of a module by `describe_module`; forbidden actions during its import are refused."""
        from synth_dspy.domains.functions.description import describe_module

        self.loading = True
        try:
            return describe_module(Path(path), file)
        finally:
            self.loading = False

    def _load(self, path: Path, targets: dict[str, str]) -> None:
        module = import_file(path)
        for name, qualname in targets.items():
            function: Any = module
            for part in qualname.split("."):
                function = getattr(function, part)
            self.functions[name] = function, dict(_converters(function))

    def _evaluate(self, value: Any) -> Any:
        """The result of a call, given as by `Call.as_json`."""
        function, converters = self.functions[value["name"]]
        arguments = {key: self._resolved(each) for key, each in value["arguments"].items()}
        arguments = {key: converters[key](each) if key in converters else each for key, each in arguments.items()}
        result = function(**arguments)
        return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._resolved(each) for each in value]
        if isinstance(value, dict):
            if set(value) == {"$call"}:
                return bounded(self._evaluate(value["$call"]))
            return {key: self._resolved(each) for key, each in value.items()}
        return value

    @contextlib.contextmanager
    def _watched(self) -> Iterator[dict[str, Any]]:
        """Collects output, time, and the exception raised, in the fields of the parent's `Outcome`."""
        problem: dict[str, Any] = {}
        self.output = Capped()
        self.began = time.perf_counter()
        sys.stdout = sys.stderr = typing.cast(typing.TextIO, self.output)
        try:
            yield problem
        except BaseException as error:
            problem["error_type"] = type(error).__name__
            problem["error"] = _text(error)
            if isinstance(error, MemoryError):
                problem["stopped"] = "memory"
            elif isinstance(error, OSError) and error.errno == errno.EFBIG:
                problem["stopped"] = "file"


# -- the parts ---------------------------------------------------------------------------------------------------------


def _converters(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """For each parameter of a type that JSON lacks (dates, enums, models, sets, ...), its converter from JSON."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return
    for name, hint in hints.items():
        if name != "return" and not _plain(hint):
            from pydantic import ConfigDict, TypeAdapter
            from pydantic.errors import PydanticUserError

            try:
                yield name, TypeAdapter(hint).validate_python
            except PydanticUserError:
                with contextlib.suppress(PydanticUserError):
                    yield name, TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python


def _plain(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return all(isinstance(value, (str, int, type(None))) for value in typing.get_args(hint))
    if origin is typing.Annotated:
        return _plain(typing.get_args(hint)[0])
    if origin in (list, dict, typing.Union, types.UnionType):
        return all(_plain(each) for each in typing.get_args(hint))
    return hint in _PLAIN


async def _awaited(value: Any) -> Any:
    return await value


def _text(error: BaseException) -> str:
    try:
        return str(error)[:SHOWN]
    except Exception:
        return ""


if __name__ == "__main__":
    limits.die_with_parent(int(sys.argv[2]))
    Child(socket.socket(fileno=int(sys.argv[1]))).serve()
