"""`python -m synth_dspy.apply`; see `synth_dspy.cli.apply`."""

from synth_dspy.cli.apply import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
