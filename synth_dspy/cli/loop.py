"""Keep a task in production true: `python -m synth_dspy.loop TASK` watches it, retrains, compares, promotes.

    python -m synth_dspy.loop contract_qa                     looks every 15 minutes, until it is stopped
    python -m synth_dspy.loop contract_qa --once              one look, and what follows from it
    python -m synth_dspy.loop contract_qa --now --once        a cycle now, whatever the signals say
    python -m synth_dspy.loop status contract_qa              versions, signals, cycles, and what waits for you
    python -m synth_dspy.loop approve contract_qa --reason "read 20 of its answers"
    python -m synth_dspy.loop reject contract_qa --reason "too terse"
    python -m synth_dspy.loop rehearse contract_qa            what it would notice and promote (docs/rehearsal.md)

A loop that was killed goes on where it was. See docs/production.md.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator
from sqlalchemy.exc import SQLAlchemyError

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import (
    MoveConfig,
    ProductionConfig,
    TaskName,
    open_registry,
    print_aliases,
    print_table,
    runs_of,
    track,
)
from synth_dspy.cli.rehearse import main as rehearse
from synth_dspy.core.errors import SetupError, SynthDspyError, message_of
from synth_dspy.core.invocation import command
from synth_dspy.core.masking import mask_message
from synth_dspy.core.printable import printable_name
from synth_dspy.core.workspace import find_workspace
from synth_dspy.loop.cycle import Cycles
from synth_dspy.loop.status import PAGE, answer_cycle, judging_folder, latest_readings

if TYPE_CHECKING:
    from synth_dspy.loop.turn import Loop

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class LoopConfig(MoveConfig):
    """How a task is kept true."""

    task: TaskName
    """The task's name."""
    once: bool = False
    """Look once, do what follows from it, and end."""
    every: str = "15m"
    """Time between two looks: 30s, 15m, 2h, 1d."""
    now: bool = False
    """Open a cycle now, whatever the signals say."""
    promote: Literal["ask", "auto"] = "ask"
    """Whether a person approves what the gate lets through (`loop approve TASK`), or it goes on by itself."""
    arms: tuple[str, ...] = ()
    """Arms to train besides the baseline; by default the champion's."""
    minutes: float | None = Field(default=None, gt=0)
    """Time limit of each training in minutes; by default as in the champion's run."""
    max_usd: float | None = Field(default=None, ge=0)
    """Stop a cycle's run once its calls have cost so many US dollars; a loop with more goes on."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop a cycle's run after so many minutes; the next look goes on with it."""
    margin: float = Field(default=0.02, ge=0, le=1)
    """How much worse a cheaper challenger may be: 0.02 is 2 points."""
    rate: float = Field(default=0.05, gt=0, lt=1)
    """Probability that a cycle is opened although nothing changed, over all signals together."""
    trial_requests: int = Field(default=100, ge=0)
    """Answers that a challenger gives in shadow, then with a share of the traffic, before the next step; 0: none are
    waited for."""
    watch_requests: int = Field(default=2000, ge=0)
    """Answers of a new champion that are watched before the cycle ends (docs/production.md says what that shows)."""
    watch_copies: bool = True
    """Let the champion before answer copies of these, which costs as much again, and shows smaller losses."""
    share: float = Field(default=0.2, gt=0, le=1)
    """Share of the traffic that a challenger gets after the shadow."""
    patience_hours: float = Field(default=168.0, ge=0)
    """Hours that each of these steps waits for traffic, and an undecided gate for people's verdicts or labels."""
    raters: int = Field(default=1, ge=1)
    """People who judge each pair of answers that an undecided gate asks about; the majority counts."""
    verdicts: Literal["undecided", "always"] = "undecided"
    """Whether people are asked to judge pairs of answers where the gate is undecided, or always: then nothing is
    decided by the judge alone."""
    canaries: int | None = Field(default=None, ge=0)
    """Questions that the champion is asked again each day; by default 20 where its model is hosted, else none."""
    trust: bool = False
    """Allow the files, databases and models named by a program that somebody else made; without it, they are listed
    (docs/trust.md)."""
    api_base: str | None = None
    """Address of the models' server, in place of the saved one."""
    api_key_name: str | None = None
    """Environment variable with the key for that server."""
    allow_http: bool = False
    """Allow sending that key over http:// to another machine."""

    @field_validator("every")
    @classmethod
    def _is_a_time(cls, every: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,5}[smhd]", every):
            raise ValueError("it should be a time such as 30s, 15m, 2h or 1d")
        return every

    @property
    def seconds(self) -> int:
        """The time between two looks."""
        return int(self.every[:-1]) * _SECONDS[self.every[-1]]


class StatusConfig(ProductionConfig):
    """Whose loop is shown."""

    task: TaskName
    """The task's name."""


class AnswerConfig(MoveConfig):
    """Whose challenger is approved or rejected."""

    task: TaskName
    """The task's name."""


