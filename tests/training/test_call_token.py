"""A marker of calls: its place in the vocabulary, and that training, merged file and server agree on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.training.call_token import CallToken, find, renamed, set_rows
from tests.tiny import tiny_model

MARKER = "<tool_call>"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def reserving(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two reserved special tokens, as SmolLM2 has them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("reserving")
    torch.manual_seed(0)  # of the rows that are added
    model = AutoModelForCausalLM.from_pretrained(plain)
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<gh_stars>", "<empty_output>"]})
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(folder: Path) -> Any:
    from synth_dspy.training.base import load_tokenizer

    return load_tokenizer(folder)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def test_a_reserved_token_gives_its_place(reserving: Path) -> None:
    before = _tokenizer(reserving)
    token = find(before, MARKER, len(before))
    assert (token.text, token.replaces) == (MARKER, "<empty_output>")
    after = renamed(before, token)
    assert _ids(after, f"a{MARKER}b") == [*_ids(before, "a"), token.id, *_ids(before, "b")]
    assert after.decode([token.id], skip_special_tokens=True) == MARKER
    assert token.id not in after.all_special_ids
    assert "<empty_output>" not in after.get_vocab()
    assert len(after) == len(before)
    assert after.chat_template == before.chat_template
    assert (after.eos_token, after.bos_token) == (before.eos_token, before.bos_token)
    assert find(after, MARKER, len(after)) == CallToken(MARKER, token.id)  # known by now


def test_a_row_that_no_token_uses_is_taken(plain: Path) -> None:
    tokenizer = _tokenizer(plain)
    size = len(tokenizer)
    token = find(tokenizer, MARKER, size + 3)
    assert (token.id, token.replaces) == (size, "")
    assert _ids(renamed(tokenizer, token), MARKER) == [size]


def test_a_special_token_of_that_name_is_one_no_more(reserving: Path) -> None:
    tokenizer = _tokenizer(reserving)
    token = find(tokenizer, "<gh_stars>", len(tokenizer))
    assert token.replaces == "<gh_stars>"
    assert renamed(tokenizer, token).decode([token.id], skip_special_tokens=True) == "<gh_stars>"


def test_what_cannot_be_a_marker_is_refused(plain: Path) -> None:
    tokenizer = _tokenizer(plain)
    with pytest.raises(SetupError, match="has no token '<tool_call>'"):
        find(tokenizer, MARKER, len(tokenizer))
    with pytest.raises(SetupError, match="uses for something else"):
        find(tokenizer, "<|im_end|>", len(tokenizer))
    for wrong in ("", " ", " <call>"):
        with pytest.raises(SetupError, match="without spaces"):
            find(tokenizer, wrong, len(tokenizer))


def test_its_row_is_its_own(reserving: Path) -> None:
    import torch

    from synth_dspy.training.base import load_base

    model, tokenizer = load_base(reserving)
    token = find(tokenizer, MARKER, model.get_input_embeddings().num_embeddings)
    before = model.get_input_embeddings().weight.detach().clone()
    set_rows(model, token)
    after = model.get_input_embeddings().weight.detach()
    assert [i for i in range(len(after)) if not torch.equal(before[i], after[i])] == [token.id]
    norms = after.norm(dim=1)
    assert 0.5 < norms[token.id] / norms[list(token.pieces)].mean() < 2
    cosines = torch.nn.functional.cosine_similarity(after[token.id], after)
    assert sorted(cosines)[-2] < 0.9


@pytest.mark.slow
def test_a_trained_marker_is_one_token_in_the_served_model(reserving: Path, tmp_path: Path) -> None:
    from synth_dspy.models import roles
    from synth_dspy.models.embedded.pool import pool
    from synth_dspy.training.provider import LocalProvider, training_facts, training_of

    rows = [
        {"id": f"r{i}", "source": "", "prompt": [{"role": "user", "content": f"Notice {i}? {MARKER}"}],
         "completion": [{"role": "assistant", "content": f"{MARKER}thirty days"}]}
        for i in range(16)
    ]  # fmt: skip
    provider = LocalProvider(tmp_path, settings={"learning_rate": 3e-2, "epochs": 12, "batch": 2, "parity": 0.0})
    lm = roles.lm_for(f"embedded/{reserving}", role="student", provider=provider, temperature=0.0, max_tokens=12)
    try:
        tuned = lm.finetune(rows, None, {"method": "sft", "call_token": MARKER}).result(timeout=180)
        reply = tuned(messages=rows[0]["prompt"])[0]
        assert reply.startswith(MARKER)
        folder = training_of(tuned.model)
        assert folder is not None
        parity = training_facts(folder).parity
        assert parity is not None
        assert parity["n"] == 16  # the ids of every prompt were the same on both sides
        config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
        assert not config.get("modules_to_save")
        with pool().lease(tuned.model.removeprefix("embedded/")) as server:
            assert len(server.token_ids(MARKER)) == 1
    finally:
        pool().close()
