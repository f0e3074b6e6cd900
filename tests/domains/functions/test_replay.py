"""What a run executed once is not executed again: a resumed run sees the outcomes that the first one saw."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.ledger import Ledger
from synth_dspy.domains.functions.replay import RecordedSandbox
from synth_dspy.domains.functions.sandbox.run import Outcome, Sandbox
from synth_dspy.domains.functions.schema import Call, Function

MODULE = """
import random, time
import helper

count = 0

def tick(unit: str = "ns"):
    global count
    count += 1
    if unit == "none":
        raise LookupError(time.time_ns())
    return [helper.NAME, count, time.time_ns(), random.random()]
"""

TICK = Call("tick", {})


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "helper.py").write_text("NAME = 'clock'\n")
    (folder / "ticks.py").write_text(MODULE)
    return folder / "ticks.py"


def run(
    module: Path,
    ledger: Path | None,
    call: Call = TICK,
    *,
    again: int = 0,
    read_only: bool = True,
    **limits: Any,
) -> Outcome:
    """What a process of a run sees that makes one call, and ends."""
    function = Function("tick", "", {"type": "object", "properties": {}}, read_only=read_only, target=f"{module}:tick")
    with Sandbox(module, [function], only_read_only=read_only, **limits) as sandbox:
        box = RecordedSandbox(sandbox)
        if ledger is None:
            return box.run([call], again)[0]
        with Ledger(ledger) as opened, opened.unit(station="synthesis"):
            return box.run([call], again)[0]


def test_a_resumed_run_sees_the_outcomes_of_the_first(module: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    first = run(module, ledger)
    assert first.result[:2] == ["clock", 1]
    assert run(module, ledger) == first, "the clock, the count and the time it took too"
    failed = run(module, ledger, Call("tick", {"unit": "none"}))
    assert failed.error_type == "LookupError"
    assert run(module, ledger, Call("tick", {"unit": "none"})) == failed
    second = run(module, ledger, again=1)
    assert second != first
    assert run(module, ledger, again=1) == second
    assert run(module, tmp_path / "another.sqlite") != first
    assert run(module, None) != run(module, None)


def test_within_a_run_the_first_outcome_stays(module: Path, tmp_path: Path) -> None:
    function = Function("tick", "", {}, read_only=True, target=f"{module}:tick")
    with Ledger(tmp_path / "ledger.sqlite") as ledger, Sandbox(module, [function]) as sandbox:
        box = RecordedSandbox(sandbox)
        with ledger.unit(station="synthesis"):
            first, second = box.run([TICK, TICK])
            assert first == second
        (outside,) = box.run([TICK])
        assert outside.result[1] == 2, "without a run every call is made"


def test_other_code_and_other_limits_have_outcomes_of_their_own(module: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    first = run(module, ledger)
    assert run(module, ledger, seconds=4.0) != first
    moved = Path(shutil.copytree(module.parent, tmp_path / "moved")) / module.name
    assert run(moved, ledger) == first
    (module.parent / "helper.py").write_text("NAME = 'watch'\n")
    assert run(module, ledger).result[0] == "watch"
    module.write_text(MODULE + "\n# another version\n")
    assert run(module, ledger).result[0] == "watch"


def test_half_a_character_is_written_down_as_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "names.py"
    name = r"b'caf\xe9 \xf0\x9f\x8d\xb5'.decode('utf-8', 'surrogateescape')"
    path.write_text(f"def tick():\n    print({name})\n    return {{{name}: {name}}}\n")
    outcome = run(path, tmp_path / "ledger.sqlite")
    assert (outcome.result, outcome.stdout) == ({"caf? \U0001f375": "caf? \U0001f375"}, "caf? \U0001f375\n")
    assert run(path, tmp_path / "ledger.sqlite") == outcome


@pytest.mark.parametrize("opening", ["[", '{"a": '])
def test_a_result_that_is_nested_deep_is_written_down(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "nested.py"
    closing = {"[": "]", '{"a": ': "}"}[opening]
    path.write_text(f"import json\ndef tick():\n    return json.loads({opening!r} * 490 + '1' + {closing!r} * 490)\n")
    first = run(path, tmp_path / "ledger.sqlite")
    assert first.ok
    assert isinstance(first.result, str)
    assert run(path, tmp_path / "ledger.sqlite") == first


def test_what_may_change_something_is_done_each_time(module: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    assert run(module, ledger, read_only=False) != run(module, ledger, read_only=False)
