"""Functions read from where they are defined: Python modules by introspection, described APIs by `openapi.py`.

Of a module, what the signatures, the type hints and the docstrings say. It is imported, as `python module.py` would
run it: it is the user's own. Its functions are not called here.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synth_dspy.errors import SetupError
from synth_dspy.functions import openapi
from synth_dspy.functions.api_files import SUFFIXES
from synth_dspy.functions.canonical import canonical, gaps_of
from synth_dspy.functions.docstrings import Docstring, examples_in, read_docstring, stated_type
from synth_dspy.functions.hints import UnportableHintError, default_value, hints_of, schema_of
from synth_dspy.functions.schema import Function, Gap, NoFunctionsError


def read_functions(path: Path) -> tuple[list[Function], list[Gap]]:
    """Functions and what their documentation lacks, picked by kind of file.

    Args:
        path: A Python file, an importable module's dotted name, an OpenAPI 3 or tool file (JSON, JSON lines, YAML), or
            a folder of modules or, where it has none, of such files. In a folder, files whose names begin with "_" and
            those without public functions are left out.

    Raises:
        SetupError: where there are none, two have one name, or a file cannot be read or imported.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        path = _module_named(path)
    if path.suffix == ".py":
        return read_module(path)
    if path.suffix in SUFFIXES:
        return openapi.read_document(path)
    raise SetupError(f"{path} holds no functions; expected is a .py module, or a {', '.join(SUFFIXES)} file.")


def _read_folder(folder: Path) -> tuple[list[Function], list[Gap]]:
    files = [each for each in sorted(folder.glob("*.py")) if not each.name.startswith("_")]
    files = files or [each for each in sorted(folder.iterdir()) if each.suffix in SUFFIXES]
    functions: dict[str, Function] = {}
    gaps: list[Gap] = []
    for file in files:
        try:
            found, lacking = read_functions(file)
        except NoFunctionsError:
            continue
        for function in found:
            if function.name in functions:
                raise SetupError(
                    f"Two functions are named {function.name}, at {functions[function.name].where} and "
                    f"{function.where}; rename one, or leave it out of its module's __all__."
                )
            functions[function.name] = function
        gaps += lacking
    if not functions:
        raise NoFunctionsError(f"{folder} holds no modules with public functions, and no files that describe some.")
    return list(functions.values()), gaps


def _module_named(path: Path) -> Path:
    """The file of an importable module's dotted name."""
    name = str(path)
    spec = None
    if all(part.isidentifier() for part in name.split(".")):
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise SetupError(f"{path} is neither a file nor a folder, nor an importable Python module; check its name.")
    return Path(spec.origin)


def read_module(path: Path) -> tuple[list[Function], list[Gap]]:
    """The public top-level functions of a Python file, in their order there, and what their documentation lacks.

    Public are those in `__all__`; without one, those defined in the module whose names begin with a letter.

    Raises:
        SetupError: where the file cannot be imported, holds no such functions, or two of one name.
    """
    source = _Source.of(path)
    module = _import(path)
    found = dict(_public(module, path))
    if not found:
        raise NoFunctionsError(
            f"{path} holds no public functions; define some at its top level, or name them in its __all__."
        )
    functions: dict[str, Function] = {}
    gaps: list[Gap] = []
    for name, value in found.items():
        functions[name], lacking = _described(name, value, source)
        gaps += lacking
    for name, value in found.items():
        examples = tuple(examples_in(inspect.getdoc(value), functions[name], functions))
        functions[name] = replace(functions[name], examples=examples)
    return list(functions.values()), gaps


@dataclass(frozen=True, slots=True)
class _Source:
    """A file's syntax tree, for the lines of what is defined in it."""

    path: Path
    definitions: Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef]

    @classmethod
    def of(cls, path: Path) -> _Source:
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
        except OSError as error:
            raise SetupError(f"{path} cannot be read: {error.strerror}.") from None
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise SetupError(f"{path}:{line} is not valid Python: {getattr(error, 'msg', error)}.") from None
        definitions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _overloads(node):
                if node.name in definitions:
                    raise SetupError(
                        f"{path} defines two functions named {node.name}, in lines {definitions[node.name].lineno} "
                        f"and {node.lineno}; rename one."
                    )
                definitions[node.name] = node
        return cls(path, definitions)

    def line(self, function: str, parameter: str = "") -> int:
        node = self.definitions.get(function)
        if node is None:
            return 1
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.kwarg]
        return next((each.lineno for each in arguments if each and each.arg == parameter), node.lineno)


def _overloads(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each).rsplit(".", 1)[-1] == "overload" for each in node.decorator_list)


