"""Calling functions: synthesis, constrained decoding, BFCL before and after tuning, and 50 or 500 functions.

python tests/benchmarks/calling.py synthesis [runs/function_calling/<id>] [--number 200] [--teacher openai/...]
python tests/benchmarks/calling.py constrained --bfcl ../shared/data/bfcl [--number 500]
python tests/benchmarks/calling.py bfcl runs/function_calling/<id> --bfcl ../shared/data/bfcl [--number 100]
python tests/benchmarks/calling.py many runs/function_calling/<id> --bfcl ../shared/data/bfcl [--number 20]

`synthesis`: the yield of each filter over a run's candidates; every kept one is called again in a process of its own,
and 20 drawn at random are written to a text for people to judge. Without a run it makes one of that many candidates
first (killed, it goes on with `python -m synth_dspy.compile function_calling --resume <id>`).

`constrained`: requests of BFCL's simple, multiple and parallel categories to the untuned student, with and without the
grammar; a reply that is no list of calls, a name that was not offered and an argument that the function does not have
are counted. Both see the same two demonstrations, and are offered the functions of four requests. Replies are kept in a
ledger: killed, it goes on.

`bfcl`: a run's first and tuned programs on the simple and multiple categories, with intervals. `many`: the
sample's questions with 50 and 500 functions to choose from, found by retrieval or all of them shown.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import dspy
from calling_synthesis import synthesis

from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.splits import hash_order
from synth_dspy.core.workspace import find_workspace, import_from
from synth_dspy.domains.functions.bfcl import BfclItem, read_bfcl
from synth_dspy.domains.functions.examples import resolve
from synth_dspy.domains.functions.prompts import show_functions, show_request
from synth_dspy.domains.functions.schema import CallSyntaxError, Function, calls_schema
from synth_dspy.domains.functions.syntax import parse
from synth_dspy.evaluation import stats
from synth_dspy.models import roles
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.pipeline import saved

STUDENT = "embedded/smollm2-135m-instruct"
WORKSPACE = find_workspace(Path(__file__).parent)
LEDGER = WORKSPACE / "runs" / "benchmarks" / "constrained.sqlite"
TOKENS = 64
FREE = 100
"""Unconstrained requests: each takes all its tokens."""
WORKERS = 32
"""Requests at once: the keys and values of more would not fit the server's cache, and be computed again."""
WORDS = 70
"""Of the functions of a request, at most: what is counted shows with short prompts too."""
TOGETHER = 4
"""Requests that are offered the same functions: each set costs a second, in which its grammar is compiled."""


def items_of(folder: Path, categories: Sequence[str], number: int | None = None) -> list[BfclItem]:
    """Single-turn items of some categories, in an order that does not depend on the files'."""
    found = [item for item in read_bfcl(folder) if item.category in categories]
    return sorted(found, key=lambda item: hash_order(item.id))[:number]


