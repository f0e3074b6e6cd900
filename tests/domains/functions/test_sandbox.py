"""The sandbox stops what a function must not do, says why, and goes on with the next call.

What is marked `kernel` gets round Python's own functions by ctypes, and is stopped on Linux only.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.sandbox import process as sandbox_process
from synth_dspy.domains.functions.sandbox import run as sandboxes
from synth_dspy.domains.functions.sandbox import settings as sandbox_settings
from synth_dspy.domains.functions.sandbox.run import Outcome, Sandbox
from synth_dspy.domains.functions.schema import Call, Function

MODULE = """
import asyncio, ctypes, datetime, enum, fcntl, os, socket, subprocess, sys, tempfile, threading, time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import helper

class Seat(enum.Enum):
    AISLE = "aisle"
    WINDOW = "window"

@dataclass
class Trip:
    day: datetime.date
    seat: Seat

def add(a: int, b: int) -> int: return a + b
def greet(name):
    print("hello", name)
    print("to the log", file=sys.stderr)
    return helper.polite(name)
def fail(): raise LookupError("no such thing")
def leave(): sys.exit(3)
def crash(): os._exit(3)
def thing(): return {1: {3, 1, 2}, "x": [object(), float("nan"), datetime.date(2024, 2, 29), Seat.AISLE]}
def huge(): return "x" * 5_000_000
def digits(): return 10 ** 10_000
def weekday(day: datetime.date, seat: Seat | None = None) -> str: return f"{day:%A} {seat}"
def plan(trips: list[Trip]): return [trip.day.year for trip in trips], trips[0]
def late(when: Literal["now", "never"] = "now"): return when
async def slowly(x: int) -> int:
    await asyncio.sleep(0.01)
    return x
def order(): return list({"b", "a", "c", "d", "e", "f"})
def keep(text):
    Path("note.txt").write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.txt"
        copy.write_text(text)
        import shutil
        shutil.copy2("note.txt", folder)
        return copy.read_text() + Path(folder, "note.txt").read_text()
