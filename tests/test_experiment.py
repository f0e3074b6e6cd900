"""The line of stations over a toy task: a loopback server answers in the models' place."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Server, serving

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Candidate, Item, Knowledge
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run
from synth_dspy.core.task import CompleteTask, Task
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.context import QUICK
from synth_dspy.pipeline.defaults import complete
from synth_dspy.pipeline.experiment import Experiment
from synth_dspy.synthesis.pipeline import candidate_id

RIVERS = ("Amazon", "Danube", "Ganges", "Mekong", "Niger", "Rhine", "Volga", "Yukon", "Zambezi", "Congo")


class Rivers:
    """Ten groups, each with a labelled question unless only the items are wanted."""

    def __init__(self, names: Sequence[str] = RIVERS, *, labelled: bool = True) -> None:
        self.names, self.labelled = names, labelled

    def read(self, limit: int | None = None) -> Knowledge:
        items = [Item(f"{name}/1", name, f"The {name} is a river.") for name in self.names[:limit]]
        labelled_rows = (
            [as_row(name, f"Where does the {name} end?") for name in self.names[:limit]] if self.labelled else []
        )
        return Knowledge(items, labelled_rows)


def as_row(name: str, question: str) -> dspy.Example:
    fields = {"id": f"gold-{name}", "group": name, "category": "mouth", "origin": "gold", "answer_type": "place"}
    row = dspy.Example(**fields, question=question, answer="sea", references=["sea"], spans=[], passages="")
    return row.with_inputs("question")


class Answers(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=self.answer(question=question).answer, abstained=False)


class Asks(dspy.Module):
    """A candidate for each item; what it asks comes of the item alone."""

    def forward(self, item: Item) -> list[Candidate]:
        fields = {"question": f"How long is the {item.group}?", "answer": "long", "references": ["long"]}
        return [Candidate(candidate_id(item), item, {**fields, "answer_type": "length"}, "length", ("question",))]


class Polite:
    name, agreement = "polite", {"n": 3}

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        return float(prediction.answer.startswith("answer"))

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [float(row["prediction"].startswith("answer")) for row in rows]


class Shown:
    """One demonstration."""

    def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
        student.answer.demos = [dspy.Example(question=trainset[0].question, answer=trainset[0].answer)]
        return student


class Broken:
    def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
        raise ValueError("no such prompt")


def toy(source: Rivers) -> CompleteTask:
    return complete(
        Task(
            source=source,
            program=lambda resources: Answers(),
            synthesizer=lambda resources: Asks(),
            filters=lambda resources: [],
            judge=lambda resources: Polite(),
            metrics={"short": lambda example, prediction, trace=None: float(len(prediction.answer) < 9)},
            optimizers={
                "zero_shot": lambda resources, metric: None,
                "shown": lambda resources, metric: Shown(),
                "broken": lambda resources, metric: Broken(),
            },
            noun="river",
        )
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)  # of the process: other tests would see it
    with serving() as server:
        yield server


def compile_(folder: Path, server: Server, source: Rivers, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    models = {**dict.fromkeys(("student", "teacher"), "openai/mock"), "api_base": server.url}
    config = CompileConfig.model_validate({"models": models, "concurrency": 2, "retention": {"prompts": 0}, **settings})
    run = Run("rivers", folder)
    with Ledger(folder / "ledger.sqlite") as ledger:
        return Experiment(folder, toy(source), config, run, ledger, Bars(), "compile rivers").compile()


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "datasets" / f"{name}.jsonl").read_text().splitlines()]


def test_every_arm_is_scored_on_the_same_held_out_items_and_nothing_is_asked_twice(
    tmp_path: Path, server: Server
) -> None:
    results, measurements = compile_(tmp_path, server, Rivers())
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert list(arms) == ["zero_shot", "shown", "broken"]
    assert [arms[name]["scores"]["judged"]["mean"] for name in ("zero_shot", "shown")] == [1.0, 1.0]
    assert arms["shown"]["demos"] == 1
    assert arms["shown"]["description"] == "One demonstration."
    assert arms["broken"]["n"] == 0
    assert arms["broken"]["failed"] == "An unexpected ValueError ended it (no such prompt); run.log says where."
    groups = {name: {row["group"] for row in rows_of(tmp_path, name)} for name in ("train", "dev", "test")}
    assert not groups["test"] & (groups["train"] | groups["dev"])
    assert {row["origin"] for row in rows_of(tmp_path, "train")} == {"gold", "synthetic"}
    assert results["splits"]["test"]["items"] == len(rows_of(tmp_path, "test")) == arms["shown"]["n"]
    assert (results["task"], results["noun"], results["held_out"]) == ("rivers", "river", "human-labelled")
    assert results["judge"] == {"name": "polite", "n": 3, "domain": "", "threshold": 0.5}
    (frequent, adapter) = results["reference_rows"]
    assert (frequent["answer"], frequent["n"], frequent["scores"]["judged"]["mean"]) == ("sea", arms["shown"]["n"], 0.0)
    assert (adapter["name"], adapter["n"]) == ("zero_shot (DSPy's adapter)", 0)
    assert "DSPy's own already" in adapter["skipped"]
    assert set(measurements["machine"]) == {"cpu", "cores", "precision"}
    assert [station["name"] for station in measurements["stations"]] == [
        *("source", "models", "index", "synthesis", "arms", "evaluation")
    ]
    assert (tmp_path / "programs" / "shown" / "program.json").exists()
    assert not (tmp_path / "programs" / "broken").exists()
    request_count, first = len(server.requests), (tmp_path / "results.json").read_bytes()
    compile_(tmp_path, server, Rivers())
    assert len(server.requests) == request_count > 0
    assert (tmp_path / "results.json").read_bytes() == first


def test_an_arm_s_latency_is_of_answered_attempts_and_its_retries_are_told(tmp_path: Path, server: Server) -> None:
    server.behaviour.retry_after = "2"
    server.behaviour.refused = 1.0  # each call once
    settings = {"evaluation": {"arms": ("zero_shot",), "held_out": 3}, "synthesis": {"candidates": 0}}
    results, measurements = compile_(tmp_path, server, Rivers(), concurrency=16, **settings)
    (arm,) = results["arms"]
    measured = measurements["arms"]["zero_shot"]
    assert arm["errors"] == 0
    assert measured["retries"] == arm["n"] == 2
    (took,) = [station["seconds"] for station in measurements["stations"] if station["name"] == "evaluation"]
    assert measured["latency_p95_s"] <= took - 2  # the wait before the retry is not in it
    assert "retries: zero_shot 2." in (tmp_path / "report.html").read_text()
    assert "as far as the model's client reports them" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(("trains", "trained", "times"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_the_process_that_trains_gets_ready_where_an_arm_trains_and_none_has_trained_yet(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, trains: bool, trained: bool, times: int
) -> None:
    started: list[bool] = []
    monkeypatch.setattr(experiment, "start_idle_worker", lambda: started.append(True))
    monkeypatch.setattr(experiment, "trains_weights", lambda factory: trains)
    if trained:
        (tmp_path / "adapters").mkdir()
    compile_(tmp_path, server, Rivers(), synthesis={"candidates": 0})
    assert len(started) == times


def test_dev_rows_that_are_training_rows_are_called_so(tmp_path: Path, server: Server) -> None:
    class TwoLabelled(Rivers):
        """Questions about two rivers: one to learn from, one to be scored on."""

        def read(self, limit: int | None = None) -> Knowledge:
            knowledge = super().read(limit)
            return Knowledge(knowledge.items, knowledge.labelled[:2])

    results, _ = compile_(tmp_path, server, TwoLabelled(), synthesis={"candidates": 0})
    train = {row["id"] for row in rows_of(tmp_path, "train")}
    assert {row["id"] for row in rows_of(tmp_path, "dev")} <= train
    assert results["splits"]["dev"]["origin"] == "training rows"
    assert [note for note in results["notes"] if "prompts are chosen on training rows" in note]
    assert "the dev rows are training rows" in (tmp_path / "report.html").read_text()


def test_all_held_out_items_are_scored_unless_fewer_are_asked_for(tmp_path: Path, server: Server) -> None:
    many = [f"river {n}" for n in range(250)]
    settings: dict[str, Any] = {"synthesis": {"candidates": 0}, "evaluation": {"arms": ["zero_shot"]}}
    for name in ("all", "few"):
        (tmp_path / name).mkdir()
    results, _ = compile_(tmp_path / "all", server, Rivers(many), **settings)
    test = results["splits"]["test"]
    assert test["items"] == test["available"] == results["items"]["n"] > 40
    settings["evaluation"]["held_out"] = 5
    results, _ = compile_(tmp_path / "few", server, Rivers(many), **settings)
    assert (results["items"]["n"], results["splits"]["test"]) == (5, {**test, "groups": 5, "items": 5})


@pytest.mark.parametrize("damage", ["update calls set response = '{}'", "update calls set output_tokens = 1"])
def test_a_ledger_that_is_damaged_meanwhile_ends_the_run_and_its_results_stay(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    compile_(tmp_path, server, Rivers())
    names = ("results.json", "measurements.json", "predictions.jsonl", "report.html", "report.md")
    before = {name: (tmp_path / name).read_bytes() for name in names}

    def damaging(self: Shown, student: dspy.Module, **_: Any) -> dspy.Module:
        with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
            db.execute(damage)
        db.close()
        return student

    monkeypatch.setattr(Shown, "compile", damaging)
    with pytest.raises(
        SetupError, match=r"ledger\.sqlite is damaged .* Its last good snapshot is .*synth_dspy\.restore"
    ):
        compile_(tmp_path, server, Rivers())
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_without_labels_what_is_held_out_is_synthetic_too_and_quick_is_less(tmp_path: Path, server: Server) -> None:
    many = [f"river {n}" for n in range(99)]
    results, _ = compile_(tmp_path, server, Rivers(many, labelled=False), quick=True, evaluation={"arms": ["shown"]})
    assert results["held_out"] == "synthetic"
    assert {row["origin"] for name in ("train", "dev", "test") for row in rows_of(tmp_path, name)} == {"synthetic"}
    assert results["synthesis"]["generated"] == len(rows_of(tmp_path, "train")) == QUICK["candidates"]
    assert [arm["name"] for arm in results["arms"]] == ["zero_shot", "shown"]


@pytest.mark.parametrize(
    ("settings", "names", "sentence"),
    [
        ({"evaluation": {"arms": ["best"]}}, RIVERS, "no arm 'best'; this task has zero_shot, shown, broken"),
        ({"training": {"options": {"sft": {"epoch": 2}}}}, RIVERS, r"options\.sft\.epoch does not exist: .* epochs\?"),
        (
            {"models": {"options": {"teacher": {"temperatur": 0.3}}}},
            RIVERS,
            r"models\.options\.teacher\.temperatur is not an option of .* embedded/.*: did you mean temperature\?",
        ),
        ({"training": {"feedback": "nowhere.jsonl"}}, RIVERS, r"nowhere\.jsonl"),
        ({}, RIVERS[:2], "At least 3 rivers are needed.*there are 2"),
    ],
)
def test_a_mistake_is_told_before_a_model_is_asked(
    tmp_path: Path, server: Server, settings: dict[str, Any], names: Sequence[str], sentence: str
) -> None:
    with pytest.raises(SetupError, match=sentence):
        compile_(tmp_path, server, Rivers(names), **settings)
    assert server.requests == []


def test_arms_may_be_listed_with_commas(tmp_path: Path, server: Server) -> None:
    results, _ = compile_(tmp_path, server, Rivers(), evaluation={"arms": ["zero_shot, shown,"]})
    assert [arm["name"] for arm in results["arms"]] == ["zero_shot", "shown"]


def test_a_preference_about_nothing_that_was_read_ends_the_run_before_any_model_is_asked(
    tmp_path: Path, server: Server
) -> None:
    class Named(Rivers):
        """What is asked about is an input of the program."""

        def read(self, limit: int | None = None) -> Knowledge:
            read = super().read(limit)
            rows = [
                dspy.Example(**row.toDict(), river=row.group).with_inputs("question", "river") for row in read.labelled
            ]
            return Knowledge(read.items, rows)

    path = tmp_path / "preferences.jsonl"
    lines = [{"question": "How long?", "chosen": "long", "rejected": "short", "river": r} for r in ("Rhine", "Styx")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SetupError, match="line 2: field 'river' is \"Styx\"; but no such river was read"):
        compile_(tmp_path, server, Named(), training={"feedback": str(path)})
    assert not server.requests


def test_feedback_on_held_out_questions_is_left_out_and_counted(tmp_path: Path, server: Server) -> None:
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
    compile_(tmp_path / "before", server, Rivers(), evaluation={"arms": ["zero_shot"]})
    asked = {name: rows_of(tmp_path / "before", name)[0]["question"] for name in ("train", "test")}
    path = tmp_path / "feedback.jsonl"
    lines = [{"question": q, "answer": "sea", "good": True, "id": n, "feedback": [n]} for n, q in asked.items()]
    lines.append({"question": f" {asked['test'].upper()}", "chosen": "sea", "rejected": "lake"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    results, _ = compile_(
        tmp_path / "after", server, Rivers(), evaluation={"arms": ["zero_shot"]}, training={"feedback": str(path)}
    )
    (row,) = rows_of(tmp_path / "after", "feedback")
    assert (row["question"], row["good"], row["feedback"]) == (asked["train"], True, ["train"])
    assert any("2 lines left out: they ask a held-out question" in note for note in results["notes"])


def test_a_source_that_nobody_could_learn_from_ends_a_new_run_before_any_model_is_asked(
    tmp_path: Path, server: Server
) -> None:
    class Dry(Rivers):
        def check(self) -> None:
            raise SetupError("The rivers are dry.")

    with pytest.raises(SetupError, match="The rivers are dry"):
        compile_(tmp_path, server, Dry())
    assert not server.requests
