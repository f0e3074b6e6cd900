"""`python -m synth_dspy`: which commands there are."""

from __future__ import annotations

import sys

COMMANDS = {
    "compile": "documents in, benchmark report out: RAG against its compiled and fine-tuned versions",
    "evaluate": "score saved programs on new items, or answers with a judge",
    "report": "write a finished run's report again",
    "choose": "which arm or run to take, under limits of latency, cost, memory and licence",
    "blind": "let people vote on answers without knowing whose they are",
    "export": "write what a program learned from as a chat data set",
    "document": "comments for the tables of a database, by a saved program",
    "train": "one training, from its spec file",
    "weights": "list and fetch the embedded models",
    "init": "a workspace to edit: tasks, recipes, judges, sample data",
}


def main(args: list[str]) -> int:
    """Print the commands; with arguments that is no answer, but a mistake."""
    listed = "\n".join(f"  python -m synth_dspy.{name:9} {does}" for name, does in COMMANDS.items())
    if not args or args[0] in ("-h", "--help"):
        print(f"Commands, each with --help:\n\n{listed}")
        return 0
    hint = f"did you mean python -m synth_dspy.{args[0]}?" if args[0] in COMMANDS else f"there are\n\n{listed}"
    print(f"error: A command follows a dot: {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
