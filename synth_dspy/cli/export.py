"""Write a run's rows for others: `python -m synth_dspy.export runs/<task>/<id>/programs/<arm> --out folder`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.pipeline.trust import Caller


class ExportConfig(Settings):
    """What can be set on the command line."""

    program: Positional[Path]
    """A saved program, runs/<task>/<id>/programs/<arm>; rows are written as it would be asked them."""
    out: Path
    """Folder for train.jsonl, validation.jsonl, test.jsonl (chat messages) and the dataset card README.md."""
    force: bool = False
    """Write over these files where they are there already."""
    license: str = "other"
    """Licence of the data, as the Hugging Face Hub names it, for example cc-by-4.0."""
    trust: bool = False
    """Follow what a program that somebody else made names: files to read or run, databases, models; without, it is
    listed (docs/trust.md)."""
    api_base: str | None = None
    """Address of the server of its models, in place of the one that it names."""
    api_key_name: str | None = None
    """The environment variable that holds the key for it."""
    allow_http: bool = False
    """Send that key over http:// to another machine too."""


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
