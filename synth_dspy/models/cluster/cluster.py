"""A Ray cluster whose workers answer model calls; the run's own process, the driver, does everything else.

    cluster = open_cluster("ray", workers=2)      # one per process, closed at exit; None for "local"

What goes to a worker is a model call: a request, of which the answer comes back. A worker that dies costs the calls
that it had under way, which other workers make again; another worker starts in its place. Ray is imported here only,
and only where a setting names it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dspy import lm15

from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import mask_message
from synth_dspy.core.usage import ModelCall
from synth_dspy.core.versions import versions

LOCAL = "local"
ADDRESS = "RAY_ADDRESS"
"""Ray's own environment variable, which `ray job submit` sets."""
DEATHS = 3
"""After so many deaths of workers, one after the other, a call or a worker is not tried again."""
START_S = 180.0
"""How long workers may take to start: Python and the libraries are imported, perhaps from a slow disk."""
_WORKERS_HERE = 2
_CONNECT_S = 10.0
_OBJECTS = 256 * 10**6
"""Bytes of Ray's object store on this machine: only requests and replies over 100 KB go through it."""
_SAME = ("synth_dspy", "dspy", "openvino-genai")
"""Packages that determine the answers or the protocol between driver and worker."""

Result = TypeVar("Result")


@dataclass(eq=False)
class _Worker:
    """The driver's end of a worker."""

    actor: Any
    under_way: int = 0
    opened: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Cluster:
    """A connection to a Ray cluster, with workers that hold models.

    Args:
        address: `ray` (the cluster that RAY_ADDRESS names, else one on this machine, for this run alone) or
            `ray://HOST:PORT` (Ray's client protocol).
        workers: how many; by default one for each machine of the cluster, and two on this machine alone.

    Raises:
        SetupError: Ray is not installed, the cluster cannot be reached or used, or has no room for the workers.
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        self.ray = import_ray()
        self._temporary: Path | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="synth-dspy-ray", daemon=True)
        self._workers: list[_Worker] = []
        self._changed = asyncio.Event()
        self._starting = 0
        self._failures = 0
        self._last_failure = ""
        self._connect(address, workers or _WORKERS_HERE)
        try:
            self.size = workers or (_WORKERS_HERE if self._temporary else self._machines())
            self._thread.start()
            self.run(self._start_all())
        except BaseException:
            self.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the cluster's event loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """`run` for callers that do not wait. What has begun is finished even if its caller gives up."""

        async def finish() -> Result:
            return await asyncio.shield(asyncio.ensure_future(coroutine))

        return asyncio.run_coroutine_threadsafe(finish(), self._loop)

    async def answer(
        self, spec: str, keys: Mapping[str, str], weights: str | None, request: lm15.Request, call: ModelCall
    ) -> ModelCall:
        """Have the worker with the fewest calls under way make a call; see `Worker.answer`.

        Args:
            spec: arguments of `lm_for`, as JSON.
            keys: environment variables that the model needs.
            weights: content of the weights.
            request: what is asked.
            call: the call without its answer.

        Raises:
            Exception: what the call failed with in the worker.
            SetupError: workers died of it again and again, or none are left.
        """
        for _ in range(DEATHS):
            worker = await self._least_busy()
            worker.under_way += 1
            try:
                await self._open(worker, spec, keys)
                answered: ModelCall = _returned(await worker.actor.answer.remote(spec, weights, request, call))
                self._failures = 0
                return answered
            except self.ray.exceptions.RayTaskError as error:  # a bug in the worker
                raise error.as_instanceof_cause() from None
            except self.ray.exceptions.RayError as error:
                self._bury(worker, error)
            finally:
                worker.under_way -= 1
        raise SetupError(
            self._give_up(f"{DEATHS} workers of the Ray cluster died, one after the other, of the same call")
        )

    async def check(self, spec: str, keys: Mapping[str, str], model: str) -> None:
        """Load an embedded model in every worker.

        Raises:
            SetupError: it cannot be used there.
        """
        for worker in list(self._workers):
            try:
                await self._open(worker, spec, keys)
                _returned(await worker.actor.check.remote(spec, model))
            except self.ray.exceptions.RayError as error:
                raise SetupError(
                    self._give_up("A worker of the Ray cluster died while it loaded a model", error)
                ) from None

    def close(self) -> None:
        """End the workers and, if it was started here, the cluster."""
        if self._thread.is_alive():
            with suppress(CancelledError):
                self.run(_cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self.ray.shutdown()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _connect(self, address: str, workers: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        where = os.environ.get(ADDRESS, "") if address == "ray" else address
        logging.getLogger("ray").setLevel(logging.ERROR)
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if where in ("", LOCAL):
            # Short, because the paths of sockets in it are limited to 107 bytes.
            self._temporary = Path(tempfile.mkdtemp(prefix="ray-", dir=_short_folder()))
            options |= {
                "address": LOCAL,
                "include_dashboard": False,
                "object_store_memory": _OBJECTS,
                "num_cpus": workers + (os.cpu_count() or 1),  # the others are for trainings
                "_temp_dir": str(self._temporary),
            }
            self._show_package()
        else:
            _reach(where)
            options["address"] = where
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            self.ray.init(**options)
        except Exception as error:
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)
            raise SetupError(
                f"The Ray cluster {where or 'on this machine'} could not be used: {_line(error)}. Leave out --executor "
                "to run without it."
            ) from error
        finally:  # Ray puts its own in place
            if threading.current_thread() is threading.main_thread() and terminate is not None:
                signal.signal(signal.SIGTERM, terminate)

    @staticmethod
    def _show_package() -> None:
        """Let workers on this machine, which inherit the environment, import the package from where it is here."""
        package = str(Path(__file__).resolve().parents[3])
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if package not in paths:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, *paths]))

    def _machines(self) -> int:
        return max(1, len(self._resources()))

    def _resources(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def training_resources(self) -> dict[str, float]:
        """What a training reserves: the CPUs of the smallest machine that its workers leave, and a GPU if there are
        any; empty if no machine has room for one.
        """
        machines = self._resources()
        taken = -(-self.size // max(1, len(machines)))
        free = [machine.get("CPU", 0) - taken for machine in machines]
        cpus = min((each for each in free if each >= 1), default=0)
        gpus = sum(machine.get("GPU", 0) for machine in machines)
        return ({"num_cpus": cpus, "num_gpus": 1} if gpus else {"num_cpus": cpus}) if cpus else {}

    def trainings(self) -> int:
        """How many trainings run side by side."""
        reserved = self.training_resources()
        if not reserved:
            return 0
        machines = self._resources()
        taken = -(-self.size // max(1, len(machines)))
        at_once = sum(int((machine.get("CPU", 0) - taken) // reserved["num_cpus"]) for machine in machines)
        gpus = int(sum(machine.get("GPU", 0) for machine in machines))
        return min(at_once, gpus) if gpus else at_once

    async def _start_all(self) -> None:
        starts = [asyncio.ensure_future(self._start()) for _ in range(self.size)]
        _done, waiting = await asyncio.wait(starts, timeout=START_S)
        if waiting:
            free = self.ray.available_resources().get("CPU", 0)
            raise SetupError(
                f"The Ray cluster has started {len(self._workers)} of {self.size} workers within {START_S:g} s: each "
                f"takes one CPU, and {free:g} are free; lower --workers, or wait until others are done."
            )
        if not self._workers:
            raise SetupError(self._give_up("No worker of the Ray cluster could be started"))

    async def _start(self) -> None:
        """Start a worker, again if it dies at once; it takes calls once it is ready."""
        from synth_dspy.models.cluster.worker import Worker

        make = self.ray.remote(Worker).options(num_cpus=1, max_concurrency=10_000, scheduling_strategy="SPREAD")
        self._starting += 1
        try:
            while self._failures < DEATHS * self.size:
                actor = make.remote()
                try:
                    machine, theirs = await actor.ready.remote()
                except self.ray.exceptions.RayError as error:
                    self._failures += 1
                    self._last_failure = _line(error)
                    continue
                self._require_same(machine, theirs)
                self._workers.append(_Worker(actor))
                return
        finally:
            self._starting -= 1
            self._wake()

    def _require_same(self, machine: str, theirs: Mapping[str, str]) -> None:
        ours = versions()
        for name in _SAME:
            if ours.get(name) != theirs.get(name):
                raise SetupError(
                    f"The Ray worker on {machine} has {name} {theirs.get(name, 'not at all')}, and this machine "
                    f"{ours.get(name, 'not at all')}: install the same there."
                )

    async def _least_busy(self) -> _Worker:
        while not self._workers:
            if not self._starting:
                raise SetupError(self._give_up("All workers of the Ray cluster died"))
            await self._changed.wait()
        return min(self._workers, key=lambda worker: worker.under_way)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _open(self, worker: _Worker, spec: str, keys: Mapping[str, str]) -> None:
        if spec not in worker.opened:

            async def opening() -> None:
                _returned(await worker.actor.open.remote(spec, dict(keys)))

            worker.opened[spec] = asyncio.ensure_future(opening())
        await asyncio.shield(worker.opened[spec])

    def _bury(self, worker: _Worker, error: Exception) -> None:
        """Take a dead worker off the list, and start another in its place."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._failures += 1
        self._last_failure = _line(error)
        self.ray.kill(worker.actor)  # if it is only unreachable
        self._loop.create_task(self._start())

    def _give_up(self, what: str, error: Exception | None = None) -> str:
        why = _line(error) if error else self._last_failure
        return (
            f"{what} ({why}): see the logs of Ray on that machine (memory is the usual cause), lower --concurrency or "
            "--workers, or go on without --executor; no answered call is lost."
        )