def constrained(folder: Path, number: int, kept_in: Path) -> None:
    """Replies with and without the grammar."""
    task = import_from(WORKSPACE, "programs.function_calling")
    categories = ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple")
    short = [item for item in items_of(folder, categories) if _words(item.functions) <= WORDS][:number]
    rows = list(_together(short))
    kept_in.parent.mkdir(parents=True, exist_ok=True)
    with Ledger(kept_in) as ledger:
        predict = dspy.Predict(task.CallFunctions)
        predict.set_lm(roles.lm_for(STUDENT, role="student", ledger=ledger, max_tokens=TOKENS))
        predict.demos = _demonstrations(task.function_calling())

        def reply(row: tuple[BfclItem, list[Function]], bound: bool) -> Counter[str]:
            item, functions = row
            config: dict[str, Any] = {"max_tokens": TOKENS}
            if bound:
                # A call there must be: the untuned student likes to write none, which proves nothing.
                schema = {**calls_schema(functions, most=1), "minItems": 1}
                config["response_format"] = {"type": "json_schema", "json_schema": {"name": "calls", "schema": schema}}
            request = show_request(item.question[0][-1]["content"], [], "json")
            with dspy.context(adapter=PlainAdapter()):
                said = predict(functions=show_functions(functions), request=request, config=config).calls
            try:
                calls = parse(said, "json", functions)
            except CallSyntaxError:
                return Counter(unreadable=1)
            known = {function.name: function for function in functions}
            names = any(call.name not in known for call in calls)
            arguments = any(
                name not in known[call.name].properties
                for call in calls
                if call.name in known
                for name in call.arguments
            )
            return Counter(calls=bool(calls), names=names, arguments=arguments)

        for bound in (True, False):
            asked = rows if bound else rows[:FREE]
            began = time.perf_counter()
            with ledger.measure() as usage:
                reply(asked[0], bound)  # then the beginning that all prompts share has been read
                outcomes = Executor(WORKERS).map(lambda row, bound=bound: reply(row, bound), asked)
            found: Counter[str] = sum((o.unwrap() for o in outcomes if o.error is None), Counter())
            failed = sum(o.error is not None for o in outcomes)
            print(
                f"{'constrained' if bound else 'free':<12} n {len(asked)}: replies with calls {found['calls']}, "
                f"unreadable {found['unreadable']}, with a made-up name {found['names']}, with a made-up argument "
                f"{found['arguments']}, failed calls {failed}; {time.perf_counter() - began:.0f} s, "
                f"{usage.from_ledger} replies from before, {usage.input_tokens} and {usage.output_tokens} tokens",
                flush=True,
            )


def _together(items: Sequence[BfclItem]) -> Iterator[tuple[BfclItem, list[Function]]]:
    """Items with the functions that they and three others are offered; no two of these have one name.

    Those of a group come one round after the other: the beginning of their prompts has been read by then.
    """
    groups: list[tuple[list[BfclItem], list[Function]]] = []
    for item in items:
        names = {function.name for function in item.functions}
        fitting = (g for g in groups if len(g[0]) < TOGETHER and not names & {function.name for function in g[1]})
        group = next(fitting, None)
        if group is None:
            groups.append(group := ([], []))
        group[0].append(item)
        group[1].extend(item.functions)
    for start in range(0, len(groups), WORKERS):
        for place in range(TOGETHER):
            for members, functions in groups[start : start + WORKERS]:
                yield from ((member, functions) for member in members[place : place + 1])


def _demonstrations(task: Any) -> list[dspy.Example]:
    """Two of the sample's examples: without any, the student writes no calls unless it must."""
    examples = [example for example in task.source.read().labelled if example.category == "single"]
    return sorted(examples, key=lambda example: hash_order(example.id))[:2]


def _words(functions: Sequence[Function]) -> int:
    return len(show_functions(functions).split())


