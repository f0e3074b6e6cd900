"""Executions that a run makes once: their outcomes are in the run's ledger, as the answers of models are.

A function may read the clock, draw a random number or count its calls. Without a record, a resumed run would
execute everything again, get other results, and continue with other requests, prompts and rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synth_dspy.core.ledger import call_key, current_ledger
from synth_dspy.domains.functions.sandbox.run import Outcome, Sandbox
from synth_dspy.domains.functions.schema import Call


class RecordedSandbox:
    """A sandbox whose outcomes go through the current ledger (`ledger.unit`); without one, or for functions
    that are not marked read-only, every call is executed.

    An outcome is determined by the source code, the arguments and the sandbox's limits. The source code is the
    module's file and the Python files in its folder, or all of its package; not installed packages or data files.

    Args:
        sandbox: executes the calls.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._determinants: dict[str, Any] = {
            "source": source_hash(sandbox.module),
            "limits": [sandbox.seconds, sandbox.memory_mb, sandbox.files_mb, sandbox.only_read_only],
            "readable": [str(path) for path in sandbox.readable],
        }

    def run(self, calls: Sequence[Call], again: int = 0) -> list[Outcome]:
        """The outcome of each call, as `Sandbox.run` gives it.

        Args:
            calls: as `Sandbox.run` takes them.
            again: the number of this execution of the same call: 1 is a second one, whose outcome may differ.

        Raises:
            SetupError: the module cannot be imported in the sandbox, or the ledger cannot be written.
        """
        return [self._run(call, again) for call in calls]

    def close(self) -> None:
        """As `Sandbox.close`."""
        self.sandbox.close()

    def _run(self, call: Call, again: int) -> Outcome:
        ledger = current_ledger()
        functions = [self.sandbox.functions.get(each.name) for each in (call, *call.inner())]
        if ledger is None or not all(function is not None and function.read_only for function in functions):
            return self.sandbox.run([call])[0]
        key = call_key(
            {
                "execution": self._determinants,
                "targets": [function.target.rpartition(":")[2] for function in functions if function],
                "call": call.as_json(),
                "again": again,
            }
        )
        return Outcome(**ledger.execute_once(key, lambda: asdict(self.sandbox.run([call])[0])))


def source_hash(module: Path) -> str:
    """SHA-256 of a module's source code and of the user's code that it may import."""
    package = None
    folder = module.parent
    while (folder / "__init__.py").is_file():
        package, folder = folder, folder.parent
    files = package.rglob("*.py") if package else module.parent.glob("*.py")
    digest = hashlib.sha256(_content(module))
    for path in sorted(files):
        digest.update(f"\n{path.relative_to(folder)}\n".encode())
        digest.update(hashlib.sha256(_content(path)).digest())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the child cannot read it either
        return b""
