"""The loop rehearsed: its stated rates hold, and the report says what happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from synth_dspy.cli import rehearse as cli
from synth_dspy.core.errors import SetupError
from synth_dspy.loop.records import Request
from synth_dspy.loop.rehearsal.challengers import try_challenger
from synth_dspy.loop.rehearsal.learning import Trained, learning_curve
from synth_dspy.loop.rehearsal.stream import Questions, Stream, read_questions
from synth_dspy.loop.rehearsal.trial import Setting, rehearse_event
from synth_dspy.loop.rehearsal.users import Users, as_score
from synth_dspy.loop.store import now


def test_without_an_event_nothing_is_promoted_and_hardly_an_alarm_is_raised() -> None:
    outcomes = [rehearse_event("nothing", seed, Setting(event_at=200, horizon=600)) for seed in range(4)]
    assert sum(bool(each.false_alarms) for each in outcomes) <= 1
    assert not any(each.planted for each in outcomes)
    assert {each.requests for each in outcomes} == {1_800}


@pytest.mark.parametrize(
    ("event", "by"),
    [("amended", {"documents"}), ("slower", {"latency"}), ("silent_change", {"model", "judge", "people"})],
)
def test_an_event_is_noticed_and_a_cycle_runs_to_its_end(event: str, by: set[str]) -> None:
    outcomes = [rehearse_event(event, seed) for seed in range(3)]
    assert {each.noticed for each in outcomes} <= by
    assert all(each.delay is not None and 0 < each.delay <= 600 for each in outcomes)
    assert all(each.trainings >= 1 and each.labels >= 1 for each in outcomes)


def test_a_champion_that_is_worse_than_it_seemed_is_rolled_back() -> None:
    outcomes = [rehearse_event("bad_champion", seed) for seed in range(4)]
    planted = [each for each in outcomes if each.planted]
    assert len(planted) >= 3
    assert sum(each.noticed != "" for each in planted) >= len(planted) - 1
    assert any(each.rolled_back for each in planted)
    assert all(min(each.promotions) == pytest.approx(-0.2, abs=0.03) for each in planted)


def test_the_same_seed_gives_the_same_rehearsal() -> None:
    assert rehearse_event("new_kinds", 5) == rehearse_event("new_kinds", 5)


def test_the_gate_keeps_worse_challengers_out_and_lets_better_ones_in() -> None:
    verdicts = {
        name: Counter(try_challenger(name, seed).verdict for seed in range(20))
        for name in ("worse_10", "worse_5", "better_10", "loses_a_slice", "worse_5_cheaper")
    }
    assert verdicts["better_10"]["promote"] >= 16
    for name in ("worse_10", "worse_5", "loses_a_slice", "worse_5_cheaper"):
        assert verdicts[name]["promote"] <= 1, name


def test_labels_correct_a_judge_that_is_misled() -> None:
    decided = [try_challenger("worse_5_flattered", seed) for seed in range(3)]
    assert [each.unlabelled for each in decided] == ["promote"] * 3
    assert not any(each.verdict == "promote" for each in decided)


def test_users_follow_the_right_answer_but_for_their_noise() -> None:
    draws = np.random.default_rng(0)
    requests = [Request(str(i), now(), "v1", "champion", {}, "x", False, (), 1, 1, 0.1) for i in range(2_000)]
    right = [i % 2 == 0 for i in range(2_000)]

    def agreement(users: Users) -> float:
        feedback = users.rate(requests, right, ["right"] * 2_000, draws)
        assert len(feedback) == pytest.approx(2_000 * users.rated, rel=0.15)
        agrees = [((as_score(each) or 0.0) > 0.5) == right[int(each.request)] for each in feedback]
        return sum(agrees) / len(agrees)

    assert agreement(Users(noise=0.0)) == 1.0
    assert agreement(Users(noise=0.2)) == pytest.approx(0.8, abs=0.05)
    assert agreement(Users(noise=0.0, careless=1.0)) == pytest.approx(0.5, abs=0.06)


def test_labelled_questions_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [{"text": f"question {i}", "intent": f"intent {i % 3}"} for i in range(90)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.eye(90, dtype=np.float32)[[int(text.split()[1]) for text in texts]]

    questions = read_questions(path, "text", "intent", embed)
    stream = Stream(0, questions, ordinary=2, new=1)
    assert set(stream.ask(200).kinds) == set(stream.ordinary)
    batch = stream.ask(50, share_of_new=1.0)
    assert set(batch.kinds) == set(stream.new)
    for text, kind, vector in zip(batch.texts, batch.kinds, batch.vectors, strict=True):
        number = int(text.split()[1])
        assert f"intent {number % 3}" == kind
        assert vector.argmax() == number
    with pytest.raises(SetupError, match="kinds"):
        Stream(0, Questions(questions.texts, ["one"] * 90, questions.vectors))
    with pytest.raises(SetupError, match="topic"):
        read_questions(path, "text", "topic", embed)


@pytest.mark.slow
def test_the_report_has_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    cli.main(["contract_qa", "--seeds", "2", "--only", "nothing", "slower", "better_15", "--out", str(tmp_path)])
    files = ("report.html", "report.md", "rehearsal.jsonl")
    html, markdown, lines = ((tmp_path / name).read_text(encoding="utf-8") for name in files)
    for text in (html, markdown):
        assert "answers take 1.5 times as long" in text
        assert "better by 15 points" in text
    assert "<td>" in html
    assert "&lt;td" not in html
    assert len(lines.splitlines()) == 6


def _scripted(method: str, records: Sequence[int]) -> Trained:
    """More feedback, more right answers; kto can use half of the records."""
    right = {"": 10, "sft": 10 + len(records) // 4, "kto": 10 + len(records) // 8}[method]
    return Trained([float(i < right) for i in range(30)], len(records) // (2 if method == "kto" else 1), 1.0)


def test_a_learning_curve_trains_each_method_with_more_and_more_of_the_same_feedback() -> None:
    seen: dict[tuple[str, int], set[int]] = {}

    def compile(method: str, records: Sequence[int]) -> Trained:
        seen[method, len(records)] = set(records)
        return _scripted(method, records)

    points = learning_curve(compile, list(range(40)), list(range(30)), sizes=(8, 32), methods=("sft", "kto"))
    assert [(each.method, each.records, each.rows) for each in points] == [
        ("sft", 8, 8), ("sft", 32, 32), ("kto", 8, 4), ("kto", 32, 16),
    ]  # fmt: skip
    assert points[1].gain.mean == pytest.approx(8 / 30)
    assert seen["sft", 8] < seen["sft", 32]
    assert seen["sft", 32] == seen["kto", 32]
    with pytest.raises(SetupError, match="there are 40"):
        learning_curve(compile, list(range(40)), list(range(30)))
    with pytest.raises(SetupError, match="30 of 31"):
        learning_curve(compile, list(range(40)), list(range(31)), sizes=(8,))
