"""Documents, files and weights in S3 are read through a copy that follows them; whatever goes wrong is one sentence."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import BUCKET, Refusal, Store, serving

from synth_dspy.core.errors import SetupError
from synth_dspy.core.s3 import objects, transfer
from synth_dspy.core.s3.address import Address, address_of, is_address
from synth_dspy.core.s3.client import open_store
from synth_dspy.core.s3.reading import local


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with serving(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def s3(server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client, with the environment and the cache set."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    yield open_store().client
    server.requests.clear()
    server.refusals.clear()
    server.before = None


def put(client: Any, folder: str, **texts: str) -> str:
    for name, text in texts.items():
        client.put_object(Bucket=BUCKET, Key=f"{folder}/{name.replace('__', '/')}.txt", Body=text.encode())
    return f"s3://{BUCKET}/{folder}"


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def refused(address: str | Path) -> str:
    with pytest.raises(SetupError) as error:
        local(address)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("given", ["s3://bucket/a/b", Path("s3://bucket/a/b"), "S3://bucket/a/b/", "s3:/bucket/a/b"])
def test_an_address_is_recognised_as_a_text_and_as_a_path(given: str | Path) -> None:
    assert address_of(given) == Address("bucket", "a/b")


def test_a_path_is_returned_as_it_is(tmp_path: Path) -> None:
    assert not is_address(tmp_path)
    assert local(tmp_path) == tmp_path
    assert local("data/s3/rows.jsonl") == Path("data/s3/rows.jsonl")


def test_only_changed_objects_are_fetched_again(s3: Any, server: Store) -> None:
    address = put(s3, "follow", a="one", b="two", sub__c="three")
    put(s3, "follow-2", other="of another folder")
    folder = local(address)
    assert folder.name == "follow"
    assert contents(folder) == {"a.txt": "one", "b.txt": "two", "sub/c.txt": "three"}

    server.requests.clear()
    put(s3, "follow", a="ONE")
    s3.delete_object(Bucket=BUCKET, Key="follow/sub/c.txt")
    assert local(Path(address)) == folder
    assert contents(folder) == {"a.txt": "ONE", "b.txt": "two"}
    assert server.requested("GET", ".txt") == [f"/{BUCKET}/follow/a.txt"]

    (folder / "b.txt").unlink()  # by hand
    assert contents(local(address)) == {"a.txt": "ONE", "b.txt": "two"}


def test_an_object_keeps_its_name_and_may_become_a_folder(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="data/rows.jsonl", Body=b"{}\n")
    path = local(f"s3://{BUCKET}/data/rows.jsonl")
    assert path.name == "rows.jsonl"
    assert path.read_text() == "{}\n"
    s3.delete_object(Bucket=BUCKET, Key="data/rows.jsonl")
    s3.put_object(Bucket=BUCKET, Key="data/rows.jsonl/part", Body=b"{}\n")
    assert contents(local(f"s3://{BUCKET}/data/rows.jsonl")) == {"part": "{}\n"}


@pytest.mark.parametrize("name", ["partial", "etags.json", ".lock"])
def test_the_cache_keeps_none_of_its_own_files_where_a_copy_lies(s3: Any, server: Store, name: str) -> None:
    address = put(s3, f"folders/{name}", a="one", sub__b="two")
    s3.put_object(Bucket=BUCKET, Key=f"objects/{name}", Body=b"whole")
    for _ in range(2):
        assert contents(local(address)) == {"a.txt": "one", "sub/b.txt": "two"}
        copied = local(f"s3://{BUCKET}/objects/{name}")
        assert (copied.name, copied.read_text()) == (name, "whole")
    assert len(server.requested("GET", ".txt")) == 2
    assert len(server.requested("GET", f"objects/{name}")) == 1


def test_a_large_object_travels_in_parts_both_ways(
    s3: Any, server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PART", 5 * 2**20)
    source = tmp_path / "model.gguf"
    source.write_bytes(b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * 1500)  # 12 MB
    transfer.upload(open_store(), Address(BUCKET, "weights/model.gguf"), source)
    assert len([1 for method, path, _ in server.requests if method == "PUT" and path.endswith("model.gguf")]) == 3
    copy = local(f"s3://{BUCKET}/weights/model.gguf")
    assert copy.read_bytes() == source.read_bytes()
    ranges = [headers["range"] for method, _, headers in server.requests if method == "GET" and "range" in headers]
    assert len(ranges) == 3


def test_weights_in_s3_are_known_by_their_content(s3: Any) -> None:
    from synth_dspy.models.embedded.fingerprint import content_of, names_in_keys
    from synth_dspy.models.weights.registry import resolve

    address = f"s3://{BUCKET}/weights/tiny.gguf"
    s3.put_object(Bucket=BUCKET, Key="weights/tiny.gguf", Body=b"weights")
    path = resolve(address)
    assert path.read_bytes() == b"weights"
    assert names_in_keys(f"embedded/{address}")[0] == f"embedded/sha256:{content_of(path)}"


def test_settings_keep_the_address_and_the_task_gets_a_path(s3: Any, workspace: Path) -> None:
    """So that a run's configuration means the same on another machine."""
    from synth_dspy.core.config import absolute, compile_settings, to_toml
    from synth_dspy.pipeline.saved import build_task

    model = compile_settings(workspace / "programs" / "doc_qa.py")
    address = put(s3, "handbook", page="The office opens at nine o'clock in the morning.\n" * 3)
    config = absolute(model.model_validate({"task": {"documents": address}, "runs": f"s3://{BUCKET}/runs"}))
    assert f'documents = "{address}"' in to_toml(config)
    assert f'runs = "s3://{BUCKET}/runs"' in to_toml(config)
    assert config.runs_here == Path("runs")
    documents = build_task(workspace, "doc_qa", config).source.read(None).documents
    assert [document.id for document in documents] == ["page"]


