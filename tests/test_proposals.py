"""From a folder of documents to a benchmark: questions are proposed, reviewed by a person, and scored on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Behaviour, Server, serving

import synth_dspy
from synth_dspy import SetupError, document_tools
from synth_dspy.cli import compile as compile_verb
from synth_dspy.cli import label
from synth_dspy.core.errors import AwaitingReview, NewRunNeeded
from synth_dspy.pipeline import experiment

ROOT = Path(__file__).resolve().parents[1]
THINGS = {
    "Dancers rent": "rent for one evening",
    "Singers borrow": "borrow a piano until Sunday",
    "Cooks use": "use ovens and sinks",
    "Painters hang": "hang pictures along white walls",
    "Gardeners water": "water roses behind our fence",
    "Cleaners sweep": "sweep floors after midnight",
    "Lecturers project": "project slides onto canvas",
    "Children celebrate": "celebrate birthdays upstairs",
    "Drivers park": "park vans beside that gate",
    "Campers pitch": "pitch tents near this pond",
}
"""What people do in a hall, in words that no two of them share."""
HALLS = ("Alder", "Birch", "Cedar", "Damson", "Elm", "Fir", "Gorse", "Hazel", "Ivy", "Juniper")


def facts(h: int) -> Iterator[str]:
    """What one hall charges: no amount twice."""
    for t, (who, what) in enumerate(THINGS.items()):
        yield f"{who.split()[0]} pay {HALLS[h]} €{100 + 20 * h + t} to {what}."


def pages(folder: Path) -> Path:
    """Ten pages, each of which says what ten things cost."""
    folder.mkdir()
    for h, hall in enumerate(HALLS):
        (folder / f"{hall.lower()}.md").write_text(f"# {hall}\n\n" + "\n\n".join(facts(h)), encoding="utf-8")
    return folder


def reply(body: dict[str, Any]) -> str:
    """A teacher that turns the sentence with the last amount of its prompt round; a student that knows nothing."""
    prompt = body["messages"][-1]["content"]
    amounts = re.findall(r"€\d+", prompt)
    fact = re.findall(rf"(\w+) pay (\w+) {amounts[-1]} to ([\w ]+)", prompt) if amounts else []
    return f"How much do {fact[-1][0].lower()} pay to {fact[-1][2]}?" if fact else "I wonder."


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)  # of the process: other tests would see it
    with serving(Behaviour(respond=reply)) as server:
        yield server


def compile_(folder: Path, server: Server, **more: Any) -> synth_dspy.Run:
    return synth_dspy.compile_task(
        "doc_qa",
        workspace=ROOT,
        runs_folder=folder.parent / "runs",
        models={"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url},
        arms=["bootstrap"],
        retention={"prompts": 0},
        task={"documents": str(folder)},
        **more,
    )


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What a person types; then the input ends."""
    left = iter(lines)

    def read(prompt: str = "") -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)


