"""The sandbox's child: confines itself, imports the user's module, and answers calls one at a time.

Started by `sandbox.py` with the descriptor of a Unix socket, on which both sides write JSON, one object a line. The
first line says what to load and what to allow; every further one is a call.

`sandbox_limits.py` has what the kernel enforces, `sandbox_hook.py` the second layer, Python's audit hook.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import errno
import importlib
import importlib.util
import inspect
import io
import json
import math
import os
import re
import socket
import sys
import threading
import time
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the same package as the parent's, installed or not
from synth_dspy.functions import sandbox_limits as limits
from synth_dspy.functions.sandbox_hook import Hook

del sys.path[0]

_SHOWN = 10_000  # characters of output and of a message
_LARGEST = 1_000_000  # characters of a result as JSON
_PLAIN = (str, int, float, bool, type(None), list, dict, object, Any, inspect.Parameter.empty)


class Capped(io.TextIOBase):
    """What a call prints, as far as it is kept."""

    def __init__(self) -> None:
        self.kept = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.kept += text[: _SHOWN - len(self.kept)]
        return len(text)


class Child:
    """One confined process: its channel to the parent, its functions, and what it is doing."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.lines = channel.makefile("r", encoding="utf-8")
        self.output = Capped()
        self.began = 0.0
        self.loading = True
        self.functions: dict[str, tuple[Callable[..., Any], dict[str, Callable[[Any], Any]]]] = {}

    def serve(self) -> None:
        """Set up as the first line says, then answer until the parent hangs up."""
        settings = json.loads(self.lines.readline())
        layers = self._confine(settings)
        with self._watched() as problem:
            self._load(Path(settings["module"]), settings["targets"])
        self.loading = False
        self._send({**problem, "layers": layers})
        threads = threading.active_count()
        for line in self.lines:
            os.chdir(settings["scratch"])
            result = None
            with self._watched() as problem:
                result = jsonable(self._evaluate(json.loads(line)))
                if len(json.dumps(result)) > _LARGEST:
                    result = repr(result)[:_SHOWN]
            # A thread that goes on after its call could act in the next one's name: such a child is not used again.
            problem["dirty"] = threading.active_count() > threads
            self._send(problem if "error_type" in problem else {**problem, "result": result})

    def stop(self, reason: str) -> typing.NoReturn:
        """Report a violation and end.

        Modules may try such things while they are imported, to see what the system offers (urllib3 opens a socket,
        `ctypes.util.find_library` starts a compiler), and do without: then it is refused, no more.
        """
        if self.loading:
            raise PermissionError(errno.EPERM, f"The sandbox refused it: {reason}")
        self._send({"stopped": reason})
        os._exit(1)

    def _send(self, message: dict[str, Any]) -> None:
        message |= {"stdout": self.output.kept, "seconds": time.perf_counter() - self.began}
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def _confine(self, settings: dict[str, Any]) -> dict[str, Any]:
        readable, listable = ([Path(path) for path in settings[name]] for name in ("readable", "listable"))
        scratch = Path(settings["scratch"])
        lacking = limits.limit_resources(settings["memory"], settings["file"], settings["cpu"])
        landlock = limits.restrict_files(readable, listable, scratch)
        limits.drop_privileges()
        how, listener = limits.restrict_system_calls()
        if listener is not None:
            socket.send_fds(self.channel, [b"!"], [listener])
            os.close(listener)  # whoever holds it could let its own violations pass
        else:
            self.channel.sendall(b".")
        if not how:
            limits.forbid_processes()
        # Seccomp alone leaves C code the files, Landlock alone the network: ctypes needs both.
        sys.addaudithook(Hook(readable, listable, scratch, self.stop, native=bool(how and landlock)))
        return {"landlock": landlock, "seccomp": how, "lacking": lacking}

    def _load(self, path: Path, targets: dict[str, str]) -> None:
        module = _import(path)
        for name, qualname in targets.items():
            function: Any = module
            for part in qualname.split("."):
                function = getattr(function, part)
            self.functions[name] = function, dict(_converters(function))

    def _evaluate(self, value: Any) -> Any:
        """A call's result; `value` is a call as `Call.as_json` writes it."""
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
                return jsonable(self._evaluate(value["$call"]))
            return {key: self._resolved(each) for key, each in value.items()}
        return value

    @contextlib.contextmanager
    def _watched(self) -> Iterator[dict[str, Any]]:
        """Collects output, time, and what was raised, in the words of the parent's `Outcome`."""
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


def jsonable(value: Any) -> Any:
    """A result as JSON: enums by value, dates in ISO format, sets sorted, models and data classes as objects.

    Anything else is its `repr`, without addresses, which differ from run to run.
    """
    if isinstance(value, enum.Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (date, time_of_day)):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return jsonable(value.model_dump())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(jsonable(key)): jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(each) for each in value), key=json.dumps)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:_SHOWN]


# -- the parts ---------------------------------------------------------------------------------------------------------


def _import(path: Path) -> types.ModuleType:
    """The module of a file, within its package if it has one. The standard library wins over its neighbours."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    sys.path.append(str(folder))
    if len(parts) > 1:
        return importlib.import_module(".".join(parts))
    name = f"user_{path.stem}" if path.stem in sys.modules or path.stem in sys.stdlib_module_names else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _converters(function: Callable[..., Any]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """For each parameter whose type JSON has not (dates, enums, models, sets, ...), what makes it of a JSON value."""
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
        return str(error)[:_SHOWN]
    except Exception:
        return ""


if __name__ == "__main__":
    Child(socket.socket(fileno=int(sys.argv[1]))).serve()
