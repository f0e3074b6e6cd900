"""The filter of the sandbox child's system calls (seccomp), and the parent's notifications of violations.

A filter, https://docs.kernel.org/userspace-api/seccomp_filter.html, decides about every system call, whether from
Python, a C extension, or ctypes. A violation is not refused but passed to the parent (a "user
notification", Linux 5.0), so that the parent knows what was attempted and ends the child.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NETWORK = "opened a network connection"
PROCESS = "started a process"

_PR_SET_NO_NEW_PRIVS = 38
_AF_UNIX, _SOCK_STREAM = 1, 1

# Seccomp's verdicts.
_ALLOW, _NOTIFY, _ERRNO, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
_REFUSE = _ERRNO | errno.EPERM


@dataclass(frozen=True, slots=True)
class _Machine:
    """An architecture's system calls by the filter's verdict; names are in the order of the numbers."""

    audit: int  # AUDIT_ARCH_*
    seccomp: int
    network: tuple[int, ...]  # socket connect bind listen accept accept4
    process: tuple[int, ...]  # execve execveat, and fork vfork where they exist
    socketpair: int
    clone: int
    own_process: tuple[int, ...]  # kill tgkill: of the child itself only
    prlimit: int
    open_calls: tuple[tuple[int, int], ...]  # open and openat, each with the offset of its flags
    fcntl: int
    ioctl: int
    prctl: int
    mmap: int
    fallocate: int
    passing: tuple[int, ...]  # sendmsg sendmmsg, which can pass on open files, which would not be counted
    ignored: tuple[int, ...]  # changes of mode, owner, times and attributes: Landlock does not cover these
    refused: tuple[int, ...]  # would bypass the filter or limits, or reach other processes or kernel keys


# refused: setsid setpgid ptrace tkill rt_sigqueueinfo rt_tgsigqueueinfo process_vm_readv process_vm_writev pidfd_open
# pidfd_getfd pidfd_send_signal memfd_create memfd_secret unshare setns mount open_by_handle_at bpf perf_event_open
# userfaultfd add_key request_key keyctl io_uring_{setup,enter,register}; truncate, which Landlock does not cover before
# its version 3; setpriority ioprio_set sched_{setparam,setscheduler,setaffinity,setattr}; shmget shmat shmctl shmdt
# semget semop semctl semtimedop msgget msgsnd msgrcv msgctl, which take other processes' objects; mq_open mq_unlink;
# landlock_{create_ruleset,add_rule,restrict_self}, whose rules keep removed files; io_setup inotify_init1 fanotify_init
# and inotify_init where it exists, whose number is limited for all of the user's programs together
_LANDLOCK = (444, 445, 446)
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E, 317, (41, 42, 49, 50, 43, 288), (59, 322, 57, 58), 53, 56, (62, 234), 302,
        ((2, 24), (257, 32)), 72, 16, 157, 9, 285, (46, 307),
        (90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 463, 466),
        (112, 109, 101, 200, 129, 297, 310, 311, 434, 438, 424, 319, 447, 272, 308, 165, 304, 321, 298,
         323, 248, 249, 250, 425, 426, 427, 76, 141, 251, 142, 144, 203, 314, 29, 30, 31, 67, 64, 65, 66, 220, 68, 69,
         70, 71, 240, 241, *_LANDLOCK, 206, 294, 300, 253),
    ),
    "aarch64": _Machine(
        0xC00000B7, 277, (198, 203, 200, 201, 202, 242), (221, 281), 199, 220, (129, 131), 261,
        ((56, 32),), 25, 29, 167, 222, 47, (211, 269),
        (52, 53, 452, 55, 54, 88, 5, 6, 7, 14, 15, 16, 463, 466),
        (157, 154, 117, 130, 138, 240, 270, 271, 434, 438, 424, 279, 447, 97, 268, 40, 265, 280, 241,
         282, 217, 218, 219, 425, 426, 427, 45, 140, 30, 118, 119, 122, 274, 194, 196, 195, 197, 190, 193, 191, 192,
         186, 189, 188, 187, 180, 181, *_LANDLOCK, 0, 26, 262),
    ),
}  # fmt: skip
_CLONE3, _OPENAT2, _CLOSE_RANGE = 435, 437, 436
# Required flags of clone: it starts a thread, with the same open files, so that they can all be counted.
_CLONE_THREAD = 0x10000 | 0x400  # CLONE_THREAD, CLONE_FILES
_CLOSE_RANGE_UNSHARE = 2
# F_SETOWN F_SETSIG F_SETOWN_EX: the kernel would signal another process; F_SETLEASE, which makes others wait for a
# file; F_NOTIFY, which reports when a folder is read.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
# TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX. Others signal processes (FIOSETOWN) or take disk space that
# file sizes do not show (FS_IOC_RESVSP).
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_SET_PDEATHSIG, by which the child dies with its parent; PR_SET_DUMPABLE, without which the parent cannot count its
# files; PR_SET_SECCOMP; PR_SCHED_CORE, which reaches other processes.
_PRCTL_REFUSED = (1, 4, 22, 62)


def reason_of(system_call: int) -> str:
    """The violation that a notified system call of this machine attempted."""
    machine = _MACHINES[platform.machine()]
    return NETWORK if system_call in (*machine.network, machine.socketpair) else PROCESS


def restrict_system_calls(hand_over: Callable[[int | None], None]) -> str:
    """Install the filter of system calls.

    Args:
        hand_over: Gives the parent the descriptor that notifies it of violations, or None if there is none. It is
            called once; afterwards no descriptor can be sent.

    Returns:
        "notify" if the parent is notified of violations; "kill" if the kernel kills the child without giving a
        reason; "" if this system has no filters, or the machine's system calls are unknown.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.maxsize < 2**32:
        hand_over(None)
        return ""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for how, verdict, flags in (("notify", _NOTIFY, 1 << 3), ("kill", _KILL, 0)):
        listener = _install(machine, _program(machine, verdict), flags)
        if listener >= 0:
            hand_over(listener if how == "notify" else None)
            passing = [rule for number in machine.passing for rule in _when(number, [_verdict(_REFUSE)])]
            _install(machine, [_load(0), *passing, _verdict(_ALLOW)], 0)
            return how
    hand_over(None)
    return ""


