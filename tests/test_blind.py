"""`python -m synth_dspy.blind`: sheets that do not tell, votes that are not lost, a report that finds the winner."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM
from finished_runs import make_run, row
from rich.console import Console
from servers import Behaviour, serving

from synth_dspy.cli import blind
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.printable import visible
from synth_dspy.evaluation.agreement import position_p, rater_agreement
from synth_dspy.evaluation.blind.judge import PairwiseJudge, rate
from synth_dspy.evaluation.blind.sheets import read_key, read_sheet
from synth_dspy.evaluation.blind.terminal import ask
from synth_dspy.evaluation.blind.votes import VoteFile, read_votes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run-1", [row(arm, i) for arm in ("rag", "sft", "dpo") for i in range(12)])


def sheets(out: Path, *runs: Path, arms: str = "rag,sft", items: int = 12, **flags: Any) -> Path:
    more = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    blind.main(["sheets", *map(str, runs), "--arms", arms, "--out", str(out), "--items", str(items), *more])
    return out


def position(key: dict[str, Any], item: Any, arm: str) -> int:
    return key["items"][str(item)]["order"].index(arm) + 1


def vote_file(path: Path, folder: Path, rater: str, choose: Callable[[str, dict[str, Any]], Any]) -> Path:
    key = read_key(folder)
    rows = [
        {"study": key["study"], "item": item, "rater": rater, "choice": choose(item, facts)}
        for item, facts in key["items"].items()
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def report(folder: Path, *votes: Path) -> dict[str, Any]:
    blind.main(["report", str(folder), "--votes", *map(str, votes)])
    return json.loads((folder / "blind.json").read_text())


def answering(*lines: str) -> Callable[[str], str]:
    left = list(lines)

    def read(prompt: str) -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return read


# Sheets


def test_sheets_do_not_say_whose_an_output_is(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run)
    rows = read_sheet(out / "sheets.jsonl")
    assert set(rows[0]) == {"study", "item", "question", "references", "outputs", "passages"}
    key = read_key(out)
    for shown in rows:
        facts = key["items"][str(shown["item"])]
        number = int(facts["id"].removeprefix("item-"))
        assert shown["question"] == f"Question {number}?"
        assert shown["outputs"] == [f"{arm} says {number}" for arm in facts["order"]]
    assert sorted(facts["id"] for facts in key["items"].values()) == [f"item-{i:03d}" for i in range(12)]


def test_every_arm_stands_equally_often_in_every_position(run: Path, tmp_path: Path) -> None:
    key = read_key(sheets(tmp_path / "out", run, arms="rag,sft,dpo"))
    orders = [tuple(facts["order"]) for facts in key["items"].values()]
    for place in range(3):
        assert Counter(order[place] for order in orders) == {"rag": 4, "sft": 4, "dpo": 4}
    assert len(set(orders)) > 2  # and yet not one order turned round and round


def test_another_seed_is_another_draw_and_the_same_seed_the_same(run: Path, tmp_path: Path) -> None:
    first, again, other = (
        (sheets(tmp_path / name, run, items=8, seed=seed) / "sheets.jsonl").read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other
    assert first.count(b"\n") == 8


def test_items_that_not_all_answered_or_all_answered_alike_are_left_out(tmp_path: Path) -> None:
    rows = [row(arm, i) for arm in ("rag", "sft") for i in range(5)]
    rows[0]["error"] = "ModelError: too long"
    rows[1]["prediction"] = rows[6]["prediction"] = " the same\n"
    run = make_run(tmp_path / "run-1", rows[:-1])  # sft has no row for the last item
    key = read_key(sheets(tmp_path / "out", run))
    assert key["counts"] == {"left_out": 2, "identical": 1, "eligible": 2, "shown": 2}
    assert sorted(facts["id"] for facts in key["items"].values()) == ["item-002", "item-003"]


def test_arms_of_several_runs(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "run-2", [row("rag", i, prediction=f"other {i}") for i in range(12)])
    key = read_key(sheets(tmp_path / "out", run, other, arms="rag"))
    assert [arm["name"] for arm in key["arms"]] == ["run-1/rag", "run-2/rag"]
    key = read_key(sheets(tmp_path / "out2", run, other, arms="run-1/sft,run-2/rag"))
    assert [arm["name"] for arm in key["arms"]] == ["run-1/sft", "run-2/rag"]


def test_an_id_that_stands_for_another_question_is_left_out(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "run-2", [row("rag", i, question=f"Question {i % 6}?") for i in range(12)])
    key = read_key(sheets(tmp_path / "out", run, other, arms="run-1/sft,run-2/rag"))
    assert key["counts"]["left_out"] == 6


def test_cells_are_no_formulas_and_outputs_come_through(tmp_path: Path) -> None:
    hostile = ["=1+1", "+A1", "-2", "@SUM(A1)", ' \t=HYPERLINK("x")', "\uff1d1", 'two\nlines, "quoted"; é']
    rows = [row("rag", i, prediction=text, question=text) for i, text in enumerate(hostile)]
    run = make_run(tmp_path / "run-1", rows + [row("sft", i, question=text) for i, text in enumerate(hostile)])
    out = sheets(tmp_path / "out", run)
    text = (out / "sheets.csv").read_text(encoding="utf-8-sig")
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(table) == len(hostile)
    for line in table:
        for cell in line.values():
            assert not cell.lstrip(" \t\n").startswith(("=", "+", "-", "@", "\uff1d")), cell
    questions = {line["question"].removeprefix("'") for line in table}
    assert questions == set(hostile)
    assert {output for shown in read_sheet(out) for output in shown["outputs"]} >= {text.strip() for text in hostile}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["{run}", "--arms", "rag"], "needs two arms or more and got only rag"),
        (["{run}", "--arms", "rag,best"], "No arm 'best' has answers here; there are rag, sft, dpo"),
        (["{empty}"], "is not a finished run: it has no readable results.json"),
        (["{damaged}"], "its files are not in a run's format"),
        (["{run}", "{foreign}"], "these are of contract_qa, function_calling"),
        (["{run}", "{apart}", "--arms", "rag"], "There is no item that run-1/rag, apart/rag all answered"),
        (["{run}", "{copy}", "--arms", "rag"], "gave the same output to all 12 items"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(run: Path, tmp_path: Path, args: list[str], sentence: str) -> None:
    places = {"run": run, "empty": tmp_path / "empty", "damaged": tmp_path / "damaged"}
    places["empty"].mkdir()
    places["damaged"].mkdir()
    for name in ("results.json", "measurements.json", "predictions.jsonl"):
        (places["damaged"] / name).write_text("[]")
    places["foreign"] = make_run(tmp_path / "foreign", [row("rag", 1)], task="function_calling")
    places["apart"] = make_run(tmp_path / "apart", [row("rag", i + 50) for i in range(3)])
    places["copy"] = make_run(tmp_path / "copy", [row("rag", i) for i in range(12)])
    with pytest.raises(SetupError, match=sentence):
        blind.main(["sheets", *(arg.format(**places) for arg in args), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_comparison_is_not_written_over(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run)
    before = (out / "key.json").read_bytes()
    with pytest.raises(SetupError, match="holds a comparison already"):
        sheets(out, run, seed=5)
    assert (out / "key.json").read_bytes() == before


# Votes


def test_a_rater_sees_one_item_at_a_time_and_goes_on_later(run: Path, tmp_path: Path) -> None:
    rows = read_sheet(sheets(tmp_path / "out", run, items=5))
    path, shown = tmp_path / "votes" / "ann.jsonl", io.StringIO()
    console = Console(file=shown, width=100)
    votes = VoteFile(path, rows[0]["study"], "ann")
    left = ask(rows, votes, total=5, read=answering("1", "3", "nonsense", "T", "q"), console=console)
    assert left == 3
    assert [vote.choice for vote in read_votes(path)] == [1, "tie"]
    assert shown.getvalue().count("Type 1/2, t, s or q.") == 2
    assert not any(arm in shown.getvalue() for arm in ("[rag]", "key"))
    again = VoteFile(path, rows[0]["study"], "ann")
    rest = [r for r in rows if str(r["item"]) not in again.done]
    assert ask(rest, again, total=5, read=answering("2", "skip"), console=console) == 1  # the input ended
    assert [vote.choice for vote in read_votes(path)] == [1, "tie", 2, "skip"]
    assert VoteFile(path, rows[0]["study"], "ben").done == set()


def test_a_vote_after_a_line_without_its_end(run: Path, tmp_path: Path) -> None:
    study = read_sheet(sheets(tmp_path / "out", run))[0]["study"]
    path = tmp_path / "ann.jsonl"
    path.write_text(json.dumps({"study": study, "item": 1, "rater": "ann", "choice": 1}))
    VoteFile(path, study, "ann").add("2", "tie", at="")
    assert [(vote.item, vote.choice) for vote in read_votes(path)] == [("1", 1), ("2", "tie")]


def test_what_is_shown_cannot_steer_the_terminal() -> None:
    assert visible("a\x1b[2Jb\x07\u202ec\r\nd\te") == "a\ufffd[2Jb\ufffd\ufffdc\nd\te"


def test_a_filled_in_table_is_a_file_of_votes(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run)
    table = list(csv.DictReader(io.StringIO((out / "sheets.csv").read_text(encoding="utf-8-sig"), newline="")))
    for line, choice in zip(table, ("1", "2", " Tie", "s", ""), strict=False):
        line["choice"] = choice
    table[1]["rater"] = "Ben"
    for name, delimiter in (("ann.csv", ","), ("semicolons.csv", ";")):
        with open(tmp_path / name, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, table[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(table)
        votes = read_votes(tmp_path / name)
        assert [vote.choice for vote in votes] == [1, 2, "tie", "skip"]
        assert [vote.rater for vote in votes] == [name.removesuffix(".csv"), "Ben", *[name.removesuffix(".csv")] * 2]
    results = report(out, tmp_path / "ann.csv")
    assert (results["votes"], results["skipped"]) == (3, 1)


def test_files_are_merged_and_the_last_vote_counts(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = sheets(tmp_path / "out", run)
    first = vote_file(tmp_path / "1.jsonl", out, "ann", lambda item, facts: facts["order"].index("rag") + 1)
    # The second time ann finds the outputs alike, but for item 3, where the other one is better after all.
    other = position(read_key(out), 3, "sft")
    second = vote_file(tmp_path / "2.jsonl", out, "ann", lambda item, facts: other if item == "3" else "tie")
    third = vote_file(tmp_path / "3.jsonl", out, "ben", lambda item, facts: "tie")
    results = report(out, first, second, third)
    assert (results["votes"], results["replaced"], len(results["conflicts"])) == (24, 12, 12)
    assert results["conflicts"][2] == {"rater": "ann", "item": "3", "choices": [3 - other, other]}
    assert results["ties"] == 23
    assert "Raters changed a choice" in capsys.readouterr().out
    assert report(out, second, first, third)["ties"] == 12  # in the other order ann's first votes are the last


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"choice": "best"}, "field 'choice' is \"best\"; make it a position such as 1 or 2, or tie, or skip"),
        ({"choice": True}, "field 'choice' is true"),
        ({"choice": 3}, "the choice is 3, but the sheets show 2 outputs"),
        ({"item": 99}, "there is no item '99' on the sheets"),
        ({"study": "study-0"}, "the vote is on other sheets"),
        ({"choice": "both"}, "the choice is both, but the sheets ask which output is better"),
        ({"choice": "skip"}, "hold no choice"),
        ({"rater": " "}, "field 'rater' is"),
        ({"positions": [1, "x"]}, "make it a list of whole numbers"),
    ],
)
def test_a_wrong_vote_is_one_sentence(run: Path, tmp_path: Path, line: dict[str, Any], sentence: str) -> None:
    out = sheets(tmp_path / "out", run)
    vote = {"study": read_key(out)["study"], "item": 1, "rater": "ann", "choice": 1, **line}
    (tmp_path / "v.jsonl").write_text(json.dumps(vote) + "\n")
    with pytest.raises(SetupError, match=sentence):
        report(out, tmp_path / "v.jsonl")
    assert not (out / "blind.json").exists()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["look"], "blind has no subcommand 'look'"),
        (["rate", "{out}/sheets.jsonl", "--votes", "v.jsonl"], "name yourself with --rater"),
        (["rate", "{out}/sheets.csv", "--rater", "a", "--votes", "v.jsonl"], "is for spreadsheets"),
        (["rate", "{out}/key.json", "--rater", "a", "--votes", "v.jsonl"], "is not valid JSON"),
        (["rate", "{out}", "--rater", "a", "--votes", "{out}/sheets.jsonl"], "field 'rater' is missing"),
        (["rate", "{out}", "--rater", "a", "--votes", "v.csv"], "not to v.csv"),
        (["rate", "none.jsonl", "--rater", "a", "--votes", "v.jsonl"], "none.jsonl cannot be read"),
        (["report", "{tmp}", "--votes", "v.jsonl"], "There is no readable key.json"),
        (["report", "{out}", "--votes", "none.csv"], "none.csv cannot be read"),
        (["report", "{out}", "--votes", "{out}/sheets.csv"], "holds no vote"),
        (["report", "{out}", "--votes", "{tmp}/other.csv"], "has no column study"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    run: Path, tmp_path: Path, args: list[str], sentence: str
) -> None:
    out = sheets(tmp_path / "out", run)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SetupError, match=sentence):
        blind.main([arg.format(out=out, tmp=tmp_path) for arg in args])


def test_help_is_quick_and_names_the_parts() -> None:
    code = "import sys\nfrom synth_dspy import blind\nblind.main(['--help'])\nprint('dspy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "blind rate" in done.stdout
    assert done.stdout.endswith("False\n")


# The report

ERRORS = {"ann": 0.05, "ben": 0.1, "cleo": 0.2, "dan": 0.35}
"""Simulated raters: how often each prefers the worse output."""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """300 items; sft is the better arm on 70 % of them. Each rater errs at a known rate, independently."""
    folder = tmp_path_factory.mktemp("simulated")
    n, share = 300, 0.7
    run = make_run(folder / "run-1", [row(arm, i) for arm in ("rag", "sft") for i in range(n)])
    out = sheets(folder / "out", run, items=n)
    rng = random.Random(4)
    better = {f"item-{i:03d}": "sft" if i < share * n else "rag" for i in range(n)}

    def choose(error: float) -> Callable[[str, dict[str, Any]], int]:
        def chosen(item: str, facts: dict[str, Any]) -> int:
            place = facts["order"].index(better[facts["id"]])
            return (1 - place if rng.random() < error else place) + 1

        return chosen

    files = [vote_file(folder / f"{name}.jsonl", out, name, choose(error)) for name, error in ERRORS.items()]
    return report(out, *files) | {"share": share}


def test_simulated_raters_of_known_error_give_the_known_winner(simulated: dict[str, Any]) -> None:
    share, errors = simulated["share"], ERRORS.values()
    expected = sum(share * (1 - e) + (1 - share) * e for e in errors) / len(errors)
    rag, sft = simulated["arms"]
    assert sft["rate"] == pytest.approx(expected, abs=0.03)
    assert sft["low"] < expected < sft["high"]
    assert sft["high"] - sft["low"] < 0.12
    assert rag["rate"] == pytest.approx(1 - sft["rate"])
    assert (sft["n"], sft["votes"]) == (300, 1200)
    (pair,) = simulated["pairs"]
    assert pair["p_holm"] < 0.001
    assert simulated["headline"].startswith("sft is preferred to rag")


def test_the_judge_s_scores_of_all_items_make_few_votes_more_precise(tmp_path: Path) -> None:
    """40 of 300 items are rated. The judge sees who is better on nine items in ten, and likes sft's style besides."""
    rng = random.Random(5)
    better = {f"item-{i:03d}": "sft" if i % 10 < 6 else "rag" for i in range(300)}

    def score(arm: str, item: str) -> float:
        return (0.8 if (arm == better[item]) is (rng.random() < 0.9) else 0.2) + 0.1 * (arm == "sft")

    made = [row(arm, i, score(arm, f"item-{i:03d}")) for arm in ("sft", "rag") for i in range(300)]
    out = sheets(tmp_path / "out", make_run(tmp_path / "run-1", made), arms="sft,rag", items=40)
    votes = vote_file(tmp_path / "v.jsonl", out, "ann", lambda _, facts: facts["order"].index(better[facts["id"]]) + 1)
    (pair,) = report(out, votes)["pairs"]
    powered = pair["powered"]
    assert powered["n"] == 300
    assert powered["low"] < 0.6 < powered["high"]
    assert powered["high"] - powered["low"] < 0.8 * (pair["high"] - pair["low"])
    assert "With the judge's scores of all 300 items on which the outputs differ, sft wins" in (
        out / "blind.md"
    ).read_text(encoding="utf-8")
    key = json.loads((out / "key.json").read_text())
    del key["judged"]  # as an earlier version wrote it
    (out / "key.json").write_text(json.dumps(key))
    assert report(out, votes)["pairs"][0]["powered"] is None


