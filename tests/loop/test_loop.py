"""A task in production goes through whole cycles: retrained, compared, approved, tried on traffic, rolled back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from production import Production, learner, production, saying
from sqlalchemy.exc import OperationalError

from synth_dspy.cli import loop as cli
from synth_dspy.cli import promote, rollback
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.io.locks import lock_file
from synth_dspy.core.workspace import task_file
from synth_dspy.loop import live, mlflow, watch
from synth_dspy.loop.cycle import STATES, Cycle, Cycles
from synth_dspy.loop.records import AliasMove, Transition, shadow_of
from synth_dspy.loop.steps import make_steps
from synth_dspy.loop.turn import LOCK, Loop
from synth_dspy.loop.work import read_program
from synth_dspy.pipeline.compile import start
from synth_dspy.pipeline.context import QUICK
from synth_dspy.pipeline.tracking import VARIABLE
from synth_dspy.pipeline.trust import Caller


def twice(loop: Loop) -> Loop:
    """The loop, each of whose steps is done twice, as by a process killed just before its transition was kept."""

    def again(step: Any) -> Any:
        def run(cycle: Cycle) -> Any:
            step(cycle)
            return step(cycle)

        return run

    steps = {state: again(step) for state, step in make_steps(loop.work).items()}
    loop.cycles = Cycles(loop.work.registry.store, steps)
    return loop


def test_from_changed_data_to_a_new_champion_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        assert task.loop().turn() is None  # nothing changed
        rated = task.ask("v1", count=24)
        task.rate(rated, "correction", "login")
        task.write(72)
        asked = len(task.server.requests)
        cycle = twice(task.loop(requests=20)).turn()
        assert cycle is not None
        assert cycle.state == "waiting", cycle.transitions[-1].reason
        assert cycle.reason.startswith("12 documents added (t60, t61, t62, and 9 more)")
        memory = cycle.memory
        assert memory["verdict"] == "promote"
        assert memory["held_out"] > 0
        # Each correction is a preference, a good and a bad answer; a third of the questions is kept for scoring.
        assert memory["labelled_items"] + memory["feedback_rows"] / 3 == 24
        assert memory["labelled"] == memory["labelled_items"] > 0
        version = task.registry.version("v2")
        assert (version.arm, version.parent, version.note) == ("bootstrap", "v1", "cycle c1")
        assert version.data["documents"] != task.registry.version("v1").data["documents"]
        learned = {row["text"] for row in map(json.loads, (Path(version.run) / "datasets/train.jsonl").open())}
        scored = {row["text"] for row in map(json.loads, (Path(version.run) / "datasets/test.jsonl").open())}
        assert not learned & scored
        calls = len(task.server.requests)
        assert calls > asked
        assert task.loop(requests=20).turn() == cycle  # it waits
        assert len(task.server.requests) == calls

        cli.main(["approve", "tickets", "--by", "ann", "--reason", "looks right"])
        cycle = twice(task.loop(requests=20)).turn()
        assert cycle is not None
        assert (cycle.state, task.registry.alias("challenger")) == ("shadow", "v2")
        for answer in task.ask("v1"):
            task.registry.store.add(replace(answer, id=shadow_of(answer.id), version="v2", route="shadow"))
        cycle = twice(task.loop(requests=20)).turn()
        assert cycle is not None
        assert cycle.state == "share"
        move = task.registry.moves("challenger")[-1]
        assert move.evidence == {"cycle": "c1", "share": 0.2}
        task.rate(task.ask("v1"), "thumb", True)
        task.ask("v2", "challenger")
        cycle = twice(task.loop(requests=20, watched=400)).turn()
        assert cycle is not None
        assert cycle.state == "promoted"
        aliases = [task.registry.alias(name) for name in ("champion", "previous", "challenger")]  # type: ignore[arg-type]
        assert aliases == ["v2", "v1", "v1"]  # which answers copies

        task.rate(task.ask("v2"), "thumb", False)
        cycle = twice(task.loop(watched=400)).turn()
        assert cycle is not None
        assert [each.after for each in cycle.transitions[-2:]] == ["rolled_back", "closed"]
        assert (task.registry.alias("champion"), task.registry.alias("challenger")) == ("v1", None)
        back = task.registry.moves("champion")[-1]
        assert (back.by, back.evidence["cycle"]) == ("watch", "c1")
        assert "people's scores of its answers fell below" in back.reason
        assert len(task.registry.store.read(AliasMove, alias="champion")) == 3  # nothing was done twice
        assert task.loop().turn() is None  # the same documents open no second cycle


def test_a_loop_killed_while_it_compiles_goes_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        loop = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment())
        counts = {"asked": 0}

        def dies(body: dict[str, Any]) -> str:
            counts["asked"] += 1
            if counts["asked"] == 5:
                os.kill(loop.pid, signal.SIGKILL)
            return learner(body)

        task.server.behaviour.respond = dies
        assert loop.wait(120) == -signal.SIGKILL
        task.server.behaviour.respond = learner
        stopped = task.loop().cycles.current()
        assert stopped is not None
        assert stopped.state == "rows"
        cycle = task.loop(promote="auto").turn()
        assert cycle is not None
        assert (cycle.state, task.registry.alias("champion")) == ("closed", "v2")
        runs = sorted(path.parent.name for path in task.folder.glob("*/config.toml"))
        assert len(runs) == 2
        assert runs[-1].endswith("-c1")


def test_a_champion_of_a_cross_fitted_run_is_compared_in_its_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path, rows=18, folds=3) as task:
        cycle = task.loop().turn(by="person:ann")
        assert cycle is not None
        memory = cycle.memory
        assert (memory["held_out"], memory["pairs"]) == (0, 18)
        assert memory["difference"]["mean"] > 0.5
        assert cycle.state == "waiting"


def test_a_challenger_that_answers_as_the_champion_does_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        task.server.behaviour.respond = lambda body: json.dumps({"team": "card"})
        cycle = task.loop(patience_h=0.0).turn(by="person:ann")
        assert cycle is not None
        memory = cycle.memory
        assert memory["same_answers"] == memory["items"] == memory["difference"]["n"] > 0
        said = "Both gave the same answer to every item: these items cannot tell them apart."
        assert all(said in each.reason for each in cycle.transitions[-2:])  # the gate's, and what came of it


def test_a_cycle_after_a_quick_run_compares_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path, quick=True) as task:
        promote.main(["tickets", f"{task.run.name}:bootstrap"])
        assert "v2 comes from a --quick run, with few items and short training" in capsys.readouterr().err
        with pytest.raises(SetupError, match=rf"{task.run.name}:ARM, one of bootstrap, {task.baseline}"):
            promote.main(["tickets", task.run.name])
        cycle = task.loop().turn(by="person:ann")
        assert cycle is not None
        assert cycle.memory["held_out"] > QUICK["held_out"]
        assert "v2 was made by a --quick run; this cycle trains and compares in full" in "\n".join(task.said)


def test_two_loops_do_not_work_at_once(tmp_path: Path) -> None:
    with production(tmp_path) as task:
        lock = lock_file(task.folder / LOCK)
        assert lock is not None
        with pytest.raises(SetupError, match="Another loop of tickets is at work"):
            task.loop().turn(by="person:ann")
        os.close(lock)
        assert task.loop().cycles.current() is None


def at(task: Production, state: str, **evidence: Any) -> Cycles:
    """A cycle in a state, with two versions."""
    task.registry.register(task.run, "bootstrap")
    memory = {"champion": "v1", "challenger": "v2", "difference": {}, **evidence}
    task.registry.store.add(Transition("c1", "", state, task.registry.moves()[-1].at, "loop", "a test", memory))
    return task.loop().cycles


def test_a_challenger_that_fails_in_shadow_is_stopped(tmp_path: Path) -> None:
    with production(tmp_path) as task:
        at(task, "shadow")
        loop = task.loop(requests=20)
        assert loop.turn().state == "shadow"  # type: ignore[union-attr]
        for answer in task.ask("v1"):
            copy = replace(answer, id=shadow_of(answer.id), version="v2", route="shadow", error="TimeoutError")
            task.registry.store.add(copy)
        cycle = twice(loop).turn()
        assert cycle is not None
        assert cycle.state == "closed"
        assert cycle.transitions[-1].reason.startswith("In shadow v2 failed on 20 requests that the champion answered.")
        assert task.registry.alias("challenger") is None


class Judge:
    """Scores an answer by the figure that it is."""

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [float(row["prediction"]) for row in rows]


@pytest.mark.parametrize(("after", "state"), [(0.6, "rolled_back"), (0.8, "watched")])
def test_a_new_champion_is_compared_with_the_one_before_on_the_same_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float, state: str
) -> None:
    monkeypatch.setattr(live, "fitted_judge", Judge)
    with production(tmp_path) as task:
        at(task, "promoted", floors={})
        task.registry.promote("v2", "loop", "better")
        loop = task.loop(watched=200)
        assert loop.turn().state == "promoted"  # type: ignore[union-attr]
        move = task.registry.moves("challenger")[-1]
        assert (move.version, move.evidence["shadow"]) == ("v1", True)
        for place in range(200):
            (answer,) = task.ask("v2", count=1, answer=str(after + (place % 5 - 2) / 10), passages=("a passage",))
            copy = replace(
                answer, id=shadow_of(answer.id), version="v1", route="shadow", answer=str(0.6 + place % 5 / 10)
            )
            task.registry.store.add(copy)
        cycle = twice(loop).turn()
        assert cycle is not None
        assert [each.after for each in cycle.transitions[-2:]] == [state, "closed"]
        assert cycle.memory["watched_pairs"] == 200
        champion = "v1" if state == "rolled_back" else "v2"
        assert (task.registry.alias("champion"), task.registry.alias("challenger")) == (champion, None)
        if state == "rolled_back":
            assert "on the same requests the judge's scores are 20.0 points lower" in cycle.transitions[-2].reason


@pytest.mark.parametrize(("state", "moved"), [("waiting", "champion"), ("shadow", "challenger"), ("share", "champion")])
def test_what_a_person_does_meanwhile_ends_a_cycle(tmp_path: Path, state: str, moved: str) -> None:
    with production(tmp_path) as task:
        at(task, state)
        loop = task.loop(requests=20)
        assert loop.turn().state == state  # type: ignore[union-attr]
        if moved == "champion":
            task.registry.promote("v2", "person:ann", "I know better")
        else:
            task.registry.challenge(None, "person:ann", "not now")
        cycle = loop.turn()
        assert cycle is not None
        assert cycle.state == "closed"
        assert "person:ann" in cycle.transitions[-1].reason
        assert task.registry.alias("challenger") is None


def test_a_version_that_a_person_promotes_is_watched_once(tmp_path: Path) -> None:
    with production(tmp_path) as task:
        task.registry.register(task.run, "bootstrap")
        task.rate(task.ask("v1"), "thumb", True)
        task.registry.promote("v2", "person:ann", "I know better")
        cycle = twice(task.loop(watched=40)).turn()
        assert cycle is not None
        assert [each.after for each in cycle.transitions] == ["opened", "promoted"]
        task.rate(task.ask("v2", count=20), "thumb", False)
        cycle = twice(task.loop(watched=40)).turn()
        assert cycle is not None
        assert [each.after for each in cycle.transitions[2:]] == ["rolled_back", "closed"]
        assert task.registry.alias("champion") == "v1"
        task.registry.promote("v2", "person:ann", "I insist")
        assert task.loop(watched=40).turn() is None
        assert task.registry.alias("champion") == "v2"
        task.registry.roll_back("person:ann", "after all not")
        assert task.loop(watched=40).turn() is None


def test_a_person_ends_a_cycle_that_cannot_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        (tmp_path / "data" / "tickets.jsonl").write_text("no json\n")
        loop = task.loop()
        for _ in range(2):
            with pytest.raises(SetupError, match=r"tickets\.jsonl, line 1"):
                loop.turn(by="person:ann")
            assert loop.cycles.current().state == "opened"  # type: ignore[union-attr]
        cli.main(["reject", "tickets", "--by", "ann"])
        cli.main(["status", "tickets"])
        printed = capsys.readouterr().out
        assert "c1 closed: Rejected by person:ann." in printed
        assert "champion  v1" in printed
        with pytest.raises(SetupError, match="tickets has no open cycle"):
            cli.main(["approve", "tickets"])


def test_a_cycle_is_shown_in_mlflow_and_is_the_same_where_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected: list[tuple[str, str | None]] = []
    monkeypatch.setenv(VARIABLE, "nonsense://x")
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        cycle = task.loop(promote="auto").turn(by="person:ann")
        assert cycle is not None
        assert task.registry.alias("champion") == "v2"
        failed = [line for line in task.said if line.startswith("The loop of tickets could not be tracked in")]
        assert len(failed) == 1
        registry = task.registry

        def project(uri: str, name: str, *_: Any) -> None:
            projected.append((name, registry.alias("champion")))

        monkeypatch.setattr(mlflow, "safely", project)
        rollback.main(["tickets", "--by", "ann"])
        task.loop().turn()
        assert projected == [("tickets", "v1")] * 2


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["status"], "Name the task: .*loop status TASK"),
        (["tickets", "--every", "soon"], "--every is soon: it should be a time such as 30s, 15m, 2h or 1d"),
        (["tickets", "--promote", "always"], "always"),
        (["nothing", "--once"], "nothing"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path), pytest.raises(SetupError, match=sentence):
        cli.main(args)


def test_the_loop_goes_on_after_a_failure_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [OperationalError("SELECT 1", {}, OSError("the server closed the connection")), ModelError("no answer.")]

    def fail(loop: Loop, **_: Any) -> None:
        if failures:
            raise failures.pop(0)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Loop, "turn", fail)
    with production(tmp_path), pytest.raises(KeyboardInterrupt):
        cli.main(["tickets", "--every", "1s"])
    said = capsys.readouterr().out
    assert "The loop's database failed: the server closed the connection. Next try in 1s." in said
    assert "no answer. Next try in 1s." in said


def test_a_champion_of_a_compared_model_is_trained_again_and_one_made_elsewhere_needs_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        settings = read_program(task.run, task.baseline, Caller()).config.model_dump()
        settings["models"]["compare"] = ["openai/other"]
        settings["arm"] = ["mine=openai/elsewhere"]
        config = compile_settings(task_file(tmp_path, "tickets")).model_validate(settings)
        run = start(tmp_path, "tickets", config).folder
        task.registry.register(run, "bootstrap (other)")
        task.registry.promote("v2", "person:ann", "the other model")
        cycle = task.loop().turn(by="person:ann")
        assert cycle is not None
        challenger = task.registry.version(cycle.memory["challenger"])
        assert (challenger.arm, challenger.parent) == ("bootstrap", "v2")
        assert read_program(Path(challenger.run), "bootstrap", Caller()).config.models.student == "openai/other"

        task.registry.register(run, "mine")
        task.registry.promote("v4", "person:ann", "made elsewhere")
        task.write(72)
        assert cycle.state == "compared"  # people are asked: the two are equally good
        task.loop().cycles.answer(cycle.id, "person:ann", approve=False)
        cycle = task.loop().turn()
        assert cycle is not None
        assert cycle.state == "closed"
        assert re.search("arm mine was made elsewhere.*with --arms, of bootstrap", cycle.transitions[-1].reason)
        assert cycle.transitions[-1].before == "indexed", "the index has the new documents all the same"
        assert task.loop().turn() is None  # it is said once
        cycle = task.loop(arms=("bootstrap",)).turn(by="person:ann")
        assert cycle is not None
        assert task.registry.version(cycle.memory["challenger"]).parent == "v4"


def test_an_alarm_does_not_undo_what_a_person_promoted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        task.rate(task.ask("v1", count=24), "thumb", True)
        task.registry.register(task.run, "bootstrap")
        task.registry.promote("v2", "person:ann", "by hand")
        cycle = task.loop(watched=400).turn()
        assert cycle is not None
        assert cycle.state == "promoted", cycle.transitions[-1].reason
        task.rate(task.ask("v2", count=24), "thumb", False)
        score = watch.live_scores

        def slowly(requests: Any) -> Any:  # so that a person is faster
            if task.registry.alias("champion") == "v2":
                task.registry.promote("v1", "person:ann", "v2 is bad")
            return score(requests)

        monkeypatch.setattr(watch, "live_scores", slowly)
        with pytest.raises(SetupError, match="v2 is not the champion of tickets any more"):
            task.loop(watched=400).turn()
        assert task.registry.alias("champion") == "v1"
        cycle = task.loop(watched=400).turn()
        assert cycle is not None
        assert cycle.state == "closed"
        assert "v1 is the champion now (person:ann)" in cycle.transitions[-2].reason


@pytest.mark.slow
def test_a_cycle_trains_the_embedded_model_and_promotes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:  # for its workspace
        (tmp_path / "data" / "tickets.jsonl").write_text("".join(json.dumps(saying(n)) + "\n" for n in range(64)))
        config = compile_settings(task_file(tmp_path, "tickets")).model_validate(
            {
                "synthesis": {"candidates": 0},
                "evaluation": {"arms": ("zero_shot",)},
                "splits": {"folds": 1},
                "retention": {"prompts": 0},
                "training": {"options": {"sft": {"examples": 28}}},
            }
        )
        task.registry.register(start(tmp_path, "tickets", config).folder, "zero_shot")
        task.registry.promote("v2", "person:ann", "the embedded model")
        cycle = task.loop(promote="auto", arms=("sft",), minutes=5).turn(by="person:ann")
        assert cycle is not None
        assert cycle.memory["verdict"] == "promote", cycle.transitions[-1].reason
        version = task.registry.version("champion")
        assert (version.id, version.arm, version.parent) == ("v3", "sft", "v2")
        assert version.weights


@pytest.mark.slow
def test_a_loop_killed_after_the_work_of_each_state_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for name, states in (("never", ()), ("always", STATES)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with production(tmp_path / name) as task:
            task.rate(task.ask("v1", count=24), "correction", "login")
            for state in (each for each in states if each not in ("waiting", "rolled_back", "closed")):
                code = KILLED.replace("Loop(Work", "loop = Loop(Work").replace(".turn(by", f"\n{DIES}\nloop.turn(by")
                killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / name), state], env=environment())
                assert killed.returncode == -signal.SIGKILL, state
                stopped = task.loop().cycles.current()
                assert stopped is not None
                assert stopped.state == state
            cycle = task.loop(promote="auto").turn(by="person:ann")
            assert cycle is not None
            assert cycle.id == "c1"
            path = task.loop().work.cycle_folder(cycle) / "pairs.jsonl"
            pairs = sorted(line for line in path.open() if '"item": "t' in line)  # others are named after a request
            known = ("verdict", "difference", "pairs", "labelled", "cheaper", "feedback_rows", "by_ai", "dev_scores")
            evidence = {name: cycle.memory[name] for name in known}
            moves = [(each.alias, each.version) for each in task.registry.moves()]
            outcomes.append(([each.after for each in cycle.transitions], pairs, evidence, moves))
    assert outcomes[0] == outcomes[1]


DIES = """
import os, signal
from synth_dspy.loop.cycle import Cycles
from synth_dspy.loop.steps import make_steps
steps = dict(make_steps(loop.work))
work_of_state = steps[sys.argv[2]]
def dies(cycle):
    work_of_state(cycle)
    os.kill(os.getpid(), signal.SIGKILL)
steps[sys.argv[2]] = dies
loop.cycles = Cycles(registry.store, steps)
"""
KILLED = """
import sys
from pathlib import Path
from embedders import WordEmbedder
from synth_dspy.loop import rows
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import FILE, Store
from synth_dspy.loop.turn import Loop
from synth_dspy.loop.work import Plan, Work
from synth_dspy.pipeline import experiment
experiment.open_embedder = rows.open_embedder = lambda config: WordEmbedder()
here = Path(sys.argv[1])
folder = here / "runs" / "tickets"
registry = Registry(Store.open(folder / FILE, "tickets"))
Loop(Work(here, folder, registry, Plan("auto", requests=0, watched=0))).turn(by="person:ann")
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
