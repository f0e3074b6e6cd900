"""Document a database with a saved program: write missing comments as a script, Markdown or dbt's schema.yml.

    python -m synth_dspy.document runs/table_docs/<id>/programs/sft --database sqlite:///shop.db --out docs.md
    python -m synth_dspy.document runs/table_docs/<id>/programs/sft --database duckdb:///shop.duckdb --out comments.sql
    python -m synth_dspy.document ... --out comments.sql --apply

The extension of `--out` decides the format. Nothing is written into the database without `--apply`, and no file is
overwritten without `--force`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.run_names import RunPath
from synth_dspy.pipeline.trust import Caller


class DocumentConfig(Settings):
    """What to document, with which program, and where to write it.

    Attributes:
        program: folder of a saved program, in a run's programs/.
        database: duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME (password in PGPASSWORD).
        out: file to write: .sql (statements that set the new comments), .md, or .yml (dbt).
        force: overwrite `--out` if it exists.
        apply: run the statements on the database.
        only: names of the tables to document; by default all.
        again: also replace existing comments.
        samples: values of each column to show to the program; by default none.
        trust: allow the files, databases and models named by a program that somebody else made; without it, they are
            listed (docs/trust.md).
        api_base: address of the models' server, in place of the saved one.
        api_key_name: environment variable with the key for that server.
        allow_http: allow sending that key over http:// to another machine.
    """

    program: Positional[RunPath]
    database: str
    out: Path
    force: bool = False
    apply: bool = False
    only: tuple[str, ...] = ()
    again: bool = False
    samples: int = Field(default=0, ge=0)
    trust: bool = False
    api_base: str | None = None
    api_key_name: str | None = None
    allow_http: bool = False


def main(args: list[str]) -> None:
    """Parse `args`, document, write, perhaps apply."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(DocumentConfig, verb="document", description=description, args=args)
    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    bars = Bars()
    with bars.status("loading libraries"):
        from synth_dspy.pipeline.database import document_database
    logging.getLogger("dspy").setLevel(logging.ERROR)  # a truncated comment needs no warning
    done = document_database(
        config.program,
        config.database,
        config.out,
        force=config.force,
        apply=config.apply,
        only=config.only,
        again=config.again,
        samples=config.samples,
        bars=bars,
        caller=Caller(config.trust, config.api_base, config.api_key_name, config.allow_http, flags=True),
    )
    print(done)
