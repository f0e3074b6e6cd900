"""Table documentation: a comment for every table and column, from names, types and keys.

python -m synth_dspy.compile table_docs
python -m synth_dspy.compile table_docs --task.tables path/to/adventureworks.jsonl
python -m synth_dspy.compile table_docs --task.database sqlite:///shop.db
python -m synth_dspy.document runs/table_docs/<id>/programs/sft --database duckdb:///shop.duckdb --out comments.sql
"""

from __future__ import annotations

from pathlib import Path

import dspy

from synth_dspy.core.config import DatabaseUrl
from synth_dspy.core.resources import Resources
from synth_dspy.core.task import Task, task
from synth_dspy.domains.tables.documentation import clean
from synth_dspy.domains.tables.judge import covered, length, make_table_judge, nothing_invented, says_more
from synth_dspy.domains.tables.source import Industries
from synth_dspy.domains.tables.synthesis import SAMPLE, table_filters, table_synthesizer
from synth_dspy.evaluation.metrics import token_f1
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.training.recipes.bootstrap import Bootstrap
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.lora_orpo import LoraOrpo
from synth_dspy.training.recipes.lora_sft import LoraSft


class DescribeColumn(dspy.Signature):
    """Say in a few words what the column of the database table holds. Write out abbreviations."""

    table: str = dspy.InputField()
    column: str = dspy.InputField()
    comment: str = dspy.OutputField()


class TableDocumenter(dspy.Module):
    """Comments on one column, or on the table itself; `domains.tables.documentation.document` does whole tables."""

    def __init__(self, resources: Resources) -> None:
        super().__init__()
        self.describe = dspy.Predict(DescribeColumn)

    def forward(self, table: str, column: str) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            said = self.describe(table=table, column=column)
        comment = clean(str(said.comment))
        return dspy.Prediction(answer=comment, comment=comment, abstained=False)


@task
def table_docs(tables: Path | None = None, naics: Path | None = None, database: DatabaseUrl | None = None) -> Task:
    """Comments on tables and columns.

    Args:
        tables: your own tables with comments, a .sql or .jsonl file or a folder of such (AdventureWorks is one).
        naics: a list of industries with the columns code and title, instead of the project's own.
        database: your database, as duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME.
    """
    return Task(
        source=Industries(SAMPLE, naics, tables, database),
        program=TableDocumenter,
        synthesizer=table_synthesizer,
        filters=table_filters,
        judge=make_table_judge,
        metrics={
            "f1": token_f1,
            "covered": covered,
            "nothing_invented": nothing_invented,
            "says_more": says_more,
            "length": length,
        },
        optimizers={
            "zero_shot": lambda resources, metric: None,
            "bootstrap": Bootstrap,
            "sft": LoraSft,
            "dpo": LoraDpo,
            "orpo": LoraOrpo,
        },
        objective="f1",  # the judge only asks for the right meaning; words of people's own comments teach the style
        noun="table",
        labels="--task.tables FILE",
        words=60,
    )
