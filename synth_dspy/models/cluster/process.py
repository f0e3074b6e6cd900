"""A child process on a machine of a Ray cluster, with the part of `subprocess.Popen` that a training needs."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

from synth_dspy.models.cluster.cluster import Cluster

THREADS = "OMP_NUM_THREADS"
"""Ray sets it to the number of CPUs that an actor reserves, which would change the order of summation."""


def reserved_by(cluster: Cluster) -> dict[str, float]:
    """What a training reserves: the CPUs that workers leave on the smallest machine, and a GPU if there are any; empty
    if no machine has room for one.
    """
    cpus = min((free for free in _free_cpus(cluster) if free >= 1), default=0)
    gpus = sum(machine.get("GPU", 0) for machine in cluster.machines())
    return {} if not cpus else {"num_cpus": cpus, "num_gpus": 1} if gpus else {"num_cpus": cpus}


def at_once(cluster: Cluster | None) -> int:
    """How many trainings run on the cluster side by side; 0 if they run in this process's children."""
    reserved = {} if cluster is None else reserved_by(cluster)
    if cluster is None or not reserved:
        return 0
    fit = sum(int(free // reserved["num_cpus"]) for free in _free_cpus(cluster))
    gpus = int(sum(machine.get("GPU", 0) for machine in cluster.machines()))
    return min(fit, gpus) if gpus else fit


def _free_cpus(cluster: Cluster) -> list[float]:
    """The CPUs of each machine without those of its workers, which are spread evenly."""
    machines = cluster.machines()
    workers = math.ceil(cluster.size / max(1, len(machines)))
    return [machine.get("CPU", 0) - workers for machine in machines]


class Child:
    """What runs in a process of the cluster: it starts the child there, and passes its lines on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def lines(
        self, arguments: Sequence[str], errors: str, folder: str, environment: Mapping[str, str]
    ) -> Iterator[str | int]:
        """Start Python with `arguments`; yields the lines of its standard output, and last its exit status."""
        own = {name: value for name, value in os.environ.items() if name != THREADS}
        with open(errors, "w", encoding="utf-8") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,  # closed when this process ends, which ends the child
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                cwd=folder,
                env={**own, **environment},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:  # noqa: UP028 - Ray does not take `yield from` a file
            yield line
        yield self._process.wait()

    def stop(self) -> None:
        """Ask the child to end."""
        if self._process is not None:
            self._process.terminate()


class RemoteProcess:
    """The driver's end of a child. The folders that it works in must be the same on both machines.

    Args:
        cluster: where it runs, on reserved CPUs (and a GPU, if the cluster has any).
        arguments: of Python.
        errors: file for its standard error.
        environment: variables that differ from those there.
    """

    def __init__(
        self, cluster: Cluster, arguments: Sequence[str], errors: Path, environment: Mapping[str, str]
    ) -> None:
        self.returncode: int | None = None
        self._ray = cluster.ray
        self._actor = cluster.ray.remote(Child).options(max_concurrency=2, **reserved_by(cluster)).remote()
        threads = {THREADS: os.environ[THREADS]} if THREADS in os.environ else {}
        streaming = self._actor.lines.options(num_returns="streaming")
        self._items = streaming.remote(list(arguments), str(errors), os.getcwd(), {**environment, **threads})
        self.stdout = self._lines()

    def _lines(self) -> Iterator[str]:
        try:
            for item in self._items:
                value = self._ray.get(item)
                if isinstance(value, int):
                    self.returncode = value
                else:
                    yield value
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except self._ray.exceptions.RayError:  # the machine, or Ray's process on it, died
            self.returncode = -SIGKILL

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.stop.remote(), timeout=10)

    def wait(self, timeout: float | None = None) -> None:
        """Returns at once: whoever follows its lines waits for its end."""

    def kill(self) -> None:
        """End it now."""
        self._ray.kill(self._actor)

    def __enter__(self) -> RemoteProcess:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.kill()
