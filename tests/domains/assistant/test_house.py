"""What prompts say of a house is the house's own: a whole run of a hotel's assistant, and the words of the sample's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Behaviour, Server, serving

from programs.scoped_assistant import scoped_assistant
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run
from synth_dspy.domains.assistant import House, judge, metrics
from synth_dspy.domains.assistant.chain import BORDERLINE, IN, OUT, ChainQuestions
from synth_dspy.domains.assistant.small_teacher import SeededQuestions
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.defaults import complete
from synth_dspy.pipeline.experiment import Experiment

HOTEL = Path(__file__).parent / "hotel"
BANK = re.compile(
    r"\b(?:northmoor|bank\w*|accounts?|cards?|loans?|mortgages?|transfers?|balances?|payments?|"
    r"overdrafts?|statements?|iban|pins?|invest\w*|tax\w*|law|savings?|interest|contracts?)\b",
    re.I,
)
REPLIES: dict[str, Any] = {
    "analysis": "Guests write in haste.",
    "subtopics": ["earlier than planned", "with small children"],
    "questions": ["How early may we come with our children?", "May we come before noon, please?"],
    "reason": "It is about the stay.",
    "in_scope": True,
    "answer": "Ask at the front desk and we promise it.",
    "violations": [{"rule": "no-promises", "why": "promises"}],
    "revised": "Ask at the front desk.",
    "broken": False,
}
"""What a scripted model replies, by the name of an output field."""


def respond(body: Mapping[str, Any]) -> str:
    """JSON where a prompt names its output fields, one more question where it does not."""
    text = "\n".join(str(message["content"]) for message in body["messages"])
    fields = text.partition("Your output fields are:")[2].partition("All interactions")[0]
    names = [name for name in re.findall(r"`(\w+)`", fields) if name in REPLIES]
    return json.dumps({name: REPLIES[name] for name in names}) if names else "How do I get another pillow, please?"


class Agrees:
    """A reference judge without weights."""

    name = "agrees"
    agreement: Mapping[str, Any] = {}

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [1.0 for _ in rows]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    for module in (judge, metrics):
        monkeypatch.setattr(module, "ReferenceJudge", lambda embedder: Agrees())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)  # of the process: other tests would see it
    with serving(Behaviour(respond=respond)) as server:
        yield server


def prompts_of_run(house: Path, folder: Path, server: Server, teacher: str) -> list[str]:
    """Everything that a run asks of its models."""
    models = {"student": "openai/mock", "judge": "openai/judge", "teacher": teacher, "api_base": server.url}
    sizes = {
        "synthesis": {"candidates": 16},
        "evaluation": {"held_out": 8, "validation": 8},
        "retention": {"prompts": 0},
    }
    config = CompileConfig.model_validate({"models": models, "concurrency": 2, **sizes})
    with Ledger(folder / "ledger.sqlite") as ledger:
        task = complete(scoped_assistant(house=house))
        results, _ = Experiment(folder, task, config, Run("hotel", folder), ledger, Bars(), "compile").compile()
    assert [arm["failed"] for arm in results["arms"]] == [None, None]
    assert results["synthesis"]["failures"] == {}
    return [json.dumps(request["messages"]) for request in server.requests]


@pytest.mark.parametrize("teacher", ["openai/mock", "openai/large"], ids=["small", "capable"])
def test_no_prompt_of_a_hotel_s_run_has_a_word_of_banks(tmp_path: Path, server: Server, teacher: str) -> None:
    prompts = prompts_of_run(HOTEL, tmp_path, server, teacher)
    assert len(prompts) > 60
    steps = ["the chat of a hotel", "Answer the customer, or decline", "You answer guests of the hotel Seagull"]
    steps += ["Say whether the assistant's answer breaks the rule"]
    if teacher == "openai/large":
        steps += [
            "Say what customers want to know",
            "the hotel's assistant should answer",
            "Flights; Illness; Homework",
        ]
        steps += [
            "Decide by the rules",
            "Answer the customer from what the house says",
            "Check the answer against each",
        ]
        steps += ["Write the answer again"]
    missing = [step for step in steps if not any(step in prompt for prompt in prompts)]
    assert missing == ["Answer the customer, or decline"], (
        "every step is asked; the house's words replace the program's"
    )
    bank_words = {match for prompt in prompts for match in BANK.findall(prompt)}
    assert bank_words == set()


def test_the_sample_s_prompts_are_what_they_were(workspace: Path) -> None:
    """They are keys of ledgers: other words would ask every teacher again."""
    bank = House(workspace / "data" / "bank")
    assert SeededQuestions(bank).write.signature.instructions == (
        "Write a message that a customer types into the chat of a bank."
    )
    chain = ChainQuestions(bank)
    assert chain.write.signature.instructions == (
        "Write what customers type into the chat of a bank: short, varied in wording, length and mood, each by "
        "somebody\nelse, none like the examples."
    )
    assert chain.wanted(IN) == "questions about the subtopic that the bank's assistant should answer"
    assert chain.wanted(OUT) == "questions about the subtopic, which the bank's assistant must decline"
    assert chain.wanted(BORDERLINE) == (
        "questions that sound like the topic, but ask for something the assistant must decline: advice on investments, "
        "tax or law, other banks, other people's details, or things outside banking"
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", 'does not say what the house is: write it with its article, such as what = "a bank"'),
        ('what = "Seagull"', "says that the house is 'Seagull': write it with its article"),
        ("what = 3", "says that the house is 3: write it with its article"),
        ('what = "an inn"\nborderline = ""', "lacks 'borderline'"),
    ],
)
def test_a_house_that_does_not_say_what_it_is_starts_no_run(tmp_path: Path, line: str, sentence: str) -> None:
    mine = shutil.copytree(HOTEL, tmp_path / "mine")
    text = (mine / "house.toml").read_text(encoding="utf-8")
    (mine / "house.toml").write_text(text.replace('what = "a hotel"', line), encoding="utf-8")
    with pytest.raises(SetupError, match=re.escape(sentence)):
        House(mine).check()


def test_what_sounds_in_scope_is_the_house_s_or_what_is_out_of_scope() -> None:
    hotel = House(HOTEL)
    assert (hotel.what, hotel.noun) == ("a hotel", "hotel")
    assert hotel.borderline == "Flights; Illness; Homework; Politics"
