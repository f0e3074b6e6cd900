"""The most likely reply first, then samples: no more than it takes."""

from __future__ import annotations

from collections.abc import Iterator

from synth_dspy.synthesis.samples import draw, first_passing


def test_the_first_call_is_greedy_and_the_others_are_samples_of_their_own() -> None:
    sampling = {"temperature": 0.3}
    assert [draw(i, sampling) for i in range(3)] == [
        {},
        {"rollout_id": 1, "temperature": 0.3},
        {"rollout_id": 2, "temperature": 0.3},
    ]


def test_no_more_are_made_once_one_passes() -> None:
    made: list[str] = []

    def trials() -> Iterator[str]:
        for trial in ("bad", "good", "better"):
            made.append(trial)
            yield trial

    assert first_passing(trials(), lambda trial: trial.startswith("g")) == "good"
    assert made == ["bad", "good"]


def test_where_none_passes_it_is_the_first_that_says_something() -> None:
    assert first_passing(["", "bad", "worse"], lambda trial: False) == "bad"
    assert first_passing([], lambda trial: True) is None
