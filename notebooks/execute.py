"""Run notebooks and write each next to its source: `make notebooks`, or `python notebooks/execute.py 02_rag 04_tune`.

A notebook is executed in a kernel of its own, as a reader would. What is written has its outputs, without anything that
differs from machine to machine: times of cells, ids, and the path of the project.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
MOST_BYTES = 200_000
"""A larger notebook is not written: some output is out of hand."""


def sources() -> list[Path]:
    """The notebooks' sources, in their order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def execute(source: Path, timeout_s: int | None = None) -> nbformat.NotebookNode:
    """A notebook with its outputs.

    Args:
        source: in the percent format.
        timeout_s: limit of a cell; by default none, since trainings take long on a busy machine.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(source)
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "synth_dspy", "language": "python"},
        "language_info": {"name": "python"},
    }
    NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", record_timing=False).execute(cwd=str(HERE))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for output in cell.get("outputs", ()):
            output.get("transient", {}).clear()
    return notebook


def without_paths(text: str) -> str:
    """A notebook's text without paths of this machine."""
    replaced = {
        os.environ.get("NOTEBOOK_RUNS"): "runs/notebooks",
        str(HERE.parent): ".",
        sys.executable: "python",
        sys.prefix: ".venv",
        tempfile.gettempdir(): "/tmp",  # noqa: S108 - nothing is written there
        str(Path.home()): "~",
    }
    for path in sorted(filter(None, replaced), key=len, reverse=True):  # a path in another's goes first
        if path != "/":
            text = text.replace(path, replaced[path])
    return text


def main(names: list[str]) -> None:
    """Execute the named notebooks, by default all, and write them."""
    total = time.monotonic()
    for source in sources():
        if names and source.stem not in names:
            continue
        started, used = time.monotonic(), os.times()
        text = without_paths(nbformat.writes(execute(source)))
        if len(text.encode()) > MOST_BYTES:
            raise SystemExit(f"{source.name} comes to {len(text.encode()):,} bytes, more than {MOST_BYTES:,}.")
        source.with_suffix(".ipynb").write_text(f"{text}\n", encoding="utf-8")
        now = os.times()
        cpu = now.children_user + now.children_system - used.children_user - used.children_system
        print(
            f"{source.stem}: {time.monotonic() - started:.0f} s, {cpu:.0f} s of CPU, {len(text) / 1000:.0f} kB",
            flush=True,
        )
    print(f"{(time.monotonic() - total) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
