"""Functions that files describe: OpenAPI documents, tool lists in their dialects, BFCL's documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.introspect import read_functions
from synth_dspy.domains.functions.openapi import function_of
from synth_dspy.domains.functions.schema import Call, Function, validate

PETS = """\
openapi: 3.0.3
info: {title: Pets, version: "1"}
paths:
  /pets/{id}:
    parameters:
      - {name: id, in: path, description: Which pet., schema: {type: integer, minimum: 1}}
    get:
      operationId: getPet
      summary: One pet.
      parameters:
        - $ref: "#/components/parameters/Fields"
        - {name: X-Trace, in: header, schema: {type: string}}
      responses:
        "404": {description: None such.}
        200:
          description: The pet.
          content: {application/json: {schema: {$ref: "#/components/schemas/Pet"}}}
    delete:
      summary: Give it away.
      responses: {"204": {description: Gone.}}
  /pets:
    post:
      operationId: addPet
      summary: Add a pet.
      description: It gets an id.
      requestBody:
        required: true
        content:
          application/cbor: {schema: {type: string}}
          application/json: {schema: {$ref: "#/components/schemas/NewPet"}}
      responses: {}
    put:
      operationId: setPets
      requestBody:
        required: true
        description: All of them.
        content: {application/json: {schema: {type: array, items: {$ref: "#/components/schemas/Family"}}}}
      responses: {}
components:
  parameters:
    Fields:
      name: fields
      in: query
      description: What to return.
      schema: {type: array, items: {type: string, enum: [name, born, on]}}
  schemas:
    NewPet:
      allOf:
        - $ref: "#/components/schemas/Named"
        - type: object
          required: [kind]
          properties:
            id: {type: integer, readOnly: true}
            kind: {type: string, enum: [cat, dog], description: Its species., example: cat}
            born: {type: string, format: date, nullable: true, description: Its birthday.}
            weight: {type: number, minimum: 0, exclusiveMinimum: true, description: In kg.}
    Named:
      type: object
      required: [name]
      properties: {name: {type: string, description: Its name., example: Tom}}
    Pet: {allOf: [{$ref: "#/components/schemas/NewPet"}], description: A pet.}
    Family:
      type: object
      properties:
        name: {type: string}
        young: {type: array, items: {$ref: "#/components/schemas/Family"}}