def test_simulated_raters_of_known_error_give_the_known_agreement(simulated: dict[str, Any]) -> None:
    pairs = list(combinations(ERRORS.values(), 2))
    expected = sum((1 - a) * (1 - b) + a * b for a, b in pairs) / len(pairs)
    agreement_found = simulated["agreement"]
    assert agreement_found["percent"] == pytest.approx(expected, abs=0.03)
    p = simulated["arms"][1]["rate"]
    alpha = 1 - (1 - expected) / (2 * p * (1 - p))
    assert agreement_found["alpha"] == pytest.approx(alpha, abs=0.06)
    assert agreement_found["low"] < alpha < agreement_found["high"]
    assert (agreement_found["items"], agreement_found["labels"]) == (300, 1200)
    for rater in simulated["raters"]:
        ours = ERRORS[rater["rater"]]
        others = [e for name, e in ERRORS.items() if name != rater["rater"]]
        agrees = sum((1 - ours) * (1 - e) + ours * e for e in others) / len(others)
        assert rater["agreement_with_others"] == pytest.approx(agrees, abs=0.06)
        assert rater["arms"]["sft"]["rate"] == pytest.approx(0.7 * (1 - ours) + 0.3 * ours, abs=0.08)
    worst = min(simulated["raters"], key=lambda rater: rater["agreement_with_others"])
    assert worst["rater"] == "dan"


