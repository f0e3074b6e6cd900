"""Connects this process to a Ray cluster, or starts one for it. Ray is imported here only."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import mask_message

LOCAL = "local"
ADDRESS = "RAY_ADDRESS"
"""Ray's own environment variable, which `ray job submit` sets."""
_CONNECT_S = 10.0
_OBJECTS = 256 * 10**6
"""Bytes of Ray's object store on this machine: only requests and replies over 100 KB go through it."""


def address_of(executor: str) -> str:
    """The address of the cluster that an executor names; `local` if one is to be started."""
    return (os.environ.get(ADDRESS) or LOCAL) if executor == "ray" else executor


def connect(address: str, workers: int, folder: Path | None) -> None:
    """Connect this process.

    Args:
        address: Ray's.
        workers: for whose CPUs a cluster that is started here has room, besides trainings.
        folder: for the files of a cluster that is started here.

    Raises:
        SetupError: Ray is not installed, or the cluster cannot be reached or used.
    """
    ray = import_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "configure_logging": False}
    if folder is not None:
        options |= {
            "include_dashboard": False,
            "object_store_memory": _OBJECTS,
            "num_cpus": workers + (os.cpu_count() or 1),
            "_temp_dir": str(folder),
        }
        _show_package()
    else:
        _reach(address)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except Exception as error:
        raise SetupError(
            f"The Ray cluster {'on this machine' if folder else address} could not be used: {line_of(error)}. Leave "
            "out --executor to run without it."
        ) from error
    finally:  # Ray puts its own in place
        if threading.current_thread() is threading.main_thread() and terminate is not None:
            signal.signal(signal.SIGTERM, terminate)


def new_folder() -> Path:
    """A new folder for Ray's files, with a short path: those of sockets in it are limited to 107 bytes."""
    short = (each for each in (tempfile.gettempdir(), "/tmp") if len(each) < 30 and os.path.isdir(each))  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="ray-", dir=next(short, None)))


def _show_package() -> None:
    """Let workers on this machine, which inherit the environment, import the package from where it is here."""
    package = str(Path(__file__).resolve().parents[3])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if package not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, *paths]))


def import_ray() -> Any:
    """The package `ray`.

    Raises:
        SetupError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 unless set, too few on a busy machine
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


def line_of(error: BaseException) -> str:
    """The message of one of Ray's errors, which have many lines, the cause among the last."""
    lines = [line.strip() for line in mask_message(str(error)).splitlines() if line.strip()]
    causes = [line for line in lines if "Error: " in line]
    return (causes[-1] if causes else " ".join(lines[:2]))[:300].rstrip(".") or type(error).__name__
