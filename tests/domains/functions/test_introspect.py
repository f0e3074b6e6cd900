"""Modules of documented functions: hints and docstrings become schemas, and what is missing is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions import read_only
from synth_dspy.domains.functions.introspect import read_functions
from synth_dspy.domains.functions.schema import Call, Function, Gap, validate


def read(folder: Path, source: str, name: str = "tools.py") -> tuple[dict[str, Function], list[Gap]]:
    path = folder / name
    path.write_text(source, encoding="utf-8")
    functions, gaps = read_functions(path)
    return {function.name: function for function in functions}, gaps


STYLES = {
    "google": '''
    """Forecast for a city.

    It looks far ahead.

    Args:
        city: the city's name,
            in English
        days (int): how many

    Returns:
        float: Degrees.
    """''',
    "numpy": '''
    """Forecast for a city.

    It looks far ahead.

    Parameters
    ----------
    city : str
        the city's name,
        in English
    days : int, optional
        how many

    Returns
    -------
    float
        Degrees.
    """''',
    "sphinx": '''
    """Forecast for a city.

    It looks far ahead.

    :param city: the city's name,
        in English
    :param int days: how many
    :returns: Degrees.
    """''',
}


@pytest.mark.parametrize("style", STYLES)
def test_every_docstring_style_gives_the_same_function(tmp_path: Path, style: str) -> None:
    functions, gaps = read(tmp_path, f"def f(city: str, days: int = 3) -> float:{STYLES[style]}\n    return 1.0\n")
    assert functions["f"] == Function(
        name="f",
        description="Forecast for a city.\n\nIt looks far ahead.",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "the city's name, in English"},
                "days": {"type": "integer", "description": "how many", "default": 3},
            },
            "required": ["city"],
        },
        returns={"type": "number", "description": "Degrees."},
        target=f"{tmp_path}/tools.py:f",
        where=f"{tmp_path}/tools.py:1",
    )
    assert gaps == []


TYPES = '''
{future}
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict, Union

from pydantic import BaseModel, Field


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Point(TypedDict):
    """A place.

    Attributes:
        x: degrees east
        y: degrees north
    """

    x: float
    y: NotRequired[float]


@dataclass
class Stop:
    """A stop on the way.

    Attributes:
        city: where
    """

    city: str
    nights: int = 1
    at: Optional[Point] = None
    tags: list[str] = field(default_factory=list)
    key: Any = object()


class Tree(BaseModel):
    value: int = Field(description="what it holds", ge=0)
    kids: list["Tree"] = []


def f(
    color: Color,
    unit: Literal["c", 1],
    point: Point,
    stops: list[Stop],
    tree: Tree,
    either: Union[int, list[str], None],
    scores: dict[str, list[float]],
    pair: tuple[int, str],
    tags: set[str],
    day: date,
    limit: Annotated[int, Field(ge=1, le=9, description="at most")],
    note: Annotated[str, "said aside"],
    paint: Color = Color.RED,
    when: datetime | None = None,
    wait: timedelta = timedelta(hours=1),
    *rest: int,
    **more: int,
) -> list[Stop]: ...
'''


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_type_hints_become_schemas(tmp_path: Path, future: str) -> None:
    f = read(tmp_path, TYPES.format(future=future))[0]["f"]
    properties = f.properties
    assert properties["color"] == {"type": "string", "enum": ["red", "blue"]}
    assert properties["unit"] == {"enum": ["c", 1]}
    assert properties["point"] == {
        "type": "object",
        "description": "A place.",
        "properties": {
            "x": {"type": "number", "description": "degrees east"},
            "y": {"type": "number", "description": "degrees north"},
        },
        "required": ["x"],
    }
    stop = properties["stops"]["items"]
    assert stop["description"] == "A stop on the way."
    assert stop["required"] == ["city"]
    assert stop["properties"]["city"] == {"type": "string", "description": "where"}
    assert stop["properties"]["at"]["anyOf"] == [properties["point"], {"type": "null"}]
    assert f.parameters["$defs"]["Tree"]["properties"]["value"]["description"] == "what it holds"
    assert properties["scores"]["additionalProperties"] == {"type": "array", "items": {"type": "number"}}
    assert properties["day"] == {"type": "string", "format": "date"}
    assert properties["limit"] == {"type": "integer", "minimum": 1, "maximum": 9, "description": "at most"}
    assert properties["note"] == {"type": "string", "description": "said aside"}
    assert (properties["paint"]["default"], properties["when"]["default"]) == ("red", None)
    assert properties["wait"]["default"] == "PT1H"
    assert f.parameters["additionalProperties"] == {"type": "integer"}
    assert "rest" not in properties
    assert "paint" not in f.required
    assert f.returns is not None
    assert f.returns["items"]["properties"]["city"]["type"] == "string"


def test_data_classes_may_hold_themselves(tmp_path: Path) -> None:
    source = """
from dataclasses import dataclass
from typing import Optional, TypedDict

class Point(TypedDict):
    x: float

