"""Retention: what a model lost outside the task that it was tuned for.

Two measures, before and after tuning: the share of IFEval prompts whose instructions the model follows, without a
program around it, and its perplexity on general text unrelated to any task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.io import jsonl
from synth_dspy.core.usage import unit
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.retention import ifeval

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.executor import Executor

STATION = "retention"
DATA = Path(__file__).with_name("data")
"""The prompts and the text that come with the project."""
MAX_TOKENS = 64
"""Most tokens of a reply: enough for most instructions, and cheap."""
WINDOW = 512
"""Tokens of text that perplexity is measured on, at most."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """An instruction-following prompt in IFEval's form.

    Attributes:
        key: its id.
        text: the prompt.
        instructions: the verifiable instructions, each with its arguments.
    """

    key: str
    text: str
    instructions: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Followed:
    """How many instructions a model follows.

    Attributes:
        n: prompts.
        prompt_strict: share of prompts all of whose instructions were followed.
        low: lower end of its 95 % interval.
        high: upper end.
        instruction_strict: share of single instructions.
        errors: calls that failed for good and follow nothing.
        followed: for each prompt's key, which of its instructions were followed.
    """

    n: int
    prompt_strict: float | None
    low: float | None
    high: float | None
    instruction_strict: float | None
    errors: int
    followed: Mapping[str, Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexity of a text.

    Attributes:
        value: exp of the mean negative log-likelihood.
        tokens: how many were predicted.
        losses: the negative log-likelihood of each, in nats.
    """

    value: float
    tokens: int
    losses: Sequence[float]


@dataclass(frozen=True, slots=True)
class Retained:
    """What a model can do outside its task; None if not measured."""

    ifeval: Followed | None = None
    perplexity: Perplexity | None = None


