"""`python -m synth_dspy.rollback`; see `synth_dspy.cli.rollback`."""

from synth_dspy.cli.rollback import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
