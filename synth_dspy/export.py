"""Write a run's rows for others: `python -m synth_dspy.export runs/<task>/<id>/programs/<arm> --out folder`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from synth_dspy.cli import parse, run_verb
from synth_dspy.config import Settings


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


def main(args: list[str]) -> None:
    """Parse `args`, then export."""
    config = parse(ExportConfig, verb="export", description="Write a run's rows as a chat data set.", args=args)

    from synth_dspy.chat_export import export_run
    from synth_dspy.lms.offline import quiet_libraries

    quiet_libraries()
    counts = export_run(config.program, config.out, license=config.license, force=config.force)
    rows = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{config.out}: {rows}")


if __name__ == "__main__":
    run_verb(main)
