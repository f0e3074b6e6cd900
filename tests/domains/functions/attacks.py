"""Functions that try to get out of the sandbox. Each answers "refused" where nothing of what it tried was possible.

The tests copy this file into a project and call its functions there; nothing imports it. `docs/attacks/sandbox.md` says
what became of each.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import mmap
import os
import platform
import socket
import struct
import sys
import threading
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
_X86 = platform.machine() == "x86_64"
CALLS = {  # numbers on x86-64, on ARM64
    "accept4": (288, 242), "clone": (56, 220), "close_range": (436, 436), "copy_file_range": (326, 285),
    "execveat": (322, 281), "fallocate": (285, 47), "fchmodat2": (452, 452), "io_setup": (206, 0),
    "io_uring_setup": (425, 425), "kill": (62, 129), "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444), "memfd_create": (319, 279), "mq_open": (240, 180),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "openat2": (437, 437), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "prctl": (157, 167), "prlimit64": (302, 261), "process_vm_readv": (310, 270),
    "ptrace": (101, 117), "renameat2": (316, 276), "rt_sigqueueinfo": (129, 138), "seccomp": (317, 277),
    "setns": (308, 268), "shmget": (29, 194), "tgkill": (234, 131), "tkill": (200, 130), "unshare": (272, 97),
    "add_key": (248, 217), "bpf": (321, 280), "userfaultfd": (323, 282), "perf_event_open": (298, 241),
    "sched_setaffinity": (203, 122), "setpriority": (141, 140), "setsid": (112, 157), "inotify_init1": (294, 26),
    "process_madvise": (440, 440), "utimensat": (280, 88), "linkat": (265, 37), "mknodat": (259, 33),
}  # fmt: skip


def kernel(name, *arguments):
    """A raw system call: "refused" where it fails, else what it gave."""
    value = LIBC.syscall(CALLS[name][0 if _X86 else 1], *arguments)
    return "refused" if value < 0 else value


def tried(*attempts):
    """ "refused" where every attempt fails, else what the first that succeeded gave."""
    for attempt in attempts:
        try:
            value = attempt()
        except (OSError, ImportError, ValueError, AttributeError):
            continue
        if value != "refused":
            return str(value)
    return "refused"


# -- read --------------------------------------------------------------------------------------------------------------


def read_by_handle_of_path(secret):
    return tried(lambda: open(f"/proc/self/fd/{os.open(secret, os.O_PATH)}").read())


def read_by_link(secret):
    os.symlink(secret, "link")
    return tried(lambda: Path("link").read_text())


def read_by_hard_link(secret):
    return "refused" if LIBC.link(secret.encode(), b"hard") < 0 else Path("hard").read_text()


def read_by_rename(secret):
    code = CALLS["renameat2"][0 if _X86 else 1]
    moved = LIBC.syscall(code, -100, secret.encode(), -100, b"moved", 0)
    return "refused" if moved < 0 else Path("moved").read_text()


def read_from_the_root(secret):
    file = LIBC.openat(LIBC.open(b"/", os.O_PATH), secret[1:].encode(), os.O_RDONLY)
    return "refused" if file < 0 else os.read(file, 100).decode()


def read_from_its_folder(secret):
    os.chdir(os.path.dirname(secret))
    return tried(lambda: Path(os.path.basename(secret)).read_text())


def read_by_openat2(secret):
    how = struct.pack("QQQ", 0, 0, 0)
    got = kernel("openat2", -100, secret.encode(), how, len(how))
    return got if got == "refused" else os.read(got, 100).decode()


def read_by_file_handle(secret):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    if kernel("name_to_handle_at", -100, secret.encode(), handle, ctypes.byref(ctypes.c_int()), 0) == "refused":
        return "refused"
    return kernel("open_by_handle_at", LIBC.open(b"/", os.O_PATH), handle, os.O_RDONLY)


def read_as_a_module(secret):
    import runpy
    from importlib.machinery import SourceFileLoader

    return tried(lambda: SourceFileLoader("x", secret).get_data(secret), lambda: runpy.run_path(secret))


def read_as_a_database(secret):
    import sqlite3

    try:
        return sqlite3.connect(f"file:{secret}?mode=ro", uri=True).execute("select * from sqlite_master").fetchall()
    except sqlite3.OperationalError:
        return "refused"


def read_memory_of_the_parent(secret):
    buffer = ctypes.create_string_buffer(16)
    vector = struct.pack("PQ", ctypes.addressof(buffer), 16)
    return tried(
        lambda: kernel("process_vm_readv", os.getppid(), vector, 1, vector, 1, 0),
        lambda: kernel("ptrace", 16, os.getppid(), 0, 0),
        lambda: open(f"/proc/{os.getppid()}/mem", "rb").read(1),
        lambda: open(f"/proc/{os.getppid()}/environ").read(),
        lambda: open(f"/proc/{os.getppid()}/cmdline").read(),
    )


def read_open_files_of_the_parent(secret):
    return tried(
        lambda: kernel("pidfd_open", os.getppid(), 0),
        lambda: kernel("pidfd_getfd", 0, 3, 0),
        lambda: os.listdir(f"/proc/{os.getppid()}/fd"),
    )


def read_other_folders(secret):
    import glob

    places = (os.path.dirname(secret), "/root", "/etc", "/home", "/proc", "/sys", "/dev", "/tmp", "/")
    return tried(
        *(lambda place=place: os.listdir(place) for place in places),
        lambda: glob.glob(os.sep.join(["", "root", "*"])) or "refused",
    )


def read_by_copying(secret):
    import shutil

    return tried(lambda: shutil.copyfile(secret, "copy"), lambda: shutil.copytree(os.path.dirname(secret), "copies"))


# -- write -------------------------------------------------------------------------------------------------------------


def _c(name, *arguments):
    return "refused" if getattr(LIBC, name)(*arguments) < 0 else "done"


def write_at_its_end(victim):
    return _c("open", victim.encode(), os.O_WRONLY | os.O_APPEND)


def write_a_new_file_beside(victim):
    return _c("open", f"{victim}.new".encode(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def write_over_by_rename(victim):
    Path("own").write_text("gone")
    return _c("rename", b"own", victim.encode())


def write_a_link_beside(victim):
    Path("own").write_text("gone")
    return tried(
        lambda: _c("link", b"own", f"{victim}.link".encode()),
        lambda: _c("symlink", b"/etc/passwd", f"{victim}.symlink".encode()),
    )


def write_through_a_link(victim):
    LIBC.symlink(victim.encode(), b"link")
    return _c("open", b"link", os.O_RDWR)


def write_by_removing(victim):
    return tried(lambda: _c("unlink", victim.encode()), lambda: _c("unlinkat", -100, victim.encode(), 0))


def write_a_folder_beside(victim):
    return _c("mkdir", f"{victim}.folder".encode(), 0o700)


def write_its_mode_and_times(victim):
    kernel("fchmodat2", -100, victim.encode(), 0, 0)
    kernel("utimensat", -100, victim.encode(), struct.pack("qqqq", 1, 0, 1, 0), 0)
    LIBC.chmod(victim.encode(), 0)
    LIBC.setxattr(victim.encode(), b"user.x", b"y", 1, 0)
    return "refused"  # the test looks at the file


def write_by_a_device(victim):
    return tried(
        lambda: kernel("mknodat", -100, b"disk", 0o60600, os.makedev(8, 0)),
        lambda: kernel("mknodat", -100, b"pipe", 0o10600, 0),
    )


def write_without_a_name(victim):
    folder = os.path.dirname(victim)
    return tried(lambda: _c("open", folder.encode(), os.O_TMPFILE | os.O_WRONLY, 0o600))


def write_by_mapping(victim):
    def write():
        with mmap.mmap(os.open(victim, os.O_RDONLY), 4, mmap.MAP_SHARED, mmap.PROT_WRITE) as memory:
            memory[:4] = b"gone"

    return tried(write)


def write_by_copy_file_range(victim):
    Path("own").write_text("gone")
    file = LIBC.open(victim.encode(), os.O_RDWR)
    return kernel("copy_file_range", os.open("own", os.O_RDONLY), None, file, None, ctypes.c_size_t(4), 0)


def write_a_lease(victim):
    """Whoever opened the victim for writing would wait for a lease on it."""
    own = os.open(__file__, os.O_RDONLY)
    return tried(lambda: fcntl.fcntl(own, 1024, fcntl.F_RDLCK))


# -- network -----------------------------------------------------------------------------------------------------------


def connect_by_http(port):
    import urllib.request

    return urllib.request.urlopen(f"http://127.0.0.1:{port}/").status


def connect_by_asyncio(port):
    import asyncio

    return asyncio.run(asyncio.open_connection("127.0.0.1", port))


def connect_by_datagram(port):
    return LIBC.socket(socket.AF_INET, socket.SOCK_DGRAM, 0)


def connect_by_version_6(port):
    return LIBC.socket(socket.AF_INET6, socket.SOCK_STREAM, 0)


def connect_by_netlink(port):
    return LIBC.socket(16, socket.SOCK_RAW, 0)


def connect_by_packets(port):
    return LIBC.socket(17, socket.SOCK_RAW, 0)


def connect_to_the_machine(port):
    return LIBC.socket(40, socket.SOCK_STREAM, 0)  # AF_VSOCK


def connect_to_the_crypto_api(port):
    return LIBC.socket(38, socket.SOCK_SEQPACKET, 0)  # AF_ALG


def connect_to_a_path(port):
    one, _ = socket.socketpair()
    address = struct.pack("H", socket.AF_UNIX) + b"/run/docker.sock\0"
    return LIBC.connect(one.fileno(), address, len(address))


def connect_its_channel_elsewhere(port):
    address = struct.pack(">HH4s8x", 2 << 8, port, bytes([127, 0, 0, 1]))
    return LIBC.connect(int(sys.argv[1]), address, 16)


def connect_by_listening(port):
    one, _ = socket.socketpair()
    return LIBC.listen(one.fileno(), 1)


def connect_by_io_uring(port):
    return kernel("io_uring_setup", 8, ctypes.create_string_buffer(120))


def connect_by_resolving(port):
    return socket.gethostbyname("example.org")


# -- processes and threads ---------------------------------------------------------------------------------------------


def start_by_vfork():
    return LIBC.vfork()


def start_by_spawn():
    return os.posix_spawn("/bin/true", ["true"], {})


def start_by_multiprocessing():
    import multiprocessing

    multiprocessing.get_context("fork").Process(target=print).start()


def start_by_spawning_python():
    import multiprocessing

    multiprocessing.get_context("spawn").Process(target=print).start()


def start_by_system():
    return LIBC.system(b"true")


def start_by_popen():
    return LIBC.popen(b"true", b"r")


def start_by_execveat():
    return kernel("execveat", LIBC.open(os.path.realpath(sys.executable).encode(), os.O_PATH), b"", None, None, 0x1000)


def start_by_clone():
    return kernel("clone", 17, 0, 0, 0, 0)


def start_by_pty():
    import pty

    return pty.fork()


def start_a_thread_with_files_of_its_own():
    return kernel("clone", 0x10000 | 0x800 | 0x100 | 0x200, ctypes.create_string_buffer(1 << 16), 0, 0, 0)


def start_files_of_its_own():
    return tried(lambda: kernel("close_range", 60, 60, 2), lambda: kernel("unshare", 0x400))


def start_a_namespace():
    return tried(*(lambda flag=flag: kernel("unshare", flag) for flag in (0x10000000, 0x20000, 0x40000000)))


def start_many_threads():
    import _thread

    threading.stack_size(32 << 10)
    try:
        while True:
            _thread.start_new_thread(time.sleep, (60,))
    except RuntimeError:
        time.sleep(60)


def start_a_session():
    return kernel("setsid")


# -- signals and the parent --------------------------------------------------------------------------------------------


def signal_the_parent():
    return tried(*(lambda number=number: kernel("kill", os.getppid(), number) for number in (0, 2, 10, 15, 19, 9)))


def signal_everybody():
    return tried(lambda: kernel("kill", -1, 0), lambda: kernel("kill", 0, 0), lambda: kernel("kill", -os.getpid(), 0))


def signal_a_thread():
    return tried(lambda: kernel("tkill", os.getppid(), 10), lambda: kernel("tgkill", os.getppid(), os.getppid(), 10))


def signal_with_a_value():
    return kernel("rt_sigqueueinfo", os.getppid(), 10, ctypes.create_string_buffer(128))


def signal_by_its_channel():
    channel = int(sys.argv[1])
    return tried(
        lambda: fcntl.fcntl(channel, fcntl.F_SETOWN, os.getppid()),
        lambda: fcntl.ioctl(channel, 0x8901, struct.pack("i", os.getppid())),
    )


def outlive_the_parent():
    return tried(lambda: kernel("prctl", 1, 0, 0, 0, 0))


def hide_from_the_parent():
    return tried(lambda: kernel("prctl", 4, 0, 0, 0, 0))


def limit_the_parent():
    return kernel("prlimit64", os.getppid(), 7, struct.pack("QQ", 3, 3), None)


def slow_the_parent_down():
    return tried(
        lambda: kernel("setpriority", 0, os.getppid(), 19),
        lambda: kernel("sched_setaffinity", os.getppid(), 8, struct.pack("Q", 1)),
        lambda: kernel("prctl", 62, 2, os.getppid(), 0, 0),
    )


def type_into_the_terminal():
    return tried(*(lambda file=file: fcntl.ioctl(file, 0x5412, b"x") for file in (0, 1, 2)))


def raise_its_limits():
    unlimited = struct.pack("QQ", 2**64 - 1, 2**64 - 1)
    return tried(*(lambda kind=kind: kernel("prlimit64", 0, kind, unlimited, None) for kind in (0, 1, 7, 9)))


def replace_the_filter():
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
    program = struct.pack("HP", 1, ctypes.addressof(allow))
    kernel("seccomp", 1, 0, program)
    return "refused" if LIBC.syscall(CALLS["setsid"][0 if _X86 else 1]) < 0 else "done"


# -- memory, disk, inodes ----------------------------------------------------------------------------------------------


def take_folders():
    for number in range(200_000):
        os.mkdir(str(number))


def take_links():
    for number in range(200_000):
        os.symlink("x" * 200, str(number))


def take_depth():
    for _ in range(4_000):
        os.mkdir("d")
        os.chdir("d")
    time.sleep(60)


def take_what_is_below_a_long_path():
    name, data = b"d" * 200, bytes(1 << 20)
    for _ in range(30):
        LIBC.mkdir(name, 0o700)
        LIBC.chdir(name)
    for number in range(50):
        os.write(LIBC.open(str(number).encode(), os.O_WRONLY | os.O_CREAT, 0o600), data)
        time.sleep(0.01)
    return "50 MB are there"


def take_files_in_flight():
    import array

    one, two = socket.socketpair()
    for _ in range(50):
        with open("f", "wb") as file:
            file.write(bytes(1 << 20))
            os.remove("f")
            try:
                one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])
            except PermissionError:
                return "refused"
        time.sleep(0.01)
    return f"50 MB are in flight to {two.fileno()}"


def take_files_that_are_mapped():
    LIBC.mmap.restype = ctypes.c_void_p
    for _number in range(50):
        file = os.open("f", os.O_RDWR | os.O_CREAT)
        os.write(file, bytes(1 << 20))
        LIBC.mmap(None, ctypes.c_size_t(4096), 1, 1, file, ctypes.c_long(0))
        os.close(file)
        os.remove("f")
        time.sleep(0.01)
    return "50 MB are mapped"


def take_room_beyond_the_end():
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    taken = LIBC.fallocate(file, 1, ctypes.c_long(0), ctypes.c_long(300 << 20))
    return "refused" if taken < 0 else f"{os.fstat(file).st_blocks >> 11} MB"


def take_room_by_ioctl():
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    room = struct.pack("hhxxxxqqiI4i", 0, 0, 0, 300 << 20, 0, 0, 0, 0, 0, 0)
    taken = LIBC.ioctl(file, 0x40305828, room)
    return "refused" if taken < 0 else f"{os.fstat(file).st_blocks >> 11} MB"


def take_files_by_rules():
    rules = kernel("landlock_create_ruleset", struct.pack("Q", 4), 8, 0)
    if rules == "refused":
        return rules
    for _ in range(50):
        with open("f", "wb") as file:
            file.write(bytes(1 << 20))
            kernel("landlock_add_rule", rules, 1, struct.pack("=Qi", 4, file.fileno()), 0)
        os.remove("f")
        time.sleep(0.01)
    return "50 MB are kept by rules"


def take_shared_memory():
    LIBC.mmap.restype = ctypes.c_void_p
    size = 61 << 20
    for _ in range(20):
        place = LIBC.mmap(None, ctypes.c_size_t(size), 3, 0x21, -1, ctypes.c_long(0))
        if place in (None, 2**64 - 1):
            return "refused"
        ctypes.memset(place, 1, size)
        LIBC.munmap(ctypes.c_void_p(place + 4096), ctypes.c_size_t(size - 4096))
    return "1280 MB are kept by 20 pages"


def take_other_memory():
    return tried(
        lambda: kernel("memfd_create", b"x", 0),
        lambda: kernel("shmget", 0, 4096, 0o1600),
        lambda: _c("open", b"/dev/shm/x", os.O_CREAT | os.O_RDWR, 0o600),
        lambda: kernel("mq_open", b"/x", os.O_CREAT | os.O_RDWR, 0o600, None),
        lambda: kernel("add_key", b"user", b"x", b"y", 1, -3),
    )


def take_what_all_share():
    return tried(
        lambda: kernel("io_setup", 1, ctypes.create_string_buffer(8)),
        lambda: kernel("inotify_init1", 0),
        lambda: kernel("bpf", 0, ctypes.create_string_buffer(128), 128),
        lambda: kernel("userfaultfd", 0),
        lambda: kernel("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0),
    )


def take_unreadable_folders():
    for number in range(3):
        os.mkdir(str(number), 0o300)
        for part in range(3):
            Path(str(number), str(part)).write_bytes(bytes(1 << 20))
    time.sleep(0.3)
    return sum(each.stat().st_size for number in range(3) for each in Path(str(number)).iterdir())


def take_by_moving_about():
    """The folder is always where was looked already."""
    os.mkdir("a"), os.mkdir("b")
    for number in range(30):
        Path(f"a/{number}").write_bytes(bytes(1 << 20))
    until = time.monotonic() + 3
    while time.monotonic() < until:
        os.rename("a", "c")
        os.rename("b", "a")
        os.rename("c", "b")
    return "30 MB stay"


def take_output():
    line = b"x" * (1 << 20)
    for _ in range(200):
        os.write(2, line)


def take_memory_in_pieces():
    kept = []
    while True:
        kept.append(ctypes.create_string_buffer(1 << 16))


# -- forged outcomes ---------------------------------------------------------------------------------------------------


def _token():
    children = (each for each in gc.get_objects() if hasattr(type(each), "serve"))
    return next((each.token for each in children if hasattr(each, "token")), "")


def _say(**message):
    os.write(int(sys.argv[1]), json.dumps({"token": _token(), "seconds": 0.0, **message}).encode() + b"\n")


def plain(seconds=0.0):
    time.sleep(seconds)
    return "plain"


def forge_its_own():
    """It may lie about its own result; the next call has its own."""
    _say(result="forged")
    time.sleep(0.2)
    return "real"


def forge_without_a_token():
    os.write(int(sys.argv[1]), b'{"result": "forged", "seconds": 0.0}\n')
    time.sleep(0.2)
    return "real"


def forge_two_at_once():
    channel, line = int(sys.argv[1]), json.dumps({"token": _token(), "result": "forged"}).encode() + b"\n"
    os.write(channel, line + line)
    return "real"


def forge_by_a_raw_thread():
    """A thread that outlives its call, unknown to Python, answers the calls that follow."""
    import _thread

    channel, count = int(sys.argv[1]), threading.active_count()
    threading.active_count = lambda: count

    def answer():
        while True:
            time.sleep(0.002)
            os.write(channel, json.dumps({"token": _token(), "result": "forged", "seconds": 0.0}).encode() + b"\n")

    _thread.start_new_thread(lambda: (time.sleep(0.1), answer()), ())
    return "real"


def forge_later_by_a_timer():
    """A thread that hides among Python's own."""
    timer = threading.Timer(0.1, lambda: _say(result="forged"))
    threading._active = {}
    timer.daemon = True
    timer.start()
    threading._active.clear()
    return "real"


