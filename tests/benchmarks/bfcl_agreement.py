"""Do our metrics of calls agree with BFCL's own checker? Every item, with right calls and with calls that were changed.

    python tests/benchmarks/bfcl_agreement.py ../shared/data/bfcl

Each item's calls are made from its ground truth and changed in one way at a time, by chance but reproducibly. Both
checkers then judge the same calls, and every case on which they differ is printed with both verdicts. Items without a
single right answer are judged by BFCL's rules for them: irrelevance is right without a call, relevance with any.
Conversations are judged by BFCL's multi-turn checker, which runs the calls and compares states and results; so it
takes for right what `score_calls`, which compares calls, cannot: calls that change nothing, or in another order, or
with other arguments to the same effect. Such differences are listed too, with that reason.

BFCL's package pins much that this project does not use, so it is never installed: its wheel is downloaded into a
temporary folder, the checkers' files are unpacked there (no data), and what they import but do not need (the list of
all models) is replaced by an empty stand-in.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import random
import subprocess
import sys
import tempfile
import types
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from synth_dspy.domains.functions.bfcl import OMITTED, BfclItem, read_bfcl
from synth_dspy.domains.functions.metrics import (
    MISSING,
    NAME,
    NUMBER,
    TYPE,
    UNKNOWN,
    VALUE,
    CallScore,
    score_calls,
)
from synth_dspy.domains.functions.python_calls import python_call
from synth_dspy.domains.functions.schema import Call, Function

VERSION = "2026.3.23"
CAUSE_OF = {
    "wrong_func_name": NAME,
    "missing_required": MISSING,
    "missing_optional": MISSING,
    "unexpected_param": UNKNOWN,
    "type_error": TYPE,
    "value_error": VALUE,
    "wrong_count": NUMBER,
}
REASONS = {
    "multi-turn": "other calls with the same effect",
    "type_error:nested": "here an integer passes for a number inside a list too",
    "cannot_find_match": "here calls find their partners in the best way, there each the first that it can",
}
Calls = list[dict[str, Any]]
Mutation = Callable[[Calls, BfclItem, int, random.Random], Calls | None]


# -- BFCL's checkers ---------------------------------------------------------------------------------------------------


class Reference:
    """BFCL's own verdicts."""

    def __init__(self, folder: Path) -> None:
        wheel = _download(folder)
        with zipfile.ZipFile(wheel) as archive:
            wanted = ("bfcl_eval/__init__.py", "bfcl_eval/constants/", "bfcl_eval/eval_checker/")
            archive.extractall(folder, [n for n in archive.namelist() if n.startswith(wanted) and n.endswith(".py")])
        sys.path.insert(0, str(folder))
        models = types.ModuleType("bfcl_eval.constants.model_config")
        models.MODEL_CONFIG_MAPPING = {"any": types.SimpleNamespace(underscore_to_dot=False)}  # type: ignore[attr-defined]
        sys.modules[models.__name__] = models
        checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
        self._check = checker.ast_checker
        self._python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
        self._turns = importlib.import_module("bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker")
        self._runs = 0

    def calls(self, raw: Mapping[str, Any], calls: Calls) -> tuple[bool, str]:
        """Whether calls of an item of one turn are right, and the type of error."""
        category = raw["category"]
        if category.endswith("relevance"):
            return bool(calls) != category.endswith("irrelevance"), ""
        output = [{call["name"]: copy.deepcopy(call["arguments"])} for call in calls]
        try:
            verdict = self._check(
                copy.deepcopy(raw["function"]),
                output,
                copy.deepcopy(raw["ground_truth"]),
                self._python,
                category,
                "any",
            )
        except Exception as error:
            return False, f"crash:{type(error).__name__}: {error}"
        return verdict["valid"], "" if verdict["valid"] else verdict["error_type"]

    def turns(self, raw: Mapping[str, Any], turns: Sequence[Calls]) -> tuple[bool, str]:
        """Whether the calls of a conversation are right, one step per turn."""
        self._runs += 1  # the state of a conversation is kept under the model's name
        output = [[[python_call(Call.from_json(call)) for call in calls]] if calls else [] for calls in turns]
        truth = copy.deepcopy(raw["ground_truth"])
        try:
            for check in (
                lambda: self._turns.multi_turn_checker(output, truth, raw, raw["category"], f"run{self._runs}"),
                lambda: self._turns.multi_turn_irrelevance_checker(output, truth),
            ):
                verdict = check()
                if not verdict["valid"]:
                    return False, verdict["error_type"]
        except Exception as error:
            return False, f"crash:{type(error).__name__}: {error}"
        return True, ""


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, f"bfcl-eval=={VERSION}"], check=True)
    return next(folder.glob("bfcl_eval-*.whl"))


