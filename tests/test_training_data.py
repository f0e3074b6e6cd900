"""Rows to tokens, and the losses computed on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.training.data import SIDES, bins, prompt_ids, read_prompts, read_rows, reply_ids, tokenize
from synth_dspy.training.sequences import Group, completion_logps, pack, token_logps
from tests.tiny import tiny_model

# PEFT asks transformers for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_activation_checkpointing:FutureWarning")

PROMPT = [{"role": "user", "content": "When does the contract take effect?"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    from synth_dspy.training.base import load_tokenizer

    return load_tokenizer(base)


def reply_of(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "row", "field"),
    [
        ("dpo", {"prompt": PROMPT, "chosen": reply_of("A")}, "rejected"),
        ("orpo", {"prompt": PROMPT, "rejected": reply_of("A")}, "chosen"),
        ("sft", {"completion": reply_of("A")}, "prompt"),
        ("sft", {"prompt": PROMPT, "completion": "A"}, "completion"),
        ("sft", {"prompt": PROMPT, "completion": []}, "completion"),
        ("sft", {"prompt": PROMPT, "completion": [{"role": "user", "content": "A"}]}, "completion"),
        ("kto", {"prompt": PROMPT, "completion": reply_of("A")}, "label"),
        ("kto", {"prompt": PROMPT, "completion": reply_of("A"), "label": "yes"}, "label"),
        ("grpo", {"prompt": "When?"}, "prompt"),
    ],
)
def test_a_row_that_lacks_something_is_named(tmp_path: Path, method: Any, row: Any, field: str) -> None:
    good = {"prompt": PROMPT, **{side: reply_of("B") for side in SIDES[method]}, "label": True}
    path = written(tmp_path / "rows.jsonl", good, row)
    with pytest.raises(SetupError, match=rf"rows\.jsonl, line 2: field '{field}'"):
        read_rows(path, method)


def test_prompts_are_read_from_rows_of_any_kind(tmp_path: Path) -> None:
    assert read_prompts(written(tmp_path / "p.jsonl", {"prompt": PROMPT, "x": 1}, {"prompt": PROMPT})) == [PROMPT] * 2


# --- tokens --------------------------------------------------------------------------------------------------------


def test_what_is_trained_is_what_is_served(tokenizer: Any) -> None:
    prompt, reply = prompt_ids(tokenizer, PROMPT), reply_ids(tokenizer, PROMPT, reply_of("On 1 January 2021."))
    text = tokenizer.apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(prompt) == text
    # The reply ends with the token that ends the turn; the line break that the template writes after it is not trained.
    assert reply[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(reply) == "On 1 January 2021.<|im_end|>"


def test_a_template_that_renders_the_past_in_another_way_leaves_the_plain_reply(base: Path) -> None:
    from synth_dspy.training.base import load_tokenizer

    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]<think></think>{% endif %}"
    )
    reply = reply_ids(tokenizer, PROMPT, reply_of("Yes."))
    assert tokenizer.decode(reply) == "Yes.<|im_end|>"


def test_long_rows_are_left_out_and_counted_never_cut(tokenizer: Any) -> None:
    rows = [{"prompt": PROMPT, "chosen": reply_of("Yes"), "rejected": reply_of("No " * n)} for n in (1, 50, 2)]
    whole = tokenize(rows, "dpo", tokenizer, max_tokens=10_000)
    short = tokenize(rows, "dpo", tokenizer, max_tokens=len(whole.groups[2].prompt) + 20)
    assert (whole.left_out, short.left_out) == (0, 1)
    assert short.rows == (rows[0], rows[2])
    assert short.groups == (whole.groups[0], whole.groups[2])
    with pytest.raises(ArmError, match=r"None of the 3 rows fits into training\.options\.dpo\.max_tokens = 16"):
        tokenize(rows, "dpo", tokenizer, max_tokens=16)


def test_a_reply_is_learned_to_where_serving_would_cut_it(tokenizer: Any) -> None:
    row = {"prompt": PROMPT, "completion": reply_of("No " * 50)}
    whole = tokenize([row], "sft", tokenizer, max_tokens=999).groups[0].completions[0]
    for most in (1, 20, len(whole), 999):
        cut = tokenize([{**row, "reply_tokens": most}], "sft", tokenizer, max_tokens=999).groups[0].completions[0]
        assert cut == whole[:most]
    assert whole[-1] == tokenizer.eos_token_id  # a reply that fits ends


def test_a_reply_has_at_least_one_token(tmp_path: Path) -> None:
    for most in (0, True, 2.5, "9"):
        path = written(tmp_path / "rows.jsonl", {"prompt": PROMPT, "completion": reply_of("No"), "reply_tokens": most})
        with pytest.raises(SetupError, match=r"line 1: field 'reply_tokens'.*positive whole number"):
            read_rows(path, "sft")


def test_bins_hold_every_group_once_and_no_more_tokens_than_allowed() -> None:
    groups = [Group(range(n), [[1]]) for n in (30, 70, 50, 20, 95, 5)]
    made = bins(groups, 100)
    assert sorted(index for each in made for index in each) == list(range(6))
    assert all(sum(groups[index].tokens for index in each) <= 100 for each in made)
    assert len(made) == 3


# --- log-probabilities ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    """A tiny model with an adapter that is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    from synth_dspy.training.base import load_base

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(load_base(base)[0], config)


GROUPS = (
    Group([5, 6, 7, 8, 9, 10, 11], [[12, 13, 2], [14, 15, 16, 17, 2]]),
    Group([5, 20, 21, 22], [[23, 2], [2]]),
)


def plainly(model: Any, groups: Sequence[Group]) -> Any:
    """Each completion by itself: one sequence, all logits."""
    import torch

    sums = []
    for group in groups:
        for completion in group.completions:
            ids = torch.tensor([[*group.prompt, *completion]])
            logps = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
            at = torch.arange(len(group.prompt) - 1, ids.shape[1] - 1)
            sums.append(logps[at, torch.tensor(list(completion))].sum())
    return torch.stack(sums)


def gradients(model: Any, loss: Any) -> list[Any]:
    model.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("groups", [GROUPS, GROUPS[:1], [Group(GROUPS[0].prompt, GROUPS[0].completions[:1])]])
def test_a_shared_prompt_changes_neither_loss_nor_gradients(model: Any, groups: Sequence[Group]) -> None:
    import torch

    signs = torch.tensor([1.0, -0.5] * len(groups))[: sum(len(group.completions) for group in groups)]
    shared, plain = completion_logps(model, pack(groups)), plainly(model, groups)
    torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-4)
    for one, other in zip(
        gradients(model, (shared * signs).sum()), gradients(model, (plain * signs).sum()), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_prompt_is_read_once() -> None:
    packed = pack(GROUPS[:1])
    assert packed.input_ids.shape[1] == GROUPS[0].tokens == 7 + 2 + 4
    assert packed.position_ids[0].tolist() == [*range(7), 7, 8, 7, 8, 9, 10]


def test_logits_of_long_completions_are_made_in_chunks(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    packed = pack(GROUPS)
    whole = token_logps(model, packed)
    expected = gradients(model, whole.sum())
    monkeypatch.setattr("synth_dspy.training.sequences.CHUNK", 3)
    chunked = token_logps(model, packed)
    torch.testing.assert_close(chunked, whole)
    for one, other in zip(gradients(model, chunked.sum()), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