def threads():
    seen = []
    workers = [threading.Thread(target=seen.append, args=(i,)) for i in range(4)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    return sorted(seen)
count = 0
def counted():
    global count
    count += 1
    return count
def linger():
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return "done"

def endless():
    while True: pass
def sleepless(): time.sleep(60)
def stubborn():
    while True:
        try: time.sleep(60)
        except BaseException: pass
def memory(): return len(bytearray(2 << 30))
def creeping():
    kept = []
    try:
        while True: kept.append(bytearray(1 << 20))
    except MemoryError:
        return "caught"
def write(path): Path(path).write_text("gone")
def delete(path): os.remove(path)
def write_c(path):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.open(path.encode(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) >= 0: return "written"
    if libc.unlink(path.encode()) == 0: return "removed"
    return "refused"
def errors_of(call, *arguments):
    return 0 if call(*arguments) >= 0 else ctypes.get_errno()
def empty_c(path):
    libc = ctypes.CDLL(None, use_errno=True)
    return [errors_of(libc.truncate, path.encode(), 0), *(
        errors_of(libc.open, path.encode(), flags | os.O_TRUNC) for flags in (os.O_RDONLY, 3)),
        errors_of(libc.openat, -100, path.encode(), os.O_RDONLY | os.O_TRUNC)]
def overwrite(text):
    for _ in range(2):
        with open("own.txt", "w+") as file: file.write(text)
        with open("own.txt", "r+") as file: file.truncate(2)
    return Path("own.txt").read_text()
def signal_c(pid, number):
    a, b = socket.socketpair()
    libc, owner = ctypes.CDLL(None, use_errno=True), ctypes.byref((ctypes.c_int * 2)(1, pid))
    failed = [errors_of(libc.fcntl, a.fileno(), command, argument) for command, argument in
              ((fcntl.F_SETOWN, pid), (10, number), (15, owner))]
    failed += [errors_of(libc.ioctl, a.fileno(), command, ctypes.byref(ctypes.c_int(pid))) for command in
               (0x8901, 0x8902)]
    fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC)
    b.send(b"x")
    return failed
def others_c(pid):
    libc, priority = ctypes.CDLL(None, use_errno=True), ctypes.byref(ctypes.c_int(0))
    return [errors_of(*call) for call in (
        (libc.setpriority, 0, pid, 5), (libc.sched_setscheduler, pid, 3, priority), (libc.semget, 0, 1, 0o1600),
        (libc.sched_setaffinity, pid, 128, ctypes.create_string_buffer(b"1" * 128, 128)), (libc.semctl, 0, 0, 0),
        (libc.sched_setparam, pid, priority), (libc.msgsnd, 0, priority, 0, 0), (libc.shmdt, 0))]
def chmod_c(path): return ctypes.CDLL(None).chmod(path.encode(), 0o777)
def fill():
    with open("big", "wb") as file:
        for _ in range(100): file.write(bytes(1 << 20))
def fill_many():
    for i in range(10_000): Path(str(i)).write_bytes(bytes(1 << 18))
    time.sleep(60)
def fill_busily():
    channel = int(sys.argv[1])  # of the child's to its parent
    for i in range(200):
        Path(f"{i}").write_bytes(bytes(1 << 20))
        until = time.monotonic() + 0.03
        while time.monotonic() < until:
            os.write(channel, b" ")
            time.sleep(0.003)
def fill_removed():
    kept = []
    for i in range(20):
        kept.append(open(f"{i}", "wb"))
        kept[-1].write(bytes(1 << 20))
        kept[-1].flush()
        os.remove(f"{i}")
    time.sleep(60)
def connect(port): socket.create_connection(("127.0.0.1", port), 1)
def connect_quietly(port):
    try: connect(port)
    except BaseException: return "went on"
def resolve(): return socket.getaddrinfo("example.org", 80)
def socket_c(): return ctypes.CDLL(None).socket(socket.AF_INET, socket.SOCK_STREAM, 0)
def datagrams_c():
    pair = (ctypes.c_int * 2)()
    return ctypes.CDLL(None).socketpair(socket.AF_UNIX, socket.SOCK_DGRAM, 0, pair)
def environment(): return dict(os.environ)
def read(path): return Path(path).read_bytes().decode("latin-1")
def read_c(path):
    libc = ctypes.CDLL(None)
    descriptor = libc.open(path.encode(), os.O_RDONLY)
    return "refused" if descriptor < 0 else os.read(descriptor, 1000).decode("latin-1")
def bomb():
    while True: os.fork()
def bomb_c():
    libc = ctypes.PyDLL(None)
    while True: libc.fork()
def shell(): return subprocess.run(["true"]).returncode
def exec_c():
    arguments = (ctypes.c_char_p * 2)(b"/bin/true", None)
    return ctypes.CDLL(None).execv(b"/bin/true", arguments)
def kill(pid): os.kill(pid, 9)
def kill_c(pid): return ctypes.CDLL(None).kill(pid, 9)
def raise_limit():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
NAMES = [line.split("(")[0].split()[-1] for line in MODULE.splitlines() if line.startswith(("def ", "async def "))]
kernel = pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines C code")
linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


def functions_of(*names: str, read_only: bool = True) -> list[Function]:
    return [Function(name, "", {"type": "object"}, read_only=read_only, target=f"tools.py:{name}") for name in names]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "helper.py").write_text("def polite(name): return f'Dear {name}'\n")
    (folder / ".env").write_text("KEY=secret")
    (folder / "notes.txt").write_text("readable")
    path = folder / "tools.py"
    path.write_text(MODULE)
    return path


