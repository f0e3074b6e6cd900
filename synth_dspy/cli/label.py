"""Review the questions that a compile proposes about your documents, or a loop: `python -m synth_dspy.label DIR`.

With `--page` they are reviewed in a browser on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.printable import visible
from synth_dspy.core.text import as_text

if TYPE_CHECKING:
    from rich.console import Console

    from synth_dspy.domains.documents.proposals import ProposedQuestions

CHOICES = "a (accept), e (edit), r (reject), w (write your own), s (skip), q (quit)"
ROW_CHOICES = "a (accept), e (another answer), r (reject), s (skip), q (quit)"
"""For a question that is not about a document."""


class LabelConfig(Settings):
    """Whose questions are reviewed."""

    documents: Positional[Path]
    """The folder of documents that were compiled, or the file of proposed questions in it."""
    page: bool = False
    """Review them on a page in a browser, which is served on this machine until you press Ctrl-C."""
    port: int = Field(default=8001, ge=0, le=65535)
    """Port of the page; 0: any that is free."""
    file: bool = False
    """Only print the path of the file: edit it by hand and set each line's status to accepted, edited or rejected."""


def main(args: list[str]) -> int:
    """Parse `args`, then show one proposed question after another and write each decision at once."""
    about = "Review proposed questions one by one, beside the passage that answers them; stop and go on as you like."
    config = parse(LabelConfig, verb="label", description=about, args=args)

    from synth_dspy.core.terminal import standard_output
    from synth_dspy.domains.documents.proposals import PROPOSED, REVIEWED, STATUSES, proposed_questions

    questions = proposed_questions(config.documents)
    if config.file:
        print(questions.path)
        return 0
    console = standard_output()
    if config.page:
        _serve(questions.path, config.port)
    else:
        review(questions.path, read=input, console=console)
    counts = proposed_questions(config.documents).counts
    counted = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    more = "the same command goes on" if counts[PROPOSED] else "all are reviewed"
    asked = any(row.get("inputs") for row in proposed_questions(config.documents))
    then = (
        "the loop scores on those that you accepted" if asked else "compile again to score on those that you accepted"
    )
    ready = f"; {then}" if any(counts[each] for each in REVIEWED) else ""
    console.print(f"\n{counted}: {questions.path} ({more}{ready})", soft_wrap=True)
    return 0


def _serve(path: Path, port: int) -> None:
    """Serve the page until Ctrl-C."""
    from synth_dspy.service.pages.label import PATH, label_app
    from synth_dspy.service.server import listen, make_server
    from synth_dspy.service.settings import Limits

    listening, limits = listen("127.0.0.1", port), Limits()
    place = f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}"
    server = make_server(label_app(path, limits), limits, lambda: print(f"{place} (Ctrl-C stops)", flush=True))
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has stopped
        server.run(sockets=[listening])


def review(path: Path, *, read: Callable[[str], str], console: Console) -> None:
    """Show the questions that nobody has decided on, and save each decision; `q` or the end of the input stops.

    The file is read again before each decision is saved, so that an editor may change it at the same time.

    Args:
        path: of the proposed questions.
        read: asks for a line, such as `input`; EOFError ends.
        console: where questions are shown.
    """
    from synth_dspy.domains.documents.proposals import PROPOSED, ProposedQuestions

    questions, texts = ProposedQuestions.read(path), _Texts(path.parent)
    waiting = [row["id"] for row in questions if row["status"] == PROPOSED]
    done = len(questions) - len(waiting)
    for number, name in enumerate(waiting, start=1):
        row = ProposedQuestions.read(path)[name]
        _show(console, row, done + number, len(questions))
        while True:
            try:
                decision = _decide(row, read, console, texts)
            except EOFError:
                return
            if decision.stop:
                return
            if decision.apply is not None:
                current = ProposedQuestions.read(path)
                decision.apply(current)
                current.save()
            if decision.next:
                break


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a person wants: a change to the questions, the next one, or no more."""

    apply: Callable[[ProposedQuestions], None] | None = None
    next: bool = True
    stop: bool = False


class _Texts:
    """The documents' texts, which are read when an answer is typed for the first time.

    Args:
        folder: of the documents.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: dict[str, str] | None = None

    def confirmed(self, answer: str | None, document: str, read: Callable[[str], str]) -> bool:
        """Whether a typed answer is to be kept: its document holds it, or the person says so."""
        from synth_dspy.domains.documents.documents import read_folder
        from synth_dspy.domains.documents.labelled import holds, nearest

        if not answer:
            return True
        if self._texts is None:
            self._texts = {}
            with suppress(SetupError):  # the questions may have been moved away from the documents
                self._texts = {each.id: each.text for each in read_folder(self._folder)[0]}
        text = self._texts.get(document)
        if text is None or holds(text, [answer]):
            return True
        near = nearest(text, answer)
        hint = f" (the nearest there is: {visible(near)})" if near else ""
        return read(f"That is not in {document}{hint}; keep it? [y/N] ").strip().casefold() in ("y", "yes")


