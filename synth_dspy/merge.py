"""`python -m synth_dspy.merge`; see `synth_dspy.cli.merge`."""

from synth_dspy.cli.merge import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
