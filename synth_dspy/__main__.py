"""`synth-dspy VERB ...`, and `python -m synth_dspy VERB ...`: which commands there are, and the way to each."""

from __future__ import annotations

from importlib import import_module

from synth_dspy import __version__
from synth_dspy.cli.arguments import run_verb
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import SCRIPT, command
from synth_dspy.core.validation import suggest

COMMANDS = {
    "compile": "documents in, benchmark report out: RAG against its compiled and fine-tuned versions",
    "label": "review the questions that a compile proposes about documents without labels",
    "evaluate": "score saved programs on new items, or answers with a judge",
    "restore": "put a damaged ledger together again",
    "report": "write a finished run's report again",
    "choose": "which arm or run to take, under limits of latency, cost, memory and licence",
    "blind": "let people vote on answers without knowing whose they are",
    "export": "write what a program learned from as a chat data set",
    "apply": "answer every row of a table by a saved program",
    "document": "comments for the tables of a database, by a saved program",
    "train": "one training, from its spec file",
    "merge": "merge the adapters of tuned arms into one",
    "serve": "answer requests with a task's champion, and take feedback",
    "versions": "versions of a task's program, and what each comes from",
    "promote": "make a version the champion, which answers",
    "rollback": "return to the previous champion",
    "forget": "delete what a person asked and thought, and say what was learned from it",
    "loop": "watch a task in production: retrain, compare, promote, roll back; or rehearse that",
    "deploy": "serve a program's tuned model on Amazon Bedrock, and put it back into the program",
    "aws": "what a run needs on AWS and costs there; remove what it made",
    "weights": "list and fetch the embedded models",
    "init": "a workspace to edit: tasks, recipes, judges, sample data",
}


def main(args: list[str]) -> int | None:
    """Run the verb that the arguments begin with; without one, list what there is.

    Raises:
        SetupError: there is no such verb, or the verb's own.
    """
    if not args or args[0] in ("-h", "--help"):
        listed = "\n".join(f"  {command(name):<{len(command('document'))}}  {does}" for name, does in COMMANDS.items())
        print(f"Commands, each with --help:\n\n{listed}")
        return 0
    if args[0] == "--version":
        print(f"{SCRIPT} {__version__}")
        return 0
    verb, *rest = args
    if verb not in COMMANDS:
        kind = "option" if verb.startswith("-") else "command"
        raise SetupError(f"There is no {kind} {verb!r}: {suggest(verb, [*COMMANDS, '--help', '--version'])}")
    status: int | None = import_module(f"synth_dspy.cli.{verb}").main(rest)  # `synth_dspy.loop` is a package
    return status


def script() -> None:
    """The console script."""
    run_verb(main)


if __name__ == "__main__":
    script()
