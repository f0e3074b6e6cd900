"""The pages without a browser, as they work without JavaScript: forms are sent, and redirects followed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import dspy
import httpx
import pytest
from scripted import scripted_lm
from served import Program, Running, Serve, running

from synth_dspy.domains.documents.proposals import ProposedQuestions
from synth_dspy.evaluation.answers import answer_type
from synth_dspy.loop.records import Reading, Transition
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import now
from synth_dspy.pipeline.answering import Answering
from synth_dspy.service import pages
from synth_dspy.service.inputs import Shape
from synth_dspy.service.pages.entries import entries
from synth_dspy.service.pages.label import label_app
from synth_dspy.service.redaction import Redaction
from synth_dspy.service.settings import Limits, Traffic

HTML = {"Accept": "text/html"}
EVIL = '<script>alert("x")</script>'


def send(client: httpx.Client, page: httpx.Response, action: str, **fields: str) -> httpx.Response:
    """Send a form of a page, with the fields that it hides, and follow the redirect."""
    forms = re.findall(rf'<form[^>]* action="{action}".*?</form>', page.text, re.S)
    kind = fields.get("kind") or fields.get("verdict_form", "")
    form = next(each for each in forms if not kind or f'value="{kind}"' in each)
    fields.pop("verdict_form", None)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    return client.post(action, data=hidden | fields, headers=HTML, follow_redirects=True)


def ask(service: Running, question: str = "Why?", **more: str) -> httpx.Response:
    """Ask on the page; returns the page with the answer."""
    return send(service.client, service.client.get("/", headers=HTML), "/", **{"in.question": question, **more})


class Triage(dspy.Signature):
    """Say which problem a message is about."""

    question: str = dspy.InputField()
    kind: Literal["pest", "water"] = dspy.OutputField()


def test_a_corrected_label_is_chosen_from_those_that_the_output_may_have(serve: Serve) -> None:
    predict = dspy.Predict(Triage)
    predict.set_lm(scripted_lm(lambda prompt: '{"kind": "pest"}'))
    program = Answering(predict, answer_type(predict), "", dspy.JSONAdapter())
    with serve({"first": program}) as service:
        page = ask(service)
        assert re.findall(r"<option( selected)?>(\w+)</option>", page.text) == [(" selected", "pest"), ("", "water")]
        refused = send(service.client, page, "/rate", kind="correction", value="banana")
        assert refused.status_code == 422
        assert "is not a value of the output kind: make it one of pest, water." in refused.text
        assert "kept" in send(service.client, page, "/rate", kind="correction", value="water").text


def test_a_question_of_a_row_task_is_labelled_with_one_of_the_possible_answers(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    row = {"status": "proposed", "question": "Dry", "answer": "sun", "document": "", "passage": "", "id": "asked-1"}
    path.write_text(json.dumps({**row, "inputs": {"message": "Dry"}, "choices": ["pest", "water"]}) + "\n")
    with running(label_app(path, Limits()), Limits()) as url, httpx.Client(base_url=url) as client:
        page = client.get("/label", headers=HTML)
        assert '<dt>message</dt><dd class="text">Dry</dd>' in page.text
        assert "Possible answers: pest, water" in page.text
        assert "Passage" not in page.text
        refused = client.post("/label", data={**hidden(page), "verdict": "accept"}, headers=HTML)
        assert refused.status_code == 422
        assert "is not an answer that the program can give: choose one of pest, water." in refused.text
        fields = {**hidden(page), "verdict": "edit", "question": "Dry", "answer": "water"}
        assert "The loop scores" in client.post("/label", data=fields, headers=HTML, follow_redirects=True).text
        assert [(each["status"], each["answer"]) for each in ProposedQuestions.read(path)] == [("edited", "water")]


def hidden(page: httpx.Response) -> dict[str, str]:
    """The hidden fields of a page's forms."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))


def test_an_answer_is_shown_and_rated_in_every_way(serve: Serve) -> None:
    with serve() as service:
        page = ask(service)
        assert page.status_code == 200
        assert "first: Why?" in page.text
        assert "a passage" in page.text
        (request,) = service.kept()
        assert str(page.url).endswith(f"/?request={request.id}")
        for kind, value in (("thumb", "down"), ("score", "2"), ("comment", "Too short."), ("correction", "Because.")):
            page = send(service.client, page, "/rate", kind=kind, value=value)
            assert page.status_code == 200
            assert "kept" in page.text
        given = [(each.kind, each.value) for each in service.feedback()]
        assert given == [("thumb", False), ("score", 2), ("comment", "Too short."), ("correction", "Because.")]
        assert {each.rater for each in service.feedback()} == {request.person}
        assert service.metric("synth_dspy_feedback_total") == 4
        assert re.search(r'value="2"[^>]* aria-pressed="true"', page.text)
        assert "Because.</textarea>" in page.text


