"""JSON, JSON lines and YAML files as one document, with the line numbers of its names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import parse_json, read_text, tree

_MOST_MERGED = 10_000
SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
_NAME = re.compile(r"""\b(?:name|operationId)["']?\s*:\s*["']?([\w.-]+)|^\s*["']?(/[^"'\s]*?)["']?\s*:""")


class ApiFile:
    """A file that describes functions.

    Attributes:
        name: the file's path, with slashes.
        document: its content; a list for JSON lines.

    Raises:
        SetupError: it cannot be read or parsed.
    """

    def __init__(self, path: Path) -> None:
        text = read_text(path)
        self.name = path.as_posix()
        self.document = _parsed(text, path)
        self._lines = _lines_of_names(text)

    def lines_of(self, name: str) -> list[int]:
        """The lines that give a name or an operation id, or begin a route; the first line if there is none."""
        return self._lines.get(name, [1])


def _lines_of_names(text: str) -> dict[str, list[int]]:
    """The lines that give names and operation ids, and begin routes, in JSON or YAML."""
    lines: dict[str, list[int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        for match in _NAME.finditer(line):
            lines.setdefault(match[1] or match[2], []).append(number)
    return lines


def _parsed(text: str, path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [_json(line, path, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix != ".json":
        import yaml

        try:
            return tree(yaml.load(text, _yaml_loader()))  # noqa: S506  (a SafeLoader)
        except (ValueError, RecursionError) as error:  # of numbers, of aliases, of thousands of brackets
            raise SetupError(f"{path} cannot be read: {error}; simplify it.") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            reason = " ".join(str(getattr(error, "problem", None) or error).split())
            raise SetupError(f"{path}:{line} is not valid YAML: {reason}.") from None
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and all(line.startswith("{") and line.rstrip().endswith("}") for line in lines):
        return [_json(line, path, number) for number, line in enumerate(lines, 1)]  # JSON lines, whatever the name
    return _json(text, path, 1)


def _json(text: str, path: Path, line: int) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        reason, _, place = str(error).partition(" at line ")
        at = line + int(place.split()[0] if place else 1) - 1
        raise SetupError(f"{path}:{at} is not valid JSON: {reason}.") from None


def _yaml_loader() -> Any:
    """YAML with JSON's types: dates stay text, and so do `on`, `off`, `yes` and `no`."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Without conversions to types that JSON lacks, and with a limit on merges (`<<`), which can multiply."""

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > _MOST_MERGED:
                raise ValueError(f"its merges come to more than {_MOST_MERGED:,} keys")

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if not tag.endswith((":timestamp", ":bool"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), [*"tTfF"])
    return Loader
