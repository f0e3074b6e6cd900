"""Serving by transformers: it says what the model says, in every family, length, sampling and constraint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, LLAMA3_ROPE, family_model
from tiny import tiny_adapter

from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedded.backend import choose, describe
from synth_dspy.models.embedded.generation import ContextWindowError, Sampling
from synth_dspy.models.embedded.server import ModelServer
from synth_dspy.models.grammar.constraints import from_response_format

pytestmark = pytest.mark.slow
HELLO = [{"role": "user", "content": "Who is the buyer?"}]


@pytest.fixture(autouse=True, scope="module")
def exact() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # before the model of the module is loaded
        patch.setenv("SYNTH_DSPY_PRECISION", "f32")
        yield


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_model(tmp_path_factory.mktemp("mistral") / "base", "mistral", template=False)


@pytest.fixture(scope="module")
def served(mistral: Path) -> Iterator[ModelServer]:
    server = ModelServer(choose(mistral).path)
    yield server
    server.close()


def reference(folder: Path, ids: list[int], **config: Any) -> list[float]:
    """The log-probability of every token after the first, by one forward pass of transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    soft = "eager" if "gemma-2" in str(folder) else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=soft, **config).eval()
    with torch.inference_mode():
        logps = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logps.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def differences(folder: Path, server: ModelServer, length: int, **config: Any) -> list[float]:
    """How far the log-probabilities of a reply to so many tokens are from those of one forward pass."""
    words = "".join(f"The supplier delivers {n * n} goods; payment is due in {n} days. " for n in range(length // 9))
    prompt = server.token_ids(words)[:length]
    assert len(prompt) == length
    text = server._tokenizer_once_loaded().text(prompt)
    reply = server.submit(text, Sampling(max_tokens=8, logprobs=True)).result()
    ids = [*server.token_ids(text), *reply.token_ids]
    expected = reference(folder, ids, **config)[-len(reply.token_ids) :]
    return [abs(one - other) for one, other in zip(reply.token_logprobs, expected, strict=True)]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"llama-3", "qwen2.5", "smollm2"}))
def test_a_family_is_served_as_transformers_computes_it(family: str, tmp_path: Path) -> None:
    folder = family_model(tmp_path / family, family)
    server = ModelServer(choose(folder).path)
    try:
        assert max(differences(folder, server, 600)) < 1e-3  # two chunks, many windows
    finally:
        server.close()


def test_scaled_rotary_embeddings_are_exact_at_any_length(tmp_path: Path) -> None:
    folder = family_model(tmp_path / "llama", "llama-3.1", window=131072)
    assert "llama3 rotary embeddings" in choose(folder).why
    server = ModelServer(choose(folder).path)
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": LLAMA3_ROPE["rope_theta"]}}
    try:
        for length in (100, 4000, 12000):
            assert max(differences(folder, server, length)) < 2e-3
        assert max(differences(folder, server, 12000, **plain)) > 1e-2  # another model without the scaling
    finally:
        server.close()


def test_adapters_share_their_base_and_are_applied_without_merging(mistral: Path, served: ModelServer) -> None:
    adapters = [tiny_adapter(mistral.parent / f"adapter{seed}", mistral, seed=seed) for seed in (1, 2)]
    servers = [ModelServer(choose(adapter).path) for adapter in adapters]
    try:
        prompt = served.render(HELLO)
        sampling = Sampling(max_tokens=12)
        futures = [server.submit(prompt, sampling) for server in (served, *servers)]
        assert len({future.result().text for future in futures}) == 3
        assert served.submit(prompt, sampling).result().text == futures[0].result().text
        embeddings = [server._pipeline._model.get_input_embeddings().weight for server in (served, *servers)]  # type: ignore[union-attr]
        assert len({weight.data_ptr() for weight in embeddings}) == 1
    finally:
        for server in servers:
            server.close()


def test_a_seed_is_a_sample_and_a_temperature_of_zero_the_best_reply(served: ModelServer) -> None:
    prompt = served.render(HELLO)
    settings = {"max_tokens": 10, "temperature": 1.0, "top_p": 0.95, "top_k": 50}
    first, again, other = (served.submit(prompt, Sampling(**settings, seed=seed)).result().text for seed in (3, 3, 4))
    assert first == again != other
    greedy = {served.submit(prompt, Sampling(max_tokens=10)).result().text for _ in range(2)}
    nearly = served.submit(prompt, Sampling(max_tokens=10, temperature=1e-4, seed=1)).result().text
    assert greedy == {nearly}


def test_a_stop_string_ends_a_reply_before_its_budget(served: ModelServer) -> None:
    prompt = served.render(HELLO)
    whole = served.submit(prompt, Sampling(max_tokens=60)).result()
    stop = whole.text[10:13]
    cut = served.submit(prompt, Sampling(max_tokens=60, stop=(stop,))).result()
    assert cut.text == whole.text.split(stop)[0]
    assert cut.output_tokens < whole.output_tokens


@pytest.mark.parametrize("seed", range(3))
def test_a_schema_constrains_a_reply(served: ModelServer, seed: int) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 3, "maximum": 17},
            "day": {"type": "string", "format": "date"},
            "kind": {"enum": ["one", 'a "second"']},
            "list": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
        },
        "required": ["n", "day", "kind", "list"],
    }
    grammar = from_response_format({"type": "json_schema", "schema": schema}, 120)
    sampling = Sampling(max_tokens=120, grammar=grammar, temperature=1.5, seed=seed)
    reply = json.loads(served.submit(served.render(HELLO), sampling).result().text)
    assert 3 <= reply["n"] <= 17
    assert reply["kind"] in ("one", 'a "second"')


def test_a_base_model_gets_a_plain_template_and_it_is_said(mistral: Path, served: ModelServer) -> None:
    assert served.render(HELLO) == "User: Who is the buyer?\n\nAssistant:"
    line = describe(mistral, "embedded/mistral")
    assert "served by transformers" in line
    assert "MistralForCausalLM" in line
    assert "plain one is used" in line


def test_what_does_not_fit_is_refused(served: ModelServer) -> None:
    with pytest.raises(ContextWindowError, match="exceed the context window of 1024 tokens"):
        served.submit("the contract " * 900, Sampling(max_tokens=100))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "unheard-of"}, "of a kind that the installed transformers does not read"),
        ({"architectures": ["MistralForSequenceClassification"]}, "not a causal language model"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(
    mistral: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    for file in mistral.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(SetupError, match=message):
        ModelServer(choose(tmp_path).path)


def test_an_adapter_without_its_base_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/a-model"}))
    with pytest.raises(SetupError, match="is someone/a-model, which is not a folder here"):
        ModelServer(choose(tmp_path).path)
