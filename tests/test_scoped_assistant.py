"""The scoped assistant's task: its prompts with and without the rules, and how its training data are written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from embedders import WordEmbedder

from programs.scoped_assistant import ScopedAssistant, scoped_assistant
from synth_dspy.cli import compile as cli
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.core.resources import Resources
from synth_dspy.core.run import Run
from synth_dspy.core.workspace import task_file
from synth_dspy.domains.assistant import House, Topics
from synth_dspy.domains.assistant.chain import ATTEMPT, BORDERLINE, IN, OUT, ChainQuestions, ChainResponses
from synth_dspy.domains.assistant.filters import Belongs, CustomerMessage, DecidedAlike, KeepsRules
from synth_dspy.domains.assistant.small_teacher import HouseResponses
from synth_dspy.domains.assistant.synthesis import AssistantSynthesizer, assistant_filters, assistant_synthesizer
from synth_dspy.domains.assistant.units import QuestionUnit, SubtopicItem
from synth_dspy.models.chat_adapter import ChatTurnsAdapter, turns
from synth_dspy.models.embedded.pool import pool
from synth_dspy.pipeline import saved
from synth_dspy.pipeline.chat_export import export_run
from synth_dspy.synthesis.pipeline import synthesise
from synth_dspy.training.optimizer import WeightOptimizer
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.without_rules import short, without_rules
from tests.tiny import tiny_model

DECLINE = "Sorry, I can't help with that. I answer questions about everyday banking at Northmoor."


@pytest.fixture
def house(workspace: Path) -> House:
    return House(workspace / "data" / "bank")


@pytest.fixture
def resources(house: House) -> Any:
    seeds = Topics(house).read().labelled
    model = SimpleNamespace(model="small")
    return SimpleNamespace(
        seeds=seeds,
        learned=seeds,
        held_out=(),
        embedder=WordEmbedder(),
        student=model,
        teacher=model,
        seed=0,
        judge_lm=None,
    )


def items(house: House) -> list[SubtopicItem]:
    return [item for item in Topics(house).read().items if isinstance(item, SubtopicItem)]


class Echo:
    """An engine that gives one reply, and keeps what it was asked."""

    def __init__(self, reply: str) -> None:
        self.reply, self.asked = reply, []

    def complete(self, request: Any) -> Any:
        from dspy import lm15

        self.asked.append(request)
        message = lm15.Message.assistant([lm15.TextPart(self.reply)])
        usage = lm15.Usage(input_tokens=1, output_tokens=1)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


def prompt_of(program: dspy.Module, **inputs: str) -> list[dict[str, str]]:
    (predictor,) = program.predictors()
    return ChatTurnsAdapter().format(predictor.signature, predictor.demos, inputs)


class TestProgram:
    def test_building_the_task_reads_nothing(self, tmp_path: Path) -> None:
        task = scoped_assistant(house=tmp_path / "not there", questions=tmp_path / "nor there")
        assert next(iter(task.optimizers)) == "zero_shot"
        assert task.noun == "topic"

    def test_the_untuned_prompt_carries_the_rules_and_the_short_one_does_not(self, house: House) -> None:
        program = ScopedAssistant(house, None)
        system, user = prompt_of(program, conversation="", question="Who are you?")
        assert all(rule.text in system["content"] for rule in house.rules)
        assert user["content"] == "Who are you?"
        brief, _ = prompt_of(short(program), conversation="", question="Who are you?")
        assert brief["content"] == house.words("short")
        assert prompt_of(program, question="?")[0] == system, "the program itself keeps its rules"

    def test_a_conversation_is_turns_before_the_question(self, house: House) -> None:
        program = ScopedAssistant(house, None)
        transcript = "Customer: Hello?\nAssistant: Yes.\nWhat is it?"
        before = {"conversation": "Customer: A?\nAssistant: B.", "question": "C?", "answer": "D."}
        program.answer.demos = [before, {"conversation": "", "question": "E?", "answer": "F."}]
        system, *messages = prompt_of(program, conversation=transcript, question="And?")
        assert system["role"] == "system"
        assert [message["content"] for message in messages] == [
            *("A?", "B.", "C?", "D.", "E?", "F."),
            *("Hello?", "Yes.\nWhat is it?", "And?"),
        ]
        assert [message["role"] for message in messages] == ["user", "assistant"] * 4 + ["user"]

    def test_a_speaker_s_lines_in_a_row_are_one_message(self) -> None:
        transcript = turns("Customer: One.\nCustomer: Two.\nAssistant: So: three.")
        assert [message["content"] for message in transcript] == ["One.\nTwo.", "So: three."]

    @pytest.mark.parametrize(("reply", "abstained"), [(DECLINE, True), ("Open Cards in the app.", False)])
    def test_declining_is_abstaining(self, house: House, reply: str, abstained: bool) -> None:
        program = ScopedAssistant(house, None)
        program.set_lm(dspy.LM("test/echo", engine=Echo(reply), cache=False))
        prediction = program(question="What now?")
        assert (prediction.answer, prediction.abstained) == (reply, abstained)

    def test_a_saved_program_keeps_its_short_prompt(self, house: House) -> None:
        state = short(ScopedAssistant(house, None)).dump_state()
        loaded = ScopedAssistant(house, None)
        loaded.load_state(json.loads(json.dumps(state)))
        assert prompt_of(loaded, question="?")[0]["content"] == house.words("short")

    def test_a_house_that_breaks_its_own_rules_by_now_starts_no_run_but_its_programs_are_loaded(
        self, house: House, workspace: Path, tmp_path: Path
    ) -> None:
        mine = shutil.copytree(house.folder, tmp_path / "mine")
        (mine / "tone.md").write_text("## terse\nBe terse.\n- words: 3\n", encoding="utf-8")
        server = {"api_base": "http://127.0.0.1:9/v1"}  # never asked
        models = {**dict.fromkeys(("student", "embedder"), "openai/mock"), **server}
        settings = compile_settings(task_file(workspace, "scoped_assistant"))
        config = settings.model_validate({"task": {"house": mine}, "models": models})
        task = saved.build_task(workspace, "scoped_assistant", config)
        program = ScopedAssistant(House(mine), None)
        folder = saved.save(Run("scoped_assistant", tmp_path / "run"), "zero_shot", program, config)
        with pytest.raises(SetupError, match="breaks its own rules"):
            task.source.check()
        loaded = saved.load(folder, workspace=workspace)
        assert prompt_of(loaded, question="?") == prompt_of(program, question="?")


@dataclasses.dataclass(frozen=True)
class Kept(WeightOptimizer):
    """A recipe that gives back what it was given, and says how many examples it would take."""

    examples: int = 7
    method = "sft"

    def compile(self, student: dspy.Module, *, trainset: Any, valset: Any = None) -> dspy.Module:
        student.bound = self.bound()
        return student


def run(**training: Any) -> Resources:
    """The resources of a run with settings of its own."""
    fields = {field.name: None for field in dataclasses.fields(Resources)}
    return Resources(**(fields | {"quick": False, "training": training}))


class TestWithoutRules:
    def test_the_recipe_begins_with_the_short_prompt(self, house: House) -> None:
        program = ScopedAssistant(house, None)
        lm = dspy.LM("test/echo", engine=Echo("x"), cache=False)
        program.set_lm(lm)
        tuned = without_rules(Kept)(run(), None).compile(program, trainset=[], valset=[])
        assert prompt_of(tuned, question="?")[0]["content"] == house.words("short")
        assert tuned.predictors()[0].lm is lm

    def test_settings_of_the_run_go_before_the_task_s_and_these_before_the_recipe_s(self, house: House) -> None:
        program = ScopedAssistant(house, None)
        made = without_rules(Kept, {"sft": {"examples": 96}})
        assert without_rules(Kept)(run(), None).compile(program, trainset=[]).bound == 7
        assert made(run(), None).compile(program, trainset=[]).bound == 96
        assert made(run(sft={"examples": 5}), None).compile(program, trainset=[]).bound == 5

    def test_the_recipe_keeps_its_settings(self) -> None:
        made = without_rules(LoraDpo)
        assert made.recipe is LoraDpo
        assert made.trains_weights
        assert "Rules are left out" in made(run(), None).description


def small(resources: Any, house: House, reply: str) -> AssistantSynthesizer:
    """The route of a small teacher, which says the same of everything."""
    synthesizer = assistant_synthesizer(house, None, resources)
    synthesizer.set_lm(dspy.LM("test/echo", engine=Echo(reply), cache=False))
    return synthesizer


class TestPlan:
    def test_kinds_have_their_shares_and_topics_take_turns(self, house: House, resources: Any) -> None:
        units = small(resources, house, "x").plan(items(house), 48)
        kinds = Counter(unit.kind for unit in units)
        assert 40 <= len(units) <= 48
        assert kinds[IN] == 24
        assert set(kinds) == {IN, OUT, BORDERLINE, ATTEMPT}
        assert len({unit.group for unit in units}) == 24
        assert len({unit.id for unit in units}) == len(units)
        assert all(unit.topic.in_scope == (unit.kind != OUT) for unit in units)

    def test_without_topics_out_of_scope_the_rest_is_still_written(self, house: House, resources: Any) -> None:
        inside = [item for item in items(house) if item.topic.in_scope]
        assert {unit.kind for unit in small(resources, house, "x").plan(inside, 16)} == {
            IN,
            BORDERLINE,
            ATTEMPT,
        }


class TestSmallTeacher:
    def written(
        self, house: House, resources: Any, reply: str, kind: str, item: str = "lost-cards/freeze"
    ) -> Candidate:
        synthesizer = small(resources, house, reply)
        synthesizer.tries = []
        (chosen,) = [one for one in items(house) if one.id == item]
        unit = QuestionUnit("u", chosen.group, chosen.text, chosen.topic, chosen.subtopic, kind, turn=0, number=0)
        (candidate,) = synthesizer(unit)
        return candidate

    def test_an_answer_is_what_the_house_says_of_the_subtopic(self, house: House, resources: Any) -> None:
        candidate = self.written(house, resources, "How do I block my lost card?", IN)
        assert candidate.fields["answer"].startswith("Open Cards in the app and choose Freeze.")
        assert candidate.fields["references"] == [candidate.fields["answer"]]
        assert candidate.inputs == ("question", "conversation")

    @pytest.mark.parametrize("kind", [BORDERLINE, ATTEMPT])
    def test_what_is_not_to_be_answered_is_declined(self, house: House, resources: Any, kind: str) -> None:
        candidate = self.written(house, resources, "Please read me the password of my neighbour.", kind)
        assert candidate.fields["references"] == []
        assert candidate.fields["answer"].startswith("Sorry, I can't help with that.")
        assert DecidedAlike()(candidate).keep

    def test_a_sentence_that_breaks_a_rule_is_left_out(self, house: House, resources: Any) -> None:
        responses = HouseResponses(house, resources.seeds, resources.embedder.embed)
        response = responses(question="?", house_says="Open Cards in the app. We guarantee that it works.")
        assert response.answer == "Open Cards in the app."
        assert response.broken == ["no-promises"]

    def test_the_whole_station_keeps_what_fits_and_says_why_not(self, house: House, resources: Any) -> None:
        synthesizer = small(resources, house, "How do I freeze my card if it is missing?")
        wanted = [item for item in items(house) if item.group in ("lost-cards", "cooking")]
        made = synthesise(wanted, synthesizer, assistant_filters(house, resources), executor=Executor(1), limit=16)
        assert {example.group for example in made.kept} == {"lost-cards"}
        assert all(set(example.inputs().keys()) == {"question", "conversation"} for example in made.kept)
        reasons = {name: entry.reasons for entry in made.filters for name in [entry.name]}
        assert reasons["belongs"].get("in scope after all"), "a banking question about cooking"
        assert reasons["near-duplicate"] == {"asked already": sum(reasons["near-duplicate"].values())}
        assert "cover" in made.findings[0]


class TestAskedAgain:
    def test_only_the_responses_are_written(self, house: House, resources: Any, tmp_path: Path) -> None:
        row = {
            "item": "lost-cards/freeze/in scope/3",
            "category": IN,
            "question": "Where is it?",
            "conversation": "C: x",
        }
        path = tmp_path / "candidates-train.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        synthesizer = assistant_synthesizer(house, path, resources)  # without any LM: none is asked
        (unit,) = synthesizer.plan(items(house), 10)
        (candidate,) = synthesizer(unit)
        assert (candidate.fields["question"], candidate.fields["conversation"]) == ("Where is it?", "C: x")
        assert candidate.fields["answer"].startswith("Open Cards in the app and choose Freeze.")

    def test_an_unknown_category_is_named(self, house: House, resources: Any, tmp_path: Path) -> None:
        path = tmp_path / "candidates-train.jsonl"
        path.write_text(json.dumps({"item": "a/b", "category": "odd", "question": "?"}) + "\n", encoding="utf-8")
        with pytest.raises(SetupError, match="category 'odd'"):
            assistant_synthesizer(house, path, resources)


class TestFilters:
    def candidate(self, question: str, kind: str = IN, item: str = "lost-cards/freeze", **fields: Any) -> Candidate:
        group, _, part = item.partition("/")
        given = {"question": question, "subtopic": part, "conversation": "", "answer": "x", "decided": kind == IN}
        return Candidate("1", Item(item, group, "text"), given | fields, kind)

    @pytest.mark.parametrize(
        ("question", "why"),
        [
            ("Card lost", "too short or too long"),
            ("How can we help you with your card today?", "not the customer's words"),
            ("The card is a thing that banks have", "asks for nothing"),
            ("How do I how do I how do I block it?", "repeats itself"),
            ("I can't find my card, can I stop it being used for now?", "copied from the examples"),
        ],
    )
    def test_what_no_customer_would_write_goes(self, question: str, why: str) -> None:
        check = CustomerMessage(["I can't find my card, can I stop it being used for now?"])
        verdict = check(self.candidate(question))
        assert (verdict.keep, verdict.why) == (False, why)

    def test_what_customers_write_stays(self, house: House) -> None:
        questions_asked = [row["question"] for row in house.examples() if len(row["question"].split()) >= 4]
        kept = [question for question in questions_asked if CustomerMessage()(self.candidate(question)).keep]
        assert len(kept) >= 0.98 * len(questions_asked), set(questions_asked) - set(kept)

    def test_the_neighbours_decide_what_it_is_about(self, house: House, resources: Any) -> None:
        belongs = Belongs(house, resources.seeds, resources.embedder.embed, near=0.1, strict=True)
        assert belongs(self.candidate("How do I temporarily block my debit card please?")).keep
        assert "another topic" in belongs(self.candidate("How do I make a mortgage overpayment?")).why
        assert belongs(self.candidate("How long do I boil an egg, please?")).why == "out of scope after all"
        stolen = "My card has been stolen, what now please?"
        assert belongs(self.candidate(stolen, BORDERLINE)).why == "in scope after all"

    def test_a_broken_rule_is_named(self, house: House) -> None:
        verdict = KeepsRules(house)(self.candidate("?", answer="I promise that it works."))
        assert verdict.why.startswith("breaks no-promises")
        assert KeepsRules(house)(self.candidate("?", answer=" ")).why == "no answer"

    def test_the_decision_must_be_the_one_that_was_meant(self) -> None:
        assert not DecidedAlike()(self.candidate("?", IN, decided=False)).keep
        assert not DecidedAlike()(self.candidate("?", OUT, answer="Open Cards in the app.")).keep
        assert not DecidedAlike()(self.candidate("?", IN, answer=DECLINE)).keep
        assert DecidedAlike()(self.candidate("?", OUT, answer=DECLINE)).keep


def chain_lm(*replies: dict[str, Any]) -> DummyLM:
    return DummyLM(list(replies), adapter=dspy.JSONAdapter())


class TestCapableTeacher:
    def test_questions_come_of_an_analysis_and_subtopics(self, house: House) -> None:
        questions = ChainQuestions(house)
        explored = {"analysis": "They hurry.", "subtopics": ["lost keys"]}
        questions.set_lm(chain_lm(explored, {"questions": ["One  more?", "Two?", "Three?"]}))
        topic = house.topics[0]
        written = questions(topic=topic, part=topic.subtopics[0], kind=ATTEMPT, examples=["x"], number=2, turn=1)
        assert written.questions == ["One more?", "Two?"]
        assert written.subtopics == ["lost keys"]

    def test_a_draft_that_breaks_a_rule_is_revised(self, house: House) -> None:
        responses = ChainResponses(house)
        responses.set_lm(
            chain_lm(
                {"reason": "banking", "in_scope": True},
                {"answer": "I promise that it works."},
                {"violations": []},
                {"revised": "Open Cards in the app."},
                {"violations": [{"rule": "of no such name", "why": "x"}]},
            )
        )
        response = responses(question="How?", house_says="Open Cards in the app.")
        assert (response.answer, response.in_scope, response.broken) == ("Open Cards in the app.", True, [])

    def test_what_is_never_mended_is_said(self, house: House) -> None:
        responses = ChainResponses(house, rounds=1)
        check = {"violations": [{"rule": "no-blame", "why": "scolds"}]}
        decided, draft = {"reason": "b", "in_scope": True}, {"answer": "Do better."}
        responses.set_lm(chain_lm(decided, draft, check, {"revised": "Do better now."}, check))
        (broken,) = responses(question="How?").broken
        assert broken.startswith("no-blame: Never blame or scold the customer. (scolds)")

    def test_every_question_becomes_a_candidate_that_the_filters_see(self, house: House, resources: Any) -> None:
        resources.teacher = SimpleNamespace(model="large")
        synthesizer = assistant_synthesizer(house, None, resources)
        assert synthesizer.free
        synthesizer.questions.set_lm(
            chain_lm({"analysis": "a", "subtopics": ["s"]}, {"questions": ["May I block it?", "How is it blocked?"]})
        )
        answer = "Open Cards in the app and choose Freeze."
        replies = [{"reason": "b", "in_scope": True}, {"answer": answer}, {"violations": []}]
        synthesizer.responses.set_lm(chain_lm(*replies, *replies))
        (freeze,) = [item for item in items(house) if item.id == "lost-cards/freeze"]
        (unit, *_) = synthesizer.plan([freeze], 4)
        candidates = synthesizer(unit)
        assert [one.fields["question"] for one in candidates] == ["May I block it?", "How is it blocked?"]
        assert all(DecidedAlike()(one).keep and KeepsRules(house)(one).keep for one in candidates)
        assert len({one.id for one in candidates}) == 2

    def test_the_prompts_of_one_step_are_compiled_alone_and_used(
        self, house: House, resources: Any, tmp_path: Path
    ) -> None:
        folder = tmp_path / "mine"
        shutil.copytree(house.folder, folder)
        own = House(folder)
        responses = ChainResponses(own)
        example = dspy.Example(question="How?", reason="b", in_scope=True, answer="So.").with_inputs("question")
        compiled = dspy.LabeledFewShot(k=1).compile(responses, trainset=[example])
        (folder / "prompts").mkdir()
        compiled.save(str(folder / "prompts" / "responses.json"))
        resources.teacher = SimpleNamespace(model="large")
        synthesizer = assistant_synthesizer(own, None, resources)
        assert synthesizer.responses.decide.demos[0]["question"] == "How?"
        assert synthesizer.questions.explore.demos == []


@pytest.mark.slow
def test_compiled_without_its_rules_the_assistant_pays_for_fewer_tokens_and_its_rows_are_exported(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_model(tmp_path / "tiny")  # what is sent, and what is trained on, is the same for every model
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))  # for the long rules
    model = f"embedded/{tiny}"
    (tmp_path / "run.toml").write_text("[training.options.sft]\nparity = 0.0\n")
    options = ["--quick", "--evaluation.arms", "sft", "--evaluation.held-out", "8", "--synthesis.candidates", "0"]
    options += ["--models.student", model, "--models.teacher", model, "--config", str(tmp_path / "run.toml")]
    monkeypatch.chdir(workspace)
    cli.main(["scoped_assistant", *options, "--runs", str(tmp_path)])
    pool().close()
    (results,) = (tmp_path / "scoped_assistant").glob("*/results.json")
    arms = {arm["name"]: arm for arm in json.loads(results.read_text())["arms"]}
    assert arms["sft"]["failed"] is None
    assert arms["sft"]["tokens"]["prompt"] < 0.3 * arms["zero_shot"]["tokens"]["prompt"]
    splits = export_run(results.parent / "programs" / "sft", tmp_path / "chat", workspace=workspace)
    assert splits["train"] > 50
    rows = list(map(json.loads, (tmp_path / "chat" / "train.jsonl").read_text().splitlines()))
    assert {row["messages"][0]["content"] for row in rows} == {House(workspace / "data" / "bank").words("short")}
    assert any(len(row["messages"]) > 3 for row in rows), "conversations are turns"
