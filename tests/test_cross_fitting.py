"""Few labels go far: every labelled question is held out once, and nothing is learned about it while it is."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import dspy
import numpy as np
import pytest
from embedders import WordEmbedder
from servers import Behaviour, Server, serving
from tiny import tiny_model

import synth_dspy
from synth_dspy import SetupError, Task
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.knowledge import Candidate, Item, Knowledge
from synth_dspy.evaluation import stats
from synth_dspy.pipeline import experiment
from synth_dspy.synthesis.pipeline import candidate_id

REPLY = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
CITIES = ("Bergen", "Cork", "Delft", "Essen", "Faro", "Graz")


class Triage(dspy.Signature):
    """Say what the ticket is about."""

    question: str = dspy.InputField()
    answer: Literal["card", "loan"] = dspy.OutputField()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    with serving(Behaviour(reply=REPLY)) as server:
        yield server


def hosted(server: Server, **more: Any) -> dict[str, Any]:
    models = {"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url}
    return {"models": models, "concurrency": 4, "retention": {"prompts": 0}, **more}


def tickets(number: int) -> list[dict[str, str]]:
    return [{"question": f"What about ticket {n}?", "answer": ("card", "loan")[n % 2]} for n in range(number)]


def compile_tickets(
    server: Server, folder: Path, settings: dict[str, Any], number: int = 24, **more: Any
) -> synth_dspy.Run:
    server.behaviour.reply = '{"answer": "card"}'
    given = {"program": dspy.Predict(Triage), "trainset": tickets(number), "workspace": folder}
    return synth_dspy.compile_task(**given, **settings, **more)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def results_of(run: synth_dspy.Run) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    return results


class Cities:
    """Six groups of five labelled questions, as a folder of few documents has them."""

    def read(self, limit: int | None = None) -> Knowledge:
        return Knowledge(
            [Item(f"{city}/1", city, f"{city} is a city.") for city in CITIES], [*map(question, range(30))]
        )


def question(n: int) -> dspy.Example:
    city = CITIES[n % 6]
    fields = {"id": f"gold-{n}", "group": city, "category": "", "origin": "gold", "answer_type": "", "spans": []}
    text = f"Question {n // 6} about {city}?"
    return dspy.Example(**fields, question=text, answer="card", references=["card"], passages="").with_inputs(
        "question"
    )


class Writes(dspy.Module):
    """Asks the teacher for a question about a city."""

    def __init__(self) -> None:
        super().__init__()
        self.write = dspy.Predict("city -> answer")

    def forward(self, item: Item) -> list[Candidate]:
        answer = self.write(city=item.group).answer
        fields = {"question": f"How old is {item.group}?", "answer": answer, "references": [answer], "answer_type": ""}
        return [Candidate(candidate_id(item), item, fields, "", ("question",))]


class Shows:
    """Every training row as a demonstration, and notes what it was given."""

    given: ClassVar[list[tuple[set[str], set[str]]]] = []
    ends: ClassVar[int | None] = None

    def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
        self.given.append(({row.group for row in trainset}, {row.group for row in valset}))
        if len(self.given) == self.ends:
            raise KeyboardInterrupt
        for predictor in student.predictors():
            predictor.demos = [dspy.Example(question=row.question, answer=row.answer) for row in trainset]
        return student


class Failing(Shows):
    """As `Shows`, but fails whenever Bergen is learned from."""

    def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
        if "Bergen" not in {row.group for row in trainset}:
            raise synth_dspy.SynthDspyError("there is no Bergen")
        return student


def cities(optimizer: type[Shows] = Shows) -> Task:
    Shows.given = []
    return Task(
        source=Cities(),
        program=dspy.Predict("question -> answer"),
        synthesizer=lambda resources: Writes(),
        optimizers={"zero_shot": lambda resources, metric: None, "shown": lambda resources, metric: optimizer()},
        noun="town",
    )


def test_every_row_is_scored_once_by_programs_that_have_not_seen_it(server: Server, tmp_path: Path) -> None:
    settings = hosted(server, arms=["bootstrap"], splits={"folds": 4})
    run = compile_tickets(server, tmp_path, settings)
    predictions = rows_of(run.folder / "predictions.jsonl")
    for arm in ("zero_shot", "bootstrap"):
        assert Counter(row["id"] for row in predictions if row["arm"] == arm) == dict.fromkeys(
            {row["id"] for row in predictions}, 1
        )
        assert run.results[arm].score.n == 24
    assert Counter(row["fold"] for row in predictions if row["arm"] == "bootstrap") == {1: 6, 2: 6, 3: 6, 4: 6}
    for fold in (run.folder / "folds").iterdir():
        test, train, dev = (rows_of(fold / "datasets" / f"{name}.jsonl") for name in ("test", "train", "dev"))
        assert Counter(row["answer"] for row in test) == {"card": 3, "loan": 3}, "stratified by label"
        held_out = {row["question"] for row in test}
        assert not held_out & {row["question"] for row in [*train, *dev]}
        program = (fold / "programs" / "bootstrap" / "program.json").read_text(encoding="utf-8")
        assert '"demos": []' not in program
        assert not [each for each in held_out if each in program]
        learned = synth_dspy.load(fold / "programs" / "bootstrap", program=dspy.Predict(Triage))
        assert learned(question="What?").answer == "card"
    # What the run ends with has learned from all labels, and the report says that nobody scored it.
    assert run.arms == ["bootstrap", "zero_shot"]
    learned_from = {row["id"] for name in ("train", "dev") for row in rows_of(run.folder / f"datasets/{name}.jsonl")}
    assert learned_from == {row["id"] for row in predictions}
    assert not rows_of(run.folder / "datasets" / "test.jsonl")
    assert run.program("bootstrap")(question="What?").answer == "card"
    report = run.report.read_text(encoding="utf-8")
    assert "Scored by 4-fold cross-fitting" in report
    assert "were not themselves scored" in report
    asked, first = len(server.requests), (run.folder / "results.json").read_bytes()
    compile_tickets(server, tmp_path, {}, resume=run.folder)
    assert len(server.requests) - asked <= 2, "the models were tried, and no answered call was made again"
    assert (run.folder / "results.json").read_bytes() == first


def test_no_group_that_is_held_out_is_learned_from_chosen_on_or_written_about(server: Server, tmp_path: Path) -> None:
    run = synth_dspy.compile_task(cities(), workspace=tmp_path, **hosted(server, splits={"folds": 6}))
    results = results_of(run)
    assert results["items"]["n"] == 30
    assert [fold["test"] for fold in results["folds"]] == [5] * 6
    held_out = [set(fold["groups"]) for fold in results["folds"]]
    assert sorted(city for fold in held_out for city in fold) == sorted(CITIES)
    *folds, last = Shows.given
    for fold, (train, dev) in zip(held_out, folds, strict=True):
        assert not fold & (train | dev)
        assert train | dev == set(CITIES) - fold
        assert not train & dev
    assert len({frozenset(dev) for _, dev in folds}) > 1, "the same groups are not chosen on in every fold"
    assert last[0] | last[1] == set(CITIES)
    for number, fold in enumerate(held_out, start=1):
        train = rows_of(run.folder / "folds" / str(number) / "datasets" / "train.jsonl")
        synthetic = {row["group"] for row in train if row["origin"] == "synthetic"}
        assert synthetic
        assert not synthetic & fold
        candidates = rows_of(run.folder / "folds" / str(number) / "datasets" / "candidates-train.jsonl")
        assert not {row["group"] for row in candidates} & fold
    # What is written about a city is written once, whichever folds learn from it.
    written = [body for body in map(json.dumps, server.requests) if "## city ##" in body and "How old" not in body]
    assert written
    assert max(Counter(written).values()) == 1
    # Six cities are six units, not thirty.
    assert (results["method"]["unit"], results["method"]["groups"]) == ("groups", 6)
    assert "jackknife" in results["method"]["interval"]
    assert {c["units"] for c in results["comparisons"]} <= {6, 30}


def test_a_run_that_is_stopped_in_its_third_fold_goes_on_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shows, "ends", 3)
    settings = hosted(server, splits={"folds": 5}, name="cities")
    with pytest.raises(KeyboardInterrupt, match="no answered call is lost"):
        synth_dspy.compile_task(cities(), workspace=tmp_path, **settings)
    (folder,) = (tmp_path / "runs" / "cities").glob("*-*")
    monkeypatch.setattr(Shows, "ends", None)
    run = synth_dspy.compile_task(cities(), workspace=tmp_path, name="cities", resume=folder)
    assert results_of(run)["items"]["n"] == 30
    again = Counter(map(json.dumps, server.requests))
    assert sum(times - 1 for times in again.values()) <= 2, "the models were tried, and no answered call was made again"


def test_an_arm_that_fails_in_some_folds_is_scored_in_the_others(server: Server, tmp_path: Path) -> None:
    run = synth_dspy.compile_task(cities(Failing), workspace=tmp_path, **hosted(server, splits={"folds": 6}))
    results = results_of(run)
    arms = {arm["name"]: arm for arm in results["arms"]}
    failed = [fold["test"] for fold in results["folds"] if "Bergen" in fold["groups"]]
    assert 0 < arms["shown"]["n"] <= 30 - sum(failed)
    assert arms["shown"]["failed"] is None
    assert [note for note in results["notes"] if re.search(r"shown could not be made in folds? .*no Bergen", note)]


@pytest.mark.parametrize(
    ("folds", "sentence"),
    [(7, r"Of 6 towns with .* no 7 folds .*set --splits\.folds to 6 or less"), (0, r"splits\.folds")],
)
def test_folds_that_cannot_be_are_refused_before_a_model_is_asked(
    server: Server, tmp_path: Path, folds: int, sentence: str
) -> None:
    with pytest.raises(SetupError, match=sentence):
        synth_dspy.compile_task(cities(), workspace=tmp_path, **hosted(server, splits={"folds": folds}))
    assert not server.requests


@pytest.fixture
def embedded(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Settings of models on this machine, in whose place the server answers."""
    hosted_role = experiment.open_role
    here = CompileConfig.model_validate(hosted(server))
    monkeypatch.setattr(experiment, "open_role", lambda config, *more: hosted_role(here, *more))
    model = f"embedded/{tiny_model(tmp_path / 'tiny')}"
    return {"models": {"student": model, "teacher": model}, "retention": {"prompts": 0}, "arms": ["bootstrap"]}