def test_simulated_raters_have_no_position_bias(simulated: dict[str, Any]) -> None:
    assert simulated["positions"]["p"] > 0.05
    assert all(rater["positions"]["p_holm"] > 0.05 for rater in simulated["raters"])


def test_a_rater_who_always_takes_the_first_is_found(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run)
    key = read_key(out)
    fair = vote_file(tmp_path / "1.jsonl", out, "fair", lambda item, facts: position(key, item, "sft"))
    lazy = vote_file(tmp_path / "2.jsonl", out, "lazy", lambda item, facts: 1)
    results = report(out, fair, lazy)
    positions = {rater["rater"]: rater["positions"] for rater in results["raters"]}
    assert positions["lazy"]["shares"] == [1.0, 0.0]
    assert positions["lazy"]["p_holm"] < 0.01
    assert positions["fair"]["p_holm"] == 1.0
    assert "Where an output stands matters to lazy: read these votes with care." in results["notes"]


def test_of_three_arms_the_pairs_are_what_the_choices_say(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run, arms="rag,sft,dpo")
    key = read_key(out)

    def choose(item: str, facts: dict[str, Any]) -> Any:
        number = int(facts["id"].removeprefix("item-"))
        return "tie" if number < 2 else position(key, item, "dpo" if number < 11 else "rag")

    results = report(out, vote_file(tmp_path / "v.jsonl", out, "ann", choose))
    arms = {arm["arm"]: arm for arm in results["arms"]}
    assert {name: (a["wins"], a["ties"], a["losses"]) for name, a in arms.items()} == {
        "rag": (1, 2, 9),
        "sft": (0, 2, 10),
        "dpo": (9, 2, 1),
    }
    assert arms["dpo"]["rate"] == pytest.approx((9 + 2 / 3) / 12)
    pairs = {(pair["arm"], pair["against"]): pair for pair in results["pairs"]}
    assert (pairs["sft", "dpo"]["rate"], pairs["sft", "dpo"]["n"]) == (pytest.approx(1 / 11), 11)
    assert (pairs["rag", "sft"]["rate"], pairs["rag", "sft"]["n"]) == (pytest.approx(2 / 3), 3)
    assert results["headline"].startswith("dpo has the most votes")


