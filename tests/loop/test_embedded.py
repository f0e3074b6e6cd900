"""Three whole cycles are rehearsed with a model that answers: a loopback server, or the embedded one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from production import TASK, TEAMS, production, saying
from tiny import tiny_model

from synth_dspy.cli import rehearse as cli
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.workspace import task_file
from synth_dspy.loop.records import Request
from synth_dspy.loop.rehearsal.amend import amend, numbers
from synth_dspy.loop.rehearsal.curve import Curve, write_curve
from synth_dspy.loop.rehearsal.embedded import STATE, Rehearsal, Scale
from synth_dspy.loop.rehearsal.embedded_report import write_report
from synth_dspy.loop.rehearsal.users import Users
from synth_dspy.loop.rehearsal.worlds import AMENDED, ASKED, LABELLED, LAUNCHED, DocumentWorld, RowWorld, make_world
from synth_dspy.models.weights.trained import SPEC
from synth_dspy.pipeline.saved import build_task

HERE = Path(__file__).parents[2]
SHOWN = (
    TASK.replace("def tickets", "def shown").replace(
        "source=Rows(rows))",
        "source=Rows(rows), optimizers={'as_is': lambda r, m: None, 'shows': lambda r, m: Shows()})",
    )
    + """

class Shows:
    def compile(self, student, *, trainset, valset):
        compiled = student.deepcopy()
        compiled.predictors()[0].demos = list(trainset)[::3]
        return compiled
