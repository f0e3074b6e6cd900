"""A Ray cluster whose workers answer model calls; the run's own process, the driver, does everything else.

    cluster = open_cluster("ray", workers=2)      # one per process, closed at exit; None for "local"

What goes to a worker is a model call: a request, of which the answer comes back. A worker that dies costs the calls
that it had under way, which other workers make again; another worker starts in its place. Ray is imported only
where a setting names it.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from dspy import lm15

from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall
from synth_dspy.core.versions import versions
from synth_dspy.models.cluster.connecting import LOCAL, address_of, connect, import_ray, line_of, new_folder

DEATHS = 3
"""After so many deaths of workers, one after the other, a call or a worker is not tried again."""
START_S = 180.0
"""How long workers may take to start: Python and the libraries are imported, perhaps from a slow disk."""
FINISH_S = 10.0
"""How long a run that stops waits for answers that are under way."""
_WORKERS_HERE = 2
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
        place = address_of(address)
        self._folder = new_folder() if place == LOCAL else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="synth-dspy-ray", daemon=True)
        self._workers: list[_Worker] = []
        self._changed = asyncio.Event()
        self._starting = 0
        self._failures = 0
        self._last_failure = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Future[Any]] = set()
        self._closing: WeakKeyDictionary[Ledger, bool] = WeakKeyDictionary()
        try:
            connect(place, workers or _WORKERS_HERE, self._folder)
            self.size = workers or (_WORKERS_HERE if self._folder else len(self.machines()))
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
            task = asyncio.ensure_future(coroutine)
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            return await asyncio.shield(task)

        return asyncio.run_coroutine_threadsafe(finish(), self._loop)

    def finish_before_close(self, ledger: Ledger) -> None:
        """Wait, before a ledger is closed, for answers that are under way: a stopped run need not ask them again.

        Raises:
            SetupError: it is being closed; a thread of the stopped run asks for more.
        """
        if ledger not in self._closing:
            self._closing[ledger] = False
            ledger.on_close(lambda: self._finish_calls(ledger))
        if self._closing[ledger]:
            raise SetupError("The run is being stopped, so this call is not made.")

    def _finish_calls(self, ledger: Ledger) -> None:
        async def wait() -> None:
            if self._calls:
                await asyncio.wait(self._calls, timeout=FINISH_S)

        self._closing[ledger] = True
        if self._thread.is_alive():
            with suppress(KeyboardInterrupt):  # a second Ctrl-C: these answers are lost
                self.run(wait())

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
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def machines(self) -> list[dict[str, float]]:
        """The resources of each machine."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    async def _start_all(self) -> None:
        starts = [self._begin() for _ in range(self.size)]
        done, waiting = await asyncio.wait(starts, timeout=START_S)
        if waiting:
            free = self.ray.available_resources().get("CPU", 0)
            raise SetupError(
                f"The Ray cluster has started {len(self._workers)} of {self.size} workers within {START_S:g} s: each "
                f"takes one CPU, and {free:g} are free; lower --workers, or wait until others are done."
            )
        for start in done:
            start.result()
        if not self._workers:
            raise SetupError(self._give_up("No worker of the Ray cluster could be started"))

    def _begin(self) -> asyncio.Task[None]:
        self._starting += 1
        task = asyncio.ensure_future(self._start())
        self._tasks.add(task)  # the event loop alone would not keep it
        task.add_done_callback(self._tasks.discard)
        return task

    async def _start(self) -> None:
        """Start a worker, again if it dies at once; it takes calls once it is ready."""
        from synth_dspy.models.cluster.worker import Worker

        make = self.ray.remote(Worker).options(num_cpus=1, max_concurrency=10_000, scheduling_strategy="SPREAD")
        try:
            while self._failures < DEATHS * self.size:
                actor = make.remote()
                try:
                    machine, theirs = await actor.ready.remote()
                except self.ray.exceptions.RayError as error:
                    self._failures += 1
                    self._last_failure = line_of(error)
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
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), START_S)
                continue
            raise SetupError(self._give_up(f"All workers of the Ray cluster died, and none started in {START_S:g} s"))
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
        self._last_failure = line_of(error)
        self.ray.kill(worker.actor)  # if it is only unreachable
        self._begin()

    def _give_up(self, what: str, error: Exception | None = None) -> str:
        why = line_of(error) if error else self._last_failure
        return (
            f"{what} ({why}): see the logs of Ray on that machine (memory is the usual cause), lower --concurrency or "
            "--workers, or go on without --executor; no answered call is lost."
        )


async def _cancel_all() -> None:
    """Cancel the other tasks of the event loop, and wait until they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _returned(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


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
