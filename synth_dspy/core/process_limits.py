"""Kernel-enforced limits that the sandbox's child process sets on itself, irrevocably.

None of them needs privileges. Resource limits (`setrlimit`) exist on every POSIX system. Linux adds Landlock,
https://docs.kernel.org/userspace-api/landlock.html, which restricts access to the file system, and seccomp filters
(`domains/functions/sandbox/seccomp.py`).
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
    """Have this process killed when its parent ends, however that happens.

    On Linux the kernel does it. It treats the thread that started this process as the parent, so that thread must
    outlive it. Elsewhere a thread checks every second.

    Args:
        parent: The parent's process id at the start.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(0, signal.SIGKILL)

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
    else:
        threading.Thread(target=watch, daemon=True).start()


def limit_resources(memory: int, file: int, cpu: int) -> list[str]:
    """Limit this process irrevocably.

    Args:
        memory: Bytes of address space on top of what is in use now.
        file: Maximum size of a file in bytes.
        cpu: Seconds of processor time in all.

    Returns:
        Names of the limits that this system refused.
    """
    import resource

    limits = {"CORE": 0, "CPU": cpu, "FSIZE": file, "NOFILE": 64, "AS": memory + _address_space()}
    refused = []
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):
            refused.append(name)
    return refused


def forbid_processes() -> None:
    """Forbid new processes where seccomp is missing. The limit counts all of the user's processes and spares root."""
    import resource

    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def restrict_files(readable: Iterable[Path], listable: Iterable[Path], writable: Path) -> int:
    """Landlock: restrict this process to the named parts of the file system, and forbid TCP.

    Args:
        readable: Files, and folders with everything in them.
        listable: Folders whose file names, but not files, can be read.
        writable: The only folder where files can be created, changed and removed.

    Returns:
        Landlock's ABI version; 0 if this system has no Landlock, and nothing is restricted.
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
        attributes.append(0b11)  # bind and connect of TCP sockets
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
    """Drop all of root's capabilities except reading, so that root can read its own files where Landlock allows it."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", 0x20080522, 0)  # version 3, this thread
    capabilities = ctypes.create_string_buffer(24)
    if libc.capget(header, capabilities) == 0:
        permitted = struct.unpack("=6I", capabilities.raw)[1] & 1 << _CAP_DAC_READ_SEARCH
        libc.capset(header, struct.pack("=6I", permitted, permitted, 0, 0, 0, 0))


def _address_space() -> int:
    """Bytes of address space in use by this process; 0 if the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it does not exist
        return
    if not path.is_dir():
        rights &= _READ_FILE | 1 << 1 | _TRUNCATE
    libc.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, fd), 0)
    os.close(fd)
