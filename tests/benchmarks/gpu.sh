#!/bin/sh
# The tables of docs/performance.md for this machine's GPU, with a random model of Llama 3 8B's shape: under 12 minutes,
# 20 GB of disk, no downloads. Without a GPU a small double of the same shape runs on the CPU, which tests the script.
#
#     sh tests/benchmarks/gpu.sh [--size tiny|double|8b] [--minutes 10]
set -eu
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python}" -m tests.benchmarks.gpu "$@"
