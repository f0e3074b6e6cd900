"""Topics as a task's source: what an assistant may talk about, by which rules, in which tone.

house.py      the house: topics with labelled questions, rules and tone in plain text
rules.py      a rule, and how a program checks an answer by it
source.py     the Source: topics to write about, labelled questions, real questions
real.py       Banking77 and CLINC150, in their publishers' layouts and as JSON lines
diversity.py  how varied a set of questions is
"""

from __future__ import annotations

from synth_dspy.domains.assistant.diversity import Diversity, diversity
from synth_dspy.domains.assistant.house import House, Subtopic, Topic
from synth_dspy.domains.assistant.real import RealQuestion, read_real
from synth_dspy.domains.assistant.rules import Rule, read_rules, violations
from synth_dspy.domains.assistant.source import Topics

__all__ = [
    "Diversity",
    "House",
    "RealQuestion",
    "Rule",
    "Subtopic",
    "Topic",
    "Topics",
    "diversity",
    "read_real",
    "read_rules",
    "violations",
]