def test_all_ties_are_no_evidence(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run)
    files = [vote_file(tmp_path / f"{name}.jsonl", out, name, lambda item, facts: "tie") for name in ("ann", "ben")]
    results = report(out, *files)
    assert results["pairs"][0]["rate"] == 0.5
    assert results["pairs"][0]["p_holm"] == 1.0
    assert results["headline"].startswith("No evidence")
    assert results["agreement"]["percent"] == 1.0
    assert results["agreement"]["alpha"] is None  # undefined where all labels are the same
    assert results["positions"]["p"] is None


def test_names_come_through_as_they_are(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sheets(tmp_path / "out", run)
    report(out, vote_file(tmp_path / "v.jsonl", out, "[bold]a|b*<script>\x1b[2J", lambda item, facts: 1))
    text = (out / "blind.md").read_text()
    assert "| \\[bold\\]a\\|b\\*&lt;script&gt;\ufffd\\[2J |" in text
    printed = capsys.readouterr().out
    assert "[bold]a|b*<script>" in printed
    assert "\x1b" not in printed


def test_the_same_votes_give_the_same_report(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run)
    one, two = (vote_file(tmp_path / f"{n}.jsonl", out, n, lambda item, facts: int(item) % 2 + 1) for n in "ab")
    report(out, one, two)
    first = (out / "blind.json").read_bytes()
    report(out, two, one)
    assert (out / "blind.json").read_bytes() == first


# Agreement

KRIPPENDORFF = (
    "1 2 3 3 2 1 4 1 2 * * *",
    "1 2 3 3 2 2 4 1 2 5 * 3",
    "* 3 3 3 2 3 4 2 2 5 1 *",
    "1 2 3 3 2 4 4 1 2 5 1 *",
)


def columns(table: Sequence[str]) -> list[list[str]]:
    return [[value for value in column if value != "*"] for column in zip(*map(str.split, table), strict=True)]


def test_alpha_of_krippendorffs_own_example() -> None:
    agreement_of_raters = rater_agreement(columns(KRIPPENDORFF))  # Krippendorff 2011, section C: nominal alpha .743
    assert agreement_of_raters.alpha == pytest.approx(0.743, abs=0.0005)
    assert agreement_of_raters.items == 11  # the last has one label only
    assert agreement_of_raters.low is not None
    assert agreement_of_raters.high is not None
    assert agreement_of_raters.low < 0.743 < agreement_of_raters.high


def test_alpha_at_its_ends() -> None:
    assert rater_agreement([["a", "a"], ["b", "b"]]).alpha == 1.0
    rng = random.Random(0)
    chance = rater_agreement([[rng.choice("ab"), rng.choice("ab")] for _ in range(2000)])
    assert chance.alpha == pytest.approx(0, abs=0.06)
    assert chance.percent == pytest.approx(0.5, abs=0.03)
    assert rater_agreement([["a"], []]).percent is None


def test_the_test_of_positions_is_exact_where_that_can_be_computed() -> None:
    # Of ten items, all chosen first: only all first or all last is as extreme, 2 of 1,024 orders.
    assert position_p([[1, 0]] * 10) == pytest.approx(2 / 1024)
    assert position_p([[1, 0, 0]] * 6) == pytest.approx(3 / 3**6, abs=0.001)
    assert position_p([[4, 0]] * 10) == pytest.approx(2 / 1024)  # four raters are no four times the items
    assert position_p([[1, 0, 0], [0, 1, 0], [0, 0, 1]]) == 1.0
    assert position_p([[0, 0]]) is None


# Judge models


def judge(*replies: str) -> PairwiseJudge:
    return PairwiseJudge(DummyLM([{"better": reply} for reply in replies]))


@pytest.mark.parametrize(
    ("replies", "choice", "positions"),
    [
        (("first", "second"), 1, [1, 1]),
        (("second", "first"), 2, [1, 1]),
        (("first", "first"), "tie", [2, 0]),  # whatever stands first: no preference
        (("tie", "second"), "tie", [0, 1]),
        (("tie", "tie"), "tie", [0, 0]),
    ],
)
def test_a_judge_is_asked_in_both_orders(replies: tuple[str, ...], choice: Any, positions: list[int]) -> None:
    vote = judge(*replies)(question="q", references=["r"], outputs=["a", "b"])
    assert (vote.choice, vote.positions) == (choice, positions)


def test_of_three_outputs_a_judge_takes_the_one_that_wins_all_its_pairs() -> None:
    rock = judge("second", "first", "first", "second", "first", "second")  # 2 beats 1, 1 beats 3, 2 beats 3
    assert rock(question="q", references=[], outputs=["a", "b", "c"]).choice == 2
    circle = judge("first", "second", "second", "first", "first", "second")  # 1 beats 2, 3 beats 1, 2 beats 3
    assert circle(question="q", references=[], outputs=["a", "b", "c"]).choice == "tie"


def test_a_judges_votes_are_written_and_its_failures_asked_again(run: Path, tmp_path: Path) -> None:
    out = sheets(tmp_path / "out", run, items=3)
    rows, path = read_sheet(out), tmp_path / "judge.jsonl"
    study = rows[0]["study"]

    def choose(question: str, references: list[str], outputs: list[str]) -> dspy.Prediction:
        if question == rows[1]["question"]:
            raise ModelError("The server hung up.")
        return dspy.Prediction(choice=1, positions=[2, 0])

    votes = VoteFile(path, study, "openai/judge")
    assert rate(choose, rows, votes, Executor(2)) == 1
    assert votes.done == {"1", "3"}
    left = [r for r in rows if str(r["item"]) not in VoteFile(path, study, "openai/judge").done]
    with pytest.raises(ModelError, match="failed on all 1 items; the first with ModelError: The server hung up"):
        rate(choose, left, votes, Executor(2))
    results = report(out, path)
    assert results["raters"][0]["positions"]["shares"] == [1.0, 0.0]  # as it was asked, not as the sheet shows it
    assert results["positions"]["n"] == 0


def test_a_judge_s_key_is_named_and_goes_over_plain_http_only_if_allowed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "secret")
    monkeypatch.setattr("synth_dspy.core.addresses.is_this_machine", lambda address: False)
    out, path = sheets(tmp_path / "out", run, items=2), tmp_path / "votes.jsonl"
    args = ["rate", str(out / "sheets.jsonl"), "--judge", "openai/x", "--votes", str(path)]
    reply = "[[ ## better ## ]]\nsecond\n\n[[ ## completed ## ]]"
    with serving(Behaviour(reply=reply, models=["x"])) as server:
        args += ["--api-base", server.url, "--api-key-name", "GATEWAY_KEY"]
        with pytest.raises(SetupError, match=r"GATEWAY_KEY would be sent unencrypted .*else --allow-http"):
            blind.main(args)
        blind.main([*args, "--allow-http"])
    assert len(read_votes(path)) == 2


