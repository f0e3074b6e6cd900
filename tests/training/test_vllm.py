"""Adapters served by vLLM: how it is started, shared, stopped and compared. The command is a stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.training import vllm
from synth_dspy.training.vllm import VllmServers
from tests.tiny import tiny_adapter, tiny_model
from tests.training import fake_vllm


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "starts.jsonl"
    monkeypatch.setenv(fake_vllm.LOG, str(path))
    monkeypatch.setenv("PATH", f"{fake_vllm.install(tmp_path / 'bin')}:{os.environ['PATH']}")
    return path


@pytest.fixture
def servers() -> Iterator[VllmServers]:
    made = VllmServers(deadline_s=20)
    yield made
    made.stop()


def adapter(folder: Path, rank: int = 8) -> Path:
    """What a training leaves, as far as a server looks at it."""
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (folder / "replies.json").write_text("[]")
    return folder / "adapter"


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone(process: int) -> bool:
    for _ in range(200):
        if not alive(process):
            return True
        time.sleep(0.05)
    return False


def test_a_base_has_one_server_which_later_adapters_share(servers: VllmServers, tmp_path: Path, log: Path) -> None:
    base, first, second = tmp_path / "base", adapter(tmp_path / "a"), adapter(tmp_path / "b")
    url = servers.serve(base, "sft-a", first, log=tmp_path / "vllm.log")
    assert servers.serve(base, "dpo-b", second, log=tmp_path / "other.log") == url
    assert servers.serve(base, "sft-a", first, log=tmp_path / "other.log") == url
    start, loaded = fake_vllm.starts(log)
    command = start["arguments"]
    assert command[:2] == ["serve", str(base)]
    assert "--enable-lora" in command
    assert command[command.index("--lora-modules") + 1 :] == [f"sft-a={first}"]
    assert url == f"http://127.0.0.1:{command[command.index('--port') + 1]}/v1"
    assert loaded == {"loaded": {"lora_name": "dpo-b", "lora_path": str(second)}}
    assert servers.where("dpo-b") == (url, second)
    assert servers.where("nobody") is None


def test_a_stopped_server_comes_back_with_all_it_served(servers: VllmServers, tmp_path: Path, log: Path) -> None:
    base = tmp_path / "base"
    url = servers.serve(base, "a", adapter(tmp_path / "a"), log=tmp_path / "vllm.log")
    servers.serve(base, "b", adapter(tmp_path / "b"), log=tmp_path / "vllm.log")
    servers.stop()
    assert gone(fake_vllm.starts(log)[0]["process"])
    servers.resume()
    servers.resume()
    again = fake_vllm.starts(log)[2:]
    assert len(again) == 1
    assert [each.split("=")[0] for each in again[0]["arguments"][-2:]] == ["a", "b"]
    assert httpx.get(url.replace("/v1", "/health")).status_code == 200


def test_a_larger_rank_starts_the_server_anew_at_its_address(servers: VllmServers, tmp_path: Path, log: Path) -> None:
    base = tmp_path / "base"
    url = servers.serve(base, "a", adapter(tmp_path / "a"), log=tmp_path / "vllm.log")
    assert servers.serve(base, "b", adapter(tmp_path / "b", rank=100), log=tmp_path / "vllm.log") == url
    ranks = [each["arguments"][each["arguments"].index("--max-lora-rank") + 1] for each in fake_vllm.starts(log)]
    assert ranks == ["64", "128"]
    with pytest.raises(SetupError, match="rank 512 at most"):
        servers.serve(base, "c", adapter(tmp_path / "c", rank=600), log=tmp_path / "vllm.log")
    assert servers.where("c") is None
    assert alive(fake_vllm.starts(log)[1]["process"])


def test_one_that_died_is_started_again(servers: VllmServers, tmp_path: Path, log: Path) -> None:
    servers.serve(tmp_path / "base", "a", adapter(tmp_path / "a"), log=tmp_path / "vllm.log")
    (first,) = fake_vllm.starts(log)
    os.kill(first["process"], signal.SIGKILL)
    assert gone(first["process"])
    until = time.monotonic() + 30
    while len(fake_vllm.starts(log)) < 2 and time.monotonic() < until:  # until its parent has seen it
        servers.resume()
        time.sleep(0.05)
    assert alive(fake_vllm.starts(log)[1]["process"])


def test_one_that_ends_at_once_says_why(servers: VllmServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fake_vllm.MODE, "exit")
    with pytest.raises(SetupError, match=r"ended with status 1 before it served base: ValueError: no GPU.*gguf") as e:
        servers.serve(tmp_path / "base", "a", adapter(tmp_path / "a"), log=tmp_path / "vllm.log")
    assert "\n" not in str(e.value)
    assert servers.where("a") is None
    servers.resume()  # nothing is left to come back


def test_one_that_is_never_healthy_is_stopped(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fake_vllm.MODE, "mute")
    waited: list[tuple[int, int]] = []
    with pytest.raises(SetupError, match=r"did not serve base within 2 s: its log is empty"):
        VllmServers(deadline_s=2).serve(
            tmp_path / "base",
            "a",
            adapter(tmp_path / "a"),
            log=tmp_path / "vllm.log",
            waiting=lambda *seconds: waited.append(seconds),
        )
    assert waited[-1][1] == 2
    assert gone(fake_vllm.starts(log)[0]["process"])


def test_a_start_that_is_cancelled_leaves_nothing(
    servers: VllmServers, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_vllm.MODE, "mute")
    cancelled = threading.Event()
    threading.Timer(1.5, cancelled.set).start()
    with pytest.raises(InterruptedError):
        servers.serve(
            tmp_path / "base", "a", adapter(tmp_path / "a"), log=tmp_path / "vllm.log", cancelled=cancelled.is_set
        )
    assert gone(fake_vllm.starts(log)[0]["process"])


def test_without_vllm_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth_dspy.training.provider import prepare

    monkeypatch.setenv("PATH", str(tmp_path))
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(SetupError, match=r"no command vllm on the PATH.*gguf to Q8_0"):
        prepare(tmp_path / "home", "embedded/x", [row], {"gguf": "none"})


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_it_goes_with_its_process(tmp_path: Path, log: Path, how: signal.Signals | None) -> None:
    script = (
        "import sys, time; from pathlib import Path; from synth_dspy.training.vllm import servers\n"
        f"servers().serve(Path({str(tmp_path / 'base')!r}), 'a', Path({str(adapter(tmp_path / 'a'))!r}), "
        f"log=Path({str(tmp_path / 'vllm.log')!r}))\n"
        "print('ready', flush=True); time.sleep(60 if len(sys.argv) > 1 else 0)"
    )
    arguments = [sys.executable, "-c", script, *(["wait"] if how else [])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        if how is not None:
            assert alive(fake_vllm.starts(log)[0]["process"])
            parent.send_signal(how)
    assert gone(fake_vllm.starts(log)[0]["process"])


@pytest.mark.slow
def test_two_adapters_as_one_change_weights_by_their_sum(tmp_path: Path) -> None:
    import numpy as np

    from synth_dspy.training.adapters import modules, read_adapter_config, scaling
    from synth_dspy.training.unmerged import concatenate_adapters

    base = tiny_model(tmp_path / "base")
    first = tiny_adapter(tmp_path / "first", base, rank=4)
    second = tiny_adapter(tmp_path / "second", base, seed=2, rank=8, targets=("q_proj", "down_proj"), layers=(1,))
    one = concatenate_adapters([first, second], tmp_path / "one")
    config, matrices = read_adapter_config(one), modules(one)
    assert config["r"] == 12
    assert all(len(a) == 12 for a, _ in matrices.values())
    assert set(matrices) == set(modules(first))
    for module, (a, b) in matrices.items():
        expected = 0.0
        for part in (first, second):
            if module in (pair := modules(part)):
                a1, b1 = pair[module]
                expected = expected + b1 @ a1 * scaling(read_adapter_config(part), module, len(a1))
        np.testing.assert_allclose(b @ a * scaling(config, module, len(a)), expected, atol=1e-5)
    assert concatenate_adapters([first], tmp_path / "none") == first
    assert concatenate_adapters([first, second], tmp_path / "one") == one


# --- with a training -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: a training is done once, and found by the tests that follow."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmServers]:
    made = VllmServers(deadline_s=20)
    monkeypatch.setattr(vllm, "_SERVERS", made)
    yield made
    made.stop()


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


ROWS = [
    {"id": f"r{i}", "source": "", "prompt": messages(f"Notice {i}?"),
     "completion": [{"role": "assistant", "content": "thirty days"}]}
    for i in range(6)
]  # fmt: skip
PAIRS = [
    {"id": row["id"], "source": "", "prompt": row["prompt"], "chosen": row["completion"],
     "rejected": [{"role": "assistant", "content": "the goods"}]}
    for row in ROWS
]  # fmt: skip


def tune(base: Path, home: Path, **settings: Any) -> Any:
    from synth_dspy.models import roles
    from synth_dspy.training.provider import LocalProvider

    fast = {"learning_rate": 1e-2, "epochs": 1, "batch": 2, "gguf": "none", "completion_tokens": 6}
    provider = LocalProvider(home, settings=fast)
    lm = roles.lm_for(f"embedded/{base}", role="student", provider=provider, temperature=0.0, max_tokens=6)
    return lm.finetune(ROWS, None, {"method": "sft", **settings}).result(timeout=180)


@pytest.mark.slow
def test_a_tuned_lm_answers_from_vllm_and_is_tuned_further(base: Path, home: Path, own: VllmServers, log: Path) -> None:
    import dspy

    from synth_dspy.training.provider import origin, training_facts, training_of, tuned_lm, weights_of

    lm = tune(base, home)
    folder = training_of(lm.model)
    assert folder is not None
    assert lm.model == f"openai/{folder.name}"
    third_reply = json.loads((folder / "replies.json").read_text())[2]
    assert lm(messages=ROWS[2]["prompt"]) == [" ".join(map(str, third_reply["reply"]))]
    facts = training_facts(folder)
    assert facts.parity is not None
    assert (facts.parity["n"], facts.parity["share"]) == (6, 1.0)
    assert not (folder / "model.gguf").exists()
    assert (folder / "vllm.log").is_file()
    assert "127.0.0.1" in json.dumps(dspy.Predict("a -> b").dump_state() | {"lm": lm.dump_state()})

    further = lm.finetune(PAIRS, None, {"method": "dpo", "learning_rate": 1e-3}).result(timeout=180)
    second = training_of(further.model)
    assert second is not None
    assert origin(further.model) == (str(base), (folder / "adapter", second / "adapter"))
    assert weights_of(further.model) == second / "served"
    first_start, last_start = fake_vllm.starts(log)
    assert gone(first_start["process"])  # the training had the GPU to itself
    assert [each.split("=")[0] for each in last_start["arguments"][-2:]] == [folder.name, second.name]
    assert lm(messages=ROWS[2]["prompt"])  # the earlier one is served again, where it was

    student = lm.copy(model=f"embedded/{base}")
    assert tuned_lm(student, second / "served").model == further.model
    assert len(fake_vllm.starts(log)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("wrong", "in 0 of 6 tokens of its replies"),
        ("reads", "chat template or tokeniser differs"),
        ("old", None),
    ],
)
def test_what_is_served_must_be_what_was_trained(
    base: Path, home: Path, own: VllmServers, monkeypatch: pytest.MonkeyPatch, mode: str, error: str | None
) -> None:
    monkeypatch.setenv(fake_vllm.MODE, mode)
    for record in home.glob("*/parity.json"):
        record.unlink()
    if error is None:
        assert tune(base, home).model.startswith("openai/sft-")
        return
    with pytest.raises(ArmError, match=error):
        tune(base, home)


@pytest.mark.slow
def test_a_server_that_does_not_start_fails_the_training_in_one_sentence(
    base: Path, home: Path, own: VllmServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_vllm.MODE, "exit")
    with pytest.raises(SetupError, match=r"ended with status 1 .*no GPU was found"):
        tune(base, home)
