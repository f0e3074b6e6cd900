"""Describes a module's functions by introspection: from signatures, type hints and docstrings.

The module is imported and its objects are inspected, both of which run arbitrary code of its author's: only the
sandbox's child does this. Its functions are not called.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.canonical import canonical, gaps_of
from synth_dspy.domains.functions.docstrings import Docstring, examples_in, read_docstring, stated_type
from synth_dspy.domains.functions.hints import UnportableHintError, default_value, hints_of, schema_of
from synth_dspy.domains.functions.importing import import_file
from synth_dspy.domains.functions.schema import Function, Gap, NoFunctionsError


def describe_module(path: Path, file: str) -> dict[str, Any]:
    """The public top-level functions of a Python file, in the file's order, and the gaps in their documentation.

    Public are those in `__all__`; without one, those defined in the module whose names begin with a letter.

    Args:
        path: The file, resolved.
        file: Its name in messages and in the descriptions.

    Returns:
        JSON: `functions`, each with the fields of `Function` but `target` and `where`, its `line` and its `examples` as
        JSON; `gaps`, each with the fields of `Gap` but `file`. Where the module cannot be described, `problem`, a
        sentence, and `empty`, whether it has no functions.
    """
    try:
        functions, gaps = _read(path, file)
    except SetupError as error:
        return {"problem": str(error), "empty": isinstance(error, NoFunctionsError)}
    described = {"functions": [_as_json(each) for each in functions], "gaps": [_without(each, "file") for each in gaps]}
    portable: dict[str, Any] = _portable(described)
    return portable


def _as_json(function: Function) -> dict[str, Any]:
    fields = _without(function, "target", "where", "examples")
    line = int(function.where.rpartition(":")[2])
    return {**fields, "line": line, "examples": [each.as_json() for each in function.examples]}


def _without(value: Any, *names: str) -> dict[str, Any]:
    return {name: each for name, each in asdict(value).items() if name not in names}


def _portable(value: Any) -> Any:
    """A description as JSON: what JSON cannot hold (an infinite bound, an object among examples) as text."""
    import pydantic_core

    return json.loads(pydantic_core.to_json(value, inf_nan_mode="strings", fallback=repr))


def _read(path: Path, file: str) -> tuple[list[Function], list[Gap]]:
    source = _Source.of(path, file)
    module = _import(path, file)
    described = dict(_public(module, file))
    if not described:
        raise NoFunctionsError(
            f"{file} holds no public functions; define some at its top level, or name them in its __all__."
        )
    functions: dict[str, Function] = {}
    gaps: list[Gap] = []
    for name, value in described.items():
        functions[name], lacking = _described(name, value, source)
        gaps += lacking
    for name, value in described.items():
        examples = tuple(examples_in(inspect.getdoc(value), functions[name], functions))
        functions[name] = replace(functions[name], examples=examples)
    return list(functions.values()), gaps


def _import(path: Path, file: str) -> types.ModuleType:
    try:
        return import_file(path)
    except MemoryError:
        raise
    except BaseException as error:
        line = next((at.tb_lineno for at in reversed(_frames(error)) if at.tb_frame.f_code.co_filename == str(path)), 1)
        message = " ".join(str(error).split())[:300]
        raise SetupError(import_failed(file, f"in line {line} ({type(error).__name__}: {message})")) from error


def import_failed(file: str, how: str) -> str:
    """The message about a module that could not be imported."""
    return (
        f"Importing {file} failed {how}; make it importable by itself, in a folder of its own, with what it needs "
        "installed or in that folder: it is read in a sandbox, without network, environment variables or other files."
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """A file's syntax tree, for the lines of what is defined in it."""

    file: str
    definitions: Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef]

    @classmethod
    def of(cls, path: Path, file: str) -> _Source:
        try:
            tree = ast.parse(path.read_bytes(), filename=file)
        except OSError as error:
            raise SetupError(f"{file} cannot be read: {error.strerror}.") from None
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise SetupError(f"{file}:{line} is not valid Python: {getattr(error, 'msg', error)}.") from None
        definitions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _overloads(node):
                if node.name in definitions:
                    raise SetupError(
                        f"{file} defines two functions named {node.name}, in lines {definitions[node.name].lineno} "
                        f"and {node.lineno}; rename one."
                    )
                definitions[node.name] = node
        return cls(file, definitions)

    def line(self, function: str, parameter: str = "") -> int:
        node = self.definitions.get(function)
        if node is None:
            return 1
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.kwarg]
        return next((each.lineno for each in arguments if each and each.arg == parameter), node.lineno)


def _overloads(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each).rsplit(".", 1)[-1] == "overload" for each in node.decorator_list)


def _frames(error: BaseException) -> list[types.TracebackType]:
    frames, at = [], error.__traceback__
    while at:
        frames.append(at)
        at = at.tb_next
    return frames


def _public(module: types.ModuleType, file: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    listed = getattr(module, "__all__", None)
    for name in listed if listed is not None else list(vars(module)):
        if not hasattr(module, name):
            raise SetupError(f"{file} names {name!r} in __all__ but does not define it; define it or take it out.")
        value = getattr(module, name)
        own = listed is not None or (not name.startswith("_") and getattr(value, "__module__", "") == module.__name__)
        if own and callable(value) and inspect.isfunction(inspect.unwrap(value)):
            yield name, value


def _described(name: str, function: Callable[..., Any], source: _Source) -> tuple[Function, list[Gap]]:
    file = source.file
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
    reported = {gap.parameter for gap in gaps if gap.parameter}  # gaps of their types are reported already
    for gap in gaps_of(name, parameters, file, lambda parameter: source.line(name, parameter)):
        if gap.parameter not in reported or gap.missing != "a type":
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
        where=f"{file}:{line}",
    ), gaps


def _parameter(parameter: inspect.Parameter, hint: Any, docstring: Docstring) -> dict[str, Any]:
    """The schema of one parameter. Without a type hint, the docstring's type counts."""
    schema: dict[str, Any] = {}
    if hint is not parameter.empty and hint is not Any:
        schema = dict(schema_of(hint))
    elif parameter.name in docstring.types:
        schema = stated_type(docstring.types[parameter.name]) or {}
    note = docstring.parameters.get(parameter.name)
    if note:
        schema["description"] = note  # more specific than the description of its type
    if parameter.default is not parameter.empty:
        schema.pop("default", None)
        with contextlib.suppress(ValueError):
            schema["default"] = default_value(parameter.default)
    return schema


def _together(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments' schema in canonical form, with the `$defs` of all arguments."""
    definitions: dict[str, Any] = {}
    schemas = [*parameters["properties"].values(), parameters.get("additionalProperties")]
    for schema in schemas:
        if isinstance(schema, dict):
            definitions |= schema.pop("$defs", {})
    return canonical({**parameters, "$defs": definitions})
