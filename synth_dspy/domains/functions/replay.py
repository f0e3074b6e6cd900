"""Executions that a run makes once: their outcomes stand in the run's ledger, as the answers of models do.

A function may read the clock, draw a number or keep count. Without a record, a run that was stopped and resumed would
execute everything again, get other results, and go on to other requests, other prompts and other rows.
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
    """A sandbox whose outcomes go through the ledger around the caller (`ledger.unit`); without one, or for functions
    that are not marked read-only, every call is made.

    An outcome is that of the function's source code, its arguments and the sandbox's limits. The source code is the
    module's file and the Python files beside it, of a package all its files; not what is installed, nor files of data.

    Args:
        sandbox: makes the calls.
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
            again: which execution of the same call it is: 1 is a second one, whose outcome may be another.

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
    """SHA-256 of a module's source code and of what it may import of its own."""
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
    except OSError:  # the child may not read it either
        return b""
