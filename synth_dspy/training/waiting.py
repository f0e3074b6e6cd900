"""How OpenMP's threads wait for one another: told by the environment, before torch is loaded.

A thread that spins while it waits goes on at once; one that sleeps must be woken, which takes as long as a small
layer's work. But a spinning thread keeps its core from whoever has work. LoRA SFT of the 135M model on 2 cores,
tokens/s: 200 spinning and 118 sleeping with nothing else running, 40 to 70 and 123 beside one busy process. So threads
spin where the cores are idle when a training's process begins (OpenMP's default), and sleep where they are not. What
the process's parent does then does not count: it waits while its child trains.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path

BUSY = 0.2
"""Cores that others may use, in the mean, on a machine that counts as idle."""
SAMPLE_S = 0.4
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_wait_policy(
    environment: MutableMapping[str, str] = os.environ,
    *,
    proc: Path = Path("/proc"),
    sleep: Callable[[float], None] = time.sleep,
) -> bool | None:
    """Have threads sleep while they wait, unless all cores are idle or the user has said how they wait.

    Returns:
        Whether they sleep; None if the user has said it.
    """
    if any(name in environment for name in SETTINGS):
        return None
    if asleep := busy(proc, sleep):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return asleep


def busy(proc: Path = Path("/proc"), sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether other work takes the cores; not where the system does not say it. Takes `SAMPLE_S` seconds."""
    used = _cores_in_use(proc, sleep)
    return used is not None and used > BUSY


def _cores_in_use(proc: Path, sleep: Callable[[float], None]) -> float | None:
    """Cores that others than the parent use while this process sleeps, in the mean; None if that cannot be told."""
    try:
        before = _ticks(proc)
        sleep(SAMPLE_S)
        after = _ticks(proc)
    except (OSError, ValueError, IndexError):
        return None
    total, used = after[0] - before[0], after[1] - before[1]
    return used / total * (os.cpu_count() or 1) if total > 0 else None


def _ticks(proc: Path) -> tuple[int, int]:
    """(all, others') ticks of all cores; waiting for a disk is idle, and so is another machine's turn."""
    with (proc / "stat").open(encoding="ascii") as lines:
        counts = [int(field) for field in lines.readline().split()[1:9]]
    parent = 0
    with suppress(OSError):  # it is gone, or nobody's to see
        # The second field, in parentheses, is a name, which may hold anything.
        fields = (proc / str(os.getppid()) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        parent = sum(map(int, fields.split()[11:13]))
    return sum(counts), sum(counts) - counts[3] - counts[4] - counts[7] - parent
