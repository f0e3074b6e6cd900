"""Spans, what stands around them, and which seeds are shown for them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from synth_dspy.domains.documents import spans
from synth_dspy.domains.documents.spans import excerpt, find_spans, with_context
from synth_dspy.synthesis.demonstrations import Demonstrations, Shot

PATTERNS = {
    "date": re.compile(r"\d{1,2} May \d{4}"),
    "law": re.compile(r"laws of (?P<answer>[A-Z]\w+)|Swiss law"),
    "number": re.compile(r"\d+"),
}


def test_spans_do_not_overlap_and_named_groups_are_the_span() -> None:
    spans_found = find_spans(
        "On 3 May\n2020 and 7 days; laws of Ohio; Swiss law.", {**PATTERNS, "date": re.compile(r"\d+ May\s\d+")}
    )
    assert [(span.kind, span.text) for span in spans_found] == [
        ("date", "3 May 2020"),
        ("number", "7"),
        ("law", "Ohio"),
        ("law", "Swiss law"),
    ]


def test_excerpt_is_the_sentence_around_the_span() -> None:
    text = "Tenant pays rent. The lease ends on 3 May 2020, at noon. Landlord repairs the roof."
    at = text.index("3 May 2020")
    assert excerpt(text, at, at + 10) == "The lease ends on 3 May 2020, at noon."
    assert excerpt(text, at, at + 10, words=6) == "ends on 3 May 2020,"
    assert with_context(text, at, at + 10, before=2, after=0) == "ends on 3 May 2020"


def test_excerpt_of_a_long_sentence_keeps_the_span() -> None:
    text = " ".join(["word"] * 200 + ["3 May 2020"] + ["word"] * 200) + "."
    at = text.index("3 May 2020")
    extract = excerpt(text, at, at + 10, words=30)
    assert "3 May 2020" in extract
    assert len(extract.split()) == 30


def test_a_long_text_is_split_into_sentences_once_for_all_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    split: list[str] = []
    sentences = spans.sentences
    monkeypatch.setattr(spans, "sentences", lambda line: split.append(line) or sentences(line))
    lines = [f"Site {i} is open. It closes on {i % 28 + 1} May 2020. Ring {i}." for i in range(100)]
    text = "\n".join(lines)
    dates = [span for span in find_spans(text, PATTERNS) if span.kind == "date"]
    excerpts = [excerpt(text, span.start, span.end) for span in dates]
    assert excerpts == [f"It closes on {i % 28 + 1} May 2020." for i in range(100)]
    assert with_context(text, dates[99].start, dates[99].end) == "It closes on 16 May 2020 ."
    assert split == lines


def test_demonstrations_come_from_other_documents_and_the_nearest_category(embedder: Any) -> None:
    shots = [
        Shot("a", "Expiry", "date", "the lease ends on 3 May 2020", "When does it end?", "3 May 2020"),
        Shot("b", "Expiry", "date", "the licence ends on 4 May 2020", "What is the last day?", "4 May 2020"),
        Shot("b", "Signature", "date", "signed by both on 9 May 2020", "When was it signed?", "9 May 2020"),
        Shot("b", "Law", "law", "the lease ends under the laws of Ohio", "Which law?", "Ohio"),
    ]
    chosen = Demonstrations(shots, embedder.embed, count=2).choose("date", ["the lease ends on 7 May 2021"], "a")[0]
    assert chosen.category == "Expiry"
    assert [shot.question for shot in chosen.shots] == ["When was it signed?", "What is the last day?"]
    assert Demonstrations([], embedder.embed).choose("date", ["x"], "a")[0].shots == ()