def test_a_form_sent_twice_is_kept_once_and_another_value_is_new(serve: Serve) -> None:
    with serve() as service:
        page = ask(service)
        for value in ("3", "3", "4", "4", "3"):
            assert send(service.client, page, "/rate", kind="score", value=value).status_code == 200
        assert [each.value for each in service.feedback()] == [3, 4]


def test_two_answers_are_compared_without_the_names_of_versions(registry: Registry, serve: Serve) -> None:
    registry.challenge("v2", "person:ann", "")
    with serve(traffic=Traffic(share=0.0)) as service:
        page = send(service.client, ask(service), "/again")
        assert "first: Why?" in page.text
        assert "second: Why?" in page.text
        assert not re.search(r"\bv[12]\b|champion|challenger", page.text)
        first, second = service.kept()
        assert (first.version, second.version, second.route) == ("v1", "v2", "challenger")
        page = send(service.client, page, "/rate", kind="better", request=first.id, value=second.id)
        (given,) = service.feedback()
        assert (given.kind, given.request, given.value) == ("better", first.id, second.id)
        assert str(page.url).endswith(f"/?request={first.id}&other={second.id}&kept=better")


def test_answers_of_a_challenger_in_shadow_are_not_shown(registry: Registry, serve: Serve) -> None:
    registry.challenge("v2", "person:ann", "", {"shadow": True})
    with serve() as service:
        page = send(service.client, ask(service), "/again")
        assert "Both answers are the same" in page.text
    shadow = next(each for each in service.kept() if each.route == "shadow")
    with serve() as service:
        assert service.client.get(f"/?request={shadow.id}", headers=HTML).status_code == 404


def test_what_people_and_programs_write_is_escaped(serve: Serve) -> None:
    class Echo(Program):
        def forward(self, question: str, document: str | None = None, conversation: str = "") -> dspy.Prediction:
            return dspy.Prediction(answer=question, passages=[f"It says {question}"], abstained=False, note=EVIL)

    with serve({"first": Echo("first")}) as service:
        page = ask(service, EVIL)
        page = send(service.client, page, "/rate", kind="comment", value=f"</textarea>{EVIL}")
        assert "alert" in page.text
        assert "<script>" not in page.text
        assert page.text.count("</textarea>") == 2
        assert "<mark>&lt;script&gt;alert" in page.text
        refused = send(service.client, service.client.get("/"), "/", **{"in.question": "Why?", "in.document": EVIL})
        assert "<script>" not in refused.text


def test_templates_never_turn_escaping_off() -> None:
    folder = Path(pages.__file__).parent / "templates"
    for file in folder.glob("*"):
        text = file.read_text()
        assert not re.search(r"\|\s*safe|autoescape|style=|<script(?! src)| on\w+=", text), file.name


def test_what_is_wrong_with_a_question_is_said_where_it_was_typed(serve: Serve) -> None:
    def fails(question: str) -> str:
        raise ValueError(f"{question} is not a question")

    with serve({"first": Program("first", fails)}) as service:
        page = ask(service, "Hm", **{"in.document": "lease"})
        assert page.status_code == 422
        assert "Hm is not a question" in page.text
        assert re.search(r"<textarea[^>]*>\s*Hm</textarea>", page.text)
        assert re.search(r"<details open>.*lease</textarea>", page.text, re.S)
        empty = ask(service, "  ")
        assert empty.status_code == 422
        assert "Question is empty." in empty.text


WRONG = (
    ({"kind": "score", "value": "9"}, 422, "value is 9"),
    ({"kind": "score", "value": "many"}, 422, "value"),
    ({"kind": "score", "value": "123x"}, 422, "value"),
    ({"kind": "thumb", "value": "sideways"}, 422, "value"),
    ({"kind": "stars", "value": "5"}, 422, "thumb"),
    ({"kind": "comment", "value": " "}, 422, "value"),
    ({"kind": "correction", "value": "first: Why?"}, 422, "is the answer itself"),
    ({"kind": "thumb", "value": "up", "request": "0" * 32}, 404, "There is no request"),
    ({"kind": "thumb", "value": "up", "id": "x"}, 422, "reload the page"),
    ({"kind": "thumb", "value": "up", "token": "0" * 64}, 403, "nothing was changed"),
)


