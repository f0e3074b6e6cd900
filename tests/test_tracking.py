"""What is projected into MLflow, and that nothing depends on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Behaviour, serving

import synth_dspy
from synth_dspy.loop.mlflow import project_store, track_store
from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store, now
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.tracking import ARM, RUN, VARIABLE, open_tracking

installed = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("mlflow") is None, reason="the extra `track` is not installed"
)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning")


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)
    with serving(Behaviour(reply='{"team": "card"}')) as server:
        models = {"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url}
        yield {"models": models, "concurrency": 4, "retention": {"prompts": 0}}


def triage(settings: dict[str, Any], here: Path) -> synth_dspy.Run:
    here.mkdir()
    rows = [{"text": f"Ticket {n}", "team": ("billing", "card")[n % 2]} for n in range(30)]
    program = dspy.Predict("text -> team")
    return synth_dspy.compile_task(
        program=program, trainset=rows, name="triage", arms=["bootstrap"], workspace=here, **settings
    )


@installed
@pytest.mark.slow
def test_a_run_is_the_same_with_and_without_and_its_scores_are_there(
    tmp_path: Path, hosted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = triage(hosted, tmp_path / "without")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "tracked.db"))
    with_it = triage(hosted, tmp_path / "with")
    for name in ("results.json", "config.toml", "datasets/train.jsonl", "programs/bootstrap/program.json"):
        assert (with_it.folder / name).read_bytes() == (without.folder / name).read_bytes(), name
    results = json.loads((with_it.folder / "results.json").read_text())
    with open_tracking(str(tmp_path / "tracked.db"), "triage") as tracking:
        runs = {run.data.tags.get(ARM): run for run in tracking.runs(RUN, with_it.folder.name)}
        assert set(runs) == {None, *(arm["name"] for arm in results["arms"])}
        for arm in results["arms"]:
            assert runs[arm["name"]].data.metrics["judged"] == arm["scores"]["judged"]["mean"]
        assert runs[None].data.params["models.student"] == "openai/mock"
        files = {file.path for file in tracking.client.list_artifacts(runs[None].info.run_id)}
        assert {"report.html", "results.json"} <= files
    store = Store.open(tmp_path / "production.sqlite", "triage")
    registry = Registry(store)
    first, second = (registry.register(with_it.folder, arm) for arm in (results["baseline"], "bootstrap"))
    registry.promote(first.id, "person:ann", "the first")
    registry.promote(registry.register(with_it.folder, "bootstrap").id, "loop", "better by 3 points")
    assert track_store(store) == {"versions": 2, "traces": 0, "assessments": 0, "deleted": 0}
    with open_tracking(str(tmp_path / "tracked.db"), "triage") as tracking:
        champion = tracking.client.get_model_version_by_alias("triage", "champion")
        lineage = {name.removeprefix("synth_dspy."): value for name, value in champion.tags.items()}
        assert (lineage["version"], lineage["arm"], lineage["program"]) == (second.id, "bootstrap", second.program)
        assert json.loads(lineage["data"]) == dict(second.data)
        assert lineage["champion"].endswith("loop: better by 3 points")
        assert champion.run_id == runs["bootstrap"].info.run_id
        saved = tracking.client.list_artifacts(champion.run_id, "program")
        assert "program/program.json" in {file.path for file in saved}
        assert tracking.client.get_model_version_by_alias("triage", "previous").tags["synth_dspy.version"] == first.id


def ask(store: Store, name: str, person: str, latency_s: float = 0.5) -> None:
    asked = {"question": "?"}
    store.add(Request(name, now(), "v1", "champion", asked, "yes", False, ("p",), 3, 1, latency_s, person=person))


@installed
def test_requests_feedback_and_deletions_are_projected_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "production.sqlite", "contract_qa")
    ask(store, "r1", "ann")
    ask(store, "r2", "bob", latency_s=3600.0)
    store.add(Feedback("f1", now(), "r1", "score", 4, rater="cy"))
    store.add(Feedback("f2", now(), "r1", "correction", "no", rater="dan"))
    with open_tracking(str(tmp_path / "tracked.db"), "contract_qa") as tracking:
        assert project_store(tracking, store) == {"versions": 0, "traces": 2, "assessments": 2, "deleted": 0}
        store.add(Feedback("f3", now(), "r2", "thumb", False, source="ai", rater="grader-1"))
        ask(store, "r3", "bob")
        assert project_store(tracking, store) == {"versions": 0, "traces": 1, "assessments": 1, "deleted": 0}
        traces = {
            trace.info.tags["synth_dspy.request"]: trace
            for trace in tracking.client.search_traces(locations=[tracking.experiment])
        }
        assert traces["r1"].info.execution_duration == 500
        assert traces["r1"].data.spans[0].outputs["answer"] == "yes"
        given = {each.name: each for each in traces["r1"].info.assessments}
        assert (given["score"].value, given["score"].source.source_id) == (4, "cy")
        assert given["expected_response"].value == "no"
        assert [each.source.source_type for each in traces["r2"].info.assessments] == ["LLM_JUDGE"]
        store.delete("asked to", "person:operator", person="dan")
        store.delete("asked to", "person:operator", person="bob")
        assert project_store(tracking, store)["deleted"] == 3
        (left,) = tracking.client.search_traces(locations=[tracking.experiment])
        assert [each.name for each in left.info.assessments] == ["score"]
        assert project_store(tracking, store) == {"versions": 0, "traces": 0, "assessments": 0, "deleted": 0}


@pytest.mark.parametrize("uri", ["https://user:secret@127.0.0.1:9", "sqlite:////proc/no/such.db", "nonsense://x"])
def test_tracking_that_fails_is_one_warning_without_the_password(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, uri)
    with caplog.at_level(logging.WARNING, "synth_dspy"):
        assert track_store(Store.open(tmp_path / "production.sqlite", "contract_qa")) is None
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("synth_dspy")]
    assert warning.startswith("The loop of contract_qa could not be tracked in ")
    assert "secret" not in warning


def test_nothing_is_tracked_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert track_store(Store.open(tmp_path / "production.sqlite", "contract_qa")) is None
