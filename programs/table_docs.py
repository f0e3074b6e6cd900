"""Table documentation: a comment for every table and column, from names, types and keys.

python -m synth_dspy.compile table_docs
python -m synth_dspy.compile table_docs --task.tables path/to/adventureworks.jsonl
python -m synth_dspy.compile table_docs --task.database sqlite:///shop.db
python -m synth_dspy.document runs/table_docs/<id>/programs/sft --database duckdb:///shop.duckdb --out comments.sql
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dspy

from synth_dspy import DatabaseUrl, PlainAdapter, Resources, Task, metrics, recipes, table_tools, task

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "industries"


class DescribeColumn(dspy.Signature):
    """Say in a few words what the column of the database table holds. Write out abbreviations."""

    table: str = dspy.InputField()
    column: str = dspy.InputField()
    comment: str = dspy.OutputField()


class TableDocumenter(dspy.Module):
    """Comments on one column, or on the table itself; `python -m synth_dspy.document` does whole databases."""

    def __init__(self, resources: Resources) -> None:
        super().__init__()
        self.describe = dspy.Predict(DescribeColumn)

    def forward(self, table: str, column: str) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            reply = self.describe(table=table, column=column)
        comment = table_tools.clean(str(reply.comment))
        return dspy.Prediction(answer=comment, comment=comment, abstained=False)


@task
def table_docs(tables: Path | None = None, naics: Path | None = None, database: DatabaseUrl | None = None) -> Task:
    """Comments on tables and columns.

    Args:
        tables: your own tables with comments, a .sql or .jsonl file or a folder of such files (such as AdventureWorks).
        naics: a list of industries with the columns code and title, instead of the project's own.
        database: your database, as duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME; without enough
            comments in it, the scores are about the sample's tables.
    """
    return Task(
        source=table_tools.Industries(SAMPLE, naics, tables, database),
        program=TableDocumenter,
        synthesizer=partial(table_tools.table_synthesizer, SAMPLE),
        filters=table_tools.table_filters,
        judge=table_tools.make_table_judge,
        metrics={
            "f1": metrics.token_f1,
            "covered": table_tools.covered,
            "nothing_invented": table_tools.nothing_invented,
            "says_more": table_tools.says_more,
            "length": table_tools.length,
        },
        optimizers={
            "zero_shot": recipes.as_declared,
            "bootstrap": recipes.Bootstrap,
            "sft": recipes.LoraSft,
            "dpo": recipes.LoraDpo,
            "orpo": recipes.LoraOrpo,
            "kto": recipes.LoraKto,
            "grpo": recipes.LoraGrpo,
            "rloo": recipes.LoraRloo,
            "online_dpo": recipes.LoraOnlineDpo,
            "together": recipes.Together,
            "distill": recipes.Distill,
        },
        arms=("zero_shot", "bootstrap", "sft", "dpo", "orpo"),
        objective="f1",  # the judge only rewards the right meaning; the words of people's comments also teach the style
        noun="table",
        labels="--task.tables FILE",
        words=60,
    )
