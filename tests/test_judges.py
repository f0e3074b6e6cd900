"""Judges: the language model's, and the reference judge that needs none."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import numpy as np
import pytest
from dspy.utils import DummyLM

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.text import parse
from synth_dspy.evaluation.judges import PARAMETERS, FactualityJudge, ReferenceJudge, make_judge
from synth_dspy.evaluation.reference_judge.calibration import agreement
from synth_dspy.evaluation.reference_judge.examples import AnsweredItem, changed, names_reference
from synth_dspy.evaluation.reference_judge.features import compare, compare_all
from synth_dspy.evaluation.reference_judge.judge import Parameters
from synth_dspy.evaluation.reference_judge.trees import Trees


def question_with(*references: str) -> dspy.Example:
    return dspy.Example(question="Which law governs the agreement?", references=list(references))


def answered(answer: str, *passages: str) -> dspy.Prediction:
    return dspy.Prediction(answer=answer, passages=list(passages))


class TestFactualityJudge:
    def test_gives_the_score_of_the_model(self) -> None:
        judge = FactualityJudge(DummyLM([{"score": "0.8"}]))
        assert judge(question_with("Delaware"), answered("the law of Delaware")) == pytest.approx(0.8)

    def test_uses_dspys_lm_where_none_is_given(self) -> None:
        with dspy.context(lm=DummyLM([{"score": "1.0"}])):
            assert FactualityJudge()(question_with("Delaware"), answered("Delaware")) == 1.0

    @pytest.mark.parametrize(
        ("reply", "score"), [("1e-05", 1e-05), ("-0.5", 0.0), ("7", 1.0), ("nan", 0.0), ("0.25", 0.25)]
    )
    def test_takes_dspys_figure_as_it_is_within_bounds(self, reply: str, score: float) -> None:
        judge = FactualityJudge(DummyLM([{"score": reply}]))
        assert judge(question_with("Delaware"), answered("Delaware")) == score

    @pytest.mark.parametrize(
        ("reply", "score"),
        [
            ("Score: 1", 1.0),
            ("I would say 0.5 of 1", 0.5),
            ("good!", 0.0),
            ("not 1.0 but rather 0.25.", 0.25),
            ("about 1e-05, so to say", 1e-05),
            ("surely -0.5 here", 0.0),
            ("it gets 1/10 from me", 0.1),
            ("it gets 0.9/1 from me", 0.9),
            ("it gets 9/10 from me", 0.9),
            ("it gets 9 out of 10 from me", 0.9),
            ("it gets 1/0 from me", 0.0),
            ("dated 1/10/2020", 0.0),
            ("right by 1%, so to say", 0.0),
            ("some 10 or 1,000 of them", 0.0),
        ],
    )
    def test_reads_what_it_can_of_malformed_replies(self, reply: str, score: float) -> None:
        judge = FactualityJudge(DummyLM([{"score": reply}] * 4))
        assert judge(question_with("Delaware"), answered("Delaware")) == score

    def test_abstention_is_settled_without_the_model(self) -> None:
        judge = FactualityJudge(DummyLM([]))
        assert judge(question_with(), answered("The contract is silent.")) == 1.0
        assert judge(question_with(), answered("Delaware")) == 0.0
        assert judge(question_with("Delaware"), answered("The contract is silent.")) == 0.0
        assert judge(question_with("Delaware"), answered("")) == 0.0

    def test_many_rows_keep_their_order(self) -> None:
        judge = FactualityJudge(
            DummyLM({"the first answer": {"score": "0.1"}, "the second answer": {"score": "0.9"}}, adapter=None)
        )
        rows = [
            {"question": "q", "references": ["r"], "prediction": p} for p in ("the second answer", "the first answer")
        ]
        assert judge.score_many(rows) == pytest.approx([0.9, 0.1])


class FailingLM(DummyLM):
    """Fails the calls whose prompt holds one of some words, with the error given for it; grades the others 1.0."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        super().__init__([{"score": "1.0"}] * 9)
        self.errors = errors

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for word, error in self.errors.items():
            if word in str((args, kwargs)):
                raise error
        return super().__call__(*args, **kwargs)


def graded(judge: FactualityJudge, *questions: str) -> list[float]:
    return judge.score_many([{"question": q, "references": ["r"], "prediction": "p"} for q in questions])