def next_violation(listener: int, *, refuse: bool = False) -> str:
    """The child's violation, once the listener can be read; "" if the child has ended.

    Args:
        listener: The descriptor from `restrict_system_calls`, received from the child.
        refuse: Let the call fail with EPERM, and the child continue; otherwise it waits in the call until it is killed.
    """
    import fcntl

    notice = bytearray(80)  # struct seccomp_notif: id, pid, flags, then struct seccomp_data: first the call's number
    try:
        fcntl.ioctl(listener, 0xC0502100, notice)
        if refuse:  # struct seccomp_notif_resp: id, value, error, flags
            fcntl.ioctl(listener, 0xC0182101, bytearray(notice[:8] + struct.pack("=qiI", 0, -errno.EPERM, 0)))
    except OSError:  # the child ended in between
        return ""
    return reason_of(struct.unpack_from("=i", notice, 16)[0])


# -- the program -------------------------------------------------------------------------------------------------------


def _install(machine: _Machine, rules: Sequence[bytes], flags: int) -> int:
    """Installs a filter; returns a negative number if the kernel refuses it, or the listener's descriptor."""
    program = b"".join(rules)
    code = ctypes.create_string_buffer(program, len(program))
    filters = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    return int(ctypes.CDLL(None, use_errno=True).syscall(machine.seccomp, 1, flags, filters))


