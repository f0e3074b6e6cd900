"""Parity: does the model that is served answer as the model that was trained?

Two things go wrong in practice: the server's chat template is not the one that was trained with, and the merged file
is not the trained model (a permutation forgotten, a scale, too coarse a quantisation). So, on held-out prompts:

1. The token ids that both sides make of the same messages must be equal. No share is enough here: one difference is a
   defect, and the check fails.
2. The greedy replies are compared. The served model generates; the trained one reads prompt and reply in one forward
   pass, teacher-forced. Both replies are equal if and only if every served token is the trained model's best one at
   its place: by induction, had the trained model generated, it would have been in the same state at every step. That
   costs one pass of the prompt instead of one pass per token, which on a CPU is several times cheaper; and what two
   prompts begin with alike (instructions, a contract's opening) is read once.

What share must agree is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth_dspy.errors import ArmError, ModelError
from synth_dspy.training.spec import TrainSpec

NEAR_TIE = 0.05
"""Logits apart that two tokens may be for their order to be an accident of rounding."""
_SHOWN = 5  # disagreements that are told in full
_TAIL = 120  # characters of a prompt that tell it from others

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A prompt that the two models answer differently.

    Attributes:
        prompt: The end of the last message.
        served: The served model's reply.
        place: Where they part: how many tokens they agree on.
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
        agreed: Prompts with the same greedy reply from both.
        near_ties: Of the others, those whose two tokens are less than `NEAR_TIE` logits apart.
        tokens: Reply tokens compared, over all prompts.
        disagreements: The first few.
    """

    n: int
    agreed: int
    near_ties: int
    tokens: int
    disagreements: tuple[Disagreement, ...]

    @property
    def share(self) -> float:
        """Agreed prompts, from 0 to 1."""
        return self.agreed / self.n

    def asdict(self) -> dict[str, Any]:
        """As plain values, for result.json."""
        return {**asdict(self), "disagreements": [asdict(each) for each in self.disagreements], "share": self.share}


def told_apart(agreed: int, n: int, spec: TrainSpec) -> str:
    """What the user is told if the served model answers too few prompts as the trained one does."""
    return (
        f"The served model gives the trained model's answer on {agreed} of {n} held-out prompts ({agreed / n:.0%}), "
        f"and {spec.parity:.0%} are asked for: train for longer, so that answers are less of a toss-up, or lower "
        f"training.options.{spec.method}.parity."
    )


def check_parity(
    model: Any, tokenizer: Any, served: Path, prompts: Sequence[Sequence[Message]], *, max_tokens: int = 48
) -> Parity:
    """Compare a trained torch model with the file that is to be served in its place.

    Args:
        model: The trained model (adapter included), in evaluation mode.
        tokenizer: What it was trained with, chat template included.
        served: The GGUF file.
        prompts: Chats, each a list of messages with role and content, that were not trained on.
        max_tokens: Longest reply; a reply that is cut is compared as far as it goes.

    Raises:
        ArmError: The token ids differ, so that the served model would read something that was never trained; the file
            cannot be served; or there are no prompts.
    """
    from synth_dspy.lms.generation import Sampling
    from synth_dspy.lms.server import ModelServer

    if not prompts:
        raise ArmError("There are no held-out prompts to compare the served with the trained model on.")
    server = ModelServer(served)
    try:
        ids = [_same_ids(server, tokenizer, prompt) for prompt in prompts]
        futures = [server.submit(server.render(prompt), Sampling(max_tokens=max_tokens)) for prompt in prompts]
        replies = [future.result() for future in futures]
    except ModelError as error:
        raise ArmError(f"The merged model cannot be served: {error}.") from error
    finally:
        server.close()  # the forward passes below need both cores, and the memory
    results: dict[int, tuple[int, int, float] | None] = {}
    forced = _Forced(model)
    for place in sorted(range(len(ids)), key=ids.__getitem__):  # those that begin alike one after the other
        results[place] = forced.parting(ids[place], replies[place].token_ids)
    disagreements = []
    for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        if (parting := results[number]) is not None:
            place, token, margin = parting
            disagreements.append(
                Disagreement(
                    prompt=prompt[-1]["content"][-_TAIL:],
                    served=reply.text,
                    place=place,
                    served_token=tokenizer.decode([reply.token_ids[place]]),
                    trained_token=tokenizer.decode([token]),
                    margin=round(margin, 4),
                )
            )
    return Parity(
        n=len(prompts),
        agreed=len(prompts) - len(disagreements),
        near_ties=sum(each.margin < NEAR_TIE for each in disagreements),
        tokens=sum(len(reply.token_ids) for reply in replies),
        disagreements=tuple(disagreements[:_SHOWN]),
    )


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
    said = [
        repr(tokenizer.decode(side[place : place + 4])) if side[place:] else "nothing" for side in (trained, served)
    ]
    raise ArmError(
        f"The served model's chat template or tokeniser differs from the one trained with: at token {place} of a "
        f"prompt the training has {said[0]}, the server {said[1]}; take both from one model."
    )


class _Forced:
    """The trained model, reading prompts with their replies. Keeps the state of what it read last."""

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.model = model
        self._state = DynamicCache()
        self._read: list[int] = []  # the ids that the state is of

    def parting(self, prompt: Sequence[int], reply: Sequence[int]) -> tuple[int, int, float] | None:
        """Where a reply leaves what the model would say: (place, the token it would say, its lead in logits).

        None if it does not.
        """
        import torch

        if not reply:
            return None
        ids = [*prompt, *reply[:-1]]
        known = min(_alike(self._read, ids), len(prompt) - 1)  # the prompt's last token predicts the reply's first
        if known < len(self._read):
            self._state.crop(known - len(self._read))
        with torch.inference_mode():
            # Logits of the positions that predict the reply only: a vocabulary is wider than the model.
            said_next = self.model(
                input_ids=torch.tensor([ids[known:]], device=self.model.device),
                past_key_values=self._state,
                use_cache=True,
                logits_to_keep=len(reply),
            )
        self._read = ids
        logits = said_next.logits[0].float()
        said = torch.tensor(list(reply), device=logits.device)
        best, token = logits.max(dim=-1)
        parted = (token != said).nonzero()
        if not len(parted):
            return None
        place = int(parted[0])
        return place, int(token[place]), float(best[place] - logits[place, said[place]])


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