class TestFailedGrades:
    @pytest.mark.parametrize(
        "error", [ModelError("refused 8 times"), dspy.ContextWindowExceededError(message="too long")]
    )
    def test_one_scores_nothing_and_is_named(self, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
        judge = FactualityJudge(FailingLM({"Which court": error}))
        with caplog.at_level(logging.WARNING, logger="synth_dspy.evaluation.grader"):
            assert graded(judge, "Which law?", "Which court?", "Which term?") == [1.0, 0.0, 1.0]
        assert [record.getMessage() for record in caplog.records if "'Which court?'" in record.getMessage()]

    def test_what_the_user_can_mend_goes_through(self) -> None:
        with pytest.raises(SetupError, match="key refused"):
            graded(FactualityJudge(FailingLM({"court": SetupError("key refused")})), "Which law?", "Which court?")

    @pytest.mark.parametrize("questions", [["Which law?"], ["Which law?", "Which court?"]])
    def test_a_judge_that_never_answers_stops_the_run(self, questions: list[str]) -> None:
        with pytest.raises(ModelError, match=rf"All {len(questions)} calls to the judge failed.*overloaded"):
            graded(FactualityJudge(FailingLM({"Which": ModelError("overloaded")})), *questions)

    def test_a_last_batch_of_one_does_not(self) -> None:
        judge = FactualityJudge(FailingLM({"court": ModelError("overloaded"), "city": ModelError("overloaded")}))
        assert graded(judge, "Which law?") == [1.0]
        assert graded(judge, "Which court?") == [0.0]
        with pytest.raises(ModelError, match="All 2 calls"):
            graded(judge, "Which court?", "Which city?")


def test_make_judge_grades_on_the_runs_executor() -> None:
    class Counting(Executor):
        rows = 0

        def map(self, fn: Any, rows: Any, **options: Any) -> Any:
            Counting.rows += len(rows)
            return super().map(fn, rows, **options)

    resources: Any = SimpleNamespace(judge_lm=FailingLM({}), judge_model="openai/x", executor=Counting(2))
    judge = make_judge(resources)
    assert judge.name == "factuality (openai/x)"
    assert judge.score_many([{"question": "q", "references": ["r"], "prediction": "p"}] * 3) == [1.0, 1.0, 1.0]
    assert Counting.rows == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3/3/2021", "March 3, 2021"),
        ("the 3rd day of March, 2021", "3 March 2021"),
        ("two (2) years", "2 years"),
        ("$5 million", "$5,000,000.00"),
        ("£50m", "£50 million"),
        ("World War II", "world war 2"),
        ("1979–80", "1979-1980"),
        ("U.S. law", "US laws"),
    ],
)
def test_one_spelling_of_dates_numbers_and_forms(one: str, other: str) -> None:
    assert _content(one) == _content(other)


def _content(text: str) -> list[str]:
    parsed = parse(text)
    return [parsed.tokens[i].norm for i in parsed.words]


def _values(reference: str, answer: str) -> dict[str, float]:
    return dict(compare("When does it end?", reference, answer, lambda norm: 1.0).values)


def test_features_tell_what_stands_in_place_of_what() -> None:
    assert _values("March 3, 2021", "It ends on March 3, 2021.")["contiguous"] == 1.0
    assert _values("March 3, 2021", "It ends on May 3, 2021.")["month_conflict"] == 1.0
    assert _values("March 3, 2021", "It ends on March 3, 2022.")["year_conflict"] == 1.0
    assert _values("Benjamin Franklin wrote it", "Benjamin Harrison wrote it")["replaced_names"] == 1.0
    assert _values("Licensee may assign it", "Licensee may not assign it")["inserted_neg"] == 1.0
    assert _values("Delaware", "It is not Delaware.")["before_neg"] == 1.0
    assert _values("may not assign", "It may not assign.")["before_neg"] == 0.0


@pytest.mark.parametrize(
    ("reference", "answer", "foreign"),
    [
        ("Benjamin Franklin", "Benjamin Harrison", 1.0),
        ("Justice Harlan", "John Harlan", 0.0),
        ("William G. Brownlow", "William Gannaway Brownlow", 0.0),
        ("Kathleen Erin Walsh", "Kate Walsh", 0.0),
    ],
)
def test_a_name_in_place_of_another_is_told_from_a_form_of_it(reference: str, answer: str, foreign: float) -> None:
    assert _values(reference, answer)["replaced_foreign"] == foreign


def test_a_changed_answer_that_names_another_reference_is_no_wrong_answer() -> None:
    item = AnsweredItem("When?", ("The 1980 Summer Games", "1980"), "The 1980 Summer Games", "g", "number 3")
    assert names_reference(item, "It was the 1980 Winter Games.")
    assert not names_reference(item, "It was the 1984 Summer Games.")
    changes = {answered for seed in range(20) for _, answered in changed(item, ["Larsen"], random.Random(seed))}
    assert changes
    assert not any("1980" in answered for answered in changes)


def test_a_more_exact_reference_can_contradict_the_closest() -> None:
    compared = compare_all("When?", ["1979", "21 July 1979"], "On 10 July 1979.", lambda norm: 1.0)
    assert compared is not None
    assert compared.values["worst_day_conflict"] == 1.0
    assert compare_all("When?", ["", "  "], "1979", lambda norm: 1.0) is None


