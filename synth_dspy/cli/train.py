"""Train one adapter from a spec file: `python -m synth_dspy.train spec.json`.

    python -m synth_dspy.train spec.json              train in the spec's folder; resumes a killed training
    python -m synth_dspy.train spec.json --dry-run    print how long it would take and how much memory, and stop
    python -m synth_dspy.train FOLDER --merged NEW     write a finished training as a Hugging Face folder

The folder then holds adapter/ (PEFT), model.gguf and a Modelfile (the merged model), result.json, and train.log.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import tyro

from synth_dspy.cli.arguments import parse
from synth_dspy.core.errors import BudgetReached, SetupError, SynthDspyError
from synth_dspy.core.workspace import find_workspace
from synth_dspy.models.weights.trained import SPEC
from synth_dspy.training.spec import ERRORS, FROM_STDIN, ONLINE, read_spec

LOG = "train.log"
FAILED = 2
STAY_S = 120.0
"""Seconds that a process waits for another training."""


@dataclass(frozen=True)
class TrainConfig:
    """What to train.

    Attributes:
        spec: The spec file, or the folder of one that is called spec.json; the folder receives the results.
        dry_run: Print an estimate of time and memory, and stop.
        merged: Write the finished training's model to this new folder, as safetensors with its tokeniser, and stop.
        max_minutes: Stop after so many minutes; the same command goes on from the last checkpoint.
        events: Write JSON lines to standard output, for a parent process.
        trust: Import the spec's reward from a workspace other than the current folder's.
        stay: With events: train further specs too, whose paths the parent writes to standard input; all of
            them if the first is "-".
    """

    spec: tyro.conf.Positional[Path]
    dry_run: bool = False
    merged: Path | None = None
    max_minutes: float | None = None
    events: bool = False
    trust: bool = False
    stay: bool = False


def main(args: list[str]) -> int:
    """Parse `args`, train, print the result."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(TrainConfig, verb="train", description=description, args=args)
    if config.spec.is_dir():
        config = replace(config, spec=config.spec / SPEC)
    sent = config.stay and config.events and str(config.spec) == FROM_STDIN
    if not sent and not config.spec.is_file():
        raise SetupError(f"There is no training spec {config.spec}: check the path.")
    from synth_dspy.core.waiting import set_wait_policy
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    if config.merged is not None:
        from synth_dspy.training.merged_folder import write_merged

        print(write_merged(config.spec.parent, config.merged))
        return 0
    asleep = set_wait_policy()
    if not config.events:
        with _limited(config.max_minutes):
            return _train(config, config.spec)[0]
    status = 0
    for spec in _specs(config, asleep):
        status, stays = _train(config, spec)
        if not stays:
            break
    return status


@contextmanager
def _limited(minutes: float | None) -> Iterator[None]:
    """Stop this process's training after so many minutes, as Ctrl-C would.

    Raises:
        BudgetReached: the time is up.
    """
    if minutes is None:
        yield
        return
    if minutes <= 0:
        raise SetupError(f"--max-minutes is {minutes:g}: it should be more than 0.")

    def stop(*_: object) -> None:
        raise BudgetReached(
            f"The time limit of {minutes:g} minutes (--max-minutes) is reached; the same command goes on from the last "
            "checkpoint."
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _refuse_foreign_reward(path: Path) -> None:
    """Refuse a reward from another workspace: somebody else may have written the spec, and its reward is executed."""
    spec = read_spec(path)
    if spec.reward is None or spec.workspace is None or spec.scored_by_run:
        return
    try:
        here = find_workspace()
    except SetupError:
        here = None
    if spec.workspace != here:
        raise SetupError(
            f"The training spec {path} runs {spec.reward} of {spec.workspace}, which is not the current folder's "
            "workspace: change into that folder, or allow it with --trust (docs/trust.md)."
        )


def _train(config: TrainConfig, spec: Path) -> tuple[int, bool]:
    """Run one training; the exit status, and whether this process may train again."""
    from synth_dspy.training.events import json_lines, noise_to, terminal

    with ExitStack() as stack:
        out, err = stack.enter_context(noise_to(spec.parent / LOG))
        emit = json_lines(out) if config.events else stack.enter_context(terminal(err))
        try:
            from synth_dspy.training.runner import release, train

            if config.events:
                emit({"event": "began"})
            if not config.trust:
                _refuse_foreign_reward(spec)
            result = train(spec, emit, dry_run=config.dry_run)
        except SynthDspyError as error:
            if not config.events:
                raise
            kind = "setup" if isinstance(error, SetupError) else getattr(error, "kind", "arm")
            emit({"event": "failed", "kind": kind, "message": str(error)})
            return FAILED, False
        except Exception:
            traceback.print_exc(file=err)
            return 1, False
        stays = config.events and not config.dry_run and _stays(config, spec)
        if config.dry_run and config.events:
            emit({"event": "estimated", **result})
        elif config.events:
            release()
            emit({"event": "done", "stays": stays, **result})
        else:
            out.write(_summary(result, config.dry_run))
            out.flush()
    return 0, stays


def _summary(result: dict[str, Any], dry_run: bool) -> str:
    if dry_run:
        return (
            f"{result['rows']} rows ({result['left_out']} left out), {result['tokens']:,} tokens, {result['steps']} "
            f"steps: about {result['estimate_s']:.0f} s of training and {result['estimate_gib']:.1f} GiB of memory "
            f"({', '.join(f'{name} {gib:g}' for name, gib in result['memory_gib'].items())})\n"
        )
    return json.dumps({**result, "loss": {key: result["loss"][key] for key in ("first", "last")}}, indent=2) + "\n"


def _specs(config: TrainConfig, asleep: bool | None) -> Iterator[Path]:
    """The first spec, and with `stay` those that the parent sends on standard input, one JSON string a line.

    This process stops when its standard input ends, if that is a pipe: then the parent is gone. It also stops if no
    spec comes for a while, or if its threads would now better wait the other way.
    """
    from synth_dspy.core.waiting import busy

    sent: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        try:
            # Not sys.stdin, which is locked while it is read: a process that a library forks would wait to close it.
            with os.fdopen(os.dup(0), encoding="utf-8") as lines:
                for line in lines:
                    sent.put(json.loads(line))
        finally:
            os._exit(1)  # checkpoints are atomic, so this can stop at any time

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=listen, daemon=True, name="parent").start()
    if str(config.spec) == FROM_STDIN:
        _import_libraries()
    else:
        yield config.spec
    while True:
        try:
            spec = Path(sent.get(timeout=STAY_S))
        except Empty:
            return
        if asleep is not None and asleep != busy():
            return
        errors = os.open(spec.parent / ERRORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(errors, 2)
        os.close(errors)
        yield spec


def _import_libraries() -> None:
    """Import a training's libraries in advance: this takes five seconds, a sixth of it in the garbage collector.

    The imported objects are then frozen, which saves a quarter of a second in each of a training's own collections.
    """
    import gc

    gc.disable()
    import synth_dspy.training.runner
    import synth_dspy.training.trainers.sft  # noqa: F401  torch, transformers, TRL and PEFT, as every method needs them

    gc.freeze()
    gc.enable()


def _stays(config: TrainConfig, spec: Path) -> bool:
    """Whether this process, after training a spec, would give the same results as a new one.

    On a GPU its memory is wanted for serving. A reward's module stays loaded, though its file may change (the judge's
    scores come from the run), and what setting the number of threads does to torch cannot be undone.
    """
    import torch

    trained = read_spec(spec)
    imported = trained.method in ONLINE and not trained.scored_by_run
    return config.stay and not torch.cuda.is_available() and not imported and trained.threads is None
