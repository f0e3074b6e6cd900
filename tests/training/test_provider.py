"""`lm.finetune` on a tiny real model, trained, merged, checked and served; and what happens when it goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.clients.utils_finetune import TrainingStatus

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.models import roles
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.models.embedded.pool import pool
from synth_dspy.models.weights.trained import RESULT, SPEC
from synth_dspy.training.job import Cancelled
from synth_dspy.training.provider import LocalProvider, origin, prepare, training_facts, training_of
from synth_dspy.training.spec import ADAPTER, read_spec
from tests.tiny import tiny_model

pytestmark = pytest.mark.slow
FAST = {"learning_rate": 1e-2, "epochs": 1, "batch": 2, "parity": 0.0}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    yield
    pool().close()


def student(base: Path, folder: Path) -> dspy.LM:
    provider = LocalProvider(folder, settings=FAST)
    return roles.lm_for(f"embedded/{base}", role="student", provider=provider, temperature=0.0, max_tokens=8)


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def sft(n: int = 8) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "source": f"s{i}", "prompt": messages(f"What is the notice period of contract {i}?"),
         "completion": [{"role": "assistant", "content": "thirty days"}]}
        for i in range(n)
    ]  # fmt: skip


def pairs(n: int = 8) -> list[dict[str, Any]]:
    return [
        {**{k: v for k, v in row.items() if k != "completion"}, "chosen": row["completion"],
         "rejected": [{"role": "assistant", "content": "the goods"}]}
        for row in sft(n)
    ]  # fmt: skip


def test_a_tuned_lm_answers_and_the_same_training_is_found_again(base: Path, tmp_path: Path) -> None:
    lm = student(base, tmp_path)
    settings = {"method": "sft", "prompts": [{"prompt": row["prompt"]} for row in sft()], "counts": {"rows": 8}}
    job = lm.finetune(sft(), None, settings)
    tuned = job.result(timeout=180)
    assert job.status() is TrainingStatus.succeeded
    assert tuned(messages=messages("What is the notice period of contract 3?"))
    folder = training_of(tuned.model)
    assert folder is not None
    facts = training_facts(folder)
    assert facts.rows == 8
    assert facts.parity is not None
    assert facts.parity["n"] == 8
    before = (folder / RESULT).stat().st_mtime_ns
    again = lm.finetune(sft(), None, settings).result(timeout=60)
    assert again.model == tuned.model
    assert (folder / RESULT).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_tuned_model_is_tuned_further_from_its_base_and_adapters(base: Path, tmp_path: Path) -> None:
    first = student(base, tmp_path).finetune(sft(), None, {"method": "sft"}).result(timeout=180)
    second = first.finetune(pairs(), None, {"method": "dpo", "learning_rate": 1e-3}).result(timeout=180)
    folder = training_of(second.model)
    assert folder is not None
    spec = read_spec(folder / SPEC)
    assert Path(spec.model) == base
    assert [adapter.parent for adapter in spec.adapters] == [training_of(first.model)]
    assert origin(second.model)[1] == (*spec.adapters, folder / ADAPTER)
    assert second(messages=messages("When?"))


def test_dspys_chat_rows_are_taken_as_they_are(base: Path, tmp_path: Path) -> None:
    row = {"messages": [*messages("Who?"), {"role": "assistant", "content": "the buyer"}]}
    folder = prepare(tmp_path, f"embedded/{base}", [row], {"method": "sft"})
    written = json.loads((folder / "rows.jsonl").read_text())
    assert written["prompt"] == messages("Who?")
    assert written["completion"] == [{"role": "assistant", "content": "the buyer"}]


def test_what_cannot_be_trained_is_said_in_one_sentence(base: Path, tmp_path: Path) -> None:
    model = f"embedded/{base}"
    with pytest.raises(SetupError, match="no training method 'ppo'; the methods are sft, dpo"):
        prepare(tmp_path, model, sft(), {"method": "ppo"})
    with pytest.raises(SetupError, match=r"learning_rat does not exist: did you mean learning_rate\?"):
        prepare(tmp_path, model, sft(), {"learning_rat": 1})
    with pytest.raises(SetupError, match="adapter does not exist: the valid names are method, dev"):
        prepare(tmp_path, model, sft(), {"adapter": "/none"})
    with pytest.raises(SetupError, match="setting adapters follows from the LM"):
        prepare(tmp_path, model, sft(), {"adapters": ["/none"]})
    with pytest.raises(ArmError, match="no rows"):
        prepare(tmp_path, model, [], {})
    with pytest.raises(SetupError, match="openai/x"):
        prepare(tmp_path, "openai/x", sft(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_fails_raises_and_says_why(base: Path, tmp_path: Path) -> None:
    rows = pairs()
    del rows[2]["rejected"]
    job = student(base, tmp_path).finetune(rows, None, {"method": "dpo"})
    with pytest.raises((ArmError, SetupError), match=r"(?s)3.*rejected"):
        job.result(timeout=120)
    assert job.status() is TrainingStatus.failed


def test_a_training_can_be_cancelled(base: Path, tmp_path: Path) -> None:
    started = threading.Event()
    lm = student(base, tmp_path)
    lm.provider.progress = lambda done, total: started.set()
    job = lm.finetune(sft(40), None, {"method": "sft", "epochs": 400})
    assert started.wait(120)
    assert job.status() is TrainingStatus.running
    assert job.cancel()
    with pytest.raises(Cancelled):
        job.result(timeout=60)
    assert job.status() is TrainingStatus.cancelled


class Answer(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def bootstrap_finetune() -> dspy.BootstrapFinetune:
    return dspy.BootstrapFinetune(
        metric=lambda example, prediction, trace=None: True,
        adapter=PlainAdapter(),
        train_kwargs={"method": "sft"},
        num_threads=2,
    )


def trainset() -> list[dspy.Example]:
    return [
        dspy.Example(question=f"What of contract {i}?", answer="thirty days").with_inputs("question") for i in range(6)
    ]


def test_dspys_bootstrap_finetune_works_on_a_local_model(base: Path, tmp_path: Path) -> None:
    program = dspy.Predict(Answer)
    program.set_lm(student(base, tmp_path))
    with dspy.context(adapter=PlainAdapter()):
        tuned = bootstrap_finetune().compile(program, trainset=trainset())
        assert training_of(tuned.lm.model) is not None
        assert isinstance(tuned(question="What of contract 1?").answer, str)


def test_dspys_better_together_goes_from_prompt_to_weights_to_prompt(base: Path, tmp_path: Path) -> None:
    program = dspy.Predict(Answer)
    program.set_lm(student(base, tmp_path))

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(len(prediction.answer) > 0)

    optimizer = dspy.BetterTogether(
        metric=metric, p=dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1), w=bootstrap_finetune()
    )
    with dspy.context(adapter=PlainAdapter(), lm=program.lm):  # DSPy's bootstrapping resets its teacher's own
        best = optimizer.compile(program, trainset=trainset(), valset=trainset()[:2], strategy="p -> w -> p")
    assert not best.flag_compilation_error_occurred
    assert [c["strategy"] for c in best.candidate_programs].count("p -> w -> p") == 1
    tuned = [c["program"].lm.model for c in best.candidate_programs if "w" in c["strategy"]]
    assert all(training_of(model) is not None for model in tuned)
