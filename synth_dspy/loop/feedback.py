"""Feedback becomes training data: the lines of the file that `--training.feedback` takes.

    correction   the corrected answer is chosen over the answer; it is a good answer too
    rating       thumbs and scores: good answers (4 and 5 of 5, thumb up) and bad ones (1 and 2, thumb down); two
                 answers to one prompt whose ratings are at least two points apart are a preference
    better       the better answer is chosen over the other
    acceptance   of a suggestion: accepted and rejected are thumbs, an edited one is a correction
    comment      the teacher's rewrite is chosen over the answer, where the judge finds it better (`rewriting.py`)

What several people think of one answer (the same inputs and the same text, whichever version gave it) is one opinion.
Each rater's latest rating counts, as 0 (thumb down, 1 of 5) to 1 (thumb up, 5 of 5), and a correction without a rating
as 0. A mean of at least 0.75 is good, of at most 0.25 bad, anything between is no label: three in four must agree. The
latest of the most frequent corrections counts, unless the others call the answer right. A grader's rating counts where
no person rated. Two lines that contradict each other are both left out. What is left out is counted, with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Protocol

from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.jsonl import Check
from synth_dspy.core.io.reading import parse_json, read_text
from synth_dspy.core.run import jsonl_text
from synth_dspy.loop.records import GRADER, Deletion, Feedback, Reading, Request, Version
from synth_dspy.loop.registry import Registry, learned_from
from synth_dspy.loop.store import Store
from synth_dspy.training.feedback import RATED, RECORDS, SIDES

GOOD, BAD = 0.75, 0.25
"""Mean ratings from and up to which an answer is good or bad."""
APART = 0.5
"""Smallest difference of two ratings that makes a preference: two points of five."""
PER_PROMPT = 4
"""At most this many preferences of one prompt by ratings, those with the largest differences."""

Source = Literal["person", "ai"]


@dataclass(frozen=True, slots=True)
class Comment:
    """What people remarked on an answer.

    Attributes:
        request: the answer's.
        comments: theirs, the oldest first.
        references: good answers to the same prompt, by ratings or corrections.
    """

    request: Request
    comments: tuple[str, ...]
    references: tuple[str, ...]


class Rewrites(Protocol):
    """Turns comments into better answers."""

    def rewrite(self, comments: Sequence[Comment]) -> Sequence[tuple[str | None, str]]:
        """Of each comment the better answer, or None and why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingFeedback:
    """Lines of a feedback file, and the number of records or lines left out by reason."""

    lines: tuple[Mapping[str, Any], ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The number of preferences, good answers and bad answers."""
        kinds = Counter("preferences" if "chosen" in each else "good" if each["good"] else "bad" for each in self.lines)
        return {name: kinds[name] for name in ("preferences", "good", "bad")}

    def write(self, path: Path) -> None:
        """Write the file that `--training.feedback` takes.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(path, jsonl_text(self.lines))


@dataclass(slots=True)
class Answer:
    """A text that was given to a prompt, and what is thought of it.

    Attributes:
        request: the first that got it.
        votes: ratings in [0, 1] by rater, each with its record's id.
        corrections: corrected answers by rater, each with its record's id.
        comments: remarks, each with its record's id.
        graded: the grader's rating, with its record's id.
    """

    request: Request
    votes: dict[str, tuple[float, str]] = field(default_factory=dict)
    corrections: dict[str, tuple[str, str]] = field(default_factory=dict)
    comments: list[tuple[str, str]] = field(default_factory=list)
    graded: tuple[float, str] | None = None

    @property
    def text(self) -> str:
        """The answer."""
        return self.request.answer

    @property
    def ratings(self) -> list[float]:
        """Of each person who rated or corrected it."""
        return [value for value, _ in self.votes.values()] + [0.0 for who in self.corrections if who not in self.votes]

    @property
    def by_people(self) -> float | None:
        """Their mean rating; None if nobody rated or corrected it."""
        return _mean(self.ratings)

    @property
    def rating(self) -> float | None:
        """People's mean rating, or the grader's where there is none."""
        by_people = self.by_people
        return by_people if by_people is not None else None if self.graded is None else self.graded[0]

    @property
    def source(self) -> Source:
        """Whose the rating is."""
        return "person" if self.by_people is not None else "ai"

    @property
    def evidence(self) -> list[str]:
        """The ids of the records that the rating was made of."""
        if self.by_people is None:
            return [] if self.graded is None else [self.graded[1]]
        return [record for _, record in (*self.votes.values(), *self.corrections.values())]

    def correction(self) -> tuple[str, list[str]] | None:
        """The corrected answer and its records; None where there is none, or others call the answer right."""
        others = _mean([value for rater, (value, _) in self.votes.items() if rater not in self.corrections])
        if not self.corrections or (others is not None and others > 0.5):
            return None
        frequent = Counter(squeezed(text) for text, _ in self.corrections.values())
        most = max(frequent.values())
        (text, _) = [each for each in self.corrections.values() if frequent[squeezed(each[0])] == most][-1]
        return text, [record for given, record in self.corrections.values() if squeezed(given) == squeezed(text)]


def collect_answers(
    store: Store, *, since: datetime | None = None, dropped: Counter[str] | None = None
) -> dict[str, dict[str, Answer]]:
    """Answers that there is feedback on: by prompt, then by text.

    Args:
        store: of the task.
        since: only feedback from this time on.
        dropped: counts the records that cannot be used, by reason.
    """
    dropped = Counter() if dropped is None else dropped
    grader = current_grader(store)
    answers: defaultdict[str, dict[str, Answer]] = defaultdict(dict)
    requests: dict[str, Request | None] = {}
    for record in store.read(Feedback, since=since):
        record = record.opinion
        if record.kind == "better":
            continue
        if record.source == "ai" and record.rater != grader:
            dropped["graded by a grader that is not used"] += 1
            continue
        request = _request(store, record.request, requests)
        if request is None or request.error is not None or not request.answer.strip():
            dropped["of a request that was deleted, failed or had no answer"] += 1
            continue
        answer = answers[prompt_of(request)].setdefault(squeezed(request.answer), Answer(request))
        _add(answer, record)
    return dict(answers)


def _add(answer: Answer, record: Feedback) -> None:
    rater = record.rater or record.id  # without a name, each is another's
    if record.kind == "comment":
        answer.comments.append((str(record.value), record.id))
    elif record.kind == "correction" and squeezed(str(record.value)) != squeezed(answer.text):
        answer.corrections.pop(rater, None)  # the latest is the last
        answer.corrections[rater] = (str(record.value), record.id)
    else:
        rating = 1.0  # corrected to itself, it is right
        if record.kind != "correction":
            rating = float(record.value) if record.kind == "thumb" else (int(record.value) - 1) / 4
        if record.source == "ai":
            answer.graded = (rating, record.id)
        else:
            answer.votes[rater] = (rating, record.id)


def feedback_rows(
    store: Store,
    *,
    since: datetime | None = None,
    checks: Mapping[str, Check] | None = None,
    rewriter: Rewrites | None = None,
    keep: Callable[[Mapping[str, Any]], bool] = lambda inputs: True,
) -> TrainingFeedback:
    """The training data that feedback makes, by the rules above.

    Deleted records are not in the store, so that they leave the next training.

    Args:
        store: of the task.
        since: only feedback from this time on; by default all.
        checks: of the program's inputs; what fails one is left out, such as a question about a document that is gone.
        rewriter: turns comments into answers; None: comments are left out.
        keep: whether a question with these inputs is learned from; see `labels.is_held_back`.
    """
    dropped: Counter[str] = Counter()
    lines = _Lines()
    prompts = collect_answers(store, since=since, dropped=dropped)
    for answers in prompts.values():
        _corrections(answers.values(), lines, dropped)
        _ratings(list(answers.values()), lines, dropped)
    _better(store, since, lines, dropped)
    _comments(prompts, lines, dropped, rewriter)
    kept = []
    for line in lines.agreed(dropped):
        if set(line.inputs) & {*SIDES, *RATED}:
            dropped["has an input called as a field of the file"] += 1
        elif checks is not None and any(check(line.inputs.get(name)) for name, check in checks.items()):
            dropped["has inputs that the task does not take"] += 1
        elif keep(line.given(checks)):
            kept.append(line.as_row(checks))
    return TrainingFeedback(tuple(kept), {why: count for why, count in dropped.items() if count})


def current_grader(store: Store) -> str | None:
    """The name of the grader that agrees with people enough to be used; None where the latest one does not."""
    readings = store.read(Reading, signal=GRADER, last=1)
    return str(readings[0].evidence["grader"]) if readings and not readings[0].alarm else None


def learned_deleted(registry: Registry, deletion: Deletion) -> list[Version]:
    """The versions that learned from feedback which was then deleted."""
    gone = set(deletion.feedback)
    return [version for version in registry.versions() if gone & learned_from(Path(version.run))]


def learned_about(registry: Registry, document: str) -> list[Version]:
    """The versions that learned from a document: from rows of its group, or feedback that names it."""
    return [version for version in registry.versions() if _holds(Path(version.run), document)]


def _holds(run: Path, document: str) -> bool:
    for name in ("train", "dev", "feedback"):
        path = run / "datasets" / f"{name}.jsonl"
        lines = read_text(path).split("\n") if path.is_file() else []
        if any(document in parse_json(line).values() for line in lines if document in line and line.strip()):
            return True
    return False


def prompt_of(request: Request) -> str:
    """A request's inputs as a key."""
    return json.dumps(request.inputs, sort_keys=True, ensure_ascii=False)


def squeezed(text: str) -> str:
    """A text with single spaces."""
    return " ".join(text.split())


@dataclass(slots=True)
class _Line:
    inputs: Mapping[str, Any]
    answers: Mapping[str, Any]
    feedback: dict[str, None]
    source: Source

    def given(self, checks: Collection[str] | None) -> dict[str, Any]:
        """The inputs that the task takes."""
        return {name: value for name, value in self.inputs.items() if checks is None or name in checks}

    def as_row(self, checks: Collection[str] | None) -> dict[str, Any]:
        inputs = self.given(checks)
        key = json.dumps([self.inputs, self.answers], sort_keys=True)
        about = {"id": hashlib.sha256(key.encode()).hexdigest()[:16], "source": self.source}
        records = next(name for name in RECORDS if name not in inputs or name == RECORDS[-1])
        return {**about, records: list(self.feedback), **inputs, **self.answers}


class _Lines:
    """Lines under the texts that they are about, so that equal ones are joined and contradicting ones noticed."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, ...], _Line] = {}

    def add_rated(self, request: Request, text: str, good: bool, feedback: Iterable[str], source: Source) -> None:
        key = (prompt_of(request), squeezed(text), str(good))
        self._add(key, request, {"answer": text, "good": good}, feedback, source)

    def add_pair(self, request: Request, chosen: str, rejected: str, feedback: Iterable[str], source: Source) -> None:
        key = (prompt_of(request), "", squeezed(chosen), squeezed(rejected))
        self._add(key, request, {"chosen": chosen, "rejected": rejected}, feedback, source)

    def agreed(self, dropped: Counter[str]) -> Iterator[_Line]:
        """Those that no other contradicts."""
        for key, line in self._lines.items():
            *before, last = key
            opposite = (*before[:2], last, before[2]) if len(key) == 4 else (*before, str(last != "True"))
            if opposite in self._lines:
                dropped["contradicts other feedback"] += 1
            else:
                yield line

    def _add(
        self,
        key: tuple[str, ...],
        request: Request,
        answers: Mapping[str, Any],
        feedback: Iterable[str],
        source: Source,
    ) -> None:
        line = self._lines.setdefault(key, _Line(request.inputs, answers, {}, source))
        line.feedback |= dict.fromkeys(feedback)
        line.source = "person" if "person" in (line.source, source) else "ai"


def _corrections(answers: Iterable[Answer], lines: _Lines, dropped: Counter[str]) -> None:
    for answer in answers:
        correction = answer.correction()
        if correction is None:
            dropped["corrects an answer that others call right"] += len(answer.corrections)
            continue
        text, records = correction
        dropped["another correction was given more often or later"] += len(answer.corrections) - len(records)
        lines.add_pair(answer.request, text, answer.text, records, "person")
        lines.add_rated(answer.request, text, True, records, "person")


def _ratings(answers: Sequence[Answer], lines: _Lines, dropped: Counter[str]) -> None:
    rated = [(answer, answer.rating) for answer in answers]
    certain = [(answer, rating) for answer, rating in rated if rating is not None]
    for answer, rating in certain:
        if BAD < rating < GOOD:
            split = min(answer.ratings, default=0.5) < 0.5 < max(answer.ratings, default=0.5)
            dropped["people disagree" if split else "neither good nor bad"] += 1
        else:
            lines.add_rated(answer.request, answer.text, rating >= GOOD, answer.evidence, answer.source)
    ranked = sorted(certain, key=lambda each: -each[1])
    pairs = [
        (high - low, better, worse) for (better, high), (worse, low) in combinations(ranked, 2) if high - low >= APART
    ]
    for _, better, worse in sorted(pairs, key=lambda pair: -pair[0])[:PER_PROMPT]:
        source: Source = "person" if worse.source == better.source == "person" else "ai"
        lines.add_pair(better.request, better.text, worse.text, [*better.evidence, *worse.evidence], source)


def _better(store: Store, since: datetime | None, lines: _Lines, dropped: Counter[str]) -> None:
    """Direct comparisons: three in four of those who compared two answers must agree."""
    requests: dict[str, Request | None] = {}
    choices: defaultdict[tuple[str, ...], dict[str, tuple[Request, Request, str]]] = defaultdict(dict)
    for record in store.read(Feedback, since=since):
        if record.kind != "better" or record.source == "ai":
            continue
        worse, better = (_request(store, name, requests) for name in (record.request, str(record.value)))
        if worse is None or better is None or prompt_of(worse) != prompt_of(better):
            dropped["compares with a deleted request, or one of another prompt"] += 1
        elif not better.answer.strip() or squeezed(better.answer) == squeezed(worse.answer):
            dropped["prefers an empty answer, or one of two that are equal"] += 1
        else:
            texts = sorted((squeezed(better.answer), squeezed(worse.answer)))
            choices[(prompt_of(better), *texts)][record.rater or record.id] = (better, worse, record.id)
    for by_rater in choices.values():
        votes = Counter(squeezed(better.answer) for better, _, _ in by_rater.values())
        winner, most = votes.most_common(1)[0]
        if most < GOOD * len(by_rater):
            dropped["people disagree"] += len(by_rater)
            continue
        better, worse, _ = next(each for each in by_rater.values() if squeezed(each[0].answer) == winner)
        if worse.answer.strip():
            records = [record for _, _, record in by_rater.values()]
            lines.add_pair(better, better.answer, worse.answer, records, "person")


def _comments(
    prompts: Mapping[str, Mapping[str, Answer]], lines: _Lines, dropped: Counter[str], rewriter: Rewrites | None
) -> None:
    wanted: list[tuple[Answer, Comment]] = []
    for answers in prompts.values():
        good = [answer.text for answer in answers.values() if (answer.by_people or 0.0) >= GOOD]
        corrected = [correction[0] for answer in answers.values() if (correction := answer.correction()) is not None]
        for answer in answers.values():
            count = len(answer.comments)
            if not count:
                continue
            if (answer.by_people or 0.0) >= GOOD:
                dropped["a comment on an answer that is good"] += count
            elif answer.correction() is not None:
                dropped["a comment on an answer that was corrected"] += count
            elif rewriter is None:
                dropped["a comment, and no teacher to rewrite the answer"] += count
            else:
                texts = tuple(text for text, _ in answer.comments)
                wanted.append((answer, Comment(answer.request, texts, tuple(dict.fromkeys((*corrected, *good))))))
    rewritten = rewriter.rewrite([comment for _, comment in wanted]) if rewriter is not None and wanted else ()
    for (answer, _), (text, why) in zip(wanted, rewritten, strict=True):
        if text is None:
            dropped[f"a comment whose rewrite was not used: {why}"] += len(answer.comments)
        else:  # a model wrote it and a model compared it
            lines.add_pair(answer.request, text, answer.text, [record for _, record in answer.comments], "ai")


def _request(store: Store, name: str, requests: dict[str, Request | None]) -> Request | None:
    if name not in requests:
        requests[name] = next(iter(store.read(Request, id=name)), None)
    return requests[name]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
