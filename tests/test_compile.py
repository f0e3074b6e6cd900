"""`compile`, whole: the report it leaves, killed and resumed, without a network, and with wrong input.

The runs here are real (Chroma, the embedder, DSPy's optimizers, the reference judge); where the model itself is not
the point, a loopback server answers in its place.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Behaviour, command

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--quick", "--synthesis.candidates", "12", "--evaluation.held-out", "8", "--evaluation.validation", "4"]
SMALL += ["--evaluation.arms", "bootstrap"]

NO_NETWORK = """
import runpy, socket, sys

def refuse(event, args):
    if event == "socket.connect" and args[0].family in (socket.AF_INET, socket.AF_INET6):
        host = str(args[1][0])
        if not (host.startswith("127.") or host in ("::1", "localhost")):
            raise RuntimeError(f"network: {host}")
    if event == "socket.getaddrinfo" and args[0] not in (None, "localhost", "127.0.0.1", "::1"):
        raise RuntimeError(f"network: {args[0]}")

sys.addaudithook(refuse)
sys.argv = ["compile", *sys.argv[1:]]
runpy.run_module("synth_dspy.compile", run_name="__main__")
"""


def start(*args: str, program: list[str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(program or ["-m", "synth_dspy.compile"]), "contract_qa", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 300) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def compile_(*args: str, **options: list[str]) -> tuple[int, str, str]:
    return finish(start(*args, **options))


def only_run(runs: Path) -> Path:
    (config,) = (runs / "contract_qa").glob("*/config.toml")
    return config.parent


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[list[str], Path]]:
    """Flags that send student and teacher to a loopback server, and the server's log of what it answered."""
    log = tmp_path / "answered"
    behaviour = Behaviour(latency_s=0.02, log=str(log))
    with subprocess.Popen(command(behaviour), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        yield ["--models.student", "openai/mock", "--models.teacher", "openai/mock", "--models.api-base", url], log
        server.kill()


@pytest.mark.slow
def test_embedded_models_compile_without_a_network_and_the_program_loads(tmp_path: Path) -> None:
    status, out, err = compile_(*SMALL, "--runs", str(tmp_path), program=["-c", NO_NETWORK])
    assert status == 0, err
    run = only_run(tmp_path)
    results = json.loads((run / "results.json").read_text())
    assert [arm["name"] for arm in results["arms"]] == ["rag", "bootstrap"]
    assert all(arm["n"] == 8 and arm["errors"] == 0 and arm["failed"] is None for arm in results["arms"])
    assert results["judge"]["kappa"] > 0.5
    for name in ("report.html", "report.md", "measurements.json", "predictions.jsonl", "config.toml", "run.log"):
        assert (run / name).stat().st_size > 0
    assert "<script" not in (run / "report.html").read_text()
    assert "bootstrap" in out
    assert_saved_program_answers(run)


def assert_saved_program_answers(run: Path) -> None:
    """In the run's words or in others: the run asked in batches, whose shape decides the last bits."""
    import synth_dspy

    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["arm"] == "bootstrap")
    arms = {arm["name"]: arm for arm in json.loads((run / "results.json").read_text())["arms"]}
    program = synth_dspy.load(run / "programs" / "bootstrap", workspace=ROOT)
    assert len(program.predictors()[0].demos) == arms["bootstrap"]["demos"]
    prediction = program(question=row["question"], document=row["group"])
    assert prediction.answer
    assert len(prediction.passages) >= 1


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_it_makes_no_answered_call_again(
    tmp_path: Path, answering: tuple[list[str], Path]
) -> None:
    """Nor is it promised to ask what an unbroken run asks: vectors of passages are computed in other batches."""
    from synth_dspy.core.ledger import Ledger

    flags, log = answering
    log.touch()

    def answered() -> list[str]:
        return log.read_text().splitlines()

    rng = random.Random(7)
    process = start(*SMALL, *flags, "--runs", str(tmp_path / "runs"))
    kills = 0
    while kills < 2:
        enough = len(answered()) + rng.randint(1, 12)
        while len(answered()) < enough and process.poll() is None:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start("--resume", str(only_run(tmp_path / "runs")))
    status, _, err = finish(process)
    assert status == 0, err
    assert kills == 2
    calls = answered()
    with Ledger(only_run(tmp_path / "runs") / "ledger.sqlite", read_only=True) as ledger:
        assert len(calls) == len(ledger.calls()) > 0

    # Where every call was answered, the same results come of the answers, to the byte.
    results = only_run(tmp_path / "runs") / "results.json"
    first = results.read_bytes()
    results.unlink()
    status, _, err = compile_("--resume", str(only_run(tmp_path / "runs")))
    assert status == 0, err
    assert results.read_bytes() == first
    assert answered() == calls


