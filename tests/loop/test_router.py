"""A champion that is a router over tuned arms goes through a whole cycle, and answers again after a rollback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from embedders import WordEmbedder
from production import TASK, Production, production, ticket

from synth_dspy.core.config import compile_settings
from synth_dspy.core.workspace import task_file
from synth_dspy.loop.records import shadow_of
from synth_dspy.loop.work import read_program
from synth_dspy.pipeline import resources
from synth_dspy.pipeline.compile import start
from synth_dspy.pipeline.trust import Caller
from synth_dspy.service.programs import Programs, open_version
from synth_dspy.service.running import OpenHere

ROUTED = (
    TASK.replace("import dspy", "from dataclasses import replace\n\nimport dspy")
    .replace("from synth_dspy import", "from synth_dspy.training.recipes import Route\nfrom synth_dspy import")
    .replace(
        "@task",
        '''
MADE = {}


class Tuned:
    """In place of a training: demonstrations, as soon as there are tickets from the 60th on."""

    description = "A double."

    def __init__(self, name):
        self.name = name

    def compile(self, student, *, trainset, valset=None):
        program = student.deepcopy()
        if any(int(each.id[1:]) >= 60 for each in trainset if each.id.startswith("t")):
            program.predictors()[0].demos = trainset[:2]
        MADE[self.name] = program
        return program


class Among(Route):
    def __init__(self, resources, metric):
        super().__init__(replace(resources, tuned=dict(MADE)), metric)


@task''',
    )
    .replace(
        "source=Rows(rows))",
        "source=Rows(rows), arms=('zero_shot', 'left', 'right', 'route'), optimizers={"
        "'zero_shot': lambda resources, metric: None, 'left': lambda resources, metric: Tuned('left'), "
        "'right': lambda resources, metric: Tuned('right'), 'route': Among})",
    )
)


def in_service(task: Production, version: str) -> str:
    """What a service that is started now answers, and by which version."""
    with ThreadPoolExecutor(1) as threads:
        programs = Programs(task.registry, lambda each: OpenHere(open_version(each, Caller()), threads))
        loaded, route = programs.pick(None)
        outcome = loaded.program.ask({"text": ticket(900)["text"]}).result()
        refused = loaded.program.ask({}).result()
        wrong = loaded.program.check_answer("nobody").result()
    assert (loaded.version.id, route, outcome.error) == (version, "champion", None)
    assert refused.message == "text is missing."
    assert wrong is not None, "a corrected answer is checked against the type"
    return outcome.answer


def test_a_router_is_improved_on_watched_and_returned_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resources, "open_embedder", lambda config: WordEmbedder())
    with production(tmp_path, task=ROUTED) as task:
        settings = read_program(task.run, task.baseline, Caller()).config.model_dump()
        settings["evaluation"]["arms"] = ["left", "right", "route"]
        config = compile_settings(task_file(tmp_path, "tickets")).model_validate(settings)
        task.registry.register(start(tmp_path, "tickets", config).folder, "route")
        task.registry.promote("v2", "loop", "the router")
        assert in_service(task, "v2") == "card"

        task.rate(task.ask("v2", count=24), "correction", "login")
        task.write(72)
        cycle = task.loop(requests=20).turn(by="person:ann")
        assert cycle is not None
        assert (cycle.state, cycle.memory["champion"]) == ("waiting", "v2"), cycle.transitions[-1].reason
        assert cycle.memory["feedback_rows"] > 0
        version = task.registry.version(cycle.memory["challenger"])
        assert version.parent == "v2"
        programs = {path.name for path in (Path(version.run) / "programs").iterdir()}
        assert programs == {"zero_shot", "left", "right", "route"}, "a router is made again with what it chooses among"
        assert in_service(task, "v2") == "card"

        task.loop().cycles.answer(cycle.id, "person:ann", approve=True)
        task.loop(requests=20).turn()
        for answer in task.ask("v2"):
            task.registry.store.add(replace(answer, id=shadow_of(answer.id), version=version.id, route="shadow"))
        task.loop(requests=20).turn()
        task.rate(task.ask("v2"), "thumb", True)
        task.ask(version.id, "challenger")
        cycle = task.loop(requests=20, watched=400).turn()
        assert cycle is not None
        assert (cycle.state, task.registry.alias("champion")) == ("promoted", version.id)
        assert in_service(task, version.id) == ticket(900)["team"]

        task.rate(task.ask(version.id), "thumb", False)
        cycle = task.loop(watched=400).turn()
        assert cycle is not None
        assert [each.after for each in cycle.transitions[-2:]] == ["rolled_back", "closed"]
        assert task.registry.alias("champion") == "v2"
        assert in_service(task, "v2") == "card"

        again = task.registry.register(Path(version.run), "route")  # the router that was made again
        task.registry.promote(again.id, "person:ann", "once more")
        assert in_service(task, again.id) == ticket(900)["team"]
        task.registry.roll_back("person:ann", "back")
        assert in_service(task, "v2") == "card"