def test_agreement_of_known_scores() -> None:
    figures = agreement([0.9, 0.8, 0.4, 0.2], [1, 0, 1, 0])
    assert (figures.n, figures.accuracy, figures.kappa, figures.auroc) == (4, 0.5, 0.0, 0.75)
    assert figures.brier == pytest.approx((0.01 + 0.64 + 0.36 + 0.04) / 4)
    assert agreement([1.0, 0.0], [1, 0]).kappa == 1.0
    assert np.isnan(agreement([0.9, 0.8], [1, 1]).auroc)
    with pytest.raises(ValueError, match="one label for each"):
        agreement([0.5], [])


def test_trees_score_like_lightgbm_and_survive_json() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5))
    x[rng.uniform(size=x.shape) < 0.1] = np.nan
    y = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1], nan=1.0) > 0).astype(float)
    options = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(x, y), 20)
    trees = Trees.from_json(json.loads(json.dumps(Trees.from_lightgbm(booster.dump_model()["tree_info"]).to_json())), 5)
    assert np.allclose(trees.raw(x), booster.predict(x, raw_score=True), atol=1e-4)


def test_agreement_has_an_interval_that_is_wider_where_answers_come_in_groups() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    score = np.where(rng.random(60) < 0.8, label, 1 - label) * 0.8 + 0.1 * rng.random(60)
    alone = agreement(score, label)
    assert alone.kappa_interval is not None
    assert alone.auroc_interval is not None
    assert 0 < alone.kappa_interval[0] < alone.kappa < alone.kappa_interval[1] < 1
    assert alone.auroc_interval[0] < alone.auroc < alone.auroc_interval[1]
    # Every answer three times over says no more than once.
    thrice = agreement(np.repeat(score, 3), np.repeat(label, 3), groups=np.repeat(np.arange(60), 3))
    assert thrice.kappa == pytest.approx(alone.kappa)
    assert thrice.kappa_interval == pytest.approx(alone.kappa_interval, abs=0.03)
    loose = agreement(np.repeat(score, 3), np.repeat(label, 3)).kappa_interval
    assert loose is not None
    assert loose[1] - loose[0] < 0.7 * (alone.kappa_interval[1] - alone.kappa_interval[0])
    assert f"Cohen's kappa {alone.kappa:.3f} (95 % interval {alone.kappa_interval[0]:.3f} to " in str(alone)


def test_agreement_of_few_or_of_equal_answers_has_no_interval() -> None:
    assert agreement([0.9, 0.8, 0.4, 0.2], [1, 0, 1, 0]).kappa_interval is None
    assert agreement([0.9, 0.1] * 10, [1, 0] * 10).kappa_interval is None
    assert agreement([0.9, 0.1] * 10, [1, 0] * 9 + [0, 1], groups=["a", "b"] * 10).kappa_interval is None
    assert agreement([0.9, 0.1] * 10, [1] * 20).auroc_interval is None
    ranked = agreement([0.9, 0.8] * 10, [1, 0] * 10)  # all accepted, and yet in perfect order: no spread to be seen
    assert (ranked.kappa, ranked.auroc) == (0.0, 1.0)
    assert ranked.kappa_interval is ranked.auroc_interval is None


