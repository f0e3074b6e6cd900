"""Attacks on the sandbox, each in a call of its own: what it tried did not happen, and the next call is answered.

`attacks.py` has the functions; `docs/attacks/sandbox.md` lists them, and what broke out before.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.domains.functions.sandbox.run import Outcome, Sandbox
from synth_dspy.domains.functions.schema import Call, Function

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines C code")

SOURCE = Path(__file__).with_name("attacks.py")
NAMES = [
    node.name
    for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name not in ("kernel", "tried")
]
SIZE, OUT_OF_TURN = "wrote more than 1 MB", "answered something other than the request"
ENDED = {
    **dict.fromkeys((name for name in NAMES if name.startswith("connect_")), "opened a network connection"),
    **dict.fromkeys((name for name in NAMES if name.startswith("start_")), "started a process"),
    **dict.fromkeys(("take_folders", "take_links", "take_depth", "take_what_is_below_a_long_path"), SIZE),
    **dict.fromkeys(("take_files_that_are_mapped", "take_unreadable_folders", "take_by_moving_about"), SIZE),
    **dict.fromkeys(("forge_without_a_token", "forge_two_at_once", "forge_no_object"), OUT_OF_TURN),
    "start_many_threads": "started more than 1,000 threads",
    "take_output": SIZE,
    "take_memory_in_pieces": "used more than 256 MB",
    "forge_depth": "answered with more than 100 levels of nesting",
    "forge_numbers_that_are_none": OUT_OF_TURN,
    "forge_half_a_message": "the process ended (exit status 0)",
    "forge_an_endless_message": "answered more than 8 MB",
    "forge_the_end": "closed the connection",
}
"""Why the call was ended. Others find themselves refused."""
for name in ("connect_by_io_uring", "start_files_of_its_own", "start_a_namespace", "start_a_session"):
    del ENDED[name]
REFUSED = [name for name in NAMES if name not in ENDED and not name.startswith(("forge_", "result_", "plain"))]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("SECRET")
    (folder / "victim").write_text("kept")
    return folder


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    module = Path(shutil.copy(SOURCE, tmp_path_factory.mktemp("project")))
    functions = [Function(name, "", {}, read_only=True, target=f"attacks.py:{name}") for name in NAMES]
    with Sandbox(module, functions, seconds=20.0, memory_mb=256, files_mb=1) as sandbox:
        yield sandbox


def attack(sandbox: Sandbox, name: str, outside: Path | None = None, **arguments: Any) -> Outcome:
    """An attack's outcome, after making sure that the next call is answered as it was asked."""
    if outside is not None:
        arguments |= {"secret": str(outside / "secret")} if name.startswith("read_") else {}
        arguments |= {"victim": str(outside / "victim")} if name.startswith("write_") else {}
    outcome, after = sandbox.run([Call(name, arguments), Call("plain", {})])
    assert (after.result, after.stopped) == ("plain", "")
    return outcome


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(sandbox: Sandbox, outside: Path, name: str) -> None:
    before = (outside / "victim").stat()
    arguments = {"port": 1} if name.startswith("connect_") else {}
    outcome = attack(sandbox, name, outside, **arguments)
    assert outcome.result == "refused", outcome
    after = (outside / "victim").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert (outside / "victim").read_text() == "kept"
    assert sorted(each.name for each in outside.iterdir()) == ["secret", "victim"]


@pytest.mark.parametrize("name", list(ENDED))
def test_what_ends_the_call(sandbox: Sandbox, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        arguments = {"port": server.getsockname()[1]} if name.startswith("connect_") else {}
        assert attack(sandbox, name, **arguments).stopped == ENDED[name]
        with pytest.raises(BlockingIOError):
            server.accept()


# -- forged outcomes and results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forge_its_own", "forge_its_time", "forge_a_long_output"])
def test_a_forged_answer_counts_for_its_own_call_only(sandbox: Sandbox, name: str) -> None:
    outcome = attack(sandbox, name)
    assert outcome.result == "forged" or outcome.stopped == OUT_OF_TURN  # where both came at once
    assert 0 <= outcome.seconds < 60
    assert max(len(outcome.stdout), len(outcome.error), len(outcome.error_type)) <= 10_000


@pytest.mark.parametrize("name", ["forge_by_a_raw_thread", "forge_later_by_a_timer"])
def test_a_thread_that_outlives_its_call_answers_no_other(sandbox: Sandbox, name: str) -> None:
    outcomes = sandbox.run([Call(name, {}), Call("plain", {"seconds": 0.5}), *[Call("plain", {})] * 10])
    assert [outcome.result for outcome in outcomes] == ["real", *["plain"] * 11]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("result_")])