def _decide(row: Mapping[str, Any], read: Callable[[str], str], console: Console, texts: _Texts) -> _Decision:
    from synth_dspy.loop.proposing import problem_with, shown_inputs

    is_row = bool(shown_inputs(row))
    name, choice = str(row["id"]), read(f"\n{ROW_CHOICES if is_row else CHOICES}: ").strip().casefold()
    if choice in ("a", "accept"):
        if (problem := problem_with(row, str(row.get("answer") or ""))) is not None:
            return _refused(console, problem)
        return _Decision(lambda questions: questions.accept(name))
    if choice in ("r", "reject"):
        return _Decision(lambda questions: questions.reject(name))
    if choice in ("s", "skip"):
        return _Decision()
    if choice in ("q", "quit"):
        return _Decision(stop=True)
    if choice in ("e", "edit") and is_row:
        another = read("Answer (empty: as it is): ").strip() or str(row.get("answer") or "")
        if (problem := problem_with(row, another)) is not None:
            return _refused(console, problem)
        return _Decision(lambda questions: questions.edit(name, answer=another))
    if choice in ("e", "edit"):
        question = read("Question (empty: as it is): ").strip() or None
        answer = _answer(read("Answer (empty: as it is; - where the document does not say): "))
        if not texts.confirmed(answer, str(row.get("document")), read):
            console.print("Nothing was changed.")
            return _Decision(next=False)
        return _Decision(lambda questions: questions.edit(name, question=question, answer=answer))
    if choice in ("w", "write") and not is_row:
        own = read(f"Your question about {row['document']} (empty: none): ").strip()
        answer = _answer(read("Its answer (- where the document does not say): ")) if own else None
        if answer is not None and not texts.confirmed(answer, str(row.get("document")), read):
            console.print("Nothing was added.")
            return _Decision(next=False)
        if answer is not None:
            right = answer
            return _Decision(lambda questions: questions.add(own, right, str(row["document"])), next=False)
        console.print("A question needs an answer: nothing was added.")
        return _Decision(next=False)
    return _refused(console, f"Type a, e, r, {'' if is_row else 'w, '}s or q.")


def _refused(console: Console, why: str) -> _Decision:
    console.print(visible(why), markup=False, highlight=False, soft_wrap=True)
    return _Decision(next=False)


def _answer(typed: str) -> str | None:
    """An answer that was typed; "" where the document does not say, None where nothing was typed."""
    return "" if typed.strip() == "-" else typed.strip() or None


def _show(console: Console, row: Mapping[str, Any], number: int, total: int) -> None:
    from rich.rule import Rule
    from rich.text import Text

    from synth_dspy.loop.proposing import shown_inputs

    inputs, choices = shown_inputs(row), row.get("choices") or ()
    title = f"{number} of {total}"
    if inputs:
        console.print(Rule(Text(title)) if console.is_terminal else Text(f"\n--- {title}"))
        for field, value in inputs.items():
            console.print(Text(f"{field}: ", style="dim") + Text(visible(as_text(value)), style="bold"), soft_wrap=True)
        console.print(
            Text("\nthe program's answer: ", style="dim") + Text(visible(str(row.get("answer"))), style="cyan")
        )
        if choices:
            console.print(Text(f"possible answers: {visible(', '.join(map(str, choices)))}", style="dim"))
        return
    passage = Text(visible(str(row.get("passage") or "")), style="dim")
    if row.get("answer"):
        passage.highlight_words([visible(str(row["answer"]))], style="bold not dim", case_sensitive=False)
    title = f"{title}: {visible(str(row.get('document') or 'all documents'))}"
    console.print(Rule(Text(title)) if console.is_terminal else Text(f"\n--- {title}"))
    console.print(passage, soft_wrap=not console.is_terminal)
    console.print(Text(f"\n{visible(str(row['question']))}", style="bold"))
    console.print(Text(visible(str(row.get("answer") or "(the document does not say)")), style="cyan"))
