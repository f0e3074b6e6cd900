"""Arms whose weights were tuned, in the summary and in the written report."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from finished_runs import summarise
from rich.console import Console

from synth_dspy.evaluation.report.render import summary_table, write_report

Json = dict[str, Any]
ARMS = ("rag", "bootstrap", "random_search", "sft", "dpo", "orpo", "kto", "sft_synthetic")


def training(method: str, **more: Any) -> Json:
    return {
        "method": method, "learning_rate": 0.001, "rank": 16, "rows": 76, "by_origin": {"gold": 54, "ai": 20},
        "dropped": {"equal": 3, "margin": 4}, "left_out": 2, "adapters": ["sft"] if method != "sft" else [],
        "parity": {"n": 32, "agreed": 31, "share": 0.96875, "disagreements": ["x"]},
        "loss": {"first": 2.3, "last": 0.41, "curve": [[1, 2.3], [38, 0.41]]}, "dev_loss": 0.62,
        "tokens": 51234, "epochs": 2.0, "steps": 38, "stopped": "early", "seconds": 92.4, "tokens_per_second": 510.2,
        "peak_rss_mb": 3120.4, **more,
    }  # fmt: skip


def retained(followed: list[bool], losses: list[float]) -> Json:
    each = {str(i): [one] for i, one in enumerate(followed)}
    share = sum(followed) / len(followed)
    figures = {"n": len(followed), "prompt_strict": share, "low": share / 2, "high": (1 + share) / 2}
    return {
        "ifeval": {**figures, "instruction_strict": share, "errors": 0, "followed": each},
        "perplexity": {"value": 20.0, "tokens": len(losses), "losses": losses},
    }


@pytest.fixture
def rows(predict: Callable[..., Json]) -> list[Json]:
    share = dict(zip(ARMS, (1, 2, 3, 7, 7, 6, 5, 4), strict=True))
    return [
        predict(arm, i, float((i * 7 + i // 10) % 10 < share[arm]), prompt_tokens=900 if share[arm] in (2, 3) else 420)
        for arm in ARMS
        for i in range(60)
    ]


@pytest.fixture
def tuned(facts: Json, rows: list[Json], predict: Callable[..., Json]) -> tuple[list[Json], Json]:
    """Predictions and facts of a run with eight arms, five of them tuned."""
    facts["arms"] = [
        {
            "name": arm,
            "demos": 3 if arm in ("bootstrap", "random_search") else 0,
            "training": training(arm.partition("_")[0]) if i > 2 else None,
        }
        for i, arm in enumerate(ARMS)
    ]
    facts["pairs"] = "all"
    facts["variants"] = [{"name": "sft + demonstrations", "of": "sft"}]
    before, after = [1.0 + 0.001 * (i % 7) for i in range(1280)], [1.3 + 0.001 * (i % 5) for i in range(1280)]
    facts["retention"] = {
        "student": retained([True] * 30 + [False] * 10, before),
        "sft": retained([True] * 10 + [False] * 30, after),
        "dpo": retained([True] * 29 + [False] * 11, before),
    }
    shown = [predict("sft + demonstrations", i, float(i % 2), prompt_tokens=1000) for i in range(16)]
    return rows + shown, facts


def test_a_run_of_prompt_arms_only_says_nothing_of_weights(rows: list[Json], facts: Json) -> None:
    prompted = [row for row in rows if row["arm"] in ARMS[:3]]
    results, measured = summarise(prompted, facts)
    assert [arm["training"] for arm in results["arms"]] == [None] * 3
    assert (results["variants"], results["tokens_saved"], results["retention"]) == ([], None, [])
    assert measured["arms"]["rag"]["training"] is None
    assert results["method"]["pairs"] == "baseline"


def test_every_pair_is_compared_and_the_best_arms_equals_are_named(tuned: tuple[list[Json], Json]) -> None:
    results, _ = summarise(*tuned)
    assert len(results["comparisons"]) == 28
    top = results["verdict"]["best"]
    assert top in ("sft", "dpo")
    other = "dpo" if top == "sft" else "sft"
    assert f"{top} is better than rag" in results["verdict"]["headline"]
    assert re.search(rf"no evidence of a difference between {top} and [^.]*\b{other}\b", results["verdict"]["detail"])
    assert re.search(r"It is also better than [^.]*\bbootstrap\b", results["verdict"]["detail"])
    assert not {c["arm"] for c in results["comparisons"]} & {"sft + demonstrations"}


def test_what_a_training_measures_is_kept_from_results(tuned: tuple[list[Json], Json]) -> None:
    rows, facts = tuned
    results, measured = summarise(rows, facts)
    seen = {"seconds": 92.4, "tokens_per_second": 510.2, "peak_rss_mb": 3120.4, "peak_gpu_mb": None, "device": None}
    assert measured["arms"]["dpo"]["training"] == {**seen, "minutes": None, "all_rows_s": None}
    facts["arms"] = [
        {**arm, "training": arm["training"] and {**arm["training"], "seconds": 1.0, "adapters": ["/else/where/sft"]}}
        for arm in facts["arms"]
    ]
    dpo = next(arm for arm in results["arms"] if arm["name"] == "dpo")["training"]
    assert (dpo["rows"], dpo["loss"], dpo["parity"]["agreed"]) == (74, {"first": 2.3, "last": 0.41}, 31)
    assert dpo["dropped"] == {"equal": 3, "margin": 4, "too long": 2}
    assert "disagreements" not in dpo["parity"]
    again, _ = summarise(rows, facts)
    assert next(arm for arm in again["arms"] if arm["name"] == "orpo")["training"]["adapters"] == ["sft"]
    assert "seconds" not in json.dumps(results["arms"])


def test_rows_that_time_was_not_enough_for_and_few_preferences_are_told(tuned: tuple[list[Json], Json]) -> None:
    rows, facts = tuned
    for arm in facts["arms"]:
        if arm["name"] in ("dpo", "orpo"):
            arm["training"] |= {"rows": 9, "trained_rows": 7, "by_origin": {"gold": 9}}
    results, _ = summarise(rows, facts)
    dpo = next(arm for arm in results["arms"] if arm["name"] == "dpo")["training"]
    assert (dpo["rows"], dpo["available"]) == (7, 7)  # two of nine were too long
    (few,) = [note for note in results["notes"] if "learned from only" in note]
    assert few.startswith("dpo and orpo learned from only 7 preferences, too few to change a model much: of the pairs")
    assert "3 had the same text and 4 were judged about equal" in few


def test_feedback_that_could_not_be_used_is_said_once_and_arms_that_answered_alike(
    tuned: tuple[list[Json], Json],
) -> None:
    rows, facts = tuned
    for arm in facts["arms"]:
        if arm["name"] in ("dpo", "orpo"):
            planned = {"dpo": 2, "orpo": 1}[arm["name"]]
            arm["training"]["dropped"] = {"equal": 3, "human: equal": 1, "human: could not be asked": planned}
    notes = summarise(rows, facts)[0]["notes"]
    (unused,) = [note for note in notes if "feedback" in note]
    assert unused.startswith("Of people's feedback, 3 lines could not be used (equal: 1, could not be asked: 2)")
    (alike,) = [note for note in notes if "same answer" in note]
    assert alike.startswith("sft and dpo gave the same answer to every item compared")
    for changed in ({"prediction": "other"}, {"error": "timed out"}):
        one = next(row for row in rows if row["arm"] == "dpo")
        others = [row | changed if row is one else row for row in rows]
        assert not any("same answer" in note for note in summarise(others, facts)[0]["notes"])


def test_rows_that_are_too_long_are_subtracted_once(rows: list[Json], facts: Json) -> None:
    counted, uncounted = training("sft"), training("sft", rows=74)
    for key in ("by_origin", "dropped"):  # what a recipe's counts say
        del uncounted[key]
    facts["arms"] = [{"name": "sft", "training": counted}, {"name": "dpo", "training": uncounted}]
    trainings = [arm["training"] for arm in summarise(rows, facts)[0]["arms"][:2]]
    assert [one["rows"] for one in trainings] == [74, 74]
    assert [one["dropped"]["too long"] for one in trainings] == [2, 2]


@pytest.mark.parametrize(
    ("method", "origins", "taught"),
    [
        ("sft", {"gold": 9}, False),
        ("sft", {"gold": 9, "ai": 0}, False),
        ("sft", {"gold": 9, "ai": 1}, True),
        ("dpo", {"gold": 9}, True),  # what stands against the reference was judged wrong
        ("kto", {"synthetic": 9}, True),
        ("orpo", {"human": 9}, False),
        ("grpo", {"gold": 9}, True),
        ("dpo", None, False),
    ],
)
def test_arms_that_their_own_judge_taught_are_named(
    method: str, origins: Json | None, taught: bool, rows: list[Json], facts: Json
) -> None:
    rewarded = {"reward": "judge:reference"} if method == "grpo" else {}
    facts["arms"] = [{"name": "rag"}, {"name": "sft", "training": training(method, by_origin=origins, **rewarded)}]
    notes = [note for note in summarise(rows, facts)[0]["notes"] if "judge that scores" in note]
    wanted = (
        "The judge that scores sft also chose or rewarded the answers that it learned from: read token F1 and exact "
        "match as well as the share judged right."
    )
    assert notes == ([wanted] if taught else [])


def test_a_variant_is_compared_with_its_arm_on_the_same_items(tuned: tuple[list[Json], Json]) -> None:
    results, _ = summarise(*tuned)
    (variant,) = results["variants"]
    assert (variant["with"]["judged"]["n"], variant["without"]["judged"]["n"]) == (16, 16)
    assert variant["with"]["judged"]["mean"] == 0.5
    ours = [row["scores"]["judged"] for row in tuned[0] if row["arm"] == "sft"][:16]
    assert variant["without"]["judged"]["mean"] == pytest.approx(sum(ours) / 16)
    assert (variant["with"]["prompt_tokens"], variant["without"]["prompt_tokens"]) == (1000, 420)
    assert results["items"]["n"] == 60
    assert [arm["name"] for arm in results["arms"]] == list(ARMS)


def test_tokens_are_saved_against_the_best_arm_with_demonstrations(tuned: tuple[list[Json], Json]) -> None:
    saved = summarise(*tuned)[0]["tokens_saved"]
    assert saved["against"] == "random_search"
    assert [s["arm"] for s in saved["arms"]] == list(ARMS[3:])
    assert (saved["arms"][0]["saved"], saved["arms"][0]["percent"]) == (480, pytest.approx(100 * 480 / 900))


def test_what_tuning_cost_elsewhere_is_tested_and_told(tuned: tuple[list[Json], Json]) -> None:
    results, _ = summarise(*tuned)
    student, sft, dpo = results["retention"]
    assert "change" not in student
    assert sft["change"]["ifeval"]["difference"] == -0.5
    assert sft["change"]["ifeval"]["high"] < 0
    assert sft["change"]["perplexity"]["percent"] == pytest.approx(34.85, abs=0.2)
    assert sft["change"]["perplexity"]["low"] > 30
    assert sft["change"]["ifeval"]["p_holm"] < 0.01
    assert dpo["change"]["ifeval"]["p_holm"] == 1
    assert dpo["change"]["perplexity"]["percent"] == 0
    (note,) = [note for note in results["notes"] if "outside the task" in note]
    assert note.startswith("Tuning made sft worse outside the task: fewer instructions followed (−50.0 points) and")
    assert "followed" not in json.dumps(results["retention"])


def test_a_measure_that_is_missing_is_left_out(tuned: tuple[list[Json], Json]) -> None:
    rows, facts = tuned
    for measures in facts["retention"].values():
        measures["perplexity"] = None
    results, _ = summarise(rows, facts)
    assert results["retention"][1]["perplexity"] is None
    assert results["retention"][1]["change"]["perplexity"] is None
    assert results["retention"][1]["change"]["ifeval"]["p_holm"] < 0.01


class _Page(HTMLParser):
    """Balanced tags, the text, and how many cells the rows of each table have."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.tables: list[list[int]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += int(dict(attributes).get("colspan") or 1)
        if tag not in {"meta", "link", "br", "hr", "img", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _write(folder: Path, rows: list[Json], facts: Json) -> tuple[str, str]:
    results, measurements = summarise(rows, facts)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "measurements.json").write_text(json.dumps(measurements))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    html, markdown = write_report(folder)
    return html.read_text(), markdown.read_text()


