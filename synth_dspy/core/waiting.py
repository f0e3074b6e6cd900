"""Sets OpenMP's wait policy through the environment, before torch is loaded.

A thread that spins while it waits continues at once; one that sleeps must be woken, which takes as long as computing a
small layer. But a spinning thread blocks its core for other work. LoRA SFT of the 135M model on 2 cores, tokens/s: 200
spinning and 118 sleeping on an idle machine, 40 to 70 and 123 next to one busy process. So threads spin (OpenMP's
default) if the cores are idle when a training process starts, and sleep otherwise. The load of the parent process is
not counted, since it waits while its child trains. The same goes for replies of transformers: spinning beside twelve
busy processes they took ten times as long.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path

BUSY = 0.2
"""Mean number of cores in use by others up to which a machine counts as idle."""
SAMPLE_S = 0.4
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_wait_policy(
    environment: MutableMapping[str, str] = os.environ,
    *,
    proc: Path = Path("/proc"),
    sleep: Callable[[float], None] = time.sleep,
) -> bool | None:
    """Let waiting threads sleep, unless all cores are idle or the user has set a wait policy.

    Returns:
        Whether they sleep; None if the user has set a policy.
    """
    if any(name in environment for name in SETTINGS):
        return None
    if asleep := busy(proc, sleep):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return asleep


def import_torch() -> None:
    """Import torch; its waiting threads sleep if others use the cores when that is first done.

    This process's environment, and so that of its children, stays as it was.
    """
    if "torch" not in sys.modules and set_wait_policy():
        try:
            import torch  # noqa: F401
        finally:
            os.environ.pop("OMP_WAIT_POLICY", None)


def busy(proc: Path = Path("/proc"), sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether other processes use the cores; False if unknown. Takes `SAMPLE_S` seconds."""
    used = _cores_in_use(proc, sleep)
    return used is not None and used > BUSY


def _cores_in_use(proc: Path, sleep: Callable[[float], None]) -> float | None:
    """Mean number of cores in use, except by the parent, while this process sleeps; None if unknown."""
    try:
        before = _ticks(proc)
        sleep(SAMPLE_S)
        after = _ticks(proc)
    except (OSError, ValueError, IndexError):
        return None
    total, used = after[0] - before[0], after[1] - before[1]
    return used / total * (os.cpu_count() or 1) if total > 0 else None


def _ticks(proc: Path) -> tuple[int, int]:
    """(total, busy) ticks of all cores without the parent's; I/O wait and stolen time count as idle."""
    with (proc / "stat").open(encoding="ascii") as lines:
        counts = [int(field) for field in lines.readline().split()[1:9]]
    parent = 0
    with suppress(OSError):  # it is gone, or not visible
        # The second field, in parentheses, is a name, which may contain anything.
        fields = (proc / str(os.getppid()) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        parent = sum(map(int, fields.split()[11:13]))
    return sum(counts), sum(counts) - counts[3] - counts[4] - counts[7] - parent
