"""Functions described in files: OpenAPI 3 documents, and lists of tools in the usual dialects.

A tool list is OpenAI's (`{"type": "function", "function": {...}}`), bare (`{"name", "description", "parameters"}`), or
that of an MCP server (`inputSchema`); the Berkeley Function Calling Leaderboard's own type names ("dict", "float",
"tuple", "any") are understood, in JSON, JSON lines or YAML. A model can call these functions, which are not executed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.api_files import ApiFile
from synth_dspy.domains.functions.canonical import UnresolvedError, canonical, gaps_of, pointed
from synth_dspy.domains.functions.schema import Call, Function, Gap, NoFunctionsError, validate

_METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
_SAFE = ("get", "head", "options", "trace")  # RFC 9110: they change nothing
_SCHEMAS = ("parameters", "inputSchema", "input_schema")
_RESULTS = ("response", "returns", "outputSchema")


def read_document(path: Path) -> tuple[list[Function], list[Gap]]:
    """The functions of an OpenAPI or tool file, and the gaps in their documentation.

    Raises:
        SetupError: the file cannot be read, is of another format, or has no functions or two of the same name.
    """
    file = ApiFile(path)
    document, reader = file.document, _Reader(file)
    try:
        if isinstance(document, Mapping) and isinstance(document.get("paths"), Mapping):
            functions = list(reader.operations(document))
        else:
            functions = list(reader.tools(document))
    except UnresolvedError as error:
        raise SetupError(f"{path} holds a reference that cannot be followed: {error}.") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SetupError(
            f"{path} does not describe functions as OpenAPI 3 and tool lists do ({type(error).__name__}: "
            f"{str(error)[:200]}); check it with a validator of the format."
        ) from error
    if not functions:
        raise NoFunctionsError(
            f"{path} describes no functions; it needs OpenAPI 3 paths, or tools with name, description, parameters."
        )
    return functions, [gap for function in functions for gap in reader.gaps(function)]


def function_of(tool: Mapping[str, Any], where: str = "") -> Function:
    """One function of a tool list, in any of the dialects.

    Raises:
        ValueError: if it has no name, or its parameters are not an object.
        UnresolvedError: its schema has a reference that leads outside it.
    """
    inner = tool.get("function")
    if isinstance(inner, Mapping):
        tool = inner
    name = tool.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a function without a name")
    schema: Any = next((tool[key] for key in _SCHEMAS if tool.get(key)), {})
    if not isinstance(schema, Mapping):
        raise ValueError(f"{name}: its parameters are not a JSON schema")
    result = next((tool[key] for key in _RESULTS if isinstance(tool.get(key), Mapping)), None)
    annotations = tool.get("annotations")
    return Function(
        name=name,
        description=str(tool.get("description") or "").strip(),
        parameters=_as_arguments(canonical(schema)),
        returns=canonical(result) if result else None,
        read_only=isinstance(annotations, Mapping) and annotations.get("readOnlyHint") is True,
        where=where,
    )


class _Reader:
    """Reads the functions of one file, and records the line of each."""

    def __init__(self, file: ApiFile) -> None:
        self._names = file
        self._file = file.name
        self._lines: dict[str, int] = {}

    def _line_of(self, name: str) -> int:
        """Of the lines with a name, the first that does not belong to a function yet."""
        lines = self._names.lines_of(name)
        return next((line for line in lines if line not in self._lines.values()), lines[0])

    def gaps(self, function: Function) -> Iterator[Gap]:
        line = self._lines[function.name]
        if not function.description:
            yield Gap(self._file, line, function.name, "", "a description")
        yield from gaps_of(function.name, function.parameters, self._file, lambda _: line)

    # -- lists of tools ---------------------------------------------------------------------------------------------

    def tools(self, document: Any) -> Iterator[Function]:
        for tool in self._listed(document):
            if not isinstance(tool, Mapping):
                raise SetupError(f"{self._file} lists {json.dumps(tool, default=str)[:60]} among its functions.")
            inner = tool.get("function")
            name = (inner if isinstance(inner, Mapping) else tool).get("name")
            line = self._line_of(str(name))
            try:
                function = function_of(tool, f"{self._file}:{line}")
            except UnresolvedError:
                raise
            except ValueError as error:
                raise SetupError(f"{self._file}:{line} describes something that is not a function: {error}.") from None
            yield self._once(function, line)

    def _listed(self, document: Any) -> list[Any]:
        if isinstance(document, list):
            return document
        if not isinstance(document, Mapping):
            return []
        for key in ("tools", "functions"):
            if isinstance(document.get(key), list):
                return list(document[key])
        if "name" in document or isinstance(document.get("function"), Mapping):
            return [document]
        if "swagger" in document:
            raise SetupError(f"{self._file} is a Swagger 2 document; convert it to OpenAPI 3.")
        return []

    # -- OpenAPI ----------------------------------------------------------------------------------------------------

    def operations(self, document: Mapping[str, Any]) -> Iterator[Function]:
        if not str(document.get("openapi", "")).startswith("3"):
            raise SetupError(f"{self._file} is not an OpenAPI 3 document; convert it to that version.")
        for route, item in document["paths"].items():
            item = _resolved(item, document)
            for method in _METHODS:
                operation = item.get(method)
                if isinstance(operation, Mapping):
                    yield self._operation(str(route), method, item, operation, document)

    def _operation(
        self, route: str, method: str, item: Mapping[str, Any], operation: Mapping[str, Any], document: Any
    ) -> Function:
        name = operation.get("operationId")
        line = self._line_of(str(name or route))
        name = name or "_".join([method, *re.findall(r"\w+", route)])
        stated = (operation.get("summary"), operation.get("description"))
        parts = list(dict.fromkeys(str(part).strip() for part in stated if part))
        function = Function(
            name=str(name),
            description="\n\n".join(parts),
            parameters=_arguments(item, operation, document),
            returns=_result(operation, document),
            read_only=method in _SAFE,
            where=f"{self._file}:{line}",
        )
        return self._once(function, line)

    # -- both -------------------------------------------------------------------------------------------------------

    def _once(self, function: Function, line: int) -> Function:
        if function.name in self._lines:
            raise SetupError(
                f"{self._file} describes two functions named {function.name}, in lines {self._lines[function.name]} "
                f"and {line}; rename one."
            )
        self._lines[function.name] = line
        return _exampled(function)


def _arguments(item: Mapping[str, Any], operation: Mapping[str, Any], document: Any) -> dict[str, Any]:
    """The parameters of the path, the query and the body, combined."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    definitions: dict[str, Any] = {}
    listed = [_resolved(each, document) for each in (*item.get("parameters", ()), *operation.get("parameters", ()))]
    for each in {(each.get("name"), each.get("in")): each for each in listed}.values():
        if each.get("in") not in ("path", "query"):
            continue  # the client sets headers and cookies, not the model
        schema = each.get("schema") or next((media.get("schema") for media in _media(each)), None)
        argument = canonical(schema or {}, document)
        definitions |= argument.pop("$defs", {})
        if each.get("description"):
            argument["description"] = str(each["description"]).strip()
        if "examples" not in argument and "example" in each:
            argument["examples"] = [each["example"]]
        properties[str(each["name"])] = argument
        if each.get("required") or each["in"] == "path":
            required.append(str(each["name"]))
    body = _resolved(operation.get("requestBody") or {}, document)
    schema = next((media.get("schema") for media in _media(body)), None)
    if schema is not None:
        content = canonical(schema, document, sent=True)
        definitions |= content.pop("$defs", {})
        fields = content.get("properties")
        if fields and not set(fields) & set(properties):
            properties |= fields
            required += content.get("required", []) if body.get("required", True) else []
        else:
            if body.get("description"):
                content["description"] = str(body["description"]).strip()
            properties["body"] = content
            required += ["body"] if body.get("required") else []
    arguments: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return {**arguments, "$defs": definitions} if definitions else arguments


