"""What a report advises, and that its commands are ones that exist."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_runs import summarise

from synth_dspy.core.run import jsonl_text
from synth_dspy.evaluation.report.next_steps import Step, needed_items, next_steps, typed
from synth_dspy.evaluation.report.verdict import LEVEL

Rows = Callable[..., list[dict[str, Any]]]


def steps(rows: list[dict[str, Any]], facts: dict[str, Any], folder: Path) -> list[Step]:
    return next_steps(*summarise(rows, facts), folder)


def test_a_quick_run_is_to_be_run_whole_and_too_few_items_are_to_be_more(
    tmp_path: Path, answers: Rows, facts: dict[str, Any]
) -> None:
    facts |= {
        "command": "python -m synth_dspy.compile my_task --quick --limit 9",
        "labels": "--task.functions PATH --task.examples FILE",
    }
    facts["splits"] = {}
    rows = answers({"rag": [0, 1] * 4, "sft": [1, 0] * 4})
    whole, everything = steps(rows, facts, tmp_path)
    assert whole.command == "python -m synth_dspy.compile my_task --limit 9"
    assert everything.command == "python -m synth_dspy.compile my_task"
    assert "takes about 90 held-out items, not 8" in everything.sentence


def test_a_quick_run_is_followed_by_one_step_to_all_items_and_one_to_more(
    tmp_path: Path, answers: Rows, facts: dict[str, Any]
) -> None:
    facts["command"] = "python -m synth_dspy.compile contract_qa --quick --evaluation.held-out 6"
    facts |= {"splits": {"test": {"groups": 4, "items": 8, "available": 83}}}
    facts["labels"] = "--task.documents FOLDER --task.labelled FILE"
    whole, more = steps(answers({"rag": [0, 1] * 4, "sft": [1, 0] * 4}), facts, tmp_path)
    assert whole.command == "python -m synth_dspy.compile contract_qa"
    assert whole.sentence.endswith("run it in full, on all 83 held-out items.")
    assert more.command == "python -m synth_dspy.compile contract_qa --documents FOLDER --labelled FILE"
    assert more.sentence.startswith("Label more questions (")
    assert "not 83." in more.sentence


def test_arms_without_scores_are_neither_voted_on_nor_chosen_from(
    tmp_path: Path, predict: Callable[..., Any], facts: dict[str, Any]
) -> None:
    facts |= {"command": "python -m synth_dspy.compile contract_qa --limit 9", "labels": "--task.labelled FILE"}
    unscored = [predict(arm, i, 0.0, scores={"judged": None}) for arm in ("rag", "sft") for i in range(40)]
    for rows in ([], unscored):
        (mend,) = steps(rows, facts, tmp_path)
        assert mend.sentence.startswith("No arm was scored")
        assert mend.command == facts["command"]


def test_a_flag_is_spelled_alike_wherever_a_report_has_it(answers: Rows, facts: dict[str, Any]) -> None:
    command = "python -m synth_dspy.compile table_docs --task.database my.db --models.student m"
    _, measurements = summarise(answers({"rag": [0, 1] * 4}), {**facts, "command": command})
    assert typed(measurements) == "python -m synth_dspy.compile table_docs --database my.db --models.student m"


def test_rows_are_added_where_too_few_are_there(tmp_path: Path, answers: Rows, facts: dict[str, Any]) -> None:
    """Also after a quick run that a folder's configuration declares: its command says that it is to be a full one."""
    facts |= {"command": "", "noun": "row", "splits": {"test": {"groups": 8, "items": 8, "available": 12}}}
    (tmp_path / "config.toml").write_text("quick = true\n")
    whole, other = steps(answers({"rag": [0, 1] * 4, "sft": [1, 0] * 4}), facts, tmp_path)
    assert whole.command == f"python -m synth_dspy.compile contract_qa --config {tmp_path}/config.toml --no-quick"
    assert "run it in full, on all 12 held-out items. Add rows" in whole.sentence
    assert "not 12." in whole.sentence
    assert "all 12" not in other.sentence


def test_two_steps_never_share_a_command_or_a_reason(tmp_path: Path, answers: Rows, facts: dict[str, Any]) -> None:
    facts |= {"command": "python -m synth_dspy.compile my_task --limit 9", "labels": "--task.labelled FILE"}
    facts["splits"] = {"test": {"groups": 4, "items": 8, "available": 20}}
    first, second = steps(answers({"rag": [0, 1] * 4, "sft": [1, 0] * 4}), facts, tmp_path)
    assert first.command != second.command
    assert "held-out items, not 8" in first.sentence
    assert "held-out items, not 8" not in second.sentence


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        ("", "--documents FOLDER --labelled FILE"),
        ("--task.cuad CUAD.json --seed 3", "--seed 3 --documents FOLDER --labelled FILE"),
        ("--cuad CUAD.json --trust --seed 3", "--trust --seed 3 --documents FOLDER --labelled FILE"),
        ("--task.documents mine", "--documents mine --labelled FILE"),
        ("--documents mine", "--documents mine --labelled FILE"),
        ("--task.documents=mine --labelled=a.jsonl", "--documents=mine --labelled=a.jsonl"),
        ("--task.limit 3 --documents mine --labelled a", "--task.limit 3 --documents mine --labelled a"),
    ],
)
def test_labels_are_advised_in_flags_that_go_together(
    tmp_path: Path, answers: Rows, facts: dict[str, Any], given: str, advised: str
) -> None:
    facts |= {"command": f"python -m synth_dspy.compile contract_qa {given}", "splits": {}}
    facts["labels"] = "--task.documents FOLDER --task.labelled FILE"
    label, _ = steps(answers({"rag": [0, 1] * 4, "sft": [1, 0] * 4}), facts, tmp_path)
    assert label.command == f"python -m synth_dspy.compile contract_qa {advised}"


