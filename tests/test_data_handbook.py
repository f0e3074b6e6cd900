"""The handbook in `data/handbook/` keeps its promises: enough pages and questions, answers in the pages' own words."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

from programs.doc_qa import doc_qa
from synth_dspy.core.text import one_line
from synth_dspy.evaluation.metrics import retrieval_recall
from synth_dspy.pipeline.defaults import complete

ROOT = Path(__file__).resolve().parents[1] / "data" / "handbook"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "documents").iterdir())}
QUESTIONS = [json.loads(line) for line in (ROOT / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
ANSWERABLE = [row for row in QUESTIONS if row["references"]]


def test_there_are_as_many_pages_and_questions_as_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    words = sorted(len(text.split()) for text in PAGES.values())
    assert f"in {len(PAGES)} pages, and {len(QUESTIONS)} labelled questions" in readme
    assert f"{words[0]} to {words[-1]} words each" in readme
    kinds = Counter(row["answer_type"] for row in QUESTIONS)
    assert f"{kinds['period']} ask for a period, {kinds['amount']} for an amount" in one_line(readme)
    assert f"{kinds['none']} are not answered anywhere" in one_line(readme)


def test_every_page_has_questions_and_none_is_asked_twice() -> None:
    assert min(Counter(row["document"] for row in QUESTIONS).values()) >= 6
    assert len({row["question"] for row in QUESTIONS}) == len({row["id"] for row in QUESTIONS}) == len(QUESTIONS)
    assert {row["document"] for row in QUESTIONS} == set(PAGES)


def test_the_first_reference_is_in_the_page_s_own_words_and_the_question_does_not_give_it_away() -> None:
    for row in ANSWERABLE:
        first = row["references"][0]
        if row["answer_type"] != "yes_no":
            assert one_line(first).lower() in one_line(PAGES[row["document"]]).lower(), row
        assert not re.search(rf"\b{re.escape(first.lower())}\b", row["question"].lower()), row
    for row in QUESTIONS:
        assert (row["answer_type"] == "none") == (not row["references"]), row


def test_the_engine_finds_every_span_that_there_is() -> None:
    labelled = complete(doc_qa()).source.read().labelled
    assert len(labelled) == len(QUESTIONS)
    for example in labelled:
        expected = bool(example.references) and example.answer_type != "yes_no"
        assert bool(example.spans) == expected, example.id
        assert not example.spans or retrieval_recall(example, example.copy(passages=[PAGES[example.group]])) == 1.0


def test_no_two_pages_repeat_each_other() -> None:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 6]) for i in range(len(words) - 5)}

    for (one, text), (other, others) in combinations(PAGES.items(), 2):
        assert len(shingles(text) & shingles(others)) <= 6, (one, other)
