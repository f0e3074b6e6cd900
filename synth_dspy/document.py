"""`python -m synth_dspy.document`; see `synth_dspy.cli.document`."""

from synth_dspy.cli.document import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
