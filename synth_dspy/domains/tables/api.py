"""The building blocks of a task about tables: `from synth_dspy import table_tools`."""

from synth_dspy.domains.tables.documentation import clean
from synth_dspy.domains.tables.judge import covered, length, make_table_judge, nothing_invented, says_more
from synth_dspy.domains.tables.source import Industries
from synth_dspy.domains.tables.synthesis import table_filters, table_synthesizer

__all__ = [
    "Industries", "clean", "covered", "length", "make_table_judge", "nothing_invented", "says_more",
    "table_filters", "table_synthesizer",
]  # fmt: skip
