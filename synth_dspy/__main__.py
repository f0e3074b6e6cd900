"""`python -m synth_dspy`: which commands there are."""

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

if __name__ == "__main__":
    print("Commands, each with --help:\n")
    for name, does in COMMANDS.items():
        print(f"  python -m synth_dspy.{name:9} {does}")
