"""The written report: complete, safe against what documents and models say, self-contained."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from finished_runs import make_run, summarise
from rich.console import Console

from synth_dspy.core.errors import SetupError
from synth_dspy.evaluation.report.render import samples, summary_table, write_report

Rows = Callable[..., list[dict[str, Any]]]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class _Page(HTMLParser):
    """Checks that tags are balanced; gathers tags, their attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _write(folder: Path, rows: list[dict[str, Any]], facts: dict[str, Any]) -> tuple[str, str]:
    results, measurements = summarise(rows, facts)
    (folder / "results.json").write_text(json.dumps(results, sort_keys=True, allow_nan=False))
    (folder / "measurements.json").write_text(json.dumps(measurements, sort_keys=True, allow_nan=False))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    html, markdown = write_report(folder)
    return html.read_text(), markdown.read_text()


@pytest.fixture
def rows(answers: Rows, predict: Callable[..., Any]) -> list[dict[str, Any]]:
    made = answers({"rag": [0, 0, 1, 0] * 12, "random_search": [0, 1, 1, 0] * 12})
    made += [predict(arm, 48 + i, 1.0, answer_type="yes_no", references=["yes"]) for arm in ("rag", "random_search")
             for i in range(4)]  # fmt: skip
    return made


def test_both_reports_hold_what_a_reader_needs(tmp_path: Path, rows: Any, facts: dict[str, Any]) -> None:
    facts["arms"].append({"name": "mipro", "failed": "the prompt does not fit"})
    html, markdown = _write(tmp_path, rows, facts)
    text_of_page = _Page(html).text.replace("\u00a0", " ")
    plain = markdown.replace("\\", "").replace("\u00a0", " ")
    for text in (text_of_page, plain):
        for part in (
            "random_search is better than rag",
            "95 % interval",
            "mipro",
            "the prompt does not fit",
            "answers disagree: 140",
            "1 exact, 2 n-gram and 3 embedding",
            "The judge reference was measured on 900 answers that people graded (EVOUNA)",
            "Cohen's kappa 0.87 (95 % interval 0.83 to 0.90)",
            "AUROC 0.980, accuracy 94.0 %",
            "scan.pdf",
            "embedded/small",
            "3.4.1",
            "python -m synth_dspy.compile contract_qa",
            "+100 %",
            "Question 1?",
            "with 16 items at a time",
        ):
            assert part in text, part


def test_the_page_is_self_contained_and_readable_aloud(tmp_path: Path, rows: Any, facts: dict[str, Any]) -> None:
    page = _Page(_write(tmp_path, rows, facts)[0])
    names = [tag for tag, _ in page.tags]
    assert "script" not in names
    assert all(value.startswith("data:") for _, attributes in page.tags for key, value in attributes.items()
               if key in ("src", "href") and value)  # fmt: skip
    assert names.count("svg") == 3
    assert names.count("svg") == names.count("desc")
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


ATTACK = "<script>alert(1)</script><img src=x onerror=y> | `a` [l](http://x)\n\n# h\u2028 {{ 7*7 }} </svg>"


def test_untrusted_text_stays_text(tmp_path: Path, predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    fields = {
        "prediction": ATTACK, "question": ATTACK, "references": [ATTACK], "category": ATTACK, "answer_type": ATTACK,
        "group": ATTACK, "passages": [{"id": ATTACK, "text": ATTACK}], "error": None,
    }  # fmt: skip
    made = [predict(arm, i, float(i % 2), **fields) for arm in ("rag", ATTACK) for i in range(4)]
    facts["skipped"] = [{"path": ATTACK, "why": ATTACK}]
    facts["command"] = ATTACK
    html, markdown = _write(tmp_path, made, facts)
    page = _Page(html)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    assert "49" not in page.text.split("Sample answers")[1].split("Data")[0]
    body = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "<script" not in body
    assert "<img" not in body
    assert "\n# h" not in markdown


def test_differences_in_token_f1_are_read_off_with_their_intervals(
    tmp_path: Path, answers: Rows, facts: dict[str, Any]
) -> None:
    made = answers({"rag": [0.0] * 48, "sft": [1.0] * 48})
    for i, row in enumerate(made):
        row["scores"]["f1"] = 0.1 + 0.01 * (i % 5) + (0.5 if row["arm"] == "sft" else 0.0)
    html, markdown = _write(tmp_path, made, facts)
    compared, _ = json.loads((tmp_path / "results.json").read_text())["comparisons_own"]
    assert compared["low"] > 0.4
    low, high = (f"+{100 * compared[end]:.1f}" for end in ("low", "high"))
    part = markdown.split("Differences in the task's own scores</summary>")[1].split("</details>")[0]
    assert f"| sft | rag | token F1 | +{100 * compared['difference']:.1f} | {low} to {high} | &lt; 0.001 |" in part
    assert "Corrected as one family" in part
    part = html.split("<summary>Differences in the task’s own scores</summary>")[1].split("</details>")[0]
    assert f"<td>{low} to {high}</td><td>&lt; 0.001</td>" in part


def test_markdown_tables_are_rectangular(tmp_path: Path, rows: Any, facts: dict[str, Any]) -> None:
    rows[0]["prediction"] = "a | b"
    markdown = _write(tmp_path, rows, facts)[1]
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.M)
    assert len(tables) >= 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("scores", [{}, {"rag": [1.0]}, {"lora": [0.0, 1.0]}])
