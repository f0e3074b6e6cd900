"""The gate looks again where people label more, and items that earlier cycles were decided on weigh less."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from embedders import WordEmbedder
from production import TEAMS, production, ticket

from synth_dspy.domains.documents.proposals import ProposedQuestions, proposed_questions
from synth_dspy.loop.gate import Pair, Policy, decide, freshest
from synth_dspy.loop.labels import is_held_back
from synth_dspy.loop.looks import PAIRS
from synth_dspy.loop.proposing import FILE, propose


def slightly_better(body: dict[str, Any]) -> str:
    """Right about one ticket in four where the prompt shows examples, else always the same."""
    text = json.dumps(body["messages"])
    numbers, teams = re.findall(r"word(\d+)x0", text), re.findall(r"It is about my (\w+)", text)
    return json.dumps({"team": teams[-1] if len(teams) > 1 and int(numbers[-1]) % 4 == 0 else "card"})


def label(path: Path) -> ProposedQuestions:
    """Review all proposed questions: rightly."""
    questions = proposed_questions(path)
    for row in questions:
        number = int(re.findall(r"word(\d+)x0", row["question"])[0])
        questions.edit(row["id"], answer=TEAMS[number % 3])
    questions.save()
    return questions


def test_an_undecided_challenger_is_looked_at_again_when_people_have_labelled_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        task.server.behaviour.respond = slightly_better
        asked = task.ask("v1", count=60)
        cycle = task.loop(patience_h=1.0).turn(by="person:ann")
        assert cycle is not None
        first = cycle.memory
        assert (cycle.state, first["verdict"], first["look"]) == ("compared", "undecided", 1), cycle.transitions[-1]
        assert first["items_wanted"] == 2 * first["pairs"]
        assert f"The next look, of 3, is at {first['items_wanted']} items" in cycle.transitions[-1].reason
        assert task.loop(patience_h=1.0).turn() == cycle  # it waits
        proposed = proposed_questions(task.folder / FILE)
        assert len(proposed) == first["pairs"]
        texts = {each.inputs["text"] for each in asked if is_held_back(each.inputs)}
        assert {row["question"] for row in proposed} <= texts
        label(task.folder / FILE)
        cycle = task.loop(patience_h=1.0).turn()
        assert cycle is not None
        second = cycle.memory
        assert second["look"] == 2
        assert second["items"] == first["items_wanted"]
        assert second["difference"]["n"] == 2 * first["difference"]["n"]
        if cycle.state == "compared":
            assert second["items_wanted"] == 2 * first["items_wanted"]
            cycle = task.loop(patience_h=1e-9).turn()  # nobody labels any more
            assert cycle is not None
            assert "were not labelled" in cycle.transitions[-1].reason
        assert cycle.state in ("closed", "waiting")
        pairs = [json.loads(line) for line in (task.loop().work.cycle_folder(cycle) / PAIRS).open()]
        assert len({pair["item"] for pair in pairs}) == second["items"]

        if cycle.state == "waiting":
            task.loop().cycles.answer(cycle.id, "person:ann", approve=False)
        again = task.loop(patience_h=0.0).turn(by="person:ann")
        assert again is not None
        assert again.memory["uses"] == 1
        assert "1 earlier cycle decided on some of these items" in again.transitions[-2].reason


def test_the_loop_says_how_many_questions_are_proposed_and_what_else_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        task.server.behaviour.respond = slightly_better
        asked = task.ask("v1", count=20)
        held_back = {each.inputs["text"] for each in asked if is_held_back(each.inputs)}
        cycle = task.loop(patience_h=1.0).turn(by="person:ann")
        assert cycle is not None
        missing = cycle.memory["items_wanted"] - cycle.memory["pairs"]
        path, reason = task.folder / FILE, cycle.transitions[-1].reason
        assert f"review the {len(held_back)} proposed ones with " in reason
        assert f"for the other {missing - len(held_back)}, " in reason
        (line,) = re.findall(r"add lines (\{.*\}) to ", reason)
        added = [
            json.dumps(json.loads(line) | {"question": ticket(n)["text"], "answer": ticket(n)["team"]})
            for n in range(700, 700 + missing)
        ]
        path.write_text(path.read_text() + "".join(f"{each}\n" for each in added))
        after = task.loop(patience_h=1.0).turn()
        assert after is not None
        assert after.memory["look"] == 2  # as the message says, these lines are enough
        assert all(row["choices"] == list(TEAMS) for row in proposed_questions(path) if row.get("inputs"))


def pairs(names: Sequence[str]) -> list[Pair]:
    return [Pair(0.0, float(place % 3 > 0), name, item=name) for place, name in enumerate(names)]


def test_the_probability_of_an_error_is_spent_over_the_cycles_that_use_an_item() -> None:
    policy = Policy()
    spent = [1 - policy.level_after(uses) for uses in range(1000)]
    assert policy.looks * spent[0] == pytest.approx(0.05)
    assert policy.looks * sum(spent[1:]) <= 0.05
    assert sorted(spent, reverse=True) == spent
    widths = [decide(pairs([str(n) for n in range(60)]), policy, uses=uses).difference for uses in (0, 1, 5)]
    lows = [each.low for each in widths if each.low is not None]
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 3


def test_used_items_are_left_out_where_the_interval_is_narrower_without_them() -> None:
    fresh, used = [f"new {n}" for n in range(80)], [f"old {n}" for n in range(20)]
    every, uses = pairs([*fresh, *used]), dict.fromkeys(used, 4)
    chosen, most = freshest(every, uses, Policy())
    assert ({pair.item for pair in chosen}, most) == (set(fresh), 0)
    chosen, most = freshest(every, dict.fromkeys(fresh, 4) | dict.fromkeys(used, 4), Policy())
    assert (len(chosen), most) == (100, 4)
    chosen, most = freshest(pairs([*used, *fresh[:2]]), uses, Policy())
    assert (len(chosen), most) == (22, 4)
    assert freshest([], uses, Policy()) == ([], 0)


def test_questions_like_those_that_moved_are_proposed_once_and_none_that_is_learned_from(tmp_path: Path) -> None:
    with production(tmp_path) as task:
        known, new = task.ask("v1", count=30), task.ask("v1", count=30, inputs={"text": "?"})
        task.registry.store.delete("replaced", "person:ann", request=new[0].id)
        cars = [f"Where is the engine of car {n}?" for n in range(60)]
        for text in cars:
            task.ask("v1", count=1, inputs={"text": text}, passages=(f"About {text}",))
        rated = next(each for each in known if is_held_back(each.inputs))
        task.rate([rated], "thumb", True)
        path = task.folder / FILE
        embed = WordEmbedder().embed
        likes = {"like": ["Where is the engine of my car?"], "embed": lambda: embed}
        added = propose(task.registry.store, path, "v1", ["text"], most=10, **likes)  # type: ignore[arg-type]
        assert added == 10
        questions = proposed_questions(path)
        assert all(row["question"] in cars and is_held_back({"text": row["question"]}) for row in questions)
        assert all(row["passage"] == f"About {row['question']}" for row in questions)
        every = propose(task.registry.store, path, "v1", ["text"], most=1_000)
        again = proposed_questions(path)
        assert len(again) == 10 + every == len({row["question"] for row in again})
        assert rated.inputs["text"] not in {row["question"] for row in again}
        assert propose(task.registry.store, path, "v1", ["text"]) == 0


def test_one_wrong_label_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        task.ask("v1", count=60)
        propose(task.registry.store, task.folder / FILE, "v1", ["text"])
        questions = label(task.folder / FILE)
        questions.edit(3, answer="nobody")
        questions.save()
        cycle = task.loop(promote="auto").turn(by="person:ann")
        assert cycle is not None
        assert cycle.memory["labelled"] == len(questions) - 1
        assert cycle.memory["labels_not_used"].startswith(f"1 of {len(questions)}; the first: labelled.jsonl, line 1")
        assert ticket(900)["text"].startswith("word900x0")