def _program(machine: _Machine, violation: int) -> Sequence[bytes]:
    """The filter in classic BPF. Every rule tests the call's number, and is jumped over if it differs."""
    own = os.getpid()
    rules: list[bytes] = [
        _load(4), _skip_if(machine.audit, 1, 0), _verdict(_KILL),  # calls of another architecture, such as 32-bit ones
        _load(0), _op(0x35, 0, 1, 0x40000000), _verdict(_KILL),  # x32's calls
    ]  # fmt: skip
    simple = [(numbers, violation) for numbers in (machine.network, machine.process)]
    simple += [(machine.ignored, _ERRNO), (machine.refused, _REFUSE)]
    simple += [((_CLONE3, _OPENAT2), _ERRNO | errno.ENOSYS)]  # their flags are in memory, which filters cannot read
    for numbers, verdict in simple:
        for number in numbers:
            rules += [_skip_if(number, 0, 1), _verdict(verdict)]
    # A thread may be started, by clone: its flags are the first argument.
    rules += _when(
        machine.clone,
        [_load(16), _and(_CLONE_THREAD), _skip_if(_CLONE_THREAD, 0, 1), _verdict(_ALLOW), _verdict(violation)],
    )
    # socketpair(AF_UNIX, SOCK_STREAM | flags), which event loops use to wake themselves, is harmless.
    rules += _when(
        machine.socketpair,
        [_load(16), _skip_if(_AF_UNIX, 0, 4), _load(24), _and(0xF), _skip_if(_SOCK_STREAM, 0, 1),
         _verdict(_ALLOW), _verdict(violation)],
    )  # fmt: skip
    for number in machine.own_process:
        rules += _when(number, [_load(16), _skip_if(own, 0, 1), _verdict(_ALLOW), _verdict(_REFUSE)])
    rules += _when(
        machine.prlimit, [_load(16), _skip_if(0, 1, 0), _skip_if(own, 0, 1), _verdict(_ALLOW), _verdict(_REFUSE)]
    )
    # O_TRUNC empties a file that is opened for writing; Linux does so without writing too, and before version 3 of
    # Landlock nothing else looks at it. (Of the two bits of the access mode, 1 is writing, 2 both, 3 neither.)
    for number, flags in machine.open_calls:
        rules += _when(
            number,
            [_load(flags), _op(0x45, 1, 0, os.O_TRUNC), _verdict(_ALLOW), _and(os.O_ACCMODE),
             _skip_if(os.O_WRONLY, 1, 0), _skip_if(os.O_RDWR, 0, 1), _verdict(_ALLOW), _verdict(_REFUSE)],
        )  # fmt: skip
    rules += _when(machine.fcntl, [_load(24), *_listed(_FCNTL_REFUSED, _REFUSE), _verdict(_ALLOW)])
    rules += _when(machine.prctl, [_load(16), *_listed(_PRCTL_REFUSED, _REFUSE), _verdict(_ALLOW)])
    rules += _when(machine.ioctl, [_load(24), *_listed(_IOCTL_ALLOWED, _ALLOW), _verdict(_REFUSE)])
    # Modes of fallocate allocate space beyond a file's end, which the limit on its size does not cover.
    rules += _when(machine.fallocate, [_load(24), _skip_if(0, 0, 1), _verdict(_ALLOW), _verdict(_ERRNO | 95)])
    # MAP_SHARED (1 or 3) with MAP_ANONYMOUS (0x20): of such memory all stays as long as a page of it is mapped, and
    # the limits see only that page.
    rules += _when(
        machine.mmap,
        [_load(40), _op(0x45, 1, 0, 0x20), _verdict(_ALLOW), _and(0xF), *_listed((1, 3), _REFUSE), _verdict(_ALLOW)],
    )
    rules += _when(
        _CLOSE_RANGE, [_load(32), _op(0x45, 0, 1, _CLOSE_RANGE_UNSHARE), _verdict(_REFUSE), _verdict(_ALLOW)]
    )
    return [*rules, _verdict(_ALLOW)]


def _op(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    """Load a word of struct seccomp_data: 0 the number, 4 the architecture, 16, 24, ... the arguments."""
    return _op(0x20, 0, 0, offset)


def _and(mask: int) -> bytes:
    return _op(0x54, 0, 0, mask)


def _skip_if(value: int, if_equal: int, if_not: int) -> bytes:
    return _op(0x15, if_equal, if_not, value)


def _verdict(action: int) -> bytes:
    return _op(0x06, 0, 0, action)


def _listed(values: Sequence[int], action: int) -> list[bytes]:
    """A verdict if the loaded word is one of these."""
    return [rule for value in values for rule in (_skip_if(value, 0, 1), _verdict(action))]


def _when(number: int, block: Sequence[bytes]) -> list[bytes]:
    """A block that ends in a verdict, for one system call."""
    return [_skip_if(number, 0, len(block)), *block]
