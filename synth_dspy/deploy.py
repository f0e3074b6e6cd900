"""`python -m synth_dspy.deploy`; see `synth_dspy.cli.deploy`."""

from synth_dspy.cli.deploy import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
