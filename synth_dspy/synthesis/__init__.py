"""Synthesis: training data from a task's own knowledge.

    spans, demonstrations -> synthesizer -> pipeline <- filters, roundtrip, dedup, decontaminate

`pipeline.synthesise` runs a synthesizer over items and its candidates through filters. A task brings a synthesizer (a
DSPy module) and a list of filters; those here are meant to be reused.
"""
