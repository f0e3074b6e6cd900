"""Events that are planted in a rehearsal, and the signals that are to notice them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synth_dspy.loop.signals.together import MODEL, SCORES

QUALITY = frozenset(SCORES)


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to the world from one request on.

    Attributes:
        about: in a few words, for the report.
        noticed_by: an alarm of any of these signals notices it; empty: there is nothing to notice.
        new_kinds: share of the questions that is of kinds never seen.
        amended: the documents of so many kinds are amended, and the champion's answers about them become wrong.
        quality: by how much the probability of a right answer rises, whoever answers.
        promoted_quality: what a challenger is better by in use; at the gate it seemed better than the champion.
        canaries: share of the canary questions that is answered differently.
        latency: factor of the time that an answer takes.
        retrieval: by how much the best passage's score rises, in standard deviations.
        careless: share of raters who rate at random.
    """

    about: str
    noticed_by: frozenset[str] = frozenset()
    new_kinds: float = 0.0
    amended: int = 0
    quality: float = 0.0
    promoted_quality: float = 0.0
    canaries: float = 0.0
    latency: float = 1.0
    retrieval: float = 0.0
    careless: float = 0.0


EVENTS: Mapping[str, Event] = {
    "nothing": Event("nothing happens"),
    "new_kinds": Event(
        "40 % of the questions are of new kinds", QUALITY | {"questions", "retrieval"}, new_kinds=0.4, retrieval=-0.3
    ),
    "amended": Event(
        "half of the documents are amended; the right answers change", frozenset({"documents"}), amended=3
    ),
    "amended_unseen": Event("the same, where the documents' index does not notice", QUALITY, amended=3),
    "bad_champion": Event("a challenger that seemed better is 20 points worse in use", QUALITY, promoted_quality=-0.20),
    "slightly_bad_champion": Event("the same with 10 points", QUALITY, promoted_quality=-0.10),
    "silent_change": Event(
        "the provider replaces the model: a third of the answers differ, 5 points are lost",
        QUALITY | {MODEL},
        canaries=0.35,
        quality=-0.05,
    ),
    "careless": Event("half of the raters rate at random from now on", careless=0.5),
    "slower": Event("answers take 1.5 times as long", frozenset({"latency"}), latency=1.5),
    "search_decay": Event(
        "the best passages' scores fall by a standard deviation", QUALITY | {"retrieval"}, retrieval=-1.0, quality=-0.05
    ),
}