"""


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
    return path


@pytest.fixture
def pets(tmp_path: Path) -> dict[str, Function]:
    return {each.name: each for each in read_functions(written(tmp_path, "pets.yaml", PETS))[0]}


def test_operations_are_functions_in_the_order_of_the_file(pets: dict[str, Function]) -> None:
    assert list(pets) == ["getPet", "delete_pets_id", "addPet", "setPets"]
    assert pets["addPet"].description == "Add a pet.\n\nIt gets an id."
    assert [each.name for each in pets.values() if each.read_only] == ["getPet"]
    assert pets["getPet"].where.endswith("pets.yaml:8")
    assert pets["delete_pets_id"].where.endswith("pets.yaml:4")
    assert pets["getPet"].target == ""


def test_path_and_query_are_arguments_and_headers_are_not(pets: dict[str, Function]) -> None:
    get = pets["getPet"]
    assert get.properties == {
        "id": {"type": "integer", "minimum": 1, "description": "Which pet."},
        "fields": {
            "type": "array",
            "items": {"type": "string", "enum": ["name", "born", "on"]},
            "description": "What to return.",
        },
    }
    assert get.required == ("id",)
    assert get.returns is not None
    assert get.returns["properties"]["name"]["type"] == "string"
    assert validate(Call("getPet", {"id": 0}), [get]) == ["argument id: 0 is less than the minimum of 1"]


def test_the_bodys_fields_are_arguments_with_allof_merged_and_read_only_ones_left_out(
    pets: dict[str, Function],
) -> None:
    add = pets["addPet"]
    assert set(add.properties) == {"name", "kind", "born", "weight"}
    assert set(add.required) == {"name", "kind"}
    assert add.examples == (Call("addPet", {"name": "Tom", "kind": "cat"}),)
    assert validate(Call("addPet", {"name": "T", "kind": "dog", "born": None, "weight": 0.1}), [add]) == []
    wrong = validate(Call("addPet", {"name": "T", "kind": "cow", "born": "x", "weight": 0}), [add])
    assert len(wrong) == 3


def test_a_body_that_is_no_object_is_one_argument_and_recursion_stays_a_reference(pets: dict[str, Function]) -> None:
    put = pets["setPets"]
    assert put.required == ("body",)
    assert put.properties["body"]["description"] == "All of them."
    family = {"name": "a", "young": [{"name": "b", "young": [{"name": 1}]}]}
    assert validate(Call("setPets", {"body": [family]}), [put]) == [
        "argument body[0].young[0].young[0].name: 1 is not of type string"
    ]


def test_what_an_api_file_lacks_is_listed(tmp_path: Path) -> None:
    _, gaps = read_functions(written(tmp_path, "pets.yaml", PETS))
    listed = [(gap.line, gap.function, gap.parameter, gap.missing) for gap in gaps]
    assert (33, "setPets", "", "a description") in listed
    assert not [gap for gap in gaps if gap.function in ("getPet", "addPet")]


WEATHER = {
    "name": "get_weather",
    "description": "Forecast.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where."}, "days": {"description": "How many."}},
        "required": ["city"],
    },
}


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "function", "function": WEATHER}],
        {"tools": [{"type": "function", "function": WEATHER}]},
        {"functions": [WEATHER]},
        [WEATHER],
        WEATHER,
        {"tools": [{"name": "get_weather", "description": "Forecast.", "inputSchema": WEATHER["parameters"]}]},
    ],
)
def test_tool_lists_of_every_dialect_are_one_function(tmp_path: Path, content: Any) -> None:
    functions, gaps = read_functions(written(tmp_path, "tools.json", content))
    assert functions == [
        Function(
            "get_weather",
            "Forecast.",
            WEATHER["parameters"],  # type: ignore[arg-type]
            where=functions[0].where,
        )
    ]
    assert [(gap.parameter, gap.missing) for gap in gaps] == [("days", "a type")]


def test_an_mcp_server_says_what_changes_nothing() -> None:
    assert function_of({"name": "f", "inputSchema": {}, "annotations": {"readOnlyHint": True}}).read_only
    assert not function_of({"name": "f", "inputSchema": {}}).read_only


def test_bfcl_types_are_translated() -> None:
    f = function_of(
        {
            "name": "math.f",
            "parameters": {
                "type": "dict",
                "required": ["a"],
                "properties": {
                    "a": {"type": "float", "optional": "no"},
                    "b": {"type": "tuple", "items": {"type": "integer"}},
                    "c": {"type": "any"},
                    "d": {"type": "array", "items": {"type": "string"}, "enum": ["x", "y"]},
                    "e": {"type": "string", "enum": [1, 2]},
                    "g": {"type": "dict", "properties": {"h": {"type": "HashMap"}}, "required": True},
                },
            },
            "response": {"type": "dict", "properties": {"r": {"type": "float"}}},
        }
    )
    assert f.returns == {"type": "object", "properties": {"r": {"type": "number"}}, "required": []}
    good = {"a": 1, "b": [1, 2], "c": {"z": None}, "d": ["x"], "e": 2, "g": {"h": {}}}
    assert validate(Call("math.f", good), [f]) == []
    bad = {"a": "1", "b": ["1"], "d": ["z"], "e": 3, "g": {"h": 1}}
    assert len(validate(Call("math.f", bad), [f])) == 5


def test_json_lines_keep_their_lines(tmp_path: Path) -> None:
    described = [{**WEATHER, "name": name, "description": "One line\u2028and another."} for name in ("f", "g")]
    text = "\n".join(json.dumps(each, ensure_ascii=False) for each in described)
    for name in ("tools.jsonl", "tools.json"):
        functions, _ = read_functions(written(tmp_path, name, text))
        assert [each.where.rsplit(":", 1)[1] for each in functions] == ["1", "2"]


def test_keywords_that_would_break_a_validator_are_left_out() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": r"\p{L}+", "minimum": "0"}}}
    assert function_of({"name": "f", "parameters": schema}).properties == {"a": {"type": "string"}}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", "{", r"a\.json:1 is not valid JSON"),
        ("a.jsonl", '{"name": "f"}\n{', r"a\.jsonl:2 is not valid JSON"),
        ("a.yaml", "a: [1\nb: 2", r"a\.yaml:2 is not valid YAML"),
        ("a.json", {"x": 1}, "describes no functions"),
        ("a.json", [3], "lists 3 among its functions"),
        ("a.json", [{"description": "f"}], "a function without a name"),
        ("a.json", [WEATHER, WEATHER], "two functions named get_weather, in lines 3 and 22"),
        ("a.json", {"swagger": "2.0", "paths": {"/a": {}}}, "convert it"),
        ("a.json", [{"name": "f", "parameters": {"$ref": "#/nowhere"}}], "'#/nowhere' points to nothing"),
        ("a.json", [{"name": "f", "parameters": {"$ref": "b.json#/x"}}], "outside its document"),
        ("a.txt", "x", "holds no functions; name"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, name: str, content: Any, problem: str) -> None:
    with pytest.raises(SetupError, match=problem) as caught:
        read_functions(written(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="neither a file nor a folder"):
        read_functions(tmp_path / "none.json")


BFCL = Path(__file__).parents[4] / "shared" / "data" / "bfcl"


@pytest.mark.skipif(not BFCL.is_dir(), reason="BFCL is not here")
def test_bfcls_own_answers_satisfy_its_schemas() -> None:
    """All but the few whose answer contradicts its document: a missing argument, a value outside the enum."""
    valid = contradictory = 0
    for line in (BFCL / "simple_python.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        functions = [function_of(each) for each in row["function"]]
        for answer in row["ground_truth"]:
            ((name, values),) = answer.items()
            arguments = {key: value[0] for key, value in values.items() if value[0] != ""}
            if any(isinstance(value, dict) for value in arguments.values()) or "[{" in json.dumps(arguments):
                continue  # their members are lists of accepted values
            problems = validate(Call(name, arguments), functions)
            valid += not problems
            contradictory += bool(problems)
    assert valid > 150
    assert contradictory <= 1
