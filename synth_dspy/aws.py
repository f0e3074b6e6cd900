"""`python -m synth_dspy.aws`; see `synth_dspy.cli.aws`."""

from synth_dspy.cli.aws import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
