"""Versions of a task's program, and the aliases that say which of them answers.

`champion` answers, `challenger` is being tried, `previous` is what a rollback returns to. A version never changes;
promoting and rolling back move aliases, and every move is kept with who made it, why, and on what evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import read_rows
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.loop.records import Alias, AliasMove, Deletion, Feedback, Version
from synth_dspy.loop.store import Store, now
from synth_dspy.pipeline.saved_files import ABOUT, PROGRAM
from synth_dspy.training.feedback import RECORDS

ROLLBACK = "rollback"
"""In the evidence of a move back to the previous champion."""
_TRIES = 20
_DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from.

    Attributes:
        version: with its run, hashes and seeds.
        ancestors: its parent, that one's parent, and so on.
        moves: of the aliases to it and away from it.
        rows: how many lines each data set of its run has, by name; the lines are in the run's `datasets`.
        documents: SHA-256 of each document, or other group, that its run read.
        feedback: what it learned from, without what was deleted since.
        forgotten: deletions since it was made of feedback that it learned from.
    """

    version: Version
    ancestors: tuple[Version, ...]
    moves: tuple[AliasMove, ...]
    rows: Mapping[str, int]
    documents: Mapping[str, str]
    feedback: tuple[Feedback, ...]
    forgotten: tuple[Deletion, ...]


