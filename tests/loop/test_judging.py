"""People judge the pairs of an undecided gate blind, on the service's page or by command, and the gate decides."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import production as workplace
import pytest
from finished_runs import row
from production import TEAMS, Production, production
from served import Program, serving_from
from test_loop import twice

from synth_dspy.cli import blind
from synth_dspy.cli import loop as cli
from synth_dspy.core.errors import SetupError
from synth_dspy.evaluation.blind.review import Review
from synth_dspy.loop.cycle import Cycle
from synth_dspy.loop.gate import Pair, Policy, decide
from synth_dspy.loop.judging import Judging, draw_pairs, read_judging

ERRS = '''

RULE = {rule}


class Errs:
    """Calls an answer right as the rule has it; optimizers are given the truth."""

    name, agreement = "errs", {{}}

    def score_many(self, rows):
        return [float(RULE(row["question"], row["prediction"], row["references"])) for row in rows]

    def __call__(self, example, prediction, trace=None):
        return float(prediction.answer in example.references)


@task
def tickets'''
HARSH = 'lambda question, answer, right: answer in right and int(question.split("x")[0][4:]) % 5 == 0'
"""Sees one right answer in five."""
FOND = 'lambda question, answer, right: answer != "card"'
"""Calls any other answer right."""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    rule = getattr(request, "param", HARSH)
    judged = workplace.TASK.replace("source=Rows(rows))", "source=Rows(rows), judge=lambda resources: Errs())")
    monkeypatch.setattr(workplace, "TASK", judged.replace("\n\n@task\ndef tickets", ERRS.format(rule=rule)))
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as made:
        yield made


def is_right(question: str, answer: str) -> bool:
    """The truth, which people know and the judge does not."""
    return answer == TEAMS[int(re.findall(r"word(\d+)x", question)[0]) % 3]


def rightly(question: str, outputs: list[str]) -> str:
    right = [is_right(question, output) for output in outputs]
    if all(right) or not any(right):
        return "both" if all(right) else "neither"
    return str(right.index(True) + 1)


def judge_on_page(client: httpx.Client, name: str, choose: Callable[[str, list[str]], str], most: int = 1000) -> int:
    """Judge on the page `/review` until nothing is left; how many were judged."""
    page = client.get("/login").text
    form = {"token": hidden(page, "token"), "name": name, "next": "/review"}
    assert "whether it is right" in client.post("/login", data=form).text
    page, judged = client.get("/review/next").text, 0
    while 'name="turn"' in page and judged < most:
        for secret in ("champion", "challenger", "bootstrap", "zero_shot", "v1", "v2", "judging", "-c1", "errs"):
            assert secret not in page, secret
        assert re.findall(r'accesskey="([^bcn])"', page)[-5:] == ["1", "2", "r", "w", "s"]
        question = re.findall(r'<p class="text answer">(.*?)</p>', page, re.S)[0]
        outputs = re.findall(r'<div class="text">(.*?)</div>', page, re.S)
        form = {name: hidden(page, name) for name in ("token", "turn")}
        number = re.findall(r'action="/review/(\d+)"', page)[0]
        answer = client.post(f"/review/{number}", data=form | {"choice": choose(question, outputs), "comment": ""})
        assert answer.status_code == 200, answer.text
        page, judged = answer.text, judged + 1
    return judged


def hidden(page: str, name: str) -> str:
    return re.findall(rf'name="{name}" value="([^"]+)"', page)[0]


def undecided(task: Production, **plan: Any) -> Cycle:
    cycle = twice(task.loop(**plan)).turn(by="person:ann")
    assert cycle is not None
    assert (cycle.state, cycle.memory["verdict"]) == ("compared", "undecided"), cycle.transitions[-1].reason
    return cycle


def test_verdicts_on_the_page_of_the_service_decide(task: Production, capsys: pytest.CaptureFixture[str]) -> None:
    cycle = undecided(task)
    folder = cycle.memory["judging"]
    assert f"blind page {folder}" in cycle.transitions[-1].reason
    cli.main(["status", "tickets"])
    assert re.search(r"waits for people's verdicts on answers, 0 of \d+ judged: .*blind page ", capsys.readouterr().out)
    programs = {arm: Program(arm) for arm in (task.baseline, "bootstrap")}
    with serving_from(task.registry)(programs) as service:  # type: ignore[arg-type]
        browser = {"base_url": service.url, "headers": {"Accept": "text/html"}, "follow_redirects": True}
        with httpx.Client(**browser) as ann:  # type: ignore[arg-type]
            page = ann.get("/loop").text
            assert "waits for people to judge answers" in page
            assert 'href="/review"' in page
            judge_on_page(ann, "ann", rightly, most=2)
        assert task.loop().turn() == cycle  # it waits for the rest
        with httpx.Client(**browser) as ann:  # type: ignore[arg-type]
            judge_on_page(ann, "ann", rightly)
        cycle = task.loop().turn()  # type: ignore[assignment]
        assert cycle.state == "waiting", cycle.transitions[-1].reason
        assert service.client.get("/review").status_code == 404  # nothing is left to judge
    memory = cycle.memory
    people = memory["people"]
    assert people["pairs"] + people["alike"] == memory["items"]
    assert people["raters"] == ["ann"]
    pairs = json.loads("[" + ",".join((Path(folder).parent / "answers.jsonl").read_text().splitlines()) + "]")
    gains = [(1 if row["arm"] == "challenger" else -1) * is_right(row["question"], row["prediction"]) for row in pairs]
    assert memory["difference"]["mean"] == pytest.approx(2 * sum(gains) / len(gains))  # as people see it
    assert people["by_judge"] + people["correction"] == pytest.approx(memory["difference"]["mean"])
    assert people["correction"] > 0.1
    reason = cycle.transitions[-2].reason
    assert f"1 person judged {people['pairs']} pairs blind" in reason
    assert (
        f"the judge's {100 * people['by_judge']:+.1f} points became {100 * memory['difference']['mean']:+.1f}" in reason
    )


@pytest.mark.parametrize("task", [FOND], indirect=True)
def test_people_stop_what_the_judge_is_fond_of(task: Production) -> None:
    def worse(body: dict[str, Any]) -> str:
        text = json.dumps(body["messages"])
        numbers, examples = re.findall(r"word(\d+)x0", text), len(re.findall(r"It is about my", text)) > 1
        wrong = examples and int(numbers[-1]) % 3 == 1  # about a card
        return json.dumps({"team": "login" if wrong else "card"})

    task.server.behaviour.respond = worse
    cycle = undecided(task, raters=3, verdicts="always")
    reason = cycle.transitions[-1].reason
    assert reason.startswith("The challenger is better")
    assert "By the judge alone nothing is decided" in reason
    sheets = Review(Path(cycle.memory["judging"]))
    assert sheets.raters == 3
    for rater, choose in (("ann", rightly), ("bob", rightly), ("careless", lambda *_: "both")):
        while (turn := sheets.turn(rater)) is not None:
            chosen = choose(turn.question, list(turn.outputs))
            assert not sheets.vote(rater, turn.token, "tie")  # which says nothing of either answer
            assert sheets.vote(rater, turn.token, int(chosen) if chosen.isdigit() else chosen)
        if rater != "careless":
            assert task.loop().turn() == cycle  # two of three are not all
    after = task.loop().turn()
    assert after is not None
    people = after.memory["people"]
    assert len(people["raters"]) == 3
    assert after.memory["difference"]["mean"] < 0 < people["by_judge"]
    assert (after.state, after.memory["verdict"]) == ("closed", "reject")


def test_a_loop_and_a_rater_killed_in_the_middle_lose_nothing(
    task: Production, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cycle = undecided(task, patience_h=1.0)
    folder = Path(cycle.memory["judging"])
    sheets = (folder / "sheets.jsonl").read_bytes()
    rows = [json.loads(line) for line in sheets.splitlines()]
    assert not {"champion", "challenger", "order"} & {word for row in rows for word in row}
    code = (
        "import sys, os, signal; from pathlib import Path; from synth_dspy.evaluation.blind.review import Review\n"
        "review = Review(Path(sys.argv[1])); turn = review.turn('ann'); review.vote('ann', turn.token, 'skip')\n"
        "turn = review.turn('ann'); review.vote('ann', turn.token, 'both'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, str(folder)], env=env).returncode == -signal.SIGKILL
    with pytest.raises(SetupError, match="People judge these pairs"):
        blind.main(["rate", str(folder), "--judge", "openai/x", "--votes", str(folder / "votes.jsonl")])
    answers = iter(["t", "2", "w", "r", *["q"] * 9])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    blind.main(["rate", str(folder), "--rater", "bob", "--votes", str(folder / "votes.jsonl")])
    printed = capsys.readouterr().out
    assert "Type 1/2, r, w, s or q." in printed
    assert (folder / "sheets.jsonl").read_bytes() == sheets
    assert len((folder / "votes.jsonl").read_text().splitlines()) == 5
    assert task.loop(patience_h=1.0).turn() == cycle
    after = task.loop(patience_h=1e-9).turn()  # time is up: what people have judged counts
    assert after is not None
    people = after.memory["people"]
    assert people["raters"] == ["ann", "bob"]
    assert 3 <= people["pairs"] <= 4
    assert "labelled items are too few to correct the judge" in " ".join(each.reason for each in after.transitions)


def test_pairs_are_drawn_once_and_the_labelled_ones_are_a_random_part_of_all(tmp_path: Path) -> None:
    names = [str(number) for number in range(60)]
    pairs = [Pair(0.5, 0.75, name, item=name) for name in names]
    answers = {
        side: {
            name: row(side, int(name), id=name, prediction="the same" if int(name) % 3 else f"{side} {name}")
            for name in names
        }
        for side in ("champion", "challenger")
    }

    def draw(look: int, most: int) -> Judging | None:
        return draw_pairs(tmp_path / "c1", look, pairs, answers, task="tickets", most=most, raters=1)  # type: ignore[arg-type]

    def judge(drawn: Judging, most: int) -> set[str]:
        review, seen = Review(drawn.folder, repeats=0), set[str]()
        while len(seen) < most and (turn := review.turn("ann")) is not None:
            place = [output.split()[0] for output in turn.outputs].index("challenger")
            assert review.vote("ann", turn.token, place + 1)
            seen.add(turn.outputs[place].split()[1])
        return seen

    first = draw(1, 30)
    assert first is not None
    assert first.shown + len(first.alike) == len(first.drawn) == 30
    half = judge(first, first.shown // 2)
    again = draw(1, 30)  # by a loop that was killed
    assert again is not None
    assert (again.drawn, again.done, again.complete) == (first.drawn, len(half), False)
    labelled = [pair for pair in again.label(pairs) if pair.labelled_gain is not None]
    assert {pair.item for pair in labelled} - again.alike == half
    assert {pair.labelled_gain for pair in labelled if pair.item in half} == {1.0}
    assert {pair.labelled_gain for pair in labelled if pair.item not in half} == {0.0}
    assert len(labelled) == pytest.approx(30 * len(half) / first.shown, abs=1)  # of the same answers as large a share
    judge(again, first.shown)
    second = draw(2, 60)
    assert second is not None
    assert second.drawn[:30] == first.drawn
    assert second.shown == 20 - first.shown  # what has been judged is not shown again
    assert not second.begun
    judge(second, second.shown)
    last = read_judging(tmp_path / "c1", 2)
    assert last is not None
    assert last.complete
    assert sum(pair.labelled_gain == 1 for pair in last.label(pairs)) == 20
    assert sum(pair.labelled_gain == 0 for pair in last.label(pairs)) == 40
    assert draw(3, 60) is None  # nothing is left to say


def test_a_few_labels_in_a_slice_do_not_outvote_the_judge() -> None:
    pairs = [
        Pair(0.0, float(place % 2), str(place), frozenset({"small"} if place < 12 else ()), item=str(place))
        for place in range(80)
    ]
    labelled = [
        Pair(
            each.champion, each.challenger, each.group, each.slices, 1.0 - each.challenger, float(place > 1), each.item
        )
        if place in {0, 1, *range(12, 60)}
        else each
        for place, each in enumerate(pairs)
    ]
    few, none = (decide(each, Policy()).slices["small"] for each in (labelled, pairs))
    assert few == none


def test_labels_of_all_items_count_however_few_these_are() -> None:
    pairs = [Pair(0.0, 0.0, str(place), frozenset(), 0.0, float(place > 0)) for place in range(12)]
    assert decide(pairs, Policy()).verdict == "promote"
    some = [*pairs, *(Pair(0.0, 0.0, f"more {place}") for place in range(20))]
    assert decide(some, Policy()).labels_needed == 8
