"""From items to labelled rows: order, ids, yields, failures, verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Candidate, Item, Verdict
from synth_dspy.core.ledger import Ledger
from synth_dspy.domains.documents.synthesizer import Synthesizer
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.synthesis.pipeline import candidate_id, evenly, synthesise

ITEMS = [Item(f"{group}{i}", group, f"Text {i} of {group}.") for group in "abc" for i in range(4)]


class Writer:
    def __call__(self, item: Item) -> list[Candidate]:
        if item.id == "a1":
            raise RuntimeError("no answer")
        fields = {"question": f"What is {item.id}?", "answer": item.id, "references": [item.id], "document": item.group}
        return [Candidate(candidate_id(item, 0), item, fields, "letters")]


class Even:
    name = "even"

    def __call__(self, candidate: Candidate) -> Verdict:
        if candidate.unit.id == "b2":
            raise ValueError("broken")
        even = int(candidate.unit.id[1]) % 2 == 0
        return Verdict(even, float(even), "" if even else f"odd: {candidate.unit.id}")


class Recorder:
    name = "recorder"
    ordered = True

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, candidate: Candidate) -> Verdict:
        self.seen.append(candidate.unit.id)
        return Verdict(True, 1.0, "")


def test_yields_add_up_and_rejected_candidates_are_judged_no_further(tmp_path: Path) -> None:
    ledger, recorder, steps = Ledger(tmp_path / "ledger.sqlite"), Recorder(), []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))

    made = synthesise(ITEMS, Writer(), [Even(), recorder], executor=Executor(4), ledger=ledger, progress=progress)
    assert steps == [(done, len(ITEMS)) for done in range(1, len(ITEMS) + 1)]
    assert made.failures == {"RuntimeError": 1}
    assert recorder.seen == ["a0", "a2", "b0", "c0", "c2"]
    table = made.yield_table
    assert (table["items"], table["generated"], table["kept"]) == (12, 11, 5)
    assert table["filters"] == [
        {"name": "even", "in": 11, "kept": 5, "reasons": {"odd": 5, "call failed (ValueError)": 1}},
        {"name": "recorder", "in": 5, "kept": 5, "reasons": {}},
    ]
    assert len(ledger.verdicts()) == 16
    kept = made.kept[0]
    assert kept.inputs().toDict() == {"question": "What is a0?", "document": "a"}
    assert (kept.group, kept.category, kept.origin, kept.references) == ("a", "letters", "synthetic", ["a0"])
    rows = made.candidate_rows()
    assert [row["kept"] for row in rows].count(True) == 5
    assert made.contamination is None


def test_limit_takes_evenly_from_the_groups_and_repeats_itself() -> None:
    chosen = evenly(ITEMS, 6)
    assert [item.group for item in chosen] == ["a", "a", "b", "b", "c", "c"]
    assert evenly(list(reversed(ITEMS)), 6) == list(reversed(chosen))
    first = synthesise(ITEMS, Writer(), [Even()], executor=Executor(8), limit=7)
    second = synthesise(ITEMS, Writer(), [Even()], executor=Executor(1), limit=7)
    assert [c.id for c in first.candidates] == [c.id for c in second.candidates]
    assert first.yield_table == second.yield_table


SEEDS = [
    dspy.Example(
        id="s1", group="x", document="x", question="When does the loan end?", answer="3 May 2020",
        references=["3 May 2020"], spans=["ends on 3 May 2020"], passages="The loan ends on 3 May 2020.",
        category="Expiry", answer_type="date",
    ),
    dspy.Example(
        id="s2", group="x", document="x", question="Who keeps the code in escrow?", answer="Silent.",
        references=[], spans=[], passages="The loan.", category="Escrow", answer_type="none",
    ),
]  # fmt: skip


class Spy(PlainAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[list[dict[str, Any]]] = []

    def format(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        self.prompts.append(super().format(*args, **kwargs))
        return self.prompts[-1]


@pytest.mark.parametrize("free", [False, True])
def test_synthesizer_writes_question_then_answer(embedder: Any, free: bool) -> None:
    text = "The lease ends on 9 May 2021. Rent is due monthly, in advance, at the office of the landlord in the town."
    synthesizer = Synthesizer(
        {"date": re.compile(r"\d+ May \d+")}, SEEDS, embedder.embed, abstention="Silent.", free=free, unanswerable=0.5
    )
    replies = [{"question": "When does the lease end?\nWhat else?"}, {"answer": "9 May 2021"}][: 2 if free else 1]
    synthesizer.adapter = Spy()
    synthesizer.set_lm(DummyLM(replies, adapter=synthesizer.adapter))
    made = synthesise([Item("i", "lease", text)], synthesizer, [], executor=Executor(1), limit=2)
    by_kind = {bool(example.references): example for example in made.kept}
    assert (by_kind[True].question, by_kind[True].answer) == ("When does the lease end?", "9 May 2021")
    assert by_kind[True].passages == text
    assert (by_kind[False].question, by_kind[False].answer) == ("Who keeps the code in escrow?", "Silent.")
    prompt = synthesizer.adapter.prompts[0]
    assert prompt[1]["content"].startswith("Text: The loan ends on 3 May 2020.")
    assert prompt[2] == {"role": "assistant", "content": "When does the loan end?"}
    assert len(synthesizer.adapter.prompts) == (2 if free else 1)


PASSAGES = ["OFFICE LEASE", "The lease is made on 2 June 2020 and ends on 9 May 2021, at noon."]


def asking(embedder: Any, reply: str, **more: Any) -> Synthesizer:
    """A capable teacher that gives one reply, and only asks what seeds ask."""
    synthesizer = Synthesizer(
        {"date": re.compile(r"\d+ (?:May|June) \d+")},
        more.pop("seeds", SEEDS),
        embedder.embed,
        abstention="Silent.",
        free=True,
        unanswerable=0.0,
        **{"transferred_share": 1.0, "search": lambda question, group: PASSAGES if group == "lease" else [], **more},
    )
    synthesizer.adapter = Spy()
    synthesizer.set_lm(DummyLM([{"answer": reply}], adapter=synthesizer.adapter))
    return synthesizer


def test_what_seeds_ask_of_others_is_answered_from_a_search_here(embedder: Any) -> None:
    synthesizer = asking(embedder, "The lease ends on 9 May 2021.")
    [made] = synthesise([Item("i", "lease", "Page 1")], synthesizer, [], executor=Executor(1), limit=1).kept
    assert made.question == "When does the loan end?"  # a seed's own words
    assert (made.answer, made.references, made.answer_type) == ("9 May 2021", ["9 May 2021"], "date")
    assert made.passages == "\n".join(PASSAGES)
    assert made.source == made.spans[0] == PASSAGES[1]
    assert made.near.startswith("The lease is made on 2 June 2020 and ends on 9 May 2021")
    assert "OFFICE LEASE" in synthesizer.adapter.prompts[0][-1]["content"]


def test_a_teacher_is_not_shown_what_others_answer_to_the_same_question(embedder: Any) -> None:
    fee = dspy.Example(
        id="s3", group="y", document="y", question="What is the fee?", answer="90 dollars", references=["90 dollars"],
        spans=["fee of 90 dollars"], passages="It costs a fee of 90 dollars.", category="Fee", answer_type="amount",
    )  # fmt: skip
    synthesizer = asking(embedder, "9 May 2021", seeds=[*SEEDS, fee])
    question_units = [unit for unit in synthesizer.plan([Item("i", "lease", "")], None) if unit.mode == "asked"]
    [unit] = [unit for unit in question_units if unit.choice.category == "Expiry"]
    assert [shot.category for shot in unit.choice.shots] == ["Fee"]


def test_what_is_not_of_the_kind_that_was_asked_for_is_no_answer(embedder: Any) -> None:
    synthesizer = asking(embedder, "The lease ends at noon")
    made = synthesise([Item("i", "lease", "Page 1")], synthesizer, [], executor=Executor(1), limit=1)
    assert [candidate.fields["answer"] for candidate in made.candidates] == [""]


def test_a_yes_or_no_is_not_looked_for_in_a_document(embedder: Any) -> None:
    seed = dspy.Example(
        id="s4", group="y", document="y", question="Does it grant a license?", answer="No", references=["No"],
        spans=["no license"], passages="It gives no license.", category="Grant", answer_type="",
    )  # fmt: skip
    units = asking(embedder, "", seeds=[seed]).plan([Item("i", "lease", "")], 4)
    assert [unit.mode for unit in units] == ["free"]


def test_words_of_two_passages_are_no_quotation(embedder: Any) -> None:
    pages = ["It ends on 9 May", "2021 or later."]
    synthesizer = asking(embedder, "It ends on 9 May 2021", search=lambda question, group: pages)
    made = synthesise([Item("i", "lease", "Page 1")], synthesizer, [], executor=Executor(1), limit=1)
    assert [candidate.fields["answer"] for candidate in made.candidates] == [""]


def test_what_is_learned_of_a_document_anyway_is_not_asked_again(embedder: Any) -> None:
    items = [Item("i", "lease", "Page 1")]
    seed_row = dspy.Example(group="lease", category=SEEDS[0].get("category"), question="When does it end?")
    assert [unit.mode for unit in asking(embedder, "").plan(items, 4)] == ["asked", "free"]
    assert [unit.mode for unit in asking(embedder, "", learned=[seed_row]).plan(items, 4)] == ["free"]


def test_without_a_search_a_capable_teacher_only_writes_freely(embedder: Any) -> None:
    units = asking(embedder, "", search=None).plan([Item("i", "lease", "Page 1")], 4)
    assert [unit.mode for unit in units] == ["free"]


def test_a_filter_that_wants_to_see_all_candidates_first_is_shown_them() -> None:
    class Half:
        """Rejects the shorter half of what is left."""

        name = "half"
        least = 0

        def prepare(self, candidates: Sequence[Candidate]) -> None:
            lengths = sorted(len(str(c.fields["question"])) for c in candidates)
            self.least = lengths[len(lengths) // 2]

        def __call__(self, candidate: Candidate) -> Verdict:
            return Verdict(len(str(candidate.fields["question"])) >= self.least, 1.0, "short")

    items = [Item(f"i{n}", f"g{n}", "x" * n) for n in range(1, 7)]

    def write(item: Item) -> list[Candidate]:
        return [Candidate(item.id, item, {"question": item.text, "references": ["x"]})]

    made = synthesise(items, write, [Half()], executor=Executor(2))
    assert [example.id for example in made.kept] == ["i4", "i5", "i6"]
