"""Main memory of this machine, or of the container that the process runs in, whose limit psutil ignores."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def total_memory() -> int:
    """Bytes of memory that there are."""
    import psutil  # type: ignore[import-untyped]

    limits = (_number(limit) for limit, _ in _LIMITS)
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit is not None)])


def available_memory() -> int:
    """Bytes of memory that this process can still take."""
    import psutil

    numbers = ((_number(limit), _number(used)) for limit, used in _LIMITS)
    rest = (limit - used for limit, used in numbers if limit is not None and used is not None)
    return min([int(psutil.virtual_memory().available), *rest])


def _number(name: str) -> int | None:
    try:
        return int((CGROUP / name).read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
