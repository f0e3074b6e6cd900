"""Continued pre-training: what a block is, that it is learned, and which documents are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from scripted import scripted_lm, scripted_resources

from synth_dspy.cli import compile as cli
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.models.chat import open_tokenizer
from synth_dspy.training.data import tokenize
from synth_dspy.training.recipes.cpt import Cpt, check_replay
from synth_dspy.training.runner import train
from synth_dspy.training.spec import check_training_options
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "The supplier shall deliver the goods within thirty days. " * 6,
    "This agreement is governed by the laws of England.",
    "Payment is due 60 days after the invoice. " * 9,
]
# PEFT asks transformers for properties under their old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_activation_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_blocks_hold_all_texts_in_order_and_predict_all_tokens_but_the_first(base: Path) -> None:
    tokenizer = open_tokenizer(base)
    blocks = tokenize([{"text": text} for text in TEXTS], "cpt", tokenizer, max_tokens=32)
    whole = [[*group.prompt, *group.completions[0]] for group in blocks.groups]
    assert all(len(group.prompt) == 1 for group in blocks.groups)
    assert {len(block) for block in whole[:-1]} == {32}
    assert len(blocks.rows) == len(whole)
    ids = [token for block in whole for token in block]
    assert [text for text in tokenizer.decode(ids).split(tokenizer.eos_token) if text] == TEXTS


def test_texts_are_learned(base: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": text[:9], "text": text}) + "\n" for text in TEXTS))
    spec = {"method": "cpt", "model": str(base), "rows": "rows.jsonl", "gguf": "none", "precision": "fp32"}
    spec |= {"max_tokens": 64, "epochs": 8, "batch": 2, "learning_rate": 1e-2, "threads": 1, "completion_tokens": 8}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    result = train(tmp_path / "spec.json", lambda event: None)
    assert result["loss"]["last"] < 0.8 * result["loss"]["first"]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_a_task_without_documents_and_a_replay_that_cannot_be_read_are_one_sentence(base: Path, tmp_path: Path) -> None:
    program = dspy.Predict("question -> answer")
    program.set_lm(dspy.LM(f"embedded/{base}"))
    rows = [dspy.Example(id="1", question="When?", document="lease", answer="now").with_inputs("question")]
    resources = scripted_resources(scripted_lm(lambda text: "now"))
    with pytest.raises(ArmError, match="reads the documents of the training questions, and this task's have none"):
        Cpt(resources, lambda *_: 1.0).compile(program, trainset=rows, valset=[])

    class Lease:
        def text(self, document: str) -> str:
            return TEXTS[0]

    options: dict[str, Any] = {"cpt": {"replay": str(tmp_path / "gone.txt")}}
    resources = scripted_resources(scripted_lm(lambda text: "now"), retriever=Lease(), training=options)
    with pytest.raises(SetupError, match=r"training\.options\.cpt\.replay is .*gone\.txt', which cannot be read"):
        Cpt(resources, lambda *_: 1.0).compile(program, trainset=rows, valset=[])
    with pytest.raises(SetupError, match=r"gone\.txt', which cannot be read"):
        check_replay(options["cpt"])  # before any work
    with pytest.raises(SetupError, match=r"replay_share is 1: it must be less than 1"):
        check_replay({"replay_share": 1.0})
    with pytest.raises(SetupError, match=r"grpo\.patience cannot be set"):
        check_training_options("grpo", {"patience": 2})


@pytest.mark.slow
def test_compile_reads_the_documents_of_training_questions_and_then_learns_answers_in_all_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"embedded/{tiny_model(tmp_path / 'tiny')}"
    (tmp_path / "general.txt").write_text("The sun rises in the east, and rivers run to the sea. " * 4000)
    config = tmp_path / "run.toml"
    config.write_text(
        f"[training.options.cpt]\nparity = 0.0\nmax_tokens = 256\nreplay = '{tmp_path / 'general.txt'}'\n"
        "[training.options.sft]\nparity = 0.0\n"
    )
    options = ["--models.student", model, "--models.teacher", model, "--synthesis.candidates", "0", "--words", "30"]
    options += ["--quick", "--evaluation.held-out", "4", "--evaluation.validation", "4", "--config", str(config)]
    options += ["--training.options.sft.lora", "none", "--evaluation.arms", "cpt", "cpt_sft"]
    monkeypatch.chdir(ROOT)
    cli.main(["contract_qa", *options, "--runs", str(tmp_path / "runs")])
    (results,) = (tmp_path / "runs").glob("*/*/results.json")
    arms = {arm["name"]: arm for arm in json.loads(results.read_text())["arms"]}
    assert [arms[name]["failed"] for name in ("rag", "cpt", "cpt_sft")] == [None, None, None]

    (cpt,) = results.parent.glob("adapters/cpt-*")
    rows = lines(cpt / "rows.jsonl")
    read = {row["source"] for row in rows if row["origin"] == "document"}
    train_documents = {row["document"] for row in lines(results.parent / "datasets" / "train.jsonl")}
    others = {row["group"] for name in ("dev", "test") for row in lines(results.parent / "datasets" / f"{name}.jsonl")}
    assert read == train_documents
    assert read.isdisjoint(others)
    sizes = {kind: sum(len(row["text"]) for row in rows if row["origin"] == kind) for kind in ("document", "replay")}
    assert sizes["replay"] / sum(sizes.values()) == pytest.approx(0.2, abs=0.01)

    (sft,) = results.parent.glob("adapters/sft-*")
    assert (sft / "weights" / "model.safetensors").is_file()
    assert [Path(each).parent.name for each in json.loads((sft / "spec.json").read_text())["adapters"]] == [cpt.name]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
