"""A saved program or a run that somebody else made: what it names is listed, and not used without a word."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from echo import Reply, answering, chat
from test_rescore import NEW, lines, make_run

import synth_dspy
from synth_dspy.cli import compile as compile_verb
from synth_dspy.cli import evaluate, export, train
from synth_dspy.core import signing
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.run import start
from synth_dspy.core.workspace import WORKSPACE_FILE, task_file
from synth_dspy.pipeline import compile as compiling
from synth_dspy.pipeline import saved

KEY = "sk-Zq7-Kd29xWvT41mNbY8u"
EVIL = "http://198.51.100.7:9/v1"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def _here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OTHER_SECRET", "the-value-of-another-variable")
    mask = os.umask(0o077)
    yield
    os.umask(mask)


@pytest.fixture
def shared(tmp_path: Path, workspace: Path) -> Path:
    """A program that somebody else made with nothing but defaults."""
    folder = make_run(tmp_path, workspace, ("rag",)) / "programs" / "rag"
    change(folder, lambda about: about["config"].update(task={}, runs="runs"))
    return folder


def change(folder: Path, how: Change, name: str = saved.ABOUT) -> Path:
    """Rewrite one of a program's files, as somebody else would."""
    value = json.loads((folder / name).read_text())
    how(value)
    (folder / name).write_text(json.dumps(value))
    return folder


def settings(**config: Any) -> Change:
    return lambda about: about["config"].update(config)


def predictor(**state: Any) -> Change:
    return lambda program: next(value for key, value in program.items() if key != "metadata").update(state)


ASKS: dict[str, tuple[Change, str]] = {
    "documents": (settings(task={"documents": "/etc"}), r"task\.documents = '/etc': is read"),
    "a path upwards": (settings(task={"documents": "data/../../x"}), r"task\.documents"),
    "labelled items": (settings(task={"labelled": "/etc/passwd"}), r"task\.labelled = '/etc/passwd'"),
    "a hosted student": (
        settings(models={"student": "openai/gpt-5"}),
        r"models\.student = 'openai/gpt-5': your questions are sent",
    ),
    "another provider": (settings(models={"student": "bedrock/x"}), r"models\.student = 'bedrock/x'"),
    "a hosted embedder": (settings(models={"embedder": "openai/e"}), r"models\.embedder = 'openai/e'"),
    "weights elsewhere": (settings(models={"student": "embedded//etc/x.gguf"}), r"models\.student.*weights outside"),
    "an embedder elsewhere": (settings(models={"embedder": "embedded/../x"}), r"models\.embedder.*weights outside"),
    "tuned weights elsewhere": (
        lambda about: about.update(weights="../../../x.gguf"),
        r"weights = .*outside its folder",
    ),
    "tuned weights by their path": (
        lambda about: about.update(weights="/etc/x.gguf"),
        r"weights = .*outside its folder",
    ),
}


@pytest.mark.parametrize("what", ASKS)
def test_what_it_asks_for_is_listed(shared: Path, what: str) -> None:
    how, line = ASKS[what]
    with pytest.raises(SetupError, match=rf"not made by you in this workspace.* trust=True allows it .*\n  - {line}"):
        synth_dspy.load(change(shared, how))


