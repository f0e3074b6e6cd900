"""Students whose weights are not here: arms that train weights are known before any work, whatever the machine has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Server, serving

from synth_dspy.cli import compile as cli
from synth_dspy.core.config import CompileConfig, Retention, compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Knowledge
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import Run
from synth_dspy.core.task import CompleteTask
from synth_dspy.core.workspace import task_file
from synth_dspy.models import roles
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline import tuned_arms as tuned
from synth_dspy.pipeline.arms import arm_names, arms_again, trains_weights
from synth_dspy.pipeline.experiment import Experiment
from synth_dspy.pipeline.saved import build_task
from synth_dspy.training import optimizer, vllm
from synth_dspy.training.optimizer import WeightOptimizer
from synth_dspy.training.recipes import RECIPES, as_declared
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.recipes.without_rules import without_rules
from synth_dspy.training.spec import TrainSpec
from synth_dspy.training.vllm import VllmServers
from tests.test_experiment import Rivers, Shown, toy
from tests.training import fake_vllm

ROOT = Path(__file__).resolve().parents[1]
Factory = Callable[..., Any]


class Mine(WeightOptimizer):
    """A recipe that no module of this project knows."""

    method = "sft"


def wrapped(resources: Any, metric: Any) -> Any:
    return LoraSft(resources, metric)


def marked(resources: Any, metric: Any) -> Any:
    return LoraSft(resources, metric)


marked.trains_weights = True  # type: ignore[attr-defined]

WEIGHTS: dict[str, Factory] = {
    "sft": LoraSft,
    "dpo": LoraDpo.with_settings(dpo={"epochs": 2}),
    "rules": without_rules(LoraSft, {"sft": {"examples": 9}}),
    "partial": partial(LoraSft, examples=3),
    "mine": Mine,
    "marked": marked,
}
STUDENTS = ("openai/mock", "hosted_vllm/mock", "ollama_chat/mock")
BEDROCK = "bedrock/amazon.nova-pro-v1:0"
PROMPTS: dict[str, Factory] = {"zero_shot": lambda resources, metric: None, "shown": lambda resources, metric: Shown()}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bedrock's client wants credentials, which nobody checks here; what a developer has set is not used."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)  # of the process: other tests would see it


@pytest.fixture(params=[True, False], ids=["gpu", "no_gpu"])
def driver(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the machine has an NVIDIA driver."""
    version = tmp_path / "nvidia"
    if request.param:
        version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module")
    monkeypatch.setattr(optimizer, "NVIDIA", version)
    assert optimizer.has_gpu() is request.param
    return bool(request.param)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def declared(optimizers: Mapping[str, Factory], source: Any = None) -> CompleteTask:
    return replace(toy(source or Rivers()), optimizers=dict(optimizers))


def compile_(folder: Path, task: CompleteTask, student: str, api_base: str, **settings: Any) -> dict[str, Any]:
    models = {"student": student, "teacher": student, "api_base": api_base}
    config = CompileConfig.model_validate({"models": models, "concurrency": 2, "quick": True, **settings})
    with Ledger(folder / "ledger.sqlite") as ledger:
        return Experiment(ROOT, task, config, Run("rivers", folder), ledger, Bars(), "compile rivers").compile()[0]


@pytest.mark.parametrize("student", [*STUDENTS, BEDROCK])
def test_default_arms_are_those_of_prompts_and_the_run_says_so(
    tmp_path: Path, server: Server, driver: bool, capsys: pytest.CaptureFixture[str], student: str
) -> None:
    root = server.url.removesuffix("/v1")
    address = root if student.startswith(("ollama", "bedrock")) else server.url
    results = compile_(tmp_path, declared({**PROMPTS, **WEIGHTS}), student, address)
    assert [arm["name"] for arm in results["arms"]] == ["zero_shot", "shown"]
    assert all(arm["failed"] is None and arm["errors"] == 0 and arm["n"] for arm in results["arms"])
    (note,) = [note for note in results["notes"] if "left out" in note]
    assert note.startswith(f"The arms that train weights ({', '.join(WEIGHTS)}) are left out: the weights of the")
    assert student in note
    assert "embedded/<name or path>" in note
    assert capsys.readouterr().err.count(note) == 1
    assert "are left out" in (tmp_path / "report.md").read_text()
    assert " at 0x" not in (tmp_path / "results.json").read_text()
    assert {request["model"] for request in server.requests} == {student.partition("/")[2]}


