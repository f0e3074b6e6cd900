"""Reports of judged answers: verdicts instead of mean scores, the judge's agreement, and its errors corrected for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from finished_runs import make_run, row, summarise
from rich.console import Console

from synth_dspy.evaluation import view
from synth_dspy.evaluation.judges import make_judge
from synth_dspy.evaluation.report.render import summary_table, write_report

Rows = Callable[..., list[dict[str, Any]]]

GRADED = {
    "name": "reference", "domain": "contracts", "graded": "two arms' answers, by hand", "kappa": 0.74, "n": 200,
    "n_right": 100, "n_wrong": 100, "sensitivity": 0.9, "specificity": 0.8,
}  # fmt: skip


def arm(results: dict[str, Any], name: str = "rag") -> dict[str, Any]:
    return next(each for each in results["arms"] if each["name"] == name)


def texts(folder: Path) -> list[str]:
    """Both reports and the terminal's table."""
    results, measurements = (json.loads((folder / f"{name}.json").read_text()) for name in ("results", "measurements"))
    console = Console(width=200, record=True, file=(folder / "terminal").open("w"), force_terminal=False)
    console.print(summary_table(results, measurements))
    reports = [path.read_text(encoding="utf-8").replace("\u00a0", " ") for path in write_report(folder)]
    return [*reports, console.export_text(styles=False)]


def test_the_headline_is_the_share_judged_right(answers: Rows, facts: dict[str, Any]) -> None:
    """Crumbs below the threshold add up to nothing."""
    results, _ = summarise(answers({"rag": [0.31, 0.45, 0.5, 0.99] * 10, "crumbs": [0.4] * 40}), facts)
    assert arm(results)["scores"]["judged"]["mean"] == 0.5
    assert arm(results, "crumbs")["scores"]["judged"]["mean"] == 0.0
    assert arm(results)["outcomes"]["right"] == 20
    assert results["comparisons"][0]["difference"] == -0.5
    facts["judge"]["threshold"] = 0.9
    strict, _ = summarise(answers({"rag": [0.31, 0.45, 0.5, 0.99] * 10}), facts)
    assert arm(strict)["scores"]["judged"]["mean"] == 0.25
    assert strict["verdict"]["headline"].startswith("rag: share judged right 25.0 % on 40 held-out items")


def test_a_score_that_is_measured_stays_a_mean(answers: Rows, facts: dict[str, Any]) -> None:
    results, _ = summarise(answers({"rag": [0.25, 0.75] * 20}), {**facts, "score": "field accuracy", "judge": GRADED})
    assert arm(results)["scores"]["judged"]["mean"] == 0.5
    assert "corrected" not in arm(results)
    assert results["verdict"]["headline"].startswith("rag: field accuracy 50.0 %")


def test_where_nobody_measured_the_judge_every_page_says_so(tmp_path: Path) -> None:
    rows = [row(name, i, float(i % 2)) for name in ("rag", "sft") for i in range(40)]
    folder = make_run(tmp_path / "run", rows, judge={"name": "reference", "domain": "banking"})
    html, markdown, terminal = texts(folder)
    for text in (html, markdown):
        assert "judge reference (agreement with people not measured here)" in text
        assert "was not measured here, on answers to questions about banking such as these" in text
        assert "kappa" not in text
        assert "Corrected, %" not in text
    assert "Judge: agreement with people not measured here." in terminal
    assert "was not measured here" in view.Results.read(folder).judge
    assert any("was not measured here" in note for note in json.loads((folder / "results.json").read_text())["notes"])