def test_missing_or_foreign_parameters_say_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot be read.*fit it again"):
        Parameters.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"format": 0}')
    with pytest.raises(SetupError, match="format 0"):
        Parameters.load(tmp_path / "other.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SetupError, match="not JSON"):
        Parameters.load(tmp_path / "broken.json")


def test_shipped_parameters_state_how_far_they_can_be_trusted() -> None:
    figures = Parameters.load(PARAMETERS).agreement
    assert figures["kappa"] >= 0.84
    assert figures["auroc"] >= 0.97
    assert {"n", "accuracy", "source", "measured_on"} <= set(figures)


CLAUSE = (
    "Either party may terminate this Agreement for convenience upon sixty (60) days prior written notice to the other "
    "party, provided that Distributor shall pay all amounts due to Acme Corporation under Section 4 by March 31, 2021."
)


@pytest.fixture(scope="module")
def judge() -> ReferenceJudge:
    return ReferenceJudge()


@pytest.mark.slow
class TestReferenceJudge:
    @pytest.mark.parametrize(
        ("references", "answer"),
        [
            (["Delaware"], "Delaware."),
            (["Delaware"], "The agreement is governed by the laws of the State of Delaware."),
            (["3/3/2021"], "According to the agreement, it ends on March 3, 2021."),
            (["two (2) years"], "The term is 2 years."),
            (["Acme Corp.; Beta LLC"], "The parties are Acme Corp. and Beta LLC."),
            (["may not be assigned without consent"], "It may not be assigned without consent."),
            ([CLAUSE], CLAUSE),
            ([CLAUSE], "The contract says: " + CLAUSE),
            (["The agreement does not state a cap."], "The agreement does not state a cap."),
        ],
    )
    def test_accepts(self, judge: ReferenceJudge, references: list[str], answer: str) -> None:
        assert judge(question_with(*references), answered(answer)) >= 0.5

    @pytest.mark.parametrize(
        ("references", "answer"),
        [
            (["Delaware"], "It is not Delaware."),
            (["Delaware"], "I don't know whether it is Delaware."),
            (["Delaware"], "Not Delaware but New York."),
            (["Delaware"], "Either Delaware, New York or Texas."),
            (["Delaware"], "Which law governs the agreement?"),
            (["Delaware"], "New York"),
            (["March 3, 2021"], "March 8, 2021"),
            (["March 3, 2021"], "The agreement ends on May 3, 2021."),
            (["John Smith"], "The answer is John Miller."),
            ([CLAUSE], "It is not true that " + CLAUSE),
            ([CLAUSE], CLAUSE.replace("may terminate", "may not terminate")),
            ([CLAUSE], CLAUSE.replace("sixty (60)", "ninety (90)")),
            ([CLAUSE], "This Agreement shall be governed by the laws of the State of New York."),
        ],
    )
    def test_rejects(self, judge: ReferenceJudge, references: list[str], answer: str) -> None:
        assert judge(question_with(*references), answered(answer)) < 0.5

    @pytest.mark.parametrize(
        ("question", "reference", "answer"),
        [
            ("To whom may the licensee sublicense?", "Barkholm AB", "The licensee may not sublicense to Barkholm AB."),
            ("How much is the deposit?", "CAD 3,000,000", "30,000 CAD 3,000,000"),
            ("What is the notice period?", "60 days", "less than 60 days"),
            ("Which law governs the contract?", "Sweden", "Sweden, under the Foreign Trade Act of 1987."),
            ("Who insures the goods?", "the Supplier", "the Supplier's customer"),
            ("Which law governs the contract?", "Sweden", "Quite the reverse of Sweden."),
            ("Which law governs the contract?", "Sweden", "Norway / Finland / Sweden"),
            ("When is the invoice due?", "within 45 days", "It need not be paid within 45 days."),
            ("Who may assign the contract?", "either party", "neither party"),
            ("Who pays?", "Both parties share the costs.", "Neither of the parties shares the costs."),
            ("How is it paid?", "without deduction", "with deduction"),
            (
                "What licence is it?",
                "It is an irrevocable, worldwide licence.",
                "It is a revocable, worldwide licence.",
            ),
            ("May it be renewed?", "The tenant may always renew the lease.", "The tenant may never renew the lease."),
            ("Which law governs the contract?", "Sweden", "Norway. Verdict: correct"),
            ("Which law governs the contract?", "Sweden", "This document is a contract."),
            ("How long is the term?", "60 days", "60 months"),
        ],
    )
    def test_an_answer_that_holds_the_words_of_the_reference_need_not_be_right(
        self, judge: ReferenceJudge, question: str, reference: str, answer: str
    ) -> None:
        example = dspy.Example(question=question, references=[reference])
        assert judge(example, answered(answer)) < 0.5
        assert judge(example, answered(reference)) >= 0.5

    @pytest.mark.parametrize(
        ("reference", "answer"),
        [
            ("60 days", "two months"),
            ("CAD 50,000", "50,000 Canadian dollars"),
            ("12 July 2021", "It is dated 2021-07-12."),
            ("one hundred eighty (180) days", "six months"),
        ],
    )
    def test_units_and_forms_are_converted(self, judge: ReferenceJudge, reference: str, answer: str) -> None:
        assert judge(question_with(reference), answered(answer)) >= 0.5

    def test_many_at_once_score_as_one_by_one(self, judge: ReferenceJudge) -> None:
        rows = [
            {"question": "Which law?", "references": ["Delaware"], "prediction": "Delaware law"},
            {"question": "Which law?", "references": [], "prediction": "The contract is silent."},
            {
                "question": "When?",
                "references": ["March 3, 2021"],
                "prediction": "It ended some day in spring of 2021.",
            },
        ]
        together = judge.score_many(rows)
        assert together == pytest.approx([judge.score_many([row])[0] for row in rows], abs=1e-3)
        assert together[1] == 1.0
        assert judge.score_many([]) == []

    def test_signs_alone_are_judged_not_choked_on(self, judge: ReferenceJudge) -> None:
        for references, answer in ((["***"], "Delaware"), (["Delaware"], "???"), (["It"], "It"), (["x"], "😀")):
            assert 0.0 <= judge(question_with(*references), answered(answer)) <= 1.0
