"""The embedded model server: one thread per model steps a continuous-batching pipeline for all callers at once.

Callers submit a prompt and get a future. The thread admits new requests, runs one step for everything in flight (a
chunk of a prompt, one more token for the others), and resolves the futures of finished requests. `pool.py` holds the
servers by name, `backend.py` chooses the engine.

Failures are per request: a prompt beyond the context window is refused at once; when a step fails, the pipeline is
rebuilt and all requests in flight are retried one by one, so that only the culprit fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedded.backend import ChatTokenizer, Pipeline, Reply, context_window, open_pipeline
from synth_dspy.models.embedded.generation import (
    ContextWindowError,
    Generation,
    PipelineError,
    Sampling,
    ServerSettings,
)

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 30.0  # seconds a closing process waits for the step in progress


@dataclass(slots=True, eq=False)
class _Job:
    """A request: waiting, then in flight (`handle` is set), then resolved."""

    ids: list[int]
    prompt_tokens: int
    sampling: Sampling
    future: Future[Generation] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    admitted: float = 0.0
    handle: Reply | None = None
    unread: int = 0  # prompt tokens that the pipeline has not processed yet (estimate)
    cpu_seconds: float = 0.0


class ModelServer:
    """Serves one model from one thread. Loading starts at once; requests wait for it.

    Args:
        path: What `backend.choose` names.
        name: Its name in error messages.
        settings: See `ServerSettings`.
    """

    def __init__(self, path: Path, *, name: str | None = None, settings: ServerSettings | None = None) -> None:
        self.path, self.name = path, name or path.name
        self.settings = settings or ServerSettings()
        self.context_length = context_window(path)
        self._wake = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._suspects: deque[_Job] = deque()  # were in flight when a step failed; each is retried alone
        self._repeats: Counter[tuple[Any, ...]] = Counter()
        self._stopping = False
        self._loaded = threading.Event()
        self._failure: Exception | None = None
        self._pipeline: Pipeline | None = None
        self._tokenizer: ChatTokenizer | None = None  # set from loading until the server is closed
        self._next_id = 0
        self._thread = threading.Thread(target=self._serve, name=f"model-server {self.name}", daemon=True)
        self._thread.start()

    # --- what callers use, from any thread -------------------------------------------------------------------

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render `messages` (role and content) with the model's own chat template, ready for a reply."""
        return self._tokenizer_once_loaded().render(messages)

    def token_ids(self, prompt: str) -> list[int]:
        """The ids of `prompt` as the model reads it: special tokens are parsed, none are added."""
        return self._tokenizer_once_loaded().encode(prompt)

    def submit(self, prompt: str, sampling: Sampling) -> Future[Generation]:
        """Queue a templated prompt.

        Returns:
            A future; cancelling it (`cancel`) takes the request out of the batch. It may raise `PipelineError`.

        Raises:
            ContextWindowError: The prompt's tokens and `max_tokens` exceed the context window.
            PipelineError: The model could not be loaded, or the server is closed.
        """
        tokenizer = self._tokenizer_once_loaded()
        ids = tokenizer.encode(prompt)
        tokens = len(ids)
        if tokens >= tokenizer.longest or tokens + sampling.max_tokens > self.context_length:
            more = " or more" if tokens >= tokenizer.longest else ""
            raise ContextWindowError(
                f"{self.name}: the prompt's {tokens}{more} tokens and the reply's {sampling.max_tokens} exceed the "
                f"context window of {self.context_length} tokens; shorten the prompt or lower max_tokens"
            )
        with self._wake:
            if self._stopping or self._failure is not None:
                raise PipelineError(f"{self.name}: the model server is closed ({self._failure or 'unloaded'})")
            sampling = replace(sampling, stop=(*sampling.stop, *tokenizer.stops))
            job = _Job(ids, tokens, self._seeded(prompt, sampling))
            self._waiting.append(job)
            self._wake.notify()
        return job.future

    def cancel(self, future: Future[Generation]) -> None:
        """Remove a request from the batch and cancel its future; no effect on finished requests."""
        future.cancel()
        with self._wake:
            self._wake.notify()

    @property
    def busy(self) -> bool:
        """Whether any request is waiting or in flight."""
        return bool(self._waiting or self._running or self._suspects)

    @property
    def alive(self) -> bool:
        """Whether it still accepts requests."""
        return self._failure is None and not self._stopping

    def close(self) -> None:
        """Stop after the current step and free the model. Unfinished requests fail with `PipelineError`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_TIMEOUT)

    def _tokenizer_once_loaded(self) -> ChatTokenizer:
        self._loaded.wait()
        if isinstance(self._failure, SetupError):
            raise self._failure
        if self._failure is not None:
            raise PipelineError(f"{self.name}: {self._failure}") from self._failure
        if self._tokenizer is None:
            raise PipelineError(f"{self.name}: the model server is closed (unloaded)")
        return self._tokenizer

    def _seeded(self, prompt: str, sampling: Sampling) -> Sampling:
        """Seed an unseeded sampled request with the number of its earlier repetitions, so that n repetitions give n
        samples, which are the same in every process with the same order of requests."""
        if sampling.seed is not None or sampling.temperature == 0:
            return sampling
        key = (prompt, sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens)
        self._repeats[key] += 1
        return replace(sampling, seed=self._repeats[key] - 1)

    # --- the server's thread ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._load()
        except Exception as error:
            self._failure = error
        self._loaded.set()
        try:
            while self._failure is None and self._wait_for_work():
                self._admit()
                self._step()
        except Exception as error:  # a bug here must not leave callers waiting
            logger.exception("the server of %s stopped", self.name)
            self._failure = error
        finally:
            self._shut_down()

    def _load(self) -> None:
        started = time.perf_counter()
        self._pipeline = open_pipeline(self.path, self.settings)
        self._tokenizer = self._pipeline.tokenizer
        self.context_length = self._pipeline.context_length
        logger.info("loaded %s in %.1f s", self.name, time.perf_counter() - started)

    def _wait_for_work(self) -> bool:
        """Wait for requests; False when the server is to stop."""
        with self._wake:
            while not self._stopping and not self.busy:
                self._wake.wait()
            return not self._stopping

    def _admit(self) -> None:
        """Move waiting requests into the pipeline; suspects one at a time, into an empty batch."""
        with self._wake:
            if self._suspects:
                jobs = [] if self._running else [self._suspects.popleft()]
            else:
                room = self.settings.max_sequences - len(self._running)
                jobs = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        for job in jobs:
            if job.future.cancelled():
                continue
            try:
                assert self._pipeline is not None
                job.handle = self._pipeline.add(self._next_id, job.ids, job.sampling)
            except Exception as error:
                _fail(job, PipelineError(f"{self.name}: the pipeline refused the request: {error}"))
                continue
            self._next_id += 1
            job.admitted, job.unread = time.perf_counter(), job.prompt_tokens
            self._running.append(job)

    def _step(self) -> None:
        for job in self._running:
            if job.future.cancelled() and job.handle is not None:
                job.handle.cancel()
        if not self._running or self._pipeline is None:
            return
        before = time.process_time()
        try:
            self._pipeline.step()
        except Exception as error:
            self._recover(error)
            return
        self._share_cpu(time.process_time() - before)
        self._resolve_finished()

    def _share_cpu(self, seconds: float) -> None:
        """Split a step's CPU time by the number of tokens of each request, in the scheduler's order."""
        room = max(self.settings.max_batched_tokens, len(self._running))
        shares = []
        for job in self._running:
            tokens = min(job.unread, room) if job.unread else 1
            room = max(1, room - tokens)
            job.unread = 0 if job.handle and job.handle.can_read() else max(0, job.unread - tokens)
            shares.append(tokens)
        total = sum(shares)
        for job, tokens in zip(self._running, shares, strict=True):
            job.cpu_seconds += seconds * tokens / total

    def _resolve_finished(self) -> None:
        """Resolve the requests that the last step finished."""
        running = []
        for job in self._running:
            state = job.handle.state() if job.handle else "running"
            if state == "running":
                running.append(job)
            elif state == "ignored":
                _fail(
                    job,
                    ContextWindowError(
                        f"{self.name}: the request's {job.prompt_tokens} prompt tokens do not fit the server's cache "
                        f"of {self.settings.kv_cache_gib} GiB"
                    ),
                )
            elif not job.future.cancelled():
                self._finish(job)
        self._running = running

    def _finish(self, job: _Job) -> None:
        try:
            assert job.handle is not None
            ids, logprobs, cut = job.handle.read()
            text = self._tokenizer_once_loaded().text(ids)
        except Exception as error:
            _fail(job, PipelineError(f"{self.name}: the reply could not be read: {error}"))
            return
        for stop in job.sampling.stop:
            text = text.split(stop, 1)[0]
        now = time.perf_counter()
        generation = Generation(
            text=text.rstrip("\ufffd") if cut else text,  # an incomplete character of several tokens
            finish_reason="length" if cut else "stop",
            prompt_tokens=job.prompt_tokens,
            output_tokens=len(ids),
            cpu_seconds=job.cpu_seconds,
            queue_seconds=job.admitted - job.submitted,
            latency_seconds=now - job.submitted,
            token_ids=tuple(map(int, ids)),
            token_logprobs=tuple(map(float, logprobs)) if job.sampling.logprobs else (),
        )
        with suppress(Exception):  # cancelled between the check and here
            job.future.set_result(generation)

    def _recover(self, error: Exception) -> None:
        """After a failed step the pipeline is unusable: rebuild it, and find the culprit by retrying each alone."""
        affected = [job for job in self._running if not job.future.cancelled()]
        self._running = []
        logger.warning("a step of %s failed with %d requests in flight: %s", self.name, len(affected), error)
        self._pipeline = None
        try:
            self._load()
        except Exception as reload_error:
            self._failure = reload_error
        if self._failure is not None or len(affected) == 1:
            for job in affected:
                _fail(job, PipelineError(f"{self.name}: the pipeline failed: {error}"))
            return
        for job in affected:
            job.handle = None
        self._suspects.extend(affected)

    def _shut_down(self) -> None:
        with self._wake:
            self._stopping = True
            unfinished = [*self._running, *self._suspects, *self._waiting]
            self._running, self._suspects, self._waiting = [], deque(), deque()
        for job in unfinished:
            if job.handle is not None:
                with suppress(Exception):
                    job.handle.cancel()
            job.handle = None
            _fail(job, PipelineError(f"{self.name}: the model server was closed ({self._failure or 'unloaded'})"))
        if self._pipeline is not None:
            with suppress(Exception):
                self._pipeline.close()
        self._pipeline = self._tokenizer = None


def _fail(job: _Job, error: Exception) -> None:
    with suppress(Exception):  # already cancelled
        job.future.set_exception(error)
