"""Delete what a person asked and thought, a request, or what was asked about a document: `python -m synth_dspy.forget`.

    python -m synth_dspy.forget contract_qa --person p-81 --reason "asked to be forgotten"
    python -m synth_dspy.forget contract_qa --request 5c0e...
    python -m synth_dspy.forget contract_qa --document office_lease

It says which versions learned from it. The next training does not.
"""

from __future__ import annotations

import getpass

from pydantic import Field

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import ProductionConfig, TaskName, open_registry, print_table, runs_of, track
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.text import counted


class ForgetConfig(ProductionConfig):
    """What is deleted."""

    task: TaskName
    """The task's name."""
    by: str = Field(default_factory=getpass.getuser)
    """Your name, as the record of the deletion will show it."""
    reason: str = ""
    """Why, in your words."""
    person: str | None = None
    """Delete all that this person asked, and all feedback of theirs, by the pseudonym."""
    request: str | None = None
    """Delete this request, by its id."""
    document: str | None = None
    """Delete all requests that name this document. Remove the document itself from the task's folder."""


def main(args: list[str]) -> None:
    """Parse `args`, delete, and print what was learned from it."""
    about = "Delete a person's requests and feedback, a request, or what was asked about a document."
    config = parse(ForgetConfig, verb="forget", description=about, args=args)
    wanted = {name: getattr(config, name) for name in ("person", "request", "document")}
    given = {name: value for name, value in wanted.items() if value}
    if len(given) != 1:
        raise SetupError("Name one of --person, --request and --document.")
    registry = open_registry(config, config.task)

    from synth_dspy.loop.forgetting import forget

    reason = config.reason or f"asked to forget a {next(iter(given))}"
    done = forget(registry, runs_of(config, config.task), f"person:{config.by}", reason, **given)
    deletion = done.deletion
    parts = [counted(len(deletion.requests), "request"), counted(len(deletion.feedback), "feedback record")]
    parts += [counted(done.questions, "question for labelling", "questions for labelling")] if done.questions else []
    print(f"Deleted: {', '.join(parts)}.")
    if done.versions:
        rows = [(version.id, version.arm, version.run) for version in done.versions]
        print("\nThese versions learned from it, and the folders of their runs keep copies:")
        print_table(("version", "arm", "run"), rows)
        print(f"\nThe next training does not: {command(f'loop {config.task} --now')}.")
    else:
        print("No version learned from it.")
    if done.cycle is not None:
        print(
            f"The open cycle {done.cycle.id} has collected its rows already: "
            f"{command(f'loop reject {config.task}')} ends it."
        )
    track(registry)
