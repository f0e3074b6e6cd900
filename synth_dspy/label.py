"""`python -m synth_dspy.label`; see `synth_dspy.cli.label`."""

from synth_dspy.cli.label import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
