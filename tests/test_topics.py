"""Topics as a source: rules in plain text, the house's files, real questions, how varied a set of questions is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.assistant import House, RealQuestion, Topics, diversity, read_real, read_rules, violations
from synth_dspy.domains.assistant.real import IN_SCOPE, balanced, some
from synth_dspy.domains.assistant.units import SubtopicItem
from synth_dspy.pipeline.datasets import split
from synth_dspy.synthesis.decontaminate import decontaminate


@pytest.fixture
def house(workspace: Path) -> House:
    return House(workspace / "data" / "bank")


def only(text: str, in_scope: bool) -> str:
    """The lines of a file of topics or questions that are in scope, or those that are not."""
    return "".join(line for line in text.splitlines(True) if json.loads(line)["in_scope"] is in_scope)


class TestRules:
    def write(self, tmp_path: Path, text: str) -> Path:
        path = tmp_path / "rules.md"
        path.write_text(text, encoding="utf-8")
        return path

    def test_a_rule_is_a_sentence_and_its_checks(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "# Rules\nwhy\n\n## calm\nNo shouting,\nplease.\n- never: `!`\n- words: 3\n")
        (rule,) = read_rules(path)
        assert (rule.id, rule.text, rule.words) == ("calm", "No shouting, please.", 3)
        assert violations("Stop!", [rule]) == ["calm"]
        assert violations("one two three four", [rule]) == ["calm"]
        assert violations("one two three", [rule]) == []

    def test_case_and_curly_quotes_make_no_difference(self, tmp_path: Path) -> None:
        (rule,) = read_rules(self.write(tmp_path, "## r\nNo.\n- never: `don't`\n"))
        assert rule.broken_by("DON’T")

    def test_always_must_be_there_but_an_empty_answer_breaks_nothing(self, tmp_path: Path) -> None:
        (rule,) = read_rules(self.write(tmp_path, "## r\nEnd it.\n- always: `[.]$`\n"))
        assert rule.broken_by("no end")
        assert not rule.broken_by("an end.")
        assert not rule.broken_by(" ")

    def test_a_rule_without_checks_is_for_a_judge(self, tmp_path: Path) -> None:
        (rule,) = read_rules(self.write(tmp_path, "## kind\nBe kind.\n"))
        assert not rule.checked
        assert violations("anything", [rule]) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("# only a title\n", "has no rules"),
            ("## empty\n- never: `x`\n", "says nothing"),
            ("## bad\nText.\n- never: `(`\n", "line 3"),
            ("## odd\nText.\n- sometimes: `x`\n", "is not a check"),
            ("## twice\nA.\n## twice\nB.\n", "two rules named 'twice'"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(SetupError, match=re.escape(message)):
            read_rules(self.write(tmp_path, text))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="cannot be read"):
            read_rules(tmp_path / "none.md")


class TestHouse:
    def test_the_bank_is_large_enough(self, house: House) -> None:
        rows = house.examples()
        assert len(house.topics) >= 12
        assert len(house.rules) >= 20
        assert len(rows) >= 150
        assert sum("conversation" in row for row in rows) >= 15
        questions = [row["question"].casefold() for row in rows]
        assert len(set(questions)) == len(questions)

    def test_adversarial_prompts_name_the_rule_they_attack_and_are_not_learned_from(self, house: House) -> None:
        rows = house.examples(house.folder / "adversarial.jsonl")
        names = {rule.id for rule in (*house.rules, *house.tone)}
        assert len(rows) >= 40
        assert {row["breaks"] for row in rows} <= names
        assert len({row["breaks"] for row in rows}) >= 20
        assert any("conversation" in row for row in rows)
        assert not {row["question"] for row in rows} & {row["question"] for row in house.examples()}

    def test_the_house_keeps_its_own_rules(self, house: House) -> None:
        rules = (*house.rules, *house.tone)
        house_answers = [part.answer for topic in house.topics for part in topic.subtopics]
        house_answers += [row["answer"] for row in house.examples()]
        house_answers += [house.words("decline"), house.words("general")]
        assert {answer: broken for answer in house_answers if (broken := violations(answer, rules))} == {}

    def test_most_rules_are_checked_by_a_program(self, house: House) -> None:
        assert [rule.id for rule in house.rules if not rule.checked] == ["scope"]

    def test_the_page_of_rules_holds_scope_rules_and_tone(self, house: House) -> None:
        page = house.instructions()
        for rule in (*house.rules, *house.tone):
            assert rule.text in page
        assert "Mortgages" in page
        assert "Food and cooking" not in page

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"topic": "nowhere"}, "no topic 'nowhere'"),
            ({"references": []}, "add at least one accepted answer"),
            ({"in_scope": False}, "leave references empty"),
            ({"kind": "odd"}, "make it one of plain, borderline, attempt"),
            ({"question": ""}, "question"),
        ],
    )
    def test_mistakes_in_questions_are_named(self, house: House, tmp_path: Path, change: dict, message: str) -> None:
        row = {"id": "1", "topic": "savings", "question": "How?", "in_scope": True, "references": ["So."]} | change
        path = tmp_path / "examples.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        with pytest.raises(SetupError, match=re.escape(message)):
            house.examples(path)

    @pytest.mark.parametrize(
        ("file", "edit", "message"),
        [
            ("rules.md", lambda text: text + "\n## odd\nText.\n- never: `(`\n", "is not a regular expression"),
            ("tone.md", None, "cannot be read"),
            ("house.toml", lambda text: text.replace("general =", "generally ="), "lacks 'general'"),
            ("house.toml", lambda text: text.replace("short =", "brief ="), "lacks 'short'"),
            ("examples.jsonl", None, "examples.jsonl cannot be read"),
            ("tone.md", lambda text: text + "\n## terse\nBe terse.\n- words: 3\n", "first the rule 'terse' in decline"),
            ("examples.jsonl", lambda text: only(text, True), "nothing teaches the assistant to decline"),
            ("examples.jsonl", lambda text: only(text, False), "nothing teaches the assistant to answer"),
            ("topics.jsonl", lambda text: only(text, True), 'topics.jsonl has no topic with "in_scope": false'),
        ],
    )
    def test_all_of_a_house_is_read_before_any_model(
        self, house: House, tmp_path: Path, file: str, edit: Callable[[str], str] | None, message: str
    ) -> None:
        shutil.copytree(house.folder, tmp_path / "mine")
        path = tmp_path / "mine" / file
        if edit is None:
            path.unlink()
        else:
            path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
        with pytest.raises(SetupError, match=re.escape(message)):
            Topics(House(tmp_path / "mine")).check()

    @pytest.mark.parametrize(("scope", "lesson"), [(True, "decline"), (False, "answer")])
    def test_a_house_with_topics_of_one_kind_is_refused(
        self, house: House, tmp_path: Path, scope: bool, lesson: str
    ) -> None:
        shutil.copytree(house.folder, tmp_path / "mine")
        for name in ("topics.jsonl", "examples.jsonl"):
            path = tmp_path / "mine" / name
            path.write_text(only(path.read_text(encoding="utf-8"), scope), encoding="utf-8")
        with pytest.raises(SetupError, match=rf"topics\.jsonl has no topic .*teaches the assistant to {lesson}\."):
            Topics(House(tmp_path / "mine")).check()

    def test_a_missing_word_of_the_house_is_named(self, house: House, tmp_path: Path) -> None:
        shutil.copytree(house.folder, tmp_path / "mine")
        (tmp_path / "mine" / "house.toml").write_text('role = "You answer."\n', encoding="utf-8")
        with pytest.raises(SetupError, match="lacks 'decline'"):
            House(tmp_path / "mine").instructions()


class TestSource:
    @pytest.mark.parametrize("seed", range(5))
    def test_every_split_has_questions_to_answer_and_to_decline(self, house: House, seed: int) -> None:
        for name, part in split(Topics(house).read(), seed).items():
            scopes = {bool(example.references) for example in part.labelled}
            assert scopes == {True, False}, name

    def test_rows_are_as_the_engine_wants_them(self, house: House) -> None:
        for row in Topics(house).read().labelled:
            assert set(row.inputs().keys()) == {"question", "conversation"}
            assert row.answer
            assert bool(row.references) == row.expected["in_scope"]

    def test_a_limit_leaves_both_kinds_of_topics(self, house: House) -> None:
        knowledge = Topics(house).read(limit=4)
        assert len({item.group for item in knowledge.items}) == 4
        assert {item.topic.in_scope for item in knowledge.items if isinstance(item, SubtopicItem)} == {True, False}
        assert {example.group for example in knowledge.labelled} <= {item.group for item in knowledge.items}

    def test_other_labelled_questions_are_read(self, house: House) -> None:
        rows = Topics(house).read_labelled(house.folder / "adversarial.jsonl")
        assert rows[0].expected["breaks"] == "scope"
        assert rows[0].references == []


class TestRealQuestions:
    def test_the_publishers_layouts_and_json_lines_agree(self, tmp_path: Path, house: House) -> None:
        clinc = {
            "train": [["what is my balance", "balance"], ["set a timer", "timer"]],
            "oos_test": [["a show on broadway", "oos"]],
        }
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "data_full.json").write_text(json.dumps(clinc), encoding="utf-8")
        lines = [
            {"text": text, "intent": intent, "split": name} for name, rows in clinc.items() for text, intent in rows
        ]
        (tmp_path / "l").mkdir()
        (tmp_path / "l" / "train.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        published, listed = read_real(tmp_path / "c"), read_real(tmp_path / "l")
        assert published == listed
        assert [question.in_scope for question in published] == [True, False, False]
        (tmp_path / "b").mkdir()
        text = 'text,category\n"Where is it, my card?",card_arrival\n'
        (tmp_path / "b" / "train.csv").write_text(text, encoding="utf-8")
        (question,) = read_real(tmp_path / "b")
        assert (question.text, question.in_scope, question.group) == (
            "Where is it, my card?",
            True,
            "banking77:card_arrival",
        )
        rows = Topics(house).read_labelled(tmp_path / "c")
        assert [bool(row.references) for row in rows if row.subtopic == "balance"] == [True]
        assert all(row.expected["reference"] is False for row in rows)

    def test_what_is_neither_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="Looked for Banking77 or CLINC150"):
            read_real(tmp_path)
        (tmp_path / "data_full.json").write_text("[1, 2]", encoding="utf-8")
        with pytest.raises(SetupError, match="neither Banking77's CSV nor CLINC150's"):
            read_real(tmp_path)
        (tmp_path / "train.csv").write_text("question,label\nHow?,x\n", encoding="utf-8")
        (tmp_path / "data_full.json").unlink()
        with pytest.raises(SetupError, match="fetch it again"):
            read_real(tmp_path)

    def test_thirty_intents_of_clinc_are_in_scope(self, shared_data: Path) -> None:
        questions = read_real(shared_data / "clinc150")
        intents = {question.intent for question in questions}
        assert len(IN_SCOPE) == 30
        assert intents >= IN_SCOPE
        assert len(intents) == 151
        assert 3_000 < sum(question.in_scope for question in questions) < 4_500
        assert len({question.text.casefold() for question in questions}) == len(questions)
        few = some(questions, 2)
        assert max(sum(q.group == question.group for q in few) for question in few) == 2

    def test_as_many_are_in_scope_as_out_of_it(self) -> None:
        few = [RealQuestion(f"i{n}", f"in {n}", "clinc150", f"in{n % 3}", True) for n in range(12)]
        many = [RealQuestion(f"o{n}", f"out {n}", "clinc150", f"out{n % 20}", False) for n in range(200)]
        kept = balanced([*few, *many], 5)
        for scope, most in ((True, 4), (False, 4)):
            inside = [question for question in kept if question.in_scope is scope]
            assert len(inside) == 12
            assert len({question.group for question in inside}) == 3
            assert max(sum(q.group == question.group for q in inside) for question in inside) >= most
        assert balanced([*reversed(many), *few], 5) == kept, "the order of a file makes no difference"
        assert len(balanced(few, 2)) == 6, "where all are in scope, all intents stay"

    def test_clinc150_is_balanced_where_it_is_read(self, shared_data: Path, house: House) -> None:
        source = Topics(house, shared_data / "clinc150")
        joined = [row for row in source.read().labelled if row.group.startswith("clinc150:")]
        for rows in (joined, source.read_labelled(shared_data / "clinc150")):
            inside = [row for row in rows if row.references]
            assert 2 * len(inside) == len(rows) > 280
            assert 2 * len({row.group for row in inside}) == len({row.group for row in rows})

    def test_banking77_is_in_scope(self, shared_data: Path) -> None:
        questions = read_real(shared_data / "banking77")
        assert len({question.group for question in questions}) == 77
        assert all(question.in_scope for question in questions)

    def test_real_questions_join_the_house_s(self, shared_data: Path, house: House) -> None:
        knowledge = Topics(house, shared_data / "clinc150").read()
        real = [row for row in knowledge.labelled if row.group.startswith("clinc150:")]
        assert {row.group for row in real} <= {item.group for item in knowledge.items}
        assert {bool(row.references) for row in real} == {True, False}
        assert len(knowledge.labelled) > len(real)

    def test_the_answer_that_they_share_is_no_contamination(self, house: House) -> None:
        source = Topics(house)
        in_scope_questions = [
            RealQuestion(text, text, "banking77", text, True) for text in ("Where is my card?", "Why this fee?")
        ]
        one, other = map(source.real_example, in_scope_questions)
        embed = lambda texts: np.eye(2, dtype=np.float32)[[int("fee" in text) for text in texts]]  # noqa: E731
        assert decontaminate([one], [other], embed)[1]["removed"] == 0
        assert decontaminate([one], [one], embed)[1]["removed"] == 1


class TestDiversity:
    def embed(self, texts: list[str]) -> np.ndarray:
        """Each text a direction of its own, by its first word."""
        words = sorted({text.split()[0] for text in texts})
        return np.eye(len(words), dtype=np.float32)[[words.index(text.split()[0]) for text in texts]]

    def test_counts_spread_repetition_and_coverage(self) -> None:
        rows = [{"question": q, "group": g} for q, g in (("a 1", "x"), ("a 2", "x"), ("b", "x"), ("c", "y"))]
        measured = diversity(rows, self.embed, expected=["x", "y", "z"])
        assert measured.near_duplicates == 0.25
        assert measured.coverage == pytest.approx(2 / 3)
        assert measured.groups == {"x": 3, "y": 1, "z": 0}
        assert measured.spread == pytest.approx(5 / 6)  # one of six pairs is equal
        assert measured.nearest == pytest.approx(0.5)

    def test_one_question_is_not_spread(self) -> None:
        assert diversity([{"question": "a", "group": "x"}], self.embed).spread == 0.0