class Unread:
    def read(self, limit: int | None = None) -> Knowledge:
        raise AssertionError("nothing may be read before the arms are checked")


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("student", ["openai/mock", "bedrock/amazon.nova-pro-v1:0"])
def test_a_named_arm_that_trains_weights_is_refused_before_any_work(
    tmp_path: Path, server: Server, driver: bool, student: str, name: str
) -> None:
    task = declared({**PROMPTS, **WEIGHTS}, Unread())
    with pytest.raises(SetupError, match=rf"weights \({name}\) cannot run: the weights of the student {student} "):
        compile_(tmp_path, task, student, server.url, evaluation={"arms": ["shown", name]})
    assert not server.requests


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ({"student": "embedded/no-such"}, "The student embedded/no-such cannot be used: no model 'no-such'"),
        ({"teacher": "embedded/README.md"}, "The teacher embedded/README.md cannot be used: README.md is not a GGUF"),
        ({"judge": "openai/mock", "api_base": None}, "needs a key: set OPENAI_API_KEY"),
        (
            {"judge": "groq/llama", "api_base": None},
            "The judge model groq/llama .* found none: no API key .* Set GROQ_API_KEY in the environment.$",
        ),
        ({"embedder": "embedded/no-such"}, "The embedder embedded/no-such cannot be used: no model 'no-such'"),
        ({"embedder": "openai/mock", "api_base": None}, "needs a key: set OPENAI_API_KEY"),
        ({"compare": ("embedded/no-such.gguf",)}, "embedded/no-such.gguf cannot be used: no model 'no-such.gguf'"),
    ],
)
def test_what_is_wrong_with_a_model_string_is_told_before_any_work(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    given = {**dict.fromkeys(("student", "teacher"), "openai/mock"), "api_base": server.url, **models}
    if given["api_base"] is None:
        given |= dict.fromkeys(("student", "teacher"), "ollama_chat/mock")
    config = CompileConfig.model_validate({"models": given, "quick": True})
    run = Run("rivers", tmp_path)
    with Ledger(tmp_path / "ledger.sqlite") as ledger, pytest.raises(SetupError, match=says):
        Experiment(ROOT, declared(PROMPTS, Unread()), config, run, ledger, Bars(), "compile rivers").compile()
    assert not server.requests
    assert "plan:" not in capsys.readouterr().err


def test_a_baseline_that_trains_weights_is_refused(tmp_path: Path, server: Server) -> None:
    with pytest.raises(SetupError, match=r"train weights \(sft\) cannot run"):
        compile_(tmp_path, declared({"sft": LoraSft, **PROMPTS}, Unread()), "openai/mock", server.url)


@pytest.mark.parametrize("name", ["contract_qa", "doc_qa", "function_calling", "scoped_assistant", "table_docs"])
def test_every_task_here_has_prompt_arms_for_a_hosted_student_and_all_for_an_embedded_one(name: str) -> None:
    config = compile_settings(task_file(ROOT, name))()
    task = build_task(ROOT, name, config)
    everything, left_out = arm_names(task, "embedded/any")
    assert left_out is None
    names, left_out = arm_names(task, "openai/any")
    assert [each for each in everything if each not in names] == ["sft", "dpo", "orpo"]
    assert left_out is not None
    assert "(sft, dpo, orpo)" in left_out


@pytest.mark.parametrize(
    ("arm", "arms"),
    [
        ("dpo", ("dpo",)),
        ("dpo (qwen)", ("dpo",)),
        ("search", ("search",)),
        ("route", ("sft", "dpo", "route")),
        ("zero_shot", ("sft", "dpo", "route")),
        ("zero_shot (qwen)", ("sft", "dpo", "route")),
    ],
)
def test_an_arm_is_made_again_by_these(arm: str, arms: tuple[str, ...]) -> None:
    settings = {"search": "retrieval", "evaluation": {"arms": ("sft", "dpo", "route")}}
    config = CompileConfig.model_validate(settings)
    assert arms_again(declared({"zero_shot": as_declared, **RECIPES}), config, arm) == arms


def test_what_is_not_marked_is_an_arm_for_any_student() -> None:
    assert not any(map(trains_weights, PROMPTS.values()))
    assert not trains_weights(wrapped)
    assert all(map(trains_weights, WEIGHTS.values()))


class Finetuned:
    """DSPy's own fine-tuning; where it is OpenAI's, a failure is handed over as the result."""

    def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
        student.set_lm(student.answer.lm.finetune([], None, {}).result(timeout=20))
        return student


def test_an_arm_that_cannot_be_made_says_so_in_a_sentence_and_the_others_go_on(
    tmp_path: Path, server: Server, driver: bool
) -> None:
    class Unnameable:
        def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
            raise ValueError(f"no prompt\nfor {object()!r}")

    class TunedByOpenAI:
        def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> dspy.Module:
            student.set_lm(student.answer.lm.copy(model="ft:mock:us::1"))
            return student

    class Forgetful:
        def compile(self, student: dspy.Module, *, trainset: Any, valset: Any) -> None:
            student.answer.demos = []

    def unmade(resources: Any, metric: Any) -> Any:
        raise KeyError("epochs")

    others: dict[str, Factory] = {
        "wrapped": wrapped,
        "finetuned": lambda resources, metric: Finetuned(),
        "openai": lambda resources, metric: TunedByOpenAI(),
        "unnameable": lambda resources, metric: Unnameable(),
        "unmade": unmade,
        "forgetful": lambda resources, metric: Forgetful(),
    }
    results = compile_(tmp_path, declared({**PROMPTS, **others}), "openai/mock", server.url)
    failed = {arm["name"]: arm["failed"] for arm in results["arms"] if arm["failed"]}
    assert set(failed) == set(others)
    assert failed["wrapped"].startswith("No weights can be trained: the weights of the student openai/mock are not on")
    assert failed["unnameable"] == (
        "An unexpected ValueError ended it (no prompt for <object object>); run.log says where."
    )
    assert "unexpected ValueError ended it (OpenAI does not support" in failed["finetuned"]
    assert "KeyError" in failed["unmade"]
    assert failed["openai"].endswith("with --models.student openai/ft:mock:us::1.")
    assert [arm["name"] for arm in results["arms"] if arm["n"]] == ["zero_shot", "shown"]
    for name in ("results.json", "report.md", "report.html"):
        assert " at 0x" not in (tmp_path / name).read_text()


def test_an_object_in_a_provider_s_error_leaves_no_address(tmp_path: Path, server: Server) -> None:
    task = declared({**PROMPTS, "finetuned": lambda resources, metric: Finetuned()})
    results = compile_(tmp_path, task, "hosted_vllm/mock", server.url)
    (failed,) = [arm["failed"] for arm in results["arms"] if arm["failed"]]
    assert "does not support fine-tuning" in failed  # DSPy names its provider by the object's repr
    assert " at 0x" not in (tmp_path / "results.json").read_text()


@pytest.fixture
def own_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VllmServers]:
    """This process's vLLM servers, of a stand-in for the command."""
    monkeypatch.setenv(fake_vllm.LOG, str(tmp_path / "starts.jsonl"))
    monkeypatch.setenv("PATH", f"{fake_vllm.install(tmp_path / 'bin')}:{os.environ['PATH']}")
    made = VllmServers(deadline_s=20)
    monkeypatch.setattr(vllm, "_SERVERS", made)
    yield made
    made.stop()


