"""Serving tuned models on a GPU with vLLM in a child process: a base with unmerged adapters.

    vllm serve <base> --enable-lora --lora-modules <name>=<adapter> ... --host 127.0.0.1 --port <free>

There is one server per base; it is started with the first adapter, and later adapters are loaded while it runs. It
occupies the GPU's memory, so it is stopped during trainings and restarted on the same port with the same adapters. It
stops with this process, however that ends: a small wrapper process (this module's `main`) stops it when its standard
input is closed.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

DEADLINE_S = 900.0
"""How long a server may take to load its base, compile, and become healthy."""
LOG = "vllm.log"
_POLL_S = 0.5
_STOP_S = 15.0
_RANKS = (64, 128, 256, 320, 512)  # the values of --max-lora-rank to choose from
_LOADING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

Waiting = Callable[[int, int], None]
"""Called with (seconds waited, maximum seconds)."""


@dataclass(slots=True)
class _Server:
    """A base and its adapters. `process` is None while the server is stopped."""

    base: Path
    log: Path
    port: int
    adapters: dict[str, Path] = field(default_factory=dict)
    rank: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class VllmServers:
    """The servers of this process, by base.

    Args:
        deadline_s: How long a server may take to start.
    """

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._servers: dict[Path, _Server] = {}
        self._lock = threading.RLock()

    def serve(
        self,
        base: Path,
        name: str,
        adapter: Path,
        *,
        log: Path,
        waiting: Waiting | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> str:
        """Serve an adapter under a name, unless it is served already.

        Args:
            base: A Hugging Face folder.
            name: The model's name in requests.
            adapter: The PEFT folder.
            log: The log file of a server that is started.
            waiting: Called while waiting for the server.
            cancelled: Checked while waiting; if true, the server is stopped.

        Returns:
            The server's OpenAI address, `http://127.0.0.1:<port>/v1`.

        Raises:
            SetupError: vLLM is not installed, does not start, or rejects the adapter; says why.
            InterruptedError: `cancelled`.
        """
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
        with self._lock:
            server = self._servers.setdefault(base, _Server(base, log, _free_port()))
            if rank > server.rank:
                largest = _largest(rank)
                self._stop(server)
                server.rank = largest
            served_adapter = server.adapters.get(name)
            server.adapters[name] = adapter
            try:
                if not server.alive:
                    self._start(server, waiting, cancelled)
                elif served_adapter is None:
                    ask(server.root, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)})
            except BaseException:
                del server.adapters[name]
                raise
            return f"{server.root}/v1"

    def where(self, name: str) -> tuple[str, Path] | None:
        """The address and the adapter of a model served here (even if its server is stopped meanwhile), or None."""
        with self._lock:
            for server in self._servers.values():
                if name in server.adapters:
                    return f"{server.root}/v1", server.adapters[name]
        return None

    def stop(self) -> None:
        """Stop all servers, until `resume`."""
        with self._lock:
            for server in self._servers.values():
                self._stop(server)

    def resume(self, *, waiting: Waiting | None = None) -> None:
        """Restart the stopped servers on the same ports."""
        with self._lock:
            for server in self._servers.values():
                if server.adapters and not server.alive:
                    self._start(server, waiting, lambda: False)

    def _start(self, server: _Server, waiting: Waiting | None, cancelled: Callable[[], bool]) -> None:
        command = [
            *(executable(), "serve", str(server.base), "--host", "127.0.0.1", "--port", str(server.port)),
            *("--enable-lora", "--max-lora-rank", str(server.rank)),
            # Otherwise the model's generation config (a repetition penalty, say) would change greedy replies.
            *("--generation-config", "vllm"),
            *("--lora-modules", *(f"{name}={path}" for name, path in server.adapters.items())),
        ]
        environment = {**os.environ, _LOADING: "True", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        server.log.parent.mkdir(parents=True, exist_ok=True)
        with server.log.open("wb") as log:
            server.process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
            )
        try:
            self._wait(server, waiting, cancelled)
        except BaseException:
            self._stop(server)
            raise

    def _wait(self, server: _Server, waiting: Waiting | None, cancelled: Callable[[], bool]) -> None:
        assert server.process is not None
        began = time.monotonic()
        while not _healthy(server):
            waited = time.monotonic() - began
            status = server.process.poll()
            if status is not None:
                raise SetupError(
                    f"vLLM ended with status {status} before it served {server.base.name}: {_explain_failure(server)}"
                )
            if waited > self.deadline_s:
                raise SetupError(
                    f"vLLM did not serve {server.base.name} within {self.deadline_s:.0f} s: {_explain_failure(server)}"
                )
            if cancelled():
                raise InterruptedError("cancelled while vLLM was starting")
            if waiting is not None:
                waiting(int(waited), int(self.deadline_s))
            time.sleep(min(_POLL_S, 0.05 + waited / 10))

    def _stop(self, server: _Server) -> None:
        process, server.process = server.process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(2 * _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def executable() -> str:
    """The path of vLLM's command.

    Raises:
        SetupError: It is not installed.
    """
    path = shutil.which("vllm")
    if path is None:
        raise SetupError(
            "gguf = none leaves the adapter unmerged for vLLM, but there is no command vllm on the PATH: install vLLM, "
            "or set gguf to Q8_0 or F16."
        )
    return path


_SERVERS: VllmServers | None = None
_SERVERS_LOCK = threading.Lock()


def servers() -> VllmServers:
    """The process's servers, which stop when the interpreter exits."""
    global _SERVERS
    with _SERVERS_LOCK:
        if _SERVERS is None:
            _SERVERS = VllmServers()
            atexit.register(_SERVERS.stop)
        return _SERVERS


def ask(root: str, path: str, body: Mapping[str, Any], *, timeout: float = 300.0) -> dict[str, Any]:
    """Post JSON to a server and return its reply; {} if that is not a JSON object.

    Raises:
        SetupError: The server cannot be reached, or refuses; says why.
    """
    import httpx

    try:
        response = httpx.post(f"{root}{path}", json=dict(body), timeout=timeout, trust_env=False)
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        last_line = " ".join(error.response.text.split())[:300]
        raise SetupError(f"vLLM refused {path} with status {error.response.status_code}: {last_line}.") from error
    except httpx.HTTPError as error:
        raise SetupError(f"vLLM at {root} could not be asked for {path}: {error or type(error).__name__}.") from error
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _healthy(server: _Server) -> bool:
    import httpx

    with suppress(httpx.HTTPError):
        return httpx.get(f"{server.root}/health", timeout=5.0, trust_env=False).status_code == 200
    return False


def _explain_failure(server: _Server) -> str:
    """The last line of a server's log, and what to do."""
    lines: deque[str] = deque(maxlen=1)
    with suppress(OSError), server.log.open(encoding="utf-8", errors="replace") as file:
        lines.extend(line.strip() for line in file if line.strip())
    last_line = lines[0][:300] if lines else "its log is empty"
    return f"{last_line} (see {server.log}); fix that, or set gguf to Q8_0 or F16."


def _largest(rank: int) -> int:
    path = next((each for each in _RANKS if each >= rank), None)
    if path is None:
        raise SetupError(f"vLLM serves adapters of rank {_RANKS[-1]} at most, and these have {rank}: lower lora.rank.")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(command: list[str]) -> int:
    """Run a command until it ends or standard input is closed, then stop its children too."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def stop(*_: object) -> None:
        for number, patience in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # surviving workers
        os._exit(0)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop()

    threading.Thread(target=watch, daemon=True, name="parent").start()
    return process.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when to stop
    sys.exit(main(sys.argv[1:]))
