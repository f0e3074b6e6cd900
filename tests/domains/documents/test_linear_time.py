"""Cleaning and cutting take a time that grows as the text does.

No times are compared: inputs of 1,000, 10,000 and 100,000 characters of each kind are done in a child process with a
bound that a quadratic step exceeds many times over (the letters alone took 54 s at 100,000).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

UNITS = [
    "x",
    "0123456789abcdef",
    "_",
    "and more words of it without an end\n",
    "\u0301\u0316",
    "ab-\n",
    "a-\n\n\n",
    "No. A ",
    ". ",
    "1.1",
    ";  1.1",
    "-",
    " ",
    "\n",
    "page ",
    '."""',
    "Section ",
    "(ivx",
    "word, ",
    "word\n\n",
    "ab ",
    "(a) b;  ",
    "Running header\n" + "y " * 500 + ".\n",
    "a. B",
    "1\n",
    "Ⅷ\u200d",
    "\f",
    "\r",
    "\ufb03",
    "=" * 79 + "\n",
    "a_b-\nc",
]
CODE = f"""
from synth_dspy.domains.documents.chunks import chunk_document
from synth_dspy.domains.documents.cleaning import clean
from synth_dspy.domains.documents.documents import Document

for unit in {UNITS!r}:
    for length in (1_000, 10_000, 100_000):
        text = "a" + unit * (length // len(unit)) + " end. The"
        for each in (text, clean(text)):
            chunks = chunk_document(Document("a", "a", each, "a"))
            assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(each.split()), unit
            assert all(len(chunk.text) < 100 * 257 for chunk in chunks), unit
print("done")
"""


def test_text_is_cleaned_and_cut_in_linear_time() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=100, cwd=root)
    assert done.stdout == "done\n", done.stderr