def test_a_link_out_of_the_workspace_is_no_file_of_it(shared: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    for name in ("programs", "data"):
        (place / name).mkdir(parents=True)
    (place / "programs" / "__init__.py").touch()
    shutil.copy("programs/contract_qa.py", place / "programs")
    (place / "data" / "link").symlink_to("/etc")
    (place / "data" / "own").mkdir()
    with pytest.raises(SetupError, match=r"task\.documents"):
        synth_dspy.load(change(shared, settings(task={"documents": str(place / "data" / "link")})), workspace=place)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        synth_dspy.load(change(shared, settings(task={"documents": str(place / "data" / "own")})), workspace=place)
    assert "trust" not in str(caught.value)


NAMES: dict[str, tuple[Change, str]] = {
    "an address": (
        settings(models={"student": "openai/x", "api_base": EVIL}),
        rf"models\.api_base = '{EVIL}'.*api_base=",
    ),
    "an address of a role": (
        settings(models={"student": "openai/x", "options": {"student": {"api_base": EVIL}}}),
        r"models\.options\.student\.api_base.*api_base=",
    ),
    "a variable": (
        settings(models={"student": "openai/x", "options": {"student": {"api_key_name": "OTHER_SECRET"}}}),
        r"student\.api_key_name = 'OTHER_SECRET'.*api_key_name=",
    ),
    "an address by another name": (
        settings(models={"student": "openai/x", "options": {"student": {"base_url": EVIL}}}),
        r"student\.base_url.*not used",
    ),
    "headers": (
        settings(models={"student": "openai/x", "options": {"student": {"extra_headers": {"X-To": "me"}}}}),
        r"student\.extra_headers.*not used",
    ),
    "a model that is an address": (
        settings(models={"student": f"huggingface/{EVIL}"}),
        r"models\.student.*not used",
    ),
}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("what", NAMES)
def test_an_address_or_a_key_is_the_caller_s_to_name(shared: Path, what: str, trust: bool) -> None:
    how, line = NAMES[what]
    with pytest.raises(SetupError, match=rf"name the address or the variable yourself:\n  - .*{line}"):
        synth_dspy.load(change(shared, how), trust=trust)


def test_a_model_of_its_own_in_the_state(shared: Path) -> None:
    change(shared, predictor(lm={"model": "openai/x", "api_base": EVIL, "cache": False}), saved.PROGRAM)
    with pytest.raises(SetupError, match=r"\.lm in program\.json = 'openai/x': that model is opened"):
        synth_dspy.load(shared)


@pytest.mark.slow
def test_a_trusted_program_goes_where_its_reader_says(shared: Path) -> None:
    """Neither to the addresses in its two files, nor with another variable's value."""
    change(shared, predictor(lm={"model": "openai/other", "api_base": EVIL, "temperature": 0.0}), saved.PROGRAM)
    with answering(lambda _: Reply(chat())) as server:
        program = synth_dspy.load(shared, trust=True, api_base=server.url)
        assert program(question="Which law governs?", document="agency").answer == "Oregon"
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        hosted = {"student": "openai/x", "embedder": "openai/e", "api_base": EVIL, "options": {}}
        hosted["options"] = {"student": {"api_key_name": "OTHER_SECRET"}}
        change(shared, settings(models=hosted))
        change(shared, predictor(lm=None), saved.PROGRAM)
        program = synth_dspy.load(shared, api_base=server.url, api_key_name="NO_SUCH_KEY")
        assert program(question="Which law governs?", document="agency").answer == "Oregon"
        assert "Authorization" not in server.headers[-1]


@pytest.mark.slow
def test_one_s_own_run_is_followed_and_a_changed_one_is_not(tmp_path: Path, workspace: Path) -> None:
    with answering(lambda _: Reply(chat())) as server:
        hosted = dict.fromkeys(("student", "embedder"), "openai/mock") | {"api_base": server.url}
        folder = make_run(tmp_path, workspace, ("rag",), **hosted) / "programs" / "rag"
        assert synth_dspy.load(folder)(question="Which law?", document="lease").answer == "Oregon"
        moved = shutil.copytree(folder.parents[1], tmp_path / "moved") / "programs" / "rag"
        assert synth_dspy.load(moved)(question="Which law?", document="lease").answer == "Oregon"
        for name in (saved.ABOUT, saved.PROGRAM):
            copied = shutil.copytree(folder.parents[1], tmp_path / name) / "programs" / "rag"
            how = settings(seed=7) if name == saved.ABOUT else predictor(demos=[{"question": "x"}])
            with pytest.raises(SetupError, match="not made by you"):
                synth_dspy.load(change(copied, how, name))


def test_a_signature_of_somebody_else_is_none(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, workspace, ("rag",)) / "programs" / "rag"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody"))
    for made in (False, True):
        with pytest.raises(SetupError, match=r"task\.documents"):
            synth_dspy.load(folder)
        if not made:
            assert signing.sign(workspace, "a") is not None
    key = tmp_path / "somebody" / "synth_dspy" / "signing.key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", 5, None, [], {"a": 1}])
def test_what_is_no_signature_signs_nothing(workspace: Path, signature: Any) -> None:
    signing.sign(workspace, "a")
    assert not signing.is_own(signature, workspace, "a")
    assert signing.is_own(signing.sign(workspace, {"a": 1}), workspace, {"a": 1})
    assert not signing.is_own(signing.sign(workspace, {"a": 1}), workspace / "x", {"a": 1})


