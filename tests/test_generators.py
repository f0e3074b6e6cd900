"""Several generators in one run: compared models, arms made elsewhere, merged adapters, a router."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import dspy
import numpy as np
import pytest
from embedders import WordEmbedder
from pydantic import ValidationError
from servers import Behaviour, Server, serving

from synth_dspy.core.config import CompileConfig, absolute
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run
from synth_dspy.core.task import Task
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.models.embedded.pool import pool
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.defaults import complete
from synth_dspy.pipeline.experiment import Experiment
from synth_dspy.pipeline.saved import load
from synth_dspy.training.adapters import BASE, CONFIG, WEIGHTS, modules, read_adapter_config, scaling
from synth_dspy.training.merged_adapter import SOURCES, How, learned_ids, merge_adapters
from synth_dspy.training.recipes import Route
from synth_dspy.training.recipes.route import Router
from tests.test_experiment import Polite, Rivers, Shown
from tests.tiny import tiny_adapter, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


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
        with dspy.context(adapter=PlainAdapter()):
            return dspy.Prediction(answer=str(self.answer(question=question).answer), abstained=False)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr("synth_dspy.pipeline.resources.open_embedder", lambda config: WordEmbedder())


@pytest.fixture(autouse=True, scope="module")
def _unloaded() -> Iterator[None]:
    yield
    pool().close()


def by_model(body: dict[str, Any]) -> str:
    """Models called good answer as the judge likes it."""
    return "answer" if "good" in body["model"] else "no"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Behaviour(respond=by_model)) as server:
        yield server


def compile_(folder: Path, models: dict[str, Any], **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {"concurrency": 2, "retention": {"prompts": 0}, "synthesis": {"candidates": 0}, **settings}
    config = absolute(CompileConfig.model_validate({"models": models, **given}))
    run = Run("rivers", folder, in_memory=True)
    with Ledger(folder / "ledger.sqlite") as ledger:
        return Experiment(folder.parent, complete(task()), config, run, ledger, Bars()).compile()


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
    router = load(moved / "programs" / "route", program=task(), workspace=tmp_path)
    row = next(row for row in rows if row["arm"] == "route")
    assert router(question=row["question"]).answer == row["prediction"]
    before, first = asked(moved), (moved / "results.json").read_bytes()
    compile_(moved, embedded(base), **settings)
    assert asked(moved) == before
    assert (moved / "results.json").read_bytes() == first


def asked(run: Path) -> list[str]:
    with Ledger(run / "ledger.sqlite") as ledger:
        return [call.key for call in ledger.calls()]


def trained(folder: Path, base: Path, seed: int, rank: int = 4, rows: str = "a", **adapter: Any) -> Path:
    """A finished training as `merge` reads it."""
    tiny_adapter(folder / "adapter", base, seed=seed, rank=rank, **adapter)
    (folder / "adapter" / "base.json").write_text(json.dumps({"fingerprint": base.name}))
    spec = {"method": "sft", "model": str(base), "rows": "rows.jsonl"}
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "rows.jsonl").write_text(json.dumps({"id": "1", "source": f"gold-{rows}"}) + "\n")
    return folder


def change(adapter: Path) -> dict[str, Any]:
    config = read_adapter_config(adapter)
    return {name: b @ a * scaling(config, name, len(a)) for name, (a, b) in modules(adapter).items()}


def test_merged_adapters_change_the_base_as_their_weights_say_and_name_what_they_learned_from(
    tmp_path: Path, base: Path
) -> None:
    trainings = [trained(tmp_path / "x", base, 1, rank=4, rows="x"), trained(tmp_path / "y", base, 2, rank=8, rows="y")]
    alone = merge_adapters(trainings, tmp_path / "alone", weights=(1.0, 0.0))
    for name, delta in change(trainings[0] / "adapter").items():
        np.testing.assert_allclose(change(alone)[name], delta, atol=1e-5)
    both = {how: change(merge_adapters(trainings, tmp_path / how, how)) for how in get_args(How)}
    first = {how: next(iter(changes.values())) for how, changes in both.items()}
    assert all(np.isfinite(delta).all() and delta.any() for delta in first.values())
    assert not any(np.allclose(first["linear"], first[how]) for how in first if how != "linear")
    again = merge_adapters(trainings, tmp_path / "again", "dare_ties")
    assert (again / WEIGHTS).read_bytes() == (tmp_path / "dare_ties" / WEIGHTS).read_bytes()
    assert learned_ids(again) == {"gold-x", "gold-y"}
    assert {path.name for path in again.iterdir()} == {CONFIG, WEIGHTS, BASE, SOURCES}


def test_adapters_that_do_not_go_together_are_not_merged(tmp_path: Path, base: Path) -> None:
    other = tiny_model(tmp_path / "other", seed=5)
    mine, theirs = trained(tmp_path / "mine", base, 1), trained(tmp_path / "theirs", other, 2)
    fewer = trained(tmp_path / "fewer", base, 3, targets=("q_proj",))
    for second, why in (
        (theirs, "mine and theirs were trained on different bases"),
        (fewer, "change different modules"),
    ):
        with pytest.raises(SetupError, match=why):
            merge_adapters([mine, second], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ("shown={adapter}", "There is an arm shown already"),
        ("mine={adapter}/none", "The arm mine is in .*/none, where nothing is"),
        ("mine={wide}", "--arm mine=.*wide: The adapter .* is for another base: .* 64 x 128 here, and 96 x 192"),
    ],
)
def test_an_arm_that_cannot_be_made_is_an_error_before_any_call(tmp_path: Path, base: Path, arm: str, why: str) -> None:
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


def test_a_router_sends_a_question_where_its_like_were_answered_best() -> None:
    rivers, wars = [f"Where does river {n} end?" for n in range(10)], [f"Which year was war {n}?" for n in range(10)]
    scores = [[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10
    router = Router(["geography", "history"], rivers + wars, scores, WordEmbedder())
    assert router.choose("Where does the river Po end?") == "geography"
    assert router.choose("Which year was the war of the roses?") == "history"
    few = Router(["geography", "history"], rivers[:2] + wars[:3], scores[:2] + scores[-3:], WordEmbedder())
    assert few.choose("Where does the river Po end?") == "history"
    assert "5 dev questions are too few" in few.describe()
    contradictory = [[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10
    chance = Router(["first", "second"], rivers + rivers, contradictory, WordEmbedder())
    assert {chance.choose(question) for question in rivers} == {"first"}
    assert "does not beat it" in chance.describe()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"arm": ["mine"]}, "'mine' is not NAME=WHERE"),
        ({"arm": ["../x=openai/a"]}, "is not NAME=WHERE"),
        ({"arm": ["a=openai/a", "a=openai/b"]}, "two arms are called a"),
        ({"models": {"options": {"openai/b": {"seed": 1}}}}, "openai/b, which is not one of the compared models"),
    ],
)
def test_settings_of_further_models_are_checked(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CompileConfig.model_validate(settings)


def test_a_model_is_not_compared_with_itself(tmp_path: Path, server: Server) -> None:
    models = {"student": "openai/poor", "teacher": "openai/poor", "compare": ["openai/poor"], "api_base": server.url}
    with pytest.raises(SetupError, match="openai/poor is compared with itself"):
        compile_(tmp_path, models)
