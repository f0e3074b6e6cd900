"""The script that measures a GPU, as far as a machine without one can run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.sh"


@pytest.mark.slow
def test_every_row_that_can_run_has_figures_and_the_others_a_reason(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        ["sh", str(SCRIPT), "--size", "tiny", "--minutes", "0.01", "--json", str(figures)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(figures.read_text())
    for method in ("sft", "dpo"):
        for savers in ("none", "packing", "packing, checkpointing"):
            row = made[f"{method}: {savers}"]
            assert row["tokens_per_second"] > 0
            assert row["peak_gib"] > 0
    assert made["generation: base"] > 0 < made["generation: adapter"]
    lines = [line for line in done.stdout.splitlines() if line.startswith("| sft |")]
    assert len(lines) == 6, "a row that cannot run says why"