def test_the_seed_of_a_training_is_named_as_outside_of_the_intervals(tuned: tuple[list[Json], Json]) -> None:
    rows, facts = tuned
    (note,) = [note for note in summarise(rows, facts)[0]["notes"] if "another seed" in note]
    assert "rag" not in note
    assert re.search(r"training\.options\.\w+\.seed", note)


def test_the_report_shows_training_pairs_variants_and_retention(tmp_path: Path, tuned: tuple[list[Json], Json]) -> None:
    html, markdown = _write(tmp_path, *tuned)
    page = _Page(html)
    for text in (page.text, markdown.replace("\\", "")):
        for part in (
            "Every pair",
            "all other pairs as another",
            "own scores",
            "Corrected as one family over all these scores",
            "The judge that scores sft, dpo, orpo, kto and sft_synthetic also chose or rewarded the answers that they",
            "gold answers: 54, AI feedback: 20",
            "margin: 4, equal: 3, too long: 2",
            "early, by the dev loss",
            "2.300 → 0.410",
            "31 / 32",
            "1 min 32 s",
            "510",
            "3,120",
            "Tokens saved by the shorter prompt",
            "53.3",
            "The same model with demonstrations in the prompt",
            "sft + demonstrations",
            "Abilities outside the task",
            "−50.0",
            "Tuning made sft worse outside the task",
        ):
            assert part in text, part
        assert not re.search(r"\bnan\b|\bNone\b|Undefined", text)
    for table in page.tables:
        assert len(set(table)) == 1, table
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert page.text.split("Sample answers")[1].count("sft + demonstrations") == 0


def test_a_report_of_prompt_arms_only_has_no_such_parts(tmp_path: Path, rows: list[Json], facts: Json) -> None:
    for text in _write(tmp_path, [row for row in rows if row["arm"] in ARMS[:3]], facts):
        for part in ("Every pair", "Tuned weights", "Tokens saved", "cost elsewhere"):
            assert part not in text


def test_results_of_an_older_run_still_make_a_report(tmp_path: Path, rows: list[Json], facts: Json) -> None:
    _write(tmp_path, rows, facts)
    results = json.loads((tmp_path / "results.json").read_text())
    for key in ("variants", "tokens_saved", "retention", "comparisons_own", "reference_rows", "comparisons_trivial"):
        del results[key]
    for arm in results["arms"]:
        del arm["training"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    html, _ = write_report(tmp_path)
    assert "Tuned weights" not in html.read_text()
    assert "own scores" not in html.read_text()


def test_the_terminal_table_of_eight_arms_fits_80_columns(tuned: tuple[list[Json], Json]) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(*summarise(*tuned)))
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    for arm in ARMS:
        (line,) = [line for line in lines if line.split()[:1] == [arm] and "/10" in line]
        assert "…" not in line