def import_ray() -> Any:
    """The package `ray`.

    Raises:
        SetupError: it is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise SetupError("--executor ray needs Ray: pip install 'synth_dspy[ray]'.") from error
    return ray


def _reach(address: str) -> None:
    """Fail at once if nobody listens at an address; Ray itself would try for minutes.

    Raises:
        SetupError: nobody does.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        if parts.hostname and parts.port:  # not `auto`
            socket.create_connection((parts.hostname, parts.port), _CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise SetupError(
            f"The Ray cluster {address} could not be reached ({error}): start it (`ray start --head`), correct the "
            "address (of the client server, port 10001 unless set), or leave out --executor."
        ) from error


async def _cancel_all() -> None:
    """Cancel the other tasks of the event loop, and wait until they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _short_folder() -> str | None:
    """A folder for temporary files whose path is short, if there is one."""
    return next((each for each in (tempfile.gettempdir(), "/tmp") if len(each) < 30 and os.path.isdir(each)), None)  # noqa: S108


def _returned(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def _line(error: BaseException) -> str:
    """The message of one of Ray's errors, which have many lines, the cause among the last."""
    lines = [line.strip() for line in mask_message(str(error)).splitlines() if line.strip()]
    causes = [line for line in lines if "Error: " in line]
    return (causes[-1] if causes else " ".join(lines[:2]))[:300].rstrip(".") or type(error).__name__


_cluster: tuple[tuple[str, int | None], Cluster] | None = None
_opening = threading.Lock()


def open_cluster(address: str, workers: int | None = None) -> Cluster | None:
    """The process's cluster, connected at the first call and closed at exit; None for `local`.

    Raises:
        SetupError: as `Cluster`.
    """
    global _cluster
    if address == LOCAL:
        return None
    with _opening:
        if _cluster is None or _cluster[0] != (address, workers):
            close_cluster()
            _cluster = (address, workers), Cluster(address, workers)
            atexit.register(close_cluster)  # not earlier: before Ray's own, which ends the connection
        return _cluster[1]


def close_cluster() -> None:
    """Close the process's cluster, if there is one."""
    global _cluster
    if _cluster is not None:
        _cluster[1].close()
        _cluster = None
