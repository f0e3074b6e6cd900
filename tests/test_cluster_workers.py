"""`--executor ray` on a cluster of this machine with two workers, which is started once."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from applied import workspace_with_program
from servers import Behaviour, Server, serving
from tiny import tiny_model

from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.models import roles
from synth_dspy.models.cluster.cluster import Cluster, close_cluster, open_cluster
from synth_dspy.models.cluster.engine import lm_on
from synth_dspy.models.cluster.process import RemoteProcess
from synth_dspy.models.embedded.pool import pool
from synth_dspy.pipeline.apply.job import Applied, apply_program
from synth_dspy.pipeline.apply.settings import Job
from synth_dspy.pipeline.saved_files import read_saved
from synth_dspy.pipeline.trust import Caller

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
KEY = "sk-test-of-ray-0123456789"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where Ray keeps its files, with a short path."""
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        cluster = open_cluster("ray", 2)
    assert cluster is not None
    assert cluster.size == 2
    yield cluster
    close_cluster()
    assert not list(folder.iterdir())
    assert not workers()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Behaviour(latency_s=0.05)) as server:
        yield server


def workers() -> list[psutil.Process]:
    """The processes of the workers."""
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if each.cmdline()[:1] and "Worker" in each.cmdline()[0]
    ]


def answer_rows(folder: Path, server: Server, rows: int, executor: str, **job: Any) -> Applied:
    program = folder / "runs" / "ask"
    programs = list(program.glob("*/programs/*")) or [workspace_with_program(folder)]
    given = folder / "rows.csv"
    given.write_text("question\n" + "".join(f"What is {number}?\n" for number in range(rows)))
    caller = Caller(api_base=server.url, executor=executor, workers=None if executor == "local" else 2)
    return apply_program(read_saved(programs[0], caller), Job(str(given), folder / "out.csv", **job), caller=caller)


def keys(folder: Path) -> set[str]:
    (path,) = folder.rglob("ledger.sqlite")
    with sqlite3.connect(path) as ledger:
        return {key for (key,) in ledger.execute("select key from calls")}


def test_a_table_is_answered_alike_and_a_run_goes_on_without_ray_and_back(
    cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    for executor in ("local", "ray"):
        assert answer_rows(tmp_path / executor, server, 30, executor, concurrency=4).failed == 0
    local, ray = tmp_path / "local", tmp_path / "ray"
    assert (local / "out.csv").read_bytes() == (ray / "out.csv").read_bytes()
    assert keys(local) == keys(ray)
    asked = server.answered.total()
    assert asked == 60
    for other, folder in (("local", ray), ("ray", local)):
        again = answer_rows(folder, server, 40, other, concurrency=4, force=True)
        assert (again.rows, again.run_now) == (40, 10)
    assert server.answered.total() == 80


def test_a_killed_worker_costs_the_calls_that_it_had_under_way(
    cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    server.behaviour.latency_s = 0.2

    def kill() -> None:
        while server.answered.total() < 20:
            time.sleep(0.01)
        os.kill(workers()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = answer_rows(tmp_path, server, 80, "ray", concurrency=4)
    killer.join()
    assert (done.run_now, done.failed, len(keys(tmp_path))) == (80, 0, 80)
    assert server.asked.total() <= 80 + 2 * 4


def test_answers_under_way_when_a_ledger_is_closed_are_kept_and_no_more_are_asked(
    cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    server.behaviour.latency_s = 0.3

    def ask_twice(number: int) -> None:
        lm(f"Question {number}")
        with suppress(Exception):  # the run has been stopped
            lm(f"Question {number}, again")

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        lm = lm_on(cluster, "openai/mock", role="student", ledger=ledger, api_base=server.url)
        lm("Hello")
        threads = [threading.Thread(target=ask_twice, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while server.asked.total() < 1 + 4:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(ledger.calls()) == server.asked.total() >= 1 + 4


def test_embedded_models_say_the_same_in_a_worker(cluster: Cluster, tmp_path: Path) -> None:
    model = f"embedded/{tiny_model(tmp_path / 'tiny')}"
    said = []
    for name, where in (("here", None), ("there", cluster)):
        with Ledger(tmp_path / f"{name}.sqlite") as ledger:
            lm = lm_on(where, model, role="student", ledger=ledger, max_tokens=8, temperature=0.7)
            roles.check(lm)
            replies = [lm(f"Question {number}", n=2, rollout_id=1) for number in range(3)]
            said.append((replies, [call.key for call in ledger.calls()]))
        if where is None:
            pool().close()
    assert said[0] == said[1]
    assert not pool().loaded()


def test_errors_keep_their_types_and_are_counted(cluster: Cluster, server: Server, tmp_path: Path) -> None:
    with serving(Behaviour(script=["404", "context"])) as failing, Ledger(tmp_path / "ledger.sqlite") as ledger:
        lm = lm_on(cluster, "openai/mock", role="teacher", ledger=ledger, api_base=failing.url, attempts=1)
        with pytest.raises(Exception, match="has no model 'mock'") as raised:
            lm("Hello")
        assert type(raised.value).__name__ == "SetupError"
        with pytest.raises(Exception, match="context length") as raised:
            lm("Hello")
        assert type(raised.value).__name__ == "ContextWindowExceededError"
        (totals,) = ledger.totals()
        assert (totals["failures"], totals["calls"]) == (2, 0)


def test_a_child_in_the_cluster_passes_its_lines_and_its_status_on(cluster: Cluster, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ.get('OMP_NUM_THREADS')); print(os.getcwd(), flush=True); sys.exit('no')"
    with RemoteProcess(cluster, ["-c", code], tmp_path / "errors", {"OMP_NUM_THREADS": "7"}) as process:
        assert list(process.stdout) == ["7\n", f"{os.getcwd()}\n"]
        assert process.poll() == 1
    assert (tmp_path / "errors").read_text() == "no\n"
    waits = "import time; print('began', flush=True); time.sleep(60)"
    with RemoteProcess(cluster, ["-c", waits], tmp_path / "errors", {}) as process:
        for line in process.stdout:
            assert line == "began\n"
            process.terminate()
        assert process.poll() == -signal.SIGTERM


def test_keys_reach_the_workers_but_not_the_logs(
    cluster: Cluster, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    lm = lm_on(cluster, "openai/mock", role="student", api_base=server.url, api_key_name="A_KEY")

    async def ask(number: int) -> Any:
        return await lm.acall(f"Question {number}")

    outcomes = Executor(4).map(ask, range(8))
    assert all(outcome.error is None for outcome in outcomes)
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    logs = [path for path in folder.rglob("*") if path.is_file()]
    assert logs
    assert not [path for path in logs if KEY.encode() in path.read_bytes()]