def test_where_no_secret_can_be_kept_nothing_is_one_s_own(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert signing.sign(workspace, "a") is None
    folder = make_run(tmp_path, workspace, ("rag",)) / "programs" / "rag"
    with pytest.raises(SetupError, match=r"task\.documents"):
        synth_dspy.load(folder)


@pytest.mark.parametrize("nearest", [True, False])
def test_a_task_file_that_comes_along_is_not_run(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nearest: bool
) -> None:
    """Neither one inside the run, whose folder holds programs/ as a workspace does, nor one above it."""
    mark = tmp_path / "ran"
    place = tmp_path if nearest else shared.parents[1]
    (place / "programs").mkdir(exist_ok=True)
    (place / "programs" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')")
    (place / "programs" / "contract_qa.py").write_text("from synth_dspy import task\n@task\ndef contract_qa(): ...\n")
    if nearest:
        with pytest.raises(SetupError, match=rf"the code in {re.escape(str(tmp_path / 'programs'))} is run"):
            synth_dspy.load(shared)
    else:
        settings_read = saved.read_saved(shared, saved.Caller())
        assert settings_read.workspace == Path.cwd()
        monkeypatch.chdir(place)
        with pytest.raises(SetupError, match="No workspace found"):
            synth_dspy.load(shared)
    assert not mark.exists()


def test_functions_that_a_program_names_are_not_run(tmp_path: Path, shared: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(
        f"open({str(mark)!r}, 'w')\ndef f(x: int) -> int:\n    'Read-only.'\n    return x\n"
    )
    change(
        shared,
        lambda about: about.update(task="function_calling", config={"task": {"functions": str(tmp_path / "evil.py")}}),
    )
    with pytest.raises(SetupError, match=r"task\.functions = .*evil\.py': is read, and may be run"):
        synth_dspy.load(shared)
    assert not mark.exists()


@pytest.mark.parametrize(
    "url", ["sqlite:////etc/x.db", "postgresql://198.51.100.7/x", "duckdb:///x.duckdb", "/etc/x.db"]
)
def test_databases_that_a_program_names_are_not_opened(shared: Path, url: str) -> None:
    change(shared, lambda about: about.update(task="table_docs", config={"task": {"database": url}}))
    with pytest.raises(SetupError, match=r"task\.database = "):
        synth_dspy.load(shared)


def test_an_index_is_written_into_the_workspace_alone(shared: Path, tmp_path: Path) -> None:
    for runs in (str(tmp_path / "elsewhere"), "../elsewhere"):
        settings_read = saved.read_saved(change(shared, settings(runs=runs)), saved.Caller())
        assert settings_read.config.runs == Path("runs")
        trusted = saved.read_saved(shared, saved.Caller(trust=True))
        assert trusted.config.runs == Path("runs")


def nest(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


DAMAGE: dict[str, tuple[str, str]] = {
    "deep": (saved.PROGRAM, nest(100_000)),
    "less deep": (saved.PROGRAM, f'{{"generate": {{"demos": [{nest(900)}], "signature": {{}}}}}}'),
    "a state that is a number": (saved.PROGRAM, '{"generate": 5}'),
    "demos that are a text": (saved.PROGRAM, '{"generate": {"demos": "x"}}'),
    "an attribute of the predictor": (saved.PROGRAM, '{"generate": {"demos": [], "config": {"api_base": "http://x"}}}'),
    "a model that is a text": (saved.PROGRAM, '{"generate": {"lm": "openai/x"}}'),
    "a model without a name": (saved.PROGRAM, '{"generate": {"lm": {"api_base": "http://x"}}}'),
    "an engine without a class": (saved.PROGRAM, '{"generate": {"lm": {"model": "x", "engine": {}}}}'),
    "a list": (saved.PROGRAM, "[]"),
    "bytes": (saved.PROGRAM, "\udcff"),
    "no task": (saved.ABOUT, '{"config": {}}'),
    "a task that is a list": (saved.ABOUT, '{"task": ["contract_qa"], "config": {}}'),
    "a task that is a path": (saved.ABOUT, '{"task": "../contract_qa", "config": {}}'),
    "a task that is private": (saved.ABOUT, '{"task": "_contract_wording", "config": {}}'),
    "no config": (saved.ABOUT, '{"task": "contract_qa"}'),
    "a config that is a text": (saved.ABOUT, '{"task": "contract_qa", "config": "x"}'),
    "a setting that does not exist": (saved.ABOUT, '{"task": "contract_qa", "config": {"x": 1}}'),
    "a setting of another type": (saved.ABOUT, '{"task": "contract_qa", "config": {"models": 5}}'),
    "weights that are a number": (saved.ABOUT, '{"task": "contract_qa", "config": {}, "weights": 5}'),
    "weights with a zero": (saved.ABOUT, '{"task": "contract_qa", "config": {}, "weights": "a\\u0000b"}'),
    "an arm that is an object": (saved.ABOUT, '{"task": "contract_qa", "config": {}, "arm": {}}'),
    "a path with a zero": (saved.ABOUT, '{"task": "contract_qa", "config": {"task": {"documents": "a\\u0000b"}}}'),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_a_sentence(shared: Path, what: str) -> None:
    name, text = DAMAGE[what]
    (shared / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SetupError) as caught:
        synth_dspy.load(shared)
    assert "Traceback" not in str(caught.value)


def test_a_pipe_is_not_waited_for(shared: Path) -> None:
    (shared / saved.PROGRAM).unlink()
    os.mkfifo(shared / saved.PROGRAM)
    with pytest.raises(SetupError, match=r"program\.json is missing"):
        synth_dspy.load(shared)


def test_a_file_that_is_too_long_is_not_read(shared: Path) -> None:
    with open(shared / saved.PROGRAM, "wb") as file:
        file.truncate(1 << 40)  # a terabyte that takes no room
    with pytest.raises(SetupError, match="longer than 64 MB"):
        synth_dspy.load(shared)


def test_what_is_shown_moves_no_terminal(shared: Path) -> None:
    change(shared, settings(task={"documents": "/x\x1b[2J\u202e\n  - nothing"}))
    with pytest.raises(SetupError) as caught:
        synth_dspy.load(shared)
    assert not {"\x1b", "\u202e"} & set(str(caught.value))
    assert "\n  - nothing" not in str(caught.value)


def test_verbs_ask_for_the_flag(shared: Path, tmp_path: Path) -> None:
    change(shared, settings(task={"documents": "/etc"}))
    seeds = str(lines(tmp_path / "seeds.jsonl", NEW))
    for verb in (
        lambda: evaluate.main([str(shared), "--seeds", seeds]),
        lambda: export.main([str(shared), "--out", str(tmp_path / "out")]),
    ):
        with pytest.raises(SetupError, match=r"--trust allows it .*\n  - task\.documents"):
            verb()
    change(shared, settings(task={}, models={"judge": "openai/x", "api_base": EVIL}))
    with pytest.raises(SetupError, match=r"models\.api_base = .*use --api-base"):
        evaluate.main([str(shared), "--seeds", seeds, "--trust"])


def test_a_run_of_somebody_else_goes_on_only_when_told_so(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[Any] = []
    monkeypatch.setattr(compiling, "_run", lambda here, run, config, *rest: went.append(config))
    monkeypatch.setattr(compile_verb, "_show", lambda run, began: 0)
    model = compile_settings(task_file(workspace, "contract_qa"))
    config = model.model_validate({"task": {"documents": "/etc"}, "retention": {"text": "/etc/passwd"}})
    run = start(tmp_path / "runs", "contract_qa", config)
    args = ["contract_qa", "--resume", run.id, "--runs", str(tmp_path / "runs")]
    assert compile_verb.main(args) == 0  # one's own
    text = (run.folder / "config.toml").read_text()
    (run.folder / "config.toml").write_text(text + "\n")
    with pytest.raises(SetupError, match=r"--trust.*\n  - retention\.text = .*\n  - task\.documents = "):
        compile_verb.main(args)
    assert compile_verb.main([*args, "--trust"]) == 0
    (run.folder / "config.toml").write_text(text + f'\n[models]\nstudent = "openai/x"\napi_base = "{EVIL}"\n')
    (run.folder / "config.toml").write_text(
        f'[models]\nstudent = "openai/x"\napi_base = "{EVIL}"\n[training.options.grpo]\nreward = "a.b:c"\n'
    )
    with pytest.raises(SetupError, match=r"models\.api_base = .*--api-base"):
        compile_verb.main([*args, "--trust"])
    with pytest.raises(SetupError, match=r"training\.options\.grpo\.reward = 'a\.b:c'"):
        compile_verb.main([*args, "--api-base", "http://127.0.0.1:1/v1"])
    assert compile_verb.main([*args, "--trust", "--api-base", "http://127.0.0.1:1/v1"]) == 0
    assert went[-1].models.api_base == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize("own", [True, False])
def test_nothing_of_a_run_takes_effect_before_it_is_trusted(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    went: list[tuple[int, int]] = []

    def access() -> tuple[int, int]:
        mask = os.umask(0o077)
        os.umask(mask)
        return mask, stat.S_IMODE((run.folder / "run.log").stat().st_mode)

    monkeypatch.setattr(compiling, "_run", lambda *_: went.append(access()))
    monkeypatch.setattr(compile_verb, "_show", lambda *_: 0)
    config = compile_settings(task_file(workspace, "contract_qa")).model_validate(
        {"share": True, "retention": {"text": "/etc/passwd"}}
    )
    run = start(tmp_path / "runs", "contract_qa", config)
    (run.folder / "run.log").touch()
    if not own:
        (run.folder / "config.toml").open("a").write("\n")
    (run.folder / "run.log").chmod(0o666)
    args = ["contract_qa", "--resume", run.id, "--runs", str(tmp_path / "runs")]
    os.umask(0o022)  # which the fixture puts back
    if not own:
        with pytest.raises(SetupError, match=r"retention\.text"):
            compile_verb.main(args)
        assert access() == (0o022, 0o666)
    assert compile_verb.main(args if own else [*args, "--trust"]) == 0
    if not own:  # asked for nothing else, it goes on without trust, but not as open as it says
        (run.folder / "config.toml").write_text("share = true\n")
        assert compile_verb.main(args) == 0
    assert went == [(0o027, 0o640)] if own else [(0o027, 0o640), (0o077, 0o600)]


@pytest.mark.parametrize("place", ["run.log", "ledger.sqlite", "datasets", "programs/rag", "none/../circle"])
def test_links_out_of_a_run_of_somebody_else_are_not_followed(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    went: list[Any] = []
    monkeypatch.setattr(compiling, "_run", lambda *_: went.append(1))
    monkeypatch.setattr(compile_verb, "_show", lambda *_: 0)
    run = start(tmp_path / "runs", "contract_qa", compile_settings(task_file(workspace, "contract_qa"))())
    (run.folder / "config.toml").open("a").write("\n")
    (run.folder / "within").symlink_to("config.toml")
    args = ["contract_qa", "--resume", str(run.folder)]
    assert compile_verb.main(args) == 0
    (run.folder / "none").mkdir()
    link = run.folder / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(link.name if link.name == "circle" else tmp_path)
    with pytest.raises(SetupError, match=rf"--trust.*\n  - '.*/{link.name}' is a link to "):
        compile_verb.main(args)
    assert compile_verb.main([*args, "--trust"]) == 0
    assert len(went) == 2


def test_an_evaluation_is_not_written_where_a_link_of_somebody_else_leads(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (shared.parent.parent / "evaluations").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match=r"evaluations' is a link to .*elsewhere"):
        evaluate.main([str(shared), "--seeds", str(lines(tmp_path / "seeds.jsonl", NEW))])
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_workspace_that_a_run_notes_is_followed_where_it_is_one_s_own(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[tuple[Path, str]] = []
    monkeypatch.setattr(compiling, "_run", lambda here, run, *rest: went.append((here, run.resume_command)))
    monkeypatch.setattr(compile_verb, "_show", lambda run, began: 0)
    theirs = tmp_path / "theirs"
    shutil.copytree(workspace / "programs", theirs / "programs")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = start(tmp_path / "runs", "contract_qa", compile_settings(task_file(workspace, "contract_qa"))(), workspace)
    args = ["contract_qa", "--resume", str(run.folder)]
    for folder in (workspace, elsewhere, run.folder):
        monkeypatch.chdir(folder)
        assert compile_verb.main(args) == 0
    assert [here for here, _ in went] == [workspace] * 3

    (run.folder / WORKSPACE_FILE).write_text(f"{theirs}\n")  # nothing else of it was changed
    for folder in (elsewhere, run.folder):
        monkeypatch.chdir(folder)
        with pytest.raises(SetupError, match=rf"--trust.*\n  - the code in {theirs}/programs is run"):
            compile_verb.main(args)
    monkeypatch.chdir(workspace)  # where it was made, it is one's own
    assert compile_verb.main(args) == 0
    monkeypatch.chdir(elsewhere)
    assert compile_verb.main([*args, "--trust"]) == 0
    assert [here for here, _ in went[3:]] == [workspace, theirs]
    assert went[-1][1].endswith(f"--resume {run.folder} --trust")


def test_a_reward_of_somebody_else_is_not_run(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    spec = {"method": "grpo", "model": "smollm2-135m-instruct", "rows": str(rows), "reward": "evil:f", "workspace": "."}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(SetupError, match=r"runs evil:f of .*, which is not the current folder's workspace"):
        train.main([str(tmp_path / "spec.json")])


def test_a_program_of_an_earlier_version_names_the_engines_of_today(shared: Path, workspace: Path) -> None:
    earlier = {"class": "synth_dspy.lms.engine:EmbeddedEngine", "state": {}}
    change(shared, predictor(lm={"model": "embedded/smollm2-135m-instruct", "engine": earlier}), saved.PROGRAM)
    state = saved.read_saved(shared, saved.Caller(trust=True), workspace=workspace).state
    (engine,) = (value["lm"]["engine"]["class"] for value in state.values() if "lm" in value)
    assert engine == "synth_dspy.models.embedded.engine:EmbeddedEngine"
