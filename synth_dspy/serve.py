"""`python -m synth_dspy.serve`; see `synth_dspy.cli.serve`."""

from synth_dspy.cli.serve import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