@dataclass
class Node:
    '''
    Attributes:
        value: what it holds
    '''
    value: int
    kids: "Optional[dict[str, list[Node]]]" = None

def f(node: Node, points: list[Point]): ...
"""
    f = read(tmp_path, source)[0]["f"]
    node = f.parameters["$defs"]["Node"]
    assert node["properties"]["value"] == {"type": "integer", "description": "what it holds"}
    assert "description" not in node
    assert validate(Call("f", {"node": {"value": 1, "kids": {"a": [{"value": 2}]}}, "points": [{"x": 1}]}), [f]) == []
    assert validate(Call("f", {"node": {"value": 1, "kids": {"a": [{"value": "2"}]}}, "points": []}), [f]) == [
        "argument node.kids.a[0].value: '2' is not of type integer"
    ]


GOOD: dict[str, Any] = {
    "color": "red",
    "unit": 1,
    "point": {"x": 1.5},
    "stops": [{"city": "Oslo", "at": {"x": 1, "y": 2}}],
    "tree": {"value": 1, "kids": [{"value": 2, "kids": []}]},
    "either": ["a"],
    "scores": {"a": [1, 2.5]},
    "pair": [1, "a"],
    "tags": ["a", "b"],
    "day": "2025-03-01",
    "limit": 9,
    "note": "",
    "other": 3,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("color", "green"),
        ("unit", "1"),
        ("point", {"y": 1}),
        ("stops", [{"nights": 1}]),
        ("tree", {"value": 1, "kids": [{"value": -1}]}),
        ("either", ["a", 1]),
        ("scores", {"a": 1}),
        ("pair", [1]),
        ("pair", ["a", 1]),
        ("tags", ["a", "a"]),
        ("day", "1 March"),
        ("limit", 10),
        ("other", "3"),
    ],
)
def test_calls_are_checked_against_the_hints(tmp_path: Path, name: str, value: Any) -> None:
    f = read(tmp_path, TYPES.format(future=""))[0]["f"]
    assert validate(Call("f", GOOD), [f]) == []
    problems = validate(Call("f", {**GOOD, name: value}), [f])
    assert problems
    assert all(problem.startswith(f"argument {name}") for problem in problems)


def test_defaults_that_json_has_not_are_left_out(tmp_path: Path) -> None:
    source = "def f(a: float = float('inf'), b=print, c: int = 0): ...\n"
    f = read(tmp_path, source)[0]["f"]
    assert [name for name, schema in f.properties.items() if "default" in schema] == ["c"]
    assert f.required == ()


def test_what_is_missing_is_listed_with_file_and_line(tmp_path: Path) -> None:
    source = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
if TYPE_CHECKING:
    from elsewhere import Frame

@dataclass
class Stop:
    city: str

def f(
    a,
    b: int,
    c: Frame,
    d: Any,
    e: memoryview,
    stop: Stop,
    g=1,
):
    """Do it.

    Args:
        a (list of str): first
        d: fourth
        e: fifth
        stop: where
        g: last
    """

def undocumented(x: int) -> None: ...
'''
    functions, gaps = read(tmp_path, source)
    assert {gap.file for gap in gaps} == {f"{tmp_path}/tools.py"}
    assert sorted((gap.line, gap.function, gap.parameter, gap.missing) for gap in gaps) == [
        (12, "f", "return", "a type"),
        (14, "f", "b", "a description"),
        (15, "f", "c", "a description"),
        (15, "f", "c", "a type that can be resolved (Frame)"),
        (16, "f", "d", "a type"),
        (17, "f", "e", "a type that JSON has (memoryview)"),
        (18, "f", "stop.city", "a description"),
        (19, "f", "g", "a type"),
        (31, "undocumented", "", "a description"),
        (31, "undocumented", "x", "a description"),
    ]
    assert str(gaps[0]).startswith(f"{tmp_path}/tools.py:")
    assert functions["f"].properties["a"] == {"type": "array", "items": {"type": "string"}, "description": "first"}


@pytest.mark.parametrize(
    ("stated", "schema"),
    [
        ("int", {"type": "integer"}),
        ("str, optional", {"type": "string"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("{'a', 'b'}", {"enum": ["a", "b"]}),
        ("int or None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("array-like", {}),
        ("__import__('os')", {}),
    ],
)
def test_a_type_in_the_docstring_counts_where_there_is_no_hint(
    tmp_path: Path, stated: str, schema: dict[str, Any]
) -> None:
    source = f'def f(a):\n    """Do.\n\n    Parameters\n    ----------\n    a : {stated}\n        first\n    """\n'
    functions, gaps = read(tmp_path, source)
    assert functions["f"].properties["a"] == {**schema, "description": "first"}
    assert any(gap.parameter == "a" for gap in gaps) == (not schema)


def test_functions_are_read_only_where_marked_and_where_they_say_so(tmp_path: Path) -> None:
    source = '''
from functools import lru_cache, wraps
from synth_dspy.domains.functions import read_only

@read_only
def marked() -> int: ...

@lru_cache
@read_only
def cached() -> int: ...

def said() -> int:
    """Count.

    Read-only.
    """

def neither() -> int:
    """Count, which is not read-only. It changes things."""
'''
    functions, _ = read(tmp_path, source)
    assert {name: function.read_only for name, function in functions.items()} == {
        "marked": True,
        "cached": True,
        "said": True,
        "neither": False,
    }
    assert functions["said"].description == "Count."


def test_the_mark_leaves_the_function_as_it_is() -> None:
    def f(x: int) -> int:
        return x + 1

    assert read_only(f) is f
    assert f(1) == 2


def test_examples_in_docstrings_are_calls(tmp_path: Path) -> None:
    source = '''
from datetime import date

def home() -> str: ...

def f(city: str, days: int = 3, on: date | None = None) -> float:
    """Forecast, as f(city) or f() say.

    >>> f("Oslo", 2)
    12.5
    >>> x = f(city="Bergen",
    ...       days=-1)
    >>> f("Oslo", days="2"), g.f("x"), ff("y")

    Examples:
        "In two days where I live?" -> f(home(), 2)
        f("Oslo (Norway)", on="2024-01-01"), again f("Oslo", 2)
        f(city="Oslo", on=date(2024, 1, 1)) and f("never closed
    """
'''
    assert read(tmp_path, source)[0]["f"].examples == (
        Call("f", {"city": "Oslo", "days": 2}),
        Call("f", {"city": "Bergen", "days": -1}),
        Call("f", {"city": Call("home", {}), "days": 2}),
        Call("f", {"city": "Oslo (Norway)", "on": "2024-01-01"}),
    )


def test_public_functions_of_the_module_are_read_in_their_order(tmp_path: Path) -> None:
    source = "from math import sqrt\nfrom textwrap import dedent\nclass C: ...\nx = 1\n"
    source += "def b(): ...\ndef _c(): ...\nasync def a(): ...\n"
    assert list(read(tmp_path, source)[0]) == ["b", "a"]
    assert list(read(tmp_path, source + "__all__ = ['_c', 'dedent', 'x', 'b']\n")[0]) == ["_c", "dedent", "b"]


def test_overloads_are_one_function(tmp_path: Path) -> None:
    source = "import typing\n@typing.overload\ndef f(a: int) -> int: ...\n@typing.overload\ndef f(a: str) -> str: ...\n"
    assert read(tmp_path, source + "def f(a: int | str) -> int | str: ...\n")[0]["f"].where.endswith(":6")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import json\nimport no_such_module\n", r"failed in line 2 \(ModuleNotFoundError: No module named"),
        ("x = 1\ny = x / 0\n", r"failed in line 2 \(ZeroDivisionError"),
        ("raise ValueError('one\\ntwo')", r"failed in line 1 \(ValueError: one two\)"),
        ("raise SystemExit('stop')", r"failed in line 1 \(SystemExit: stop\)"),
        ("def f(:\n", r"tools\.py:1 is not valid Python"),
        ("x = 1\n", "holds no public functions"),
        ("__all__ = ['g']\ndef f(): ...\n", "names 'g' in __all__ but does not define it"),
        ("def f(): ...\n\ndef f(a): ...\n", "two functions named f, in lines 1 and 3"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, source: str, problem: str) -> None:
    with pytest.raises(SetupError, match=problem) as caught:
        read(tmp_path, source)
    assert "\n" not in str(caught.value)


def test_a_folder_is_read_module_by_module(tmp_path: Path) -> None:
    (tmp_path / "_private.py").write_text("def hidden(): ...\n")
    (tmp_path / "constants.py").write_text("HOME = 'Oslo'\n")
    (tmp_path / "b.py").write_text("from constants import HOME\ndef home(): ...\n")
    (tmp_path / "a.py").write_text("def away(): ...\n")
    (tmp_path / "examples.jsonl").write_text('{"question": "?"}\n')
    assert [each.name for each in read_functions(tmp_path)[0]] == ["away", "home"]
    (tmp_path / "c.py").write_text("\ndef home(): ...\n")
    with pytest.raises(SetupError, match=r"named home, at .*b\.py:2 and .*c\.py:2"):
        read_functions(tmp_path)


def test_a_folder_without_functions_is_said(tmp_path: Path) -> None:
    (tmp_path / "constants.py").write_text("HOME = 'Oslo'\n")
    with pytest.raises(SetupError, match="holds no modules with public functions"):
        read_functions(tmp_path)


def test_a_module_in_a_package_imports_its_neighbours_and_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "a_package_of_tools"
    package.mkdir()
    (package / "__init__.py").write_text("def top(): ...\n")
    (package / "base.py").write_text("HOME = 'Oslo'\n")
    (package / "tools.py").write_text("from .base import HOME\ndef home(city: str = HOME): ...\n")
    assert read_functions(package / "tools.py")[0][0].properties["city"]["default"] == "Oslo"
    assert read_functions(package / "__init__.py")[0][0].name == "top"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_functions(Path("a_package_of_tools.tools"))[0][0].name == "home"