def test_a_run_with_next_to_nothing_still_has_a_report(
    tmp_path: Path, scores: dict[str, list[float]], answers: Rows
) -> None:
    html, markdown = _write(tmp_path, answers(scores), {"arms": [{"name": "rag", "failed": "no weights"}]})
    _Page(html)
    for text in (html, markdown):
        assert "no weights" in text
        assert not re.search(r"\bnan\b|\bNone\b|Undefined", text)


def test_held_out_items_that_nobody_labelled_are_warned_of(tmp_path: Path, rows: Any, facts: dict[str, Any]) -> None:
    for text in _write(tmp_path, rows, {**facts, "held_out": "synthetic"}):
        assert "held-out items are synthetic" in text
    for text in _write(tmp_path, rows, {**facts, "held_out": "human-labelled"}):
        assert "held-out items are synthetic" not in text


def test_samples_show_disagreement_first_then_what_all_got_wrong(answers: Rows) -> None:
    made = answers({"rag": [1] * 6 + [0] * 6 + [0] * 3, "lora": [1] * 6 + [0] * 6 + [1] * 3})
    chosen = samples(made, ["rag", "lora"])
    right = [[a["right"] for _, a in s["answers"]] for s in chosen]
    assert right == [[False, True]] * 3 + [[False, False]] * 6 + [[True, True]]
    assert [name for name, _ in chosen[0]["answers"]] == ["rag", "lora"]
    assert len({s["category"] for s in chosen[:3]}) == 3


def test_a_passage_that_several_arms_saw_is_shown_once(predict: Callable[..., Any]) -> None:
    shared, own = {"text": "Seen by both."}, {"id": "c-2", "text": "Seen by one."}
    made = [predict("rag", 0, 1.0, passages=[shared]), predict("lora", 0, 0.0, passages=[shared, own])]
    assert samples(made, ["rag", "lora"])[0]["passages"] == [("", "Seen by both."), ("c-2", "Seen by one.")]


def test_the_terminal_table_names_every_arm(rows: Any, facts: dict[str, Any]) -> None:
    facts["arms"].append({"name": "[bold]mipro", "failed": "no"})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary_table(*summarise(rows, facts)))
    text = console.export_text()
    for part in ("rag", "random_search", "[bold]mipro", "failed", "+25.0", "500/10"):
        assert part in text


def test_a_folder_without_a_run_is_one_clear_sentence(tmp_path: Path, rows: Any, facts: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=r"is not a finished run: it has no readable results\.json"):
        write_report(tmp_path)
    _write(tmp_path, rows, facts)
    (tmp_path / "measurements.json").write_text("{half")
    with pytest.raises(SetupError, match="is not a finished run: its files are not in a run's format"):
        write_report(tmp_path)


def test_a_task_without_token_f1_shows_its_own_scores(
    tmp_path: Path, predict: Callable[..., dict[str, Any]], facts: dict[str, Any]
) -> None:
    """Every score that the task declares is shown with its interval; those it lacks leave no empty column."""
    rows = [
        predict(arm, i, 1.0, scores={"judged": 1.0, "right_function": 1.0, "right_arguments": None if i % 2 else 0.5})
        for arm in ("zero_shot", "sft")
        for i in range(12)
    ]
    facts |= {"task": "function_calling", "noun": "function", "baseline": "zero_shot", "arms": []}
    html, markdown = _write(tmp_path, rows, facts)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["scores"] == ["right_function", "right_arguments"]
    assert results["arms"][0]["further"]["right_arguments"]["n"] == 6
    for text in (_Page(html).text, markdown):
        assert [word for word in ("right arguments", "function") if word in text.lower()] == [
            "right arguments",
            "function",
        ]
        assert not [word for word in ("Token F1", "MRR", "document") if word in text]
    console = Console(file=io.StringIO(), width=100)
    console.print(summary_table(results, json.loads((tmp_path / "measurements.json").read_text())))
    assert "right function %" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("score", ["", "my_metric"])
def test_a_judge_that_a_metric_replaces_is_not_shown_as_one(tmp_path: Path, answers: Rows, score: str) -> None:
    facts: dict[str, Any] = {"score": score, "judge": {"name": "my_metric" if score else "reference"}}
    folder = make_run(tmp_path / "run", answers({"rag": [1.0] * 12}), **facts)
    text = write_report(folder)[1].read_text(encoding="utf-8")
    shown = r"not asked: answers are scored by my\_metric" if score else "reference"
    assert f"| judge | {shown} |" in text
    assert "| teacher | embedded/smollm2-135m-instruct (the student's model) |" in text
