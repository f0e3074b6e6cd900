"""A file is written whole, or what was there stays."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synth_dspy.core.io.files import replacing, write_whole
from synth_dspy.core.io.locks import lock_file


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


def test_a_folder_takes_anothers_place_whole_and_a_file_never_takes_a_folders(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing(folder) as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    with pytest.raises(OSError, match="directory"):
        write_whole(folder, "text")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_a_lock_keeps_out_threads_and_is_given_back_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = lock_file(path)
    assert first is not None
    os.write(first, b"whose it is")
    assert lock_file(path) is None
    assert path.read_bytes() == b"whose it is"
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(lock_file, path, wait_s=60)
        os.close(first)
        second = waiting.result()
    assert second is not None
    os.close(second)
