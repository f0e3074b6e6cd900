"""Several generators in one run: compared models, arms made elsewhere, merged adapters, a router."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Behaviour, Server, serving
from tests.test_experiment import Polite, Rivers, Shown

from synth_dspy.core.config import CompileConfig, absolute
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run
from synth_dspy.core.task import Task
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.defaults import complete
from synth_dspy.pipeline.experiment import Experiment
from synth_dspy.pipeline.saved import load
from synth_dspy.training.recipes import Route
from tests.tiny import tiny_adapter, tiny_model


def task() -> Task:
    return Task(
        source=Rivers(),
        program=lambda resources: Answers(),
        judge=lambda resources: Polite(),
        metrics={"short": lambda example, prediction, trace=None: float(len(prediction.answer) < 9)},
        optimizers={
            "zero_shot": lambda resources, metric: None,
            "route": Route,
            "shown": lambda resources, metric: Shown(),
        },
        arms=("zero_shot", "shown"),
        noun="river",
    )


class Answers(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=str(self.answer(question=question).answer), abstained=False)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr("synth_dspy.pipeline.resources.open_embedder", lambda config: WordEmbedder())


def by_model(body: dict[str, Any]) -> str:
    """Models called good answer as the judge likes it."""
    answer = "answer" if "good" in body["model"] else "no"
    return f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Behaviour(respond=by_model)) as server:
        yield server


def compile_(folder: Path, models: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {"concurrency": 2, "retention": {"prompts": 0}, "synthesis": {"candidates": 0}, **settings}
    config = absolute(CompileConfig.model_validate({"models": models, **given}))
    run = Run("rivers", folder, in_memory=True)
    with Ledger(folder / "ledger.sqlite") as ledger:
        return Experiment(folder, complete(task()), config, run, ledger, Bars()).compile()


def test_compared_models_and_an_endpoint_are_arms_of_one_table_each_at_its_own_price(
    tmp_path: Path, server: Server
) -> None:
    with serving(Behaviour(respond=by_model)) as elsewhere:
        models: dict[str, Any] = {
            "student": "openai/poor",
            "teacher": "openai/poor",
            "compare": ["openai/good"],
            "api_base": server.url,
            "options": {
                "student": {"price": [0, 0]},
                "openai/good": {"price": [1e6, 0]},
                "openai/good-elsewhere": {"api_base": elsewhere.url},
            },
        }
        results, measurements = compile_(tmp_path, models, arm=["mine=openai/good-elsewhere"])
        arms = {arm["name"]: arm for arm in results["arms"]}
        assert list(arms) == ["zero_shot", "shown", "zero_shot (good)", "shown (good)", "mine"]
        assert [arm["scores"]["judged"]["mean"] for arm in arms.values()] == [0.0, 0.0, 1.0, 1.0, 1.0]
        assert len({arm["n"] for arm in arms.values()}) == 1
        assert [arm.get("model") for arm in arms.values()] == [
            *(None, None, "openai/good", "openai/good", "openai/good-elsewhere")
        ]
        compared = {(pair["arm"], pair["against"]) for pair in results["comparisons"]}
        assert {("zero_shot (good)", "zero_shot"), ("mine", "zero_shot")} <= compared
        cost = {name: arm["cost_usd_per_item"] for name, arm in measurements["arms"].items()}
        assert cost["zero_shot"] == 0 < cost["zero_shot (good)"]
        assert {request["model"] for request in elsewhere.requests} == {"good-elsewhere"}
        assert "on openai/good" in (tmp_path / "report.md").read_text()

        asked = len(server.requests), len(elsewhere.requests)
        first = (tmp_path / "results.json").read_bytes()
        compile_(tmp_path, models, arm=["mine=openai/good-elsewhere"])
        assert (len(server.requests), len(elsewhere.requests)) == asked
        assert (tmp_path / "results.json").read_bytes() == first

        program = load(tmp_path / "programs" / "shown (good)", program=task(), trust=True, api_base=server.url)
        assert program(question="Where does the Po end?").answer == "answer"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def embedded(base: Path) -> dict[str, Any]:
    options = {"student": {"max_tokens": 8}, "teacher": {"max_tokens": 8}}
    return {"student": f"embedded/{base}", "teacher": f"embedded/{base}", "options": options}


def test_adapters_made_elsewhere_are_arms_and_a_router_chooses_among_them(tmp_path: Path, base: Path) -> None:
    adapters = [tiny_adapter(tmp_path / f"adapter{seed}", base, seed=seed) for seed in (1, 2)]
    named = [f"{name}={folder}" for name, folder in zip(("first", "second"), adapters, strict=True)]
    run = tmp_path / "run"
    run.mkdir()
    settings: dict[str, Any] = {"arm": named, "evaluation": {"arms": ["route"]}}
    results, _ = compile_(run, embedded(base), **settings)
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert list(arms) == ["zero_shot", "first", "second", "route"]
    assert not any(arm["failed"] for arm in arms.values())
    assert "dev questions are too few to route by" in arms["route"]["description"]
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    answers = {arm: [row["prediction"] for row in rows if row["arm"] == arm] for arm in arms}
    assert answers["first"] != answers["zero_shot"] != answers["second"]
    assert answers["route"] in (answers["first"], answers["second"])
    assert "Whether first, second learned from held-out rivers is not recorded." in results["notes"]

    moved = run.rename(tmp_path / "moved")
    router = load(moved / "programs" / "route", program=task())
    row = next(row for row in rows if row["arm"] == "route")
    assert router(question=row["question"]).answer == row["prediction"]
    before, first = asked(moved), (moved / "results.json").read_bytes()
    compile_(moved, embedded(base), **settings)
    assert asked(moved) == before
    assert (moved / "results.json").read_bytes() == first


def asked(run: Path) -> list[str]:
    with Ledger(run / "ledger.sqlite") as ledger:
        return [call.key for call in ledger.calls()]


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ("shown={adapter}", "There is an arm shown already"),
        ("mine={adapter}/none", "The arm mine is in .*/none, where nothing is"),
        ("mine={wide}", "The arm mine cannot be made of .*wide.* is for another base: .* 64 x 64 here, and 96 x 96"),
    ],
)
def test_an_arm_that_cannot_be_made_is_an_error_before_any_call(
    tmp_path: Path, base: Path, arm: str, why: str
) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", base)
    wide = tiny_adapter(tmp_path / "wide", tiny_model(tmp_path / "other", hidden=96))
    (tmp_path / "run").mkdir()
    with pytest.raises(SetupError, match=why):
        compile_(tmp_path / "run", embedded(base), arm=[arm.format(adapter=adapter, wide=wide)])
    assert not asked(tmp_path / "run")


def test_an_adapter_needs_a_base_with_weights(tmp_path: Path, base: Path, server: Server) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", base)
    models = {"student": "openai/poor", "teacher": "openai/poor", "api_base": server.url}
    with pytest.raises(SetupError, match=r"The adapter mine needs the weights of its base: name them"):
        compile_(tmp_path, models, arm=[f"mine={adapter}"])
