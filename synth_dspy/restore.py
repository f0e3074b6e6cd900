"""`python -m synth_dspy.restore`; see `synth_dspy.cli.restore`."""

from synth_dspy.cli.restore import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
