"""What the kernel enforces on the sandbox's child, which asks for it about itself and cannot take it back.

None of it needs privileges. Resource limits (`setrlimit`) are there on every POSIX system. On Linux come Landlock,
https://docs.kernel.org/userspace-api/landlock.html, which leaves of the file system what is named and no more, and
seccomp filters, https://docs.kernel.org/userspace-api/seccomp_filter.html, which decide about every system call,
whoever makes it: Python, a C extension, or ctypes. A call that is a violation is not refused but handed to the parent
(a "user notification", Linux 5.0), so that the parent knows what was tried and ends the child.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NETWORK = "opened a network connection"
PROCESS = "started a process"

_PR_SET_NO_NEW_PRIVS = 38
_CAP_DAC_READ_SEARCH = 2
_CLONE_THREAD = 0x10000
_AF_UNIX, _SOCK_STREAM = 1, 1

# Landlock has the same numbers on every architecture.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Writing, truncating, removing, and making of directories, files, symbolic links; no devices, sockets or pipes.
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15  # of ABI 2, 3 and 5

# Seccomp's verdicts.
_ALLOW, _NOTIFY, _ERRNO, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000


@dataclass(frozen=True, slots=True)
class _Machine:
    """An architecture's system calls by what becomes of them; names are in the order of the numbers' tuples."""

    audit: int  # AUDIT_ARCH_*
    seccomp: int
    network: tuple[int, ...]  # socket connect bind listen accept accept4
    process: tuple[int, ...]  # execve execveat, and fork vfork where they exist
    socketpair: int
    clone: int
    own_process: tuple[int, ...]  # kill tgkill: of the child itself only
    prlimit: int
    opening: tuple[tuple[int, int], ...]  # open and openat, each with the offset of its flags
    signalling: tuple[int, int]  # fcntl ioctl: that make the kernel signal another process when a file is ready
    ignored: tuple[int, ...]  # changes of mode, owner, times and attributes: Landlock does not know these
    refused: tuple[int, ...]  # ways round the filter, the limits or the address space; other processes; kernel keys


# refused: setsid setpgid ptrace tkill rt_sigqueueinfo rt_tgsigqueueinfo process_vm_readv process_vm_writev pidfd_open
# pidfd_getfd pidfd_send_signal memfd_create memfd_secret unshare setns mount open_by_handle_at bpf perf_event_open
# userfaultfd add_key request_key keyctl io_uring_{setup,enter,register}; truncate, which Landlock does not know before
# its version 3; setpriority ioprio_set sched_{setparam,setscheduler,setaffinity,setattr}; shmget shmat shmctl shmdt
# semget semop semctl semtimedop msgget msgsnd msgrcv msgctl, which take other processes' objects; mq_open mq_unlink
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E, 317, (41, 42, 49, 50, 43, 288), (59, 322, 57, 58), 53, 56, (62, 234), 302,
        ((2, 24), (257, 32)), (72, 16),
        (90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466),
        (112, 109, 101, 200, 129, 297, 310, 311, 434, 438, 424, 319, 447, 272, 308, 165, 304, 321, 298,
         323, 248, 249, 250, 425, 426, 427, 76, 141, 251, 142, 144, 203, 314, 29, 30, 31, 67, 64, 65, 66, 220, 68, 69,
         70, 71, 240, 241),
    ),
    "aarch64": _Machine(
        0xC00000B7, 277, (198, 203, 200, 201, 202, 242), (221, 281), 199, 220, (129, 131), 261,
        ((56, 32),), (25, 29),
        (52, 53, 452, 55, 54, 88, 5, 6, 7, 14, 15, 16, 463, 466),
        (157, 154, 117, 130, 138, 240, 270, 271, 434, 438, 424, 279, 447, 97, 268, 40, 265, 280, 241,
         282, 217, 218, 219, 425, 426, 427, 45, 140, 30, 118, 119, 122, 274, 194, 196, 195, 197, 190, 193, 191, 192,
         186, 189, 188, 187, 180, 181),
    ),
}  # fmt: skip
_CLONE3, _OPENAT2 = 435, 437
_SETTING_OWNER = ((8, 10, 15), (0x8901, 0x8902))  # F_SETOWN F_SETSIG F_SETOWN_EX; FIOSETOWN SIOCSPGRP


def reason_of(system_call: int) -> str:
    """What a notified system call of this machine was an attempt at."""
    machine = _MACHINES[platform.machine()]
    return NETWORK if system_call in (*machine.network, machine.socketpair) else PROCESS


def limit_resources(memory: int, file: int, cpu: int) -> list[str]:
    """Limit this process for good.

    Args:
        memory: Bytes of address space beyond what is taken now.
        file: Bytes of one file.
        cpu: Seconds of processor time, over all calls: what ends a child that has lost its parent.

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


