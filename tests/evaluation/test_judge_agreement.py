"""What the reference judge says of its own agreement with people."""

from __future__ import annotations

import pytest

from synth_dspy.evaluation.agreement import judge_agreement


def test_a_measured_domain_has_its_figures() -> None:
    trivia = judge_agreement("trivia")
    assert trivia is not None
    assert trivia.n_right + trivia.n_wrong > 10_000
    # Kappa follows from the other figures: none of them can have been changed alone.
    right, n = trivia.n_right, trivia.n_right + trivia.n_wrong
    accepted = trivia.sensitivity * right + (1 - trivia.specificity) * trivia.n_wrong
    same = (trivia.sensitivity * right + trivia.specificity * trivia.n_wrong) / n
    chance = (right * accepted + (n - right) * (n - accepted)) / n**2
    assert trivia.kappa == pytest.approx((same - chance) / (1 - chance), abs=0.005)


def test_a_domain_that_nobody_measured_has_none() -> None:
    assert judge_agreement("banking") is None
