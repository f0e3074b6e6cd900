"""Cleaning: the page layout goes, the words stay."""

from __future__ import annotations

import pytest

from synth_dspy.domains.documents.cleaning import Cleaner, clean, normalise_space

BODY = "The Buyer shall pay every invoice within thirty days of its receipt by wire transfer to the Seller. " * 9


def test_page_numbers_and_running_headers_go() -> None:
    pages = [
        f"Acme Supply Agreement\n\n{BODY}\n\nThis is clause {'abcd'[i]} of it.\n\n{i + 1}\n\nPage {i + 1} of 4\f"
        for i in range(4)
    ]
    text = clean("".join(pages))
    assert text.count("Acme Supply Agreement") == 1  # the title, where it stands first
    assert "Page 2" not in text
    assert not any(line.isdigit() for line in text.split("\n"))
    assert all(f"This is clause {letter} of it." in text for letter in "abcd")


def test_numbers_of_a_table_stay() -> None:
    text = clean(f"{BODY}\nQuantity\n100\n250\n40\n{BODY}")
    assert all(line in text.split("\n") for line in ("100", "250", "40"))


def test_hyphenated_words_are_joined_only_where_that_is_a_word() -> None:
    text = clean("Upon termination nothing is due. After termi-\nnation the non-\nexclusive licence ends.")
    assert "After termination the non-exclusive licence ends." in text


def test_wrapped_lines_become_paragraphs_and_items_do_not() -> None:
    text = clean(
        "The Seller shall deliver the goods at the premises\nof the Buyer, and\n\nshall insure them.\n\n"
        "1. Price\n(a) ten euros;\n(b) twenty euros."
    )
    assert text.split("\n") == [
        "The Seller shall deliver the goods at the premises of the Buyer, and shall insure them.",
        "1. Price",
        "(a) ten euros;",
        "(b) twenty euros.",
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("e\u0301tat", "état"),
        ("of\ufb01ce", "office"),
        ("a\u00a0b", "a b"),
        ("zero\u200bwidth", "zerowidth"),
        ("\x00nul", "nul"),
    ],
)
def test_characters(raw: str, expected: str) -> None:
    assert clean(raw) == expected


def test_quotation_across_a_page_stays_findable() -> None:
    raw = f"{BODY}\nThe term is ten years and\n\n1\n\n\n\nshall begin on\n{BODY}\n\n2\n\n{BODY}"
    cleaner = Cleaner(raw)
    quotation = "The term is ten years and\n\n1\n\n\n\nshall begin on"
    assert cleaner.quote(quotation) == "The term is ten years and shall begin on"
    assert normalise_space(cleaner.quote(quotation)) in normalise_space(cleaner.text())


def test_cleaning_twice_changes_nothing() -> None:
    once = clean(f"ARTICLE 1\n\n{BODY}\n\n(a) one;   (b) two.\n\n\n- 3 -\n")
    assert clean(once) == once