def test_a_result_is_one_clean_outcome(sandbox: Sandbox, name: str) -> None:
    outcome = attack(sandbox, name)
    assert outcome.stopped == ""
    assert Outcome(**asdict(outcome)) == outcome, "what the ledger does with it"
    assert len(str(outcome.result)) <= 1_000_000
    assert len(outcome.error) <= 10_000
    assert len(outcome.stdout) <= 10_000
    failed = {
        "result_that_represents_itself_badly": "LookupError",
        "result_that_dumps_itself": "RecursionError",
        "result_that_is_too_long_a_number": "ValueError",
        "result_in_an_exception": "ValueError",
        "result_in_nested_exceptions": "ExceptionGroup",
    }
    assert outcome.error_type == failed.get(name, "")


def test_a_hundred_levels_stay_and_more_are_text(sandbox: Sandbox) -> None:
    value = attack(sandbox, "result_of_100_lists").result
    for _ in range(100):
        (value,) = value
    assert value == 1
    assert attack(sandbox, "result_of_490_lists").result == "[" * 490 + "1" + "]" * 490
    assert attack(sandbox, "result_of_100000_lists").result == "<list of more than 100 levels>"


# -- the parent --------------------------------------------------------------------------------------------------------

PARENT = """
import sys, time
from pathlib import Path
from synth_dspy.domains.functions.sandbox.run import Sandbox
from synth_dspy.domains.functions.schema import Call, Function
functions = [Function(name, "", {}, read_only=True, target=f"tools.py:{name}") for name in ("where", "hang")]
sandbox = Sandbox(Path(sys.argv[1]), functions)
print(*sandbox.run([Call("where", {})])[0].result, flush=True)
sandbox.run([Call(sys.argv[2], {})])
time.sleep(600)
"""
TOOLS = """
import os, re, signal
def where(): return os.getpid(), os.getcwd()
def hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    re.match(r"(a+)+$", "a" * 60 + "b")  # one call into C: Python code has no chance to notice anything
"""


@pytest.mark.parametrize("busy", ["where", "hang"])
def test_the_child_dies_with_its_parent_and_its_folder_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: str
) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-c", PARENT, str(tmp_path / "tools.py"), busy]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)}
    ) as parent:
        assert parent.stdout is not None
        child, scratch = parent.stdout.readline().split()
        assert Path(scratch).parent == temporary
        time.sleep(0.2)
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()
    assert Path(scratch).is_dir()
    (temporary / "synth_dspy-sandbox-notes.txt").write_text("of somebody else")
    next_run = PARENT.replace("time.sleep(600)", "").replace("sandbox.run([Call(sys.argv[2], {})])", "")
    subprocess.run(
        [sys.executable, "-c", next_run, *command[3:]], check=True, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert [each.name for each in temporary.iterdir()] == ["synth_dspy-sandbox-notes.txt"]


def test_the_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    source = "count = 0\ndef counted():\n    global count\n    count += 1\n    return count\n"
    (tmp_path / "tools.py").write_text(source)
    function = Function("counted", "", {}, read_only=True, target="tools.py:counted")
    with Sandbox(tmp_path / "tools.py", [function]) as sandbox:
        results: list[Any] = []
        for _ in range(3):
            thread = threading.Thread(target=lambda: results.extend(sandbox.run([Call("counted", {})])))
            thread.start()
            thread.join()
            time.sleep(0.05)
        assert [outcome.result for outcome in results] == [1, 2, 3]


def test_folders_are_removed_whatever_is_in_them(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.close()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("take_depth", "take_what_is_below_a_long_path", "take_unreadable_folders", "take_links"):
        attack(sandbox, name)
    sandbox.close()
    assert list(tmp_path.iterdir()) == []


def test_threads_that_were_joined_leave_the_child_as_it_is(tmp_path: Path) -> None:
    source = """
        import threading
        count = 0
        def counted():
            global count
            threads = [threading.Thread(target=lambda: None) for _ in range(20)]
            [each.start() for each in threads]
            [each.join() for each in threads]
            count += 1
            return count
    """
    (tmp_path / "tools.py").write_text(re.sub(r"^ {8}", "", source, flags=re.MULTILINE))
    function = Function("counted", "", {}, read_only=True, target="tools.py:counted")
    with Sandbox(tmp_path / "tools.py", [function]) as sandbox:
        assert [each.result for each in sandbox.run([Call("counted", {})] * 30)] == list(range(1, 31))


def test_every_attack_is_listed() -> None:
    listed = (Path(__file__).parents[3] / "docs" / "attacks" / "sandbox.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if name != "plain" and f"`{name}`" not in listed] == []
