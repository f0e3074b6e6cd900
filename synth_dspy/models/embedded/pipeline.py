"""Wrapper of OpenVINO GenAI's continuous-batching pipeline.

Keys and values are cached in the compute precision (`precision.py`), not in OpenVINO's default of 8 bits, with which a
token attends to exact keys within its chunk of the prompt and to rounded ones from the cache. Even so, the shape of a
batch determines the order of sums, hence their last bit, and sometimes which of two nearly equal tokens is best: of 40
greedy replies, 16 to 18 differed between a batch and one at a time, in f32 as in bf16. Answers are kept by the ledger,
but repeating a call may give another answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from synth_dspy.models.embedded.generation import Sampling, ServerSettings
from synth_dspy.models.embedded.tokenizer import Tokenizer, open_tokenizer
from synth_dspy.models.weights.gguf import context_length


def open_pipeline(path: Path, settings: ServerSettings) -> Any:
    """Load a model into an `openvino_genai.ContinuousBatchingPipeline` on the CPU."""
    import openvino_genai

    from synth_dspy.models.embedded.precision import generation_properties, precision

    config = openvino_genai.SchedulerConfig()
    config.cache_size = settings.kv_cache_gib
    config.max_num_seqs = settings.max_sequences
    config.max_num_batched_tokens = settings.max_batched_tokens
    config.enable_prefix_caching = True
    return openvino_genai.ContinuousBatchingPipeline(
        str(path),
        open_tokenizer(path),
        config,
        "CPU",
        **generation_properties(precision()),
    )


def generation_config(sampling: Sampling, stop_ids: set[int]) -> Any:
    """The pipeline's generation config for a prompt that is templated already."""
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.apply_chat_template = False
    config.stop_token_ids = stop_ids
    config.max_new_tokens = sampling.max_tokens
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature, config.top_p = sampling.temperature, sampling.top_p
        if sampling.top_k is not None:
            config.top_k = sampling.top_k
        config.rng_seed = (sampling.seed or 0) % (1 << 31)
    config.presence_penalty, config.frequency_penalty = sampling.presence_penalty, sampling.frequency_penalty
    if sampling.stop:
        config.stop_strings = set(sampling.stop)
    if sampling.logprobs:
        config.logprobs = 1
    if sampling.grammar is not None:
        config.structured_output_config = openvino_genai.StructuredOutputConfig(grammar=sampling.grammar.ebnf)
    return config


class OpenVinoPipeline:
    """`backend.Pipeline` by OpenVINO GenAI."""

    def __init__(self, path: Path, settings: ServerSettings) -> None:
        self.context_length = context_length(path)
        self._pipeline = open_pipeline(path, settings)
        self.tokenizer = Tokenizer(self._pipeline, path, self.context_length)

    def add(self, number: int, ids: Sequence[int], sampling: Sampling) -> OpenVinoReply:
        """Add a templated prompt to the batch."""
        import numpy as np
        import openvino

        config = generation_config(sampling, self.tokenizer.stop_ids)
        tensor = openvino.Tensor(np.array([list(ids)], np.int64))
        return OpenVinoReply(self._pipeline.add_request(number, tensor, config))

    def step(self) -> None:
        """One token for every request, or a chunk of its prompt."""
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def close(self) -> None:
        """Release the requests that were cancelled; otherwise the pipeline reports leaks."""
        with suppress(Exception):
            self.step()


class OpenVinoReply:
    """`backend.Reply` by OpenVINO GenAI."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def cancel(self) -> None:
        """Remove it at the next step."""
        self._handle.cancel()

    def can_read(self) -> bool:
        """Whether its first token is there."""
        return bool(self._handle.can_read())

    def state(self) -> Literal["running", "ignored", "finished"]:
        """The state of the request; "ignored" means that it does not fit into the pipeline's cache."""
        import openvino_genai

        status = self._handle.get_status()
        if status == openvino_genai.GenerationStatus.RUNNING:
            return "running"
        return "ignored" if status == openvino_genai.GenerationStatus.IGNORED else "finished"

    def read(self) -> tuple[list[int], list[float], bool]:
        """The token ids of the finished reply, their log-probabilities, and whether it was cut at max_tokens."""
        import openvino_genai

        outputs = self._handle.read_all()  # empty if a stop string removed the whole reply
        if not outputs:
            return [], [], False
        cut = outputs[0].finish_reason == openvino_genai.GenerationFinishReason.LENGTH
        return list(outputs[0].generated_ids), list(outputs[0].generated_log_probs), cut
