"""A module is described in the sandbox: whatever it does when it is imported or looked at, this process goes on."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.introspect import ModuleReader, read_functions
from synth_dspy.domains.functions.schema import Function

DOCUMENTED = '''
def f(x: int) -> int:
    """Do it.

    Args:
        x: what
    """
    return x
'''


def read(path: Path, source: str, *, seconds: float = 60.0, memory_mb: int = 1024) -> list[Function]:
    path.write_text(textwrap.dedent(source) + DOCUMENTED, encoding="utf-8")
    with ModuleReader(seconds=seconds, memory_mb=memory_mb) as reader:
        functions, gaps = reader.read(path)
    assert gaps == []
    return functions


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "victim").write_text("kept")
    return tmp_path / "project" / "tools.py"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("open('../victim', 'w')", "in line 1 .*wrote outside its folder"),
        ("open(__file__, 'a')", "in line 1 .*wrote outside its folder"),
        ("import shutil; shutil.rmtree('{folder}')", "in line 1 "),
        ("import ctypes; assert ctypes.CDLL(None).unlink(b'{folder}/victim') == 0, 'no'", "AssertionError: no"),
        ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')", "opened a network connection"),
        ("import subprocess; subprocess.Popen(['true'])", "started a process"),
        ("import os, signal; os.kill(os.getppid(), signal.SIGTERM)", "in line 1 .*PermissionError"),
        ("import os\nKEY = os.environ['SECRET_TOKEN']", "in line 2 .*KeyError: 'SECRET_TOKEN'"),
        ("text = open('/etc/passwd').read()", "in line 1 .*does not allow reading"),
        ("import sys; sys.exit(3)", "in line 1 .*SystemExit: 3"),
        ("import os; os._exit(0)", r"the process ended \(exit status 0\)"),
        ("raise KeyboardInterrupt", "in line 1 .*KeyboardInterrupt"),
        ("import ctypes; ctypes.string_at(0)", "the process ended"),
        ("def r(): r()\nr()", "RecursionError"),
        ("raise ValueError('\\x1b[31mred\\u202e\\n')", "in line 1 .*red"),
        ("while True: pass", "ran longer than 3 s"),
        ("x = bytearray(3 << 30)", "used more than 1024 MB"),
        ("import builtins; builtins.isinstance = None", "tools.py"),
    ],
)
def test_what_a_module_does_when_it_is_imported_hurts_nothing(
    tools: Path, monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    source = source.replace("{folder}", str(tools.parents[1]))
    with pytest.raises(SetupError, match=why) as caught:
        read(tools, source, seconds=3.0 if "while" in source else 60.0)
    assert str(tools) in str(caught.value)
    assert str(caught.value).isprintable()
    assert (tools.parents[1] / "victim").read_text() == "kept"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "print('x' * 10_000_000)",
        "import atexit\natexit.register(lambda: open('{folder}/victim', 'w'))",
        "import threading\nthreading.Timer(0.1, lambda: open('{folder}/victim', 'w')).start()",
        "import sys; sys.modules['json'] = None; sys.stdout = sys.stderr = None",
        "import signal; signal.alarm(1); signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "__import__('os').chdir('/')",
    ],
)
def test_what_needs_not_stop_it_does_not(tools: Path, capfd: pytest.CaptureFixture[str], source: str) -> None:
    before = dict(sys.modules), list(sys.path), signal.getsignal(signal.SIGTERM), os.getcwd()
    functions = read(tools, source.replace("{folder}", str(tools.parents[1])))
    assert [each.name for each in functions] == ["f"]
    time.sleep(0.2)
    assert (tools.parents[1] / "victim").read_text() == "kept"
    assert capfd.readouterr() == ("", "")
    assert not [name for name in sys.modules if name not in before[0] and "tools" in name]
    assert (list(sys.path), signal.getsignal(signal.SIGTERM), os.getcwd()) == before[1:]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = " + "(" * 3_000 + ")" * 3_000, "too many nested parentheses"),
        ("x = " + "+".join("1" * 100_000), "cannot be read: RecursionError"),
        ("__all__ = iter(int, 1)", "cannot be read: TypeError"),
        ("class E:\n    def __repr__(self): __import__('os')._exit(7)\ndef g(x=E()): ...", "exit status 7"),
        ("def g(x: __import__('os')._exit(8)): ...", "exit status 8"),
        ("def g(x: 'exit(9)') -> None: ...", "cannot be read: SystemExit: 9"),
        ("def g(): ...\ng.__signature__ = 5", "cannot be read: TypeError"),
        ("def g(x='y' * 9_000_000): ...", "answered more than 8 MB"),
        ("T = int\nfor _ in range(120): T = list[T]\ndef g(x: T): ...", "nested more than 64 deep"),
    ],
)
def test_what_a_module_does_when_it_is_looked_at_hurts_nothing(tools: Path, source: str, why: str) -> None:
    with pytest.raises(SetupError, match=why) as caught:
        read(tools, source)
    assert str(tools) in str(caught.value)


FORGED = """
import gc, json
child = next(each for each in gc.get_objects() if hasattr(type(each), "serve") and hasattr(each, "token"))
function = {{"name": "f", "description": "d", "parameters": {{}}, "returns": None, "read_only": True, "line": 1,
             "examples": []}}