"""
)
"""The task with an arm that shows labelled examples."""
SCALE = Scale(reference=96, patience=192, requests=32, after=8, new=0.8, slice_items=60)
PEOPLE = Users(rated=1.0, noise=0.0)


def attentive(kinds: frozenset[str], later: frozenset[str]) -> Callable[[dict[str, Any]], str]:
    """A model that answers as the examples in the prompt do, and is always wrong about what they do not show."""

    def respond(body: dict[str, Any]) -> str:
        learned: dict[str, str] = {}
        about = ""
        for message in body["messages"]:
            asked = re.findall(r"It is about my (\w+)", str(message["content"]))
            answered = re.findall(r"\b(?:billing|card|login)\b", str(message["content"]))
            if message["role"] == "assistant" and answered:
                learned[about] = answered[-1]
            about = asked[-1] if asked else about
        return json.dumps({"team": learned.get(about, min(later if about in kinds else kinds))})

    return respond


def rehearsal(task: Any, rows: int = 150, models: Any = None, teams: Sequence[str] = TEAMS, **more: Any) -> Rehearsal:
    (task.here / "programs" / "shown.py").write_text(SHOWN)
    named = [teams[n % len(teams)] for n in range(rows)]
    lines = [{"text": f"Case {n}. It is about my {team}.", "team": team} for n, team in enumerate(named)]
    (task.here / "data" / "tickets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = compile_settings(task_file(task.here, "shown")).model_validate(
        {
            "models": {
                **dict.fromkeys(("student", "teacher", "embedder"), "openai/mock"),
                "api_base": task.server.url,
                **(models or {}),
            },
            "concurrency": 8,
        }
    )
    options: dict[str, Any] = {"users": PEOPLE, "scale": SCALE, "arms": ("shows",), "say": lambda text: None}
    return Rehearsal(task.here, "shown", config, task.here / "rehearsal", **{**options, **more})


def test_three_cycles_with_a_model_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path, rows=9) as task:
        made = rehearsal(task)
        task.server.behaviour.respond = attentive(made.world.kinds, made.world.later)
        told = 0

        def dies(text: str) -> None:
            nonlocal told
            told += "noticed after" in text
            if told:
                raise KeyboardInterrupt

        made.say = dies
        with pytest.raises(KeyboardInterrupt):
            made.run()
        asked = made.work.registry.store.count(Request)
        again = rehearsal(task)
        amended, new, bad = again.run()
        assert again.work.registry.store.count(Request) > asked
        assert amended.noticed.startswith(f"{len(again.world.rows('labelled', AMENDED))} documents changed")
        assert amended.versions == ["v1", "v1", "v2"], amended.ended
        assert amended.states[-2:] == ["watched", "closed"]
        assert amended.gain is not None
        assert amended.gain["low"] > 0
        assert new.noticed
        assert new.versions == ["v2", "v2", "v3"], (new.noticed, new.ended)
        assert new.held_out[2]["mean"] > new.held_out[1]["mean"]
        assert bad.versions == ["v3", "v1", "v3"]
        assert bad.states == ["opened", "promoted", "rolled_back", "closed"]
        assert "fell below" in bad.noticed
        moves = again.work.registry.moves("champion")
        assert Counter(each.by for each in moves) == {"person:rehearsal": 2, "loop": 2, "watch": 1}
        html, markdown, state = (path.read_text(encoding="utf-8") for path in write_report(again))
        assert "questions of new kinds" in html
        assert "| a bad version is promoted by hand |" in markdown
        assert [each["phase"] for each in json.loads(state)["rounds"]] == ["done"] * 3
        with pytest.raises(SetupError, match="with other settings"):
            rehearsal(task, seed=1)


def test_rows_are_dealt_and_change_their_labels(tmp_path: Path) -> None:
    with production(tmp_path, rows=9) as task:
        world = rehearsal(task, rows=90).world
        assert isinstance(world, RowWorld)
        parts = [{row["id"] for row in world.rows(part, LABELLED)} for part in ("labelled", "asked", "held_out")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 90
        before, after = world.rows("held_out", LAUNCHED), world.rows("held_out", AMENDED)
        assert [row["text"] for row in before] == [row["text"] for row in after]
        assert any(a["team"] != b["team"] for a, b in zip(before, after, strict=True))
        assert {row["team"] for row in world.rows("labelled", ASKED)} <= world.kinds
        assert {row["team"] for row in world.rows("asked", ASKED)} > world.kinds
        world = rehearsal(task, rows=90, teams=TEAMS[:2]).world
        before, after = world.rows("held_out", LAUNCHED), world.rows("held_out", AMENDED)
        assert before
        assert all(a["team"] != b["team"] for a, b in zip(before, after, strict=True)), "two labels change places"
        with pytest.raises(SetupError, match="at least 40, and the task has 9"):
            rehearsal(task, rows=9)


def test_amended_documents_and_their_labels_agree(tmp_path: Path) -> None:
    config = compile_settings(task_file(HERE, "contract_qa"))()
    world = make_world(build_task(HERE, "contract_qa", config), config, tmp_path)
    assert isinstance(world, DocumentWorld)
    read = {}
    for stage in (LAUNCHED, AMENDED, LABELLED):
        world.write(stage)
        source = build_task(HERE, "contract_qa", world.configured(config)).source
        read[stage] = source.read(None)  # which looks every span up in its document
    texts = {stage: {each.id: each.text for each in knowledge.documents} for stage, knowledge in read.items()}
    changed = {name for name, text in texts[LAUNCHED].items() if texts[AMENDED][name] != text}
    assert changed == world.amended
    assert texts[AMENDED] == texts[LABELLED]
    answers = [[each.references for each in read[stage].labelled] for stage in (LAUNCHED, AMENDED)]
    assert sum(a != b for a, b in zip(*answers, strict=True)) > len(answers[0]) / 4
    assert len(read[LABELLED].labelled) > len(read[AMENDED].labelled)


def test_numbers_change_in_digits_and_in_words() -> None:
    text = "Thirty (30) days, EUR 2,000 until 31 March 2027; clause 7.4, twenty-one units, one copy, Unit B2."
    changed = numbers(["30 days", "EUR 2,000", "31 March 2027", "twenty-one"])
    assert amend(text, changed) == (
        "Twenty-one (21) days, EUR 2,400 until 22 March 2028; clause 7.4, twelve units, one copy, Unit B2."
    )


def test_a_task_that_cannot_be_rehearsed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(SetupError, match="needs the settings `documents` and `labelled`"):
        cli.main(["scoped_assistant", "--embedded", "--out", str(tmp_path)])


def test_points_of_other_settings_are_not_kept_and_failed_ones_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path, rows=9) as task:
        failing = Curve(rehearsal(task, rows=60))
        assert failing.run(sizes=(8,), methods=("sft", "kto")) == []
        assert [each.split(" the weights")[0] for each in failing.missing] == [
            f"{method} with 8 records: No weights can be trained:" for method in ("sft", "kto")
        ]
        with pytest.raises(SetupError, match="holds a rehearsal with other settings"):
            rehearsal(task, rows=60, seed=1)  # the records are of another deal
        with pytest.raises(SetupError, match="holds a rehearsal with other settings"):
            rehearsal(task, rows=60, models={"student": "openai/other"})
        (task.here / "rehearsal" / STATE).unlink()
        with pytest.raises(SetupError, match="holds a rehearsal with other settings"):
            rehearsal(task, rows=60)  # nobody knows with which
        failing.rehearsal.launch()
        monkeypatch.setattr("synth_dspy.loop.rehearsal.curve.train", lambda program, method, rows, **options: program)
        again = Curve(rehearsal(task, rows=60))
        (point,) = again.run(sizes=(8,), methods=("sft",))
        assert (point.method, point.gain.mean, again.missing) == ("sft", 0.0, [])
        lines = [json.loads(line) for line in (again.folder / "points.jsonl").read_text().splitlines()]
        assert [(line["method"], "failed" in line) for line in lines] == [("kto", True), ("sft", False)]


@pytest.mark.parametrize(
    ("args", "needed"),
    [
        (["--curve"], "--curve needs --embedded:"),
        (["--arms", "dpo"], "--arms needs --embedded:"),
        (["--config", "x.toml"], "--config needs --embedded:"),
        (["--sizes", "8"], "--sizes needs --embedded and --curve:"),
        (["--embedded", "--methods", "sft"], "--methods needs --embedded and --curve:"),
        (["--embedded", "--seeds", "3"], "in place of --seeds, run it with another --first-seed"),
        (["--embedded", "--only", "nothing"], "--only is a setting of drawn scores"),
        (["--only", "nothin"], "no event or challenger 'nothin': did you mean nothing"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    args: list[str], needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(SetupError, match=needed):
        cli.main(["contract_qa", *args])


def test_people_rate_by_the_judge_that_the_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graded = SHOWN.replace("import dspy\n", "import dspy\nfrom synth_dspy.evaluation.judges import make_judge\n")
    monkeypatch.setitem(globals(), "SHOWN", graded.replace("Rows(rows), ", "Rows(rows), judge=make_judge, "))
    with production(tmp_path, rows=9) as task:
        judged: list[str] = []

        def respond(body: dict[str, Any]) -> str:
            if body["model"] != "fond":
                return json.dumps({"team": "card"})
            judged.append(json.dumps(body["messages"]))
            return "[[ ## score ## ]]\n1.0\n\n[[ ## completed ## ]]"

        task.server.behaviour.respond = respond
        made = rehearsal(task, rows=60, models={"judge": "openai/fond"})
        made.launch()
        assert made.desk.judge.name == "factuality (openai/fond)"
        examples, launched = made.examples("asked", LABELLED), len(judged)
        rows = made.desk.predict("base", made.first_program(), examples)
        assert {row["prediction"] for row in rows} == {"card"}
        assert {row["references"][0] for row in rows} > {"card"}
        assert all(map(made.desk.is_right, rows))
        asked = len(judged) - launched
        assert 0 < asked <= len(rows)
        made.desk.predict("base", made.first_program(), examples)
        assert len(judged) == launched + asked  # the ledger has these verdicts


@pytest.mark.slow
def test_methods_are_trained_on_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path, rows=9):
        own = TASK.replace("def tickets", "def own").replace(
            "source=Rows(rows))",
            "source=Rows(rows), optimizers={'as_is': lambda r, m: None, 'sft': LoraSft.with_settings(sft=SETTINGS)})",
        )
        imports = "from synth_dspy.training.recipes import LoraSft\nSETTINGS = {'examples': 5, 'warmup_steps': 1}\n"
        (tmp_path / "programs" / "own.py").write_text(own.replace("import dspy\n", f"import dspy\n{imports}"))
        lines = "".join(json.dumps(saying(n)) + "\n" for n in range(60))
        (tmp_path / "data" / "tickets.jsonl").write_text(lines)
        model = f"embedded/{tiny_model(tmp_path / 'tiny')}"
        config = compile_settings(task_file(tmp_path, "own")).model_validate(
            {
                "models": {"student": model, "options": {"student": {"max_tokens": 32}}},
                "training": {"options": {"sft": {"learning_rate": 3e-4}, "grpo": {"generations": 3}}},
            }
        )
        made = Rehearsal(tmp_path, "own", config, tmp_path / "curve", say=lambda text: None)
        curve = Curve(made)
        points = curve.run(sizes=(8, 512), methods=("sft", "grpo"))
        assert [(point.method, point.records, point.rows) for point in points] == [
            (each, 8, 8) for each in ("sft", "grpo")
        ]
        assert all(point.gain.mean is not None and point.seconds for point in points)
        assert curve.missing == ["Not run: 512 records; there are 48."]
        again = Curve(made)
        assert again.run(sizes=(8,), methods=("sft", "grpo")) == points  # kept, not trained again
        assert "| sft | 8 | 0 | 8 |" in write_curve(again)[1].read_text(encoding="utf-8")
        specs = {spec["method"]: spec for spec in map(read_json_object, (tmp_path / "curve" / "adapters").rglob(SPEC))}
        shown = [specs["sft"][name] for name in ("warmup_steps", "learning_rate", "epochs")]
        assert shown == [1, 3e-4, 1]  # of the task, of the run, of the recipe
        assert specs["grpo"]["generations"] == 3
