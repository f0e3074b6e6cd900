#!/bin/bash
# Lifecycle configuration of a SageMaker notebook instance, "Start notebook": Jupyter forgets its kernels when the
# instance stops, so the kernel is made at every start. In Studio: run it once, by hand, after install.sh.
set -euo pipefail

OWNER="${OWNER:-ec2-user}"
ROOT="${ROOT:-/home/$OWNER/SageMaker/synth-dspy}"
PYTHON="$ROOT/.venv/bin/python"

if [ ! -x "$PYTHON" ] || ! "$PYTHON" -c "import ipykernel, synth_dspy"; then
    echo "The environment is not there yet: $ROOT/install.log says how far it is." >&2
    exit 0 # anything else would stop the instance
fi
make_kernel=("$PYTHON" -m ipykernel install --user --name synth-dspy --display-name "synth_dspy"
    --env SYNTH_DSPY_HOME "$ROOT/.cache")
if [ "$(id -u)" = 0 ] && id "$OWNER" > /dev/null 2>&1; then # scripts of a lifecycle run as root
    sudo -u "$OWNER" -H "${make_kernel[@]}"
else
    "${make_kernel[@]}"
fi
