"""Parity: does the model that is served answer as the model that was trained?

Three things go wrong in practice: the server's chat template is not the one that was trained with; the merged file is
not the trained model (a permutation forgotten, a scale, an adapter on the wrong projection); the server computes
something else from the same weights. So:

1. The token ids that both sides make of the same messages must be equal, on every prompt.
2. The file's tensors must be the trained ones up to the rounding of their type (`weight_check.py`). That needs no
   prompt, so a wrong merge is found however few there are, and however slight it is.
3. The served model replies, greedily, and the trained one reads prompt and reply in one forward pass. A served token
   counts as the trained model's if that puts it within the precision's noise of its own best one. And the
   log-probabilities that both give to the reply must be close in the mean: that finds a server which computes wrongly
   even where every token agrees.

What counts is tokens, not replies: in 16 bits two nearly equal tokens change places now and then, which says nothing
about the merge, and one such place in a long reply makes all that follows another text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth_dspy.errors import ArmError, ModelError
from synth_dspy.training.spec import TrainSpec

MARGIN = {"f32": 0.1, "bf16": 0.4}
"""Logits that a served token may be below the trained model's best one and still be its own, by the serving precision.

One tuned SmolLM2-135M, merged in F16, on 32 prompts (205 tokens): served in bf16 the log-probability of a token differs
from the trained model's by .027 (root mean square; .011 in the mean), served in f32 by .004 in the mean. The difference
of two logits varies more, and less certain models more; these bounds are over ten times as large."""
QUANTISED_MARGIN = 0.6
"""The same for weights of 8 bits, whose products OpenVINO computes in 8 bits too."""
MEAN_DIFFERENCE = {"f32": 0.05, "bf16": 0.1}
"""Mean absolute difference of log-probabilities over the replies' tokens, by precision: the same model had .004 and
.011. Twice as much for weights of 8 bits."""
_SHOWN = 5  # disagreements that are told in full
_TAIL = 120  # characters of a prompt that tell it from others

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A token of a reply that is not the trained model's.

    Attributes:
        prompt: The end of the last message.
        served: The served model's reply.
        place: How many tokens of the reply come before.
        served_token: What the served model says there.
        trained_token: What the trained model would say.
        margin: By how much the trained model prefers its own token, in logits.
    """

    prompt: str
    served: str
    place: int
    served_token: str
    trained_token: str
    margin: float


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the served and the trained model agree.

    Attributes:
        n: Prompts.
        tokens: Reply tokens compared, over all prompts.
        agreed: Those that are the trained model's own, or within the margin of it.
        difference: Mean absolute difference of the log-probabilities of those tokens; None: not known.
        bound: What it may be.
        precision: What the served model computed in.
        disagreements: The first few.
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
        """Agreed tokens, from 0 to 1."""
        return self.agreed / self.tokens if self.tokens else 1.0

    def asdict(self) -> dict[str, Any]:
        """As plain values, for result.json."""
        return {**asdict(self), "disagreements": [asdict(each) for each in self.disagreements], "share": self.share}


def explain_failure(parity: Parity, spec: TrainSpec) -> str | None:
    """Why a served model is not taken for the trained one, in a sentence; None if it is."""
    if parity.share < spec.parity:
        return (
            f"The served model says what the trained one would in {parity.agreed} of {parity.tokens} tokens of its "
            f"replies ({parity.share:.0%}), and {spec.parity:.0%} are asked for "
            f"(training.options.{spec.method}.parity): the server does not compute what was trained."
        )
    if spec.parity and parity.difference is not None and parity.difference > parity.bound:
        return (
            f"The served model's log-probabilities differ from the trained model's by {parity.difference:.3f} in the "
            f"mean, and the noise of {parity.precision} is below {parity.bound:.2f}: the server does not compute what "
            "was trained."
        )
    return None


