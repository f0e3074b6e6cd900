"""`python -m synth_dspy.evaluate`; see `synth_dspy.cli.evaluate`."""

from synth_dspy.cli.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
