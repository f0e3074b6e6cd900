"""What a run has made on AWS: one JSON line each in `aws.jsonl` of its folder, written before the thing is made.

So `aws clean` finds everything, also what a run that was killed between two lines of code has left behind.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from synth_dspy.core import signing
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.reading import parse_json

FILE = "aws.jsonl"
_writing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Made:
    """A thing on AWS.

    Attributes:
        kind: what it is, as in `pipeline.cloud.clean.REMOVERS`: "s3", "bedrock-batch", "bedrock-model", ...
        name: its name or address, by which it is removed.
        region: where it is.
        signature: proof that this user noted it here, see `core.signing`; of no account in comparisons.
    """

    kind: str
    name: str
    region: str
    signature: str | None = field(default=None, compare=False)


def record(run: Path, made: Made) -> None:
    """Note that something is about to be made for a run; what is noted already is not noted twice.

    Raises:
        SetupError: the note cannot be written, so nothing should be made.
    """
    with _writing:
        if made in recorded(run):
            return
        try:
            run.mkdir(parents=True, exist_ok=True)
            made = replace(made, signature=signing.sign(run, made.kind, made.name, made.region))
            with (run / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(made)) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SetupError(
                f"Nothing is made on AWS, because it cannot be noted in {run / FILE}: {error.strerror or error}."
            ) from error


def is_own(run: Path, made: Made) -> bool:
    """Whether this user, on this machine, noted something for the run in this folder."""
    return signing.is_own(made.signature, run, made.kind, made.name, made.region)


def recorded(run: Path) -> list[Made]:
    """What a run has made and not removed, in order.

    Raises:
        SetupError: the file is damaged.
    """
    path = run / FILE
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Made(**parse_json(line)) for line in lines if line.strip()]
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{path}, which lists what the run made on AWS, cannot be read: {error}.") from error


def forget(run: Path, made: Made) -> None:
    """Note that something has been removed."""
    with _writing:
        left = [asdict(each) for each in recorded(run) if each != made]
        write_whole(run / FILE, "".join(json.dumps(each) + "\n" for each in left))
