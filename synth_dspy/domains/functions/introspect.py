"""Reads functions where they are defined: Python modules by introspection, API descriptions by `openapi.py`.

A module is described from its signatures, type hints and docstrings, in the sandbox's child, by
`description.py`. None of its code runs in this process, which validates the description and trusts it no further:
it is what the module says about itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from synth_dspy.core.errors import SetupError
from synth_dspy.core.printable import visible
from synth_dspy.domains.functions import openapi
from synth_dspy.domains.functions.api_files import SUFFIXES
from synth_dspy.domains.functions.canonical import canonical
from synth_dspy.domains.functions.description import import_failed
from synth_dspy.domains.functions.sandbox.process import ChildProcess
from synth_dspy.domains.functions.sandbox.settings import child_settings, in_words
from synth_dspy.domains.functions.schema import Call, Function, Gap, NoFunctionsError

_SECONDS, _MEMORY_MB, _FILES_MB = 60.0, 4096, 10  # for importing and describing one module; large libraries need much


def read_functions(path: Path) -> tuple[list[Function], list[Gap]]:
    """The functions of a file, module or folder, and the gaps in their documentation.

    Args:
        path: A Python file, an importable module's dotted name, an OpenAPI 3 or tool file (JSON, JSON lines, YAML), or
            a folder of modules or, where it has none, of such files. In a folder, files whose names begin with "_" and
            those without public functions are left out.

    Raises:
        SetupError: there are none, two have the same name, or a file cannot be read or imported.
    """
    with ModuleReader() as reader:
        return _read_folder(path, reader) if path.is_dir() else _read_file(path, reader)


def _read_file(path: Path, reader: ModuleReader) -> tuple[list[Function], list[Gap]]:
    if not path.exists():
        path = _module_named(path)
    if path.suffix == ".py":
        return reader.read(path)
    if path.suffix in SUFFIXES:
        return openapi.read_document(path)
    raise SetupError(f"{path} holds no functions; name a .py module, or a {', '.join(SUFFIXES)} file.")


def _read_folder(folder: Path, reader: ModuleReader) -> tuple[list[Function], list[Gap]]:
    files = [each for each in sorted(folder.glob("*.py")) if not each.name.startswith("_")]
    files = files or [each for each in sorted(folder.iterdir()) if each.suffix in SUFFIXES]
    functions: dict[str, Function] = {}
    gaps: list[Gap] = []
    for file in files:
        try:
            described, lacking = _read_file(file, reader)
        except NoFunctionsError:
            continue
        for function in described:
            if function.name in functions:
                raise SetupError(
                    f"Two functions are named {function.name}, at {functions[function.name].where} and "
                    f"{function.where}; rename one, or leave it out of its module's __all__."
                )
            functions[function.name] = function
        gaps += lacking
    if not functions:
        raise NoFunctionsError(f"{folder} holds no modules with public functions, and no files that describe any.")
    return list(functions.values()), gaps


def _module_named(path: Path) -> Path:
    """The file of an importable module, by its dotted name. Packages around it are not imported for that."""
    parts = str(path).split(".")
    spec, places = None, None
    if all(part.isidentifier() for part in parts):
        for end in range(1, len(parts) + 1):
            spec = _spec(".".join(parts[:end]), places)
            places = spec.submodule_search_locations if spec else None
            if end < len(parts) and places is None:
                spec = None
                break
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise SetupError(f"{path} is neither a file nor a folder, nor an importable Python module; check its name.")
    return Path(spec.origin)


def _spec(name: str, places: Sequence[str] | None) -> ModuleSpec | None:
    specs = (finder.find_spec(name, places) for finder in sys.meta_path)
    return next((spec for spec in specs if spec), None)


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Function(_Described):
    """A function as `description.describe_module` gives it."""

    name: Annotated[str, Field(pattern=r"^[^\W\d]\w*$", max_length=200)]
    description: str
    parameters: dict[str, Any]
    returns: dict[str, Any] | None
    read_only: bool
    line: Annotated[int, Field(ge=1)]
    examples: list[dict[str, Any]]

    def placed(self, file: str) -> Function:
        """The function, with validated schemas; ValueError if one is not valid."""
        return Function(
            name=self.name,
            description=self.description,
            parameters=canonical(self.parameters, inline=False),
            returns=None if self.returns is None else canonical(self.returns, inline=False),
            read_only=self.read_only,
            target=f"{file}:{self.name}",
            where=f"{file}:{self.line}",
            examples=tuple(Call.from_json(each) for each in self.examples),
        )


class _Gap(_Described):
    line: Annotated[int, Field(ge=1)]
    function: str
    parameter: str
    missing: str


class _Module(_Described):
    functions: list[_Function]
    gaps: list[_Gap]


class ModuleReader:
    """Reads modules in the sandbox's child, which is shared by all modules of one folder. To be closed."""

    def __init__(self, *, seconds: float = _SECONDS, memory_mb: int = _MEMORY_MB) -> None:
        """
        Args:
            seconds: Wall-clock time of importing and describing one module.
            memory_mb: Memory. Large libraries need much.

        Raises:
            SetupError: This system has no sandbox.
        """
        if sys.platform == "win32":
            raise SetupError(
                "Python modules are read in a sandbox, which Linux and macOS have: run this there, or in WSL, or name "
                "a file of schemas."
            )
        self._seconds, self._memory_mb = seconds, memory_mb
        self._child: ChildProcess | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def read(self, path: Path) -> tuple[list[Function], list[Gap]]:
        """The public top-level functions of a Python file, in the file's order, and the gaps in their documentation.

        Public are those in `__all__`; without one, those defined in the module whose names begin with a letter.

        Raises:
            SetupError: the file cannot be imported, holds no such functions (`NoFunctionsError`), or two of the same
                name.
        """
        file = path.as_posix()
        answer = self._alive(path.resolve(), file).ask(
            {"describe": {"path": str(path.resolve()), "file": file}}, self._seconds, refuse=True
        )
        if "stopped" in answer:
            raise self._failure(file, str(answer["stopped"]))
        if "error_type" in answer:
            raise SetupError(
                _one_line(f"The functions of {file} cannot be read: {answer['error_type']}: {answer.get('error')}.")
            )
        return _validated(answer.get("result"), file)

    def _alive(self, path: Path, file: str) -> ChildProcess:
        if self._child is None or self._folder != path.parent or self._child.gone():
            self.close()
            settings = child_settings(
                path, None, memory_mb=self._memory_mb, files_mb=_FILES_MB, cpu_seconds=int(20 * self._seconds + 1)
            )
            self._child = ChildProcess(settings, memory=self._memory_mb << 20, files=_FILES_MB << 20)
            self._folder = path.parent
            ready = self._child.start(self._seconds)
            if "layers" not in ready:
                raise self._failure(file, str(ready.get("stopped") or ready.get("error")))
        return self._child

    def _failure(self, file: str, stopped: str) -> SetupError:
        why = in_words(stopped, self._seconds, self._memory_mb, _FILES_MB)
        return SetupError(_one_line(import_failed(file, f"({why})")))


def _validated(described: Any, file: str) -> tuple[list[Function], list[Gap]]:
    """The functions and gaps in the child's message, validated field by field."""
    if isinstance(described, dict) and isinstance(described.get("problem"), str):
        raise (NoFunctionsError if described.get("empty") is True else SetupError)(_one_line(described["problem"]))
    try:
        module = _Module.model_validate(described)
        functions = [each.placed(file) for each in module.functions]
        if not functions or len({each.name for each in functions}) < len(functions):
            raise ValueError("no functions, or two of the same name")
    except ValueError as error:
        raise SetupError(
            _one_line(f"The functions of {file} cannot be read: its description is malformed: {error}.")
        ) from None
    return functions, [Gap(file=file, **each.model_dump()) for each in module.gaps]


def _one_line(text: str) -> str:
    """A text of the child's, without control characters for terminals."""
    return " ".join(visible(text).split())[:2_000]
