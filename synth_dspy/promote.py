"""`python -m synth_dspy.promote`; see `synth_dspy.cli.promote`."""

from synth_dspy.cli.promote import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
