"""Which seeds are shown for a question that seeds ask of other documents."""

from __future__ import annotations

from typing import Any

from synth_dspy.synthesis.demonstrations import Demonstrations, Shot

CLAUSE = "Neither party may assign this Agreement without the written consent of the other"


def shot(category: str, group: str, answer: str) -> Shot:
    return Shot(group, category, "", f"It says {answer}.", f"What of {category} in {group}?", answer)


SHOTS = [
    *[shot("law", group, "Ohio") for group in "abc"],
    *[shot("date", group, "1 May 2020") for group in "abc"],
    *[shot("assignment", group, CLAUSE) for group in "abc"],
    *[shot("insurance", group, f"{CLAUSE} and insurer") for group in "abc"],
]


def test_demonstrations_of_others_are_as_long_of_another_category_and_document(embedder: Any) -> None:
    shown = Demonstrations(SHOTS, embedder.embed, count=2)
    assert {each.category for each in shown.of_others("insurance", "a")} == {"assignment"}
    assert {each.category for each in shown.of_others("law", "a")} == {"date"}
    assert {each.group for each in shown.of_others("insurance", "a")} == {"b", "c"}


def test_documents_share_demonstrations(embedder: Any) -> None:
    shown = Demonstrations(SHOTS, embedder.embed, count=2)
    assert shown.of_others("insurance", "x") == shown.of_others("insurance", "y")
    assert shown.of_others("unheard of", "x") == shown.of_others("unheard of", "y")


def test_without_seeds_nothing_is_shown(embedder: Any) -> None:
    assert Demonstrations([], embedder.embed).of_others("law", "a") == ()
