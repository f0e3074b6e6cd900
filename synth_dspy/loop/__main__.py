"""`python -m synth_dspy.loop`; see `synth_dspy.cli.loop`."""

from synth_dspy.cli.arguments import run_verb
from synth_dspy.cli.loop import main

if __name__ == "__main__":
    run_verb(main)
