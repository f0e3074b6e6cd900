"""From people's feedback to training lines, and the grader that rates what nobody rated."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import scripted_lm

from synth_dspy.core.executor import Executor
from synth_dspy.core.io.jsonl import FILLED, one_of
from synth_dspy.loop.feedback import current_grader, feedback_rows, learned_deleted
from synth_dspy.loop.grader import AnswerRater, fit_grader, grade_unrated
from synth_dspy.loop.records import Feedback, Reading, Request
from synth_dspy.loop.registry import Registry, learned_from
from synth_dspy.loop.rewriting import Rewriter
from synth_dspy.loop.store import Store, now
from synth_dspy.training.feedback import read_feedback
from tests.loop.test_registry import finished_run

LEASE = ("The lease ends on 31 March 2027.", "The rent is 2,000 euros a month.")


class People:
    """A store in which requests are answered and answers rated, in short."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "production.sqlite", "contract_qa")
        self.count = 0

    def ask(self, question: str, answer: str, version: str = "v1", **more: Any) -> str:
        self.count += 1
        fields: dict[str, Any] = {"passages": LEASE, "abstained": False} | more
        self.store.add(
            Request(
                f"r{self.count}", now(), version, "champion", {"question": question}, answer,
                prompt_tokens=1, completion_tokens=1, latency_s=0.1, **fields,
            )
        )  # fmt: skip
        return f"r{self.count}"

    def say(self, request: str, kind: Any, value: Any, rater: str | None = None, **more: Any) -> str:
        self.count += 1
        self.store.add(Feedback(f"f{self.count}", now(), request, kind, value, rater=rater, **more))
        return f"f{self.count}"

    def lines(self, **more: Any) -> tuple[set[tuple[str, ...]], dict[str, int]]:
        made = feedback_rows(self.store, **more)
        return {
            ("prefer", line["chosen"], line["rejected"])
            if "chosen" in line
            else ("good" if line["good"] else "bad", line["answer"])
            for line in made.lines
        }, dict(made.dropped)


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path)


def test_a_correction_is_chosen_over_the_answer_and_is_itself_good(people: People, tmp_path: Path) -> None:
    record = people.say(people.ask("When does it end?", "Never."), "correction", "On 31 March 2027.", "ann")
    lines, dropped = people.lines()
    assert lines == {("prefer", "On 31 March 2027.", "Never."), ("good", "On 31 March 2027."), ("bad", "Never.")}
    assert dropped == {}
    made = feedback_rows(people.store)
    made.write(tmp_path / "feedback.jsonl")
    read, left_out = read_feedback(tmp_path / "feedback.jsonl", ["question"])
    assert (len(read), left_out, made.counts) == (3, 0, {"preferences": 1, "good": 1, "bad": 1})
    assert {tuple(line.feedback) for line in read} == {(record,)}
    assert len({line.id for line in read}) == 3


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([("ann", "thumb", True)], "good"),
        ([("ann", "score", 4)], "good"),
        ([("ann", "score", 2)], "bad"),
        ([("ann", "score", 3)], None),
        ([("ann", "thumb", False), ("ann", "thumb", True)], "good"),  # she changed her mind
        ([("ann", "thumb", True), ("bob", "thumb", False)], None),
        ([(name, "thumb", name != "dan") for name in ("ann", "bob", "cy", "dan")], "good"),
        ([(None, "thumb", True), (None, "thumb", False)], None),  # without names, each is another's
    ],
)
def test_what_several_people_think_of_an_answer_is_one_opinion(
    people: People, votes: Sequence[tuple[str | None, str, Any]], label: str | None
) -> None:
    first = people.ask("What is the rent?", "2,000 euros")
    again = people.ask("What is the rent?", " 2,000  euros", version="v2")  # the same answer
    for number, (rater, kind, value) in enumerate(votes):
        people.say((first, again)[number % 2], kind, value, rater)
    lines, dropped = people.lines()
    assert lines == ({(label, "2,000 euros")} if label else set())
    assert sum(dropped.values()) == (0 if label else 1)


def test_two_answers_to_one_prompt_are_a_pair_where_scores_differ_by_two_or_one_is_called_better(
    people: People,
) -> None:
    five, three, two = (people.ask("What is the rent?", text) for text in ("2,000", "about 2,000", "1,000"))
    for request, score in ((five, 5), (three, 3), (two, 2)):
        people.say(request, "score", score)
    lines, _ = people.lines()
    assert {line for line in lines if line[0] == "prefer"} == {
        ("prefer", "2,000", "about 2,000"),
        ("prefer", "2,000", "1,000"),
    }
    people.say(two, "better", three, "ann")
    assert ("prefer", "about 2,000", "1,000") in people.lines()[0]
    people.say(three, "better", two, "bob")
    lines, dropped = people.lines()
    assert ("prefer", "about 2,000", "1,000") not in lines
    assert dropped["people disagree"] == 2
    people.say(two, "better", people.ask("Another question?", "yes"), "ann")
    assert people.lines()[1]["compares with a deleted request, or one of another prompt"] == 1