def test_a_hosted_judge_votes_and_goes_on(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, path = sheets(tmp_path / "out", run, items=3), tmp_path / "votes.jsonl"
    study = read_sheet(out)[0]["study"]
    VoteFile(path, study, "grace").add("2", 1, at="")
    args = ["rate", str(out / "sheets.jsonl"), "--judge", "openai/x", "--rater", "grace", "--votes", str(path)]
    reply = "[[ ## better ## ]]\nsecond\n\n[[ ## completed ## ]]"
    with serving(Behaviour(reply=reply, models=["x"])) as server:
        blind.main([*args, "--api-base", server.url])
    votes = read_votes(path)
    assert [(vote.item, vote.choice, vote.positions) for vote in votes[1:]] == [
        ("1", "tie", (0, 2)),  # the second wins in either order: no preference
        ("3", "tie", (0, 2)),
    ]
    assert len(server.requests) == 4
    shown = json.dumps(server.requests)
    assert not any(name in shown for name in ("run-1", "key.json", "grace"))
    assert "3 of 3 items rated by grace" in capsys.readouterr().out
    with serving(Behaviour(script=["401"])) as server, pytest.raises(SetupError, match="key"):
        blind.main([*args[:-1], str(tmp_path / "others.jsonl"), "--api-base", server.url])


@pytest.mark.slow
def test_an_embedded_judge_votes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, votes = sheets(tmp_path / "out", run, items=2), tmp_path / "votes.jsonl"
    args = ["rate", str(out), "--judge", "embedded/smollm2-135m-instruct", "--votes", str(votes)]
    blind.main(args)
    assert len(read_votes(votes)) == 2
    assert "2 of 2 items rated by embedded/smollm2-135m-instruct" in capsys.readouterr().out
    blind.main(args)
    assert len(read_votes(votes)) == 2  # nothing is left to ask
