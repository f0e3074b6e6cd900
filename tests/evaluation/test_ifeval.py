"""IFEval's checks: each kind of instruction followed and not followed."""

from __future__ import annotations

from typing import Any

import pytest

from synth_dspy.evaluation.retention.ifeval import KINDS, count_sentences, follows

ENGLISH = "cows eat grass and they like it very much when the weather is good."
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        ["NASA and ESA met."],
        ["NASA met Bob."],
    ),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, ENGLISH.capitalize()]),
    (
        "change_case:english_lowercase",
        {},
        [ENGLISH],
        [ENGLISH.capitalize(), "das boot liegt im hafen und die männer flicken ihre netze"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "What is tea?"},
        ["what is tea? A drink."],
        ["A drink. What is tea?"],
    ),
    (
        "combination:two_responses",
        {},
        ["One.\n******\nTwo."],
        ["One.", "One.\n******\nOne.", "1\n******\n2\n******\n3"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["Dear [name], at [time]"],
        ["Dear [name]", "Dear (a) (b)"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\n\nP.S. Thanks", "Bye. p. s. x"],
        ["Bye. PS Thanks"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        ["Bye.\n\nP.P.S Thanks"],
        ["Bye.\n\nP.S. Thanks"],
    ),
    ("detectable_format:constrained_response", {}, ["My answer is maybe."], ["My answer is perhaps.", "Yes."]),
    ("detectable_format:json_format", {}, ['{"a": 1}', "```json\n[1, 2]\n```", "```\n3\n```"], ["{'a': 1}", "a: 1"]),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb"],
        ["SECTION 1\na", "SECTION\na\nSECTION\nb"],
    ),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n* b", "- a\n* b"], ["* a", "- a\n- b\n- c"]),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*one* and **two**"],
        ["*one* and two", "** ** and *one*"],
    ),
    ("detectable_format:title", {}, ["<<A title>>\ntext"], ["A title", "<< >>"]),
    ("keywords:existence", {"keywords": ["tea", "cup"]}, ["A Cup of TEA"], ["A cup of coffee"]),
    ("keywords:forbidden_words", {"forbidden_words": ["tea"]}, ["A team"], ["Tea!"]),
    (
        "keywords:frequency",
        {"keyword": "tea", "frequency": 2, "relation": "less than"},
        ["tea"],
        ["tea, more tea"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "E", "let_frequency": 3, "let_relation": "at least"},
        ["Eel pie"],
        ["Eel"],
    ),
    ("language:response_language", {"language": "de"}, ["Im Winter ist es kalt und dunkel."], [ENGLISH]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "snow"},
        ["One.\n\nSnow, and more.", "One.\n\n'Snow' fell."],
        ["One.\n\nThe snow.", "Snow.\n\nTwo.", "One.\n\nSnow.\n\nThree."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["One\n***\nTwo", "***\nOne\n***\nTwo"],
        ["One", "One\n***\n***\nTwo", "1\n***\n2\n***\n3"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["It rains. It pours!"],
        ["Mr. Smith waits."],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["two words"], ["these are three"]),
    ("punctuation:no_comma", {}, ["no comma here"], ["one, two"]),
    ("startend:end_checker", {"end_phrase": "That is all."}, ['It rains. "that is ALL."'], ["That is all. Really."]),
    ("startend:quotation", {}, ['"So be it."'], ['"So" be it.', '"']),
]


@pytest.mark.parametrize(("kind", "arguments", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_each_kind_of_instruction(kind: str, arguments: dict[str, Any], good: list[str], bad: list[str]) -> None:
    assert [follows(kind, reply, arguments) for reply in good] == [True] * len(good)
    assert [follows(kind, reply, arguments) for reply in bad] == [False] * len(bad)
    assert not follows(kind, " \n", arguments)


def test_every_kind_has_its_case() -> None:
    assert {kind for kind, *_ in CASES} == KINDS
    assert len(KINDS) == 25


def test_arguments_that_are_null_are_not_given() -> None:
    assert follows("punctuation:no_comma", "x", {"num_words": None})
    assert follows("length_constraints:number_words", "one two", {"num_words": 2, "relation": None})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two? Three!", 3),
        ("Dr. No met Mr. J. Smith at 5 p.m. on Friday.", 1),
        ("1. Boil water.\n2. Add tea.", 2),
        ("It costs 3.50 at most", 1),
        ('He said "Stop." Then he left.', 2),
        ("...", 1),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count
