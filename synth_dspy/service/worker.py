"""The process that the programs run in.

OpenVINO's `step` keeps Python's interpreter lock for as long as it computes: in one process, 64 requests under way
delayed everything else, the feedback of other callers too, by a second. The worker has programs and models; the service
keeps connections and the store to itself. If the worker ends (native code may crash), it is started again and gets what
it had not answered once more.

Messages are pickled: both ends are this package's, on a pipe that no other process has.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from synth_dspy.core.errors import SetupError, message_of
from synth_dspy.core.masking import MaskingFormatter
from synth_dspy.core.process_limits import die_with_parent
from synth_dspy.loop.records import Version
from synth_dspy.pipeline.trust import Caller
from synth_dspy.service.inputs import Shape
from synth_dspy.service.running import OpenHere, Outcome

log = logging.getLogger("synth_dspy.service.worker")

_ROOT = str(Path(__file__).resolve().parents[2])
_CODE = f"import sys; sys.path.append({_ROOT!r}); from synth_dspy.service.worker import main; main()"
_AGAIN = 1
"""Times that a request is sent again; one that ends the worker once more is given up."""
_PAUSE_S = 1.0
_SWITCH_S = 0.001
"""How long one thread may keep the interpreter while another waits; Python's own is 5 ms."""


def log_to_standard_error() -> None:
    """Log the service to standard error, without secrets."""
    handler = logging.StreamHandler()
    handler.setFormatter(MaskingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("synth_dspy.service")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@dataclass
class _Asked:
    message: tuple[Any, ...]
    answer: Future[Any] = field(default_factory=Future)
    again: int = 0


class Worker:
    """The worker as the service sees it.

    Args:
        caller: who opens programs.
        threads: programs that run at once.
    """

    def __init__(self, caller: Caller, threads: int) -> None:
        self._start = (caller, threads)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._pending: dict[int, _Asked] = {}
        self._open: dict[str, Version] = {}
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._out: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        # Two threads that live as long as this: a full pipe must not stop the event loop, and the worker ends with the
        # thread that started it.
        self._threads = [
            threading.Thread(target=target, name=f"worker {target.__name__}", daemon=True)
            for target in (self._supervise, self._send)
        ]
        for thread in self._threads:
            thread.start()

    def open(self, version: Version) -> OpenThere:
        """Open a version's program, anew where it is open; takes as long as loading its models.

        Raises:
            SetupError: it cannot be opened.
        """
        shape = self._ask("open", version).result()
        if isinstance(shape, str):
            raise SetupError(shape)
        with self._lock:
            self._open[version.id] = version
        return OpenThere(self, version, shape)

    def ask(self, version: Version, given: Any) -> Future[Outcome]:
        """See `Opened.ask`."""
        return self._ask("ask", version, given)

    def check_answer(self, version: Version, text: str) -> Future[str | None]:
        """See `Opened.check_answer`."""
        return self._ask("check", version, text)

    def close_version(self, version: Version) -> None:
        """Let a program go that will not be asked any more."""
        with self._lock:
            self._open.pop(version.id, None)
        self._out.put(("close", None, version))

    def close(self) -> None:
        """End the worker."""
        self._closing.set()
        self._out.put(None)
        if self._process is not None:
            self._process.kill()
        for thread in self._threads:
            thread.join()

    def _ask(self, *message: Any) -> Future[Any]:
        number = next(self._numbers)
        asked = _Asked((message[0], number, *message[1:]))
        asked.answer.set_running_or_notify_cancel()  # who stops waiting for it does not cancel it
        with self._lock:
            self._pending[number] = asked
        self._out.put(asked.message)
        return asked.answer

    def _send(self) -> None:
        while (message := self._out.get()) is not None:
            connection = self._connection
            try:
                if connection is not None:
                    connection.send(message)
            except OSError:  # it has just ended: what is pending will be sent to the next
                time.sleep(0.01)

    def _supervise(self) -> None:
        while not self._closing.is_set():
            try:
                what = f"the worker ended with status {self._run()}"
            except Exception as error:  # no memory for a process, say: there may be some later
                what = f"the worker could not be run ({message_of(error)})"
            if not self._closing.wait(_PAUSE_S):
                log.error("%s and is started again", what)

    def _run(self) -> int:
        """A worker, from its start to its end: its status."""
        ours, theirs = Pipe()
        with ours:
            with theirs:
                command = [sys.executable, "-P", "-c", _CODE, str(theirs.fileno()), str(os.getpid())]
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            try:
                ours.send(self._start)
                self._resend(ours)
                self._read(ours)
            except Exception:
                self._process.kill()
                raise
            finally:
                status = self._process.wait()
        return status

    def _resend(self, connection: Connection) -> None:
        """Tell a new worker what the one before had open, and what it had not answered."""
        with self._lock:
            self._connection = connection
            for version in self._open.values():
                self._out.put(("open", None, version))
            for number, asked in list(self._pending.items()):
                asked.again += 1
                if asked.again <= _AGAIN:
                    self._out.put(asked.message)
                    continue
                del self._pending[number]
                sentence = "The worker process ended again while it dealt with this"
                answers = {"open": f"{sentence}.", "ask": Outcome(None, status=502, message=sentence), "check": None}
                asked.answer.set_result(answers[asked.message[0]])

    def _read(self, connection: Connection) -> None:
        while True:
            try:
                number, answer = connection.recv()
            except (EOFError, OSError):
                return
            with self._lock:
                asked = self._pending.pop(number, None)
            if asked is not None:  # not one that was answered twice
                asked.answer.set_result(answer)


@dataclass(frozen=True, slots=True)
class OpenThere:
    """A program in the worker; see `Opened`."""

    worker: Worker
    version: Version
    shape: Shape

    def ask(self, given: Any) -> Future[Outcome]:
        """See `Opened`."""
        return self.worker.ask(self.version, given)

    def check_answer(self, text: str) -> Future[str | None]:
        """See `Opened`."""
        return self.worker.check_answer(self.version, text)


def main() -> None:
    """The worker's side: open and run programs until the service closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends it, once what has begun is finished
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent(int(sys.argv[2]))
    connection = Connection(int(sys.argv[1]))
    caller, count = connection.recv()

    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    from synth_dspy.service.programs import open_version

    log_to_standard_error()
    logging.getLogger("dspy").setLevel(logging.ERROR)  # an answer that was cut needs no line of its own
    logging.getLogger("dspy.utils.parallelizer").setLevel(logging.CRITICAL)  # writes inputs, before they are redacted
    sys.setswitchinterval(_SWITCH_S)
    threads, opener = ThreadPoolExecutor(count), ThreadPoolExecutor(1)
    programs: dict[str, Future[OpenHere]] = {}
    sending = threading.Lock()

    def reply(number: int | None, answer: Any) -> None:
        if number is not None:
            with sending:
                connection.send((number, answer))

    def open_here(version: Version) -> OpenHere:
        return OpenHere(open_version(version, caller), threads)

    def failed(opening: Future[OpenHere]) -> bool:
        return opening.done() and opening.exception() is not None

    def opened(number: int | None, opening: Future[OpenHere]) -> None:
        error = opening.exception()
        if error is not None and number is None:
            log.error("a program could not be opened again: %s", message_of(error))
        reply(number, opening.result().shape if error is None else message_of(error))

    def replace(name: str, opening: Future[OpenHere]) -> None:
        if opening.exception() is None and name in programs:
            programs[name] = opening

    def answer(number: int, opening: Future[OpenHere], given: Any) -> None:
        try:
            outcome = opening.result().ask_now(given)
        except Exception as error:
            outcome = Outcome.failed(given if isinstance(given, Mapping) else {}, error)
        reply(number, outcome)

    while True:
        try:
            verb, number, version, *given = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if verb == "open":
            opening = opener.submit(open_here, version)
            before = programs.get(version.id)
            if before is None or failed(before):
                programs[version.id] = opening
            else:  # goes on answering until then
                opening.add_done_callback(partial(replace, version.id))
            opening.add_done_callback(partial(opened, number))
        elif verb == "close":
            programs.pop(version.id, None)
        elif verb == "check":  # here, since it takes no time, and the threads may be busy for long
            program = programs.get(version.id)
            is_open = program is not None and program.done() and not program.exception()
            reply(number, program.result().problem_with(*given) if program is not None and is_open else None)
        elif (program := programs.get(version.id)) is None:
            reply(number, Outcome(None, status=503, message=f"{version.id} has just been replaced: try again"))
        else:
            if failed(program):  # after a crash; what hindered it may be over
                program = programs[version.id] = opener.submit(open_here, version)
                program.add_done_callback(partial(opened, None))
            threads.submit(answer, number, program, *given)
