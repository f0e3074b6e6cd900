"""The programs that answer: the champion, and a challenger if there is one. They follow the aliases, and the index that
a cycle updates, without a restart.

A new version is opened in the background while the old one answers; then one reference is replaced, so requests that
have begun end with the program that they began with.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dspy

from synth_dspy.core.errors import SetupError, message_of
from synth_dspy.core.masking import mask_message
from synth_dspy.loop.records import AliasMove, Route, Transition, Version
from synth_dspy.loop.registry import Registry, sha256
from synth_dspy.loop.store import now
from synth_dspy.pipeline.program_inputs import programs_of
from synth_dspy.pipeline.saved import open_program
from synth_dspy.pipeline.saved_files import PROGRAM
from synth_dspy.pipeline.trust import Caller
from synth_dspy.service.running import Opened
from synth_dspy.service.settings import Traffic

log = logging.getLogger("synth_dspy.service.programs")

POLL_S = 1.0
RETRY_S = 30.0
"""Seconds before a version that could not be opened is tried again."""
_EMBEDDED = "embedded/"
_CHANGES = ("added", "changed", "removed")
_OVERLAP = timedelta(minutes=1)
"""Transitions are stamped before they are committed."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that is ready to answer; `documents` names the documents that it was opened with."""

    version: Version
    program: Opened
    documents: str = ""


def open_version(version: Version, caller: Caller) -> dspy.Module:
    """The program of a version, warm: its models are loaded.

    Raises:
        SetupError: it is not there, is not what was registered, or asks for more than the caller allows.
    """
    folder = Path(version.run) / "programs" / version.arm
    program = open_program(folder, caller)
    if sha256(folder / PROGRAM) != version.program:
        raise SetupError(
            f"{folder / PROGRAM} has been changed since it was registered as {version.id}: register it anew."
        )
    for each in programs_of(program):
        for predictor in each.predictors():
            if str(getattr(predictor.lm, "model", "")).startswith(_EMBEDDED):
                from synth_dspy.models.embedded.pool import pool

                with pool().lease(predictor.lm.model.removeprefix(_EMBEDDED)):
                    pass
        retriever = getattr(each, "retriever", None)
        if retriever is not None:
            retriever.search("warm", words=1)  # loads the embedder
    return program


class Programs:
    """The programs of a task's aliases.

    Args:
        registry: of the task.
        open_version: opens a version's program, anew where it is open: then with the documents as they are now. May
            take long.
        close_version: lets one go that no alias is on any more.
        traffic: what a challenger gets by default.

    Raises:
        SetupError: there is no champion, or it cannot be opened.
    """

    def __init__(
        self,
        registry: Registry,
        open_version: Callable[[Version], Opened],
        traffic: Traffic | None = None,
        close_version: Callable[[Version], None] = lambda version: None,
    ) -> None:
        self._close = close_version
        self._registry = registry
        self._open = open_version
        self._default = traffic or Traffic()
        self._loaded: dict[str, Loaded] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._began = now()
        self._documents = ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem: str | None = None
        """Why the aliases are not followed at the moment."""
        self.challenger: Loaded | None = None
        self.traffic = self._default
        self.champion = self._get(registry.version("champion").id)
        self.refresh()

    def pick(self, person: str | None) -> tuple[Loaded, Route]:
        """The program for a request, the same for all of one person's."""
        challenger, traffic = self.challenger, self.traffic
        if challenger is None or traffic.shadow:
            return self.champion, "champion"
        draw = _draw(f"{challenger.version.id} {person}") if person else random.random()
        return (challenger, "challenger") if draw < traffic.share else (self.champion, "champion")

    def other(self, route: Route) -> tuple[Loaded, Route]:
        """The program to compare with that of a route: the champion, or a challenger whose answers may be seen."""
        challenger = self.challenger
        if route == "champion" and challenger is not None and not self.traffic.shadow:
            return challenger, "challenger"
        return self.champion, "champion"

    @property
    def shadow(self) -> Loaded | None:
        """The program that gets a copy of every request, if any."""
        return self.challenger if self.traffic.shadow else None

    def follow(self) -> None:
        """Follow the aliases in a thread, until `close`."""

        def run() -> None:
            while not self._stopped.wait(POLL_S):
                self.refresh()

        self._thread = threading.Thread(target=run, name="aliases", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; a version that is being opened is not waited for."""
        self._stopped.set()

    def refresh(self) -> None:
        """Look where the aliases are, and open what is new. What fails is logged and shown as `problem`."""
        try:
            moves = {alias: self._registry.store.read(AliasMove, alias=alias, last=1) for alias in _ALIASES}
            self._documents = self._last_change() or self._documents
        except Exception as error:  # the database is away for a moment: what is loaded goes on answering
            self._report(f"The store cannot be read: {message_of(error)}")
            return
        on = {alias: each[0] if each else None for alias, each in moves.items()}
        problems = []
        champion, challenger = on["champion"], on["challenger"]
        if champion is not None and champion.version is not None:
            loaded, problem = self._try(champion.version)
            self.champion = loaded or self.champion
            problems.append(problem)
        if challenger is None or challenger.version is None:
            self.challenger = None
        else:
            loaded, problem = self._try(challenger.version)
            self.traffic = _traffic(challenger, self._default)
            self.challenger = loaded
            problems.append(problem)
        kept = {move.version for move in on.values() if move is not None} | {self.champion.version.id}
        for name in self._loaded.keys() - kept:
            self._close(self._loaded.pop(name).version)
        self._report("; ".join(filter(None, problems)) or None)

    def _try(self, name: str) -> tuple[Loaded | None, str | None]:
        """A version's program, or why it cannot be opened."""
        until, problem = self._failed.get(name, (0.0, ""))
        if not self._is_ready(name) and time.monotonic() < until:
            return self._loaded.get(name), problem
        try:
            return self._get(name), None
        except Exception as error:  # the task's own code may raise anything
            problem = f"{name} cannot be opened: {message_of(error)}"
            self._failed[name] = (time.monotonic() + RETRY_S, problem)
            return self._loaded.get(name), problem

    def _get(self, name: str) -> Loaded:
        if not self._is_ready(name):
            version, documents = self._registry.version(name), self._documents
            self._loaded[name] = Loaded(version, self._open(version), documents)
            log.info("%s is loaded", name)
        return self._loaded[name]

    def _is_ready(self, name: str) -> bool:
        return name in self._loaded and self._loaded[name].documents == self._documents

    def _last_change(self) -> str | None:
        """The last cycle since this began that brought the index up to date with changed documents."""
        recent = self._registry.store.read(Transition, since=self._began - _OVERLAP)
        changed = [each for each in recent if each.after == "indexed" and any(map(each.evidence.get, _CHANGES))]
        return changed[-1].cycle if changed else None

    def _report(self, problem: str | None) -> None:
        problem = problem and mask_message(problem)
        if problem and problem != self.problem:
            log.error("%s", problem)
        self.problem = problem


_ALIASES = ("champion", "challenger", "previous")


def _traffic(move: AliasMove, default: Traffic) -> Traffic:
    """What a challenger gets, by the move that made it one."""
    share = move.evidence.get("share")
    if isinstance(share, int | float) and not isinstance(share, bool):
        return Traffic(float(share))
    return Traffic(shadow=True) if move.evidence.get("shadow") is True else default


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on a text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
