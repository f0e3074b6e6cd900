"""What the keys of calls name a model by: its weights, wherever they lie."""

from __future__ import annotations

from pathlib import Path

from synth_dspy.models.embedded.fingerprint import names_in_keys


def test_keys_name_a_model_by_what_it_is_not_by_where_it_lies(tmp_path: Path) -> None:
    assert names_in_keys("embedded/smollm2-135m-instruct") == ["embedded/smollm2-135m-instruct"]
    one, other = tmp_path / "one" / "model.gguf", tmp_path / "other" / "renamed.gguf"
    for path in (one, other):
        path.parent.mkdir()
        path.write_bytes(b"GGUF" + bytes(range(256)) * 40_000)
    name, *older = names_in_keys(f"embedded/{one}")
    assert older == [f"embedded/{one}"]  # as it stands in the ledgers of earlier versions
    assert names_in_keys(f"embedded/{other}")[0] == name
    with other.open("r+b") as file:
        file.seek(5_000_000)
        file.write(bytes(1 << 19))
    assert names_in_keys(f"embedded/{other}")[0] != name


def test_keys_name_a_tuned_model_by_its_training(tmp_path: Path) -> None:
    training = "sft-0123456789abcdef"
    names = []
    for where in ("here", "there"):
        folder = tmp_path / where / "adapters" / training
        folder.mkdir(parents=True)
        (folder / "model.gguf").write_bytes(where.encode())
        (folder / "spec.json").write_text("{}")
        (folder / "result.json").write_text('{"method": "sft", "fingerprint": "0123456789abcdef"}')
        names.append(f"embedded/{folder / 'model.gguf'}")
    here, there = names
    answered = ["embedded/smollm2-135m-instruct", here, f"embedded/{tmp_path}/adapters/dpo-0123456789abcdef/model.gguf"]
    assert names_in_keys(there, answered) == [f"embedded/{training}", there, here]


def test_a_folder_is_known_by_what_decides_its_replies(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    name = names_in_keys(f"embedded/{folder}")[0]
    (folder / "README.md").write_text("words")
    assert names_in_keys(f"embedded/{folder.rename(tmp_path / 'moved')}")[0] == name
    (tmp_path / "moved" / "chat_template.jinja").write_text("{{ messages[0] }}")
    assert names_in_keys(f"embedded/{tmp_path / 'moved'}")[0] != name