@pytest.mark.parametrize("alive", [True, False])
def test_what_cannot_be_measured_of_an_unmerged_model_is_a_note(
    tmp_path: Path, server: Server, own_vllm: VllmServers, alive: bool
) -> None:
    training = tmp_path / "sft-0"
    adapter = training / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 8}))
    spec = TrainSpec(model="x", method="sft", rows=Path("rows.jsonl"))
    (training / "spec.json").write_text(spec.model_dump_json(exclude_none=True))
    (training / "replies.json").write_text("[]")
    address = own_vllm.serve(tmp_path / "base", "sft-0", adapter, log=tmp_path / "vllm.log")
    if not alive:
        own_vllm.stop()
    student, lm = (
        roles.lm_for(model, role="student", api_base=base, attempts=1)
        for model, base in (("openai/mock", server.url), ("openai/sft-0", address))
    )
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    models = tuned.compared_models({"sft": program}, student)
    measured = {
        name: tuned.retained(name, *model, Retention(), 2, executor=Executor(2), bars=Bars(), seed=0)
        for name, model in models.items()
    }
    assert list(measured) == ["student", "sft"]
    before, _ = measured["student"]
    after, note = measured["sft"]
    assert before is not None
    assert before.ifeval is not None
    assert before.ifeval.n == 2
    assert (after is not None) is alive
    assert str(note).startswith("What tuning cost sft outside the task could not be measured in full:")
    assert ("vLLM serves this adapter unmerged" if alive else "could not be reached") in str(note)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm"])
def test_contract_qa_with_its_default_arms_ends_with_a_report(
    tmp_path: Path,
    server: Server,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    models = [f"--models.{role}={prefix}/mock" for role in ("student", "teacher")]
    cli.main(["contract_qa", "--quick", *models, "--models.api-base", server.url, "--runs", str(tmp_path)])
    (run,) = (path.parent for path in tmp_path.glob("contract_qa/*/results.json"))
    text = (run / "results.json").read_text()
    assert [arm["name"] for arm in json.loads(text)["arms"]] == ["rag", "bootstrap"]
    assert " at 0x" not in text
    for output in (capsys.readouterr().err, (run / "report.md").read_text()):
        assert "The arms that train weights (sft, dpo, orpo) are left out" in output