def test_corrections_that_others_contradict_are_left_out(people: People) -> None:
    request = people.ask("What is the rent?", "2,000 euros")
    people.say(request, "correction", "3,000 euros", "ann")
    people.say(request, "thumb", True, "bob")
    lines, dropped = people.lines()
    assert lines == set()
    assert dropped == {"corrects an answer that others call right": 1, "people disagree": 1}
    other = people.ask("When does it end?", "Never.")
    for rater, text in (("ann", "31 March 2027"), ("bob", "31 March 2027"), ("cy", "soon")):
        people.say(other, "correction", text, rater)
    lines, dropped = people.lines()
    assert ("prefer", "31 March 2027", "Never.") in lines
    assert dropped["another correction was given more often or later"] == 1
    people.say(people.ask("When does it end?", "31 March 2027"), "thumb", False, "dan")
    assert people.lines()[1]["contradicts other feedback"] == 2


def test_lines_that_the_task_does_not_take_are_left_out_and_counted(people: People) -> None:
    people.say(people.ask("What is the rent?", "2,000 euros"), "thumb", True)
    people.say(people.ask("fails", "", error="out of memory"), "thumb", False)
    lines, dropped = people.lines(checks={"question": FILLED, "document": one_of({"lease"}, "document")})
    assert lines == set()
    assert dropped == {
        "of a request that was deleted, failed or had no answer": 1,
        "has inputs that the task does not take": 1,
    }