child._send({{"result": {{"functions": [{{**function, **{fields}}}], "gaps": []}}}})
"""


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("{'name': '../other.py:f'}", "name"),
        ("{'name': ''}", "name"),
        ("{'target': '/etc/other.py:f'}", "target"),
        ("{'line': 'x'}", "line"),
        ("{'read_only': 1}", "read_only"),
        ("{'parameters': {'$ref': '#/$defs/A'}}", "not among its definitions"),
        ("{'parameters': {'$ref': 'file:///etc/passwd'}}", "not among its definitions"),
        ("{'parameters': {'allOf': [{'$ref': '#'}]}}", "not merged"),
        ("{'parameters': {'$defs': []}}", "not an object"),
        ("{'examples': [{'name': 1}]}", "a call is an object"),
    ],
)
def test_a_description_is_believed_no_further_than_it_goes(tools: Path, fields: str, why: str) -> None:
    with pytest.raises(SetupError, match=rf"tools\.py cannot be read.*{why}"):
        read(tools, FORGED.format(fields=fields))


def test_a_description_that_would_grow_without_end_is_not_unfolded(tools: Path) -> None:
    definitions = {f"A{i}": {"anyOf": [{"$ref": f"#/$defs/A{j}"} for j in range(30)]} for i in range(30)}
    fields = {"parameters": {"type": "object", "properties": {"x": {"$ref": "#/$defs/A0"}}, "$defs": definitions}}
    (function,) = read(tools, FORGED.format(fields=fields))
    assert function.parameters["$defs"] == definitions
    assert (function.target, function.where) == (f"{tools}:f", f"{tools}:1")


def test_modules_import_their_neighbours_and_what_is_installed(tools: Path) -> None:
    (tools.parent / "units.py").write_text("import numpy\nZERO = float(numpy.zeros(1)[0])\n")
    (tools.parent / "b.py").write_text("from tools import f as g\nimport units\ndef h(x: float = units.ZERO): ...\n")
    read(tools, "import units")
    functions, _ = read_functions(tools.parent)
    assert {each.name: each.properties["x"].get("default") for each in functions} == {"f": None, "h": 0.0}


def test_no_package_is_imported_to_find_a_module_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_package_that_runs" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("import os; os.environ['IT_RAN'] = 'yes'\n")
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text(DOCUMENTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    (function,), _ = read_functions(Path("a_package_that_runs.inner.tools"))
    assert function.where == f"{package}/tools.py:2"
    assert "IT_RAN" not in os.environ
    for name in ("a_package_that_runs.tools", "no_package.tools", "json.decoder.tools"):
        with pytest.raises(SetupError, match="nor an importable Python module"):
            read_functions(Path(name))