def check_parity(
    model: Any, tokenizer: Any, served: Path, prompts: Sequence[Sequence[Message]], *, max_tokens: int = 48
) -> Parity:
    """Compare a trained torch model with the file that is to be served in its place.

    Args:
        model: The trained model in evaluation mode, its adapter on it or merged. It is given up: an adapter on float32
            weights is merged, and these are read with in the precision that is served.
        tokenizer: What it was trained with, chat template included.
        served: The GGUF file.
        prompts: Chats, each a list of messages with role and content.
        max_tokens: Longest reply; a reply that is cut is compared as far as it goes.

    Raises:
        ArmError: The file holds other weights; the token ids differ, so that the served model would read something
            that was never trained; the file cannot be served; or there are no prompts.
    """
    from synth_dspy.lms.precision import precision
    from synth_dspy.lms.server import ModelServer
    from synth_dspy.training.weight_check import check_weights

    if not prompts:
        raise ArmError("There are no prompts to compare the served with the trained model on.")
    server = ModelServer(served)  # loads in a thread of its own while the weights are compared
    try:
        check_weights(model, served)
        ids, replies = _ask(server, tokenizer, prompts, max_tokens)
    finally:
        server.close()  # the forward passes that follow need both cores, and the memory
    quantised = _quantised(served)
    margin = QUANTISED_MARGIN if quantised else MARGIN[precision()]
    bound = MEAN_DIFFERENCE[precision()] * (2 if quantised else 1)
    forced = _Forced(_merged(model))
    agreed, difference, tokens = 0, 0.0, 0
    disagreements: dict[int, Disagreement] = {}
    for number in sorted(range(len(ids)), key=ids.__getitem__):  # those that begin alike one after the other
        reply = replies[number]
        if not reply.token_ids:
            continue
        best, margins, logps = forced.read(ids[number], reply.token_ids)
        far = [place for place, behind in enumerate(margins) if behind > margin]
        agreed += len(margins) - len(far)
        tokens += len(margins)
        difference += sum(abs(a - b) for a, b in zip(logps, reply.token_logprobs, strict=True))
        if far:
            place = far[0]
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
    """The prompts' token ids, the same on both sides, and the served model's greedy replies."""
    from synth_dspy.lms.generation import Sampling

    sampling = Sampling(max_tokens=max_tokens, logprobs=True)
    try:
        ids = [_same_ids(server, tokenizer, prompt) for prompt in prompts]
        futures = [server.submit(server.render(prompt), sampling) for prompt in prompts]
        return ids, [future.result() for future in futures]
    except ModelError as error:
        raise ArmError(f"The merged model cannot be served: {error}.") from error


def _same_ids(server: Any, tokenizer: Any, prompt: Sequence[Message]) -> list[int]:
    """The ids of a prompt, which must be the same on both sides."""
    messages = [dict(message) for message in prompt]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    trained = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
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
    """Whether any tensor of the file is in fewer than 16 bits."""
    from synth_dspy.lms.gguf import WHOLE_TYPES, read_header

    return not WHOLE_TYPES.issuperset(read_header(served).tensor_types.values())


def _merged(model: Any) -> Any:
    """The model as it reads fastest: its adapter in its weights, and these in what the server computes in.

    Float32 weights take an adapter up exactly, and what is served was compared with them before.
    """
    import torch

    from synth_dspy.lms.precision import precision

    if model.dtype != torch.float32:
        return model
    merged = model.merge_and_unload().eval() if hasattr(model, "peft_config") else model
    if precision() == "bf16":
        for parameter in merged.parameters():  # not the buffers: rotary frequencies must stay exact
            parameter.data = parameter.data.bfloat16()
    return merged


class _Forced:
    """The trained model, reading prompts with their replies. Keeps the state of what it read last."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.model = model
        self._state = DynamicCache()
        self._read: list[int] = []  # the ids that the state is of

    def read(self, prompt: Sequence[int], reply: Sequence[int]) -> tuple[list[int], list[float], list[float]]:
        """What the model makes of a reply.

        Returns:
            For each token of the reply: the token that the model would say there, by how many logits it prefers that,
            and the log-probability of the reply's own.
        """
        import torch

        ids = [*prompt, *reply[:-1]]
        known = min(_alike(self._read, ids), len(prompt) - 1)  # the prompt's last token predicts the reply's first
        if known < len(self._read):
            self._state.crop(known - len(self._read))
        with torch.inference_mode():
            # Logits of the positions that predict the reply only: a vocabulary is wider than the model.
            out = self.model(
                input_ids=torch.tensor([ids[known:]], device=self.model.device),
                past_key_values=self._state,
                use_cache=True,
                logits_to_keep=len(reply),
            )
            self._read = ids
            logits = out.logits[0].float()
            spoken = torch.tensor(list(reply), device=logits.device)[:, None]
            best, token = logits.max(dim=-1)
            chosen = logits.gather(1, spoken)[:, 0]
            return token.tolist(), (best - chosen).tolist(), (chosen - logits.logsumexp(-1)).tolist()


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
