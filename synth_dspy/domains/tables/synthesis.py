"""Synthesis for tables: the synthesizer of training rows, and the filters they must pass."""

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
        sample: a folder in the form of data/industries, with the vocabulary.
        resources: seeds and seed are used; the caller sets the teacher on the module.
        free: let the teacher write whole statements; by default if it is another model than the student, and therefore
            presumed capable.
    """
    free = bool(resources.teacher.model != resources.student.model) if free is None else free
    sampler = Sampler(read_vocabulary(sample / VOCABULARY), resources.seed)
    return TableSynthesizer(sampler, resources.seeds, free=free, checks=_checks(resources), seed=resources.seed)


def table_filters(resources: Resources) -> list[Filter]:
    """The filters for a row, cheapest first."""
    embed = resources.embedder.embed
    return [*_checks(resources), Identifies(embed), SaidAlready(), Decontaminated(resources.held_out, embed)]


def _checks(resources: Resources) -> list[Filter]:
    return [Runs(), WellWritten(), SaysMore(), NothingInvented(), Means(resources.embedder.embed)]
