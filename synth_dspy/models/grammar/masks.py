"""Token masks of a grammar for engines that have no constrained decoding of their own, by llguidance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from synth_dspy.core.errors import ModelError

_NEVER = re.compile(r"\b\w+\{0,0\}")


class TokenMasks:
    """Compiles grammars for one tokenizer.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        width: number of the model's logits, at least the tokenizer's vocabulary.
        end: the token that ends a reply.
    """

    def __init__(self, tokenizer: Any, width: int, end: int) -> None:
        from llguidance.hf import from_tokenizer

        self._tokenizer = from_tokenizer(tokenizer, n_vocab=width, eos_token=end)
        self._special = [token for token in tokenizer.get_added_vocab() if re.fullmatch(r"<[^<>\s]+>", token)]

    def matcher(self, ebnf: str) -> Matcher:
        """A new matcher, at the beginning of a reply.

        Raises:
            ModelError: llguidance does not take the grammar.
        """
        from llguidance import LLMatcher
        from llguidance.gbnf_to_lark import gbnf_to_lark

        lark = gbnf_to_lark(_NEVER.sub('""', ebnf))
        for token in self._special:  # a special token is not its text
            lark = lark.replace(f'"{token}"', token)
        inner = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(lark))
        if inner.get_error():
            raise ModelError(f"the grammar of the reply cannot be compiled: {inner.get_error()[:300]}")
        return Matcher(inner, self._tokenizer.vocab_size)


class Matcher:
    """The state of one reply in its grammar."""

    def __init__(self, inner: Any, width: int) -> None:
        self._inner, self._width = inner, width

    def accept(self, tokens: Iterable[int]) -> None:
        """Go on by the tokens that were written."""
        for token in tokens:
            if self._inner.is_stopped():
                return
            self._inner.consume_token(token)

    def allowed(self) -> Any:
        """Which tokens may come next: a boolean array over the vocabulary."""
        import numpy as np

        if self._inner.is_stopped():
            return None
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        return np.unpackbits(bits, bitorder="little")[: self._width].astype(bool)
