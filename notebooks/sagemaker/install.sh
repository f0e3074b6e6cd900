#!/bin/bash
# Makes the project's environment, fetches the embedded models' weights, and makes the kernel. May be run again.
#
#   bash notebooks/sagemaker/install.sh [FOLDER OF THE PROJECT]
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "${1:-$HERE/../..}" && pwd)"
VENV="$ROOT/.venv"

if [ ! -x "$VENV/bin/python" ]; then
    PYTHON="$(command -v python3.12 || command -v python3.11 || true)"
    if [ -z "$PYTHON" ]; then # the machine's own is older
        CONDA="$(command -v conda || echo "$HOME/anaconda3/bin/conda")"
        "$CONDA" create --quiet --yes --prefix "$ROOT/.python" python=3.11
        PYTHON="$ROOT/.python/bin/python"
    fi
    "$PYTHON" -m venv "$VENV"
fi
cd "$ROOT"
"$VENV/bin/python" -m pip install --quiet --retries 10 --constraint constraints.txt torch
"$VENV/bin/python" -m pip install --quiet --retries 10 --constraint constraints.txt --editable '.[aws,notebooks]'
SYNTH_DSPY_HOME="$ROOT/.cache" "$VENV/bin/python" -m synth_dspy.weights pull smollm2-135m-instruct all-minilm-l6-v2
ROOT="$ROOT" bash "$HERE/on-start.sh"