def test_where_people_graded_answers_the_figures_are_shown_raw_and_corrected(tmp_path: Path) -> None:
    rows = [row("rag", i, float(i % 5 < 2)) for i in range(60)] + [row("sft", i, float(i % 5 < 4)) for i in range(60)]
    folder = make_run(tmp_path / "run", rows, judge=GRADED)
    results = json.loads((folder / "results.json").read_text())
    for name, raw in (("rag", 0.4), ("sft", 0.8)):
        assert arm(results, name)["scores"]["judged"]["mean"] == pytest.approx(raw)
        corrected = arm(results, name)["corrected"]
        assert corrected["mean"] == pytest.approx((raw + 0.8 - 1) / 0.7, abs=1e-6)
        assert corrected["high"] - corrected["low"] > 1 / 0.7 * 0.2
    (compared,) = results["comparisons"]
    assert compared["difference"] == pytest.approx(0.4 / 0.7, abs=1e-6)
    assert compared["raw"]["difference"] == pytest.approx(0.4)
    assert (compared["p"], compared["outcome"]) == (compared["raw"]["p"], "better")
    headline = results["verdict"]["headline"]
    assert (
        "share judged right 80.0 % against 40.0 %, corrected for the judge's errors 85.7 % against 28.6 %" in headline
    )
    html, markdown, terminal = texts(folder)
    for text in (html, markdown):
        assert "kappa 0.74 on contracts" in text
        assert "it calls 90.0 % of 100 right answers right, 80.0 % of 100 wrong ones wrong" in text
        assert all(each in text for each in ("Corrected, %", "85.7", "80.0"))
    assert "Judge: kappa 0.74 on contracts." in terminal
    assert (view.Results.read(folder)["sft"].corrected or view.Estimate(0, 0, 0, 0)).mean == pytest.approx(0.857143)


def test_abstentions_are_not_taken_for_worse_answers() -> None:
    """Of arms that are right alike, one abstains where it is wrong: verdicts favour the other, the report does not."""
    rng = np.random.default_rng(0)
    outcomes, raw = [], []
    for _ in range(24):
        rows = []
        for name, abstains in (("rag", False), ("silent", True)):
            for i, right in enumerate(rng.random(100) < 0.3):
                said = bool(right) or not abstains
                score = float(said and rng.random() < (0.9 if right else 0.25))
                rows.append(row(name, i, score, abstained=not said))
        results, _ = summarise(rows, {"judge": {**GRADED, "specificity": 0.75}})
        (compared,) = results["comparisons"]
        outcomes.append(compared["outcome"])
        raw.append(compared["raw"]["p"] < 0.05)
    assert sum(raw) > 10
    assert sum(outcome in ("better", "worse") for outcome in outcomes) <= 3


def test_a_share_that_the_judge_s_errors_cannot_explain_is_named(answers: Rows, facts: dict[str, Any]) -> None:
    facts["judge"] = {**GRADED, "specificity": 0.6}
    results, _ = summarise(answers({"rag": [1, 0, 1, 0, 1, 0, 0, 0, 0, 0] * 6, "few": [1, 0, 0, 0, 0, 0] * 10}), facts)
    assert arm(results, "few")["corrected"]["mean"] == 0
    assert any("would lie outside 0 to 100 %" in note for note in results["notes"])
    facts["judge"] = {**GRADED, "sensitivity": 0.3, "specificity": 0.6}
    results, _ = summarise(answers({"rag": [1, 0] * 20}), facts)
    assert "corrected" not in arm(results)
    assert any("no better than chance" in note for note in results["notes"])


def test_a_run_of_an_earlier_version_is_not_said_to_have_shares(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", [row("rag", i, 0.4 + 0.4 * (i % 2)) for i in range(40)], judge=GRADED)
    results = json.loads((folder / "results.json").read_text())
    results["judge"] = {"name": "reference", "kappa": 0.85, "n": 11_696, "source": "evouna", "auroc": 0.98}
    for each in results["arms"]:
        del each["corrected"]
    (folder / "results.json").write_text(json.dumps(results))
    html, markdown, _ = texts(folder)
    for text in (html, markdown):
        assert "which is not a share of right answers" in text
        assert "kappa 0.85 on evouna" in text
        assert "judged right" not in text.lower().split("arms", 1)[1].split("sample answers", 1)[0]


@pytest.mark.slow
def test_the_reference_judge_says_its_agreement_in_its_own_domain_only() -> None:
    resources: Any = SimpleNamespace(judge_lm=None, embedder=None, domain="trivia")
    figures = make_judge(resources).agreement
    assert figures["n_right"] > 1_000
    assert 0.5 < figures["sensitivity"] <= 1
    resources.domain = "banking"
    assert make_judge(resources).agreement == {}
