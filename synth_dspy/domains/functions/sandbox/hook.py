"""The sandbox's second layer, and the only one for files, network and processes outside Linux: Python's audit hook.

It sees what Python code does through Python's own functions, and reports it more exactly than the kernel.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from synth_dspy.domains.functions.sandbox.seccomp import NETWORK, PROCESS

OUTSIDE = "wrote outside its folder"


class Hook:
    """The audit hook: https://docs.python.org/3/library/audit_events.html."""

    _network = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostby", "socket.getnameinfo")
    _process = ("os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen",
                "pty.")  # fmt: skip
    _refused = ("os.kill", "resource.", "signal.pthread_kill", "sys.addaudithook")
    _changing = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
                 "os.chown", "os.utime", "os.setxattr", "os.removexattr", "os.chflags")  # fmt: skip

    def __init__(
        self,
        readable: list[Path],
        listable: list[Path],
        scratch: Path,
        stop: Callable[[str], NoReturn],
        *,
        native: bool,
    ) -> None:
        """`native` means that the kernel also watches C code; if it does not, ctypes is refused."""
        self.readable = [str(path) for path in (*readable, scratch, os.devnull)]
        self.listable = {str(path) for path in listable}
        self.writable = [str(scratch), os.devnull]
        self.stop = stop
        self.native = native
        if not native:
            import ctypes  # noqa: F401  imported now, so that what the import opens is allowed

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(*arguments)
        elif event.startswith(("os.", "socket.", "subprocess.", "pty.", "resource.", "signal.", "sys.", "ctypes.")):
            self._acted(event, arguments)

    def _opened(self, path: Any, mode: str | None, flags: int) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # a descriptor that is already open
        place = os.path.realpath(os.fsdecode(path))
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            if not _within(place, self.writable):
                self.stop(OUTSIDE)
        elif not _within(place, self.readable) and os.path.lexists(place):
            raise PermissionError(errno.EACCES, "The sandbox does not allow reading", str(path))

    def _acted(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(self._process):
            self.stop(PROCESS)
        if event.startswith(self._network) or (event == "socket.__new__" and arguments[1] not in (-1, socket.AF_UNIX)):
            self.stop(NETWORK)
        if event.startswith(self._refused) or (event.startswith("ctypes.dl") and not self.native):
            raise PermissionError(errno.EPERM, f"The sandbox refuses {event}")
        if event.startswith(self._changing):
            paths, folders = _paths(event, arguments)
            for path, folder in zip(paths, folders, strict=True):
                if isinstance(path, int):
                    path = _of_descriptor(path)
                place = os.path.join(_of_descriptor(folder), os.fsdecode(path))
                # The last part itself is changed, even if it is a link.
                parent, name = os.path.split(os.path.abspath(place))
                if not _within(os.path.join(os.path.realpath(parent), name), self.writable):
                    self.stop(OUTSIDE)
        elif event in ("os.listdir", "os.scandir") and arguments[0] is not None and not isinstance(arguments[0], int):
            place = os.path.realpath(os.fsdecode(arguments[0]))
            if place not in self.listable and not _within(place, self.readable) and os.path.isdir(place):
                raise PermissionError(errno.EACCES, "The sandbox does not allow reading", str(arguments[0]))


def _within(place: str, roots: list[str]) -> bool:
    return any(place == root or place.startswith(root.rstrip("/") + "/") for root in roots)


def _paths(event: str, arguments: tuple[Any, ...]) -> tuple[list[Any], list[int]]:
    """The paths that an event changes, and the descriptors of the folders that they are relative to."""
    if event in ("os.rename", "os.link"):
        return [arguments[0], arguments[1]], [arguments[2], arguments[3]]
    if event == "os.symlink":
        return [arguments[1]], [arguments[2]]
    last = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.utime") else -1
    return [arguments[0]], [last if isinstance(last, int) else -1]


def _of_descriptor(descriptor: int) -> str:
    """The path of an open file or folder; the working folder for -1."""
    if descriptor < 0:
        return os.getcwd()
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{descriptor}")
