"""What people call documents: ids, paths and file names, with and without endings, wherever a document is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder
from scripted import scripted_lm, scripted_resources
from test_search import Answer

from synth_dspy import RAG, Documents
from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.labelled import read_labels
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.proposals import proposed_questions
from synth_dspy.domains.documents.retrieval import Retriever
from synth_dspy.service.inputs import Inputs

DOCUMENTS = [
    Document("cars-b953", "cars", "Cars are booked with Sixt.", "booking/cars.txt"),
    Document("cars-e5c7", "cars", "Cars are washed on Mondays.", "costs/cars.txt"),
    Document("card 2.0", "card 2.0", "The card costs EUR 45.", "card 2.0.pdf", (("old card", "costs/old card.pdf"),)),
]
ACCEPTED = {
    "booking/cars.txt": "cars-b953",
    "booking/cars": "cars-b953",
    "cars-e5c7": "cars-e5c7",
    "card 2.0": "card 2.0",
    "card 2.0.pdf": "card 2.0",
    "old card": "card 2.0",
    "costs/old card": "card 2.0",
    "old card.pdf": "card 2.0",
}
REFUSED = {
    "cars": "several documents are called that; give the path of one: booking/cars.txt, costs/cars.txt",
    "cars.txt": "several documents are called that; give the path of one: booking/cars.txt, costs/cars.txt",
    "boking/cars": "no such document was read; the nearest is 'booking/cars'",
    "zebra": "no such document was read; use one of 3 ids such as card 2.0, cars-b953, cars-e5c7",
}


def labels(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(f"question,answer,document\nWho?,Sixt,{name}\n", encoding="utf-8")
    return path


@pytest.fixture
def retriever(tmp_path: Path, embedder: HashingEmbedder) -> Retriever:
    return Collection(tmp_path / "index", DOCUMENTS, embedder).retriever(Retrieval())


def test_labels_name_a_document_by_its_id_path_or_file(tmp_path: Path) -> None:
    for name, id in ACCEPTED.items():
        assert read_labels(labels(tmp_path, name), DOCUMENTS)[0]["document"] == id
    for name, problem in REFUSED.items():
        with pytest.raises(SetupError) as error:
            read_labels(labels(tmp_path, name), DOCUMENTS)
        assert str(error.value).endswith(f"line 2: field 'document' is \"{name}\"; but {problem}.")


def test_a_program_takes_the_same_names_and_a_service_keeps_the_id(retriever: Retriever) -> None:
    program = RAG(Answer)(scripted_resources(scripted_lm(lambda prompt: "Sixt"), retriever=retriever, steps="off"))
    program.set_lm(scripted_lm(lambda prompt: "Sixt"))
    texts = {document.id: document.text for document in DOCUMENTS}
    inputs = Inputs(program)
    for name, id in ACCEPTED.items():
        assert program(question="Who?", document=name).passages == [texts[id]]
        assert inputs.check({"question": "Who?", "document": name})["document"] == id
    for name, problem in REFUSED.items():
        with pytest.raises(ValueError, match=re.escape(f"The document {name!r} cannot be searched: {problem}.")):
            program(question="Who?", document=name)
        assert inputs.check({"question": "Who?", "document": name})["document"] == name


def test_of_files_with_one_text_one_is_read_and_goes_by_all_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    (folder / "booking").mkdir(parents=True)
    for path, text in {
        "visa.rst": "A visa costs EUR 90.",
        "booking/visa (copy).rst": "A visa costs EUR 90.",
        "booking/cars.txt": "Cars are booked with Sixt.",
        "expenses/cars.md": "Cars are booked with Sixt.\n",
        "other.txt": "Something else.",
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    labelled = tmp_path / "labels.csv"
    names = ("visa (copy)", "visa", "booking/visa (copy).rst", "cars", "cars.md", "cars.txt", "expenses/cars")
    lines = [f"What costs {number}?,EUR 90,{name}" for number, name in enumerate(names)]
    labelled.write_text("\n".join(["question,answer,document", *lines]), encoding="utf-8")
    knowledge = Documents(folder, labelled).read()
    assert [document.path for document in knowledge.documents] == ["booking/cars.txt", "other.txt", "visa.rst"]
    assert [(skip.path, skip.why) for skip in knowledge.skipped] == [
        ("booking/visa (copy).rst", "has the same text as visa.rst"),
        ("expenses/cars.md", "has the same text as booking/cars.txt"),
    ]
    cars = knowledge.documents[0].id
    assert cars.startswith("cars-"), "the id is the same as before"
    assert [example.group for example in knowledge.labelled] == ["visa"] * 3 + [cars] * 4


def test_questions_that_were_proposed_about_both_files_are_asked_once_about_the_one(tmp_path: Path) -> None:
    document = Document("visa", "visa", "A visa costs EUR 90.", "visa.rst", (("visa (copy)", "b/visa (copy).rst"),))
    rows = [
        {"status": "rejected", "question": "What costs it?", "answer": "EUR 90", "document": "visa", "id": "1"},
        {"status": "accepted", "question": "What costs it?", "answer": "EUR 90", "document": "visa (copy)", "id": "2"},
        {"status": "accepted", "question": "Is it free?", "answer": "no", "document": "visa (copy)", "id": "3"},
    ]
    file = tmp_path / "questions.proposed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    questions = proposed_questions(tmp_path).about([document])
    assert questions.documents == {"visa"}
    assert [(row["id"], row["document"]) for row in questions.labels([document], "")] == [("2", "visa"), ("3", "visa")]