def test_deleted_feedback_leaves_the_next_training_and_what_learned_from_it_is_listed(
    people: People, tmp_path: Path
) -> None:
    registry = Registry(people.store)
    record = people.say(people.ask("What is the rent?", "2,000 euros", person="bob"), "thumb", True, "ann")
    run = finished_run(tmp_path / "run", "rag", "sft")
    made = feedback_rows(people.store)
    (run / "datasets" / "feedback.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made.lines))
    version = registry.register(run, "sft")
    registry.register(finished_run(tmp_path / "other", "rag"), "rag")
    assert learned_from(run) == {record}
    deletion = people.store.delete("asked to", "person:operator", person="ann")
    assert learned_deleted(registry, deletion) == [version]
    assert feedback_rows(people.store).lines == ()


class Longest:
    """Finds the answer with the most characters of the reference right."""

    name, agreement = "longest", {}

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        raise NotImplementedError

    def score_many(self, rows: Sequence[Any]) -> list[float]:
        return [float(row["prediction"] in row["references"]) for row in rows]


def rewriter(text: str, rate: Callable[[str], str] | None = None) -> Rewriter:
    teacher = scripted_lm(lambda prompt: json.dumps({"better_answer": text}))
    rater = None if rate is None else AnswerRater(scripted_lm(rate), Executor(2))
    return Rewriter(teacher, Longest(), rater, Executor(2))  # type: ignore[arg-type]


def prefers(good: str) -> Callable[[str], str]:
    return lambda prompt: json.dumps({"score": 0.9 if good in prompt.split("## answer ##")[-1] else 0.2})


def test_a_comment_becomes_a_rewrite_where_the_judge_finds_it_better(people: People) -> None:
    people.say(people.ask("When does it end?", "In 2027."), "comment", "Which day?")
    better = "On 31 March 2027."
    assert people.lines()[1] == {"a comment, and no teacher to rewrite the answer": 1}
    assert people.lines(rewriter=rewriter(better, prefers(better)))[0] == {("prefer", better, "In 2027.")}
    (line,) = feedback_rows(people.store, rewriter=rewriter(better, prefers(better))).lines
    assert line["source"] == "ai"
    for text, rate, why in (
        (better, prefers("In 2027."), "the judge does not find it better"),
        ("On 30 June 2027.", prefers("June"), "it has a figure that no passage has"),
        ("in 2027.", prefers("2027"), "it is the same"),
        (better, None, "there is neither a good answer nor a judge model to compare with"),
    ):
        lines, dropped = people.lines(rewriter=rewriter(text, rate))
        assert lines == set()
        assert dropped == {f"a comment whose rewrite was not used: {why}": 1}


def test_a_rewrite_is_compared_with_people_s_good_answer_where_there_is_one(people: People) -> None:
    better = "On 31 March 2027."
    people.say(people.ask("When does it end?", "In 2027."), "comment", "Which day?")
    people.say(people.ask("When does it end?", better), "thumb", True)
    people.say(people.ask("When does it end?", "Always."), "comment", "Nonsense.")
    people.say(people.ask("What is the rent?", "2,000"), "comment", "Thanks")
    people.say("r7", "thumb", True)
    lines, _ = people.lines(rewriter=rewriter(better))
    assert {line[1:] for line in lines if line[0] == "prefer"} == {(better, "In 2027."), (better, "Always.")}


def rated_traffic(people: People, n: int, seed: int, *, grounded: bool = True) -> None:
    """Answers of which the good ones are what a passage says; otherwise people rate at random."""
    draws = random.Random(seed)
    for number in range(n):
        right = draws.random() < 0.5
        words = [f"{draws.choice('bcdfg')}{draws.choice('aeiou')}{number}x{i}" for i in range(8)]
        passage, answer = " ".join(words), " ".join(words[:4] if right else ["nothing", "of", "this", "kind"])
        request = people.ask(f"What about {number}?", answer, passages=(passage,))
        rating = right if grounded else draws.random() < 0.5
        people.say(request, "thumb", rating != (draws.random() < 0.1), f"rater {draws.randrange(3)}")


def test_a_grader_that_agrees_with_people_rates_the_rest_and_says_how_far_it_agrees(people: People) -> None:
    rated_traffic(people, 80, 0)
    text = "zufo1x1 zufo1x2 zufo1x3 zufo1x4"
    unrated = [people.ask(f"What of {n}?", text, passages=(f"{text} and more",)) for n in range(5)]
    grader = fit_grader(people.store)
    assert grader.agreement is not None
    assert grader.agreement.n == 80
    assert 0.5 < grader.agreement.kappa < 0.95  # a tenth of the ratings are mistakes
    (reading,) = people.store.read(Reading, signal="grader")
    assert not reading.alarm
    assert "AI feedback is used" in reading.evidence["sentence"]
    assert current_grader(people.store) == grader.name
    given = grade_unrated(people.store, grader)
    assert {record.request for record in given} == set(unrated)
    assert {(record.source, record.rater) for record in given} == {("ai", grader.name)}
    assert grade_unrated(people.store, grader) == []
    ai = [line for line in feedback_rows(people.store).lines if line["source"] == "ai"]
    assert {line["answer"] for line in ai if line["good"]} == {text}
    people.say(unrated[0], "thumb", False)  # a person's word goes before the grader's
    lines = [line for line in feedback_rows(people.store).lines if line["question"] == "What of 0?"]
    assert [(line["good"], line["source"]) for line in lines] == [(False, "person")]


def test_a_grader_is_not_used_where_it_does_not_agree_or_nobody_can_tell(tmp_path: Path) -> None:
    few = People(tmp_path / "few")
    rated_traffic(few, 20, 0)
    grader = fit_grader(few.store)
    assert "40 are needed, 10 of each" in grader.sentence
    assert grade_unrated(few.store, grader) == []
    used = 0
    for seed in range(20):
        noise = People(tmp_path / str(seed))
        rated_traffic(noise, 40, seed, grounded=False)
        used += not fit_grader(noise.store).why_unused
    assert used <= 1


def test_what_an_unused_grader_rated_is_not_learned(people: People) -> None:
    rated_traffic(people, 60, 1)
    people.ask("What of it?", "zufo1", passages=("zufo1",))
    assert grade_unrated(people.store, fit_grader(people.store))
    people.store.add(Reading("grader", now(), 0.0, 0.4, True, {"grader": "other"}))
    assert feedback_rows(people.store).dropped["graded by a grader that is not used"] == 1


def test_a_judge_model_s_score_is_one_of_the_grader_s_features(people: People) -> None:
    for n in range(60):
        request = people.ask(f"Question {n}?", "yes" if n % 2 else "no", passages=())
        people.say(request, "thumb", n % 3 != 0)

    def score(prompt: str) -> str:
        return json.dumps({"score": float(int(prompt.split("Question ")[1].split("?")[0]) % 3 != 0)})

    rater = AnswerRater(scripted_lm(score), Executor(4))
    assert fit_grader(people.store).why_unused
    grader = fit_grader(people.store, rater=rater)
    assert grader.agreement is not None
    assert grader.agreement.kappa > 0.9
