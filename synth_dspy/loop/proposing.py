"""Questions of the traffic that a person is asked to label, for items that no program has learned from.

They lie in `questions.jsonl` in the folder of the task's runs, in the form of proposed questions: each with the
champion's answer and its best passage, to accept, edit or reject (`synth-dspy label FILE`). Only questions that are
kept for scoring are proposed, so no training ever sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import Check
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.documents.proposals import PROPOSED, REVIEWED, ProposedQuestions
from synth_dspy.loop.feedback import collect_answers, prompt_of
from synth_dspy.loop.labels import is_held_back
from synth_dspy.loop.live import question_of
from synth_dspy.loop.records import Request
from synth_dspy.loop.store import Store
from synth_dspy.loop.stream import Embed

FILE = "questions.jsonl"
MOST = 40
"""Questions that are proposed at a time: about half an hour of a person's work."""
_LATEST = 2_000
_TRIES = 5


def propose(
    store: Store,
    path: Path,
    version: str,
    inputs: Collection[str],
    *,
    most: int = MOST,
    like: Sequence[str] = (),
    embed: Callable[[], Embed] | None = None,
    choices: Sequence[str] = (),
) -> int:
    """Add questions of the latest traffic to the file, none twice, and none that people have rated answers to.

    Args:
        store: of the task.
        path: the file.
        version: whose answers are shown.
        inputs: names of the program's inputs; empty: all that was given.
        most: so many.
        like: questions; those nearest to them are taken first. Without them, they are drawn evenly.
        embed: gives the embedder for that.
        choices: the labels that an answer can be; empty: it is not a label.

    Returns:
        How many were added.

    Raises:
        SetupError: the file cannot be read or written.
    """
    rated = collect_answers(store)
    latest = store.read(Request, version=version, last=_LATEST)
    rows: dict[str, dict[str, Any]] = {}
    for request in reversed(latest):
        given = {name: value for name, value in request.inputs.items() if not inputs or name in inputs}
        usable = request.route == "champion" and request.error is None and prompt_of(request) not in rated
        if usable and is_held_back(given):
            row = _row(request, given, choices)
            rows.setdefault(row["id"], row)
    for _ in range(_TRIES):
        questions = ProposedQuestions.read(path) if path.is_file() else ProposedQuestions(path, [])
        there = {str(row["id"]) for row in questions}
        new = [row for name, row in rows.items() if name not in there]
        chosen = _nearest(new, like, embed)[:most]
        questions.rows += chosen
        unlisted = [row for row in questions.rows if row.get("inputs") and "choices" not in row] if choices else []
        for row in unlisted:  # of a version that did not write them down
            row["choices"] = list(choices)
        try:
            if chosen or unlisted:
                path.parent.mkdir(parents=True, exist_ok=True)
                questions.save()
            return len(chosen)
        except SetupError as error:  # a person saved a decision meanwhile
            failure = error
    raise failure


def labelled_questions(
    path: Path, output: str, inputs: Collection[str], checks: Mapping[str, Check]
) -> list[dict[str, Any]]:
    """Labelled items of the questions that a person let pass, as a task's source reads them.

    Args:
        path: the file; none where there is no such file.
        output: the program's answer field.
        inputs: names of its inputs; empty: those of the question.
        checks: of the inputs; what fails one is left out, such as a question about a document that is gone.
    """
    if not path.is_file():
        return []
    items = []
    for row in ProposedQuestions.read(path):
        if row["status"] not in REVIEWED:
            continue
        given = dict(row.get("inputs") or {})
        if not given:  # a person's own
            given = {name: row[name] for name in ("question", "document") if row.get(name) and name in (inputs or row)}
            given = given or (dict.fromkeys(inputs, row["question"]) if len(inputs) == 1 else {})
        elif row["question"] != row.get("asked") and (name := _question_input(given)) is not None:
            given[name] = row["question"]
        if all(check(given.get(name)) is None for name, check in checks.items()):
            items.append({**given, "id": str(row["id"]), output: row.get("answer") or ""})
    return items


def problem_with(row: Mapping[str, Any], answer: str) -> str | None:
    """Why a text cannot be the answer to a proposed question, as a sentence; None if it can."""
    choices = row.get("choices") or ()
    if not choices or answer in choices:
        return None
    return f"{answer!r} is not an answer that the program can give: choose one of {', '.join(map(str, choices))}."


def shown_inputs(row: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a proposed question that is not about a document or a passage; empty for one that is."""
    return {} if row.get("document") or row.get("passage") else dict(row.get("inputs") or {})


def name_of(prompt: str) -> str:
    """The id of a prompt's question, `prompt` being as of `prompt_of`."""
    return "asked-" + hash_order(prompt)[:12]


def _row(request: Request, given: Mapping[str, Any], choices: Sequence[str]) -> dict[str, Any]:
    question = question_of(request)
    return {
        **({"choices": list(choices)} if choices else {}),
        "status": PROPOSED,
        "question": question,
        "answer": "" if request.abstained else request.answer,
        "document": str(given.get("document") or ""),
        "passage": request.passages[0] if request.passages else "",
        "id": name_of(prompt_of(request)),
        "inputs": dict(given),
        "asked": question,
    }


def _question_input(given: Mapping[str, Any]) -> str | None:
    """The input that holds the question as it is shown; None where it is made of several."""
    if isinstance(given.get("question"), str):
        return "question"
    texts = [name for name, value in given.items() if isinstance(value, str)]
    return texts[0] if len(given) == len(texts) == 1 else None


def _nearest(
    rows: Iterable[dict[str, Any]], like: Sequence[str], embed: Callable[[], Embed] | None
) -> list[dict[str, Any]]:
    """Rows, those nearest to any of the questions first; otherwise in an order that depends on nothing else."""
    drawn = sorted(rows, key=lambda row: hash_order(row["id"]))
    if not like or embed is None or not drawn:
        return drawn
    embedder = embed()
    vectors, moved = embedder([row["question"] for row in drawn]), embedder(list(like))
    order = np.argsort(-(vectors @ moved.T).max(axis=1), kind="stable")
    return [drawn[place] for place in order]