def _result(operation: Mapping[str, Any], document: Any) -> dict[str, Any] | None:
    """The schema of an operation's response if it succeeds."""
    responses = {str(status): each for status, each in (operation.get("responses") or {}).items()}
    for status in sorted(each for each in responses if each.startswith("2")):
        response = _resolved(responses[status], document)
        schema = next((media.get("schema") for media in _media(response)), None)
        if schema is not None:
            result = canonical(schema, document)
            note = str(response.get("description") or "").strip()
            return {**({"description": note} if note else {}), **result}
    return None


def _media(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The representations of a body or a response, JSON first."""
    content = holder.get("content")
    if not isinstance(content, Mapping):
        return []
    ordered = sorted(content, key=lambda kind: "json" not in str(kind))
    return [content[kind] for kind in ordered if isinstance(content[kind], Mapping)]


def _resolved(value: Any, document: Any) -> Mapping[str, Any]:
    """An object, following a reference to it."""
    seen: set[str] = set()
    while isinstance(value, Mapping) and isinstance(value.get("$ref"), str) and value["$ref"] not in seen:
        seen.add(value["$ref"])
        value = pointed(value["$ref"], document)
    return value if isinstance(value, Mapping) else {}


def _as_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of parameters, completed to an object with properties."""
    return {
        **schema,
        "type": "object",
        "properties": schema.get("properties", {}),
        "required": schema.get("required", []),
    }


def _exampled(function: Function) -> Function:
    """A function with the call made of its arguments' examples, if that is valid."""
    values = {name: each["examples"][0] for name, each in function.properties.items() if each.get("examples")}
    with contextlib.suppress(ValueError):
        call = Call(function.name, values)
        if values and not validate(call, [function]):
            return replace(function, examples=(call,))
    return function