def test_wrong_feedback_is_refused_in_words(serve: Serve) -> None:
    with serve() as service:
        token = re.search(r'name="token" value="(\w+)"', ask(service).text)
        assert token is not None
        for form, status, sentence in WRONG:
            given = {"token": token[1], "id": "0" * 32, "request": service.kept()[0].id, **form}
            refused = service.client.post("/rate", data=given, headers=HTML)
            assert refused.status_code == status, form
            assert sentence in refused.text, form
        assert service.feedback() == []


def test_an_answer_with_other_line_ends_is_no_correction(serve: Serve) -> None:
    with serve({"first": Program("first", lambda question: "One.\r\nTwo.")}) as service:
        token = re.search(r'name="token" value="(\w+)"', ask(service).text)
        assert token is not None
        given = {"token": token[1], "id": "0" * 32, "request": service.kept()[0].id, "kind": "correction"}
        refused = service.client.post("/rate", data={**given, "value": "One.\r\nTwo."}, headers=HTML)
        assert "is the answer itself" in refused.text


def test_an_unknown_request_is_a_readable_page(serve: Serve) -> None:
    with serve() as service:
        missing = service.client.get(f"/?request={'0' * 32}", headers=HTML)
        assert missing.status_code == 404
        assert "<main" in missing.text
        assert "There is no request" in missing.text


def test_whoever_asked_sees_the_answer_as_it_is_and_others_as_it_is_kept(serve: Serve) -> None:
    with serve(redaction=Redaction([r"\d{4,}"])) as service:
        page = ask(service, "Call 55512345?")
        assert "first: Call 55512345?" in page.text
        with httpx.Client(base_url=service.url) as other:
            assert "first: Call ***?" in other.get(page.url.raw_path.decode(), headers=HTML).text


class Typed(dspy.Module):
    """Takes inputs of many types."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.inputs: list[dict[str, Any]] = []

    def forward(self, text: str, tags: list[str], count: int, loud: bool = False, who: str | None = None) -> Any:
        self.inputs.append({"text": text, "tags": tags, "count": count, "loud": loud, "who": who})
        return dspy.Prediction(answer=text)


def test_inputs_of_other_types_have_fields_of_their_own(serve: Serve) -> None:
    program = Typed()
    with serve({"first": program}) as service:
        form = {"in.text": "a\r\nb", "in.tags": '["x"]', "in.count": "3", "in.loud": "true", "in.who": ""}
        page = service.client.get("/")
        assert send(service.client, page, "/", **form).status_code == 200
        assert program.inputs == [{"text": "a\nb", "tags": ["x"], "count": 3, "loud": True, "who": None}]
        refused = send(service.client, page, "/", **{**form, "in.tags": "x, y"})
        assert refused.status_code == 422
        assert "Tags is not JSON" in refused.text


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of three proposed questions."""
    rows = [
        {
            "status": "proposed",
            "question": f"When does lease {number} end?",
            "answer": "31 March",
            "document": "lease",
            "passage": f"It ends on 31  MARCH {EVIL}",
            "id": f"q{number}",
        }
        for number in range(3)
    ]
    path = tmp_path / "questions.proposed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def labelling(questions: Path) -> Iterator[httpx.Client]:
    with running(label_app(questions, Limits()), Limits()) as url, httpx.Client(base_url=url, headers=HTML) as client:
        yield client


def test_questions_are_accepted_edited_rejected_and_written(questions: Path, labelling: httpx.Client) -> None:
    page = labelling.get("/", follow_redirects=True)
    assert "When does lease 0 end?" in page.text
    assert "<mark>31  MARCH</mark>" in page.text
    assert EVIL not in page.text
    page = send(labelling, page, "/label", verdict="accept")
    assert "When does lease 1 end?" in page.text
    assert "1 of 3 reviewed" in page.text
    page = send(labelling, page, "/label", verdict_form="own", question="Who pays?", answer="", document="lease")
    assert "When does lease 1 end?" in page.text
    page = send(labelling, page, "/label", verdict_form="edit", question="When is the end?", answer="")
    page = labelling.get("/label?after=q2")
    assert "When does lease 2 end?" in page.text  # all others are decided: it comes round
    page = send(labelling, page, "/label", verdict="reject")
    assert "All questions are reviewed" in page.text
    rows = [(row["status"], row["question"], row["answer"]) for row in ProposedQuestions.read(questions)]
    assert rows == [
        ("accepted", "When does lease 0 end?", "31 March"),
        ("edited", "When is the end?", ""),
        ("rejected", "When does lease 2 end?", "31 March"),
        ("accepted", "Who pays?", ""),
    ]
    changed = send(labelling, labelling.get("/label?question=q2"), "/label", verdict="accept")
    assert ProposedQuestions.read(questions)["q2"]["status"] == "accepted"
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"verdict_form": "own", "question": "When does lease 1 end?", "document": "lease"}, 422, "is there already"),
        ({"verdict_form": "own", "question": "Why?", "document": "other"}, 422, "is not held out"),
        ({"verdict_form": "edit", "question": " ", "answer": "kept words"}, 422, "cannot be empty"),
        ({"verdict": "accept", "id": "q9"}, 409, "There is no question"),
        ({"verdict": "shrug"}, 422, "Press one"),
        ({"verdict": "accept", "token": "0" * 64}, 403, "nothing was changed"),
    ],
)
def test_a_wrong_decision_changes_nothing(
    questions: Path, labelling: httpx.Client, form: dict[str, str], status: int, sentence: str
) -> None:
    before = questions.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    if form.get("question", "").startswith("When"):  # as one of your own has it
        send(labelling, labelling.get("/label"), "/label", **form)
        before = questions.read_text()
        assert len(before.splitlines()) == len(rows) + 1
    page = send(labelling, labelling.get("/label"), "/label", **form)
    assert page.status_code == status
    assert sentence in page.text
    assert questions.read_text() == before
    if "answer" in form:
        assert form["answer"] in page.text


