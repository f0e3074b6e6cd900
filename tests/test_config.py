"""Settings: what a user can set, and the sentence for what cannot be set."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import CompileConfig, compile_settings, read_toml, task_settings, to_toml
from synth_dspy.core.errors import SetupError
from synth_dspy.pipeline.context import QUICK

TASK = '''
from pathlib import Path

from synth_dspy.core.task import task


@task
def shopping(folder: Path | None = None, budget: int = 5, name: str = "x"):
    """Lists.

    Args:
        folder: where the lists are,
            one a file.
        budget: what may be spent.
    """
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shopping.py"
    path.write_text(TASK)
    return path


def test_parameters_of_the_task_become_settings_without_importing_it(file: Path) -> None:
    file.write_text(TASK.replace("from pathlib", "raise RuntimeError('imported')\nfrom pathlib"))
    model = task_settings(file)
    assert model().model_dump() == {"folder": None, "budget": 5, "name": "x"}
    assert model.model_fields["folder"].description == "where the lists are, one a file."


def test_a_parameter_with_a_choice_takes_nothing_else(file: Path) -> None:
    file.write_text(TASK.replace('name: str = "x"', 'name: Literal["x", "y"] = "x"'))
    assert task_settings(file)(name="y").model_dump()["name"] == "y"
    with pytest.raises(ValidationError, match="'x' or 'y'"):
        task_settings(file)(name="z")


@pytest.mark.parametrize(
    ("signature", "says"),
    [("budget: dict = {}", "has type dict"), ("n: Literal[1] = 1", "has type Literal"), ("budget: int", "a default")],
)
def test_a_parameter_that_no_flag_can_set_is_named(file: Path, signature: str, says: str) -> None:
    file.write_text(TASK.replace('folder: Path | None = None, budget: int = 5, name: str = "x"', signature))
    with pytest.raises(SetupError, match=says):
        task_settings(file)


def test_a_file_without_a_task_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    with pytest.raises(SetupError, match="declares no task"):
        task_settings(path)


def test_configuration_survives_its_own_file(file: Path, tmp_path: Path) -> None:
    model = compile_settings(file)
    config = model.model_validate(
        {"task": {"folder": "here", "budget": 7}, "models": {"options": {"teacher": {"temperature": 0.3}}}, "seed": 4}
    )
    written = tmp_path / "config.toml"
    written.write_text(to_toml(config))
    assert read_toml(written, model) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models = 3", "models"),
        ("[models]\nstudnet = 'x'", "models.studnet"),
        ("[task]\nbudget = 'many'", "task.budget"),
        ("x = ", "not valid TOML"),
        ("[task]\nfolder = 5", r"task\.folder is 5: it is not a path, which is a text in quotes\.$"),
        ("words = 2", "words"),
    ],
)
def test_a_wrong_configuration_file_names_the_key(file: Path, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(SetupError, match=says):
        read_toml(path, compile_settings(file))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("sqlite:///shop%20it.db", "sqlite:///{here}/shop%20it.db"),
        ("sqlite:////data/shop.db", "sqlite:////data/shop.db"),
        ("shop.duckdb", "{here}/shop.duckdb"),
        ("postgresql://me@host/shop", "postgresql://me@host/shop"),
    ],
)
def test_a_database_is_the_same_in_any_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, stored: str
) -> None:
    file.write_text(TASK.replace('name: str = "x"', "name: DatabaseUrl | None = None"))
    monkeypatch.chdir(tmp_path)
    model = compile_settings(file)
    config = parse(model, verb="compile", description="", args=["--task.name", given])
    assert config.task.name == stored.format(here=tmp_path)
    (tmp_path / "config.toml").write_text(to_toml(config))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_toml(tmp_path / "config.toml", model) == config


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--evaluation.held_out", "-1", "--evaluation.held-out is -1: it should be greater than or equal to 1."),
        ("--words", "2", "--words is 2: it should be greater than or equal to 30."),
    ],
)
def test_a_number_out_of_bounds_is_one_sentence(
    file: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str, says: str
) -> None:
    with pytest.raises(SetupError) as caught:
        parse(compile_settings(file), verb="compile", description="", args=[flag, value])
    assert str(caught.value) == says
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--evaluation.held-out", "many"], "--evaluation.held-out is 'many': it should be a whole number"),
        (["--synthesis.train-on", "gild"], "invalid choice 'gild' for argument '--synthesis.train-on'"),
        (["--nothing"], "There is no option --nothing"),
    ],
)
def test_other_wrong_flags_are_one_sentence_too(
    file: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str
) -> None:
    with pytest.raises(SetupError) as caught:
        parse(compile_settings(file), verb="compile", description="", args=args)
    assert str(caught.value).startswith(says)
    assert "--------" not in str(caught.value)
    assert capsys.readouterr().err == ""


def test_what_a_message_shows_holds_no_password(file: Path, tmp_path: Path) -> None:
    class Own(CompileConfig):
        count: int = 1

    path = tmp_path / "wrong.toml"
    for text, shown in (("count = 'postgresql://bob:secret@host/x'", False), ("count = 'secret'", True)):
        path.write_text(text)
        with pytest.raises(SetupError, match=r"count.*it should be a valid integer") as raised:
            read_toml(path, Own)
        assert ("secret" in str(raised.value)) is shown
    path.write_text("[models.options]\nteacher = 'secret'")
    with pytest.raises(SetupError, match=r"models\.options\.teacher: it should be") as raised:
        read_toml(path, Own)
    assert "secret" not in str(raised.value)
    path.write_text("[models]\napi_key = 'secret'")
    with pytest.raises(
        SetupError, match=r"models\.api_key does not exist: put the key into an environment variable"
    ) as raised:
        read_toml(path, Own)
    assert "secret" not in str(raised.value)


def test_a_missing_configuration_file_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        read_toml(tmp_path / "none.toml", compile_settings(file))


def test_help_says_how_small_a_quick_run_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(compile_settings(file), verb="compile", description="", args=["--help"])
    help_text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        f"{QUICK['candidates']} candidates, {QUICK['held_out']} held-out questions and {QUICK['validation']} to"
        in help_text
    )


def test_a_path_that_is_not_utf_8_is_one_sentence() -> None:
    config = CompileConfig(runs=Path("runs\udcff\x1b"))
    with pytest.raises(SetupError, match=r"runs\\xff.* is not UTF-8 text: rename"):
        to_toml(config)
