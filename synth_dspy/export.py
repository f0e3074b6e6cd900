"""`python -m synth_dspy.export`; see `synth_dspy.cli.export`."""

from synth_dspy.cli.export import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
