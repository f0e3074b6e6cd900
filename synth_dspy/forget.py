"""`python -m synth_dspy.forget`; see `synth_dspy.cli.forget`."""

from synth_dspy.cli.forget import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
