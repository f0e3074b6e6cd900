"""`python -m synth_dspy.versions`; see `synth_dspy.cli.versions`."""

from synth_dspy.cli.versions import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
