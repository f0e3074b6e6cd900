"""What the kernel enforces on the sandbox's child, which asks for it about itself and cannot take it back.

None of it needs privileges. Resource limits (`setrlimit`) are there on every POSIX system. On Linux come Landlock,
https://docs.kernel.org/userspace-api/landlock.html, which leaves of the file system what is named and no more, and
seccomp filters (`sandbox_seccomp.py`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAP_DAC_READ_SEARCH = 2

# Landlock has the same numbers on every architecture.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Writing, truncating, removing, and making of directories, files, symbolic links; no devices, sockets or pipes.
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15  # of ABI 2, 3 and 5


def die_with_parent(parent: int) -> None:
    """Have this process killed when the one that started it ends, however that ends.

    On Linux the kernel does it, whatever this process is doing. It takes the parent to be the thread that started this
    process, which therefore must last. Elsewhere a thread looks every second.

    Args:
        parent: The process that it was at the start.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(0, signal.SIGKILL)

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
    else:
        threading.Thread(target=watch, daemon=True).start()


def limit_resources(memory: int, file: int, cpu: int) -> list[str]:
    """Limit this process for good.

    Args:
        memory: Bytes of address space beyond what is taken now.
        file: Bytes of one file.
        cpu: Seconds of processor time, over all calls.

    Returns:
        Names of the limits that this system refused.
    """
    import resource

    wanted = {"CORE": 0, "CPU": cpu, "FSIZE": file, "NOFILE": 64, "AS": memory + _address_space()}
    refused = []
    for name, value in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):
            refused.append(name)
    return refused


def forbid_processes() -> None:
    """The limit on processes, where there is no seccomp: it counts the user's, and does not bind root."""
    import resource

    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def restrict_files(readable: Iterable[Path], listable: Iterable[Path], writable: Path) -> int:
    """Landlock: leave this process nothing of the file system but what is named, and no TCP.

    Args:
        readable: Files, and folders with all that is in them.
        listable: Folders where the names of files, not the files, can be read.
        writable: The one folder where files can be made, changed and removed.

    Returns:
        The version of Landlock's interface; 0 where this system has none, and nothing is restricted.
    """
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return 0
    handled = (1 << 13) - 1
    write = _WRITE
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        if version >= since:
            handled |= right
            write |= 0 if right == _IOCTL else right
    attributes = [handled]
    if version >= 4:
        attributes.append(0b11)  # binding and connecting of TCP sockets
    if version >= 6:
        attributes.append(0b11)  # abstract Unix sockets and signals of other processes
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    rules = libc.syscall(_LANDLOCK_CREATE, packed, len(packed), 0)
    if rules < 0:
        return 0
    for path in readable:
        _allow(libc, rules, path, _READ_FILE | _READ_DIR)
    for path in listable:
        _allow(libc, rules, path, _READ_DIR)
    _allow(libc, rules, writable, _READ_FILE | _READ_DIR | write)
    _allow(libc, rules, Path(os.devnull), _READ_FILE | _WRITE)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    failed = libc.syscall(_LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)
    return 0 if failed else int(version)


def drop_privileges() -> None:
    """Give up every capability of root but reading. What root owns, root can still read, as Landlock allows."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", 0x20080522, 0)  # version 3, this thread
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) == 0:
        permitted = struct.unpack("=6I", held.raw)[1] & 1 << _CAP_DAC_READ_SEARCH
        libc.capset(header, struct.pack("=6I", permitted, permitted, 0, 0, 0, 0))


# -- the parts ---------------------------------------------------------------------------------------------------------


def _address_space() -> int:
    """Bytes of address space that this process has taken; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there: nothing to allow
        return
    if not path.is_dir():
        rights &= _READ_FILE | 1 << 1 | _TRUNCATE
    libc.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, beneath), 0)
    os.close(beneath)
