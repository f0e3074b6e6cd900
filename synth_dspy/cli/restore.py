"""Restore a damaged ledger: `python -m synth_dspy.restore runs/contract_qa/20260101-120000-ab12`.

Every answer that can be read and matches its checksum is kept, from the last good snapshot and from the damaged file,
which is kept too. Lost calls are made again when the run is resumed.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core import snapshots
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.locks import lock_run
from synth_dspy.core.ledger_file import DamageError, ForeignError
from synth_dspy.core.run_names import find_run

LEDGER = "ledger.sqlite"


@dataclass(frozen=True)
class RestoreConfig:
    """What to restore.

    Attributes:
        folder: the run's id or folder, or the folder of an evaluation.
    """

    folder: Positional[Path]


def main(args: list[str]) -> None:
    """Parse `args`, restore the ledger, print how many answers were kept."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(RestoreConfig, verb="restore", description=description, args=args)
    folder = find_run(config.folder)
    ledger = folder / LEDGER
    if not ledger.is_file() and not snapshots.snapshot_of(ledger).is_file():
        raise SetupError(
            f"There is no {LEDGER} in {folder}, nor a snapshot of one: name the id or the folder of a run."
        )
    lock = lock_run(ledger)
    try:
        answers, later, damaged = snapshots.restore(ledger)
    except DamageError as error:
        raise SetupError(f"{ledger} cannot be restored: {error}. Start a new run.") from error
    except (ForeignError, sqlite3.Error, OSError) as error:
        raise SetupError(f"{ledger} was left as it is, because it cannot be restored: {error}.") from error
    finally:
        os.close(lock)
    print(f"{ledger}: {answers} answers, {later} of them later than the snapshot")
    if damaged is not None:
        print(f"the damaged file is kept as {damaged}")
