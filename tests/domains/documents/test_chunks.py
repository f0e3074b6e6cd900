"""Chunks: they cover the document, end where sentences end, and keep their ids where the text is unchanged."""

from __future__ import annotations

from itertools import pairwise

import pytest

from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.chunks import chunk_document, sentences
from synth_dspy.domains.documents.cleaning import normalise_space

SECTIONS = [
    f"{n}. {title}\nThe {who} shall {verb} the goods named in Schedule {n} within {n + 3} days of notice. If it does "
    f"not, the other party may, after a reminder of {n} days, refuse them. Section {n}.2 of this stays in force."
    for n, (title, who, verb) in enumerate(
        [("Delivery", "Seller", "deliver"), ("Payment", "Buyer", "pay for"), ("Return", "Buyer", "return"),
         ("Storage", "Carrier", "store"), ("Repair", "Seller", "repair")] * 4, 1,
    )
]  # fmt: skip


def document(text: str, id: str = "d") -> Document:
    return Document(id, id, text, f"{id}.txt")


@pytest.mark.parametrize("words", [5, 40, 120])
def test_chunks_cover_the_document_within_the_limit(words: int) -> None:
    text = "\n".join(SECTIONS) + "\n" + "word " * 700
    chunks = chunk_document(document(text), words)
    assert normalise_space(" ".join(chunk.text for chunk in chunks)) == normalise_space(text)
    assert max(chunk.words for chunk in chunks) <= 2.5 * words
    assert all(chunk.words == len(chunk.text.split()) for chunk in chunks)
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    assert len({chunk.id for chunk in chunks}) == len(chunks)


def test_sentences_stay_whole() -> None:
    for chunk in chunk_document(document("\n".join(SECTIONS)), 40):
        assert chunk.text.endswith(("notice.", "them.", "force.")), chunk.text


def test_sections_start_chunks() -> None:
    chunks = chunk_document(document("\n".join(SECTIONS)), 60)
    starts = [chunk.text.split("\n")[0] for chunk in chunks]
    assert sum(start in {section.split("\n")[0] for section in SECTIONS} for start in starts) == len(SECTIONS)


def test_sentence_ends() -> None:
    assert sentences("Acme, Inc. of 4 St. James St. in the U.S. owes Mr. B. Smith $1.5 million. It pays.") == [
        "Acme, Inc. of 4 St. James St. in the U.S. owes Mr. B. Smith $1.5 million.",
        "It pays.",
    ]
    assert sentences("The name is Athlete's. Company may use it.") == ["The name is Athlete's.", "Company may use it."]
    assert sentences("The parties agree as follows: 1. Definitions. In this Agreement (a) means b.") == [
        "The parties agree as follows:",
        "1. Definitions.",
        "In this Agreement (a) means b.",
    ]


def test_an_edit_changes_only_the_chunks_around_it() -> None:
    before = chunk_document(document("\n".join(SECTIONS)))
    edited = [*SECTIONS]
    edited[7] = edited[7].replace("Section", "As agreed by telephone, Section")
    after = chunk_document(document("\n".join(edited)))
    changed = {chunk.id for chunk in after} - {chunk.id for chunk in before}
    assert 1 <= len(changed) <= 3


def test_ids_depend_on_document_and_text_alone() -> None:
    one, again, other = (chunk_document(document("\n".join(SECTIONS), id)) for id in ("a", "a", "b"))
    assert [chunk.id for chunk in one] == [chunk.id for chunk in again]
    assert not {chunk.id for chunk in one} & {chunk.id for chunk in other}


def test_repeated_text_gets_ids_of_its_own() -> None:
    chunks = chunk_document(document("\n".join([SECTIONS[0]] * 5)))
    assert len({chunk.text for chunk in chunks}) < len(chunks) == len({chunk.id for chunk in chunks})


@pytest.mark.parametrize(("words", "overlap"), [(20, 5), (40, 10), (60, 30)])
def test_a_chunk_repeats_the_end_of_the_one_before(words: int, overlap: int) -> None:
    chunks = chunk_document(document("\n".join(SECTIONS)), words, overlap)
    assert chunks[0].repeated == 0
    for before, chunk in pairwise(chunks):
        own = before.own_text.split()
        assert chunk.text.split()[: chunk.repeated] == own[-overlap:]
        assert chunk.repeated == min(overlap, len(own))
        assert chunk.words == len(chunk.text.split())
    assert " ".join(chunk.own_text for chunk in chunks).split() == "\n".join(SECTIONS).split()


def test_a_chunk_has_words_of_its_own() -> None:
    with pytest.raises(ValueError, match="room for a word of its own"):
        chunk_document(document("One. Two."), 10, 10)
