"""`python -m synth_dspy.weights`; see `synth_dspy.cli.weights`."""

from synth_dspy.cli.weights import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
