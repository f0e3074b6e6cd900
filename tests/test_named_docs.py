"""Messages and docstrings send readers to documentation that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "synth_dspy").rglob("*.py")))


def test_files_and_headings_that_are_named_exist() -> None:
    files = set(re.findall(r"\bdocs/\w+\.md", SOURCES))
    assert len(files) > 2
    assert {name for name in files if not (ROOT / name).is_file()} == set()
    headings = re.findall(r'"([A-Z][\w ]+)" in (?:the )?(README|docs/\w+\.md)', SOURCES)
    assert headings
    for heading, name in headings:
        text = (ROOT / ("README.md" if name == "README" else name)).read_text()
        assert re.search(rf"^#+ {heading}$", text, re.MULTILINE), f"{name} has no heading {heading!r}"
