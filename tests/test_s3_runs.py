"""A run with its copy in S3: always one whole state, written by one process, resumed elsewhere from it alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, Refusal, Store, serving
from servers import Behaviour, command

from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.s3.address import Address
from synth_dspy.core.s3.client import open_store
from synth_dspy.core.s3.mirror import Mirror, mirrored
from synth_dspy.core.s3.reading import local
from synth_dspy.core.s3.runs import RunCopy, bring_up_to_date, pull, read_manifest
from synth_dspy.core.usage import ModelCall, Unit

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serving(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(autouse=True)
def environment(server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    yield
    server.refusals.clear()
    server.requests.clear()


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Address:
    return Address(BUCKET, f"runs/doc_qa/{request.node.name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "run"
    (folder / "programs" / "rag").mkdir(parents=True)
    (folder / "config.toml").write_text("quick = true\n")
    (folder / "programs" / "rag" / "program.json").write_text("{}")
    return folder


def call(key: str) -> ModelCall:
    return ModelCall(key, f"answer to {key}", "model", "student", Unit("evaluation", key, "rag"))


def keys(folder: Path) -> set[str]:
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        return {each.key for each in ledger.calls()}


def ignore(_: str) -> None:
    """What is said to the user."""


def open_mirror(address: Address, folder: Path) -> Mirror:
    copy = RunCopy(address, folder, open_store())
    copy.open()
    return Mirror(copy, ignore)


def pulled(address: Address, target: Path) -> Path:
    return pull(address, target, open_store())


def objects(server: Store, address: Address) -> set[str]:
    return {path.name for path in (server.folder / BUCKET / address.key).glob("objects/*") if path.is_file()}


def test_an_open_run_is_resumed_elsewhere_from_its_copy(
    server: Store, address: Address, folder: Path, tmp_path: Path
) -> None:
    (folder / "half.partial").write_text("being written")
    (folder / "link").symlink_to("/etc/passwd")
    with mirrored(address, folder, ignore, begun=lambda: True) as mirror, Ledger(folder / LEDGER) as ledger:
        mirror.start(ledger)
        ledger.record(call("a"))
        mirror.push()
        there = pulled(address, tmp_path / "there")
        names = {path.name for path in there.iterdir()}
        assert names == {"config.toml", "programs", LEDGER, ".s3.json"}
        assert keys(there) == {"a"}
        ledger.record(call("b"))  # answered after the copy: lost if this process is killed now
        with Ledger(there / LEDGER) as resumed:
            assert resumed.has_answer("a")
            assert not resumed.has_answer("b")
    assert keys(pulled(address, there)) == {"a", "b"}
    assert read_manifest(address, open_store())[0].stopped


def test_a_fetched_run_keeps_its_answers_in_s3_before_it_asks_anything(
    address: Address, folder: Path, tmp_path: Path
) -> None:
    with mirrored(address, folder, ignore, begun=lambda: True) as mirror, Ledger(folder / LEDGER) as ledger:
        mirror.start(ledger)
        ledger.record(call("a"))
    there = pulled(address, tmp_path / "there")
    open_mirror(address, there).push()  # and is killed
    assert keys(pulled(address, tmp_path / "third")) == {"a"}


def test_a_run_that_is_open_here_is_not_taken_over(address: Address, folder: Path) -> None:
    with mirrored(address, folder, ignore, begun=lambda: True) as mirror, Ledger(folder / LEDGER) as ledger:
        mirror.start(ledger)
        with (
            pytest.raises(SetupError, match="already open in process"),
            mirrored(address, folder, ignore, begun=lambda: True),
            Ledger(folder / LEDGER),
        ):
            pass
        ledger.record(call("a"))
        mirror.push()


def test_what_is_answered_while_the_ledger_closes_is_copied_too(address: Address, folder: Path, tmp_path: Path) -> None:
    with mirrored(address, folder, ignore, begun=lambda: True) as mirror, Ledger(folder / LEDGER) as ledger:
        mirror.start(ledger)
        ledger.on_close(lambda: ledger.record(call("last")))
    assert keys(pulled(address, tmp_path / "there")) == {"last"}


def test_only_new_contents_are_uploaded_and_old_ones_removed(server: Store, address: Address, folder: Path) -> None:
    mirror = open_mirror(address, folder)
    (folder / "same.json").write_text("{}")
    mirror.push()
    assert len(objects(server, address)) == 2  # the two files with "{}" are one object
    server.requests.clear()
    mirror.push()
    assert not server.requested("PUT")
    (folder / "config.toml").write_text("quick = false\n")
    mirror.push()
    assert len(server.requested("PUT")) == 2  # the file, then the manifest
    assert server.requested("PUT")[-1].endswith("/manifest.json")
    assert len(objects(server, address)) == 2


def test_an_upload_that_breaks_off_leaves_the_former_state(
    server: Store, address: Address, folder: Path, tmp_path: Path
) -> None:
    mirror = open_mirror(address, folder)
    mirror.push()
    (folder / "config.toml").write_text("quick = false\n")
    (folder / "results.json").write_text("[1]")
    server.refusals.append(Refusal("AccessDenied", 403, "PUT", "manifest.json"))
    with pytest.raises(SetupError, match="access is denied"):
        mirror.push()
    there = pulled(address, tmp_path / "there")
    assert (there / "config.toml").read_text() == "quick = true\n"
    assert not (there / "results.json").exists()
    assert len(objects(server, address)) == 4

    server.refusals.clear()
    copy = RunCopy(address, folder, open_store())  # of the next process
    copy.open()
    copy.remove_leftovers()
    assert len(objects(server, address)) == 2


def test_of_two_machines_the_later_one_takes_over_and_the_other_stops(
    address: Address, folder: Path, tmp_path: Path
) -> None:
    first = open_mirror(address, folder)
    first.push()
    there = pulled(address, tmp_path / "there")
    second = open_mirror(address, there)
    (folder / "config.toml").write_text("from the first\n")
    with pytest.raises(SetupError, match=rf"is now written by process {os.getpid()} on .*, so this process stopped"):
        first.push()
    (there / "config.toml").write_text("from the second\n")
    second.push()
    assert (pulled(address, tmp_path / "third") / "config.toml").read_text() == "from the second\n"


def test_a_process_whose_run_was_taken_over_asks_no_more(address: Address, folder: Path) -> None:
    def ask() -> None:
        with mirrored(address, folder, ignore, begun=lambda: True) as mirror, Ledger(folder / LEDGER) as ledger:
            mirror.start(ledger)
            open_mirror(address, folder)
            ledger.record(call("a"))
            mirror.renew_soon()
            for number in range(1000):
                ledger.record(call(f"{number}"))
                time.sleep(0.01)

    with pytest.raises(SetupError, match="is now written by"):
        ask()
    assert len(keys(folder)) < 1000


def test_a_write_between_the_look_and_the_write_is_noticed(server: Store, address: Address, folder: Path) -> None:
    """By the condition in the request, where the store knows it."""
    first = open_mirror(address, folder)
    server.refusals.append(Refusal("PreconditionFailed", 412, "PUT", "manifest.json"))
    with pytest.raises(SetupError, match="is now written by"):
        first.push()
    (condition,) = {
        headers.get("if-match", "")
        for method, path, headers in server.requests
        if path.endswith("manifest.json") and "if-match" in headers
    }
    assert condition.startswith('"')


def test_a_run_that_never_began_leaves_nothing(server: Store, address: Address, folder: Path) -> None:
    def fail() -> None:
        with mirrored(address, folder, ignore, begun=lambda: False) as mirror, Ledger(folder / LEDGER) as ledger:
            mirror.start(ledger)
            assert read_manifest(address, open_store()) is not None
            raise SetupError("wrong")

    with pytest.raises(SetupError, match="wrong"):
        fail()
    assert read_manifest(address, open_store()) is None
    assert not objects(server, address)


def test_the_run_goes_on_while_s3_is_away_and_says_at_the_end_what_is_missing(
    server: Store, address: Address, folder: Path
) -> None:
    said: list[str] = []

    def ask() -> None:
        with mirrored(address, folder, said.append, begun=lambda: True) as mirror, Ledger(folder / LEDGER) as ledger:
            mirror.start(ledger)
            server.refusals.append(Refusal("ExpiredToken"))
            ledger.record(call("a"))
            mirror.renew_soon()
            deadline = time.monotonic() + 20
            while not said and time.monotonic() < deadline:
                time.sleep(0.02)

    with pytest.raises(SetupError, match=r"The run is finished in .* s3://.* have expired"):
        ask()
    assert "have expired" in said[0]
    assert "The run goes on here" in said[0]
    assert keys(folder) == {"a"}


def test_a_manifest_cannot_write_outside_the_run(server: Store, address: Address, folder: Path, tmp_path: Path) -> None:
    open_mirror(address, folder).push()
    path = server.folder / BUCKET / address.key / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../up.txt"] = manifest["files"]["config.toml"]
    client = open_store().client
    client.put_object(Bucket=BUCKET, Key=f"{address.key}/manifest.json", Body=json.dumps(manifest).encode())
    with pytest.raises(SetupError, match="cannot be a file below"):
        pulled(address, tmp_path / "there")
    assert not list(tmp_path.rglob("up.txt"))


def test_a_damaged_object_is_noticed(server: Store, address: Address, folder: Path, tmp_path: Path) -> None:
    mirror = open_mirror(address, folder)
    mirror.push()
    digest = mirror.copy.manifest.files["config.toml"].sha256
    open_store().client.put_object(Bucket=BUCKET, Key=f"{address.key}/objects/{digest}", Body=b"quick = trUe\n")
    with pytest.raises(SetupError, match=r"config\.toml in it is damaged"):
        pulled(address, tmp_path / "there")


def test_a_folder_that_is_ahead_stays_and_one_that_is_behind_is_kept_aside(
    address: Address, folder: Path, tmp_path: Path
) -> None:
    open_mirror(address, folder).push()
    (folder / "config.toml").write_text("ahead of its copy\n")
    assert bring_up_to_date(address, folder, open_store(), ignore) == folder
    assert (folder / "config.toml").read_text() == "ahead of its copy\n"

    there = pulled(address, tmp_path / "there")
    (there / "config.toml").write_text("from there\n")
    open_mirror(address, there).push()
    said: list[str] = []
    bring_up_to_date(address, folder, open_store(), said.append)
    assert (folder / "config.toml").read_text() == "from there\n"
    (aside,) = folder.parent.glob("run.before-*")
    assert (aside / "config.toml").read_text() == "ahead of its copy\n"
    assert str(aside) in said[0]


def test_a_run_in_s3_is_read_like_a_folder(address: Address, folder: Path) -> None:
    open_mirror(address, folder).push()
    assert (local(str(address)) / "config.toml").read_text() == "quick = true\n"
    assert (local(f"{address}/programs/rag") / "program.json").read_text() == "{}"


WAITS = """
import sys, time
from pathlib import Path
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.s3.address import address_of
from synth_dspy.core.s3.mirror import mirrored
sys.path.insert(0, "tests")
from test_s3_runs import call
folder = Path(sys.argv[2])
with mirrored(address_of(sys.argv[1]), folder, print, begun=lambda: True) as mirror:
    with Ledger(folder / "ledger.sqlite") as ledger:
        mirror.start(ledger)
        ledger.record(call("a"))
        print("ready", flush=True)
        time.sleep(60)
