"""Function calling: the sample functions and their examples, functions as a source, and the program that calls them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from scripted import ScriptedEngine, scripted_lm, scripted_resources

from programs.function_calling import function_calling
from synth_dspy.core.config import task_settings
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.domains.functions.caller import FunctionCaller
from synth_dspy.domains.functions.conversation import RunningSummary, prune
from synth_dspy.domains.functions.examples import calls_of
from synth_dspy.domains.functions.judge import CallJudge, call_metrics
from synth_dspy.domains.functions.planner import CATEGORIES, parse_mix
from synth_dspy.domains.functions.program import Finder, Workshop, constraint
from synth_dspy.domains.functions.prompts import show_functions, show_request
from synth_dspy.domains.functions.source import Functions
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.arms import check_training
from synth_dspy.training.rows import sft_rows
from synth_dspy.training.traces import collect

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "functions"
SOURCE = Functions(SAMPLE)


@pytest.fixture(scope="module")
def labelled() -> list[dspy.Example]:
    return list(SOURCE.read().labelled)


# -- the sample -------------------------------------------------------------------------------------------------------


class TestSample:
    def test_functions_are_documented(self) -> None:
        knowledge = SOURCE.read()
        assert len(knowledge.items) >= 24
        assert len({item.function.target.rpartition(":")[0] for item in knowledge.items}) == 4
        assert list(knowledge.skipped) == []

    def test_examples_cover_functions_and_categories(self, labelled: list[dspy.Example]) -> None:
        assert len(labelled) >= 120
        called = {name for e in labelled for each in e.expected["calls"] for name in each}
        assert called == set(SOURCE.own())
        assert set(CATEGORIES) == {example.category for example in labelled}
        assert max(Counter(example.question for example in labelled).values()) == 1

    def test_examples_can_be_executed(self, labelled: list[dspy.Example]) -> None:
        workshop = Workshop(SOURCE.own().values(), only_read_only=False)
        for example in labelled:
            calls = calls_of(example.expected["calls"])
            # Changes of the tables are undone between examples.
            if any(not SOURCE.own()[call.name].read_only for call in calls):
                workshop.close()
            for call, outcome in zip(calls, workshop.run(calls), strict=True):
                assert outcome.ok, f"{example.id}: {call} {outcome}"
        workshop.close()

    def test_what_changes_something_is_not_run(self) -> None:
        changing = {name for name, function in SOURCE.own().items() if not function.read_only}
        assert changing == {"add_event", "cancel_event", "place_order", "return_order", "book_hotel"}
        call = calls_of([{"cancel_event": {"event_id": ["E101"]}}])
        assert "not marked read-only" in Workshop(SOURCE.own().values()).run(call)[0].stopped

    def test_references_are_right_through_program_and_judge(self, labelled: list[dspy.Example]) -> None:
        """What is trained on is what the judge accepts, and nothing is asked of a model."""
        for syntax in ("json", "python"):
            source = Functions(SAMPLE, syntax=syntax)  # type: ignore[arg-type]
            lm = scripted_lm(lambda text: pytest.fail("a model was asked"))
            resources = scripted_resources(lm)
            program = FunctionCaller(resources, source)
            program.set_lm(lm)
            examples = list(source.read().labelled)
            traces = collect(program, examples, executor=resources.executor, score=CallJudge(source.own))
            assert [trace.example.id for trace in traces if not trace.reference or trace.reference.score < 1] == []


# -- the source -------------------------------------------------------------------------------------------------------


def module(folder: Path, name: str = "tools.py") -> Path:
    path = folder / name
    path.write_text(
        '''
def area(width: float, height: float) -> float:
    """Give the area of a rectangle.

    Read-only.

    Args:
        width: Its width in metres, from 1 to 20.
        height: Its height in metres, from 1 to 20.

    Returns:
        Square metres.
    """
    return width * height


def paint(square_metres: float, colour) -> float:
    """Tell how many litres of paint are needed.

    Read-only.

    Args:
        square_metres: Square metres to paint.
    """
    return square_metres / 8


def tell(name: str) -> str:
    """Greet somebody.

    Args:
        name: Whom, such as Ada or Grace.
    """
    return f"Hello {name}"
'''
    )
    return path


def example(**fields: Any) -> str:
    row = {
        "id": "1",
        "category": "single",
        "question": "How large is a wall of 3 by 4 metres?",
        "functions": ["area"],
        "expected": [{"area": {"width": [3], "height": [4]}}],
    }
    return json.dumps(row | fields) + "\n"


class TestSource:
    def test_a_module_of_ones_own(self, tmp_path: Path) -> None:
        knowledge = Functions(SAMPLE, functions=module(tmp_path)).read()
        assert [item.id for item in knowledge.items] == ["area", "paint", "tell"]
        assert not knowledge.labelled
        assert knowledge.prompts, "the sample's examples show the teacher how people ask"
        assert {document.id for document in knowledge.documents} == {"area", "paint", "tell"}
        assert len(knowledge.skipped) >= 2
        assert all("tools.py:" in skip.path for skip in knowledge.skipped)
        assert "paint(colour) lacks a type" in [skip.why for skip in knowledge.skipped]

    def test_functions_called_together_are_of_one_group(self, tmp_path: Path) -> None:
        path = tmp_path / "examples.jsonl"
        nested = {"paint": {"square_metres": [{"$call": {"name": "area", "arguments": {"width": 3, "height": 4}}}],
                            "colour": ["red"]}}  # fmt: skip
        path.write_text(example(category="nested", functions=["area", "paint"], expected=[nested]))
        knowledge = Functions(SAMPLE, functions=module(tmp_path), examples=path).read()
        assert {item.id: item.group for item in knowledge.items} == {"area": "area", "paint": "area", "tell": "tell"}
        assert [e.group for e in knowledge.labelled] == ["area"]

    def test_calls_of_the_turns_before_count(self, tmp_path: Path) -> None:
        path = tmp_path / "examples.jsonl"
        before = [{"role": "user", "content": "Greet Ada."},
                  {"role": "assistant", "calls": [{"name": "tell", "arguments": {"name": "Ada"}}]}]  # fmt: skip
        talk = example(id="2", functions=["paint"], expected=[], conversation=before, question="Thanks!")
        path.write_text(example(conversation=before) + talk)
        knowledge = Functions(SAMPLE, functions=module(tmp_path), examples=path).read()
        assert {item.group for item in knowledge.items} == {"area"}
        path.write_text(example(conversation=[{"role": "assistant", "calls": [{"arguments": {}}]}]))
        with pytest.raises(SetupError, match="'conversation'"):
            Functions(SAMPLE, functions=module(tmp_path), examples=path).read()

    def test_splits_keep_what_is_called_together_together(self, labelled: list[dspy.Example]) -> None:
        splits = datasets.split(SOURCE.read(), 0)
        own = {name: {item.id for item in split.items} for name, split in splits.items()}
        for name, split in splits.items():
            for e in split.labelled:
                assert {n for each in e.expected["calls"] for n in each} <= own[name]
        assert min(len(split.labelled) for split in splits.values()) >= 20

    def test_limit(self) -> None:
        knowledge = SOURCE.read(limit=4)
        groups = {item.group for item in knowledge.items}
        assert len(groups) == 4
        assert {e.group for e in knowledge.labelled} <= groups

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"functions": ["volume"]}, "volume is not among the functions"),
            ({"expected": [{"area": {"width": [3]}}]}, "missing argument height"),
            ({"expected": [{"area": {"width": ["three"], "height": [4]}}]}, "does not fit"),
            ({"expected": [{"area": 3}]}, "accepted values"),
            ({"functions": []}, "'functions' is empty"),
            ({"question": ""}, "'question'"),
        ],
    )
    def test_examples_that_do_not_fit(self, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
        path = tmp_path / "examples.jsonl"
        path.write_text(example(**fields))
        with pytest.raises(SetupError, match=message):
            Functions(SAMPLE, functions=module(tmp_path), examples=path).read()

    def test_settings_that_do_not_go_together(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match=r"not both"):
            Functions(SAMPLE, functions=module(tmp_path), bfcl=tmp_path).read()
        with pytest.raises(SetupError, match=r"add --task\.functions"):
            Functions(SAMPLE, examples=tmp_path / "examples.jsonl").read()

    def test_bfcl(self, shared_data: Path) -> None:
        source = Functions(SAMPLE, bfcl=shared_data / "bfcl")
        knowledge = source.read()
        by_category = Counter(e.category for e in knowledge.labelled)
        assert by_category["simple_python"] == 200
        assert by_category["multi_turn_base"] > 100
        assert all(not e.references for e in knowledge.labelled if e.category == "irrelevance")
        judge = CallJudge(source.own)
        some = [e for e in knowledge.labelled if e.category in ("simple_python", "multiple", "parallel_multiple")]
        wrong = [e.id for e in some if judge(e, dspy.Prediction(answer=e.answer)) < 1]
        assert wrong == []


# -- the program ------------------------------------------------------------------------------------------------------


def caller(script: Any, source: Functions = SOURCE, **options: Any) -> tuple[FunctionCaller, Any]:
    lm = dspy.LM("embedded/scripted", engine=ScriptedEngine(script), cache=False)
    program = FunctionCaller(scripted_resources(lm), source, **options)
    program.set_lm(lm)
    return program, lm.engine


WEEKDAY = '[{"name": "weekday_of", "arguments": {"day": "2026-12-25"}}]'


class TestProgram:
    def test_calls_and_executes(self) -> None:
        program, engine = caller(lambda text: WEEKDAY)
        prediction = program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"], execute=True)
        assert prediction.answer == WEEKDAY
        assert not prediction.abstained
        assert [outcome["result"] for outcome in prediction.results] == ["Friday"]
        assert len(engine.requests) == 1

    def test_no_call(self) -> None:
        prediction = caller(lambda text: "[]")[0](question="Thank you!", available=["weekday_of"])
        assert prediction.abstained
        assert prediction.answer == "[]"
        assert prediction.results == []

    def test_python_syntax(self) -> None:
        program, engine = caller(lambda text: '[weekday_of(day="2026-12-25")]', Functions(SAMPLE, syntax="python"))
        assert program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"]).answer == WEEKDAY
        assert '"weekday_of" "(" ("day="' in engine.requests[0].config.response_format["schema"]["x-grammar"]

    def test_only_what_is_offered_can_be_written(self) -> None:
        program, engine = caller(lambda text: "[]")
        program(question="x", available=["weekday_of", "split_bill"])
        schema = engine.requests[0].config.response_format["schema"]
        names = [each["properties"]["name"]["const"] for each in schema["items"]["anyOf"]]
        assert names == ["weekday_of", "split_bill"]

    @pytest.mark.parametrize("syntax", ["json", "python"])
    def test_servers_are_asked_for_an_object(self, syntax: Any) -> None:
        lm = scripted_lm(lambda text: json.dumps({"calls": json.loads(WEEKDAY)}))
        program = FunctionCaller(scripted_resources(lm), Functions(SAMPLE, syntax=syntax))
        program.set_lm(lm)
        prediction = program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"])
        schema = lm.engine.requests[0].config.response_format["schema"]  # type: ignore[attr-defined]
        assert (schema["type"], schema["required"]) == ("object", ["calls"])
        assert schema["properties"]["calls"]["type"] == "array"
        assert prediction.answer == WEEKDAY
        assert prediction.calls == (WEEKDAY if syntax == "json" else '[weekday_of(day="2026-12-25")]')

    def test_a_call_of_what_is_not_shown(self, labelled: list[dspy.Example]) -> None:
        """No reference teaches it; unconstrained it is a wrong answer."""
        program, _ = caller(lambda text: WEEKDAY, most=1)
        example = next(e for e in labelled if e.category == "choice").copy(calls=WEEKDAY, available=["split_bill"])
        with pytest.raises(ModelError, match="calls weekday_of, which is not one of the functions shown: split_bill"):
            program(question="Which weekday is it?", available=["split_bill"])
        good = next(e for e in labelled if len(e.available) == 1 and e.expected["calls"])
        traces = collect(program, [example, good], executor=Executor(1), score=lambda *_: 1.0)
        assert [trace.reference is None for trace in traces] == [True, False]
        loose, _ = caller(lambda text: WEEKDAY, constrained=False)
        assert loose(question="Which weekday is it?", available=["split_bill"]).answer == WEEKDAY

    def test_what_is_no_list_of_calls_is_wrong(self, labelled: list[dspy.Example]) -> None:
        prediction = caller(lambda text: "I cannot do that")[0](question="Hm?", available=["weekday_of"])
        assert not prediction.abstained
        irrelevant = next(e for e in labelled if e.category == "irrelevant")
        assert CallJudge(SOURCE.own)(irrelevant, prediction) == 0.0

    def test_of_many_functions_the_relevant_ones_are_shown(self) -> None:
        program, engine = caller(lambda text: "[]")
        shown = program(question="Split a bill of 84 euros between four people").functions
        assert len(shown) == 6
        assert shown[0].name == "split_bill"
        assert engine.requests[0].messages[-1].parts[0].text.count("\n") == 7

    def test_functions_can_be_given_in_full(self) -> None:
        tool = {"type": "function", "function": {"name": "ping", "description": "Ping a host.", "parameters": {
            "type": "object", "properties": {"host": {"type": "string"}}, "required": ["host"]}}}  # fmt: skip
        program, _ = caller(lambda text: '[{"name": "ping", "arguments": {"host": "a.b"}}]')
        prediction = program(question="Ping a.b", available=[tool], execute=True)
        assert prediction.functions[0].name == "ping"
        assert "can be called" in prediction.results[0]["stopped"]

    def test_unknown_function(self) -> None:
        with pytest.raises(SetupError, match="no function 'nothing'"):
            caller(lambda text: "[]")[0](question="x", available=["nothing"])

    def test_system_prompt_and_conversation_are_read(self) -> None:
        program, engine = caller(lambda text: "[]")
        turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "calls": json.loads(WEEKDAY)},
                 {"role": "tool", "content": "Friday"}]  # fmt: skip
        program(question="And a day later?", available=["weekday_of"], conversation=turns, system="Be brief.")
        request = engine.requests[0]
        assert str(request.system).count("Be brief.") == 1
        lines = request.messages[-1].parts[0].text.splitlines()
        assert lines[-4:] == ["User: Hello", f"Assistant: {WEEKDAY}", "Result: Friday", "User: And a day later?"]

    def test_a_step_that_fails_ends_a_nested_call(self) -> None:
        calls = calls_of([{"weekday_of": {"day": [{"$call": {"name": "add_workdays", "arguments": {
            "day": "2026-03-02", "count": -1}}}]}}])  # fmt: skip
        outcome = Workshop(SOURCE.own().values()).run(calls)[0]
        assert outcome.error_type == "ValueError"
        assert not outcome.ok

    def test_task_declares_without_io(self, tmp_path: Path) -> None:
        task = function_calling(functions=tmp_path / "not-there.py")
        assert next(iter(task.optimizers)) == "zero_shot"
        assert task.noun == "function"
        with pytest.raises(SetupError, match=r"--task\.mix"):
            function_calling(mix="single=4,sideways=1")

    def test_the_mix_names_the_categories_as_help_and_errors_do(self, workspace: Path) -> None:
        mix = task_settings(workspace / "programs" / "function_calling.py").model_fields["mix"]
        assert [part.partition("=")[0] for part in mix.default.split(",")] == list(CATEGORIES)
        listed = ", ".join(CATEGORIES)
        assert listed in str(mix.description)
        with pytest.raises(SetupError, match=listed):
            parse_mix("irrelevance=1")


def test_finder_ranks_what_stands_in_no_index() -> None:
    own = SOURCE.own()
    find = Finder(own, None, WordEmbedder(), most=3)  # type: ignore[arg-type]
    offered = [{"name": f.name, "description": f.description, "parameters": dict(f.parameters)} for f in own.values()]
    assert "airport_code" in [f.name for f in find("What is the code of the airport of Vienna?", offered)]


def test_functions_are_shown_best_first_however_they_are_offered() -> None:
    find = Finder(SOURCE.own(), None, WordEmbedder())  # type: ignore[arg-type]
    names = ["weekday_of", "split_bill", "airport_code"]
    for offered in (names, names[::-1]):
        assert find("What is the code of the airport of Vienna?", offered)[0].name == "airport_code"
    assert [f.name for f in find("Hello", ["weekday_of"])] == ["weekday_of"]


def test_constraint_allows_nesting_where_there_are_two() -> None:
    one, two = SOURCE.own()["weekday_of"], SOURCE.own()["add_workdays"]
    assert "$call" not in json.dumps(constraint([one], "json", 64))
    assert "$call" in json.dumps(constraint([one, two], "json", 64))


def test_what_is_shown_is_short() -> None:
    shown = show_functions([SOURCE.own()["convert_length"]])
    assert shown.startswith("convert_length(value: float, from_unit: mm | cm |")
    assert "to_unit: as from_unit" in shown
    assert show_request("Hello", (), "json") == "Hello"


# -- a token that begins a call ---------------------------------------------------------------------------------------


MARKER = "<tool_call>"


class TestCallToken:
    @pytest.mark.parametrize("reply", [f"{MARKER}{WEEKDAY}", f"{MARKER} {WEEKDAY}", WEEKDAY])
    def test_it_is_taken_off_the_reply(self, reply: str) -> None:
        program, engine = caller(lambda text: reply, call_token=MARKER)
        prediction = program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"])
        assert (prediction.answer, prediction.calls) == (WEEKDAY, WEEKDAY)
        assert engine.requests[0].config.response_format["schema"]["x-call-token"] == MARKER
        assert caller(lambda text: "[]", call_token=MARKER)[0](question="Hi", available=["weekday_of"]).abstained

    def test_it_is_taken_off_python_too(self) -> None:
        reply = f'{MARKER}[weekday_of(day="2026-12-25")]'
        program, engine = caller(lambda text: reply, Functions(SAMPLE, syntax="python"), call_token=MARKER)
        assert program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"]).answer == WEEKDAY
        response_format = engine.requests[0].config.response_format
        assert response_format["schema"]["x-grammar"].count(f'"{MARKER}" "["') == 1

    def test_without_it_nothing_changes(self) -> None:
        plain, engine = caller(lambda text: WEEKDAY)
        plain(question="Which weekday is Christmas Day 2026?", available=["weekday_of"])
        (request,) = engine.requests
        marked, engine = caller(lambda text: WEEKDAY, call_token=MARKER)
        marked(question="Which weekday is Christmas Day 2026?", available=["weekday_of"])
        (other,) = engine.requests
        assert "x-call-token" not in json.dumps(request.config.response_format)
        assert (request.messages, request.system) == (other.messages, other.system)

    def test_demonstrations_and_training_rows_have_it(self, labelled: list[dspy.Example]) -> None:
        program, engine = caller(lambda text: "[]", call_token=MARKER)
        called = next(e for e in labelled if e.category == "single")
        silent = next(e for e in labelled if e.category == "irrelevant")
        program.call.demos = [called, silent]
        program(question="Hm?", available=["weekday_of"])
        shown = [m.parts[0].text for m in engine.requests[-1].messages if m.role == "assistant"]
        assert shown == [MARKER + called.calls, "[]"]
        program.call.demos = []
        traces = collect(program, [called, silent], executor=Executor(1), score=CallJudge(SOURCE.own))
        assert [trace.reference.score for trace in traces if trace.reference] == [1.0, 1.0]
        completions = [row["completion"][0]["content"] for row in sft_rows(traces).rows]
        assert completions == [MARKER + called.calls, "[]"]

    def test_a_server_that_heeds_no_schema_may_write_it(self) -> None:
        lm = scripted_lm(lambda text: f"{MARKER}{WEEKDAY}")
        program = FunctionCaller(scripted_resources(lm), SOURCE, call_token=MARKER)
        program.set_lm(lm)
        assert program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"]).answer == WEEKDAY

    def test_servers_do_without(self, labelled: list[dspy.Example]) -> None:
        lm = scripted_lm(lambda text: json.dumps({"calls": json.loads(WEEKDAY)}))
        program = FunctionCaller(scripted_resources(lm), SOURCE, call_token=MARKER)
        program.set_lm(lm)
        program.call.demos = [next(e for e in labelled if e.category == "single")]
        assert program(question="Which weekday is Christmas Day 2026?", available=["weekday_of"]).answer == WEEKDAY
        assert MARKER not in str(lm.engine.requests[0])  # type: ignore[attr-defined]

    @pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
    def test_training_is_told(self, method: str) -> None:
        def options(task: Any, **given: Any) -> list[Any]:
            resources = scripted_resources(scripted_lm(lambda text: "[]"), training=given)
            recipe = task.optimizers[method](resources, lambda *_: 1.0)
            first = recipe._sft() if method != "sft" else recipe
            return [each.resources.training.get(each.method, {}).get("call_token") for each in (recipe, first)]

        task = function_calling(call_token=MARKER)
        assert options(task) == [MARKER, MARKER]
        assert options(function_calling()) == [None, None]

    def test_the_task_and_its_training_agree_on_it(self) -> None:
        task, other = function_calling(call_token=MARKER), {"dpo": {"call_token": "<call>"}}
        check_training(task, {"sft": {"call_token": MARKER, "epochs": 2}, "dpo": {"most": 3}})
        check_training(function_calling(), other)
        with pytest.raises(SetupError, match=rf"options\.dpo\.call_token is '<call>', but .* use '{MARKER}'"):
            check_training(task, other)

    @pytest.mark.parametrize("value", ["many", -1, 2.5, True])
    def test_a_recipes_own_settings_are_checked_too(self, value: Any) -> None:
        with pytest.raises(SetupError, match=rf"training\.options\.sft\.examples is {value!r}: "):
            check_training(function_calling(), {"sft": {"examples": value}})

    def test_a_reward_and_settings_that_would_have_no_effect_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="has no module rewards, which has the reward 'rewards:best'"):
            check_training(function_calling(), {"rloo": {"reward": "rewards:best"}}, tmp_path)
        check_training(function_calling(), {"rloo": {"reward": "judge"}}, tmp_path)
        for method, name in (("grpo", "most"), ("online_dpo", "margin"), ("kto", "per_example")):
            with pytest.raises(SetupError, match=rf"training\.options\.{method}\.{name} does not exist"):
                check_training(function_calling(), {method: {name: 3}})

    def test_what_is_no_token(self) -> None:
        for wrong in ("", "tool call"):
            with pytest.raises(SetupError, match=r"--task\.call-token"):
                function_calling(call_token=wrong)


# -- judge and metrics ------------------------------------------------------------------------------------------------


class TestScores:
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ('[{"name": "split_bill", "arguments": {"total": 84, "people": 4}}]', (1, 1, 1, 1, 1, 1)),
            ('[{"name": "split_bill", "arguments": {"total": 84, "people": 5}}]', (1, 0.5, 1, 1, 1, 1)),
            ('[{"name": "split_bill", "arguments": {"total": 84, "people": 4, "tax": 1}}]', (1, 1, 1, 0, 0, 1)),
            ('[{"name": "share", "arguments": {"total": 84, "people": 4}}]', (0, None, 0, 1, 0, 1)),
            ("[]", (0, None, None, None, 1, 0)),
            ("no", (0, None, None, None, 0, 1)),
        ],
    )
    def test_metrics(self, labelled: list[dspy.Example], answer: str, expected: tuple[float | None, ...]) -> None:
        row = next(e for e in labelled if e.question == "Split a bill of 84 euros between four people.")
        scores = {name: m(row, dspy.Prediction(answer=answer)) for name, m in call_metrics(SOURCE.own).items()}
        names = ("right_function", "right_arguments", "real_names", "real_arguments", "valid", "abstention")
        metric_values = tuple(None if scores[name] != scores[name] else scores[name] for name in names)
        assert metric_values == expected

    def test_judge_takes_rows(self, labelled: list[dspy.Example]) -> None:
        rows = [{"expected": e.expected, "prediction": e.answer} for e in labelled]
        judge = CallJudge(SOURCE.own)
        assert set(judge.score_many(rows)) == {1.0}
        assert judge.name == "ast"
        assert judge.score_many([{"expected": labelled[0].expected, "prediction": "[]"}]) == [0.0]


# -- long conversations -----------------------------------------------------------------------------------------------


TURNS = [
    {"role": "user", "content": "What does a trail tent cost in the shop?"},
    {"role": "assistant", "content": "A trail tent costs 189 euros, and there are seven of them in stock now."},
    {"role": "user", "content": "Is it going to snow in Oslo on Friday?"},
    {"role": "assistant", "content": "Yes, it is minus two degrees there and it will snow the whole day long."},
    {"role": "user", "content": "What is the capital of Peru?"},
    {"role": "assistant", "content": "Lima is the capital of Peru, on the coast of the Pacific Ocean in the west."},
]


class TestConversation:
    def test_what_fits_is_left_alone(self) -> None:
        assert prune(TURNS, "And two tents?", WordEmbedder().embed, 500) == TURNS

    def test_the_last_and_the_most_relevant_exchanges_stay(self) -> None:
        kept = prune(TURNS, "What do two tents cost?", WordEmbedder().embed, 48)
        assert kept == [*TURNS[:2], *TURNS[4:]]

    def test_running_summary(self) -> None:
        lm = scripted_lm(lambda text: "The tent costs 189 euros; it snows in Oslo.")
        summary = RunningSummary()
        summary.set_lm(lm)
        turns = summary(TURNS, 40)
        assert turns[0] == {"role": "summary", "content": "The tent costs 189 euros; it snows in Oslo."}
        assert turns[1:] == TURNS[4:]
        assert "trail tent" in lm.engine.requests[0].messages[-1].parts[0].text


def test_rows_for_others_carry_tools_and_tool_calls(labelled: list[dspy.Example]) -> None:
    """What a model's own chat template renders: the functions beside the messages, calls as `tool_calls`."""
    from synth_dspy.pipeline.chat_export import chat_rows

    caller = FunctionCaller(scripted_resources(scripted_lm(lambda prompt: "[]")), SOURCE)
    caller.set_lm(scripted_lm(lambda prompt: "[]"))
    example = next(example for example in labelled if example.category == "single")
    (row,) = chat_rows(caller, [example], Executor(1))
    (call,) = row["messages"][-1]["tool_calls"]
    (expected,) = calls_of(example.expected["calls"])
    assert call["function"] == {"name": expected.name, "arguments": dict(expected.arguments)}
    assert expected.name in {tool["function"]["name"] for tool in row["tools"]}


def test_a_share_beyond_one_is_told_before_anything_is_read() -> None:
    with pytest.raises(SetupError, match="is not a share"):
        function_calling(reverse_quantile=3.0)
