"""`python -m synth_dspy.choose`; see `synth_dspy.cli.choose`."""

from synth_dspy.cli.choose import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
