"""`python -m synth_dspy.report`; see `synth_dspy.cli.report`."""

from synth_dspy.cli.report import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
