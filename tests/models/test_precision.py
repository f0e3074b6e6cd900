"""What models compute in is a function of the CPU's capabilities and of the user's word."""

from __future__ import annotations

import pytest

from synth_dspy import SetupError
from synth_dspy.models.embedded.precision import choose_precision, generation_properties, precision

AVX2 = ("FP32", "INT8", "BIN", "EXPORT_IMPORT")
EPYC = ("BF16", "WINOGRAD", "FP32", "INT8", "BIN", "EXPORT_IMPORT")
AMX = ("BF16", "FP16", "WINOGRAD", "FP32", "INT8", "BIN", "EXPORT_IMPORT")


@pytest.mark.parametrize(
    ("capabilities", "override", "expected"),
    [
        (AVX2, None, "f32"),
        (EPYC, None, "bf16"),
        (AMX, None, "bf16"),
        ((), None, "f32"),
        (EPYC, "", "bf16"),
        (AVX2, "f32", "f32"),
        (EPYC, "f32", "f32"),
        (AMX, "bf16", "bf16"),
    ],
)
def test_precision_follows_the_cpu_unless_the_user_says_otherwise(
    capabilities: tuple[str, ...], override: str | None, expected: str
) -> None:
    assert choose_precision(capabilities, override) == expected


@pytest.mark.parametrize(
    ("capabilities", "override", "message"),
    [(AVX2, "bf16", "does not support bfloat16"), (EPYC, "fp16", "set it to f32 or bf16")],
)
def test_a_precision_that_cannot_be_had_is_refused(capabilities: tuple[str, ...], override: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        choose_precision(capabilities, override)


def test_products_and_cache_always_have_one_type() -> None:
    """Mixed types do not load ("Check 'key_cache_type == bf16' failed")."""
    assert {tuple(generation_properties(each).values()) for each in ("f32", "bf16")} == {
        ("f32", "f32"),
        ("bf16", "bf16"),
    }


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTH_DSPY_PRECISION", "f32")
    assert precision() == "f32"
