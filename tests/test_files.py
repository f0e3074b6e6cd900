"""A file is written whole, or what was there stays."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from synth_dspy.core.io.files import write_whole


def test_text_comes_through_as_it_is_in_a_folder_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "new" / "text.md"
    for text in ("ä\r\n", ""):
        write_whole(path, text)
        assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("trouble", ["a full disk", "half a character", "an interrupt"])
def test_what_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    def fail(error: BaseException) -> None:
        raise error

    path, text = tmp_path / "text.md", "new"
    path.write_text("old")
    error: type[BaseException] = UnicodeEncodeError
    if trouble == "half a character":
        text = "new \ud83c"
    elif trouble == "a full disk":
        error = OSError
        monkeypatch.setattr(Path, "replace", lambda *_: fail(OSError(errno.ENOSPC, "No space left on device")))
    else:
        error = KeyboardInterrupt
        monkeypatch.setattr(Path, "replace", lambda *_: fail(KeyboardInterrupt()))
    with pytest.raises(error):
        write_whole(path, text)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"text.md": "old"}