def rows_of(run: synth_dspy.Run, name: str) -> list[dict[str, Any]]:
    lines = (run.folder / "datasets" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_questions_are_proposed_reviewed_and_scored_on(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pages(tmp_path / "halls")
    with pytest.raises(AwaitingReview) as waiting:
        compile_(folder, server)
    plan = capsys.readouterr().err
    assert "proposing questions, teacher: 120 calls" in plan
    assert "evaluation" not in plan
    file = folder / "questions.proposed.jsonl"
    number = len(document_tools.proposed_questions(folder))
    assert number >= 30
    for part in (f"{number} proposed questions about 5 documents", str(file), "label", "--unreviewed"):
        assert part in str(waiting.value)
    assert not re.search(r"\bcontracts?\b", json.dumps(server.requests), re.I)
    asked = len(server.requests)
    with pytest.raises(AwaitingReview, match=f"{number} proposed questions"):
        compile_(folder, server)
    assert len(server.requests) == asked, "what was proposed is not proposed again"

    first = document_tools.proposed_questions(folder)[0]
    reviewed = ["?", "a", "r", "s", "e", "", "€ 1", "n", "e", "", "€ 1", "y"]
    typed(monkeypatch, *reviewed, "w", "Is there a lift?", "-", *["a"] * 40)
    label.main([str(folder)])
    shown = capsys.readouterr().out
    assert first["passage"] in shown
    assert first["question"] in shown
    assert "Type a, e, r, w, s or q." in shown
    assert "Nothing was changed." in shown
    questions = document_tools.proposed_questions(folder)
    assert dict(questions.counts) == {"proposed": 1, "accepted": number - 2, "edited": 1, "rejected": 1}
    assert questions[3]["answer"] == "€ 1"

    capsys.readouterr()
    run = compile_(folder, server)
    shown = capsys.readouterr().err
    assert "questions.proposed.jsonl, line 4: the answer '€ 1' is not in '" in shown
    assert shown.count("line 4") == shown.count(" is not in ") == 1
    assert "evaluation, student" in shown
    test = rows_of(run, "test")
    assert len(test) == number - 1
    assert {row["document"] for row in test} <= questions.documents
    assert {row["group"] for row in rows_of(run, "train")}.isdisjoint(questions.documents)
    assert {row["group"] for row in rows_of(run, "dev")}.isdisjoint(questions.documents)
    assert [row["references"] for row in test if row["question"] == "Is there a lift?"] == [[]]
    rejected = (questions[1]["question"], questions[1]["document"])
    assert rejected not in {(row["question"], row["document"]) for row in test}
    assert not re.search(r"\bcontracts?\b", json.dumps(server.requests), re.I)
    assert "Nobody has read" not in run.results.verdict
    assert "and a person has reviewed them all" in run.report.read_text(encoding="utf-8")


def test_below_thirty_reviewed_questions_there_are_figures_and_no_verdict(tmp_path: Path, server: Server) -> None:
    folder = pages(tmp_path / "halls")
    with pytest.raises(AwaitingReview):
        compile_(folder, server)
    questions = document_tools.proposed_questions(folder)
    questions.accept(*range(5))
    questions.save()
    results = compile_(folder, server).results
    assert results.n == 5
    assert results["rag"].score.mean is not None
    assert "Too few items" in results.verdict


def test_unreviewed_goes_on_and_the_headline_says_that_nobody_has_read_the_questions(
    tmp_path: Path, server: Server
) -> None:
    folder = pages(tmp_path / "halls")
    run = compile_(folder, server, unreviewed=True)
    assert "Nobody has read the questions." in run.results.verdict
    held_out = document_tools.proposed_questions(folder).documents
    assert {row["document"] for row in rows_of(run, "test")} == held_out
    assert {row["group"] for row in rows_of(run, "train")}.isdisjoint(held_out)
    questions = document_tools.proposed_questions(folder)
    questions.accept(0, 1)
    questions.reject(2)
    questions.save()
    run = compile_(folder, server, unreviewed=True)
    used = len(questions) - 1
    assert run.results.n == used
    assert f"Nobody has read {used - 2} of the {used} questions." in run.results.verdict
    assert f"and a person has reviewed 2 of the {used} (" in run.report.read_text(encoding="utf-8")


def test_where_half_of_the_documents_say_too_little_each_is_held_out_in_turn(tmp_path: Path, server: Server) -> None:
    folder = pages(tmp_path / "halls")
    for hall in HALLS[4:]:
        (folder / f"{hall.lower()}.md").unlink()
    with pytest.raises(AwaitingReview, match=r"about 4 documents.*--splits\.folds 2"):
        compile_(folder, server)
    questions = document_tools.proposed_questions(folder)
    assert len(questions) >= 30
    questions.accept(*range(30))
    questions.save()
    run = compile_(folder, server, splits={"folds": 3})
    assert run.results.n == 30
    assert "3-fold cross-fitting" in run.report.read_text(encoding="utf-8")


def test_a_quick_run_waits_for_nobody_and_says_so(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pages(tmp_path / "halls")
    results = compile_(folder, server, quick=True).results
    assert "which nobody reviews, as --unreviewed would have it." in " ".join(capsys.readouterr().err.split())
    assert "Nobody has read the questions." in results.verdict
    assert not (folder / "questions.proposed.jsonl").exists(), "a few questions would stand in the way of enough"


def test_where_no_question_was_good_the_remedy_is_named(tmp_path: Path, server: Server) -> None:
    server.behaviour.respond = lambda body: "I wonder."
    folder = tmp_path / "halls"
    folder.mkdir()
    for hall in HALLS:  # price lists: nothing is stated in a sentence
        (folder / f"{hall.lower()}.md").write_text("\n\n".join(f"{hall}, {what}: €40" for what in THINGS), "utf-8")
    with pytest.raises(SetupError, match=r"None of the \d+ questions .* --models\.teacher, or label some yourself"):
        compile_(folder, server)


def test_where_no_question_could_be_made_the_reason_is_named_and_that_a_new_run_is_needed(
    tmp_path: Path, server: Server
) -> None:
    folder = tmp_path / "hallen"
    folder.mkdir()
    for hall in HALLS:
        (folder / f"{hall}.md").write_text(f"Abends ist {hall} offen. Wer singt, bringt Noten mit.", "utf-8")
    with pytest.raises(NewRunNeeded, match=r"the rules .* know English sentences only, .* --models\.teacher, or label"):
        compile_(folder, server)


def test_where_every_question_was_rejected_the_remedy_is_named(tmp_path: Path, server: Server) -> None:
    folder = propose(pages(tmp_path / "halls"), 2)
    questions = document_tools.proposed_questions(folder)
    questions.reject(0, 1)
    questions.save()
    with pytest.raises(SetupError, match=r"None of the 2 questions in .* was accepted: write some of your own"):
        compile_(folder, server)
    assert not list((tmp_path / "runs").glob("doc_qa/2*"))


def propose(folder: Path, number: int = 6) -> Path:
    """A folder with proposed questions, as a compile leaves them."""
    lines = [
        {
            "status": "proposed",
            "question": f"How much does it cost to {what}?",
            "answer": f"€{100 + t}",
            "document": "alder",
            "passage": passage,
        }
        for t, (what, passage) in enumerate(zip(list(THINGS.values())[:number], facts(0), strict=False))
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "questions.proposed.jsonl").write_text(text, encoding="utf-8")
    return folder


def statuses(folder: Path) -> list[str]:
    return [str(row["status"]) for row in document_tools.proposed_questions(folder)]


def start_labelling(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "synth_dspy.label", str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_pipe_can_label_and_stops_at_its_end(tmp_path: Path) -> None:
    folder = propose(pages(tmp_path / "halls"))
    process = start_labelling(folder)
    out, err = process.communicate("a\nr\n", timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "4 proposed, 1 accepted, 1 rejected" in out
    assert statuses(folder) == ["accepted", "rejected", *["proposed"] * 4]


def test_what_was_decided_before_a_kill_is_kept_and_labelling_goes_on_there(tmp_path: Path) -> None:
    folder = propose(pages(tmp_path / "halls"))
    process = start_labelling(folder)
    assert process.stdin is not None
    process.stdin.write("a\na\n")
    process.stdin.flush()
    ends = time.monotonic() + 60
    while statuses(folder).count("accepted") < 2 and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert statuses(folder) == ["accepted", "accepted", *["proposed"] * 4]
    out, _ = start_labelling(folder).communicate("q\n", timeout=60)
    assert "3 of 6" in out
    assert sorted(path.name for path in folder.glob("*.jsonl")) == ["questions.proposed.jsonl"]


def test_what_an_editor_changes_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = propose(pages(tmp_path / "halls"), 3)

    def read(prompt: str = "") -> str:
        other = document_tools.proposed_questions(folder)
        if other[2]["status"] == "rejected":
            raise EOFError
        other.reject(2)
        other.save()
        return "a"

    monkeypatch.setattr("builtins.input", read)
    label.main([str(folder)])
    assert statuses(folder) == ["accepted", "proposed", "rejected"]


def test_a_question_of_a_row_task_shows_its_fields_and_takes_only_answers_that_are_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "questions.jsonl"
    lines = [
        {
            "status": "proposed",
            "question": "The spade is broken",
            "answer": guess,
            "document": "",
            "passage": "",
            "id": f"asked-{guess}",
            "inputs": {"message": "The spade is broken", "garden": "north"},
            "choices": ["pest", "water", "tool"],
        }
        for guess in ("water", "spade")
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    typed = iter(["w", "e", "banana", "e", "tool", "a", "r"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(typed))
    label.main([str(path)])
    shown = capsys.readouterr().out
    assert "--- 1 of 2\nmessage: The spade is broken\ngarden: north\n\nthe program's answer: water\n" in shown
    assert "possible answers: pest, water, tool" in shown
    assert "all documents" not in shown
    assert "Type a, e, r, s or q." in shown
    assert "'banana' is not an answer that the program can give: choose one of pest, water, tool." in shown
    assert "'spade' is not an answer" in shown
    assert "1 edited, 1 rejected" in shown
    assert "the loop scores on those that you accepted" in shown
    assert [row.get("answer") for row in document_tools.proposed_questions(path)] == ["tool", "spade"]


def test_an_answer_that_the_document_does_not_hold_is_kept_only_if_the_person_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = propose(pages(tmp_path / "halls"), 3)
    prompts: list[str] = []
    lines = iter(
        (
            *("e", "", "Dancers pay €999", "", "e", "", "€ 101", "y"),  # the first edit is dropped, the second kept
            *("w", "How much do painters pay?", "€103", "w", "Do they pay?", "yes", "w", "May dogs come?", "-"),
            *("w", "How much do divers pay?", "€104,5", "no", "q"),
        )
    )

    def read(prompt: str = "") -> str:
        prompts.append(prompt)
        return next(lines)

    monkeypatch.setattr("builtins.input", read)
    label.main([str(folder)])
    confirmations = [prompt for prompt in prompts if "keep it?" in prompt]
    assert len(confirmations) == 3
    assert confirmations[0].startswith("That is not in alder (the nearest there is: Dancers pay Alder €100")
    rows = {row["question"]: row["answer"] for row in document_tools.proposed_questions(folder)}
    assert "€ 101" in rows.values()
    assert not any("€999" in answer for answer in rows.values())
    assert {rows[question] for question in list(rows)[3:]} == {"€103", "yes", ""}


class TestFile:
    def test_its_path_is_printed_and_a_status_may_be_set_by_hand(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = propose(pages(tmp_path / "halls"), 2)
        label.main([str(folder), "--file"])
        file = Path(capsys.readouterr().out.strip())
        file.write_text(file.read_text(encoding="utf-8").replace("proposed", "accepted", 1), encoding="utf-8")
        assert statuses(folder) == ["accepted", "proposed"]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (
                {"status": "good", "question": "Q?"},
                "line 1: field 'status' is \"good\"; use one of proposed, accepted, edited, rejected",
            ),
            ({"status": "accepted"}, "line 1: field 'question' is missing"),
        ],
    )
    def test_a_line_that_is_wrong_is_named(self, tmp_path: Path, line: dict[str, str], message: str) -> None:
        file = tmp_path / "questions.proposed.jsonl"
        file.write_text(json.dumps(line), encoding="utf-8")
        with pytest.raises(SetupError, match=re.escape(message)):
            document_tools.proposed_questions(tmp_path)

    def test_a_folder_without_proposals_is_told_how_to_get_some(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="There are no proposed questions in"):
            label.main([str(tmp_path)])

    def test_it_is_no_document(self, tmp_path: Path) -> None:
        folder = propose(pages(tmp_path / "halls"))
        knowledge = synth_dspy.Documents(folder).read()
        assert len(knowledge.documents) == len(HALLS)
        assert knowledge.skipped == []


class TestNotebook:
    def test_a_table_of_all_questions(self, tmp_path: Path) -> None:
        questions = document_tools.proposed_questions(propose(pages(tmp_path / "halls")))
        frame = questions.to_pandas()
        assert list(frame.columns[:4]) == ["status", "question", "answer", "document"]
        assert len(frame) == len(questions) == 6
        html = questions._repr_html_()
        assert "6 proposed" in html
        assert "How much does it cost to borrow a piano until Sunday?" in html

    def test_decisions_are_saved_when_asked(self, tmp_path: Path) -> None:
        folder = propose(pages(tmp_path / "halls"))
        questions = document_tools.proposed_questions(folder)
        questions.accept(0, questions[1]["id"])
        questions.edit(2, question="What do cooks pay?")
        questions.add("Is there a lift?", "", "alder")
        assert statuses(folder) == ["proposed"] * 6
        questions.save()
        assert statuses(folder) == ["accepted", "accepted", "edited", *["proposed"] * 3, "accepted"]

    def test_what_cannot_be_is_a_sentence(self, tmp_path: Path) -> None:
        folder = propose(pages(tmp_path / "halls"))
        questions = document_tools.proposed_questions(folder)
        with pytest.raises(SetupError, match="no question 9 in"):
            questions.accept(9)
        with pytest.raises(SetupError, match="'birch' is not held out; questions may be about alder"):
            questions.add("Is there a lift?", "yes", "birch")
        other = document_tools.proposed_questions(folder)
        other.accept(0)
        other.save()
        with pytest.raises(SetupError, match="was changed since it was read"):
            questions.save()
        assert statuses(folder)[0] == "accepted"


def test_a_task_s_own_parameters_are_flags_without_their_prefix(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"add --task\.documents"):
        compile_verb.main(["doc_qa", "--labelled", "x.csv", "--runs", str(tmp_path)])
    with pytest.raises(SetupError, match="which does not exist"):
        compile_verb.main(["doc_qa", f"--documents={tmp_path / 'none'}", "--max-mib", "3", "--runs", str(tmp_path)])


@pytest.mark.slow
def test_the_embedded_models_propose_questions_and_exit_with_three(tmp_path: Path) -> None:
    folder = pages(tmp_path / "halls")
    command = [sys.executable, "-m", "synth_dspy.compile", "doc_qa", "--documents", str(folder)]
    done = subprocess.run(
        [*command, "--runs", str(tmp_path / "runs")], cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    questions = document_tools.proposed_questions(folder)
    assert len(questions) > 0
    assert str(questions.path) in done.stderr
