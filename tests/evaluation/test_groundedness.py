"""Judges of an answer with its passages: what they apply to, how a model is asked, and what people agree with."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from finished_runs import make_run, row
from servers import Behaviour, serving

from synth_dspy import RAG, Documents, Rows, SetupError, Task, document_tools, metrics
from synth_dspy.cli import evaluate
from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.evaluation.finished_runs import read_run
from synth_dspy.evaluation.groundedness.judges import FittedJudge
from synth_dspy.evaluation.groundedness.passage_scores import PassageScore
from synth_dspy.evaluation.report.render import render
from synth_dspy.evaluation.runner import run_arm
from synth_dspy.evaluation.scores import scores_of
from synth_dspy.pipeline.defaults import complete

PASSAGES = (
    "This Agreement is governed by the laws of the State of Delaware.",
    "The Supplier shall give the Buyer sixty (60) days' written notice before it raises its prices. The Buyer may "
    "terminate this Agreement if a price rises by more than ten percent.",
)


def asked(question: str, *references: str) -> dspy.Example:
    return dspy.Example(question=question, references=list(references))


def said(answer: str, passages: Sequence[str] = PASSAGES, *, abstained: bool = False) -> dspy.Prediction:
    return dspy.Prediction(answer=answer, passages=list(passages), abstained=abstained)


def model(*replies: Any) -> DummyLM:
    return DummyLM([{"score": reply} for reply in replies], adapter=dspy.JSONAdapter())


class TestModelJudges:
    @pytest.mark.parametrize(("reply", "score"), [(True, 1.0), (False, 0.0)])
    def test_a_truth_value_is_a_score(self, reply: bool, score: float) -> None:
        judge = document_tools.GroundednessJudge(model(reply))
        assert judge(asked("Which law governs?"), said("Delaware")) == score

    def test_a_wording_of_ones_own_may_ask_for_a_figure(self) -> None:
        class Share(document_tools.Groundedness):
            """How much of the answer do the passages support?"""

            score: float = dspy.OutputField()

        judge = document_tools.GroundednessJudge(model(0.5), signature=Share)
        assert judge(asked("Which law governs?"), said("Delaware")) == 0.5

    @pytest.mark.parametrize(
        ("reply", "score"),
        [
            ("True", 1.0),
            ("score: False", 0.0),
            ("The verdict is:\nscore = true.", 1.0),
            ("False, the passages do not say so", 0.0),
            ("it is not true", 0.0),
            ("score: 0.75", 0.75),
        ],
    )
    def test_reads_what_it_can_of_replies_that_are_no_json(self, reply: str, score: float) -> None:
        lm = DummyLM([{"score": reply}] * 4)
        assert document_tools.GroundednessJudge(lm)(asked("Which law?"), said("Delaware")) == score

    def test_all_passages_are_asked_about_at_once(self) -> None:
        prompts: list[str] = []

        class Recording(DummyLM):
            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                prompts.append(str((args, kwargs)))
                return super().__call__(*args, **kwargs)

        judge = document_tools.RetrievalJudge(Recording([{"score": True}], adapter=dspy.JSONAdapter()))
        assert judge(asked("Which law governs?", "Delaware", "Delaware law"), said("x")) == 1.0
        (prompt,) = prompts
        assert all(text.split(".")[0] in prompt for text in ("State of Delaware", "more than ten percent"))
        assert "Delaware law" in prompt

    @pytest.mark.parametrize("judge", [document_tools.GroundednessJudge, document_tools.RetrievalJudge])
    def test_nothing_is_asked_where_nothing_was_retrieved(self, judge: Any) -> None:
        assert judge(model())(asked("Which law governs?", "Delaware"), said("Delaware", [])) == 0.0
        assert judge(model())(asked("Which law governs?", "Delaware"), said("Delaware", [" "])) == 0.0

    def test_an_abstention_states_nothing(self) -> None:
        judge = document_tools.GroundednessJudge(model())
        assert math.isnan(judge(asked("Which law?"), said("The contract is silent.", abstained=True)))
        assert math.isnan(judge(asked("Which law?"), said("  ")))

    def test_without_a_right_answer_there_is_nothing_to_retrieve(self) -> None:
        assert math.isnan(document_tools.RetrievalJudge(model())(asked("Which law?"), said("x")))


@pytest.fixture(scope="module")
def support() -> FittedJudge:
    return FittedJudge("grounded")


@pytest.mark.slow
class TestFeatures:
    @pytest.mark.parametrize(
        "answer",
        [
            "the State of Delaware",
            "60 days",
            "The Buyer can terminate if the price goes up by over 10 percent.",
        ],
    )
    def test_what_the_passages_say_is_supported(self, support: FittedJudge, answer: str) -> None:
        assert support(asked("What does it say?"), said(answer)) >= 0.5

    @pytest.mark.parametrize(
        "answer",
        [
            "the State of New York",
            "90 days",
            "The Supplier must pay liquidated damages of $5,000 for each day of delay.",
            "Delaware, under section 14 of the Uniform Commercial Code of 1952.",
        ],
    )
    def test_what_they_do_not_is_not(self, support: FittedJudge, answer: str) -> None:
        assert support(asked("What does it say?"), said(answer)) < 0.5

    def test_passages_suffice_where_one_reference_follows(self) -> None:
        question = "Which law governs the agreement?"
        scores = FittedJudge("retrieval").score_many(
            [
                {"question": question, "references": ["Ontario", "Delaware"], "passages": PASSAGES, "prediction": "x"},
                {"question": question, "references": ["Ontario"], "passages": PASSAGES, "prediction": "x"},
                {"question": question, "references": [], "passages": PASSAGES, "prediction": "x"},
            ]
        )
        assert scores[0] > scores[1]
        assert scores[1] < 0.5
        assert math.isnan(scores[2])

    def test_its_agreement_was_measured_on_groups_outside_the_fit(self, support: FittedJudge) -> None:
        assert support.agreement["n"] > 300
        assert support.agreement["auroc"] > 0.75
        assert support.agreement["kappa"] < support.agreement["auroc"]

    def test_a_bare_yes_holds_nothing_to_compare(self, support: FittedJudge) -> None:
        assert math.isnan(support(asked("May the Buyer terminate?"), said("Yes.")))

    def test_text_without_a_word_is_not_compared(self, support: FittedJudge) -> None:
        assert support(asked("What?"), said("—", ["...", "?"])) == 0.0


def test_as_a_metric_it_gives_verdicts_whose_mean_is_a_share() -> None:
    class Share(document_tools.Groundedness):
        """How much of the answer do the passages support?"""

        score: float = dspy.OutputField()

    judge = document_tools.GroundednessJudge(model(0.7, 0.3), Executor(1), Share)
    metric = PassageScore("grounded", "support", "supported", lambda resources: judge).with_resources(None)  # type: ignore[arg-type]
    example, answers = asked("Which law?"), [said("Delaware"), said("Ontario"), said("", abstained=True)]
    scores = metric.score_predictions([example] * 3, answers)
    assert scores[:2] == [1.0, 0.0]
    assert math.isnan(scores[2])


class _Answers(dspy.Module):
    """Answers the questions in their order; raises what is no text."""

    def __init__(self, answers: Sequence[str | Exception]) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, question: str) -> dspy.Prediction:
        answer = self.answers[int(question.split()[-1])]
        if isinstance(answer, Exception):
            raise answer
        return said(answer)


class _Judge:
    """A judge that gives what it is told, in a run's order."""

    name, agreement = "mine", {}

    def __init__(self, scores: Sequence[Any]) -> None:
        self.scores = scores

    def score_many(self, rows: Sequence[Any]) -> Sequence[Any]:
        return self.scores