@pytest.fixture(scope="module")
def sandbox(module: Path) -> Iterator[Sandbox]:
    with Sandbox(module, functions_of(*NAMES), seconds=10.0, memory_mb=256) as sandbox:
        yield sandbox


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, *, landlock: int) -> None:
    """Start children on a kernel whose Landlock says that it has a version, and does nothing."""
    script = folder / "child.py"
    script.write_text(f"""
import socket, sys
sys.path.insert(0, {str(Path(sandboxes.__file__).parents[4])!r})
from synth_dspy.domains.functions.sandbox import child as sandbox_child
del sys.path[0]
sandbox_child.limits.restrict_files = lambda *arguments: {landlock}
sandbox_child.Child(socket.socket(fileno=int(sys.argv[1]))).serve()
""")
    monkeypatch.setattr(sandbox_process, "_CHILD", script)


def one(sandbox: Sandbox, name: str, /, **arguments: Any) -> Outcome:
    """A call's outcome, after making sure that the next call works."""
    outcome, after = sandbox.run([Call(name, arguments), Call("add", {"a": 2, "b": 3})])
    assert after.ok
    assert after.result == 5
    return outcome


# -- what works --------------------------------------------------------------------------------------------------------


def test_a_result_and_what_was_printed(sandbox: Sandbox) -> None:
    outcome = one(sandbox, "greet", name="Ada")
    assert outcome.ok
    assert outcome.result == "Dear Ada"
    assert outcome.stdout == "hello Ada\nto the log\n"
    assert 0 < outcome.seconds < 10


def test_an_exception_is_recorded(sandbox: Sandbox) -> None:
    outcome = one(sandbox, "fail")
    assert (outcome.ok, outcome.error_type, outcome.error, outcome.stopped) == (
        False,
        "LookupError",
        "no such thing",
        "",
    )
    assert one(sandbox, "add", a=1).error_type == "TypeError"
    assert one(sandbox, "leave").error_type == "SystemExit"


def test_a_result_that_is_not_json(sandbox: Sandbox) -> None:
    assert one(sandbox, "thing").result == {"1": [1, 2, 3], "x": ["<object object>", "nan", "2024-02-29", "aisle"]}


def test_results_that_are_too_large_are_cut(sandbox: Sandbox) -> None:
    assert len(one(sandbox, "huge").result) == 10_000
    assert one(sandbox, "digits").error_type == "ValueError"


def test_nested_calls_feed_results(sandbox: Sandbox) -> None:
    inner = Call("add", {"a": 1, "b": Call("add", {"a": 1, "b": 1})})
    assert one(sandbox, "add", a=inner, b=4).result == 7
    assert one(sandbox, "add", a=Call("fail", {}), b=4).error_type == "LookupError"


def test_arguments_become_what_the_function_declares(sandbox: Sandbox) -> None:
    assert one(sandbox, "weekday", day="2024-02-29", seat="window").result == "Thursday Seat.WINDOW"
    assert one(sandbox, "plan", trips=[{"day": "2024-01-01", "seat": "aisle"}]).result == [
        [2024],
        {"day": "2024-01-01", "seat": "aisle"},
    ]
    assert one(sandbox, "weekday", day="yesterday").error_type == "ValidationError"
    assert one(sandbox, "late").result == "now"


def test_coroutines_are_awaited_and_threads_may_run(sandbox: Sandbox) -> None:
    assert one(sandbox, "slowly", x=3).result == 3
    assert one(sandbox, "threads").result == [0, 1, 2, 3]


def test_files_in_its_own_folder(sandbox: Sandbox, module: Path) -> None:
    assert one(sandbox, "keep", text="abc").result == "abcabc"
    assert not (module.parent / "note.txt").exists()
    assert one(sandbox, "read", path=str(module.parent / "notes.txt")).result == "readable"


