"""`--executor ray`: what can be wrong with it, without a cluster. See test_cluster_workers.py for one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from applied import workspace_with_program
from dspy import lm15
from pydantic import ValidationError

from synth_dspy.cli import apply, compile, evaluate
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall
from synth_dspy.core.versions import versions
from synth_dspy.models.cluster.cluster import Cluster, open_cluster
from synth_dspy.models.cluster.engine import lm_on
from synth_dspy.models.cluster.process import at_once, reserved_by
from synth_dspy.models.cluster.worker import Worker
from synth_dspy.pipeline.saved_files import read_saved
from synth_dspy.pipeline.trust import Caller


def test_local_needs_no_ray() -> None:
    code = (
        "import sys, synth_dspy.models.cluster.engine as e, synth_dspy.models.roles as r; print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert open_cluster("local") is None


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"^--executor ray needs Ray: pip install 'synth_dspy\[ray\]'\.$"):
        Cluster("ray")


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "ray://no-such-host.invalid:10001"])
def test_nobody_listens_at_the_address(address: str) -> None:
    with pytest.raises(SetupError, match=rf"^The Ray cluster {address} could not be reached .*`ray start --head`"):
        Cluster(address)


def test_ray_address_is_the_one_that_ray_itself_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(SetupError, match=r"The Ray cluster 127\.0\.0\.1:1 could not be reached"):
        Cluster("ray")


@pytest.mark.parametrize("address", ["rya", "ray://", "ray://user:password@host:1", "ray://host", "http://host:1"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ValidationError, match="it should be local, ray, or ray://HOST:PORT"):
        CompileConfig(executor=address)


def test_every_verb_checks_the_address() -> None:
    for main, args in (
        (apply.main, ["program", "--input", "a.csv", "--output", "b.csv"]),
        (evaluate.main, ["runs/a", "--seeds", "b.jsonl"]),
        (compile.main, ["doc_qa"]),
        (compile.main, ["doc_qa", "--resume", "1"]),
    ):
        with pytest.raises((SetupError, SystemExit)) as raised:
            main([*args, "--executor", "rya"])
        if isinstance(raised.value, SetupError):
            assert "it should be local, ray, or ray://HOST:PORT" in str(raised.value)


def test_a_judge_alone_runs_here() -> None:
    with pytest.raises(SetupError, match="--executor is for saved programs"):
        evaluate.main(["--judge", "reference", "--items", "a.jsonl", "--scores", "b.jsonl", "--executor", "ray"])


def test_a_saved_program_runs_where_its_caller_says(tmp_path: Path) -> None:
    program = workspace_with_program(tmp_path)
    assert read_saved(program, Caller()).config.executor == "local"
    assert read_saved(program, Caller(executor="ray", workers=3)).config.workers == 3
    assert Caller(executor="ray", workers=3, flags=True).arguments() == ["--executor", "ray", "--workers", "3"]


class FakeRay(ModuleType):
    """Ray, with actors that die when they are `deadly`: in `ready` or in `answer`."""

    def __init__(self, deadly: str) -> None:
        super().__init__("ray")
        self.versions = versions()
        self.exceptions = ModuleType("ray.exceptions")
        self.exceptions.RayError = type("RayError", (Exception,), {})
        self.exceptions.RayTaskError = type("RayTaskError", (self.exceptions.RayError,), {})
        self.deadly, self.made = deadly, 0

    def init(self, **options: Any) -> None:
        assert options["include_dashboard"] is False

    def shutdown(self) -> None: ...

    def kill(self, actor: Any) -> None: ...

    def remote(self, _class: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.actor))

    def actor(self) -> Any:
        self.made += 1

        def method(name: str, value: Any) -> Any:
            async def call(*_: Any) -> Any:
                if name == self.deadly:
                    raise self.exceptions.RayError(
                        "The actor died.\nSome line\nMemoryError: no memory for sk-aaaaaaaaaa"
                    )
                return value

            return SimpleNamespace(remote=call)

        return SimpleNamespace(
            ready=method("ready", ("host", self.versions)), open=method("open", None), answer=method("answer", None)
        )


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay(request.param)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.exceptions", fake.exceptions)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return fake


@pytest.mark.parametrize("fake", ["ready"], indirect=True)
def test_workers_that_do_not_start(fake: FakeRay) -> None:
    with pytest.raises(SetupError, match=r"^No worker of the Ray cluster could be started \(MemoryError: no memory"):
        Cluster("ray", 2)
    assert fake.made == 6


@pytest.mark.parametrize("fake", [""], indirect=True)
def test_a_worker_with_another_version_is_refused(fake: FakeRay) -> None:
    fake.versions["dspy"] = "2.0"
    with pytest.raises(
        SetupError, match=r"^The Ray worker on host has dspy 2\.0, and this machine .*: install the same"
    ):
        Cluster("ray", 2)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fake", ["answer"], indirect=True)
def test_a_call_of_which_every_worker_dies(fake: FakeRay, workers: int, tmp_path: Path) -> None:
    cluster = Cluster("ray", workers)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        lm = lm_on(cluster, "openai/mock", role="student", ledger=ledger, api_base="http://127.0.0.1:1")
        with pytest.raises(
            SetupError, match=r"^3 workers of the Ray cluster died, .* \(MemoryError: .*no answered call"
        ):
            lm("Hello")
        assert ledger.totals()[0]["failures"] == 1
    cluster.close()


@pytest.mark.parametrize(
    ("machines", "workers", "reserved", "fit"),
    [
        ([{"CPU": 4.0}], 2, {"num_cpus": 2.0}, 1),  # two cores on this machine
        ([{"CPU": 2.0}, {"CPU": 2.0}], 2, {"num_cpus": 1.0}, 2),
        ([{"CPU": 17.0}, {"CPU": 9.0}], 2, {"num_cpus": 8.0}, 3),
        ([{"CPU": 17.0, "GPU": 1.0}, {"CPU": 9.0}], 2, {"num_cpus": 8.0, "num_gpus": 1}, 1),
        ([{"CPU": 1.0}], 1, {}, 0),
    ],
)
def test_room_for_trainings(
    machines: list[dict[str, float]], workers: int, reserved: dict[str, float], fit: int
) -> None:
    cluster: Any = SimpleNamespace(size=workers, machines=lambda: machines)
    assert (reserved_by(cluster), at_once(cluster)) == (reserved, fit)
    assert at_once(None) == 0


def test_other_weights_in_a_worker_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"weights")
    model = f"embedded/{tmp_path / 'model.gguf'}"
    request = lm15.Request(model, (lm15.Message.user("Hello"),))
    error = asyncio.run(Worker().answer("", "embedded/sha256:0", request, ModelCall("", "", model, "student")))
    assert isinstance(error, SetupError)
    assert "has other weights than this machine" in str(error)
