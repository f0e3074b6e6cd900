"""Serving adapters unmerged with vLLM: concatenation of several adapters, and the parity check.

vLLM applies one adapter per request. A chain of two (DPO's on top of SFT's) adds B1·A1·s1 + B2·A2·s2 to a weight, which
is one product whose rank is the sum of both ranks.

The parity check has two halves, because a GPU has no room for both models: the training stores the trained model's
replies to the held-out prompts (`write_replies`), and after it has ended the server gets the same prompts
(`check_served`). Both decode greedily. Replies are compared token by token up to the first difference, which is ignored
if it is a near tie.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import ArmError
from synth_dspy.models.weights.cache import publish
from synth_dspy.models.weights.trained import CONCATENATED, SPEC
from synth_dspy.training.adapters import CONFIG, WEIGHTS, plain_modules, read_adapter_config, scaling
from synth_dspy.training.checkpoints import write_json
from synth_dspy.training.data import read_prompts
from synth_dspy.training.job import Cancelled, Progress
from synth_dspy.training.parity import MARGIN, Disagreement, Message, Parity, explain_failure
from synth_dspy.training.spec import ADAPTER, TrainSpec, read_spec
from synth_dspy.training.vllm import LOG, ask, servers

SERVED = "openai/"
REPLIES = "replies.json"
PARITY = "parity.json"
_PREFIX = "base_model.model."
_SHOWN, _TAIL = 5, 120
_PRECISION = "bf16"  # what vLLM computes in on a GPU


def serve(folder: Path, *, waiting: Progress | None = None, cancelled: Callable[[], bool] = lambda: False) -> str:
    """Serve a finished training's adapter with vLLM, and check its parity unless that has been done.

    Returns:
        The model string, `openai/<name>`.

    Raises:
        ArmError: the served model does not answer like the trained one. `Cancelled` if it was cancelled.
        SetupError: vLLM does not start.
    """
    from synth_dspy.training.base import base_folder

    spec, name = read_spec(folder / SPEC), folder.name
    adapter = concatenate_adapters([*spec.adapters, folder / ADAPTER], folder / CONCATENATED)
    try:
        address = servers().serve(
            base_folder(spec.model), name, adapter, log=folder / LOG, waiting=waiting, cancelled=cancelled
        )
    except InterruptedError as error:
        raise Cancelled(f"The training {name} was cancelled; the trained adapter is kept.") from error
    _check(folder, spec, address.removesuffix("/v1"), name)
    return f"{SERVED}{name}"


def _check(folder: Path, spec: TrainSpec, root: str, name: str) -> None:
    from synth_dspy.training.base import load_tokenizer

    record = folder / PARITY
    if not record.is_file():
        tokenizer = load_tokenizer(spec.model)
        parity = check_served(folder / REPLIES, root, name, tokenizer, max_tokens=spec.completion_tokens)
        failure = explain_failure(parity, spec)
        held_out = 0 if spec.prompts is None else min(len(read_prompts(spec.prompts)), parity.n)
        write_json(record, {**parity.asdict(), "held_out": held_out, "gguf": "none", "failed": failure})
    if failure := json.loads(record.read_text(encoding="utf-8"))["failed"]:
        raise ArmError(failure)


def with_server_engine(lm: Any) -> Any:
    """An LM that DSPy copied from the student, with the engine for its tuned model; others are returned unchanged."""
    served_model = servers().where(lm.model.removeprefix(SERVED)) if lm.model.startswith(SERVED) else None
    if served_model is None:
        return lm
    from synth_dspy.models.http.engine import HttpEngine
    from synth_dspy.models.ledger_lm import AsyncLedgerEngine, LedgerEngine

    http = HttpEngine(served_model[0], price=(0.0, 0.0))
    http.fingerprint = "vllm"  # the port changes, and the model's name identifies the training
    ledger, role = getattr(lm.engine, "ledger", None), getattr(lm.engine, "role", "student")
    engine = LedgerEngine(http, ledger=ledger, role=role)
    return lm.copy(engine=engine, async_engine=AsyncLedgerEngine(engine), portable={"api_base": served_model[0]})


def concatenate_adapters(adapters: Sequence[Path], target: Path) -> Path:
    """Combine a chain of adapters into one; a single one is returned unchanged.

    Args:
        adapters: PEFT LoRA folders, in training order.
        target: The folder to write if there are several.

    Raises:
        ArmError: One of them is not a plain LoRA.
    """
    if len(adapters) == 1:
        return adapters[0]
    if (target / CONFIG).is_file():
        return target
    import numpy as np
    from safetensors.numpy import save_file

    parts = [(read_adapter_config(adapter), plain_modules(adapter)) for adapter in adapters]
    rank = sum(max(len(a) for a, _ in matrices.values()) for _, matrices in parts)
    tensors = {}
    for module in sorted(set().union(*(matrices for _, matrices in parts))):
        parts_with_module = [(config, *matrices[module]) for config, matrices in parts if module in matrices]
        a = np.concatenate([a for _, a, _ in parts_with_module])
        b = np.concatenate([b * scaling(config, module, len(a)) for config, a, b in parts_with_module], axis=1)
        missing = rank - len(a)  # adapters that do not change this module
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = np.pad(a, ((0, missing), (0, 0))).astype(np.float32)
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = np.pad(b, ((0, 0), (0, missing))).astype(np.float32)
    config = {
        **parts[-1][0],
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    config["target_modules"] = sorted({name.split(".")[-3] for name in tensors})
    if len({str(config_.get("layers_to_transform")) for config_, _ in parts}) > 1:
        config["layers_to_transform"] = None
    with publish(target) as part:
        part.mkdir()
        save_file(tensors, part / WEIGHTS)
        (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return target


def write_replies(
    path: Path, model: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]], *, max_tokens: int
) -> None:
    """Store the trained model's greedy replies.

    Args:
        path: The file to write.
        model: The model with its adapter, in evaluation mode.
        tokenizer: The tokeniser it was trained with.
        prompts: Chats for the parity check.
        max_tokens: Longest reply.
    """
    from synth_dspy.training.data import prompt_ids

    replies = []
    for prompt in prompts:
        ids = prompt_ids(tokenizer, prompt)
        reply, margins = _greedy(model, ids, tokenizer.eos_token_id, max_tokens)
        replies.append({"messages": [dict(m) for m in prompt], "prompt": ids, "reply": reply, "margins": margins})
    with publish(path) as part:
        part.write_text(json.dumps(replies, ensure_ascii=False), encoding="utf-8")


def _greedy(model: Any, ids: list[int], end: int, max_tokens: int) -> tuple[list[int], list[float]]:
    """A greedy reply with its end token, and for each token the margin to the second best in logits."""
    import torch

    reply: list[int] = []
    margins: list[float] = []
    given, cache = torch.tensor([ids], device=model.device), None
    with torch.inference_mode():
        while len(reply) < max_tokens and (not reply or reply[-1] != end):
            out = model(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1)
            best = out.logits[0, -1].float().topk(2)
            reply.append(int(best.indices[0]))
            margins.append(round(float(best.values[0] - best.values[1]), 4))
            given, cache = torch.tensor([reply[-1:]], device=model.device), out.past_key_values
    return reply, margins


def check_served(path: Path, root: str, name: str, tokenizer: Any, *, max_tokens: int) -> Parity:
    """Compare a server's replies with those of the trained model.

    Args:
        path: The file that `write_replies` wrote.
        root: The server's address, without `/v1`.
        name: The model's name on the server.
        tokenizer: The tokeniser the model was trained with.
        max_tokens: Longest reply, as for `write_replies`.

    Raises:
        ArmError: The server tokenises a prompt differently, or there are no prompts.
        SetupError: The server cannot be reached.
    """
    expected = json.loads(path.read_text(encoding="utf-8"))
    if not expected:
        raise ArmError("There are no held-out prompts to compare the served with the trained model on.")
    disagreements = []
    tokens = agreed = 0
    for each in expected:
        text, prompt, reply = _request_reply(root, name, each["messages"], max_tokens)
        if prompt != each["prompt"]:
            place = next((i for i, (a, b) in enumerate(zip(prompt, each["prompt"], strict=False)) if a != b), "the end")
            raise ArmError(
                f"vLLM's chat template or tokeniser differs from the one trained with, from token {place} of a prompt "
                "on: take both from one model."
            )
        divergence = _divergence(each["reply"], reply, tokenizer.eos_token_id)
        # After the first difference the replies cannot be compared.
        compared = len(each["reply"]) if divergence is None else divergence + 1
        tokens, agreed = tokens + compared, agreed + compared
        if divergence is None:
            continue
        margin = each["margins"][min(divergence, len(each["margins"]) - 1)]
        if margin <= MARGIN[_PRECISION]:
            continue
        agreed -= 1
        end = tokenizer.eos_token_id
        served, trained = (side[divergence] if divergence < len(side) else end for side in (reply, each["reply"]))
        disagreements.append(
            Disagreement(
                prompt=each["messages"][-1]["content"][-_TAIL:],
                served=text,
                place=divergence,
                served_token=tokenizer.decode([served]),
                trained_token=tokenizer.decode([trained]),
                margin=margin,
            )
        )
    return Parity(
        n=len(expected),
        tokens=tokens,
        agreed=agreed,
        difference=None,
        bound=0.0,
        precision=_PRECISION,
        disagreements=tuple(disagreements[:_SHOWN]),
    )


def _request_reply(
    root: str, name: str, messages: Sequence[Message], max_tokens: int
) -> tuple[str, list[int], list[int]]:
    """A server's greedy reply: its text, the ids of the prompt, and those of the reply."""
    body = {"model": name, "messages": list(messages), "temperature": 0.0, "max_tokens": max_tokens}
    answer = ask(root, "/v1/chat/completions", {**body, "return_token_ids": True})
    choice = answer["choices"][0]
    text = choice["message"]["content"] or ""
    prompt, reply = answer.get("prompt_token_ids"), choice.get("token_ids")
    if prompt is None:  # vLLM before 0.10.2
        prompt = ask(root, "/tokenize", {"model": name, "messages": list(messages)})["tokens"]
    if reply is None:
        reply = ask(root, "/tokenize", {"model": name, "prompt": text, "add_special_tokens": False})["tokens"]
    return text, prompt, reply


def _divergence(trained: Sequence[int], served: Sequence[int], end: int) -> int | None:
    """The position where two replies diverge, or None; a missing end token is not a difference."""
    a, b = ([*side[:-1]] if side and side[-1] == end else [*side] for side in (trained, served))
    if a == b:
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
