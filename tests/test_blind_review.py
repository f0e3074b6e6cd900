"""A blind comparison that several people vote on: whom it shows what, and what is kept of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from finished_runs import make_run, row

from synth_dspy.cli import blind
from synth_dspy.core.errors import SetupError
from synth_dspy.evaluation.blind.review import Review, Turn
from synth_dspy.evaluation.blind.sheets import read_key
from synth_dspy.evaluation.blind.tally import tally_votes
from synth_dspy.evaluation.blind.votes import Choice, read_votes

N = 20
Chooses = Callable[[Turn], Choice]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [row(arm, i, judged=0.9 if arm == "sft" else 0.4) for arm in ("rag", "sft") for i in range(N)]
    run = make_run(tmp_path / "run-1", rows)
    blind.main(["sheets", str(run), "--out", str(tmp_path / "out"), "--items", str(N)])
    return tmp_path / "out"


def prefers(arm: str, otherwise: float = 0.0, seed: int = 0) -> Chooses:
    """A rater who chooses an arm's output, and with some probability anything else."""
    rng = random.Random(seed)

    def choose(turn: Turn) -> Choice:
        if rng.random() < otherwise:
            return rng.choice([1, 2, "tie"])
        return next(i for i, output in enumerate(turn.outputs, start=1) if output.startswith(arm))

    return choose


def rate(review: Review, rater: str, choose: Chooses, most: int = 1000) -> list[Turn]:
    turns: list[Turn] = []
    while len(turns) < most and (turn := review.turn(rater)) is not None:
        assert review.vote(rater, turn.token, choose(turn))
        turns.append(turn)
    return turns


def results(folder: Path) -> dict[str, Any]:
    return tally_votes(read_key(folder), read_votes(folder / "votes.jsonl"))


def test_every_item_gets_its_votes_and_each_rater_an_order_of_their_own(folder: Path) -> None:
    review = Review(folder, raters=2, repeats=0)
    orders = [[turn.question for turn in rate(review, rater, prefers("sft"))] for rater in ("ann", "bob", "cleo")]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(f"Question {i}?" for i in range(N))
    assert orders[0] != orders[1]
    assert orders[2] == []
    assert review.standing()["complete"] == N
    assert review.standing()["raters"] == {"ann": N, "bob": N}


def test_three_raters_share_items_that_are_to_get_two_votes(folder: Path) -> None:
    review = Review(folder, raters=2, repeats=0)
    left = {"ann", "bob", "cleo"}
    while left:
        left = {rater for rater in left if rate(review, rater, prefers("sft"), most=1)}
    counts = Counter(vote.item for vote in read_votes(folder / "votes.jsonl"))
    assert set(counts.values()) <= {2, 3}  # the last items may be open at several raters at once
    assert sum(counts.values()) <= 2 * N + 2
    assert min(review.standing()["raters"].values()) >= N // 2


def test_repeats_come_late_in_the_other_order_and_do_not_count_as_votes(folder: Path) -> None:
    review = Review(folder, raters=1, repeats=4)
    turns = rate(review, "ann", prefers("sft"))
    assert len(turns) == N + 4
    places: dict[str, list[int]] = {}
    for place, turn in enumerate(turns):
        places.setdefault(turn.question, []).append(place)
    twice = [each for each in places.values() if len(each) == 2]
    assert len(twice) == 4
    for first, second in twice:
        assert second - first >= 5
        assert turns[first].outputs == turns[second].outputs[::-1]
        assert turns[first].token != turns[second].token
    tally = results(folder)
    assert tally["votes"] == N
    assert tally["repeats"] == {"ann": {"same": 4, "n": 4}}


def test_a_careless_rater_shows_in_repeats_and_agreement(folder: Path) -> None:
    review = Review(folder, raters=3, repeats=8)
    for rater in ("ann", "bob"):
        rate(review, rater, prefers("sft"))
    rate(review, "cleo", prefers("sft", otherwise=1.0, seed=1))
    tally = results(folder)
    assert tally["repeats"]["ann"]["same"] == 8
    assert tally["repeats"]["cleo"]["same"] < 8
    alike = {each["rater"]: each["agreement_with_others"] for each in tally["raters"]}
    assert alike["cleo"] < alike["ann"]


def test_a_vote_names_the_same_output_in_whatever_order_it_was_shown(folder: Path) -> None:
    review = Review(folder, raters=8, repeats=2)
    raters = [f"rater-{i}" for i in range(8)]
    first = {rater: [turn.outputs for turn in rate(review, rater, prefers("rag"))] for rater in raters}
    assert {vote.shown for vote in read_votes(folder / "votes.jsonl")} == {(1, 2), (2, 1)}
    assert len({outputs for each in first.values() for outputs in each}) == 2 * N
    tally = results(folder)
    assert {arm["arm"]: arm["rate"] for arm in tally["arms"]} == {"rag": 1.0, "sft": 0.0}
    assert tally["agreement"]["percent"] == 1.0
    assert sum(tally["positions"]["shares"]) == pytest.approx(1)
    assert max(tally["positions"]["shares"]) < 1  # by places on the screen, not on the sheet


