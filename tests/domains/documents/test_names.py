"""What people call documents: ids, paths and file names, with and without endings, wherever a document is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder
from scripted import scripted_lm, scripted_resources
from test_search import Answer

from synth_dspy import RAG
from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.labelled import read_labels
from synth_dspy.domains.documents.opening import Collection
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