def test_feedback_is_read_from_s3(s3: Any) -> None:
    from synth_dspy.training.feedback import read_feedback

    row = b'{"question": "When?", "answer": "At nine.", "good": true}\n'
    s3.put_object(Bucket=BUCKET, Key="feedback.jsonl", Body=row)
    examples, left_out = read_feedback(Path(f"s3://{BUCKET}/feedback.jsonl"), ["question"])
    assert [example.question for example in examples] == ["When?"]
    assert left_out == 0


def test_what_changes_while_it_is_read_is_read_again_once(s3: Any, server: Store) -> None:
    address = put(s3, "moving", page="first")
    server.refusals.append(Refusal("PreconditionFailed", 412, "GET", "page.txt", times=1))
    assert contents(local(address)) == {"page.txt": "first"}
    server.refusals.append(Refusal("PreconditionFailed", 412, "GET", "page.txt"))
    put(s3, "moving", page="third")
    assert "page.txt changed while it was read" in refused(address)


@pytest.mark.parametrize("key", ["bad/../../up.txt", "bad/a//b.txt", "bad/./a.txt", "bad/" + "n" * 300])
def test_a_key_that_leads_out_of_the_folder_is_refused(
    s3: Any, server: Store, monkeypatch: pytest.MonkeyPatch, key: str, tmp_path: Path
) -> None:
    listing = {"Contents": [{"Key": key, "Size": 1, "ETag": '"x"'}]}
    monkeypatch.setattr(s3, "list_objects_v2", lambda **_: {})
    monkeypatch.setattr(s3, "get_paginator", lambda _: type("Pages", (), {"paginate": lambda self, **_: [listing]})())
    assert "cannot be a file below" in refused(f"s3://{BUCKET}/bad")
    assert not list(tmp_path.rglob("up.txt"))


def test_too_much_is_refused_before_it_is_fetched(s3: Any, server: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    address = put(s3, "much", page="x" * 2000)
    monkeypatch.setenv("SYNTH_DSPY_S3_MAX_GB", "0.000001")
    assert "more than the 1e-06 GB that are fetched" in refused(address)
    assert not server.requested("GET", "page.txt")
    monkeypatch.setenv("SYNTH_DSPY_S3_MAX_GB", "many")
    assert "SYNTH_DSPY_S3_MAX_GB" in refused(address)


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (Refusal("ExpiredToken"), "have expired"),
        (Refusal("InvalidAccessKeyId", 403), "AWS does not accept the credentials"),
        (Refusal("AccessDenied", 403), "access is denied: the credentials need s3:ListBucket"),
        (Refusal("AccessDenied", 403, text="not authorized to perform kms:Decrypt"), "the KMS key cannot be used"),
        (Refusal("KMS.DisabledException"), "the KMS key cannot be used"),
        (Refusal("AuthorizationHeaderMalformed", headers={"x-amz-bucket-region": "eu-west-1"}), "is in eu-west-1"),
        (Refusal("RequestTimeTooSkewed", 403), "the clock of this machine is wrong"),
        (Refusal("SlowDown", 503), "throttling"),
        (Refusal("InvalidObjectState", 403, "GET", "page.txt"), "it is archived"),
        (Refusal("SomethingNew", 418, text="odd"), "SomethingNew: odd"),
    ],
)
def test_what_s3_refuses_is_one_sentence(s3: Any, server: Store, refusal: Refusal, says: str) -> None:
    address = put(s3, "refused", page="text")
    server.refusals.append(refusal)
    message = refused(address)
    assert says in message
    assert address in message


