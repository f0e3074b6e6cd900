"""What can be set of the service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what callers may ask for.

    Attributes:
        concurrency: answers that are computed at once.
        waiting: requests that may wait for their turn; further ones get 503.
        body_bytes: length of a request's body.
        rate: requests of one caller in a minute, loopback excepted; 0: any number.
        answer_s: seconds until an answer; then 504.
        receive_s: seconds in which a request must have arrived, headers and body; then 408.
    """

    concurrency: int = 64
    waiting: int = 256
    body_bytes: int = 1_000_000
    rate: int = 600
    answer_s: float = 120.0
    receive_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a challenger gets, where the move that made it the challenger does not say it (`{"share": 0.2}`,
    `{"shadow": true}` in its evidence).

    Attributes:
        share: of the requests, in [0, 1]; all of one person go to one version.
        shadow: it gets a copy of every request instead, and nobody sees its answers.
    """

    share: float = 0.1
    shadow: bool = False
