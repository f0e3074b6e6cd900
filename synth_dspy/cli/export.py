"""Write a run's rows for others: `python -m synth_dspy.export runs/<task>/<id>/programs/<arm> --out folder`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.run_names import RunPath
from synth_dspy.pipeline.trust import Caller


class ExportConfig(Settings):
    """What can be set on the command line."""

    program: Positional[RunPath]
    """A saved program, <id>/programs/<arm> or runs/<task>/<id>/programs/<arm>; rows are written with its prompts."""
    out: Path
    """Folder for train.jsonl, validation.jsonl, test.jsonl (chat messages) and the dataset card README.md."""
    force: bool = False
    """Overwrite these files if they exist."""
    license: str = "other"
    """Licence of the data, as the Hugging Face Hub names it, for example cc-by-4.0."""
    trust: bool = False
    """Allow the files, databases and models named by a program that somebody else made; without it, they are listed
    (docs/trust.md)."""
    api_base: str | None = None
    """Address of the models' server, in place of the saved one."""
    api_key_name: str | None = None
    """Environment variable with the key for that server."""
    allow_http: bool = False
    """Allow sending that key over http:// to another machine."""


def main(args: list[str]) -> None:
    """Parse `args`, then export."""
    config = parse(ExportConfig, verb="export", description="Write a run's rows as a chat data set.", args=args)

    from synth_dspy.models.offline import quiet_libraries
    from synth_dspy.pipeline.chat_export import export_run

    quiet_libraries()
    caller = Caller(config.trust, config.api_base, config.api_key_name, config.allow_http, flags=True)
    counts = export_run(config.program, config.out, license=config.license, force=config.force, caller=caller)
    rows = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{config.out}: {rows}")
