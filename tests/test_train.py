"""The training child: every method, resuming, what it leaves behind, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.config import FROM_ANSWERS
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.training.failures import TrainingError
from synth_dspy.training.runner import train
from synth_dspy.training.spec import ONLINE, read_spec
from tests.tiny import tiny_model

# PEFT asks transformers for properties under their old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_activation_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]

WORDS = "the supplier shall deliver goods within thirty days payment is due after invoice notice buyer seller"
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "base.json"}
BOTH = ["chosen", "rejected"]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    """Writes the folder of a training; gives its spec."""

    def make(method: str = "sft", name: str = "training", *, rows: int = 8, **settings: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.jsonl").write_text(lines(method, rows, seed=0))
        for extra, count in (("dev", 4), ("prompts", 4)):
            if settings.pop(extra, False):
                (folder / f"{extra}.jsonl").write_text(lines(method, count, seed=1))
                settings[extra] = f"{extra}.jsonl"
        spec = {"method": method, "model": str(base), "rows": "rows.jsonl", "gguf": "none", "threads": 1, "seed": 0}
        spec["precision"] = "fp32"  # figures are compared: the same on every CPU
        spec |= {"lora": {"rank": 4}, "save_steps": 1, "warmup_steps": 0, "completion_tokens": 8, **settings}
        (folder / "spec.json").write_text(json.dumps(spec))
        return folder / "spec.json"

    return make


def lines(method: str, count: int, *, seed: int) -> str:
    rng = random.Random(seed)

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS.split(), k=rng.randint(least, most)))

    def reply() -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text(1, 6)}]

    sides = {"sft": ["completion"], "kto": ["completion"], "dpo": BOTH, "orpo": BOTH}.get(method, [])
    rows = [
        {
            "id": str(number),
            "source": str(number),
            "prompt": [{"role": "user", "content": text(5, 30)}],
            **{side: reply() for side in sides},
            **({"label": number % 2 == 0} if method == "kto" else {}),
        }
        for number in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def run(spec: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return train(spec, events.append), events


def weights(spec: Path) -> bytes:
    return (spec.parent / "adapter" / "adapter_model.safetensors").read_bytes()


def start(spec: Path, *flags: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "synth_dspy.train", str(spec), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"stdin": subprocess.DEVNULL, **options},
    )


# --- what a training does ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FROM_ANSWERS)
def test_every_method_trains_and_leaves_an_adapter(make: Make, tmp_path: Path, method: str) -> None:
    extra: dict[str, Any] = {}
    if method in ONLINE:  # three prompts in steps of two: the first one is taken again
        (tmp_path / f"rewards_of_{method}.py").write_text(
            "def length(row, text):\n    return len(text) / len(row['id'] * 99)\n"
        )
        extra = {
            "reward": f"rewards_of_{method}:length",
            "workspace": str(tmp_path),
            "batch": 2,
            "generations": 2,
            "rows": 3,
        }
    spec = make(method, **extra)
    result, events = run(spec)
    assert [event["event"] for event in events] == ["started", "progress", "progress"]
    assert (events[-1]["step"], events[-1]["steps"], events[-1]["remaining_s"]) == (2, 2, 0.0)
    assert events[0]["rows"] == result["rows"] == (3 if method in ONLINE else 8)
    assert result["tokens"] > 0
    assert result["stopped"] == "finished"
    assert result["loss"]["curve"][-1] == [2, result["loss"]["last"]]
    assert result == json.loads((spec.parent / "result.json").read_text())
    assert {path.name for path in (spec.parent / "adapter").iterdir()} == ADAPTER_FILES
    # Nothing else stays, no checkpoint and nothing that would have to be unpickled.
    left = {path.name for path in spec.parent.iterdir()} - {"rows.jsonl", "spec.json", ".lock"}
    assert left == {"adapter", "result.json", "replies.json"}  # replies: for whoever serves the adapter


@pytest.mark.slow
def test_samples_that_are_rewarded_become_likelier(make: Make, tmp_path: Path) -> None:
    reward = "SCORES = []\ndef vowels(row, text):\n    SCORES.append(text.count('e') / max(1, len(text)))\n"
    (tmp_path / "rewards.py").write_text(reward + "    return SCORES[-1]\n")
    extra = {"reward": "rewards:vowels", "workspace": str(tmp_path), "learning_rate": 2e-2, "batch": 4}
    run(make("online_dpo", rows=16, epochs=14, **extra))
    scores = sys.modules["rewards"].SCORES
    first, last = scores[: len(scores) // 4], scores[-len(scores) // 4 :]
    assert sum(last) / len(last) > 1.5 * sum(first) / len(first), (sum(first), sum(last))


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_training_of_one_step_trains(make: Make, method: str) -> None:
    spec = make(method, rows=2, warmup_steps=3)
    result, _ = run(spec)
    assert result["steps"] == 1
    from safetensors.torch import load_file

    tuned = load_file(spec.parent / "adapter" / "adapter_model.safetensors")
    assert any(bool(values.any()) for name, values in tuned.items() if "lora_B" in name)  # they begin at zero


def test_a_training_takes_as_many_rows_as_its_time_is_enough_for(make: Make) -> None:
    whole, _ = run(make(name="whole"))
    assert (whole["rows"], whole["available"]) == (8, 8)
    spec = make(name="some", minutes=1e-9, batch=2)
    some, events = run(spec)
    assert (some["rows"], some["available"], some["steps"]) == (2, 8, 1)  # one step at least
    assert events[0]["rows"] == 2
    assert some["all_rows_s"] >= 0
    assert not (spec.parent / "checkpoints").exists()


def test_a_resumed_training_keeps_to_the_rows_it_began_with(make: Make) -> None:
    """On another machine, or a busier one, the same time would be enough for other rows."""
    spec = make(minutes=1000.0, batch=2)
    checkpoints = spec.parent / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "fingerprint").write_text(read_spec(spec).fingerprint())
    (checkpoints / "plan.json").write_text(json.dumps({"rows": 4, "available": 8, "all_rows_s": 99.0}))
    result, _ = run(spec)
    assert (result["rows"], result["available"], result["all_rows_s"]) == (4, 8, 99.0)


def test_events_count_the_tokens_that_are_estimated(make: Make) -> None:
    result, events = run(make(epochs=2))
    assert events[0]["tokens"] == result["tokens"]
    assert events[0]["steps"] == result["steps"] == 4


def test_both_labels_of_kto_weigh_the_same() -> None:
    from synth_dspy.training.trainers.kto import label_weights

    assert label_weights([True, False]) == [1.0, 1.0]
    weights = label_weights([True] * 6 + [False] * 2)
    assert sum(weights[:6]) == pytest.approx(sum(weights[6:]))
    assert label_weights([True] * 99 + [False])[-1] == 4.0


@pytest.mark.parametrize(("method", "loss"), [("dpo", 0.693147), ("kto", 0.5)])
def test_training_begins_at_the_reference(make: Make, method: str, loss: float) -> None:
    result, _ = run(make(method))
    assert result["loss"]["first"] == pytest.approx(loss, abs=1e-4)


def test_dpo_is_trl_s_own_on_padded_pairs(make: Make, base: Path, tmp_path: Path) -> None:
    """Sharing the prompt, and the log-probabilities of the reference beforehand, change nothing."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    from synth_dspy.training.base import load_base
    from synth_dspy.training.data import read_rows, tokenize

    spec_path = make("dpo", epochs=2, learning_rate=1e-2)
    ours, _ = run(spec_path)
    spec = read_spec(spec_path)

    class Plain(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *rest: Any) -> Any:
            return dataset

    model, tokenizer = load_base(base)
    groups = tokenize(read_rows(spec.rows, "dpo"), "dpo", tokenizer, max_tokens=999).groups
    sides = [(group.prompt, *group.completions) for group in groups]
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    arguments = DPOConfig(
        output_dir=str(tmp_path / "trl"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        num_train_epochs=2,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
        data_seed=0,
    )
    lora = LoraConfig(r=4, lora_alpha=32, target_modules=list(spec.lora.targets), task_type="CAUSAL_LM")
    rows = Dataset.from_list([dict(zip(names, side, strict=True)) for side in sides])
    trainer = Plain(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [loss for _, loss in ours["loss"]["curve"]] == pytest.approx(theirs, rel=1e-3)
    assert theirs[-1] < 0.6


def test_orpo_learns_the_completion_alone(make: Make, base: Path) -> None:
    """The first loss, from the paper's formulas; TRL's would be that of prompt and completion."""
    import torch

    from synth_dspy.training.base import load_base
    from synth_dspy.training.data import read_rows, tokenize
    from synth_dspy.training.sequences import completion_logps, pack

    spec = make("orpo", rows=1, beta=0.3)
    result, _ = run(spec)
    model, tokenizer = load_base(base)
    group = tokenize(read_rows(spec.parent / "rows.jsonl", "orpo"), "orpo", tokenizer, max_tokens=999).groups[0]
    chosen, rejected = completion_logps(model, pack([group])) / torch.tensor([len(c) for c in group.completions])
    odds = [p.exp() / (1 - p.exp()) for p in (chosen, rejected)]
    expected = -chosen - 0.3 * torch.nn.functional.logsigmoid((odds[0] / odds[1]).log())
    assert result["loss"]["first"] == pytest.approx(expected.item(), rel=1e-4)


def test_the_same_spec_and_seed_give_the_same_adapter(make: Make) -> None:
    specs = [make(name="a"), make(name="b"), make(name="c", seed=1)]
    for spec in specs:
        run(spec)
    assert weights(specs[0]) == weights(specs[1]) != weights(specs[2])


def test_packing_joins_rows_of_a_step_and_learns_the_same(make: Make) -> None:
    apart, _ = run(make(name="apart", batch=8))
    joined, _ = run(make(name="joined", batch=8, packing=True))
    assert joined["loss"]["first"] == pytest.approx(apart["loss"]["first"], rel=1e-4)
    assert joined["steps"] == apart["steps"] == 1


def test_a_token_weighs_the_same_in_a_small_step_as_in_a_large_one(make: Make, base: Path, tmp_path: Path) -> None:
    """Else a reply that is short, and all alone in its step, is learned as if many rows said it."""
    from synth_dspy.training.base import load_base
    from synth_dspy.training.data import read_rows, tokenize
    from synth_dspy.training.trainers import build

    def losses(batch: int, *steps: list[int]) -> tuple[float, float]:
        """Of the trainset, the steps' together; of the same rows as a dev set, their mean."""
        spec = read_spec(make(rows=4, batch=batch, name=str(batch)))
        model, tokenizer = load_base(base)
        rows = tokenize(read_rows(spec.rows, "sft"), "sft", tokenizer, max_tokens=999)
        assert len({len(group.completions[0]) for group in rows.groups}) > 1
        trainer = build(spec, model, tokenizer, rows, rows, folder=tmp_path, bf16=False)
        made = [trainer.data_collator([{"groups": [row]}]) for row in range(4)]

        def loss(row: int, items: float | None = None) -> float:
            return float(trainer.compute_loss(trainer.model, made[row], num_items_in_batch=items).item())

        items = [trainer._get_num_items_in_batch([made[row] for row in step], None) for step in steps]
        learned = sum(loss(row, each) for step, each in zip(steps, items, strict=True) for row in step)
        return learned * batch / 4, sum(map(loss, range(4))) / 4

    by_ones, dev = losses(1, [0], [1], [2], [3])
    assert by_ones == pytest.approx(dev, rel=1e-4)
    assert losses(2, [0, 1], [2, 3])[0] == pytest.approx(dev, rel=1e-4)
    assert losses(3, [0, 1, 2], [3])[0] == pytest.approx(dev, rel=1e-4)  # the last step is a short one


def test_only_the_last_layers_are_tuned_if_asked(make: Make) -> None:
    from safetensors import safe_open

    spec = make(lora={"rank": 4, "layers": 1})
    run(spec)
    with safe_open(spec.parent / "adapter" / "adapter_model.safetensors", framework="numpy") as file:
        layers = {name.split(".layers.")[1].split(".")[0] for name in file.keys()}  # noqa: SIM118
    assert layers == {"1"}


def test_bf16_and_gradient_checkpointing_come_close_to_fp32(make: Make) -> None:
    plain, _ = run(make(name="plain"))
    saver, _ = run(make(name="saver", precision="bf16", gradient_checkpointing=True))
    assert saver["precision"] == "bf16"
    assert saver["loss"]["last"] == pytest.approx(plain["loss"]["last"], rel=0.02)


def test_preferences_are_tuned_on_top_of_an_earlier_adapter(make: Make) -> None:
    sft = make(name="sft", learning_rate=1e-2)
    run(sft)
    bare, _ = run(make("dpo", "bare", learning_rate=1e-2))
    spec = make("dpo", "chained", learning_rate=1e-2, adapters=[str(sft.parent / "adapter")])
    chained, _ = run(spec)
    # The reference is the SFT model: the loss begins at log 2 again, and then goes elsewhere.
    assert chained["loss"]["first"] == pytest.approx(bare["loss"]["first"], abs=1e-4)
    assert chained["loss"]["last"] != bare["loss"]["last"]


def test_training_stops_early_and_keeps_the_best_weights(make: Make, base: Path) -> None:
    from peft import PeftModel

    from synth_dspy.training.base import load_base
    from synth_dspy.training.data import read_rows, tokenize
    from synth_dspy.training.sequences import pack, token_logps

    spec = make(learning_rate=0.3, epochs=10, eval_steps=1, dev=True, patience=2)  # at this rate it soon gets worse
    result, events = run(spec)
    assert result["stopped"] == "early"
    assert result["steps"] < events[0]["steps"]
    assert result["best_step"] == result["steps"] - 2
    model, tokenizer = load_base(base)
    model = PeftModel.from_pretrained(model, spec.parent / "adapter").eval()
    dev = tokenize(read_rows(spec.parent / "dev.jsonl", "sft"), "sft", tokenizer, max_tokens=999).groups
    logps = token_logps(model, pack(dev))
    assert -logps.mean().item() == pytest.approx(result["dev_loss"], rel=1e-4)  # every token weighs the same


# --- the merged model ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_served_model_answers_as_the_trained_one(make: Make) -> None:
    spec = make(gguf="F16", prompts=True, learning_rate=1e-2)
    result, _ = run(spec)
    parity = result["parity"]
    assert (parity["n"], parity["held_out"]) == (8, 4)  # too few held-out ones: prompts of the rows after them
    assert parity["share"] >= 0.95
    assert parity["difference"] < parity["bound"]
    assert {"model.gguf", "Modelfile", "adapter", "result.json"} <= {path.name for path in spec.parent.iterdir()}


@pytest.mark.slow
def test_a_training_below_its_parity_fails_now_and_when_asked_for_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synth_dspy.training import parity

    low = parity.Parity(n=4, tokens=8, agreed=2, difference=2.0, bound=0.1, precision="f32", disagreements=())
    monkeypatch.setattr(parity, "check_parity", lambda *args, **options: low)
    spec = make(gguf="F16", prompts=True)
    for _ in range(2):
        with pytest.raises(ArmError, match=r"in 2 of 8 tokens of its replies \(25%\), but 95% are"):
            run(spec)
    assert json.loads((spec.parent / "result.json").read_text())["parity"]["share"] == 0.25


# --- stopped and started again -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_killed_training_goes_on_to_the_same_adapter(make: Make, method: str) -> None:
    unbroken, broken = (make(method, name, epochs=3, save_steps=2) for name in ("unbroken", "broken"))
    run(unbroken)
    with start(broken, "--events") as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if json.loads(line).get("step") == 3:
                break
        killed.send_signal(signal.SIGKILL)
    assert not (broken.parent / "result.json").exists()
    with start(broken, "--events") as resumed:
        events = [json.loads(line) for line in resumed.communicate()[0].splitlines()]
    assert [event["step"] for event in events if event["event"] == "progress"] == [3, 4, 5, 6]
    assert weights(broken) == weights(unbroken)
    first, second = (json.loads((spec.parent / "result.json").read_text()) for spec in (unbroken, broken))
    assert (first["loss"], first["tokens"], first["steps"]) == (second["loss"], second["tokens"], second["steps"])


def test_a_training_killed_after_its_last_step_only_finishes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth_dspy.training import runner

    spec, whole = make(name="broken", epochs=2), make(name="whole", epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(runner._Training, "_save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(spec)
    result, events = run(spec)
    expected, _ = run(whole)
    assert [event["event"] for event in events] == ["started"]
    assert weights(spec) == weights(whole)
    assert (result["loss"], result["tokens"]) == (expected["loss"], expected["tokens"])


def test_a_finished_training_is_not_done_again(make: Make) -> None:
    spec = make()
    result, _ = run(spec)
    before = weights(spec)
    assert run(spec) == (result, [])
    assert weights(spec) == before
    spec.write_text(spec.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(SetupError, match="holds the result of other settings or rows"):
        run(spec)


def test_checkpoints_of_other_settings_are_not_gone_on_from(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth_dspy.training import runner

    spec, whole = make(name="changed"), make(name="whole", seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(runner._Training, "_save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(spec)
    spec.write_text(spec.read_text().replace('"seed": 0', '"seed": 1'))
    run(spec)
    run(whole)
    assert weights(spec) == weights(whole)


@pytest.mark.slow
def test_a_training_ends_when_its_parent_does(make: Make) -> None:
    with start(make(epochs=2000), "--events", "--stay", stdin=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert [json.loads(child.stdout.readline())["event"] for _ in range(2)] == ["began", "started"]
        child.stdin.close()
        assert child.wait(20) == 1


WAITING = """
import sys
from pathlib import Path
from synth_dspy.cli import train

train.STAY_S = float(sys.argv[1])
config = train.TrainConfig(Path("spec.json"), events=True, stay=True)
print([spec.name for spec in train._specs(config, None)])
"""


@pytest.mark.parametrize(
    ("seconds", "message", "status", "trained"),
    [("0.1", None, 0, "['spec.json']\n"), ("30", "no JSON\n", 1, ""), ("30", "", 1, "")],
)
def test_a_process_that_waits_leaves_if_nothing_comes_or_nothing_that_makes_sense(
    seconds: str, message: str | None, status: int, trained: str
) -> None:
    command = [sys.executable, "-c", WAITING, seconds]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if message == "":
            child.stdin.close()
        elif message is not None:
            child.stdin.write(message)
            child.stdin.flush()
        assert (child.stdout.read(), child.wait(20)) == (trained, status)


def test_two_processes_do_not_train_in_one_folder(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth_dspy.core.io.locks import lock_file
    from synth_dspy.training import runner

    spec = make()
    lock = lock_file(spec.parent / ".lock")
    assert lock is not None
    monkeypatch.setattr(runner, "WAIT_S", 0.1)
    with pytest.raises(SetupError, match="Another process trains in"):
        run(spec)
    os.close(lock)


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_training(make: Make) -> None:
    message = r"is nan: lower training\.options\.sft\.learning_rate \(now 1e\+30\)"
    with pytest.raises(TrainingError, match=message) as caught:
        run(make(learning_rate=1e30, epochs=4))
    assert caught.value.kind == "loss"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_memory_that_runs_out_is_told_as_such(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from synth_dspy.training.trainers import sft

    def fail(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(sft, "token_logps", fail)
    message = r"Memory ran out .* lower training\.options\.sft\.max_tokens \(now 2048\)"
    with pytest.raises(TrainingError, match=message) as caught:
        run(make())
    assert caught.value.kind == "memory"


@pytest.mark.slow
def test_a_disk_that_fills_leaves_nothing_that_looks_complete(make: Make) -> None:
    import resource

    spec = make(lora={"rank": 64}, epochs=2)
    limit = 300 * 1024  # the adapter and its optimizer state need more

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with start(spec, "--events", preexec_fn=small) as child:
        last = json.loads(child.communicate()[0].splitlines()[-1])
    assert child.returncode == 2
    assert last["event"] == "failed"
    assert last["message"].startswith(f"There was no room to write {spec.parent}: free some space")
    names = {path.name for path in spec.parent.rglob("*")}
    assert not names & {"adapter", "result.json", "model.gguf"}
    assert not any(
        name.startswith("checkpoint-") for name in {path.name for path in (spec.parent / "checkpoints").iterdir()}
    )
    result, _ = run(spec)  # with room, it goes on
    assert result["stopped"] == "finished"


def test_an_adapter_for_another_base_is_refused(make: Make, base: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", hidden=32)
    sft = make(name="sft", model=str(other))
    run(sft)
    with pytest.raises(ArmError, match="for another base"):
        run(make("dpo", adapters=[str(sft.parent / "adapter")]))


def test_four_bits_need_a_gpu(make: Make) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(SetupError, match="needs a CUDA GPU"):
        run(make(quantize=True))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"reward": "no_such_module:f"}, "has no module no_such_module"),
        ({"reward": "json_rewards:g"}, "has no function 'g'"),
        ({}, "grpo needs training.options.grpo.reward"),
    ],
)
def test_a_reward_that_is_not_there_is_found_before_any_work(
    make: Make, tmp_path: Path, settings: dict[str, str], match: str
) -> None:
    (tmp_path / "json_rewards.py").write_text("def f(row, text):\n    return 1.0\n")
    with pytest.raises(SetupError, match=match):
        run(make("grpo", workspace=str(tmp_path), **settings))


def test_a_reward_may_be_a_package_or_the_engine_s_own(make: Make, tmp_path: Path) -> None:
    (tmp_path / "packed_rewards").mkdir()
    module = tmp_path / "packed_rewards" / "__init__.py"
    module.write_text("def f(row, text):\n    return 1.0\n")
    spec = read_spec(make("grpo", workspace=str(tmp_path), reward="packed_rewards:f"))
    before = spec.fingerprint()
    module.write_text("def f(row, text):\n    return 0.5\n")
    assert spec.fingerprint() != before
    own = {"reward": "synth_dspy.evaluation.metrics:reward_f1", "workspace": str(tmp_path)}
    assert read_spec(make("grpo", "own", **own)).fingerprint()


# --- the verb ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_estimates_and_leaves_nothing(make: Make) -> None:
    spec = make()
    with start(spec.parent, "--dry-run") as child:  # the folder stands for the spec in it
        out, err = child.communicate()
    assert child.returncode == 0, err
    assert out.startswith("8 rows (0 left out), ")
    assert "2 steps: about 0 s of training and 0." in out
    assert {path.name for path in spec.parent.iterdir()} <= {"rows.jsonl", "spec.json", ".lock", "train.log"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "ppo"}, "names the method 'ppo'; the methods are sft"),
        ({"rows": "none.jsonl"}, "none.jsonl cannot be read"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence(make: Make, settings: dict[str, Any], message: str) -> None:
    spec = make()
    spec.write_text(json.dumps(json.loads(spec.read_text()) | settings))
    with start(spec, "--events") as child:
        event = json.loads(child.communicate()[0].splitlines()[-1])
    assert (child.returncode, event["event"], event["kind"]) == (2, "failed", "setup")
    assert message in event["message"]
    with start(spec) as child:
        out, err = child.communicate()
    assert (child.returncode, out) == (2, "")
    (_, sentence) = err.strip().splitlines()  # after the line that says what begins
    assert sentence.startswith("error: ")


@pytest.mark.slow
def test_events_are_all_there_is_on_standard_output(make: Make) -> None:
    spec = make(rows=4)
    with start(spec, "--events") as child:
        out, err = child.communicate()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["began", "started", "progress", "done"]
    assert err == ""
    assert "loss" in (spec.parent / "train.log").read_text()
