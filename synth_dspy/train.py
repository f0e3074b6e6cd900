"""`python -m synth_dspy.train`; see `synth_dspy.cli.train`."""

from synth_dspy.cli.train import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
