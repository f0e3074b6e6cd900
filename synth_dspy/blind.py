"""`python -m synth_dspy.blind`; see `synth_dspy.cli.blind`."""

from synth_dspy.cli.blind import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
