#!/bin/bash
# Lifecycle configuration of a SageMaker notebook instance, "Create notebook": fetches the project and begins to install
# it. SageMaker stops a script after five minutes, so the installation goes on by itself; install.log says how far it is.
set -euo pipefail

SOURCE="${SOURCE:-s3://YOUR-BUCKET/synth-dspy}" # the project's folder: a prefix of S3, or the URL of a git repository
OWNER="${OWNER:-ec2-user}"
ROOT="${ROOT:-/home/$OWNER/SageMaker/synth-dspy}" # of the home folder, only SageMaker/ outlives a restart

case "$SOURCE" in
    s3://YOUR-BUCKET/*) echo "Name the project's folder: SOURCE, at the top of this script." >&2; exit 2 ;;
    s3://*) sudo -u "$OWNER" aws s3 sync --only-show-errors "$SOURCE" "$ROOT" ;;
    *) sudo -u "$OWNER" git clone --quiet --depth 1 "$SOURCE" "$ROOT" ;;
esac
nohup setsid sudo -u "$OWNER" bash "$ROOT/notebooks/sagemaker/install.sh" "$ROOT" \
    > "$ROOT/install.log" 2>&1 < /dev/null &
