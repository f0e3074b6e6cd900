"""`python -m synth_dspy.choose`: the arm to take under limits, and why; never one that is dearer and no better."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from finished_runs import SMALL, make_run, row

from synth_dspy.cli import choose
from synth_dspy.core.errors import SetupError
from synth_dspy.evaluation.choice.licences import CONDITIONS, NO, UNKNOWN, YES, licence_of, named, strictest

N = 40
ARMS = {  # share right, seconds, CPU seconds
    "rag": (0.3, 1.0, 1.0),
    "sft": (0.7, 2.0, 2.0),
    "dpo": (0.75, 4.0, 3.0),
    "slow": (0.3, 5.0, 4.0),
}


def rows(arm: str, share: float, seconds: float, cpu: float | None, **more: Any) -> list[dict[str, Any]]:
    return [row(arm, i, float(i < share * N), latency_s=seconds, cpu_s=cpu, **more) for i in range(N)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [one for arm, facts in ARMS.items() for one in rows(arm, *facts)]
    return make_run(tmp_path_factory.mktemp("runs") / "run-1", made)


def chosen(out: Path, *runs: Path, flags: Sequence[str] = ()) -> dict[str, Any]:
    choose.main([*map(str, runs), "--out", str(out), "--force", *flags])
    return json.loads((out / "choice.json").read_text())


def option(decision: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in decision["options"] if one["name"] == name)


def test_of_arms_that_score_alike_the_cheaper_one_is_taken(run: Path, tmp_path: Path) -> None:
    decision = chosen(tmp_path, run)
    assert decision["chosen"] == "sft"
    assert "dpo differs by +5.0 points, which is not significant, and costs 50 % more" in (decision["recommendation"])
    assert decision["baseline"] == "rag"
    assert {(one["arm"], one["against"]): one["outcome"] for one in decision["comparisons"]} == {
        ("dpo", "rag"): "better",
        ("sft", "rag"): "better",
        ("slow", "rag"): "no evidence of a difference",
        ("dpo", "sft"): "no evidence of a difference",
        ("dpo", "slow"): "better",
    }


def test_the_best_is_taken_where_it_is_shown_to_be_better(run: Path, tmp_path: Path) -> None:
    decision = chosen(tmp_path, run, flags=["--arms", "rag,dpo"])
    assert decision["chosen"] == "dpo"
    assert "it is better than rag (p < 0.05 after Holm's correction)" in decision["recommendation"]


def test_a_price_that_differs_by_little_is_no_reason(tmp_path: Path) -> None:
    made = rows("rag", 0.70, 1.0, 1.0) + rows("sft", 0.75, 1.0, 0.98)
    decision = chosen(tmp_path, make_run(tmp_path / "run", made))
    assert decision["chosen"] == "rag"
    assert decision["recommendation"].startswith("No evidence that any arm is better than rag. Take rag")


def test_an_arm_that_scores_alike_and_costs_less_is_taken(tmp_path: Path) -> None:
    made = rows("rag", 0.70, 1.0, 1.0) + rows("short", 0.70, 1.0, 0.5)
    decision = chosen(tmp_path, make_run(tmp_path / "run", made))
    assert decision["chosen"] == "short"
    assert decision["recommendation"].startswith("No evidence that any arm is better than rag. Take short")
    assert "rag scores the same and costs 100 % more" in (decision["recommendation"])


def test_what_the_report_does_not_show_is_not_recommended(tmp_path: Path) -> None:
    made = rows("rag", 0.40, 1.0, 1.0) + rows("sft", 0.50, 1.0, 1.0)
    run = make_run(tmp_path / "run", made)
    decision = chosen(tmp_path / "out", run)
    headline = json.loads((run / "results.json").read_text())["verdict"]["headline"]
    assert decision["chosen"] == "rag"
    assert decision["recommendation"].startswith(headline)
    assert "sft scores highest (+10.0 points" in decision["recommendation"]


def test_too_few_items_recommend_nothing_new(tmp_path: Path) -> None:
    made = [one for one in rows("rag", 0, 1.0, 1.2) + rows("sft", 1, 1.0, 1.0) if int(one["id"][-3:]) < 29]
    run = make_run(tmp_path / "run", made)
    decision = chosen(tmp_path / "out", run)
    assert decision["chosen"] == "rag"
    assert decision["recommendation"].startswith("Too few items to say whether any arm is better than rag (n = 29).")
    assert json.loads((run / "results.json").read_text())["verdict"]["headline"] in decision["recommendation"]


def test_a_score_that_shows_more_than_the_judge_is_named(tmp_path: Path) -> None:
    made = rows("rag", 0.5, 1, 1) + rows("sft", 0.5, 1, 1)
    for one in made:
        one["scores"]["f1"] = 0.2 + 0.4 * (one["arm"] == "sft") + 0.01 * int(one["id"][-1])
    run = make_run(tmp_path / "run", made)
    decision = chosen(tmp_path / "out", run)
    assert (decision["chosen"], decision["notes"][0].startswith("Token F1 does show a difference: sft +40.0")) == (
        "rag",
        True,
    )
    assert chosen(tmp_path / "out", run, flags=["--metric", "f1"])["chosen"] == "sft"


def test_the_exit_status_says_whether_an_arm_is_within_the_limits(run: Path) -> None:
    assert choose.main([str(run)]) == 0
    assert choose.main([str(run), "--max-latency", "0.5"]) == 3


def test_a_worse_arm_is_not_taken_because_too_few_items_can_tell(tmp_path: Path) -> None:
    made = [row for row in rows("rag", 0.40, 1.0, 1.2) + rows("dpo", 0.26, 1.0, 1.0) if row["id"][-1] in "0123"]
    decision = chosen(tmp_path, make_run(tmp_path / "run", made))
    assert decision["comparisons"][0]["outcome"] == "too few items"
    assert decision["chosen"] == "rag"


def test_figures_of_an_arm(run: Path, tmp_path: Path) -> None:
    sft = option(chosen(tmp_path, run, flags=["--cpu-hour-usd", "0.36"]), "sft")
    assert sft["quality"]["mean"] == pytest.approx(0.7)
    assert sft["quality"]["low"] < 0.7 < sft["quality"]["high"]
    assert (sft["latency_p50_s"], sft["latency_p95_s"]) == (2.0, 2.0)
    assert sft["throughput"] == pytest.approx(4 / 2.0)  # four calls under way, two seconds each
    assert sft["cost_per_thousand_usd"] == pytest.approx(1000 * 2 * 0.36 / 3600)
    assert sft["weights_mb"] == pytest.approx(98.4, abs=0.1)
    assert sft["memory_mb"] == 900
    assert (sft["model"], sft["commercial"]) == (SMALL, YES)


def test_the_pareto_front(run: Path, tmp_path: Path) -> None:
    decision = chosen(tmp_path, run)
    assert {one["name"]: one["pareto"] for one in decision["options"]} == {
        "rag": True, "sft": True, "dpo": True, "slow": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "name", "sentence"),
    [
        (["--max-latency", "1.5"], "rag", "dpo, the best of all .* a p95 latency of 4.00 s is above 1.5 s (--max-lat"),
        (["--max-cost", "0.03"], "sft", "0.0417 for a thousand answers is above $0.03 (--max-cost)"),
        (["--max-latency", "0.5"], None, "No arm is within the limits: the best, dpo .* (--max-latency)"),
        (["--max-memory", "50"], None, "its weights alone take 98 MB, above 50 MB (--max-memory)"),
        (["--max-memory", "500"], None, "its memory is only known to be below 900 MB"),
        (["--max-memory", "1000", "--commercial"], "sft", "Take sft"),
    ],
)
def test_limits(run: Path, tmp_path: Path, flags: list[str], name: str | None, sentence: str) -> None:
    decision = chosen(tmp_path, run, flags=flags)
    assert decision["chosen"] == name
    for part in sentence.split(" .* "):
        assert part in decision["recommendation"]
    assert "dpo" in decision["recommendation"]  # the best, taken or not


def test_an_unknown_cost_is_not_within_a_limit(tmp_path: Path) -> None:
    hosted = make_run(
        tmp_path / "hosted",
        rows("rag", 0.9, 1.0, None) + rows("priced", 0.5, 1.0, None, cost_usd=0.002),
        models={"student": "openai/some-model"},
    )
    decision = chosen(tmp_path / "out", hosted, flags=["--max-cost", "5"])
    assert decision["chosen"] == "priced"
    assert option(decision, "priced")["cost_per_thousand_usd"] == pytest.approx(2)
    assert option(decision, "rag")["excluded"] == {"--max-cost": "its cost is unknown"}


def test_runs_of_several_students_side_by_side(run: Path, tmp_path: Path) -> None:
    other = make_run(
        tmp_path / "run-2",
        rows("rag", 0.95, 0.5, None, cost_usd=0.01)[: N - 2],
        models={"student": "openai/llama-3.1-8b", "embedder": "openai/own"},
        concurrency=8,
    )
    decision = chosen(tmp_path, run, other, flags=["--arms", "rag"])
    assert [one["name"] for one in decision["options"]] == ["run-1/rag", "run-2/rag"]
    assert (decision["items"], decision["left_out"]) == (N - 2, 2)
    assert decision["chosen"] == "run-2/rag"
    assert option(decision, "run-2/rag")["commercial"] == CONDITIONS
    assert any("latencies are not comparable" in note for note in decision["notes"])
    decision = chosen(tmp_path, run, other, flags=["--arms", "rag", "--commercial"])
    assert "commercially on conditions (student llama3.1: " in decision["recommendation"]


def test_what_nobody_knows_is_not_commercial_until_it_is_stated(tmp_path: Path) -> None:
    model = "openai/house-model"
    own = make_run(tmp_path / "own", rows("rag", 0.9, 1.0, None, cost_usd=0.1), models={"student": model})
    decision = chosen(tmp_path / "out", own, flags=["--commercial"])
    assert decision["chosen"] is None
    assert "the student's licence is not known; state it with --licence (--commercial)" in decision["recommendation"]
    assert chosen(tmp_path / "out", own, flags=["--commercial", "--licence", f"{model}=MIT"])["chosen"] == "rag"
    decision = chosen(tmp_path / "out", own, flags=["--commercial", "--licence", f"{model}=CC-BY-NC-4.0"])
    assert "the student's licence CC-BY-NC-4.0 does not allow commercial use" in decision["recommendation"]


def test_an_arm_depends_on_the_teacher_that_it_learned_from(tmp_path: Path) -> None:
    training = {"method": "sft", "rows": 9}
    arms = [
        {"name": "rag"},
        {"name": "gold", "training": {**training, "by_origin": {"gold": 9}}},
        {"name": "taught", "training": {**training, "by_origin": {"gold": 5, "synthetic": 4}}},
        {"name": "shown", "demos": 3},
    ]
    made = [one for arm in arms for one in rows(arm["name"], 0.5, 1.0, 1.0)]
    run = make_run(
        tmp_path / "run",
        [{**one, "passages": [{"text": "p"}]} if one["arm"] == "rag" else one for one in made],
        models={"teacher": "embedded/gone.gguf", "embedder": "openai/jina-embeddings-v3"},
        arms=arms,
        synthesis={"kept": 4, "filters": []},
    )
    decision = chosen(tmp_path / "out", run)
    assert {one["name"]: sorted(one["licences"]) for one in decision["options"]} == {
        "rag": ["embedder", "student"],
        "gold": ["student"],
        "taught": ["student", "teacher"],
        "shown": ["student", "teacher"],
    }
    assert {one["name"]: one["commercial"] for one in decision["options"]} == {
        "rag": NO, "gold": YES, "taught": UNKNOWN, "shown": UNKNOWN
    }  # fmt: skip


def test_tuned_weights_are_weighed(tmp_path: Path) -> None:
    arms = [{"name": "sft", "training": {"method": "sft"}}, {"name": "elsewhere", "training": {"method": "sft"}}]
    run = make_run(tmp_path / "run", rows("sft", 0.5, 1, 1) + rows("elsewhere", 0.5, 1, 1), arms=arms)
    (run / "programs" / "sft").mkdir(parents=True)
    (run / "programs" / "sft" / "about.json").write_text(json.dumps({"weights": "model.gguf"}))
    (run / "model.gguf").write_bytes(bytes(3_000_000))
    decision = chosen(tmp_path / "out", run)
    assert option(decision, "sft")["weights_mb"] == 3.0
    assert option(decision, "elsewhere")["weights_mb"] is None


def test_another_metric_and_failed_answers(tmp_path: Path) -> None:
    made = rows("rag", 0.5, 1, 1) + rows("sft", 0.5, 1, 1)
    for one in made:
        one["scores"]["tone"] = None if one["id"] == "item-000" else 1.0
    made[5] |= {"error": "ModelError: too long", "scores": {"judged": 0.0, "tone": None}}
    made[7]["answer_type"] = made[N + 7]["answer_type"] = "yes_no"
    decision = chosen(tmp_path / "out", make_run(tmp_path / "run", made), flags=["--metric", "tone"])
    assert option(decision, "rag")["quality"]["mean"] == pytest.approx((N - 3) / (N - 2))
    assert option(decision, "sft")["quality"]["mean"] == 1.0
    assert decision["items"] == N - 2  # one to which the metric does not apply, and the yes/no question


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["{run}", "--metric", "charm"], "no metric 'charm'; there are exact, f1, judged"),
        (["{run}", "--arms", "best"], "No arm 'best' has answers here; there are rag, sft, dpo, slow"),
        (["{run}", "--licence", "MIT"], "--licence MIT is incomplete"),
        (["{run}", "--max-latency", "0"], r"--max-latency is 0\.0: it should be greater than 0"),
        (["{missing}"], "is not a finished run"),
        (["{run}", "{foreign}"], "these are of contract_qa, table_docs"),
        (["{run}", "{apart}"], "all answered: choose among arms of the same held-out items"),
    ],
)
def test_a_mistake_is_one_sentence(run: Path, tmp_path: Path, args: list[str], sentence: str) -> None:
    places = {
        "run": run,
        "missing": tmp_path / "missing",
        "foreign": make_run(tmp_path / "foreign", rows("rag", 1, 1, 1), task="table_docs"),
        "apart": make_run(tmp_path / "apart", [row("rag", i + 100) for i in range(3)]),
    }
    with pytest.raises(SetupError, match=sentence):
        choose.main([arg.format(**places) for arg in args])


def test_a_choice_is_not_written_over_unless_told_so(run: Path, tmp_path: Path) -> None:
    choose.main([str(run), "--out", str(tmp_path)])
    first = (tmp_path / "choice.json").read_bytes()
    with pytest.raises(SetupError, match=r"choice\.json exists already: .* with --force"):
        choose.main([str(run), "--arms", "rag", "--out", str(tmp_path)])
    assert (tmp_path / "choice.json").read_bytes() == first
    assert chosen(tmp_path, run, flags=["--arms", "rag"])["chosen"] == "rag"


def test_names_come_through_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen(tmp_path / "out", make_run(tmp_path / "run", rows("[red]a|b<i>", 0.5, 1, 1)))
    assert r"\[red\]a\|b&lt;i&gt;" in (tmp_path / "out" / "choice.md").read_text()
    assert "[red]a|b<i>" in capsys.readouterr().out


def test_help_is_quick() -> None:
    code = (
        "import sys, contextlib\nfrom synth_dspy import choose\n"
        "with contextlib.suppress(SystemExit):\n    choose.main(['--help'])\n"
        "print(sorted({'dspy', 'scipy', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "--max-latency" in done.stdout
    assert done.stdout.endswith("[]\n")


# Licences


@pytest.mark.parametrize(
    ("model", "name", "commercial"),
    [
        (SMALL, "Apache-2.0", YES),
        ("openai/gpt-4.1-mini", "OpenAI terms", CONDITIONS),
        ("openai/gpt-oss-20b", "Apache-2.0", YES),
        ("openai/my-own-gpt", UNKNOWN, UNKNOWN),
        ("bedrock/us.anthropic.claude-sonnet-4", "Anthropic terms", CONDITIONS),
        ("bedrock/meta.llama3-70b-instruct-v1:0", "llama3", CONDITIONS),
        ("ollama_chat/llama3.2:3b", "llama3.2", CONDITIONS),
        ("openai/meta-llama/Llama-3.3-70B-Instruct", "llama3.3", CONDITIONS),
        ("openai/deepseek-r1-distill-llama-8b", "llama3.1", CONDITIONS),
        ("ollama_chat/qwen2.5-coder:3b", "qwen-research", NO),
        ("openai/Qwen/Qwen2.5-7B-Instruct", "Apache-2.0", YES),
        ("ollama_chat/gemma3:4b", "gemma", CONDITIONS),
        ("embedded/nowhere/thing.gguf", UNKNOWN, UNKNOWN),
    ],
)
def test_licences_by_name(model: str, name: str, commercial: str) -> None:
    licence = licence_of(model)
    assert (licence.name, licence.commercial) == (name, commercial)


def test_a_models_own_files_say_its_licence(tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "anything.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("cc-by-nc-4.0")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert licence_of(f"embedded/{path}").commercial == NO
    folder = tmp_path / "llama-2-house"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\n# A model\nlicense: gemma\n")
    assert licence_of(f"embedded/{folder}").name == "MIT"
    (folder / "README.md").write_text("No front matter.\nlicense: mit\n")
    assert licence_of(f"embedded/{folder}").name == "llama2"  # by its name, then


def test_the_strictest_licence_counts() -> None:
    mit, llama, unheard, research = (named(name) for name in ("mit", "llama3", "house rules", "MNPL"))
    assert strictest([mit, llama]) == CONDITIONS
    assert strictest([llama, unheard]) == UNKNOWN
    assert strictest([unheard, research]) == NO
    assert unheard.name == "house rules"
    assert strictest([]) == UNKNOWN