def run(tmp_path: Path, judge: Any, answers: Sequence[str | Exception], **further: Any) -> list[Any]:
    examples = [
        dspy.Example(id=str(i), question=f"Question {i}", references=["Delaware"]).with_inputs("question")
        for i in range(len(answers))
    ]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        return run_arm(
            "rag", _Answers(answers), examples, metrics=further, judge=judge, executor=Executor(2), ledger=ledger
        )


class TestInARun:
    def test_a_judge_may_say_true_or_false(self, tmp_path: Path) -> None:
        rows = run(tmp_path, _Judge([True, False, 0.25]), ["a", "b", "c"])
        assert [r["scores"]["judged"] for r in rows] == [1.0, 0.0, 0.25]
        assert all(type(r["scores"]["judged"]) is float for r in rows)

    @pytest.mark.parametrize("score", [7, "right", None, -0.5])
    def test_a_judge_that_says_something_else_is_named(self, tmp_path: Path, score: Any) -> None:
        with pytest.raises(SetupError, match=r"test_groundedness\.py:\d+.*'mine' gave"):
            run(tmp_path, _Judge([score]), ["a"])

    def test_a_judge_that_leaves_answers_out_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="gave 1 scores for 2 rows"):
            run(tmp_path, _Judge([1.0]), ["a", "b"])

    def test_all_answers_are_scored_at_once_and_failed_calls_are_not(self, tmp_path: Path) -> None:
        asked_of: list[list[str]] = []

        class Counting:
            def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
                return 0.0

            def score_predictions(self, examples: Any, predictions: Any) -> list[Any]:
                asked_of.append([p.answer for p in predictions])
                return [True, math.nan]

        rows = run(tmp_path, _Judge([1, 1, 1]), ["a", ValueError("no"), "c"], grounded=Counting())
        assert asked_of == [["a", "c"]]
        assert [r["scores"]["grounded"] for r in rows] == [1.0, 0.0, None]


