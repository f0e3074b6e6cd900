"""Serves any causal language model with transformers' own continuous batching, on the CPU or a GPU.

transformers schedules the requests, chunks prompts, keeps keys and values in pages and shares those of common prefixes.
Its thread runs the model; `step` waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from synth_dspy.core.errors import SetupError
from synth_dspy.models import chat
from synth_dspy.models.embedded.generation import Sampling, ServerSettings
from synth_dspy.models.embedded.torch_model import base_of, load_model, stop_ids, window

_WAIT_S = 0.02
"""How long a step waits for a reply, so that new requests are let in meanwhile."""
_PAGE = 64
_GPU_SHARE = 0.4
"""Share of the GPU's free memory that is left to keys and values."""
_GPU_TOKENS = 4096
_STOP_S = 10.0
_GIB = 1 << 30


class HfTokenizer:
    """`backend.ChatTokenizer` by transformers."""

    def __init__(self, tokenizer: Any, ends: set[int]) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = ends
        self.longest = 1 << 60
        self.stops: tuple[str, ...] = (chat.PLAIN_STOP,) if chat.has_plain_template(tokenizer) else ()

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render `messages` (role and content) with the chat template, ready for a reply."""
        return chat.render(self.tokenizer, messages)

    def encode(self, prompt: str) -> list[int]:
        """The ids of `prompt`: special tokens are parsed, none are added."""
        return list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def text(self, ids: Sequence[int]) -> str:
        """A reply's text, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


class TransformersPipeline:
    """`backend.Pipeline` by transformers. Raises `SetupError` for a model that it cannot serve."""

    def __init__(self, path: Path, settings: ServerSettings) -> None:
        from transformers import GenerationConfig, LogitsProcessorList
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        from synth_dspy.models.embedded.decoding import Decoder

        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)  # errors are raised, too
        folder, _ = base_of(path)
        tokenizer = chat.open_tokenizer(folder)
        self._model, self._base = load_model(path)
        config = self._model.config
        ends = stop_ids(folder, tokenizer, config)
        if not ends:
            raise SetupError(f"{folder} names no token that ends a reply: set eos_token_id in its config.json")
        self.tokenizer = HfTokenizer(tokenizer, ends)
        self._ends = sorted(ends)
        self._decoder = Decoder(self._ends, self.tokenizer.text)
        self._masks: Any = None
        self._replies: dict[str, TorchReply] = {}
        cuda = self._model.device.type == "cuda"
        pages = _pages(config, self._model, settings, cuda=cuda)
        self.context_length = min(window(config), pages * _PAGE)
        self._model._get_logits_processor = lambda _: LogitsProcessorList([self._decoder])
        try:
            self._manager = self._model.init_continuous_batching(
                GenerationConfig(do_sample=False, eos_token_id=self._ends, pad_token_id=self._ends[0]),
                # Masks and seeds depend on the tokens before, so a batch is prepared after the last one has ended.
                ContinuousBatchingConfig(
                    page_size=_PAGE,
                    num_blocks=pages,
                    max_batch_tokens=_GPU_TOKENS if cuda else settings.max_batched_tokens,
                    max_requests_per_batch=settings.max_sequences,
                    return_logprobs=True,
                    use_async_batching=False,
                    use_cuda_graph=False,
                    auto_switch_to_flash=cuda,
                ),
            )
        except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
            raise SetupError(f"{folder} cannot be served by transformers' continuous batching: {error}") from error
        self._manager.logit_processor.tensors_required = 1
        self._manager.start()

    def add(self, number: int, ids: Sequence[int], sampling: Sampling) -> TorchReply:
        """Add a templated prompt to the batch."""
        name = str(number)
        matcher = None if sampling.grammar is None else self._matcher(sampling.grammar.ebnf)
        self._decoder.add(name, len(ids), sampling, matcher)
        reply = self._replies[name] = TorchReply(self, name, sampling.max_tokens, frozenset(self._ends))
        self._manager.add_request(
            list(ids), request_id=name, max_new_tokens=sampling.max_tokens, eos_token_id=self._ends
        )
        return reply

    def step(self) -> None:
        """Wait a moment for replies."""
        output = self._manager.get_result(timeout=_WAIT_S)
        if output is None and not self._manager.is_running():
            self.close()
            raise RuntimeError("continuous batching has stopped")
        while output is not None:
            reply = self._replies.pop(output.request_id, None)
            self._decoder.remove(output.request_id)
            if output.error is not None:
                self.close()
                raise RuntimeError(output.error)
            if reply is not None:
                reply.finish(output)
            output = self._manager.get_result(timeout=0.001)

    def cancel(self, name: str) -> None:
        """Take a request out of the batch."""
        if (reply := self._replies.pop(name, None)) is not None:
            self._manager.cancel_request(name)
            self._decoder.remove(name)
            reply.finish(None)

    def close(self) -> None:
        """Stop transformers' thread."""
        with suppress(Exception):
            self._manager.stop(block=True, timeout=_STOP_S)

    def _matcher(self, ebnf: str) -> Any:
        if self._masks is None:
            from synth_dspy.models.grammar.masks import TokenMasks

            width = int(self._model.get_output_embeddings().weight.shape[0])
            self._masks = TokenMasks(self.tokenizer.tokenizer, width, self._ends[0])
        return self._masks.matcher(ebnf)


class TorchReply:
    """`backend.Reply` by transformers."""

    def __init__(self, pipeline: TransformersPipeline, name: str, max_tokens: int, ends: frozenset[int]) -> None:
        self._pipeline, self._name, self._max_tokens, self._ends = pipeline, name, max_tokens, ends
        self._ids: list[int] | None = None
        self._logprobs: list[float] = []

    def cancel(self) -> None:
        """Take it out of the batch."""
        self._pipeline.cancel(self._name)

    def can_read(self) -> bool:
        """True: transformers does not tell when it reads the prompt."""
        return True

    def state(self) -> Literal["running", "ignored", "finished"]:
        """Whether the reply is there."""
        return "running" if self._ids is None else "finished"

    def read(self) -> tuple[list[int], list[float], bool]:
        """The reply's ids, their log-probabilities, and whether it was cut at max_tokens."""
        ids = self._ids or []
        return ids, self._logprobs, len(ids) >= self._max_tokens and ids[-1] not in self._ends

    def finish(self, output: Any) -> None:
        """Take the reply from transformers' output; None: it was cancelled."""
        if output is not None:
            self._logprobs = [float(value) for value in output.logprobs]
        self._ids = [] if output is None else [int(token) for token in output.generated_tokens]


def _pages(config: Any, model: Any, settings: ServerSettings, *, cuda: bool) -> int:
    """Number of pages for keys and values: of the memory for them, but no more than all requests can fill."""
    import torch

    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    page = _PAGE * 2 * int(config.num_hidden_layers) * heads * size * model.dtype.itemsize
    memory = settings.kv_cache_gib * _GIB
    if cuda:
        memory = int(torch.cuda.mem_get_info()[0] * _GPU_SHARE)
    return int(max(2, min(memory // page, settings.max_sequences * -(-window(config) // _PAGE))))
