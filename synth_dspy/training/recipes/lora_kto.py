"""LoRA KTO: learns from single answers labelled right or wrong, without pairs.

Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv:2402.01306.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from synth_dspy.training.optimizer import Method
from synth_dspy.training.recipes.preferences import AfterSft
from synth_dspy.training.rows import ACCEPT, Rows, kto_rows, need_both_labels
from synth_dspy.training.traces import Trace


@dataclass(frozen=True)
class LoraKto(AfterSft):
    """LoRA Kahneman-Tversky optimisation on single answers labelled right or wrong, after SFT."""

    method: ClassVar[Method] = "kto"
    unused: ClassVar[frozenset[str]] = frozenset({"margin", "per_example"})

    def rows(self, traces: Sequence[Trace]) -> Rows:
        # A judge has a threshold of its own, from which an answer is right.
        return kto_rows(traces, accept=getattr(self.resources.judge, "threshold", ACCEPT), most=self.limit())

    def check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        need_both_labels(rows)