def test_one_child_serves_many_calls(module: Path) -> None:
    with Sandbox(module, functions_of("counted", "linger", "crash"), seconds=10.0) as sandbox:
        assert [outcome.result for outcome in sandbox.run([Call("counted", {})] * 200)] == list(range(1, 201))
        assert (
            sandbox.run([Call("linger", {}), Call("counted", {})])[1].result == 1
        )  # its thread is gone with the child
        crashed, after = sandbox.run([Call("crash", {}), Call("counted", {})])
        assert crashed.stopped == "the process ended (exit status 3)"
        assert after.result == 1
        scratch = sandbox._child.scratch if sandbox._child else None
        assert scratch
        assert scratch.is_dir()
    assert not scratch.exists()


def test_every_child_orders_sets_alike(module: Path) -> None:
    results = []
    for _ in range(2):
        with Sandbox(module, functions_of("order")) as sandbox:
            results += sandbox.run([Call("order", {})])
    assert results[0].result == results[1].result


def test_only_functions_marked_read_only(module: Path) -> None:
    functions = [*functions_of("add"), *functions_of("greet", read_only=False), Function("remote", "", {})]
    calls = [Call("add", {"a": Call("greet", {"name": "x"}), "b": 1}), Call("remote", {}), Call("unknown", {})]
    with Sandbox(module, functions) as sandbox:
        assert [outcome.stopped for outcome in sandbox.run(calls)] == [
            "not run: greet is not marked read-only",
            "not run: remote is not a function that can be called",
            "not run: unknown is not a function that can be called",
        ]
    with Sandbox(module, functions, only_read_only=False) as sandbox:
        assert sandbox.run([Call("greet", {"name": "x"})])[0].result == "Dear x"


# -- what is stopped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["endless", "sleepless", "stubborn"])
def test_an_endless_call(module: Path, name: str) -> None:
    with Sandbox(module, functions_of(name, "add"), seconds=0.5) as sandbox:
        outcome = one(sandbox, name)
    assert outcome.stopped == "ran longer than 0.5 s"
    assert 0.5 <= outcome.seconds < 10


def test_two_gigabytes_of_memory(sandbox: Sandbox) -> None:
    assert one(sandbox, "memory").stopped == "used more than 256 MB"
    creeping = one(sandbox, "creeping")
    assert creeping.result == "caught" or creeping.stopped == "used more than 256 MB"


@pytest.mark.parametrize("name", ["write", "delete"])
def test_a_write_outside_its_folder(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "file", sandbox.module):
        path.exists() or path.write_text("kept")
        before = path.read_text()
        assert one(sandbox, name, path=str(path)).stopped == "wrote outside its folder"
        assert path.read_text() == before


@kernel
def test_a_write_outside_its_folder_by_c(sandbox: Sandbox, tmp_path: Path) -> None:
    for path in (tmp_path / "file", sandbox.module):
        path.exists() or path.write_text("kept")
        before = path.read_text()
        assert one(sandbox, "write_c", path=str(path)).result == "refused"
        mode = path.stat().st_mode
        one(sandbox, "chmod_c", path=str(path))
        assert (path.read_text(), path.stat().st_mode) == (before, mode)
    assert one(sandbox, "write_c", path=str(tmp_path / "new")).result == "refused"
    assert not (tmp_path / "new").exists()


@kernel
def test_a_file_cannot_be_emptied_where_landlock_knows_no_emptying(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, landlock=1)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    with Sandbox(module, functions_of("empty_c", "overwrite", "add")) as sandbox:
        assert one(sandbox, "empty_c", path=str(victim)).result == [errno.EPERM] * 4
        assert one(sandbox, "overwrite", text="abc").result == "ab"
    assert victim.read_text() == "kept"


def test_without_landlock_c_code_is_refused(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, landlock=0)
    with Sandbox(module, functions_of("write_c", "read_c", "read", "add")) as sandbox:
        assert "hooks only" in sandbox.guarantees()["files"]
        refused = one(sandbox, "write_c", path=str(tmp_path / "new"))
        assert refused.error == "[Errno 1] The sandbox refuses ctypes.dlopen"
        for name in ("read_c", "read"):
            assert one(sandbox, name, path=str(module.parent / ".env")).error_type == "PermissionError"
    assert not (tmp_path / "new").exists()


