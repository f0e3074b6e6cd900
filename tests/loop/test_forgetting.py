"""What is deleted leaves the next training, and what was learned from it is listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from production import TASK, production

from synth_dspy.cli import forget as cli
from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.proposals import proposed_questions
from synth_dspy.loop.labels import is_held_back
from synth_dspy.loop.proposing import FILE, propose
from synth_dspy.loop.records import Deletion, Feedback, Request
from synth_dspy.loop.rows import FEEDBACK, LABELLED
from synth_dspy.loop.steps import make_steps


def test_a_person_and_a_document_leave_the_next_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with production(tmp_path) as task:
        asked = [*task.ask("v1", count=10, person="ann"), *task.ask("v1", count=20, person="bob")[10:]]
        for request in asked:
            task.registry.store.add(Feedback(f"f{request.id}", request.at, request.id, "correction", "login"))
        cycle = task.loop().turn(by="person:cy")
        assert cycle is not None
        assert cycle.state == "waiting"
        task.ask("v1", count=30, person="ann")
        propose(task.registry.store, task.folder / FILE, "v1", ["text"])
        before = len(proposed_questions(task.folder / FILE))

        cli.main(["tickets", "--person", "ann", "--by", "cy", "--reason", "asked to"])
        printed = capsys.readouterr().out
        assert f"Deleted: 40 requests, 10 feedback records, {before} questions for labelling." in printed
        assert "These versions learned from it" in printed
        assert f"v2       bootstrap  {task.registry.version('v2').run}" in printed
        assert "The open cycle c1 has collected its rows already" in printed
        assert {each.person for each in task.registry.store.read(Request)} == {"bob"}
        assert not (task.folder / FILE).exists()

        task.loop().cycles.answer("c1", "person:cy", approve=False)
        loop = task.loop()
        after = loop.cycles.open("person:cy", "again")
        make_steps(loop.work)["questions"](after)
        folder = loop.work.cycle_folder(after)
        rows = [json.loads(line) for name in (FEEDBACK, LABELLED) for line in (folder / name).open()]
        left = {each.inputs["text"] for each in asked[10:]}
        assert {row["text"] for row in rows} == left
        assert any(is_held_back({"text": text}) for text in left)

        document = json.loads((Path(task.registry.version("v2").run) / "datasets/train.jsonl").open().readline())
        cli.main(["tickets", "--document", document["group"]])
        assert "v1       zero_shot" in capsys.readouterr().out
        assert len(task.registry.store.read(Deletion)) == 1  # nobody asked about that one


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "Name one of --person, --request and --document"),
        (["--person", "a", "--request", "b"], "Name one of"),
        (["--person", "nobody"], "tickets has no request, feedback or version that has to do with 'nobody'"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], sentence: str
) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "__init__.py").touch()
    (tmp_path / "programs" / "tickets.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=sentence):
        cli.main(["tickets", *args])