@pytest.mark.slow
def test_a_run_that_is_open_elsewhere_is_not_resumed(tmp_path: Path, answering: tuple[list[str], Path]) -> None:
    from synth_dspy.core.ledger import Ledger

    flags, _ = answering
    status, _, err = compile_(*SMALL, *flags, "--runs", str(tmp_path), "--evaluation.arms", "rag")
    assert status == 0, err
    run = only_run(tmp_path)
    with Ledger(run / "ledger.sqlite"):
        status, _, err = compile_("--resume", run.name, "--runs", str(tmp_path))
    assert status == 2
    assert f"already open in process {os.getpid()}" in err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--modles.student", "x"], "models.student"),
        (["--evaluation.arms", "ragg"], "There is no arm 'ragg'"),
        (["--models.student", "embedded/smollm3"], "smollm3"),
        (["--resume", "never"], "There is no run 'never'"),
        (["--resume"], "--resume needs a value"),
        (["--config", "none.toml"], "none.toml does not exist"),
        (["--task.documents", "{empty}"], "holds no files"),
        (["--task.documents", "{unreadable}"], "none of its 2 files can be read"),
        (["--task.documents", "{missing}"], "does not exist"),
        (["--task.documents", "{few}"], "At least 3 documents"),
        (["--task.documents", "{few}", "--task.labelled", "{seeds}"], "seeds.jsonl, line 7: has neither 'answer'"),
        (["--models.student", "openai/x", "--models.api-base", "http://127.0.0.1:9/v1"], "http://127.0.0.1:9/v1"),
        (["--models.student", "openai/x"], "OPENAI_API_KEY"),
        (["--models.student", "openai/x", "--evaluation.arms", "sft"], "weights of the student openai/x are not"),
        (["--limit", "2"], "limit"),
        (["--task.labelled", "{seeds}"], "add --task.documents"),
        (["--task.documents", "{few}", "--task.cuad", "{few}"], "not both"),
    ],
)
def test_what_a_user_gets_wrong_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("empty", "unreadable", "few"):
        (tmp_path / name).mkdir()
    (tmp_path / "unreadable" / "a.pdf").write_bytes(b"%PDF-1.4 broken")
    (tmp_path / "unreadable" / "b.txt").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "few" / "lease.txt").write_text("This lease ends on 31 March 2027.")
    row = {"id": "1", "document": "lease", "question": "When?", "references": ["31 March 2027"]}
    row |= {"spans": ["31 March 2027"], "category": "Expiration Date", "answer_type": "date"}
    rows = [{**row, "id": str(number)} for number in range(1, 9)]
    del rows[6]["references"]
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("\n".join(map(json.dumps, rows)))
    given = [
        arg.format(seeds=seeds, **{name: tmp_path / name for name in ("empty", "unreadable", "few", "missing")})
        for arg in args
    ]
    status, out, err = compile_(*given, *([] if "--resume" in args else ["--runs", str(tmp_path / "runs")]))
    assert status == 2, out
    assert says in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").glob("*/*/config.toml"))  # nothing to resume, nothing to clear up


def test_no_such_task_is_answered_with_the_nearest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synth_dspy.compile", "contract_q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Did you mean contract_qa" in done.stderr