def read_prompts(path: Path, limit: int | None = None) -> list[Prompt]:
    """Prompts in IFEval's published form: `key`, `prompt`, `instruction_id_list` and `kwargs`, one per line.

    Google's own 541 prompts are `google/IFEval` on the Hugging Face hub (Apache-2.0).

    Args:
        path: the JSONL file.
        limit: at most this many, spread evenly over the file.

    Raises:
        SetupError: the file cannot be read, or a line is malformed or has an instruction that cannot be checked.
    """
    rows = jsonl.read_rows(
        path,
        {"key": jsonl.ID, "prompt": jsonl.FILLED, "instruction_id_list": _check_instruction, "kwargs": jsonl.OBJECTS},
        unique="key",
    )
    prompts = []
    for row in rows:
        if len(row["instruction_id_list"]) != len(row["kwargs"]):
            raise SetupError(
                f"{path}: the prompt with the key {row['key']!r} has {len(row['instruction_id_list'])} instructions "
                f"and {len(row['kwargs'])} sets of arguments in 'kwargs'; give each instruction its own."
            )
        instructions = tuple(zip(row["instruction_id_list"], row["kwargs"], strict=True))
        for kind, arguments in instructions:
            try:
                ifeval.follows(kind, "A reply.", arguments)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SetupError(
                    f"{path}: the prompt with the key {row['key']!r} gives {kind} the arguments {arguments}, with "
                    f"which it cannot be checked ({type(error).__name__}: {error})."
                ) from error
        prompts.append(Prompt(str(row["key"]), row["prompt"], instructions))
    if limit is None or limit >= len(prompts):
        return prompts
    return [prompts[i * len(prompts) // limit] for i in range(limit)]


def measure(
    lm: dspy.LM,
    prompts: Sequence[Prompt],
    *,
    executor: Executor,
    arm: str = "",
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Followed:
    """How many instructions a model follows, in IFEval's strict form: the reply is not edited.

    Args:
        lm: the model; asked once per prompt, greedily, through the ledger that it was opened with.
        prompts: see `read_prompts`.
        executor: runs many calls at once.
        arm: the arm of the calls in the ledger.
        max_tokens: longest reply.
        seed: of the interval.
        progress: called with the number of prompts done since the last call.

    Raises:
        ModelError: every call failed.
    """

    def ask(prompt: Prompt) -> str:
        with unit(station=STATION, source=prompt.key, arm=arm):
            return str(lm(messages=[{"role": "user", "content": prompt.text}], max_tokens=max_tokens, temperature=0)[0])

    outcomes = executor.map(ask, prompts, progress=progress)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors and len(errors) == len(prompts):
        raise ModelError(f"All {len(errors)} retention prompts failed; the first with {errors[0]}") from errors[0]
    followed = {
        prompt.key: followed_by(prompt, outcome.unwrap() if outcome.error is None else "")
        for prompt, outcome in zip(prompts, outcomes, strict=True)
    }
    estimate = stats.estimate([float(all(each)) for each in followed.values()], seed=seed)
    single = [one for each in followed.values() for one in each]
    return Followed(
        n=len(prompts),
        prompt_strict=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        instruction_strict=sum(single) / len(single) if single else None,
        errors=len(errors),
        followed=followed,
    )


def followed_by(prompt: Prompt, reply: str) -> list[bool]:
    """For each instruction of a prompt, whether the reply follows it."""
    return [ifeval.follows(kind, reply, arguments) for kind, arguments in prompt.instructions]


def perplexity(model: Path, text: str, *, window: int = WINDOW) -> Perplexity:
    """Perplexity of a text under a model in the embedded server: exp of the mean negative log-likelihood.

    Args:
        model: a GGUF file, or a model folder.
        text: general text; its first `window` tokens are read in one pass.
        window: tokens, at most the model's context.

    Raises:
        ModelError: the model cannot be loaded or gives no likelihoods.
    """
    import openvino
    import openvino_genai

    from synth_dspy.models.embedded.backend import choose
    from synth_dspy.models.embedded.generation import ServerSettings
    from synth_dspy.models.embedded.pipeline import open_pipeline
    from synth_dspy.models.weights.gguf import context_length

    choice = choose(model)
    if choice.engine == "transformers":
        return _torch_perplexity(choice.path, text, window)
    path = choice.path
    window = min(window, context_length(path) - 1)
    config = openvino_genai.GenerationConfig()
    config.apply_chat_template = False
    config.max_new_tokens = 1
    config.echo, config.logprobs = True, 1
    try:
        pipeline = open_pipeline(path, ServerSettings(max_batched_tokens=window + 1))  # read in one pass
        ids = pipeline.get_tokenizer().encode(text, add_special_tokens=False).input_ids.data[:, :window]
        handle = pipeline.add_request(0, openvino.Tensor(ids.copy()), config)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        log_probs = list(handle.read_all()[0].generated_log_probs)
    except RuntimeError as error:
        raise ModelError(f"The perplexity of {model} could not be measured: {error}") from error
    tokens = int(ids.shape[1])
    scored = log_probs[1:tokens]  # the first token has no context; the last figure is of the generated token
    if len(scored) != tokens - 1 or not scored:
        raise ModelError(
            f"The perplexity of {model} could not be measured: {len(log_probs)} log probabilities for {tokens} tokens."
        )
    return Perplexity(math.exp(-math.fsum(scored) / len(scored)), len(scored), [-one for one in scored])


def _torch_perplexity(path: Path, text: str, window: int) -> Perplexity:
    """As `perplexity`, of a model that transformers serves."""
    import torch

    from synth_dspy.models.chat import open_tokenizer
    from synth_dspy.models.embedded import torch_model

    model, _base = torch_model.load_model(path)
    window = min(window, torch_model.window(model.config) - 1)
    ids = open_tokenizer(torch_model.base_of(path)[0])(text, add_special_tokens=False)["input_ids"][:window]
    if len(ids) < 2:
        raise ModelError(f"The perplexity of {path} could not be measured: the text has {len(ids)} tokens.")
    read = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        logps = model(input_ids=read, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    scored = logps.gather(1, read[0, 1:, None])[:, 0].tolist()
    return Perplexity(math.exp(-math.fsum(scored) / len(scored)), len(scored), [-one for one in scored])


def _check_instruction(value: Any) -> str | None:
    wrong = jsonl.FILLED_TEXTS(value)
    if wrong is not None:
        return wrong
    unknown = [kind for kind in value if kind not in ifeval.KINDS]
    return f"{unknown[0]!r} is not one of the {len(ifeval.KINDS)} kinds that can be checked" if unknown else None