class Registry:
    """The versions of one task."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def versions(self) -> list[Version]:
        """All of them, the oldest first."""
        return sorted(self.store.read(Version), key=lambda version: int(version.id[1:]))

    def version(self, name: str) -> Version:
        """A version by its id, or by an alias.

        Raises:
            SetupError: there is none; names those that exist.
        """
        identifier = self.alias(cast("Alias", name)) if name in get_args(Alias) else name
        versions = self.store.read(Version, id=identifier)
        if versions:
            return versions[0]
        existing = ", ".join(version.id for version in self.versions())
        if not existing:
            raise SetupError(f"{self.store.task} has no version yet: `synth-dspy promote` registers an arm of a run.")
        if name in get_args(Alias):
            raise SetupError(f"{self.store.task} has no {name}; its versions are {existing}.")
        raise SetupError(f"{self.store.task} has no version {name!r}; there are {existing}.")

    def alias(self, alias: Alias) -> str | None:
        """The id of the version that an alias is on."""
        moves = self.store.read(AliasMove, alias=alias, last=1)
        return moves[0].version if moves else None

    def moves(self, alias: Alias | None = None) -> list[AliasMove]:
        """Moves of an alias, or of all, the oldest first."""
        return self.store.read(AliasMove) if alias is None else self.store.read(AliasMove, alias=alias)

    def register(
        self,
        run: Path,
        arm: str,
        *,
        data: Mapping[str, str] | None = None,
        seeds: Mapping[str, int] | None = None,
        note: str = "",
    ) -> Version:
        """Make an arm of a finished run a version; one that is registered already is returned as it is.

        Args:
            run: the run's folder.
            arm: its name.
            data: SHA-256 of data sets beyond those that lie in the run, by name, such as `feedback`.
            seeds: by what they seed.
            note: of a person's.

        Raises:
            SetupError: the run has no program of the arm.
        """
        program = run / "programs" / arm / PROGRAM
        if not program.is_file():
            arms = ", ".join(sorted(path.parent.name for path in run.glob(f"programs/*/{PROGRAM}")))
            raise SetupError(f"The run {run} has no program of {arm!r}; it has {arms or 'none: it is not finished'}.")
        folder = str(run.resolve())
        for _ in range(_TRIES):
            versions = self.versions()
            same = [version for version in versions if (version.run, version.arm) == (folder, arm)]
            if same:
                return same[0]
            version = Version(
                id=f"v{1 + max((int(each.id[1:]) for each in versions), default=0)}",
                task=self.store.task,
                run=folder,
                arm=arm,
                parent=self.alias("champion"),
                created=now(),
                program=sha256(program),
                weights=_training(program.parent),
                data={path.stem: sha256(path) for path in sorted(run.glob("datasets/*.jsonl"))} | dict(data or {}),
                seeds=dict(seeds or {}),
                note=note,
            )
            if self.store.add(version):
                return version
        raise SetupError(
            f"The store of {self.store.task} is busy: other processes keep registering versions. Try again."
        )

    def promote(self, name: str, by: str, reason: str, evidence: Mapping[str, Any] | None = None) -> AliasMove:
        """Make a version the champion; the one before becomes `previous`, and a challenger of that id is none any more.

        Args:
            name: its id or an alias.
            by: "person:<name>", "loop" or "watch".
            reason: in plain words.
            evidence: figures, as JSON.

        Raises:
            SetupError: there is no such version, or it is the champion already.
        """

        def choose(champion: str | None) -> tuple[str, str | None]:
            version = self.version(name).id
            if version == champion:
                raise SetupError(f"{version} is the champion of {self.store.task} already.")
            return version, champion

        return self._move_champion(choose, by, reason, evidence or {})

    def challenge(self, name: str | None, by: str, reason: str, evidence: Mapping[str, Any] | None = None) -> AliasMove:
        """Make a version the challenger, or, with None, have none."""
        version = None if name is None else self.version(name).id
        move = AliasMove("challenger", version, self.alias("challenger"), now(), by, reason, dict(evidence or {}))
        if not self.store.add(move):
            raise SetupError(f"The aliases of {self.store.task} were just moved by another process. Try again.")
        return move

    def roll_back(
        self, by: str, reason: str, evidence: Mapping[str, Any] | None = None, *, of: str | None = None
    ) -> AliasMove:
        """Make the champion before the champion again; another rollback goes further back, and never to what was left.

        Args:
            by, reason, evidence: see `promote`.
            of: the champion that is to be left; by default whichever it is.

        Raises:
            SetupError: there is no champion before, or `of` is not the champion any more.
        """

        def choose(champion: str | None) -> tuple[str, str | None]:
            if of not in (None, champion):
                raise SetupError(
                    f"{of} is not the champion of {self.store.task} any more: nothing was rolled back; try again."
                )
            moves = self.moves("champion")
            *earlier, _ = _in_line(moves) or [""]
            if not earlier:
                raise SetupError(self._nothing_before(moves))
            return earlier[-1], earlier[-2] if len(earlier) > 1 else None

        return self._move_champion(choose, by, reason, {**(evidence or {}), ROLLBACK: True})

    def _nothing_before(self, moves: Sequence[AliasMove]) -> str:
        text = f"{self.store.task} has no previous champion to return to"
        if moves and ROLLBACK in moves[-1].evidence:
            left = moves[-1]
            text += f": {left.before} was rolled back at {left.at:%Y-%m-%d %H:%M:%S}Z by {left.by}"
            text += "; to have it back, or another version, promote it by its name"
        return f"{text}."

    def _move_champion(
        self,
        choose: Callable[[str | None], tuple[str, str | None]],
        by: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> AliasMove:
        """Move the alias; `choose` names, by the champion of the moment, the new one and what is before that."""
        for _ in range(_TRIES):
            champion = self.alias("champion")
            version, previous = choose(champion)
            move = AliasMove("champion", version, champion, now(), by, reason, dict(evidence))
            moves = [move, AliasMove("previous", previous, self.alias("previous"), move.at, by, reason)]
            if self.alias("challenger") == version:
                moves.append(AliasMove("challenger", None, version, move.at, by, reason))
            if self.store.add_together(moves):
                return move
        raise SetupError(f"The aliases of {self.store.task} keep being moved by other processes. Try again.")

    def lineage(self, name: str) -> Lineage:
        """A version with all that it comes from; of its run's files, what is still there.

        Raises:
            SetupError: there is no such version, or a file of its run is damaged.
        """
        version = self.version(name)
        by_id = {each.id: each for each in self.versions()}
        ancestors: list[Version] = []
        while (parent := (ancestors[-1] if ancestors else version).parent) is not None:
            ancestors.append(by_id[parent])
        moves = [move for move in self.moves() if version.id in (move.version, move.before)]
        sets = {path.stem: _lines(path) for path in sorted(Path(version.run).glob("datasets/*.jsonl"))}
        documents = {str(row["id"]): str(row["sha256"]) for row in sets.pop(_DOCUMENTS, ())}
        learned = learned_from(Path(version.run))
        return Lineage(
            version,
            tuple(ancestors),
            tuple(moves),
            {name: len(lines) for name, lines in sets.items()},
            documents,
            tuple(record for record in self.store.read(Feedback) if record.id in learned) if learned else (),
            tuple(each for each in self.store.read(Deletion, since=version.created) if learned & {*each.feedback}),
        )


def _in_line(moves: Sequence[AliasMove]) -> list[str]:
    """The champion, last, and those before it that rollbacks return to one after another, without what they left."""
    line: list[str] = []
    for move in moves:
        version = str(move.version)
        if ROLLBACK in move.evidence and version in line:
            del line[line.index(version) + 1 :]
        else:
            line = [*(each for each in line if each != version), version]
    return line


def learned_from(run: Path) -> frozenset[str]:
    """The ids of the feedback that a run was trained on; empty where it had none."""
    rows = _lines(run / "datasets" / "feedback.jsonl")
    listed = (row.get(name) for row in rows for name in RECORDS)
    return frozenset(str(record) for records in listed if isinstance(records, list) for record in records)


def _lines(path: Path) -> list[Any]:
    return read_rows(path, {}) if path.is_file() and path.stat().st_size else []


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _training(program: Path) -> str:
    """The fingerprint of the training that a saved program's weights come from, "" for the student's own."""
    weights = read_json_object(program / ABOUT).get("weights")
    return Path(weights).parent.name if isinstance(weights, str) else ""