def test_held_out_items_that_were_not_asked_come_before_new_labels(
    tmp_path: Path, answers: Rows, facts: dict[str, Any]
) -> None:
    facts["command"] = "python -m synth_dspy.compile contract_qa --evaluation.held-out 12"
    facts["splits"] = {"test": {"groups": 4, "items": 12, "available": 400}}
    step, _ = steps(answers({"rag": [0, 1] * 6, "sft": [1, 0] * 6}), facts, tmp_path)
    assert step.command == "python -m synth_dspy.compile contract_qa --evaluation.held-out 400"


def test_a_winner_is_put_to_work_with_a_question_of_the_run(
    tmp_path: Path, answers: Rows, facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "it's one"
    (run / "programs" / "sft").mkdir(parents=True)
    (run / "datasets").mkdir()
    row = {"id": "1", "question": 'Who\'s "it"?', "document": "a b", "inputs": ["document", "question"]}
    longer = {**row, "id": "0", "document": "One line\u2028and another. " * 20}
    (run / "datasets" / "test.jsonl").write_text(jsonl_text([longer, row]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    use, choose = steps(answers({"rag": [0, 0, 1, 0] * 12, "sft": [1, 1, 1, 0] * 12}), facts, run)
    python, flag, code = shlex.split(use.command)
    assert (python, flag) == ("python", "-c")
    compile(code, "step", "exec")
    assert "load(\"runs/it's one/programs/sft\")(document='a b', question='Who\\'s \"it\"?').answer" in code
    assert shlex.split(choose.command) == ["python", "-m", "synth_dspy.choose", "runs/it's one"]


def test_rows_that_were_not_learned_from_and_a_stronger_teacher(
    tmp_path: Path, answers: Rows, facts: dict[str, Any]
) -> None:
    facts |= {"command": "python -m synth_dspy.compile contract_qa --resume x"}
    training = {"method": "sft", "rows": 90, "trained_rows": 30, "seconds": 240, "all_rows_s": 720.0}
    facts["arms"] = [{"name": "rag"}, {"name": "sft", "training": training}]
    (tmp_path / "config.toml").write_text("")
    rows, teacher = steps(answers({"rag": [0, 1] * 200, "sft": [0, 1] * 200}), facts, tmp_path)
    again = f"python -m synth_dspy.compile contract_qa --config {tmp_path}/config.toml"
    assert "sft was trained on 30 of 90 rows; all of them take about 12 minutes" in rows.sentence
    assert rows.command == f"{again} --training.minutes 16"  # a fifth more than estimated
    assert teacher.command.startswith(f"{again} --models.teacher ")


@pytest.mark.parametrize(
    ("typed", "advised"),
    [
        ("--evaluation.arms sft dpo --seed 3", "--seed 3"),
        ("--config mine.toml --seed 3", "--config mine.toml --seed 3 --evaluation.arms"),
    ],
)
def test_a_stronger_student_on_a_server_is_not_to_train_weights(
    tmp_path: Path, answers: Rows, facts: dict[str, Any], typed: str, advised: str
) -> None:
    facts["command"] = f"python -m synth_dspy.compile my_task {typed}"
    results, measurements = summarise(answers({"rag": [0, 1] * 4, "sft": [1, 0] * 4}), facts)
    results["comparisons_trivial"] = [{"arm": "rag", "against": "card", "outcome": LEVEL}]  # type: ignore[typeddict-item]
    results["reference_rows"] = [{"name": "card", "scores": {"judged": {"mean": 0.5}}}]  # type: ignore[typeddict-item]
    _, step = next_steps(results, measurements, tmp_path)
    assert step.command == f"python -m synth_dspy.compile my_task {advised} --models.student ollama_chat/llama3.2"


def test_there_are_two_wherever_something_was_scored(tmp_path: Path, answers: Rows) -> None:
    for rows in (answers({"rag": [1.0] * 3}), answers({"rag": [1, 0] * 24, "a": [0, 0] * 24})):
        assert len(steps(rows, {"task": "t"}, tmp_path)) == 2


def test_needed_items_follow_from_the_spread_of_these(answers: Rows, facts: dict[str, Any]) -> None:
    results, _ = summarise(answers({"rag": [0, 1, 0] * 16, "sft": [1, 0, 0, 1] * 12}), facts)
    least = results["comparisons"][0]["smallest_detectable"]
    assert needed_items(results) == pytest.approx(48 * (least / 0.15) ** 2, abs=10)
