"""Rewards of a run's judge for a training in another process, over a local socket.

The run has the program, the judge with its model, the ledger and the budget; the training has the sampled replies. It
sends their texts, and the run answers with a score for each. Messages are JSON, nothing is unpickled, and both sides
prove that they know a key, which is in a file of the training's folder that only its owner can read.
"""

from __future__ import annotations

import contextvars
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import ArmError

ADDRESS = "reward.json"
Scorer = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], Sequence[float]]
"""(rows, replies) -> a score in [0, 1] for each."""


@contextmanager
def serving(scorer: Scorer | None, folder: Path) -> Iterator[None]:
    """Answer a training's requests for rewards while the context lasts; None: there will be none.

    Args:
        scorer: scores replies; it runs in the context that this function is called in.
        folder: the training's folder.
    """
    if scorer is None:
        yield
        return
    key, context, ended = secrets.token_bytes(32), contextvars.copy_context(), threading.Event()
    listener = Listener(authkey=key)
    thread = threading.Thread(target=_accept, args=(listener, scorer, context, ended), daemon=True, name="rewards")
    path = folder / ADDRESS
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        json.dump({"address": listener.address, "key": key.hex()}, file)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        path.unlink(missing_ok=True)
        with suppress(OSError):  # wakes the thread, which waits for a connection; no answer is waited for
            Client(listener.address).close()
        listener.close()


def _accept(listener: Listener, scorer: Scorer, context: contextvars.Context, ended: threading.Event) -> None:
    """Answer one request after the other, each on a connection of its own, so that no process holds up another."""
    while not ended.is_set():
        with suppress(OSError, EOFError, AuthenticationError), listener.accept() as connection:
            try:
                request = json.loads(connection.recv_bytes())
                rewards = context.copy().run(scorer, request["rows"], request["replies"])
                reply: dict[str, Any] = {"rewards": [float(reward) for reward in rewards]}
            except BaseException as error:  # whatever it is, the training is told, and this thread goes on
                reply = {"error": str(error) or type(error).__name__}
            connection.send_bytes(json.dumps(reply).encode())


class JudgeReward:
    """The run's reward, in the training's process.

    Args:
        folder: the training's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, row: Mapping[str, Any], text: str) -> float:
        return self.score_many([row], [text])[0]

    def score_many(self, rows: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
        """Scores of replies.

        Raises:
            ArmError: no run answers, or the judge failed.
        """
        sent = [{"source": row["source"], "predictor": row["predictor"]} for row in rows]
        try:
            place = json.loads((self.folder / ADDRESS).read_text(encoding="ascii"))
            with Client(place["address"], authkey=bytes.fromhex(place["key"])) as connection:
                connection.send_bytes(json.dumps({"rows": sent, "replies": list(replies)}).encode())
                reply = json.loads(connection.recv_bytes())
        except (OSError, EOFError, ValueError, AuthenticationError) as error:
            raise ArmError(
                "The judge that rewards this training runs in the run that started it, which does not answer: resume "
                "the run with --resume, or set reward to a function of the workspace as module:function."
            ) from error
        if "error" in reply:
            raise ArmError(f"The judge could not score a sampled reply: {reply['error']}")
        return [float(reward) for reward in reply["rewards"]]
