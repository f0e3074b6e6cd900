"""What "good" means where no judge is needed: the engine's metrics, to be replaced by your own under the same names.

A metric is DSPy's: `metric(example, prediction, trace=None)`, a number from 0 to 1. A reward, for GRPO, is given a
training row and a reply.
"""

from __future__ import annotations

from synth_dspy import metrics

reward_f1 = metrics.reward_f1
"""Token F1 of a reply against the references of its row: what GRPO climbs."""
