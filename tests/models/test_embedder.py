"""The embedder, with the real model: its vectors, its order, its shapes, and that later runs need no torch."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedder import EmbeddedEmbedder
from synth_dspy.models.weights.registry import resolve

pytestmark = pytest.mark.slow

TEXTS = [
    "This agreement is governed by the laws of Delaware.",
    "Delaware law applies to this contract.",
    "The cat sat on the mat.",
    "",
    "né à Paris, 3 % de plus — naïve",
    "word " * 400,  # beyond the model's 256 tokens
    *(f"Section {n}. " + "The supplier shall deliver the goods. " * (n % 7) for n in range(40)),
]


@pytest.fixture(scope="module")
def embedder() -> EmbeddedEmbedder:
    try:
        resolve("all-minilm-l6-v2")
    except SetupError as error:
        pytest.skip(str(error))
    return EmbeddedEmbedder()


def _reference(texts: list[str]) -> np.ndarray:
    """The same model by transformers, one text at a time: mean of the token states, normalised."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    folder = resolve("all-minilm-l6-v2")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            mean = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0)
            rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def test_vectors_are_the_models_own_in_the_order_asked(embedder: EmbeddedEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384) == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    some = [*list(range(0, 6)), 20, 40]
    cosines = (vectors[some] * _reference([TEXTS[i] for i in some])).sum(axis=1)
    assert cosines.min() >= 0.999
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_nothing_gives_nothing(embedder: EmbeddedEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 384)
    assert embedder.embed_tokens([]) == []


def test_threads_get_their_own_answers(embedder: EmbeddedEmbedder) -> None:
    whole = embedder.embed(TEXTS)
    with ThreadPoolExecutor(8) as executor:
        parts = list(executor.map(lambda text: embedder.embed([text])[0], TEXTS))
    np.testing.assert_allclose(np.stack(parts), whole, atol=2e-3)


def test_token_vectors_carry_their_place_in_the_text(embedder: EmbeddedEmbedder) -> None:
    text = "The Licensee pays 500 dollars."
    other = "word " * 50
    result, longer = embedder.embed_tokens([text, other])
    assert result.vectors.shape == (len(result.tokens), 384)
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-5)
    assert [text[start:end] for start, end in result.offsets][-3:] == ["500", "dollars", "."]
    assert "[CLS]" not in result.tokens
    assert len(longer.tokens) == 50
    alone = embedder.embed_tokens([text])[0]
    np.testing.assert_allclose(alone.vectors, result.vectors, atol=2e-3)


def test_a_folder_that_is_no_embedding_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not a sentence-transformers folder"):
        EmbeddedEmbedder(str(tmp_path)).embed(["x"])


def test_later_runs_import_neither_torch_nor_transformers(embedder: EmbeddedEmbedder) -> None:
    embedder.embed(["converted by now"])
    script = (
        "import sys; from synth_dspy.models.embedder import EmbeddedEmbedder; EmbeddedEmbedder().embed(['x']);"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