# -- calls, right and wrong --------------------------------------------------------------------------------------------


def right(expected: Iterable[Mapping[str, Any]], rng: random.Random) -> Calls:
    """Calls that use one accepted value of every argument, optional ones by chance."""
    return [
        {"name": name, "arguments": {k: _drawn(v, rng) for k, v in accepted.items() if _given(v, rng)}}
        for each in expected
        for name, accepted in each.items()
    ]


def _given(options: Sequence[Any], rng: random.Random) -> bool:
    return OMITTED not in options or (any(each != OMITTED for each in options) and rng.random() < 0.5)


def _drawn(options: Sequence[Any], rng: random.Random) -> Any:
    value = rng.choice([each for each in options if each != OMITTED] or [OMITTED])
    return [_whole(each, rng) for each in value] if isinstance(value, list) else _whole(value, rng)


def _whole(value: Any, rng: random.Random) -> Any:
    """An object of accepted values as one object; anything else as it is (objects of conversations are literal)."""
    if isinstance(value, dict) and all(isinstance(options, list) for options in value.values()):
        return {key: _drawn(options, rng) for key, options in value.items() if _given(options, rng)}
    return copy.deepcopy(value)


def wrong_name(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    others = [each.name for each in item.functions if each.name != calls[i]["name"]]
    calls[i]["name"] = rng.choice([*others, calls[i]["name"] + "s"])
    return calls


def missing(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    if not calls[i]["arguments"]:
        return None
    del calls[i]["arguments"][rng.choice(sorted(calls[i]["arguments"]))]
    return calls


def extra(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    function = _function(item, calls[i]["name"])
    free = [name for name in (function.properties if function else ()) if name not in calls[i]["arguments"]]
    name = rng.choice(free) if free and rng.random() < 0.5 else "extra_argument"
    calls[i]["arguments"][name] = rng.choice([1, "extra", True, [1]])
    return calls


def wrong_type(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    def change(value: Any) -> Any:
        options = {
            str: [7, [value], {"value": value}, True],
            bool: [str(value), int(value) if isinstance(value, bool) else 0],
            int: [str(value), float(value) + 0.5 if isinstance(value, int) else 0, [value]],
            float: [str(value), [value]],
            list: [json.dumps(value), {"items": value}],
            dict: [json.dumps(value), [value]],
        }
        return rng.choice(options.get(type(value), ["none"]))

    return _changed(calls, i, rng, change)


def wrong_value(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    def change(value: Any) -> Any:
        if isinstance(value, bool):
            return not value
        if isinstance(value, (int, float)):
            return value + rng.choice([1, -1, 10])
        if isinstance(value, str):
            return rng.choice([value + "x", "something else", value[: len(value) // 2]])
        if isinstance(value, list):
            return rng.choice([value[1:], value + value[:1] or ["x"], value[::-1]])
        return {**value, "other": 1} if isinstance(value, dict) else "x"

    return _changed(calls, i, rng, change)


def respelt(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    """What should change nothing: capitals, blanks and punctuation of strings, whole numbers as integers."""

    def change(value: Any) -> Any:
        if isinstance(value, str):
            return rng.choice([value.upper(), value.replace(" ", "-"), f" {value}.", value.replace('"', "'")])
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return _changed(calls, i, rng, change)


def reordered(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    if len(calls) < 2:
        return None
    before = copy.deepcopy(calls)
    while calls == before and any(each != calls[0] for each in calls):
        rng.shuffle(calls)
    return calls


def one_less(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    del calls[i]
    return calls


def one_more(calls: Calls, item: BfclItem, i: int, rng: random.Random) -> Calls | None:
    return [*calls, copy.deepcopy(calls[i])]


MUTATIONS: dict[str, Mutation] = {
    "none": lambda calls, item, i, rng: calls,
    "wrong name": wrong_name,
    "missing": missing,
    "extra": extra,
    "wrong type": wrong_type,
    "wrong value": wrong_value,
    "respelt": respelt,
    "reordered": reordered,
    "one less": one_less,
    "one more": one_more,
}


def _changed(calls: Calls, i: int, rng: random.Random, change: Callable[[Any], Any]) -> Calls | None:
    """`calls` with one argument of one call changed, as a whole or, half of the time, at one of its leaves."""
    arguments = calls[i]["arguments"]
    if not arguments:
        return None
    key, holder = rng.choice(sorted(arguments)), arguments
    while isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.5:
        holder = holder[key]
        key = rng.choice(sorted(holder) if isinstance(holder, dict) else list(range(len(holder))))
    holder[key] = change(holder[key])
    return calls


def _function(item: BfclItem, name: str) -> Function | None:
    return next((each for each in item.functions if each.name == name), None)


# -- comparing ---------------------------------------------------------------------------------------------------------


def cases(item: BfclItem, seed: int) -> Iterator[tuple[str, list[Calls]]]:
    """An item's calls, turn by turn, under each mutation that applies: one call of one turn is changed."""
    for name, mutation in MUTATIONS.items():
        rng = random.Random(f"{seed}-{item.id}-{name}")
        turns = [right(expected or (), rng) for expected in item.ground_truth]
        filled = [k for k, calls in enumerate(turns) if calls]
        if not filled:  # nothing to change: no call, and one
            if name == "none":
                function = item.functions[0].name
                yield "none", turns
                yield "needless", [[{"name": function, "arguments": {}}], *turns[1:]]
            continue
        k = rng.choice(filled)
        changed = mutation(turns[k], item, rng.randrange(len(turns[k])), rng)
        if changed is not None:
            turns[k] = changed
            yield name, turns


def judged(
    item: BfclItem, raw: Mapping[str, Any], turns: list[Calls], reference: Reference
) -> tuple[CallScore, bool, str]:
    """This project's verdict, BFCL's, and BFCL's type of error."""
    if item.category.startswith("multi_turn"):
        scores = [
            score_calls(calls, expected, item.functions, strict=True)
            for calls, expected in zip(turns, item.ground_truth, strict=True)
        ]
        mine = next((score for score in scores if not score.ok), scores[0])
        return mine, *reference.turns(raw, turns)
    mine = score_calls(turns[0], item.ground_truth[0], item.functions)
    return mine, *reference.calls(raw, turns[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="BFCL's files, with ground_truth in each row")
    parser.add_argument("--seeds", type=int, default=1, help="how many changes of each kind for each item")
    settings = parser.parse_args()
    items = read_bfcl(settings.folder)
    raws = {
        row["id"]: row
        for path in settings.folder.glob("*.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    }
    agree: Counter[tuple[str, str]] = Counter()
    every: Counter[tuple[str, str]] = Counter()
    same_cause = causes = 0
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(Path(folder))
        for item in items:
            kind = "multi-turn" if item.category.startswith("multi_turn") else "single turn"
            for seed in range(settings.seeds):
                for name, turns in cases(item, seed):
                    mine, theirs, error = judged(item, raws[item.id], turns, reference)
                    every[kind, name] += 1
                    agree[kind, name] += mine.ok == theirs
                    cause = next((cause for part, cause in CAUSE_OF.items() if part in error), None)
                    if kind == "single turn" and not mine.ok and not theirs and cause:
                        causes += 1
                        same_cause += mine.why == cause
                    if mine.ok != theirs:
                        kind_of_error = kind if theirs else error.split(":", 1)[-1] if "match" in error else error
                        why = REASONS.get(kind_of_error, "not explained")
                        print(f"{item.id} ({name}): here {mine.why or 'right'} {mine.detail}; BFCL {error or 'right'}")
                        print(f"    reason   {why}")
                        print(f"    calls    {json.dumps(turns, ensure_ascii=False)[:400]}")
                        print(f"    expected {json.dumps(raws[item.id].get('ground_truth'), ensure_ascii=False)[:400]}")
    print(f"\n{'':12} {'change':12} {'cases':>6} {'agree':>6}")
    for (kind, name), n in every.items():
        print(f"{kind:12} {name:12} {n:6} {agree[kind, name]:6}")
    for kind in ("single turn", "multi-turn"):
        total, same = (sum(n for (k, _), n in counts.items() if k == kind) for counts in (every, agree))
        print(f"{kind}: {same} of {total} cases agree ({same / max(total, 1):.2%})")
    print(f"same cause named: {same_cause} of {causes} that both reject and BFCL gives a cause for")


if __name__ == "__main__":
    main()