def main(args: list[str]) -> None:
    """Parse `args`, then run the loop, show it, or approve or reject what waits."""
    verb, rest = (args[0], args[1:]) if args and args[0] in _VERBS else ("", args)
    if verb and not [each for each in rest if not each.startswith("-")] and "--help" not in rest and "-h" not in rest:
        raise SetupError(f"Name the task: {command(f'loop {verb}')} TASK.")
    if verb == "status":
        _status(rest)
    elif verb == "rehearse":
        rehearse(rest)
    elif verb:
        _answer(rest, approve=verb == "approve")
    else:
        _loop(rest)


_VERBS = ("status", "approve", "reject", "rehearse")


def _loop(args: list[str]) -> None:
    config = parse(LoopConfig, verb="loop", description=(__doc__ or "").partition("\n")[0], args=args)
    registry = open_registry(config, config.task)
    registry.version("champion")  # a clear error before anything is loaded

    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    with Bars().status("loading libraries"):
        from synth_dspy.loop.gate import Policy
        from synth_dspy.loop.turn import Loop
        from synth_dspy.loop.work import Plan, Work
        from synth_dspy.pipeline.trust import Caller
    plan = Plan(
        config.promote,
        config.arms,
        config.minutes,
        Policy(margin=config.margin),
        config.rate,
        config.trial_requests,
        config.watch_requests,
        config.watch_copies,
        config.share,
        config.patience_hours,
        config.canaries,
        {"max_usd": config.max_usd, "max_minutes": config.max_minutes},
        config.raters,
        config.verdicts,
    )
    caller = Caller(config.trust, config.api_base, config.api_key_name, config.allow_http, flags=True)
    work = Work(find_workspace(), runs_of(config, config.task), registry, plan, caller, _say)
    loop = Loop(work)
    by = config.person if config.now else None
    if config.once:
        _turn(loop, by, config.reason)
        return
    while True:
        try:
            _turn(loop, by, config.reason)
            by = None
        except SynthDspyError as error:  # the state is kept: the next look tries again
            _say(f"{error} Next try in {config.every}.")
        except SQLAlchemyError as error:  # such as a database that is being restarted
            why = mask_message(message_of(getattr(error, "orig", None) or error))
            _say(f"The loop's database failed: {why}. Next try in {config.every}.")
        time.sleep(config.seconds)


def _turn(loop: Loop, by: str | None, reason: str) -> None:
    cycle = loop.turn(by=by, reason=reason)
    task = loop.work.task
    if cycle is None:
        _say(f"{task}: no signal raises an alarm.")
    elif cycle.state == "waiting":
        _say(f"{cycle.id} waits: {command(f'loop approve {task}')} or {command(f'loop reject {task}')}.")
    elif cycle.state == "compared":
        _say(f"{cycle.id} waits for people's verdicts or labels: {command(f'loop status {task}')} says where.")
    elif cycle.state != "closed":
        _say(f"{cycle.id} waits for traffic ({cycle.state}).")


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


def _status(args: list[str]) -> None:
    config = parse(
        StatusConfig, verb="loop status", description="Versions, signals, cycles, and what waits for you.", args=args
    )
    registry = open_registry(config, config.task)
    store = registry.store
    print_aliases(registry)
    latest = latest_readings(store)
    if latest:
        print()
        rows = [
            (
                each.signal,
                f"{each.statistic:.3g}",
                f"{each.threshold:.3g}",
                "ALARM" if each.alarm else "-",
                f"{each.at:%Y-%m-%d %H:%M:%S}Z",
            )
            for each in latest
        ]
        print_table(("signal", "evidence", "alarm at", "", "last change"), rows)
    cycles = Cycles(store, {}).all()
    if not cycles:
        print(f"\nno cycle yet: {command(f'loop {config.task}')} opens one where a signal raises an alarm")
        return
    print()
    for cycle in cycles[-1:]:
        for each in cycle.transitions:
            print(
                f"{cycle.id}  {each.at:%Y-%m-%d %H:%M:%S}Z  {each.after:<11}  {each.by}: {printable_name(each.reason)}"
            )
    if cycles[-1].state == "waiting":
        print(f"\nwaits for you: {command(f'loop approve {config.task}')} or {command(f'loop reject {config.task}')}")
    if (folder := judging_folder(cycles[-1])) is not None:
        from synth_dspy.loop.judging import progress

        print(f"\nwaits for people's verdicts on answers, {progress(folder)}: {command(f'blind page {folder}')}")
        print(f"(or the page {PAGE} of the service)")


def _answer(args: list[str], *, approve: bool) -> None:
    verb = "approve" if approve else "reject"
    about = "Let the challenger that waits go on." if approve else "Keep the champion, and end the open cycle."
    config = parse(AnswerConfig, verb=f"loop {verb}", description=about, args=args)
    registry = open_registry(config, config.task)
    after = answer_cycle(registry, config.person, approve=approve, reason=config.reason)
    print(f"{after.id} {after.state}: {after.transitions[-1].reason}")
    track(registry)