def test_tasks_with_documents_have_both_scores_and_others_have_none(tmp_path: Path) -> None:
    documents = complete(Task(program=RAG(dspy.Signature("passages, question -> answer")), source=Documents(tmp_path)))
    assert {"grounded", "retrieval"} <= documents.metrics.keys()
    rows = complete(Task(program=dspy.Predict("question -> answer"), source=Rows(tmp_path / "rows.csv")))
    assert not {"grounded", "retrieval"} & rows.metrics.keys()


JUDGES = {
    "grounded": {"name": "groundedness (features)", "n": 349, "kappa": 0.47, "source": "claims"},
    "retrieval": {"name": "retrieval (features)"},
}


def _rows() -> list[dict[str, Any]]:
    kinds = [(1.0, 0.9), (1.0, 0.2), (0.0, 0.8), (0.1, 0.1), (0.2, None)]
    rows = []
    for index, (judged, grounded) in enumerate(kinds * 4):
        scores = {"judged": judged, "grounded": grounded, "retrieval": 0.5}
        rows.append(row("rag", index, judged, scores=scores, passages=[{"text": "a passage"}]))
    rows.append(row("rag", 20, 0.0, scores={"judged": 0.0, "grounded": None, "retrieval": 1.0}, abstained=True))
    rows.append(row("rag", 21, 0.0, scores={"judged": 0.0, "grounded": None, "retrieval": 0.0}, error="timed out"))
    return rows


@pytest.fixture
def finished(tmp_path: Path) -> Any:
    scores = scores_of(
        {"f1": metrics.token_f1, "grounded": document_tools.grounded, "retrieval": document_tools.retrieval}
    )
    silent = [row("always silent", i, 0.0, scores={"judged": 0.0, "grounded": None}, abstained=True) for i in range(9)]
    references = [{"name": "always silent", "kind": "silent", "answer": "Silent."}]
    run = make_run(
        tmp_path / "run",
        [*_rows(), *silent],
        arms=[{"name": "rag"}],
        scores=scores,
        passage_judges=JUDGES,
        reference_rows=references,
    )
    return read_run(run)


def test_hallucinated_answers_are_told_from_wrong_ones(finished: Any) -> None:
    (arm,) = finished.results["arms"]
    assert arm["outcomes"] == {
        "right": 8, "wrong": 13, "abstained_right": 0, "abstained_wrong": 1, "hallucinated": 4, "right_unsupported": 4
    }  # fmt: skip
    assert arm["further"]["grounded"]["n"] == 16
    assert arm["retrieval"]["retrieval"]["n"] == 22


def test_the_report_says_what_hallucinated_means_and_who_says_so(finished: Any) -> None:
    texts = render(finished)
    for text in texts.values():
        assert "hallucinated" in text
        assert "not supported by the passages" in text
        assert "kappa with people is 0.47 on other data" in text
        assert "agreement with people was not measured" in text
    assert "✗ hallucinated" in texts["report.html"]


def test_a_run_without_these_scores_says_nothing_of_them(tmp_path: Path) -> None:
    texts = render(read_run(make_run(tmp_path / "run", [row("rag", i) for i in range(4)])))
    assert not any("allucinated" in text for text in texts.values())


CLAIM = {"id": "a", "question": "Which law?", "references": ["Delaware"], "prediction": "Delaware", "label": 1}


def test_answers_of_a_file_are_rated_by_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    items, scores = tmp_path / "items.jsonl", tmp_path / "scores.jsonl"
    silent = {**CLAIM, "id": "b", "prediction": "The contract is silent.", "label": 0}
    items.write_text("".join(json.dumps({**item, "passages": list(PASSAGES)}) + "\n" for item in (CLAIM, silent)))
    with serving(Behaviour(respond=lambda body: '{"score": true}')) as server:
        args = ["--judge", "openai/mock", "--api-base", server.url, "--rate", "grounded"]
        evaluate.main([*args, "--items", str(items), "--scores", str(scores)])
        (request,) = [body for body in server.requests if "more than ten percent" in json.dumps(body)]
    assert "response_format" in request
    assert [json.loads(line)["score"] for line in scores.read_text().splitlines()] == [1.0, None]


def test_answers_without_passages_cannot_be_rated_by_them(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(CLAIM) + "\n")
    with pytest.raises(SetupError, match="line 1: field 'passages' is missing"):
        evaluate.main(["--rate", "retrieval", "--items", str(items), "--scores", str(tmp_path / "scores.jsonl")])
