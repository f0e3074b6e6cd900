"""Learning from feedback alone: after SFT on a few gold rows, how much do questions without references add?

    python tests/benchmarks/preferences.py --cuad ../shared/data/cuad --out runs/preferences
    python tests/benchmarks/preferences.py --cuad ../shared/data/cuad --out runs/preferences --sizes 32 128 512 \
        --seeds 0 1 2 --methods sft dpo orpo kto grpo

CUAD's sixteen most frequent categories, split by contract. The student is tuned on 64 gold rows; then it answers
further questions several times, and each answer gets a thumb up or down: the judge's verdict by the reference, wrong on
purpose in 10 % of the cases. From these thumbs it learns: sft (on accepted answers, the control), dpo, orpo and kto.
grpo asks for the thumbs of further answers while it trains, so it gets more feedback than the others. Every method
searches its learning rate and beta alike, by the dev questions, which have references.

Calls and trainings are kept in `--out`: the same command goes on where it was stopped, and more sizes, seeds or methods
add to what is there. `results.jsonl` has a line for each training, with the scores of every held-out question;
`--report` prints the table again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import dspy

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import ArmError
from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.protocols import Judge, Metric
from synth_dspy.core.resources import Resources
from synth_dspy.core.workspace import find_workspace, import_from
from synth_dspy.evaluation.metrics import token_f1
from synth_dspy.evaluation.stats import compare, estimate
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.defaults import complete, judge_of
from synth_dspy.pipeline.resources import open_embedder, open_retriever, open_role
from synth_dspy.training.optimizer import Method
from synth_dspy.training.provider import LocalProvider
from synth_dspy.training.recipes import LoraDpo, LoraGrpo, LoraKto, LoraOrpo, LoraSft
from synth_dspy.training.recipes.preferences import AfterSft
from synth_dspy.training.rows import ACCEPT, Rows, sft_rows
from synth_dspy.training.traces import Trace, prompts
from synth_dspy.training.trials import answer_all

RESULTS = "results.jsonl"
GOLD = "gold"
"""The method of the line for the model that the others start from."""
CONTROL = "sft"


@dataclass(frozen=True)
class AcceptedSft(AfterSft):
    """SFT on the accepted answers, with the search of the preference recipes."""

    method: ClassVar[Method] = "sft"

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return sft_rows(traces)


RECIPES: dict[str, type[AfterSft]] = {
    CONTROL: AcceptedSft,
    "dpo": LoraDpo,
    "orpo": LoraOrpo,
    "kto": LoraKto,
    "grpo": LoraGrpo,
}


def thumbs(examples: Sequence[dspy.Example], judge: Judge, *, noise: float, seed: int) -> Metric:
    """Feedback of 0 or 1 on answers to questions whose references only it has.

    Args:
        examples: the questions with their references.
        judge: its verdict is the right feedback.
        noise: share of answers whose feedback is the opposite; the same answer always gets the same.
        seed: of that choice.
    """
    by_id = {str(example.id): example for example in examples}
    threshold = float(getattr(judge, "threshold", ACCEPT))

    def rate(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        good = judge(by_id[str(example.id)], prediction) >= threshold
        digest = hashlib.sha256(f"{seed}\0{example.id}\0{prediction.answer}".encode()).digest()
        return float(good != (int.from_bytes(digest[:8], "big") < noise * 2**64))

    return rate


@dataclass
class Study:
    """What all trainings share: the models, the questions, and the folder of the results."""

    args: argparse.Namespace
    ledger: Ledger

    def __post_init__(self) -> None:
        args = self.args
        toml = tomllib.loads((Path(__file__).parent / "cuad16.toml").read_text(encoding="utf-8"))
        contract_qa = import_from(find_workspace(Path(__file__).parent), "programs.contract_qa").contract_qa
        task = complete(contract_qa(cuad=args.cuad, categories=toml["task"]["categories"]))
        config = CompileConfig(concurrency=16, words=toml["words"])
        config = config.model_copy(update={"models": config.models.model_copy(update={"student": args.model})})
        knowledge = task.source.read(args.limit)
        splits = datasets.split(knowledge, 0)
        student = open_role(config, "student", self.ledger, LocalProvider(args.out / "adapters"))
        embedder = open_embedder(config)
        self.resources = Resources(
            student=student,
            teacher=student,
            judge_lm=None,
            judge_model="reference",
            embedder=embedder,
            retriever=open_retriever(args.out / "index", task, knowledge.documents, embedder, config.retrieval),
            executor=Executor(config.concurrency),
            seeds=(),
            held_out=(),
            words=toml["words"],
            evidence=task.evidence,
            noun=task.noun,
            abstain=task.abstain,
        )
        self.judge = judge_of(task, self.resources)
        self.resources = replace(self.resources, judge=self.judge)
        self.train = splits["train"].labelled
        self.dev = datasets.spread(splits["dev"].labelled, args.validation, 0)
        self.test = datasets.spread(splits["test"].labelled, args.held_out, 0)
        self.program = task.program(self.resources)
        self.program.set_lm(student)
        print(f"{len(self.train)} questions to learn from, {len(self.dev)} dev, {len(self.test)} held out", flush=True)

    def run(self) -> None:
        """Train and score what is not there yet."""
        args = self.args
        for seed in args.seeds:
            resources = replace(self.resources, seed=seed)
            gold = LoraSft(resources, token_f1)
            ordered = gold.ordered(self.train)
            supported = gold.with_evidence(self.program, ordered)[: args.gold]
            learned = {example.id for example in supported}
            pool = [example for example in ordered if example.id not in learned]
            random.Random(seed).shuffle(pool)
            started = gold.compile(self.program, trainset=supported, valset=self.dev)
            self.keep(seed, 0, GOLD, started, rows=len(supported))
            rate = thumbs(pool, self.judge, noise=args.noise, seed=seed)
            for size in args.sizes:
                asked = [
                    dspy.Example(
                        id=example.id, question=example.question, document=example.document, unanswered=True
                    ).with_inputs("question", "document")
                    for example in pool[:size]
                ]
                for method in args.methods:
                    if not self.has(seed, size, method):
                        self.learn(seed, size, method, started, replace(resources, rater=rate, questions=asked))

    def learn(self, seed: int, size: int, method: str, started: dspy.Module, resources: Resources) -> None:
        """Train one method on the feedback, and score it."""
        own = {"rates": self.args.rates, "betas": self.args.betas, "samples": self.args.samples}
        kind = RECIPES[method]
        recipe = kind(replace(resources, training={kind.method: own}), token_f1)
        began = time.perf_counter()
        try:
            rows = recipe.rows(recipe.traced(started, resources.questions)).rows
            recipe.check(rows)
            options = {"seed": seed, **recipe.options(len(rows))}
            options["prompts"] = prompts(started, self.dev, resources.executor)
            if options.get("patience"):
                options["dev"] = recipe.rows(recipe.traced(started, self.dev)).rows
            tuned = recipe.fit(started.deepcopy(), rows, options, self.dev)
        except ArmError as error:
            print(f"seed {seed}, {size} questions, {method}: {error}", flush=True)
            return
        self.keep(
            seed, size, method, tuned, rows=len(rows), outcome=recipe.description, seconds=time.perf_counter() - began
        )

    def keep(self, seed: int, size: int, method: str, program: dspy.Module, **facts: Any) -> None:
        """Answer the held-out questions and add a line to the results."""
        if self.has(seed, size, method):
            return
        executor = self.resources.executor
        columns = {
            name: answer_all(program, self.test, executor, score).scores
            for name, score in (("f1", token_f1), ("judged", self.judge))
        }
        line = {"seed": seed, "size": size, "method": method, **facts}
        line["model"], line["groups"] = self.args.model, [str(example.group) for example in self.test]
        with (self.args.out / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | columns) + "\n")
        mean = {name: round(sum(values) / len(values), 3) for name, values in columns.items()}
        print(f"seed {seed}, {size} questions, {method}: {mean} {facts}", flush=True)

    def has(self, seed: int, size: int, method: str) -> bool:
        """Whether there is a result."""
        return (seed, size, method) in {(row["seed"], row["size"], row["method"]) for row in read(self.args.out)}


def read(folder: Path) -> list[dict[str, Any]]:
    """The results so far."""
    path = folder / RESULTS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def report(results: Sequence[Mapping[str, Any]]) -> str:
    """The table: means over seeds and questions, and differences to the control; contracts are the units."""
    lines = ["questions  method  seeds  rows  token F1 (95 %)        judged  against sft on accepted (95 %)"]
    for size, method in sorted({(row["size"], row["method"]) for row in results}, key=_order):
        rows = [row for row in results if (row["size"], row["method"]) == (size, method)]
        seeds = {row["seed"] for row in rows}
        control = {row["seed"]: row for row in results if (row["size"], row["method"]) == (size, CONTROL)}
        groups = [group for row in rows for group in row["groups"]]
        f1 = estimate([score for row in rows for score in row["f1"]], groups)
        judged = estimate([score for row in rows for score in row["judged"]], groups)
        against = ""
        if method not in (CONTROL, GOLD) and seeds <= control.keys():
            pairs = [(row, control[row["seed"]]) for row in rows]
            difference = compare(
                [score for row, _ in pairs for score in row["f1"]],
                [score for _, row in pairs for score in row["f1"]],
                groups,
            ).difference
            against = f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
        number = sum(row["rows"] for row in rows) / len(rows)
        lines.append(
            f"{size:9d}  {method:<6}  {len(seeds):5d}  {number:4.0f}  {f1.mean:.3f} ({f1.low:.3f} to {f1.high:.3f})  "
            f"{judged.mean:6.3f}  {against}".rstrip()
        )
    return "\n".join(lines)


def _order(cell: tuple[int, str]) -> tuple[int, int]:
    return cell[0], [GOLD, *RECIPES].index(cell[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuad", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="embedded/smollm2-135m-instruct")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=list(RECIPES), default=["sft", "dpo"])
    parser.add_argument("--gold", type=int, default=64, help="rows of the SFT that all start from")
    parser.add_argument("--noise", type=float, default=0.1, help="share of wrong thumbs")
    parser.add_argument("--samples", type=int, default=4, help="sampled answers to each question")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 0.3], help="learning rates tried, as multiples")
    parser.add_argument("--betas", type=float, nargs="+", default=[1.0], help="values of beta tried, as multiples")
    parser.add_argument("--limit", type=int, default=100, help="contracts")
    parser.add_argument("--validation", type=int, default=32, help="dev questions")
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument("--report", action="store_true", help="only print the table of what is there")
    args = parser.parse_args()
    logging.getLogger("dspy").setLevel(logging.ERROR)  # that answers were cut is no news here
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.report:
        with Ledger(args.out / "ledger.sqlite") as ledger:
            study = Study(args, ledger)
            with dspy.context(lm=study.resources.student):
                study.run()
    print(report(read(args.out)))


if __name__ == "__main__":
    main()