"""


def test_sigterm_copies_the_last_state(address: Address, folder: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WAITS, str(address), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in err
    assert keys(pulled(address, tmp_path / "there")) == {"a"}


@pytest.mark.slow
def test_a_killed_compile_is_resumed_in_another_workspace_from_s3_alone(server: Store, tmp_path: Path) -> None:
    """Documents and runs are in S3; the answers come from a loopback server that logs what it answered."""
    log = tmp_path / "answered"
    log.touch()

    def answered() -> list[str]:
        return log.read_text().splitlines()

    client = open_store().client
    for path in (ROOT / "data" / "contracts").rglob("*.*"):
        key = f"contracts/{path.relative_to(ROOT / 'data' / 'contracts').as_posix()}"
        client.upload_file(str(path), BUCKET, key)
    for name in ("one", "other"):
        for part in ("programs", "optimizers", "eval", "data"):
            shutil.copytree(ROOT / part, tmp_path / name / part, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("SYNTH_DSPY_HOME")
    with subprocess.Popen(
        command(Behaviour(latency_s=0.02, log=str(log))), stdout=subprocess.PIPE, text=True
    ) as models:
        url = f"http://127.0.0.1:{models.stdout.readline().strip()}/v1"
        flags = ["--models.student", "openai/mock", "--models.teacher", "openai/mock", "--models.api-base", url]
        places = [f"s3://{BUCKET}/contracts/documents", f"s3://{BUCKET}/contracts/questions.jsonl"]
        flags += [
            "--task.documents",
            places[0],
            "--task.labelled",
            places[1],
            "--evaluation.arms",
            "rag",
            "--limit",
            "8",
        ]

        def start(workspace: str, *args: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "synth_dspy.compile", "contract_qa", *args, "--runs", f"s3://{BUCKET}/runs"],
                cwd=tmp_path / workspace,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        process = start("one", "--quick", *flags)
        while len(answered()) < 8 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(1)  # calls that are in flight are still answered
        (copy,) = (server.folder / BUCKET / "runs" / "contract_qa").iterdir()
        there = pulled(Address(BUCKET, f"runs/contract_qa/{copy.name}"), tmp_path / "saved")
        lost = len(answered()) - (len(keys(there)) if (there / LEDGER).exists() else 0)
        shutil.rmtree(tmp_path / "one")
        process = start("other", "--resume", copy.name, "--trust", "--api-base", url)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        models.kill()
    resumed = tmp_path / "other" / "runs" / "contract_qa" / copy.name
    assert len(answered()) - len(keys(resumed)) == lost  # only what the copy lacked was asked again
    assert (copy / "results.json").read_bytes() == (resumed / "results.json").read_bytes()
    assert (copy / "report.html").stat().st_size > 0