def forge_depth():
    os.write(int(sys.argv[1]), f'{{"token": "{_token()}", "result": {"[" * 400}{"]" * 400}}}\n'.encode())
    time.sleep(0.2)


def forge_numbers_that_are_none():
    os.write(int(sys.argv[1]), f'{{"token": "{_token()}", "result": [NaN, 1e999]}}\n'.encode())
    time.sleep(0.2)


def forge_its_time():
    _say(result="forged", seconds=-1e308)
    time.sleep(0.2)


def forge_a_long_output():
    _say(result="forged", stdout="x" * 3_000_000, error_type="E" * 100_000)
    time.sleep(0.2)


def forge_half_a_message():
    os.write(int(sys.argv[1]), b'{"result": "')
    os._exit(0)


def forge_an_endless_message():
    while True:
        os.write(int(sys.argv[1]), b"x" * (1 << 16))


def forge_the_end():
    os.close(int(sys.argv[1]))
    time.sleep(60)


def forge_no_object():
    os.write(int(sys.argv[1]), b"[1, 2, 3]\n")
    time.sleep(0.2)


# -- results -----------------------------------------------------------------------------------------------------------


def _nested(depth, empty=None, wrap=lambda value: [value]):
    value = empty
    for _ in range(depth):
        value = wrap(value)
    return value


