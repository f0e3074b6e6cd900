"""Deletes what a person, or the owner of a document, wants deleted, and says what was learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.proposals import ProposedQuestions
from synth_dspy.loop.cycle import Cycle, Cycles
from synth_dspy.loop.feedback import learned_about, learned_deleted, prompt_of
from synth_dspy.loop.proposing import FILE, name_of
from synth_dspy.loop.records import Deletion, Request, Version
from synth_dspy.loop.registry import Registry

_COLLECTED = ("rows", "trained", "compared", "decided", "waiting", "shadow", "share", "promoted")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a deletion came to.

    Attributes:
        deletion: the record of it.
        versions: that learned from what was deleted; their runs' folders keep copies.
        questions: questions for labelling that were deleted with it.
        cycle: an open one that has collected its rows already; None where there is none.
    """

    deletion: Deletion
    versions: tuple[Version, ...]
    questions: int
    cycle: Cycle | None


def forget(
    registry: Registry,
    folder: Path,
    by: str,
    reason: str,
    *,
    request: str | None = None,
    person: str | None = None,
    document: str | None = None,
) -> Forgotten:
    """Delete a request, all of a person's, or all that was asked about a document.

    Args:
        registry: of the task.
        folder: of its runs.
        by: who deletes it.
        reason: why.
        request: its id.
        person: a pseudonym.
        document: its id.

    Raises:
        SetupError: there is nothing of the kind.
    """
    store = registry.store
    asked = {each.id: each for each in store.read(Request)}
    deletion = store.delete(reason, by, request=request, person=person, document=document)
    about = learned_about(registry, document) if document is not None else []
    versions = {version.id: version for version in (*about, *learned_deleted(registry, deletion))}
    if not deletion.requests and not deletion.feedback and not versions:
        raise SetupError(
            f"{store.task} has no request, feedback or version that has to do with {request or person or document!r}."
        )
    gone = {name_of(prompt_of(asked[name])) for name in deletion.requests if name in asked}
    gone -= {name_of(prompt_of(each)) for name, each in asked.items() if name not in deletion.requests}
    current = Cycles(store, {}).current()
    collected = current if current is not None and current.state in _COLLECTED else None
    return Forgotten(deletion, tuple(versions.values()), _drop_questions(folder / FILE, gone, document), collected)


def _drop_questions(path: Path, gone: set[str], document: str | None) -> int:
    if not path.is_file():
        return 0
    questions = ProposedQuestions.read(path)
    kept = [
        row
        for row in questions.rows
        if row["id"] not in gone and (document is None or document not in (row.get("inputs") or {}).values())
    ]
    dropped = len(questions.rows) - len(kept)
    if not kept:
        path.unlink()
    elif dropped:
        questions.rows = kept
        questions.save()
    return dropped
