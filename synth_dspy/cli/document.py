"""Document a database with a saved program: what lacks a comment gets one, as a script, Markdown or dbt's schema.yml.

    python -m synth_dspy.document runs/table_docs/<id>/programs/sft --database sqlite:///shop.db --out docs.md
    python -m synth_dspy.document runs/table_docs/<id>/programs/sft --database duckdb:///shop.duckdb --out comments.sql
    python -m synth_dspy.document ... --out comments.sql --apply

The ending of `--out` says the format. Nothing is written into the database without `--apply`, and nothing over a file
that is there without `--force`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.pipeline.trust import Caller


class DocumentConfig(Settings):
    """What to document, with what, and where to.

    Attributes:
        program: folder of a saved program, as a compile leaves it under programs/.
        database: duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME (password in PGPASSWORD).
        out: file to write: .sql (statements that set the new comments), .md, or .yml (dbt).
        force: write over `--out` where it is there already.
        apply: run the statements on the database.
        only: names of the tables to document; all unless given.
        again: write comments also where there are some.
        samples: values of each column that the program is shown; 0 shows none.
        trust: follow what a program that somebody else made names: files to read or run, databases, models; without,
            it is listed (docs/trust.md).
        api_base: address of the server of its models, in place of the one that it names.
        api_key_name: the environment variable that holds the key for it.
        allow_http: send that key over http:// to another machine too.
    """

    program: Positional[Path]
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
    logging.getLogger("dspy").setLevel(logging.ERROR)  # a comment that the budget cuts is no news
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
