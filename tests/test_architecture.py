"""The engine's floors: nothing imports what is above it, and the engine nothing of the workspace."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ENGINE = Path(__file__).resolve().parents[1] / "synth_dspy"
FLOORS = (
    ("core",), ("models", "synthesis"), ("training", "evaluation"),
    ("domains",), ("pipeline",), ("loop",), ("service",), ("cli",),
)  # fmt: skip
"""From the ground up; rooms of one floor do not know each other."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ABOVE = ("__init__", "__main__")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of this project that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)
        elif isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)


def test_arrows_run_down_only() -> None:
    upward = []
    for path in ENGINE.glob("*/**/*.py"):
        if path.name == "__main__.py":  # a shim of a verb that is called like its floor
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 12
            continue
        room = path.relative_to(ENGINE).parts[0]
        assert room in FLOOR, f"{room} has no floor yet"
        for module, line in imported(path):
            package, _, other = module.partition(".")
            other = other.partition(".")[0]
            if package == "synth_dspy" and other != room and FLOOR.get(other, -1) >= FLOOR[room]:
                upward.append(f"{path.relative_to(ENGINE)}:{line} imports {module}")
    assert not upward


def test_only_shims_of_verbs_lie_on_the_roof() -> None:
    for path in ENGINE.glob("*.py"):
        if path.stem not in ABOVE:
            assert (ENGINE / "cli" / path.name).is_file(), path
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 12


def test_the_workspace_imports_public_names_alone() -> None:
    root = ENGINE.parent
    files = [path for name in ("programs", "optimizers", "eval") for path in (root / name).rglob("*.py")]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 700
    for path in files:
        assert path.name == "__init__.py" or not path.name.startswith("_")
        for module, line in imported(path):
            assert not module.startswith("synth_dspy.") or module.count(".") == 1, f"{path}:{line} imports {module}"
