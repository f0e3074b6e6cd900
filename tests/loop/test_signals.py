"""Signals raise few false alarms however long they watch, and notice changes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from synth_dspy.loop.signals.canaries import Canaries
from synth_dspy.loop.signals.documents import document_changes
from synth_dspy.loop.signals.quality import RATE, QualityDecay, began_to_change, floor_of
from synth_dspy.loop.signals.questions import QuestionDrift, most_shifted
from synth_dspy.loop.signals.ranks import RankDrift
from synth_dspy.loop.signals.sequential import ChangeEvidence, Ranks, e_value
from synth_dspy.loop.signals.together import STATISTICAL, Observed, Signals
from synth_dspy.loop.store import now


def test_e_values_of_uniform_p_values_have_a_mean_of_at_most_one() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    assert 0.9 < np.mean([e_value(float(each)) for each in p]) <= 1.0  # the rest lies below the smallest


def test_evidence_of_a_change_is_a_mean_over_its_times() -> None:
    evidence = ChangeEvidence()
    for e in (1.0, 1.0, 1.0):
        assert evidence.update(e) == pytest.approx(1.0)
    assert evidence.update(5.0) == pytest.approx(5 * (1 - 1 / 5) + 1 / 5)  # all times but those to come
    with pytest.raises(ValueError, match="at least 0"):
        evidence.update(-0.1)


def test_ranks_are_uniform_with_ties_too() -> None:
    draws = np.random.default_rng(1)
    ranks = Ranks(high=True)
    values = [ranks.p(float(value)) for value in draws.integers(0, 3, size=3_000)]
    assert np.quantile(values[100:], [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.04)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class _Topics:
    """Questions about some topics, as directions with noise."""

    def __init__(self, seed: int) -> None:
        self.draws = np.random.default_rng(seed)
        self.old, self.new = self.draws.normal(size=(6, 32)), self.draws.normal(size=(2, 32))

    def ask(self, n: int, share_of_new: float = 0.0) -> NDArray[np.float32]:
        centres = self.old[self.draws.integers(6, size=n)]
        is_new = self.draws.random(n) < share_of_new
        centres[is_new] = self.new[self.draws.integers(2, size=int(is_new.sum()))]
        return _unit(centres + 0.7 * self.draws.normal(size=(n, 32)))


def test_new_kinds_of_questions_are_noticed_and_old_ones_raise_no_alarm() -> None:
    false, noticed = 0, 0
    for seed in range(5):
        topics = _Topics(seed)
        drift = QuestionDrift(seed=seed)
        false += drift.add(topics.ask(320))
        drift = QuestionDrift(seed=seed)
        drift.add(topics.ask(256))
        noticed += drift.add(topics.ask(256, share_of_new=0.5))
    assert false <= 1
    assert noticed >= 4


def test_the_questions_that_moved_are_named() -> None:
    topics = _Topics(0)
    before, same, other = topics.ask(200), topics.ask(20), topics.ask(4, share_of_new=1.0)
    names = [f"old {i}" for i in range(20)] + [f"new {i}" for i in range(4)]
    assert set(most_shifted(before, np.concatenate([same, other]), names, most=4)) == {f"new {i}" for i in range(4)}


def test_falling_quality_is_noticed_and_quality_at_the_floor_raises_no_alarm() -> None:
    false, delays = 0, []
    for seed in range(100):
        draws = np.random.default_rng(seed)
        decay = QualityDecay(floor=0.6)
        false += decay.add((draws.random(600) < 0.6).astype(float))
        decay = QualityDecay(floor=0.6)
        decay.add((draws.random(300) < 0.65).astype(float))
        while not decay.alarm and decay.seen < 1_000:
            decay.add([float(draws.random() < 0.4)])
        delays.append(decay.seen - 300)
    assert false <= 5
    assert np.median(delays) < 200


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_outside_of_0_to_1_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        QualityDecay(floor=0.5).add([score])


def test_where_scores_began_to_fall_is_told() -> None:
    draws = np.random.default_rng(0)
    place = began_to_change([*(draws.random(400) < 0.8), *(draws.random(400) < 0.3)])
    assert place is not None
    assert 300 < place < 520
    assert began_to_change([0.5] * 200) is None


def test_a_growing_latency_is_noticed() -> None:
    false, noticed = 0, 0
    for seed in range(100):
        draws = np.random.default_rng(seed)
        drift = RankDrift(high=True, seed=seed)
        false += drift.add(draws.lognormal(size=300))
        drift = RankDrift(high=True, seed=seed)
        drift.add(draws.lognormal(size=200))
        noticed += drift.add(draws.lognormal(1.0, size=300))
    assert false <= 5
    assert noticed >= 95


def test_a_model_that_was_replaced_is_noticed_in_few_days() -> None:
    false, days = 0, []
    for seed in range(60):
        draws = np.random.default_rng(seed)

        def answers(differing: float, draws: np.random.Generator = draws) -> dict[str, str]:
            return {str(i): "another" if draws.random() < differing else "as ever" for i in range(30)}

        canaries = Canaries(seed=seed)
        canaries.add(answers(0))
        false += sum([canaries.add(answers(0.05)) for _ in range(40)]) > 0
        canaries = Canaries(seed=seed)
        canaries.add(answers(0))
        for _ in range(10):
            canaries.add(answers(0.05))
        days.append(next((day for day in range(1, 20) if canaries.add(answers(0.6))), 99))
    assert false <= 3
    assert np.quantile(days, 0.9) <= 3


def test_other_canary_questions_begin_anew_and_keep_the_evidence() -> None:
    canaries = Canaries()
    for _ in range(3):
        canaries.add({str(n): "as ever" for n in range(20)})
    assert not canaries.add({f"other {n}": "new" for n in range(40)}), "a first day has nothing to differ from"
    assert not canaries.add({f"other {n}": "new" for n in range(40)})
    for _ in range(3):
        canaries.add({f"other {n}": "changed" for n in range(40)})
    assert canaries.alarm
    assert canaries.add({"third": "1"}), "once raised, it stays"


def test_changed_documents_are_named() -> None:
    changes = document_changes({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"})
    assert (changes.added, changes.changed, changes.removed) == (("d",), ("c",), ("a",))
    assert not document_changes({"a": "1"}, {"a": "1"})


def test_a_floor_from_a_reference_keeps_the_stated_rate() -> None:
    false, delays = 0, []
    for seed in range(60):
        draws = np.random.default_rng([seed, 4])
        floor = floor_of((draws.random(300) < 0.7).astype(float).tolist(), RATE)
        assert floor is not None
        decay = QualityDecay(floor, RATE / 2)
        false += decay.add((draws.random(600) < 0.7).astype(float))
        decay = QualityDecay(floor, RATE / 2)
        while not decay.alarm and decay.seen < 1_000:
            decay.add([float(draws.random() < 0.45)])
        delays.append(decay.seen)
    assert false <= 3
    assert np.median(delays) < 150
    assert floor_of([0.0] * 30, RATE) is None
    assert floor_of([1.0] * 5, RATE) is None


def test_all_signals_are_read_and_share_one_rate() -> None:
    draws = np.random.default_rng(3)
    floors = {"people": 0.5, "judge": 0.3}
    signals, compared = Signals(0.08, floors), Signals(0.08)
    scores = [1.0, 0.0] * 16
    observed = Observed(
        _unit(draws.normal(size=(32, 8))), people=[1.0], judge=scores, retrieval=scores, failures=scores,
        latency=scores, cost=scores, canaries={"q": "x"},
    )  # fmt: skip
    for each in (signals, compared):
        each.add(observed)
    readings = {each.signal: each for each in signals.readings(now(), {"champion": "v1"})}
    assert readings.keys() == set(STATISTICAL)
    assert not any(each.alarm for each in readings.values())
    assert {readings[name].evidence["floor"] for name in floors} == set(floors.values())
    assert {each.evidence["champion"] for each in readings.values()} == {"v1"}
    # A floor has spent half of its signal's part.
    spent = {name: 1 / each.threshold for name, each in readings.items()}
    assert spent == {name: pytest.approx(0.01 / (2 if name in floors else 1)) for name in STATISTICAL}
    assert {each.threshold for each in compared.readings(now())} == {100.0}


def test_late_changes_are_noticed_sooner_over_blocks() -> None:
    single, blocks = ChangeEvidence(), ChangeEvidence(block=32)
    for e in [1.3, 0.7] * 320 + [1.3] * 40:  # betting loses money until the change
        single.update(e)
        blocks.update(e)
    assert blocks.value > 5 * single.value
    flat = ChangeEvidence(block=8)
    assert [flat.update(1.0) for _ in range(20)] == pytest.approx([1.0] * 20)
