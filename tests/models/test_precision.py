"""What models compute in is a function of the CPU's capabilities and of the user's word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth_dspy import SetupError
from synth_dspy.models.embedded.precision import (
    INSTRUCTIONS,
    avoid_amx_on_one_core,
    choose_precision,
    generation_properties,
    precision,
)
from tests.tiny import tiny_model

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


@pytest.mark.parametrize(
    ("cores", "flags", "set_before", "expected"),
    [
        ({0}, "avx512_bf16 amx_bf16", None, "AVX512_CORE_BF16"),
        ({0, 1}, "avx512_bf16 amx_bf16", None, None),
        ({0}, "avx512_bf16", None, None),
        ({0}, "avx512_bf16 amx_bf16", "AVX2", "AVX2"),
    ],
)
def test_amx_is_left_out_where_a_process_has_one_core(
    cores: set[int],
    flags: str,
    set_before: str | None,
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    environment = {INSTRUCTIONS: set_before} if set_before else {}
    avoid_amx_on_one_core(environment, tmp_path / "cpuinfo")
    assert environment.get(INSTRUCTIONS) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity")
def test_a_model_is_opened_on_one_core(tmp_path: Path) -> None:
    """In a process of its own: where OpenVINO fails on one core, it takes the process with it."""
    from synth_dspy.models.weights.hf_folder import write_gguf

    write_gguf(tiny_model(tmp_path / "tiny"), tmp_path / "tiny.gguf")
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pathlib import Path\n"
        "from synth_dspy.models.embedded.generation import ServerSettings\n"
        "from synth_dspy.models.embedded.pipeline import open_pipeline\n"
        "open_pipeline(Path(sys.argv[1]), ServerSettings()); print('opened')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tiny.gguf")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "opened"), done.stderr
