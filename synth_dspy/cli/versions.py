"""Versions of a task's program: `python -m synth_dspy.versions TASK`, and all that one of them comes from.

python -m synth_dspy.versions contract_qa         versions, and the aliases champion, challenger, previous
python -m synth_dspy.versions contract_qa v3      its run, data and seeds, its ancestors, how its aliases moved
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import ALIASES, ProductionConfig, TaskName, open_registry, print_aliases, print_table
from synth_dspy.core.invocation import command
from synth_dspy.core.printable import printable_name
from synth_dspy.core.text import counted
from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.registry import Registry

if TYPE_CHECKING:
    from synth_dspy.loop.acceptance import Acceptance


class VersionsConfig(ProductionConfig):
    """What is shown."""

    task: TaskName
    """The task's name."""
    version: Positional[str | None] = None
    """Show all that this version, or alias, comes from."""


def _suggestions(registry: Registry, version: str) -> list[tuple[str, str]]:
    each = _acceptance(registry).get(version)
    if each is None:
        return []
    counts = f"{each.accepted} accepted as they were, {each.edited} edited, {each.rejected} rejected"
    return [("suggestions", f"{counts}; accepted {each} ({each.rate.method})")]


def main(args: list[str]) -> None:
    """Parse `args`, then print the versions, or one version's lineage."""
    about = "List the versions of a task's program, or show all that one comes from."
    config = parse(VersionsConfig, verb="versions", description=about, args=args)
    registry = open_registry(config, config.task)
    if config.version is not None:
        _print_lineage(registry, config.version)
        return
    versions = registry.versions()
    if not versions:
        print(
            f"{config.task} has no version yet: {command(f'promote {config.task} RUN:ARM')} registers an arm of a run."
        )
        return
    accepted = _acceptance(registry)
    on = {alias: registry.alias(alias) for alias in ALIASES}
    rows = [
        (
            version.id,
            ", ".join(alias for alias in ALIASES if on[alias] == version.id),
            version.arm,
            version.run,
            version.parent or "",
            f"{version.created:%Y-%m-%d %H:%M}Z",
            *([str(accepted.get(version.id, ""))] if accepted else []),
            printable_name(version.note),
        )
        for version in versions
    ]
    heads = (
        "version",
        "alias",
        "arm",
        "run",
        "parent",
        "created",
        *(["accepted as it was"] if accepted else []),
        "note",
    )
    print_table(heads, rows)
    if accepted:
        methods = ", or ".join(dict.fromkeys(each.rate.method for each in accepted.values()))
        print(f"\naccepted: of the suggestions that were decided, with 95 % interval ({methods})")
    print()
    print_aliases(registry)


def _of_whom(feedback: Sequence[Feedback]) -> str:
    raters = {each.rater for each in feedback if each.source == "person" and each.rater is not None}
    by_ai = sum(each.source == "ai" for each in feedback)
    more = f", {by_ai:,} of them by models" if by_ai else ""
    return f"{counted(len(feedback), 'record')}{more}, {counted(len(raters), 'person', 'people')} by name"


def _acceptance(registry: Registry) -> dict[str, Acceptance]:
    if not registry.store.count(Feedback, kind="acceptance"):
        return {}
    from synth_dspy.loop.acceptance import acceptance_by_version  # numpy and scipy: half a second

    return acceptance_by_version(registry.store)


def _print_lineage(registry: Registry, name: str) -> None:
    lineage = registry.lineage(name)
    version = lineage.version
    facts = [
        ("version", version.id),
        ("arm", version.arm),
        ("run", version.run),
        ("created", f"{version.created:%Y-%m-%d %H:%M:%S}Z"),
        ("program", version.program),
        ("weights", version.weights or "the student's own"),
        *((f"rows: {name}", f"{count:,}") for name, count in lineage.rows.items()),
        *([("documents", f"{len(lineage.documents):,}")] if lineage.documents else []),
        *([("feedback", _of_whom(lineage.feedback))] if lineage.feedback else []),
        *((f"data: {name}", digest) for name, digest in version.data.items()),
        *((f"seed: {name}", str(seed)) for name, seed in version.seeds.items()),
        ("ancestors", ", ".join(each.id for each in lineage.ancestors) or "none"),
        ("requests", str(registry.store.count(Request, version=version.id))),
        *_suggestions(registry, version.id),
        *([("note", printable_name(version.note))] if version.note else []),
    ]
    width = max(len(name) for name, _ in facts)
    for fact, value in facts:
        print(f"{fact.ljust(width)}  {value}")
    if lineage.moves:
        print()
        moves = [
            (
                f"{move.at:%Y-%m-%d %H:%M:%S}Z",
                move.alias,
                move.before or "-",
                move.version or "-",
                move.by,
                printable_name(move.reason),
            )
            for move in lineage.moves
        ]
        print_table(("at", "alias", "from", "to", "by", "reason"), moves)
    for deletion in lineage.forgotten:
        gone = f"{counted(len(deletion.feedback), 'feedback record')} and {counted(len(deletion.requests), 'request')}"
        when = f"{deletion.at:%Y-%m-%d %H:%M}Z"
        print(f"\nsince then {gone} were deleted by {deletion.by} at {when}: {printable_name(deletion.reason)}")
