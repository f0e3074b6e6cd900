"""Writing training rows about tables: which vocabulary, which teacher writes what, which filters judge it."""

from __future__ import annotations

from pathlib import Path

from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.tables.filters import (
    Identifies,
    Means,
    NothingInvented,
    Runs,
    SaidAlready,
    SaysMore,
    WellWritten,
)
from synth_dspy.domains.tables.generate import Sampler, read_vocabulary
from synth_dspy.domains.tables.source import VOCABULARY
from synth_dspy.domains.tables.synthesizer import TableSynthesizer
from synth_dspy.synthesis.decontaminate import Decontaminated


def table_synthesizer(sample: Path, resources: Resources, free: bool | None = None) -> TableSynthesizer:
    """The module that writes rows.

    Args:
        sample: a folder in the form of data/industries, whose vocabulary names are made of.
        resources: seeds and seed are used; the teacher is set on the module by whoever runs it.
        free: let the teacher write whole statements. By default where it is another model than the student: a teacher
            that was named on purpose is taken for a capable one.
    """
    free = bool(resources.teacher.model != resources.student.model) if free is None else free
    sampler = Sampler(read_vocabulary(sample / VOCABULARY), resources.seed)
    return TableSynthesizer(sampler, resources.seeds, free=free, checks=_checks(resources), seed=resources.seed)


def table_filters(resources: Resources) -> list[Filter]:
    """What a row must pass, cheapest first."""
    embed = resources.embedder.embed
    return [*_checks(resources), Identifies(embed), SaidAlready(), Decontaminated(resources.held_out, embed)]


def _checks(resources: Resources) -> list[Filter]:
    return [Runs(), WellWritten(), SaysMore(), NothingInvented(), Means(resources.embedder.embed)]
