"""`python -m synth_dspy.compile`; see `synth_dspy.cli.compile`."""

from synth_dspy.cli.compile import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