def restrict_system_calls() -> tuple[str, int | None]:
    """Install the filter of system calls.

    Returns:
        "notify" and the descriptor where the parent hears of violations; "kill" where the kernel ends the child at
        once without saying why; "" where this system has no filters, or this machine's calls are not known.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.maxsize < 2**32:
        return "", None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for how, verdict, flags in (("notify", _NOTIFY, 1 << 3), ("kill", _KILL, 0)):
        program = b"".join(_program(machine, verdict))
        code = ctypes.create_string_buffer(program, len(program))
        filters = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
        listener = libc.syscall(machine.seccomp, 1, flags, filters)
        if listener >= 0:
            return how, listener if how == "notify" else None
    return "", None


def next_violation(listener: int, *, refuse: bool = False) -> str:
    """What the child attempted, once the listener can be read; "" where it is gone.

    Args:
        listener: What `restrict_system_calls` gave the child, as received from it.
        refuse: Let the call fail with EPERM, and the child go on; otherwise it waits in the call until it is killed.
    """
    import fcntl

    notice = bytearray(80)  # struct seccomp_notif: id, pid, flags, then struct seccomp_data: first the call's number
    try:
        fcntl.ioctl(listener, 0xC0502100, notice)
        if refuse:  # struct seccomp_notif_resp: id, value, error, flags
            fcntl.ioctl(listener, 0xC0182101, bytearray(notice[:8] + struct.pack("=qiI", 0, -errno.EPERM, 0)))
    except OSError:  # the child was gone in between
        return ""
    return reason_of(struct.unpack_from("=i", notice, 16)[0])


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


def _program(machine: _Machine, violation: int) -> Sequence[bytes]:
    """The filter in classic BPF. Every rule is a test of the call's number that jumps over the rule where it fails."""
    refuse = _ERRNO | errno.EPERM
    own = os.getpid()
    rules: list[bytes] = [
        _load(4), _skip_if(machine.audit, 1, 0), _verdict(_KILL),  # another architecture's calls, such as 32-bit ones
        _load(0), _op(0x35, 0, 1, 0x40000000), _verdict(_KILL),  # x32's calls
    ]  # fmt: skip
    simple = [(numbers, violation) for numbers in (machine.network, machine.process)]
    simple += [(machine.ignored, _ERRNO), (machine.refused, refuse)]
    simple += [((_CLONE3, _OPENAT2), _ERRNO | errno.ENOSYS)]  # their flags lie in memory, where no filter sees them
    for numbers, verdict in simple:
        for number in numbers:
            rules += [_skip_if(number, 0, 1), _verdict(verdict)]
    # A thread may be started, by clone: its flags are the first argument.
    rules += _when(machine.clone, [_load(16), _op(0x45, 0, 1, _CLONE_THREAD), _verdict(_ALLOW), _verdict(violation)])
    # socketpair(AF_UNIX, SOCK_STREAM | flags), which event loops wake themselves with, reaches nobody.
    rules += _when(
        machine.socketpair,
        [_load(16), _skip_if(_AF_UNIX, 0, 4), _load(24), _op(0x54, 0, 0, 0xF), _skip_if(_SOCK_STREAM, 0, 1),
         _verdict(_ALLOW), _verdict(violation)],
    )  # fmt: skip
    for number in machine.own_process:
        rules += _when(number, [_load(16), _skip_if(own, 0, 1), _verdict(_ALLOW), _verdict(refuse)])
    rules += _when(
        machine.prlimit, [_load(16), _skip_if(0, 1, 0), _skip_if(own, 0, 1), _verdict(_ALLOW), _verdict(refuse)]
    )
    # O_TRUNC empties a file that is opened for writing; Linux does so without writing too, and before version 3 of
    # Landlock nothing else looks at it. (Of the two bits of the access mode, 1 is writing, 2 both, 3 neither.)
    for number, flags in machine.opening:
        rules += _when(
            number,
            [_load(flags), _op(0x45, 1, 0, os.O_TRUNC), _verdict(_ALLOW), _op(0x54, 0, 0, os.O_ACCMODE),
             _skip_if(os.O_WRONLY, 1, 0), _skip_if(os.O_RDWR, 0, 1), _verdict(_ALLOW), _verdict(refuse)],
        )  # fmt: skip
    for number, commands in zip(machine.signalling, _SETTING_OWNER, strict=True):
        tests = [test for command in commands for test in (_skip_if(command, 0, 1), _verdict(refuse))]
        rules += _when(number, [_load(24), *tests, _verdict(_ALLOW)])
    return [*rules, _verdict(_ALLOW)]


def _op(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    """Load a word of struct seccomp_data: 0 the number, 4 the architecture, 16, 24, ... the arguments."""
    return _op(0x20, 0, 0, offset)


def _skip_if(value: int, if_equal: int, if_not: int) -> bytes:
    return _op(0x15, if_equal, if_not, value)


def _verdict(action: int) -> bytes:
    return _op(0x06, 0, 0, action)


def _when(number: int, block: Sequence[bytes]) -> list[bytes]:
    """A block that ends in a verdict, for one system call."""
    return [_skip_if(number, 0, len(block)), *block]
