"""Synthesis: generates training data from a task's own knowledge.

    spans, demonstrations -> synthesizer -> pipeline <- filters, roundtrip, dedup, decontaminate

`pipeline.synthesise` runs a synthesizer over items, and the candidates through filters. A task provides a synthesizer
(a DSPy module) and a list of filters; those here can be reused.
"""