def _import(path: Path) -> types.ModuleType:
    """The module of a file, within its package if it has one, with its folder importable meanwhile."""
    path = path.resolve()
    parts, folder = [] if path.stem == "__init__" else [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    sys.path.insert(0, str(folder))
    try:
        if len(parts) > 1 or path.stem == "__init__":
            module = importlib.import_module(".".join(parts))
            if module.__file__ and Path(module.__file__).resolve() == path:
                return module
        # A name of its own, so that no other module of this process is replaced.
        name = f"_functions_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise SetupError(f"{path} is no Python module.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where type hints are looked up
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        line = next((at.tb_lineno for at in reversed(_frames(error)) if at.tb_frame.f_code.co_filename == str(path)), 1)
        raise SetupError(
            f"Importing {path} failed in line {line} ({type(error).__name__}: {' '.join(str(error).split())[:300]}); "
            "make it importable by itself, with what it needs installed or beside it."
        ) from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _frames(error: BaseException) -> list[types.TracebackType]:
    frames, at = [], error.__traceback__
    while at:
        frames.append(at)
        at = at.tb_next
    return frames


def _public(module: types.ModuleType, path: Path) -> Iterator[tuple[str, Callable[..., Any]]]:
    listed = getattr(module, "__all__", None)
    for name in listed if listed is not None else list(vars(module)):
        if not hasattr(module, name):
            raise SetupError(f"{path} names {name!r} in __all__ but does not define it; define it or take it out.")
        value = getattr(module, name)
        own = listed is not None or (not name.startswith("_") and getattr(value, "__module__", "") == module.__name__)
        if own and callable(value) and inspect.isfunction(inspect.unwrap(value)):
            yield name, value


def _described(name: str, function: Callable[..., Any], source: _Source) -> tuple[Function, list[Gap]]:
    file = source.path.as_posix()
    line = source.line(name)
    docstring = read_docstring(inspect.getdoc(function))
    hints = hints_of(function)
    gaps = [] if docstring.description else [Gap(file, line, name, "", "a description")]
    properties: dict[str, Any] = {}
    required: list[str] = []
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue  # cannot be given by name
        try:
            schema = _parameter(parameter, hints.get(parameter.name, parameter.empty), docstring)
        except UnportableHintError as error:
            gaps.append(Gap(file, source.line(name, parameter.name), name, parameter.name, str(error)))
            schema = _parameter(parameter, parameter.empty, docstring)
        if parameter.kind is parameter.VAR_KEYWORD:
            parameters["additionalProperties"] = schema
            continue
        properties[parameter.name] = schema
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    parameters = _together(parameters)
    known = {gap.parameter for gap in gaps if gap.parameter}  # what is wrong with their types is said already
    for gap in gaps_of(name, parameters, file, lambda parameter: source.line(name, parameter)):
        if gap.parameter not in known or gap.missing != "a type":
            gaps += [gap]
    returns = None
    if "return" in hints:
        with contextlib.suppress(UnportableHintError):
            returns = canonical(schema_of(hints["return"], result=True))
            if docstring.returns:
                returns = {**returns, "description": docstring.returns}
    else:
        gaps.append(Gap(file, line, name, "return", "a type"))
    marked = getattr(function, "__read_only__", False) or getattr(inspect.unwrap(function), "__read_only__", False)
    return Function(
        name=name,
        description=docstring.description,
        parameters=parameters,
        returns=returns,
        read_only=bool(marked or docstring.read_only),
        target=f"{file}:{name}",
        where=f"{file}:{line}",
    ), gaps


def _parameter(parameter: inspect.Parameter, hint: Any, docstring: Docstring) -> dict[str, Any]:
    """The schema of one parameter. Where there is no hint, the docstring's type counts."""
    schema: dict[str, Any] = {}
    if hint is not parameter.empty and hint is not Any:
        schema = dict(schema_of(hint))
    elif parameter.name in docstring.types:
        schema = stated_type(docstring.types[parameter.name]) or {}
    note = docstring.parameters.get(parameter.name)
    if note:
        schema["description"] = note  # nearer than what its type says of itself
    if parameter.default is not parameter.empty:
        schema.pop("default", None)
        with contextlib.suppress(ValueError):
            schema["default"] = default_value(parameter.default)
    return schema


def _together(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments' schema in canonical form; each argument's own `$defs` become the whole's."""
    definitions: dict[str, Any] = {}
    schemas = [*parameters["properties"].values(), parameters.get("additionalProperties")]
    for schema in schemas:
        if isinstance(schema, dict):
            definitions |= schema.pop("$defs", {})
    return canonical({**parameters, "$defs": definitions})