def test_a_file_that_an_editor_broke_is_named(questions: Path, labelling: httpx.Client) -> None:
    questions.write_text("{")
    page = labelling.get("/label")
    assert page.status_code == 409
    assert str(questions) in page.text


def test_the_label_page_is_for_this_machine_alone(labelling: httpx.Client) -> None:
    assert labelling.get("/label", headers={"Host": "rebound.example"}).status_code == 401
    assert labelling.get("/label", headers={"Host": "rebound.example", "Accept": "*/*"}).status_code == 401


def waiting(registry: Registry) -> None:
    """A cycle that waits with v2, and two signals."""
    states = ("", "opened", "indexed", "questions", "rows", "trained", "compared", "decided", "waiting")
    for number, (before, after) in enumerate(pairwise(states), start=1):
        reason = f"{after}, because {EVIL}"
        registry.store.add(Transition("c1", before, after, now(), "loop", reason, {"challenger": "v2"}, number))
    registry.challenge("v2", "loop", "trained by c1")
    registry.store.add(Reading("documents", now(), 1, 1, True, {"changed": ["lease"]}))
    registry.store.add(Reading("people", now(), 3, 160, False, {"seen": 20}))


@pytest.mark.parametrize(("verdict", "state", "challenger"), [("approve", "shadow", "v2"), ("reject", "closed", None)])
def test_what_waits_is_shown_and_answered_once(
    registry: Registry, serve: Serve, verdict: str, state: str, challenger: str | None
) -> None:
    waiting(registry)
    with serve() as service:
        page = service.client.get("/loop", headers=HTML)
        assert "Cycle c1 waits for you" in page.text
        assert "1 document changed (lease)." in page.text
        assert "Nothing has changed." in page.text
        assert "trained by c1" in page.text
        assert EVIL not in page.text
        nameless = send(service.client, page, "/loop", verdict=verdict, by="")
        assert nameless.status_code == 422
        done = send(service.client, page, "/loop", verdict=verdict, by="ann", reason="read 20")
        assert done.status_code == 200
        last = registry.store.read(Transition, cycle="c1")[-1]
        assert (last.after, last.by, last.reason) == (state, "person:ann", "read 20")
        assert registry.alias("challenger") == challenger
        again = send(service.client, page, "/loop", verdict=verdict, by="bob")
        assert again.status_code == 409
        assert len(registry.store.read(Transition, cycle="c1")) == 9


def test_a_page_that_is_out_of_date_answers_no_other_cycle(registry: Registry, serve: Serve) -> None:
    waiting(registry)
    with serve() as service:
        page = service.client.get("/loop", headers=HTML)
        registry.store.add(Transition("c1", "waiting", "closed", now(), "loop", "promoted by hand", {}, 9))
        registry.store.add(Transition("c2", "", "opened", now(), "loop", "again", {}, 1))
        refused = send(service.client, page, "/loop", verdict="reject", by="ann")
        assert refused.status_code == 409
        assert "c2 is open now" in refused.text
        assert "End this cycle" in service.client.get("/loop", headers=HTML).text


def test_documents_are_suggested_where_they_are_listed() -> None:
    shape = Shape(("document", "question"), frozenset({"question"}), frozenset(), {}, {"document": ("agency",)})
    assert [(each.name, each.suggestions) for each in entries(shape)] == [("question", ()), ("document", ("agency",))]
