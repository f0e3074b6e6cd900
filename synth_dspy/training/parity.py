"""Parity check: does the served model answer like the trained model?

Three things go wrong in practice: the server uses another chat template than the training; the merged file is not the
trained model (a missing permutation or scale, an adapter on the wrong projection); the server computes something else
from the same weights. So:

1. Both sides must tokenise every prompt to the same ids.
2. The file's tensors must equal the trained ones up to the rounding of their type (`weight_check.py`). That detects a
   wrong merge without any prompts, however slight it is.
3. The served model replies greedily, and the trained one reads prompt and reply in one forward pass (teacher forcing).
   A served token agrees if its logit is within the precision's noise of the trained model's best. The mean difference
   of both models' log-probabilities must also be small: that detects a server that computes wrongly even where every
   token agrees.

Tokens are counted, not replies: in 16 bits, two nearly equal tokens sometimes swap ranks, which says nothing about the
merge, but changes the rest of a long reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import ArmError, ModelError
from synth_dspy.training.data import prompt_ids
from synth_dspy.training.spec import TrainSpec

MARGIN = {"f32": 0.1, "bf16": 0.4}
"""How far below the trained model's best logit a served token may be and still agree, by serving precision.

One tuned SmolLM2-135M, merged in F16, on 32 prompts (205 tokens): served in bf16, the log-probability of a token
differs from the trained model's by .027 (root mean square; .011 in the mean), served in f32 by .004 in the mean. The
difference of two logits varies more, and less certain models more; these bounds are over ten times as large."""
QUANTISED_MARGIN = 0.6
"""The same for 8-bit weights, whose products OpenVINO computes in 8 bits too."""
MEAN_DIFFERENCE = {"f32": 0.05, "bf16": 0.1}
"""Largest mean absolute difference of log-probabilities over the replies' tokens, by precision: the model above had
.004 and .011. Doubled for 8-bit weights."""
_SHOWN = 5  # number of disagreements reported in full
_TAIL = 120  # characters of a prompt to identify it by

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A token of a served reply that the trained model would not choose.

    Attributes:
        prompt: The end of the last message.
        served: The served model's reply.
        place: The token's position in the reply.
        served_token: The served model's token.
        trained_token: The trained model's token.
        margin: The difference of the trained model's logits.
    """

    prompt: str
    served: str
    place: int
    served_token: str
    trained_token: str
    margin: float


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of the served and the trained model.

    Attributes:
        n: Number of prompts.
        tokens: Number of reply tokens compared, over all prompts.
        agreed: Number of tokens that agree, or are within the margin.
        difference: Mean absolute difference of the tokens' log-probabilities; None if unknown.
        bound: The largest allowed difference.
        precision: The precision of the served model.
        disagreements: The first few disagreements.
    """

    n: int
    tokens: int
    agreed: int
    difference: float | None
    bound: float
    precision: str
    disagreements: tuple[Disagreement, ...]

    @property
    def share(self) -> float:
        """The share of tokens that agree, from 0 to 1."""
        return self.agreed / self.tokens if self.tokens else 1.0

    def asdict(self) -> dict[str, Any]:
        """As plain values, for result.json."""
        return {**asdict(self), "disagreements": [asdict(each) for each in self.disagreements], "share": self.share}


def explain_failure(parity: Parity, spec: TrainSpec) -> str | None:
    """Why the parity check failed, in a sentence; None if it passed."""
    if parity.share < spec.parity:
        return (
            f"The served model agrees with the trained one in {parity.agreed} of {parity.tokens} tokens of its "
            f"replies ({parity.share:.0%}), but {spec.parity:.0%} are required "
            f"(training.options.{spec.method}.parity): the server does not compute what was trained."
        )
    if spec.parity and parity.difference is not None and parity.difference > parity.bound:
        return (
            f"The served model's log-probabilities differ from the trained model's by {parity.difference:.3f} in the "
            f"mean, but the noise of {parity.precision} is below {parity.bound:.2f}: the server does not compute what "
            "was trained."
        )
    return None


def check_parity(
    model: Any, tokenizer: Any, served: Path, prompts: Sequence[Sequence[Message]], *, max_tokens: int = 48
) -> Parity:
    """Compare a trained torch model with the GGUF file that is to be served.

    Args:
        model: The trained model in evaluation mode, with its adapter or merged. It is consumed: an adapter on float32
            weights is merged, and the weights are converted to the serving precision.
        tokenizer: The tokeniser it was trained with, with the chat template.
        served: The GGUF file, or the folder of an adapter that is served on its base.
        prompts: Chats, each a list of messages with role and content.
        max_tokens: Longest reply; truncated replies are compared too.

    Raises:
        ArmError: The file holds other weights, token ids differ, the file cannot be served, or there are no prompts.
    """
    import torch

    from synth_dspy.models.embedded.precision import precision
    from synth_dspy.models.embedded.server import ModelServer
    from synth_dspy.training.weight_check import check_weights

    if not prompts:
        raise ArmError("There are no prompts to compare the served with the trained model on.")
    device = model.device
    if device.type == "cuda" and served.is_dir() and not getattr(model, "is_quantized", False):
        model.to("cpu")  # room for the served model
        torch.cuda.empty_cache()
    server = ModelServer(served)  # loads in its own thread while the weights are compared
    try:
        if served.is_file():
            check_weights(model, served)
        ids, replies = _ask(server, tokenizer, prompts, max_tokens)
    finally:
        server.close()  # frees cores and memory for the forward passes
    if model.device != device:
        model.to(device)
    quantised = _quantised(served)
    margin = QUANTISED_MARGIN if quantised else MARGIN[precision()]
    bound = MEAN_DIFFERENCE[precision()] * (2 if quantised else 1)
    forced = _Forced(_merged(model))
    agreed, difference, tokens = 0, 0.0, 0
    disagreements: dict[int, Disagreement] = {}
    for number in sorted(
        range(len(ids)), key=ids.__getitem__
    ):  # sorted, so that prompts with a common prefix share the cache
        reply = replies[number]
        if not reply.token_ids:
            continue
        best, margins, logps = forced.read(ids[number], reply.token_ids)
        disagreeing = [place for place, gap in enumerate(margins) if gap > margin]
        agreed += len(margins) - len(disagreeing)
        tokens += len(margins)
        difference += sum(abs(a - b) for a, b in zip(logps, reply.token_logprobs, strict=True))
        if disagreeing:
            place = disagreeing[0]
            disagreements[number] = Disagreement(
                prompt=prompts[number][-1]["content"][-_TAIL:],
                served=reply.text,
                place=place,
                served_token=tokenizer.decode([reply.token_ids[place]]),
                trained_token=tokenizer.decode([best[place]]),
                margin=round(margins[place], 4),
            )
    return Parity(
        n=len(prompts),
        tokens=tokens,
        agreed=agreed,
        difference=round(difference / tokens, 5) if tokens else None,
        bound=bound,
        precision=precision(),
        disagreements=tuple(disagreements[number] for number in sorted(disagreements))[:_SHOWN],
    )


def _ask(
    server: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]], max_tokens: int
) -> tuple[list[list[int]], list[Any]]:
    """The prompts' token ids, checked to be the same on both sides, and the served model's greedy replies."""
    from synth_dspy.models.embedded.generation import Sampling

    sampling = Sampling(max_tokens=max_tokens, logprobs=True)
    try:
        ids = [_same_ids(server, tokenizer, prompt) for prompt in prompts]
        futures = [server.submit(server.render(prompt), sampling) for prompt in prompts]
        return ids, [future.result() for future in futures]
    except ModelError as error:
        raise ArmError(f"The merged model cannot be served: {error}.") from error


def _same_ids(server: Any, tokenizer: Any, prompt: Sequence[Message]) -> list[int]:
    """The ids of a prompt; an error if the two sides tokenise it differently."""
    messages = [dict(message) for message in prompt]
    trained = prompt_ids(tokenizer, messages)
    served = server.token_ids(server.render(messages))
    if trained == served:
        return trained
    place = next((i for i, (a, b) in enumerate(zip(trained, served, strict=False)) if a != b), None)
    if place is None:
        place = min(len(trained), len(served))
    both = (side[place : place + 4] for side in (trained, served))
    parts = [repr(tokenizer.decode(tokens)) if tokens else "nothing" for tokens in both]
    raise ArmError(
        f"The served model's chat template or tokeniser differs from the one trained with: at token {place} of a "
        f"prompt the training has {parts[0]}, the server {parts[1]}; take both from one model."
    )


def _quantised(served: Path) -> bool:
    """Whether any tensor of the file has fewer than 16 bits per weight."""
    from synth_dspy.models.weights.gguf import WHOLE_TYPES, read_header

    return served.is_file() and not WHOLE_TYPES.issuperset(read_header(served).tensor_types.values())


def _merged(model: Any) -> Any:
    """The model in its fastest form: adapter merged, weights in the serving precision.

    Merging into float32 weights is exact, and the served weights were compared with them before.
    """
    import torch

    from synth_dspy.models.embedded.precision import precision

    if model.dtype != torch.float32:
        return model
    merged = model.merge_and_unload().eval() if hasattr(model, "peft_config") else model
    if precision() == "bf16":
        for parameter in merged.parameters():  # not the buffers: rotary frequencies must stay exact
            parameter.data = parameter.data.bfloat16()
    return merged


class _Forced:
    """Teacher forcing: the trained model reads prompts with their replies. Reuses the cache of a common prefix."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.model = model
        self._cache = DynamicCache()
        self._cached_ids: list[int] = []  # the ids in the cache

    def read(self, prompt: Sequence[int], reply: Sequence[int]) -> tuple[list[int], list[float], list[float]]:
        """Score a reply.

        Returns:
            For each token of the reply: the model's best token, by how many logits it is ahead, and the log-probability
            of the reply's token.
        """
        import torch

        ids = [*prompt, *reply[:-1]]
        # The prompt's last token must be read: it predicts the reply's first.
        reused = min(_common_prefix(self._cached_ids, ids), len(prompt) - 1)
        if reused < len(self._cached_ids):
            self._cache.crop(reused - len(self._cached_ids))
        with torch.inference_mode():
            # Only the logits that predict the reply: a vocabulary is wider than the model.
            out = self.model(
                input_ids=torch.tensor([ids[reused:]], device=self.model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=len(reply),
            )
            self._cached_ids = ids
            logits = out.logits[0].float()
            reply_ids = torch.tensor(list(reply), device=logits.device)[:, None]
            best, token = logits.max(dim=-1)
            chosen = logits.gather(1, reply_ids)[:, 0]
            return token.tolist(), (best - chosen).tolist(), (chosen - logits.logsumexp(-1)).tolist()


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of two sequences' common prefix."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
