"""What a written request must pass: its calls are valid and run, its words say them and nothing else.

Each filter looks at a candidate whose item is a unit of `_function_synthesis.py`: `item.meta` holds the calls that the
request was written from, the values it must say, and what was left out.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from programs._function_values import is_said, leaves, spellings
from synth_dspy.executor import Executor
from synth_dspy.functions.json_schema import json_types
from synth_dspy.functions.sandbox import Outcome
from synth_dspy.functions.schema import Call, Function, validate
from synth_dspy.functions.shown import first_sentence
from synth_dspy.functions.syntax import parse
from synth_dspy.synthesis.dedup import Embed
from synth_dspy.synthesis.filters import KEPT
from synth_dspy.synthesis.text import content, numbers, tokens
from synth_dspy.task import Candidate, Verdict

_CAPITAL = re.compile(r"(?<![.?!:]\s)(?<=\s)[\"'“‘(]?([A-Z][\w-]*)")
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]|(?<!\w)['‘]([^'’]+)['’](?!\w)")
_PLAIN_KINDS = frozenset({"integer", "number", "boolean"})
_INTO = r"\b(?:to|into)\s+(?:the\s+)?"
_NOT = re.compile(r"\b(?:not|no|without|never)\b|n['’]t\b", re.I)
_REFUSAL = re.compile(
    r"\b(?:I['’]m sorry|I am sorry|unable to|as an AI|I can(?:not|['’]t)|glad to help|happy to)\b", re.I
)
_TARGET = re.compile(r"^(?:to_|target|destination|end|wanted)|_to$", re.I)
_ORIGIN = re.compile(r"^(?:from_|source|origin|start)|_from$", re.I)


class Schema:
    """The calls fit the schemas of the functions that are offered."""

    name = "schema"

    def __init__(self, known: Mapping[str, Function]) -> None:
        self.known = known

    def __call__(self, candidate: Candidate) -> Verdict:
        offered = [self.known[name] for name in candidate.fields["available"]]
        for call in parse(str(candidate.fields["answer"]), "json"):
            if problems := validate(call, offered):
                return _no(f"not valid: {problems[0]}")
        return KEPT


class WellFormed:
    """One or a few sentences of sensible length, in words rather than code, that repeat nothing."""

    name = "well-formed"

    def __init__(self, shortest: int = 3, longest: int = 45) -> None:
        self.shortest = shortest
        self.longest = longest

    def __call__(self, candidate: Candidate) -> Verdict:
        text = str(candidate.fields["question"]).strip()
        words = [word.lower() for word in text.split()]
        few = 1 if candidate.fields.get("conversation") else self.shortest
        if not few <= len(words) <= self.longest:
            return _no("too short or too long")
        if _REFUSAL.search(text):
            return _no("not a request")
        if re.search(r"[_={}\[\]<>|]|\w\(|\(.*:|:\s.*:\s", text) or text[-1] not in ".?!":
            return _no("not a sentence")
        runs = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
        if max(runs.values(), default=0) > 1 or any(a == b for a, b in pairwise(words)):
            return _no("repeats itself")
        return KEPT


class Said:
    """Every value of the calls is said in the request, in figures or words; an option that is switched is named."""

    name = "arguments said"

    def __call__(self, candidate: Candidate) -> Verdict:
        text = str(candidate.fields["question"])
        for name, value, note in candidate.item.meta["must"]:
            if isinstance(value, bool):
                if not names_option(name, note, text) or (value is False and not _NOT.search(text)):
                    return _no(f"an option is not said: {name}")
            elif not is_said(value, text):
                return _no(f"a value is not said: {name}")
        return KEPT


class NothingElse:
    """The request says no number, no other choice of an enum and no option that the calls do not hold.

    Of an argument that was left out it says no value either: none that is known, and where it is a text no name and
    nothing in quotation marks.
    """

    name = "nothing made up"

    def __init__(self, known: Mapping[str, Function]) -> None:
        self.known = known

    def __call__(self, candidate: Candidate) -> Verdict:
        meta, text = candidate.item.meta, str(candidate.fields["question"])
        every = [each for call in meta["about"] for each in (call, *call.inner())]
        values = [value for call in meta["about"] for _, value in leaves(call.arguments)]
        ways = [way for value in values if not isinstance(value, bool) for way in spellings(value)]
        if made_up := numbers(text) - {number for way in ways for number in numbers(way)} - {"1"}:
            return _no(f"a number from nowhere: {', '.join(sorted(made_up))}")
        said = {token for way in ways for token in tokens(way)}
        for call in every:
            properties = self.known[call.name].properties
            # "38 Celsius in Fahrenheit": of a function that only takes what is wanted, the other may be said too.
            converts = not any(map(_ORIGIN.search, properties))
            for name, schema in properties.items():
                also = converts and _TARGET.search(name) and name != meta.get("left_out", ("",))[0]
                for option in () if also else schema.get("enum") or ():
                    if option not in values and is_said(option, text) and not set(tokens(str(option))) <= said:
                        return _no(f"another value is said: {option}")
                if schema.get("type") == "boolean" and name not in call.arguments and _switches(call, name, text, said):
                    return _no(f"an option is said that is not called: {name}")
        if "left_out" in meta and (found := self._left_out(meta, text, said)):
            return _no(f"what was left out may be said: {found}")
        return KEPT

    def _left_out(self, meta: Mapping[str, Any], text: str, said: set[str]) -> str:
        """What in a request may be the argument that was left out; "" where nothing is."""
        name, values = meta["left_out"]
        function = self.known[meta["about"][0].name]
        schema = function.properties[name]
        for value in values:
            if is_said(value, text) and not set(tokens(value)) <= said:
                return str(value)
        types = json_types(schema, function.parameters.get("$defs") or {})
        if types and types <= _PLAIN_KINDS:
            return ""
        others = [f"{key} {each.get('description', '')}" for key, each in function.properties.items() if key != name]
        own = " ".join([meta["wanted"], function.name, function.description, name, *others]).replace("_", " ")
        allowed = said | set(tokens(own)) | {"i", "i'm", "i'd", "i'll", "i've", "ok", "m", "d", "ll", "ve"}
        quoted = [first or second for first, second in _QUOTED.findall(text)]
        return next((each for each in [*_CAPITAL.findall(text), *quoted] if not set(tokens(each)) <= allowed), "")


class Roles:
    """Values of one kind are not swapped: "5 miles to km" is no request to convert from kilometres.

    Only the plainest signs are read: what comes directly after a number is what is given; what comes after "to" or
    "into" is what is wanted, and so is what is asked for after something else was stated ("It is nine in Oslo, so what
    time is it in Kyoto?").
    """

    name = "roles"

    def __call__(self, candidate: Candidate) -> Verdict:
        text = str(candidate.fields["question"])
        if len(candidate.item.meta["about"]) > 1:
            return KEPT  # what one call is given, another may be wanted in
        stated, asked = _parts(text)
        for call in candidate.item.meta["about"]:
            texts = {name: value for name, value in call.arguments.items() if isinstance(value, str)}
            targets = [value for name, value in texts.items() if _TARGET.search(name)]
            for name, value in texts.items():
                words = "|".join(re.escape(each) for each in spellings(value))
                if _TARGET.search(name) and re.search(rf"\d\s*(?:{words})\b", text, re.I):
                    return _no(f"swapped: {name}")
                if _ORIGIN.search(name):
                    late = is_said(value, asked) and not is_said(value, stated)
                    if re.search(rf"{_INTO}(?:{words})\b", text, re.I) or (
                        late and any(is_said(target, stated) and not is_said(target, asked) for target in targets)
                    ):
                        return _no(f"swapped: {name}")
        return KEPT


def _parts(text: str) -> tuple[str, str]:
    """What is stated before the last question word, and what is asked from there on."""
    found = list(re.finditer(r"\b(?:what|how|which)\b", text, re.I))
    at = found[-1].start() if found else 0
    return text[:at], text[at:]


class Executes:
    """Every call returns when it is made again in the sandbox, with the result that was recorded.

    Functions that change something are not run, and judged by their schema alone.

    Args:
        run: calls in the sandbox.
        known: functions by name.
    """

    name = "execution"

    def __init__(self, run: Callable[[Sequence[Call]], Sequence[Outcome]], known: Mapping[str, Function]) -> None:
        self.run = run
        self.known = known

    def __call__(self, candidate: Candidate) -> Verdict:
        calls = parse(str(candidate.fields["answer"]), "json")
        if any(not is_executable(call, self.known) for call in calls):
            return Verdict(True, 0.5, "")
        recorded = candidate.fields.get("results") or []
        for outcome, before in zip(self.run(calls), recorded, strict=True):
            if not outcome.ok:
                return _no(f"{outcome.error_type or 'stopped'}: {outcome.error or outcome.stopped}")
            if outcome.as_json() != before:
                return _no("another result when called again")
        return KEPT


class LeadsToFunction:
    """Of all functions, those the request is written from are among the nearest to it in meaning.

    Where nothing is to be called because no function fits, those offered must be further away than the one meant.

    Args:
        embed: texts to unit vectors.
        known: functions by name.
        nearest: how many functions may be as near.
        least: least cosine similarity to the one meant.
    """

    name = "leads to its function"

    def __init__(self, embed: Embed, known: Mapping[str, Function], nearest: int = 3, least: float = 0.2) -> None:
        self.embed = embed
        self.nearest = nearest
        self.least = least
        self.known = known
        self._vectors: NDArray[np.float32] | None = None
        self._lock = threading.Lock()

    def __call__(self, candidate: Candidate) -> Verdict:
        if candidate.fields.get("conversation"):
            return KEPT  # what a follow-up is about was said before
        with self._lock:
            if self._vectors is None:  # of a large interface that takes a while
                self._vectors = self.embed([what_it_does(function) for function in self.known.values()])
        near = self._vectors @ self.embed([str(candidate.fields["question"])])[0]
        scores = dict(zip(self.known, map(float, near), strict=True))
        meant = [each.name for call in candidate.item.meta["about"] for each in (call, *call.inner())]
        offered = candidate.fields["available"]
        if not set(meant) & set(offered):
            rival = max(offered, key=lambda name: scores[name])
            keep = scores[rival] < scores[meant[0]]
            return Verdict(keep, 1.0 - max(0.0, scores[rival]), "" if keep else f"may be asked of: {rival}")
        ranked = sorted(scores, key=lambda name: -scores[name])[: self.nearest + len(set(meant)) - 1]
        keep = set(meant) <= set(ranked) and scores[meant[0]] >= self.least
        return Verdict(keep, max(0.0, scores[meant[0]]), "" if keep else f"leads to another function: {ranked[0]}")


class Reply:
    """The answer in words says the result, where there is one to be said in a few words."""

    name = "answer in words"

    def __call__(self, candidate: Candidate) -> Verdict:
        reply = candidate.fields.get("reply")
        if reply is None:
            return KEPT
        missing = [
            value for value in results_of(candidate.fields.get("results") or []) if not says_result(value, reply)
        ]
        return _no(f"does not say the result: {missing[0]}") if missing else KEPT


class ReverseQueries:
    """Asked for requests that lead to the same calls and answer, the teacher must ask for the same thing on average.

    Args:
        ask: a candidate to further requests.
        embed: texts to unit vectors.
        threshold: least mean cosine similarity of the requests to the candidate's own.
        quantile: instead of a threshold: reject this share of a batch, those with the lowest means. It takes effect
            where the batch is announced with `prepare`.
        executor: asks about many of a batch at once.
    """

    name = "reverse query"

    def __init__(
        self,
        ask: Callable[[Candidate], Sequence[str]],
        embed: Embed,
        threshold: float = 0.5,
        quantile: float | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.executor = executor or Executor(1)
        self.ask = ask
        self.embed = embed
        self.threshold = threshold
        self.quantile = quantile
        self._scores: dict[str, float] = {}

    def prepare(self, candidates: Sequence[Candidate]) -> None:
        """Set the threshold at the quantile of a batch's scores: of those that are judged, and could be asked about."""
        if self.quantile is None:
            return
        judged = [candidate for candidate in candidates if not candidate.fields.get("conversation")]
        outcomes = self.executor.map(self.score, judged)
        scores = [outcome.unwrap() for outcome in outcomes if outcome.error is None]
        if scores:
            self.threshold = float(np.quantile(np.asarray(scores), self.quantile))

    def score(self, candidate: Candidate) -> float:
        """Mean cosine similarity of the teacher's further requests to the candidate's own, asked for once."""
        if candidate.id not in self._scores:
            again = [request for request in self.ask(candidate) if request]
            vectors = self.embed([str(candidate.fields["question"]), *again])
            self._scores[candidate.id] = float(np.mean(vectors[1:] @ vectors[0])) if again else 0.0
        return self._scores[candidate.id]

    def __call__(self, candidate: Candidate) -> Verdict:
        if candidate.fields.get("conversation"):
            return KEPT  # "And in yen?" resembles no whole request
        score = self.score(candidate)
        keep = score >= self.threshold
        return Verdict(keep, max(0.0, score), "" if keep else "asks something else")


class Balanced:
    """No function in a category has more than twice its share of what is kept. Depends on the order.

    Args:
        least: rows of one function in one category that are always allowed.
    """

    name = "balance"
    ordered = True

    def __init__(self, least: int = 3) -> None:
        self.least = self.most = least
        self._count: Counter[str] = Counter()

    def prepare(self, candidates: Sequence[Candidate]) -> None:
        """Set what is allowed: twice the mean number of rows that a function has in a category."""
        kinds = len({self._key(candidate) for candidate in candidates})
        self.most = max(self.least, math.ceil(2 * len(candidates) / max(1, kinds)))
        self._count.clear()

    @staticmethod
    def _key(candidate: Candidate) -> str:
        return f"{candidate.item.meta['about'][0].name}, {candidate.category}"

    def __call__(self, candidate: Candidate) -> Verdict:
        key = self._key(candidate)
        if self._count[key] >= self.most:
            return _no(f"enough of these: {key}")
        self._count[key] += 1
        return KEPT


def names_option(name: str, note: str, text: str) -> bool:
    """Whether a text speaks of an option: with a word of its name or of its description."""
    words = set(content(name.replace("_", " "))) | set(content(first_sentence(note)))
    return bool(words & set(tokens(text)))


def what_it_does(function: Function) -> str:
    """A function as a sentence, for comparing it with a request."""
    return f"{function.name.replace('_', ' ').replace('.', ' ')}: {first_sentence(function.description)}"


def is_executable(call: Call, known: Mapping[str, Function]) -> bool:
    """Whether a call and all inside it can be made without changing anything."""
    return all(known[each.name].read_only and known[each.name].target for each in (call, *call.inner()))


def results_of(outcomes: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What a reply in words must say of results: numbers and short texts, also those in an object."""
    found: list[Any] = []
    for outcome in outcomes:
        result = outcome.get("result")
        parts = result.values() if isinstance(result, Mapping) else [result]
        found += [part for part in parts if isinstance(part, int | float) or (isinstance(part, str) and len(part) < 60)]
    return found[:4]


def says_result(value: Any, reply: str) -> bool:
    """Whether a reply says a result, rounded or not."""
    if isinstance(value, bool):
        return True
    if isinstance(value, float):
        return any(is_said(rounded, reply) for rounded in (value, round(value, 2), round(value, 1), round(value)))
    return is_said(value, reply)


def _switches(call: Call, option: str, text: str, said: set[str]) -> bool:
    """Whether a text names an option in words that are neither a value's nor the function's own."""
    words = set(content(option.replace("_", " "))) - set(content(call.name.replace("_", " ")))
    return bool(words & set(tokens(text)) - said)


def _no(why: str) -> Verdict:
    return Verdict(False, 0.0, why)
