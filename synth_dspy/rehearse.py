"""`python -m synth_dspy.rehearse`; see `synth_dspy.cli.rehearse`."""

from synth_dspy.cli.rehearse import main

__all__ = ["main"]

if __name__ == "__main__":
    from synth_dspy.cli.arguments import run_verb

    run_verb(main)
