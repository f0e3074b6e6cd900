"""Metrics without a judge: the engine's, to be replaced by your own under the same names.

A metric is DSPy's: `metric(example, prediction, trace=None)`, a number from 0 to 1. A reward, for GRPO, takes a
training row and a reply.
"""

from __future__ import annotations

from synth_dspy import metrics

reward_f1 = metrics.reward_f1
"""Token F1 of a reply against the references of its row: GRPO's reward."""
