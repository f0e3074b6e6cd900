"""The tokenizer that is kept: made once, and never the reason that a model cannot be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import openvino_genai
import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedded import tokenizer
from synth_dspy.models.embedded.tokenizer import open_tokenizer
from synth_dspy.models.weights.gguf import Header

SAVED = "openvino_tokenizer.xml"


class FakeTokenizer:
    """OpenVINO's tokenizer, as far as its files go; `failing` says which of its ways fail."""

    failing: ClassVar[tuple[str, ...]] = ()
    opened: ClassVar[list[str]] = []

    def __init__(self, path: str, enable_save_ov_model: bool = False) -> None:
        self.how = "save" if enable_save_ov_model else "read" if Path(path).is_dir() else "make"
        FakeTokenizer.opened.append(self.how)
        if self.how in FakeTokenizer.failing:
            raise RuntimeError("basic_ios::clear: iostream error")
        if enable_save_ov_model:
            Path(path).with_name(SAVED).write_text("tokenizer")


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(openvino_genai, "Tokenizer", FakeTokenizer)
    monkeypatch.setattr(tokenizer, "read_header", lambda path: Header({}, {}, {}, path.read_text()))
    monkeypatch.setattr(FakeTokenizer, "failing", ())
    monkeypatch.setattr(FakeTokenizer, "opened", [])
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))


def model(tmp_path: Path, name: str, vocabulary: str) -> Path:
    path = tmp_path / name
    path.write_text(vocabulary)
    return path


def how(path: Path) -> str:
    made: Any = open_tokenizer(path)
    return str(made.how)


def test_it_is_made_once_for_all_models_with_the_same_vocabulary(tmp_path: Path) -> None:
    base, tuned, other = (model(tmp_path, *each) for each in (("a", "abc"), ("b", "abc"), ("c", "abd")))
    assert [how(base), how(tuned), how(base), how(other)] == ["read"] * 4
    assert FakeTokenizer.opened.count("save") == 2


@pytest.mark.parametrize("failing", [("save",), ("read",)])
def test_what_cannot_be_kept_or_read_is_made_each_time(tmp_path: Path, failing: tuple[str, ...]) -> None:
    path = model(tmp_path, "a", "abc")
    FakeTokenizer.failing = failing
    assert [how(path), how(path)] == ["make", "make"]
    FakeTokenizer.failing = ()
    assert how(path) == "read"  # nothing damaged was left behind


@pytest.mark.parametrize("error", [SetupError("cannot write the cache"), OSError(30, "Read-only file system")])
def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(name: str, write: Any) -> Path:
        raise error

    monkeypatch.setattr(tokenizer, "kept", refuse)
    assert how(model(tmp_path, "a", "abc")) == "make"
