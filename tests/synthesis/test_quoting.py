"""Of a reply, what stands in the text it was to be taken from."""

from __future__ import annotations

import pytest

from synth_dspy.domains.documents.quoting import quoted

TEXT = (
    'This Agreement is made on 9 May 2021 between Alder Ltd. ("Alder") and Birch GmbH.\nIt is governed by the laws of '
    "the State of Maryland and lasts\ntwelve (12) months from the date hereof."
)


@pytest.mark.parametrize(
    ("question", "reply", "expected"),
    [
        ("Which law governs the contract?", "The contract is governed by the State of Maryland.", "State of Maryland"),
        ("When was it made?", "It was made on 9 May 2021.", "made on 9 May 2021"),
        (
            "How long does it last?",
            "Twelve (12) months from the date hereof",
            "twelve (12) months from the date hereof",
        ),
        ("How long does it last?", "lasts twelve (12)", "lasts twelve (12)"),  # across a line's end
        ("Who are the parties?", 'Alder Ltd. ("Alder"), Birch GmbH', ""),  # two pieces: not one quotation
        ("Which law governs it?", "The laws of Delaware", ""),
        ("Which law governs the contract?", "The contract", ""),  # nothing of its own
        ("Which law governs it?", "", ""),
    ],
)
def test_the_longest_run_that_says_what_the_reply_adds(question: str, reply: str, expected: str) -> None:
    quote = quoted(reply, TEXT, question)
    assert quote.endswith(expected) if expected else quote == ""
    assert quote in " ".join(TEXT.split())


def test_a_bracket_without_its_partner_goes() -> None:
    assert quoted("months) from the date", "twelve (12 months) from the date hereof") == "months) from the date"
    assert quoted("(Alder and", "between (Alder and Birch) only") == "Alder and"
    assert quoted("(Alder and Birch)", "between (Alder and Birch) only") == "(Alder and Birch)"


def test_an_empty_text_holds_nothing() -> None:
    assert quoted("9 May 2021", "") == ""