def bfcl(run: Path, folder: Path, number: int) -> None:
    """A run's programs on BFCL."""
    calls = import_module("synth_dspy.domains.functions.metrics")
    items = [item for kind in ("simple_python", "multiple") for item in items_of(folder, (kind,), number // 2)]
    executor = Executor(16)
    right: dict[str, list[float]] = {}
    for arm in [a for a in ("zero_shot", "bootstrap", "sft", "dpo", "orpo") if (run / "programs" / a).is_dir()]:
        program = saved.load(run / "programs" / arm, workspace=WORKSPACE)

        def score(item: BfclItem, program: dspy.Module = program) -> Any:
            answer = program(question=item.question[0][-1]["content"], available=list(item.functions)).answer
            try:
                said = parse(answer, "json", item.functions)
            except CallSyntaxError:
                return None
            return calls.score_calls(said, item.ground_truth[0], item.functions)

        outcomes = executor.map(score, items)
        scores = [None if o.error is not None else o.unwrap() for o in outcomes]
        right[arm] = [float(bool(s and s.ok)) for s in scores]
        found = stats.estimate(right[arm])
        why = Counter("unreadable or failed" if s is None else s.why or "right" for s in scores)
        print(f"{arm:<10} {found.mean:.3f} ({found.low:.3f} - {found.high:.3f}), n {found.n}: {dict(why)}", flush=True)
        if arm != "zero_shot":
            c = stats.compare(right[arm], right["zero_shot"])
            print(f"{'':<10} against zero_shot {c.difference.mean:+.3f} ({c.difference.low:+.3f} - "
                  f"{c.difference.high:+.3f}), p {c.p:.4f}", flush=True)  # fmt: skip


def many(run: Path, folder: Path, number: int) -> None:
    """Many functions to choose from."""
    calls = import_module("synth_dspy.domains.functions.metrics")
    finder = import_module("synth_dspy.domains.functions.program").Finder
    task = import_from(WORKSPACE, "programs.function_calling").function_calling()
    knowledge = task.source.read()
    own = task.source.own()
    examples = [e for e in knowledge.labelled if e.category == "single"]
    examples = sorted(examples, key=lambda e: hash_order(e.id))[:number]
    strangers: dict[str, Function] = {}
    for item in read_bfcl(folder):
        for function in item.functions:
            if function.name not in own:
                strangers.setdefault(function.name, function)
    embedder = roles.embedder_for("embedded/all-minilm-l6-v2")
    arms = [a for a in ("zero_shot", "sft") if (run / "programs" / a).is_dir()]
    for size in (50, 500):
        others = sorted(strangers, key=hash_order)[: size - len(own)]
        pool = {**own, **{name: strangers[name] for name in others}}
        for how, most in (("retrieved", 6), ("all shown", size)):
            for arm in arms:
                program = saved.load(run / "programs" / arm, workspace=WORKSPACE)
                program.finder = finder(pool, None, embedder, most)
                program.finder(examples[0].question, None)  # the descriptions are embedded once
                seconds, ok, shown, failed = [], 0, 0, Counter()
                for example in examples:
                    began = time.perf_counter()
                    try:
                        made = program(question=example.question)
                    except Exception as error:
                        failed[type(error).__name__] += 1
                        if sum(failed.values()) == 3 and not seconds:
                            break  # what three prompts do not fit, none will
                        continue
                    seconds.append(time.perf_counter() - began)
                    wanted = {call["name"] for call in _calls(example)}
                    shown += wanted <= {function.name for function in made.functions}
                    try:
                        said = parse(made.answer, "json", made.functions)
                    except CallSyntaxError:
                        continue
                    functions = resolve(sorted(pool), pool)
                    ok += calls.score_calls(said, example.expected["calls"], functions).ok
                n = len(seconds) + sum(failed.values())
                p50 = f"{statistics.median(seconds):.2f} s" if seconds else "-"
                print(
                    f"{size} functions, {how:<9} {arm:<9} n {n}: right {ok}, function among those shown {shown}, "
                    f"p50 {p50}, failed {dict(failed)}",
                    flush=True,
                )


def _calls(example: dspy.Example) -> list[dict[str, Any]]:
    return [{"name": next(iter(call))} for call in example.expected["calls"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("synthesis", "constrained", "bfcl", "many"))
    parser.add_argument("run", type=Path, nargs="?", help="a finished run, runs/function_calling/<id>")
    parser.add_argument("--bfcl", type=Path, help="the benchmark's files; all but `synthesis` need them")
    parser.add_argument("--number", type=int, help="candidates, or requests")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where `constrained` keeps replies")
    parser.add_argument("--teacher", help="who writes, where `synthesis` has no run")
    parser.add_argument("--show", type=int, default=20, help="candidates that `synthesis` writes to be read")
    parser.add_argument("--seed", type=int, default=1, help="of which")
    parser.add_argument("--out", type=Path, help="where to; by default to-read.txt in the run")
    args = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)  # a reply that its budget cuts is counted here
    if args.what == "synthesis":
        synthesis(args.run, args.number or 200, args.teacher, args.show, args.seed, args.out)
    elif args.bfcl is None:
        parser.error("name the benchmark's files with --bfcl")
    elif args.what == "constrained":
        constrained(args.bfcl, args.number or 500, args.ledger)
    elif args.run is None:
        parser.error("name a finished run, runs/function_calling/<id>")
    elif args.what == "bfcl":
        bfcl(args.run, args.bfcl, args.number or 100)
    else:
        many(args.run, args.bfcl, args.number or 20)


if __name__ == "__main__":
    main()
