"""The judge model's signature for contracts: its docstring instructs the model; edit it here."""

from __future__ import annotations

from synth_dspy import Factuality


class ContractFactuality(Factuality):
    """Grade an answer to a question about a contract by comparing it with the reference answers; any one of them is
    right. Give 1.0 if the answer says the same as a reference, in whatever words, also with correct detail added. Give
    0.0 if it says something else, denies the reference, names it among alternatives, or only doubts it: "It is not X",
    "X or Y" and "I don't know whether it is X" are wrong where X is right, and so is one wrong digit, date or name.
    Give a figure between where the answer holds a part of a long reference."""