def test_wrong_keys_are_refused_by_their_signature(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = put(s3, "signed", page="text")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert "AWS does not accept the credentials" in refused(address)


def test_without_credentials_or_with_a_wrong_profile(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "needs AWS credentials, and none were found" in refused(f"s3://{BUCKET}/docs")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "correct AWS_PROFILE" in refused(f"s3://{BUCKET}/docs")


def test_without_a_network(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert "could not be reached" in refused(f"s3://{BUCKET}/docs")


def test_what_is_not_there(s3: Any, server: Store) -> None:
    assert "There is nothing at s3://bucket/nothing" in refused("s3://bucket/nothing")
    assert "there is no bucket 'buckte'" in refused("s3://buckte/docs")
    for nameless in ("s3://", Path("s3://"), "s3:///docs"):
        assert "names no bucket" in refused(nameless)
    server.refusals.append(Refusal("NoSuchKey", 404, "HEAD", "gone.txt", headers={"x-amz-delete-marker": "true"}))
    assert "it was deleted; the bucket keeps versions" in refused("s3://bucket/gone.txt")


def test_requester_pays_and_kms_are_sent_with_every_request(
    s3: Any, server: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = put(s3, "paid", page="text")
    monkeypatch.setenv("SYNTH_DSPY_S3_REQUESTER_PAYS", "1")
    monkeypatch.setenv("SYNTH_DSPY_S3_KMS_KEY", "alias/runs")
    server.requests.clear()
    local(address)
    assert {headers.get("x-amz-request-payer") for _, _, headers in server.requests} == {"requester"}
    (tmp_path / "file").write_text("text")
    transfer.upload(open_store(), Address(BUCKET, "paid/file"), tmp_path / "file")
    objects.upload_file(tmp_path / "file", f"{address}/job/rows.jsonl")
    objects.write_text(f"{address}/job/input.jsonl", "one\ntwo\n")
    written = [headers for method, _, headers in server.requests if method == "PUT"]
    assert len(written) == 3
    assert {headers.get("x-amz-server-side-encryption") for headers in written} == {"aws:kms"}
    assert {headers.get("x-amz-server-side-encryption-aws-kms-key-id") for headers in written} == {"alias/runs"}
    assert list(objects.read_lines(f"{address}/job/input.jsonl")) == ["one", "two"]
    objects.download_file(f"{address}/job/rows.jsonl", tmp_path / "new" / "rows.jsonl")
    assert (tmp_path / "new" / "rows.jsonl").read_text() == "text"
    assert objects.remove_folder(f"{address}/job") == 2
    assert objects.addresses_in(address) == [f"{address}/file", f"{address}/page.txt"]
    assert {headers.get("x-amz-request-payer") for _, _, headers in server.requests} == {"requester"}


def test_what_cannot_be_copied_is_one_sentence(s3: Any, server: Store, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^Could not copy .*/missing to s3://bucket/job/missing: No such file"):
        objects.upload_file(tmp_path / "missing", "s3://bucket/job/missing")
    with pytest.raises(SetupError, match=r"^Could not read s3://bucket/job/gone: there is nothing at that address"):
        objects.download_file("s3://bucket/job/gone", tmp_path / "gone")
    assert not list(tmp_path.iterdir())
    server.refusals.append(Refusal("AccessDenied", 403, "PUT"))
    with pytest.raises(SetupError, match=r"^Could not write s3://bucket/job/file: access is denied"):
        objects.write_text("s3://bucket/job/file", "text")
    with pytest.raises(SetupError, match=r"'bucket/job' is not an address on S3: write s3://bucket/folder"):
        objects.addresses_in("bucket/job")


def test_without_boto3_the_extra_is_named(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("AWS_PROFILE", "another")  # a store that is not open yet
    assert "synth_dspy[aws]" in refused(f"s3://{BUCKET}/docs")


def test_a_command_reads_from_s3_what_it_only_reads(
    s3: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from synth_dspy.cli import choose, evaluate, versions

    monkeypatch.chdir(workspace)
    address = put(s3, "items", one="{}")
    with pytest.raises(SetupError, match=r"home/s3/bucket/\w+/one\.txt, line 1"):
        evaluate.main(["--items", f"{address}/one.txt", "--scores", str(tmp_path / "scores")])
    with pytest.raises(SetupError, match=r"home/s3/bucket/\w+/items is not a finished run"):
        choose.main([address])
    with pytest.raises(SetupError, match="--runs is in S3: this command takes a path on this machine"):
        versions.main(["doc_qa", "--runs", "s3://bucket/runs"])


def test_the_snippet_in_the_documentation_names_places_in_s3(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth_dspy.pipeline import compile

    started: list[Any] = []
    monkeypatch.setattr(compile, "start", lambda here, name, config, **_: started.append((name, config)))
    monkeypatch.chdir(workspace)
    text = (workspace / "docs" / "s3.md").read_text(encoding="utf-8")
    code = re.search(r"^    import synth_dspy\n(?:    .*\n|\n)+", text, re.MULTILINE)
    assert code is not None
    exec(textwrap.dedent(code[0]), {})
    ((name, config),) = started
    assert name == "doc_qa"
    assert address_of(config.task.documents) == Address("bucket", "handbook")
    assert address_of(config.runs) == Address("bucket", "runs")
