"""The pool of models in this process: one server per model, under a memory limit.

A call leases its model's server. A model that is not loaded is loaded first, after idle ones have been unloaded, least
recently used first, until it fits.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.memory import total_memory
from synth_dspy.models.embedded.backend import OPENVINO_MODEL
from synth_dspy.models.embedded.generation import ServerSettings
from synth_dspy.models.embedded.server import ModelServer

logger = logging.getLogger(__name__)

GIB = 1 << 30
MEMORY = "SYNTH_DSPY_MODEL_MEMORY_GIB"
"""Environment variable for the memory limit of all loaded models."""
_BUFFERS_GIB = 0.25
_LEAST_GIB = 4.5


class ModelPool:
    """The servers of this process by model, under a memory limit.

    Args:
        memory_gib: Limit of the estimated memory of all loaded models (see `estimate_gib`). A single model is always
            loaded. None: the value of `SYNTH_DSPY_MODEL_MEMORY_GIB`, or a sixth of the machine's (or container's)
            memory, but at least 4.5, enough for two models like the default student.
        settings: Settings of each server.

    Raises:
        SetupError: `SYNTH_DSPY_MODEL_MEMORY_GIB` is not a number.
    """

    def __init__(self, memory_gib: float | None = None, settings: ServerSettings | None = None) -> None:
        self.memory_gib = memory_gib or _memory_gib()
        self.settings = settings or ServerSettings()
        self._servers: OrderedDict[str, tuple[ModelServer, float]] = OrderedDict()  # and its estimate in GiB
        self._users: Counter[str] = Counter()
        self._lock = threading.Condition()

    @contextmanager
    def lease(self, model: str) -> Iterator[ModelServer]:
        """The server of `model` (a registry name or a path), loaded if necessary and kept loaded during the lease.

        Raises:
            SetupError: There is no such model, or its weights cannot be fetched.
        """
        server = self._acquire(model)
        try:
            yield server
        finally:
            with self._lock:
                self._users[model] -= 1
                self._lock.notify_all()

    def loaded(self) -> list[str]:
        """The models in memory, least recently used first."""
        with self._lock:
            return list(self._servers)

    def unload(self, model: str) -> None:
        """Free a model, if it is loaded; requests in flight fail."""
        with self._lock:
            entry = self._servers.pop(model, None)
        if entry is not None:
            entry[0].close()

    def close(self) -> None:
        """Free every model."""
        for model in self.loaded():
            self.unload(model)

    def _acquire(self, model: str) -> ModelServer:
        with self._lock:
            entry = self._servers.get(model)
        # Fetching or converting may take minutes, so not under this lock; both have their own.
        path = None if entry is not None and entry[0].alive else self._path(model)
        with self._lock:
            entry = self._servers.get(model)
            if entry is None or not entry[0].alive:
                entry = self._start(model, path or self._path(model))
            self._servers[model] = entry
            self._servers.move_to_end(model)
            self._users[model] += 1
            return entry[0]

    def _path(self, model: str) -> Path:
        from synth_dspy.models.embedded.backend import choose
        from synth_dspy.models.weights.registry import resolve

        return choose(resolve(model)).path

    def _start(self, model: str, path: Path) -> tuple[ModelServer, float]:
        """Make room, then load. Called with the lock, which is released while waiting for room."""
        estimate = estimate_gib(path, self.settings)
        self._servers.pop(model, None)
        while self._servers and sum(each for _, each in self._servers.values()) + estimate > self.memory_gib:
            idle = next((name for name in self._servers if not self._users[name]), None)
            if idle is None:
                self._lock.wait()  # for a lease to end
                continue
            logger.info("unloading %s to make room for %s", idle, model)
            self._servers.pop(idle)[0].close()
        # While waiting, another caller may have loaded it.
        return self._servers.get(model) or (ModelServer(path, name=model, settings=self.settings), estimate)


def estimate_gib(path: Path, settings: ServerSettings) -> float:
    """Estimate the memory of a model after it has served for a while, in GiB.

    Twice the file's size, for the weights as read and as multiplied; four bytes more per F16 weight, which becomes a
    float32 value; a quarter of a GiB for buffers and grammars; and the full cache. This matches the default student
    (OpenVINO 2026.4, a CPU with AVX2): without the cache 0.52 GiB in Q8_0, and 1.1 GiB tuned, with F16 blocks. Larger
    models, other types and model folders have not been measured.

    Args:
        path: A GGUF file, or a model folder; an adapter's memory includes its base's, which others may share.
        settings: The server's settings.
    """
    from synth_dspy.models.weights.gguf import F16, read_header

    if path.is_dir() and not (path / OPENVINO_MODEL).exists():
        from synth_dspy.models.embedded.torch_model import base_of, place

        wider = 2 if place()[1] == "float32" else 1  # weights of 16 bits in 32
        weights = sum(
            wider * file.stat().st_size for part in {*base_of(path)} if part for file in part.glob("*.safetensors")
        )
    elif path.is_dir():
        weights = 2 * sum(file.stat().st_size for file in path.iterdir())
    else:
        weights = 2 * path.stat().st_size + 4 * read_header(path).values.get(F16, 0)
    return weights / GIB + _BUFFERS_GIB + settings.kv_cache_gib


def _memory_gib() -> float:
    value = os.environ.get(MEMORY)
    try:
        return float(value) if value else max(_LEAST_GIB, total_memory() / GIB / 6)
    except ValueError:
        raise SetupError(f"{MEMORY} is {value!r}: set it to a number of GiB, such as 6, or leave it out.") from None


_POOL: ModelPool | None = None
_POOL_LOCK = threading.Lock()


def pool() -> ModelPool:
    """The process's pool, created on first use and closed at exit."""
    global _POOL
    with _POOL_LOCK:
        if _POOL is None:
            _POOL = ModelPool()
            atexit.register(_POOL.close)
        return _POOL