@pytest.mark.parametrize(
    ("number", "more", "scored"),
    [
        (36, {}, 36),  # a single split would hold out 8
        (24, {}, 6),  # no more can be had of these than too few
        (160, {}, 40),
        (36, {"splits": {"folds": 1}}, 8),
        (36, {"quick": True}, 8),
        (36, {"evaluation": {"held_out": 12}}, 8),
        (36, {"training": {"minutes": 1e-6}}, 8),
    ],
)
def test_few_labels_are_cross_fitted_where_the_time_allows(
    server: Server,
    embedded: dict[str, Any],
    tmp_path: Path,
    capsys: Any,
    number: int,
    more: dict[str, Any],
    scored: int,
) -> None:
    run = compile_tickets(server, tmp_path, {**embedded, **more}, number)
    assert results_of(run)["items"]["n"] == scored
    shown = re.search(
        r"Cross-fitting in 5 folds over 36 rows: .* What it takes is in the plan", capsys.readouterr().err
    )
    assert bool(shown) is (scored == 36)
    report = (run.folder / "report.md").read_text(encoding="utf-8")
    assert ("by cross-fitting: 36 are scored, not 8" in report) is ("training" in more)


def test_where_all_folds_would_take_long_there_are_fewer(
    server: Server, embedded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synth_dspy.pipeline.folds.SOON", 0.0)
    results = results_of(compile_tickets(server, tmp_path, embedded, 36))
    assert (results["items"]["n"], [fold["test"] for fold in results["folds"]]) == (36, [18, 18])


def test_hosted_models_are_not_paid_for_unless_asked(server: Server, tmp_path: Path) -> None:
    run = compile_tickets(server, tmp_path, hosted(server, arms=["bootstrap"]), 36)
    assert results_of(run)["items"]["n"] == 8
    assert ", splits={'folds': 5})" in (run.folder / "report.md").read_text(encoding="utf-8")


def drawn(rng: np.random.Generator, groups: int, items: int, spread: float, folds: float) -> tuple[Any, Any]:
    """Scores in [0, 1] of items in groups that differ, by programs of five folds that differ; their mean is 0.5."""
    group = np.arange(groups * items) % groups
    chance = 0.5 + rng.uniform(-spread, spread, groups)[group] + rng.normal(0, folds, 5)[group % 5]
    return (rng.random(group.size) < chance).astype(float), group


@pytest.mark.parametrize(("groups", "items"), [(4, 8), (6, 5), (9, 4)])
def test_intervals_of_few_groups_cover_the_mean_where_those_over_items_do_not(groups: int, items: int) -> None:
    rng, hits = np.random.default_rng(5), Counter[str]()
    for _ in range(400):
        scores, group = drawn(rng, groups, items, 0.45, 0.05)
        for unit, few in (("groups", True), ("items", False)):
            e = stats.estimate(scores.tolist(), group.tolist(), resamples=500, few_groups=few)
            assert e.unit == unit
            hits[unit] += (e.low or 0) <= 0.5 <= (e.high or 0)
    assert hits["groups"] >= 0.92 * 400
    assert hits["items"] < hits["groups"]


@pytest.mark.parametrize(("groups", "items"), [(6, 5), (40, 1)])
def test_two_arms_that_are_alike_are_seldom_told_apart(groups: int, items: int) -> None:
    """Each arm's programs differ from fold to fold by as much as 5 points, and from group to group."""
    rng, p = np.random.default_rng(6), []
    for _ in range(400):
        ours, group = drawn(rng, groups, items, 0.3, 0.05)
        theirs, _ = drawn(rng, groups, items, 0.3, 0.05)
        p.append(stats.compare(ours.tolist(), theirs.tolist(), group.tolist(), resamples=100, few_groups=True).p or 0.0)
    assert np.mean(np.asarray(p) < 0.05) <= 0.075


def test_a_large_difference_shows_in_six_groups() -> None:
    """Sign flips of six groups have no p value below 1/32, so nothing would survive a correction."""
    rng, shown = np.random.default_rng(7), 0
    for _ in range(100):
        group = np.arange(30) % 6
        ours, theirs = (rng.random(30) < 0.8).astype(float), (rng.random(30) < 0.2).astype(float)
        compared = stats.compare(
            ours.tolist(), theirs.tolist(), group.tolist(), tests=3, resamples=100, few_groups=True
        )
        assert compared.difference.units in (6, 30)
        shown += 3 * (compared.p or 1.0) < 0.05
    assert shown >= 70


@pytest.mark.slow
def test_weights_are_trained_once_a_fold_and_on_all_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny real model: stopped after its first fold, the run trains only what is left."""
    base = f"embedded/{tiny_model(tmp_path / 'tiny')}"
    settings = {
        "models": {"student": base, "teacher": base, "options": {"student": {"max_tokens": 8}}},
        "arms": ["sft"],
        "splits": {"folds": 2},
        "retention": {"prompts": 0},
        "training": {"options": {"sft": {"parity": 0.0, "examples": 4, "epochs": 1}}},
    }
    whole, folds = experiment.compile_arms, []

    def once(*given: Any) -> Any:
        folds.append(given)
        if len(folds) > 1:
            raise KeyboardInterrupt
        return whole(*given)

    given = {"program": dspy.Predict("question -> answer"), "trainset": tickets(6), "workspace": tmp_path}
    monkeypatch.setattr(experiment, "compile_arms", once)
    with pytest.raises(KeyboardInterrupt):
        synth_dspy.compile_task(**given, **settings)
    monkeypatch.undo()
    (first,) = (tmp_path / "runs").glob("*/*/adapters/sft-*/result.json")
    began = first.stat().st_mtime_ns
    run = synth_dspy.compile_task(**given, resume=first.parents[2])
    assert first.stat().st_mtime_ns == began
    assert len(list(run.folder.glob("adapters/sft-*/result.json"))) == 3
    assert run.results["sft"].score.n == run.results["zero_shot"].score.n == 6
    learned = [rows_of(path) for path in run.folder.glob("adapters/sft-*/rows.jsonl")]
    assert len({json.dumps(rows) for rows in learned}) == 3
    assert {predictor.lm.model for predictor in run.program("sft").predictors()} <= {
        f"embedded/{path}"
        for path in run.folder.resolve().glob("adapters/sft-*/*")
        if path not in first.parent.iterdir()
    }