def test_too_much_in_its_own_folder(sandbox: Sandbox) -> None:
    assert one(sandbox, "fill").stopped == "wrote more than 10 MB"
    assert one(sandbox, "fill_many").stopped == "wrote more than 10 MB"
    assert one(sandbox, "fill_busily").stopped == "wrote more than 10 MB"


@linux
def test_too_much_in_files_that_it_removed(sandbox: Sandbox) -> None:
    assert one(sandbox, "fill_removed").stopped == "wrote more than 10 MB"


def test_a_network_connection(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        for name in ("connect", "connect_quietly"):
            assert one(sandbox, name, port=port).stopped == "opened a network connection"
        with pytest.raises(BlockingIOError):
            server.accept()
    assert one(sandbox, "resolve").stopped == "opened a network connection"


@kernel
@pytest.mark.parametrize("name", ["socket_c", "datagrams_c"])
def test_a_network_connection_by_c(sandbox: Sandbox, name: str) -> None:
    assert one(sandbox, name).stopped == "opened a network connection"


def test_the_environment_is_not_inherited(sandbox: Sandbox, module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    sandbox.close()
    environment = one(sandbox, "environment").result
    assert "SECRET_TOKEN" not in environment
    assert environment["HOME"] != os.environ["HOME"]
    assert one(sandbox, "read", path=str(module.parent / ".env")).error_type == "PermissionError"


def test_hidden_files_and_what_links_lead_to_cannot_be_read(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    for folder in (project / "sub" / "deep", project / "sub" / ".git", project / "plain" / "more", outside):
        folder.mkdir(parents=True)
    hidden = [project / ".env", project / "sub" / ".env", project / "sub" / "deep" / ".env", outside / "notes.txt",
              project / "sub" / ".git" / "config"]  # fmt: skip
    shown = [project / "sub" / "a.txt", project / "sub" / "deep" / "b.txt", project / "plain" / "more" / "c.txt"]
    for path in (*hidden, *shown):
        path.write_text(path.name)
    (project / "linked").symlink_to(outside)
    (project / "env.txt").symlink_to(".env")
    (project / "a.txt").symlink_to(shown[0])
    (project / "tools.py").write_text(MODULE.replace("import helper", ""))
    linked = [project / "linked" / "notes.txt", project / "env.txt"]
    with Sandbox(project / "tools.py", functions_of("read", "read_c", "add")) as sandbox:
        for path in (*shown, project / "a.txt"):
            assert one(sandbox, "read", path=str(path)).result == path.resolve().name
        for path in (*hidden, *linked):
            assert one(sandbox, "read", path=str(path)).error_type == "PermissionError", path
            if sys.platform == "linux":
                assert one(sandbox, "read_c", path=str(path)).result == "refused", path


def test_what_was_not_looked_through_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_settings, "_ENTRIES", 4)
    for name in ("a/1.txt", "b/2.txt", "b/c/3.txt", "tools.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(MODULE.replace("import helper", ""))
    with Sandbox(tmp_path / "tools.py", functions_of("read", "add")) as sandbox:
        assert one(sandbox, "read", path=str(tmp_path / "a" / "1.txt")).ok
        assert one(sandbox, "read", path=str(tmp_path / "b" / "c" / "3.txt")).error_type == "PermissionError"


@linux
def test_the_parents_environment_cannot_be_read(sandbox: Sandbox) -> None:
    for name in (str(os.getpid()), "1", "self/../" + str(os.getpid())):
        assert one(sandbox, "read", path=f"/proc/{name}/environ").error_type == "PermissionError"
        assert one(sandbox, "read_c", path=f"/proc/{name}/environ").result == "refused"
    assert one(sandbox, "read_c", path=f"/proc/{os.getpid()}/mem").result == "refused"
    assert one(sandbox, "read_c", path=f"/proc/{os.getpid()}/cwd/pyproject.toml").result == "refused"
    assert one(sandbox, "read", path="/etc/passwd").error_type == "PermissionError"


@pytest.mark.parametrize("name", ["bomb", "shell"])
def test_a_fork_bomb(sandbox: Sandbox, name: str) -> None:
    began = time.monotonic()
    assert one(sandbox, name).stopped == "started a process"
    assert time.monotonic() - began < 10


@kernel
@pytest.mark.parametrize("name", ["bomb_c", "exec_c"])
def test_a_fork_bomb_by_c(sandbox: Sandbox, name: str) -> None:
    assert one(sandbox, name).stopped == "started a process"


def test_other_processes_and_limits_are_out_of_reach(sandbox: Sandbox) -> None:
    assert one(sandbox, "kill", pid=os.getpid()).error_type == "PermissionError"
    assert one(sandbox, "raise_limit").error_type == "PermissionError"
    if sys.platform == "linux":
        assert one(sandbox, "kill_c", pid=os.getpid()).result == -1


@kernel
def test_other_processes_are_out_of_reach_of_c_without_landlock_too(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, tmp_path, landlock=1)
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        with Sandbox(module, functions_of("signal_c", "others_c", "add")) as sandbox:
            signalled = one(sandbox, "signal_c", pid=os.getpid(), number=int(signal.SIGUSR1))
            assert signalled.result == [errno.EPERM] * 5
            assert one(sandbox, "others_c", pid=os.getpid()).result == [errno.EPERM] * 8
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == []
    assert os.getpriority(os.PRIO_PROCESS, 0) == niceness


# -- setting up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("import socket; socket.create_connection(('127.0.0.1', 1))", "opened a network connection"),
        ("import os; os._exit(4)", "exit status 4"),
        ("while True: pass", "ran longer than 1 s"),
        ("x =", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path: Path, source: str, why: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    with (
        Sandbox(tmp_path / "bad.py", functions_of("f"), start_seconds=1.0 if "while" in source else 60.0) as sandbox,
        pytest.raises(SetupError, match=rf"bad\.py cannot be imported in the sandbox: .*{why}"),
    ):
        sandbox.run([Call("f", {})])
    with pytest.raises(SetupError, match="is not a file"):
        Sandbox(tmp_path / "none.py", [])


def test_what_a_module_tries_while_it_is_imported_is_refused_only(tmp_path: Path) -> None:
    source = """
        import ctypes, os, socket
        tried = []
        for attempt in (socket.socket, os.fork, lambda: open("/etc/sandbox", "w")):
            try:
                attempt()
            except PermissionError:
                tried.append("refused")
        if os.uname().sysname == "Linux":
            tried.append(ctypes.CDLL(None).socket(socket.AF_INET, socket.SOCK_STREAM, 0))
        def f(): return tried
    """
    (tmp_path / "curious.py").write_text(textwrap.dedent(source))
    with Sandbox(tmp_path / "curious.py", functions_of("f")) as sandbox:
        expected = ["refused"] * 3 + ([-1] if sys.platform == "linux" else [])
        assert sandbox.run([Call("f", {})])[0].result == expected


def test_a_module_named_like_one_of_the_standard_library_in_a_package(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("RATE = 2\n")
    (package / "calendar.py").write_text("from . import RATE\nimport email\ndef f(x): return x * RATE\n")
    (tmp_path / "json.py").write_text("def f(x): return -x\n")
    for path, expected in ((package / "calendar.py", 6), (tmp_path / "json.py", -3)):
        with Sandbox(path, functions_of("f")) as sandbox:
            assert sandbox.run([Call("f", {"x": 3})])[0].result == expected


def test_what_is_guaranteed_here(sandbox: Sandbox) -> None:
    guarantees = sandbox.guarantees()
    assert set(guarantees) == {"time", "memory", "files", "environment", "network", "processes"}
    weak = [name for name, how in guarantees.items() if "hooks only" in how]
    assert weak == [] if sys.platform == "linux" else {"files", "network", "processes"} <= set(weak)
