"""Threads spin while they wait only where nobody else wants their cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth_dspy.core.waiting import SETTINGS, set_wait_policy


def _machine(proc: Path, *, others: float, parent: float = 0.0) -> dict[str, str]:
    """What the environment becomes on a machine of which the parent and others use so many cores."""
    cores = os.cpu_count() or 1
    idle = 1000

    def write(used: float) -> None:
        (proc / "stat").write_text(f"cpu  {used:.0f} 0 0 {idle} 5 0 0 7 0 0\ncpu0 1 2 3\n")

    def write_parent(used: float) -> None:
        of_parent.write_text(f"{os.getppid()} (a) (b 1) S 1 1 1 0 -1 4 0 0 0 0 {used:.0f} {used:.0f} 9 9 20 0 1 0\n")

    def sleep(seconds: float) -> None:
        nonlocal idle
        ticks = 10_000 * (others + parent) / cores
        idle += 10_000 - round(ticks)
        write(500 + ticks)
        write_parent(100 + 10_000 * parent / cores / 2)

    of_parent = proc / str(os.getppid()) / "stat"
    of_parent.parent.mkdir(exist_ok=True)
    write(500)
    write_parent(100)
    environment: dict[str, str] = {}
    set_wait_policy(environment, proc=proc, sleep=sleep)
    return environment


def test_threads_spin_on_idle_cores_and_sleep_beside_others(tmp_path: Path) -> None:
    assert _machine(tmp_path, others=0.05) == {}
    assert _machine(tmp_path, others=0.5) == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_what_the_parent_does_does_not_count(tmp_path: Path) -> None:
    assert _machine(tmp_path, others=0.05, parent=0.9) == {}
    assert _machine(tmp_path, others=0.5, parent=0.4) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_user_has_set_stays(tmp_path: Path, name: str) -> None:
    environment = {name: "1"}
    set_wait_policy(environment, proc=tmp_path)
    assert environment == {name: "1"}


@pytest.mark.parametrize("text", [None, "", "cpu 1 2 3\n", "cpu a b c d e f g h\n"])
def test_where_the_system_does_not_say_nothing_is_changed(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "stat").write_text(text)
    environment: dict[str, str] = {}
    set_wait_policy(environment, proc=tmp_path, sleep=lambda _: None)
    assert environment == {}


def test_the_systems_own_count_is_read() -> None:
    """A process that keeps a core busy is seen, where the system tells (Linux)."""
    if not Path("/proc/stat").is_file():
        pytest.skip("this system does not say what its cores do")

    def work(seconds: float) -> None:
        import time

        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    environment: dict[str, str] = {}
    set_wait_policy(environment, sleep=work)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_the_environment_of_children_is_not_changed_by_importing_torch() -> None:
    code = (
        "import os, synth_dspy.core.waiting as waiting\n"
        "waiting.busy = lambda *args: True\n"
        "import_torch = waiting.import_torch\n"
        "import sys, types\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('OMP_WAIT_POLICY'))\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import_torch()\n"
        "print(os.environ.get('OMP_WAIT_POLICY'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["PASSIVE", "None"]