def test_going_back_corrects_a_vote_and_both_are_kept(folder: Path) -> None:
    review = Review(folder, raters=1, repeats=0)
    first, second = rate(review, "ann", lambda turn: 1, most=2)
    again = review.turn("ann", 1)
    assert again is not None
    assert (again.token, again.outputs, again.choice) == (first.token, first.outputs, 1)
    following = review.turn("ann")
    assert review.vote("ann", again.token, 2, "I had misread it.")
    assert review.vote("ann", again.token, 2, "I had misread it.")  # sent twice: one line
    corrected = review.turn("ann", 1)
    assert corrected is not None
    assert (corrected.choice, corrected.comment) == (2, "I had misread it.")
    assert review.turn("ann") == following  # what was open before is still next
    votes = read_votes(folder / "votes.jsonl")
    assert len(votes) == 3
    tally = results(folder)
    assert (tally["votes"], tally["replaced"], len(tally["conflicts"])) == (2, 1, 1)
    assert [each["comment"] for each in tally["comments"]] == ["I had misread it."]
    assert second.number == 2


def test_turns_of_others_and_made_up_ones_are_not_taken(folder: Path) -> None:
    review = Review(folder, raters=2)
    turn = review.turn("ann")
    assert turn is not None
    assert not review.vote("bob", turn.token, 1)
    assert not review.vote("ann", "made up", 1)
    assert not review.vote("ann", turn.token, 3)
    assert not (folder / "votes.jsonl").exists()


def test_skipped_items_are_left_to_other_raters(folder: Path) -> None:
    review = Review(folder, raters=1, repeats=0)
    assert len(rate(review, "ann", lambda turn: "skip")) == N
    assert review.standing()["complete"] == 0
    assert review.standing()["results"] is None
    assert len(rate(review, "bob", prefers("sft"))) == N


def test_the_terminal_and_the_page_write_one_file(folder: Path) -> None:
    review = Review(folder, raters=2, repeats=0)
    rate(review, "ann", prefers("sft"), most=3)
    key = read_key(folder)
    with (folder / "votes.jsonl").open("a") as file:
        for item in key["items"]:
            file.write(json.dumps({"study": key["study"], "item": int(item), "rater": "bob", "choice": 1}) + "\n")
    assert review.turn("bob") is None
    assert review.standing()["raters"] == {"ann": 3, "bob": N}
    assert review.standing()["complete"] == 3


def test_a_vote_cut_off_by_a_kill_is_dropped_and_all_others_stay(folder: Path) -> None:
    rate(Review(folder, raters=1), "ann", prefers("sft"), most=3)
    votes = folder / "votes.jsonl"
    whole = votes.read_bytes()
    for cut in (12, 60, len(whole.splitlines()[0]) - 1):
        votes.write_bytes(whole + whole.splitlines()[0][:cut])
        review = Review(folder, raters=1)
        assert review.progress("ann")[0] == 3
        rate(review, "ann", prefers("sft"), most=1)
        assert len(read_votes(votes)) == 4
        votes.write_bytes(whole)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["page"], "Name the folder of a finished run"),
        (
            ["page", "OUT", "--arms", "dpo"],
            "holds a comparison of rag, sft, without dpo: name another folder with --out",
        ),
        (["page", "OUT", "--host", "0.0.0.0"], "set SYNTH_DSPY_KEY"),
        (["report", "OUT"], "holds no votes: collect some with"),
    ],
)
def test_errors_say_how_to_mend_them(
    folder: Path, args: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNTH_DSPY_KEY", raising=False)
    with pytest.raises(SetupError, match=sentence):
        blind.main([str(folder) if arg == "OUT" else arg for arg in args])


def test_votes_on_other_sheets_are_refused_at_once(folder: Path) -> None:
    rate(Review(folder, raters=1), "ann", prefers("sft"), most=1)
    votes = folder / "votes.jsonl"
    votes.write_text(votes.read_text().replace("study-", "study-other-"))
    with pytest.raises(SetupError, match="the vote is on other sheets"):
        Review(folder, raters=1)


def test_votes_at_once_are_all_kept(folder: Path) -> None:
    review = Review(folder, raters=6, repeats=2)
    raters = [f"rater-{i}" for i in range(6)]
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda rater: len(rate(review, rater, prefers("sft"))), raters))
    assert done == [N + 2] * 6
    assert len(read_votes(folder / "votes.jsonl")) == 6 * (N + 2)


def test_agreement_with_the_judge_is_that_of_the_majority(folder: Path) -> None:
    review = Review(folder, raters=3, repeats=0)
    wrong = {f"Question {i}?" for i in range(5)}  # on these most raters prefer what the judge scores lower
    for rater in ("ann", "bob", "cleo"):
        better, worse = prefers("sft"), prefers("rag")
        rate(review, rater, lambda turn, b=better, w=worse: w(turn) if turn.question in wrong else b(turn))
    tally = results(folder)
    assert (tally["judge"]["rate"], tally["judge"]["n"], tally["judge"]["undecided"]) == (0.75, N, 0)
    assert tally["judge"]["low"] < 0.75 < tally["judge"]["high"]
    assert tally["pairs"][0]["powered"] is not None


def test_an_answered_vote_survives_a_kill(folder: Path) -> None:
    """A process says of each vote that it is kept, and is killed at any moment."""
    script = (
        "import sys; from pathlib import Path; from synth_dspy.evaluation.blind.review import Review\n"
        "review = Review(Path(sys.argv[1]), 1, 0)\n"
        "while True:\n"
        "    turn = review.turn('ann') or review.turn('ann', 1)\n"
        "    review.vote('ann', turn.token, 2 if turn.choice == 1 else 1)\n"
        "    print('kept', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}
    )
    assert process.stdout is not None
    acknowledged = len([process.stdout.readline() for _ in range(5)])
    process.kill()
    acknowledged += process.stdout.read().count(b"kept")
    process.wait()
    Review(folder, 1).progress("ann")  # removes what is left of a line that was being written
    assert len(read_votes(folder / "votes.jsonl")) in (acknowledged, acknowledged + 1)
