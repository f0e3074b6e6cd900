"""`python -m synth_dspy.init`; see `synth_dspy.cli.init`."""

from synth_dspy.cli.init import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