def result_of_100_lists():
    return _nested(100, 1)


def result_of_490_lists():
    return _nested(490, 1)


def result_of_490_objects():
    return _nested(490, 1, lambda value: {"a": value})


def result_of_900_tuples():
    return _nested(900, (), lambda value: (value,))


def result_of_100000_lists():
    return _nested(100_000)


def result_that_holds_itself():
    value = []
    value.append(value)
    return value


def result_that_doubles():
    return _nested(16, 1, lambda value: [value, value])  # 65,536 in all


def result_of_a_million():
    return list(range(1_000_000))


def result_of_long_keys():
    return {"k" * 2_000_000: 1}


def result_that_represents_itself_badly():
    class Bad:
        def __repr__(self):
            raise LookupError("bad")

    return Bad()


def result_that_represents_itself_at_length():
    class Long:
        def __repr__(self):
            return "x" * 50_000_000

    return Long()


def result_that_dumps_itself():
    class Loop:
        def model_dump(self):
            return self

    return Loop()


def result_that_is_too_long_a_number():
    return 10**5_000


def result_in_an_exception():
    raise ValueError("x" * 50_000_000)


def result_in_nested_exceptions():
    error = None
    for _ in range(5_000):
        error = ExceptionGroup("x", [error or ValueError("y")])
    raise error


def result_on_standard_output():
    for _ in range(200):
        print("x" * 1_000_000)


def result_of_deep_dataclasses():
    from dataclasses import make_dataclass

    Node = make_dataclass("Node", ["inner"])
    return _nested(300, None, Node)
