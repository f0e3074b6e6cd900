"""`evaluate RUN... --seeds FILE`: saved programs on new items, resumed, and one sentence for each mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers import Behaviour, serving

from synth_dspy.cli import evaluate
from synth_dspy.core.config import CompileConfig, compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.run import Run
from synth_dspy.core.workspace import task_file
from synth_dspy.pipeline import saved

LEASE = "This lease ends on 31 March 2027. It is governed by the laws of Oregon. The rent is $900 a month."
FIELDS = {"document": "lease", "references": ["Oregon"], "spans": ["Oregon"], "category": "Law", "answer_type": "law"}


def item(number: int, question: str, **more: Any) -> dict[str, Any]:
    return {"id": f"new-{number}", "question": question, **FIELDS, **more}


def bare(row: dict[str, Any]) -> dict[str, Any]:
    """The least that a program can be scored on."""
    return {key: row[key] for key in ("id", "document", "question", "references")}


NEW = [item(i, f"Which law governs, asked in way {i}?", document=("lease", "loan")[i % 2]) for i in range(3)]
TRAINED = {"id": "t1", "group": "lease", "question": "Which law governs the lease?"}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def make_run(folder: Path, workspace: Path, arms: tuple[str, ...] = ("rag", "bootstrap"), **models: Any) -> Path:
    """A run as compile leaves it, of a program that was never compiled."""
    from dspy import Example

    documents = folder / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    for name in ("lease", "loan", "deed"):
        (documents / f"{name}.txt").write_text(f"The {name}. {LEASE}")
    model = compile_settings(task_file(workspace, "contract_qa"))
    config = model.model_validate(
        {"runs": folder / "runs", "task": {"documents": documents}, "models": models, "concurrency": 2}
    )
    run = Run("contract_qa", folder / "runs" / "contract_qa" / "run-1")
    task = saved.build_task(workspace, "contract_qa", config)
    for arm in arms:
        program = task.program(SimpleNamespace(retriever=None, words=60, noun="document", abstain="", steps="off"))
        if arm != "rag":
            shown = Example(passages="It ends in May.", question="When does it end?", answer="May")
            program.predictors()[0].demos = [shown]
        saved.save(run, arm, program, config)
    for name, rows in (("train", [TRAINED]), ("dev", [])):
        run.write_jsonl(f"datasets/{name}.jsonl", rows)
    return run.folder


@pytest.mark.slow
def test_saved_programs_are_scored_and_a_second_time_asks_nothing(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace)
    seen = [item(8, "Something else?", id="t1"), item(9, "which LAW governs  the lease?")]
    seeds = lines(tmp_path / "fresh.jsonl", [*NEW[:2], bare(NEW[2]), *seen])
    with serving(Behaviour(reply="Oregon")) as server:
        # The server also judges (its replies hold no figure: all wrong) and embeds.
        roles = dict.fromkeys(("student", "judge", "embedder"), "openai/mock")
        run = make_run(tmp_path, workspace, **roles, api_base=server.url)
        evaluate.main([str(run), "--seeds", str(seeds)])
        requests_before = len(server.requests)
        (folder,) = (run / "evaluations").iterdir()
        first = (folder / "results.json").read_bytes()
        evaluate.main([str(run), "--seeds", str(seeds)])
        assert len(server.requests) == requests_before >= 2 * len(NEW)
        assert (folder / "results.json").read_bytes() == first
        evaluate.main([str(run / "programs" / "bootstrap"), "--seeds", str(seeds), "--out", str(tmp_path / "one")])
    assert folder.name.startswith("fresh-")
    results = json.loads(first)
    assert [(arm["name"], arm["n"]) for arm in results["arms"]] == [("bootstrap", 3), ("rag", 3)]
    assert all(arm["scores"]["exact"]["mean"] == 1.0 for arm in results["arms"])
    assert [arm["retrieval"]["recall"]["n"] for arm in results["arms"]] == [3, 3]  # spans are looked up in documents
    assert [(c["arm"], c["against"]) for c in results["comparisons"]] == [("bootstrap", "rag")]
    assert "2 of 5 items left out, because the programs had learned from them." in results["notes"]
    learned = "The programs have learned from the documents of 2 of the 3 items"
    assert any(note.startswith(learned) for note in results["notes"])
    assert (folder / "report.html").is_file()
    printed = capsys.readouterr()
    assert "2 of 5 items left out" in printed.out + printed.err
    assert str(folder / "report.html") in printed.out
    alone = json.loads((tmp_path / "one" / "results.json").read_text())
    assert [arm["name"] for arm in alone["arms"]] == ["bootstrap"]
    assert alone["baseline"] == "bootstrap"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["{run}"], "name --seeds with labelled items"),
        (["--seeds", "{good}"], "name the runs whose programs"),
        (["{run}", "--seeds", "{good}", "--items", "x.jsonl"], "leave out --items"),
        (["{run}", "--seeds", "{good}", "--judge", "openai/x"], "leave out --judge"),
        (["{folder}", "--seeds", "{good}"], "There is no saved program in"),
        (["{run}", "--seeds", "{missing}"], "missing.jsonl cannot be read: No such file"),
        (
            ["{run}", "--seeds", "{unnamed}"],
            "unnamed.jsonl, line 2: field 'document' is \"leese\"; but no such document",
        ),
        (["{run}", "--seeds", "{short}"], "short.jsonl, line 2: has neither 'answer' nor 'references'"),
        (["{run}", "--seeds", "{seen}"], "have learned from every item"),
        (["{run}", "--seeds", "{bare}"], "have learned from every item"),  # which is what comes after reading them
        (["{run}", "--seeds", "{good}", "--out", "{folder}/done"], r"results\.json exists already: .* with --force"),
        (["{run}", "--seeds", "{seen}", "--out", "{folder}/done", "--force"], "have learned from every item"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], sentence: str
) -> None:
    monkeypatch.chdir(workspace)
    places = {
        "run": make_run(tmp_path / "r", workspace),
        "folder": tmp_path,
        "missing": tmp_path / "missing.jsonl",
        "good": lines(tmp_path / "good.jsonl", NEW),
        "unnamed": lines(tmp_path / "unnamed.jsonl", [NEW[0], {**NEW[1], "document": "leese"}]),
        "short": lines(tmp_path / "short.jsonl", [NEW[0], {key: NEW[1][key] for key in NEW[1] if key != "references"}]),
        "bare": lines(tmp_path / "bare.jsonl", [bare(item(1, TRAINED["question"]))]),
        "seen": lines(tmp_path / "seen.jsonl", [item(1, TRAINED["question"])]),
    }
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "results.json").write_text("{}")
    with pytest.raises(SetupError, match=sentence):
        evaluate.main([arg.format(**places) for arg in args])
    assert (tmp_path / "done" / "results.json").read_text() == "{}"


def test_programs_of_two_tasks_are_not_compared(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    run = make_run(tmp_path, workspace)
    about = run / "programs" / "rag" / saved.ABOUT
    about.write_text(json.dumps({**json.loads(about.read_text()), "task": "scoped_assistant", "config": {}}))
    with pytest.raises(SetupError, match="these are of contract_qa, scoped_assistant"):
        evaluate.main([str(run), "--seeds", str(lines(tmp_path / "s.jsonl", NEW))])


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"limit": 4}, r"limit \(4, not None\)"),
        ({"task": {"cuad": "elsewhere"}}, r"task\.cuad \(elsewhere, not None\)"),
    ],
)
def test_programs_of_runs_over_different_knowledge_are_not_compared(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], differs: str
) -> None:
    monkeypatch.chdir(workspace)
    one = make_run(tmp_path, workspace)
    other = one.with_name("run-2")
    shutil.copytree(one, other)
    for path in other.glob(f"programs/*/{saved.ABOUT}"):
        about = json.loads(path.read_text())
        task = about["config"]["task"] | change.get("task", {})
        path.write_text(json.dumps({**about, "config": about["config"] | change | {"task": task}}))
    seeds = str(lines(tmp_path / "s.jsonl", NEW))
    with pytest.raises(SetupError, match=rf"run-2 differs from .*run-1 in {differs}\. Evaluate each by itself"):
        evaluate.main([str(one), str(other), "--seeds", seeds, "--trust"])


def test_runs_over_the_same_knowledge_may_differ_otherwise(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    one = make_run(tmp_path, workspace)
    other = one.with_name("run-2")
    shutil.copytree(one, other)
    for path in other.glob(f"programs/*/{saved.ABOUT}"):
        about = json.loads(path.read_text())
        path.write_text(json.dumps({**about, "config": {**about["config"], "seed": 7}}))
    seeds = str(lines(tmp_path / "seen.jsonl", [item(1, TRAINED["question"])]))
    with pytest.raises(SetupError, match="have learned from every item"):  # what is looked at next
        evaluate.main([str(one), str(other), "--seeds", seeds, "--trust"])


def test_a_file_that_cannot_be_written_is_mended_by_the_same_command(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(SetupError, match="go on with the same command"):
        Run("contract_qa", tmp_path).write_json("results.json", {})


def test_a_run_that_does_not_say_what_it_learned_from_is_refused(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    run = make_run(tmp_path, workspace)
    (run / "datasets" / "train.jsonl").unlink()
    with pytest.raises(SetupError, match="it is unknown which items are new"):
        evaluate.main([str(run), "--seeds", str(lines(tmp_path / "s.jsonl", NEW))])


def test_saved_settings_still_fit(workspace: Path, tmp_path: Path) -> None:
    about = json.loads((make_run(tmp_path, workspace) / "programs" / "rag" / saved.ABOUT).read_text())
    assert isinstance(
        compile_settings(task_file(workspace, "contract_qa")).model_validate(about["config"]), CompileConfig
    )
