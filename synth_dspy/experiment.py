"""The way through the house, once: source, splits, synthesis, datasets, arms, predictions, report.

Every model call goes through the run's ledger, and everything between the calls is a function of their answers and
the seed. Resuming therefore means doing it all again: what was answered is not asked again.
"""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from synth_dspy import datasets, roles, saved, tuned
from synth_dspy.config import CompileConfig
from synth_dspy.errors import SetupError, SynthDspyError
from synth_dspy.evaluation import runner
from synth_dspy.evaluation.report import write_report
from synth_dspy.evaluation.summary import summarise
from synth_dspy.executor import Executor
from synth_dspy.ledger import Ledger
from synth_dspy.opening import open_embedder, open_retriever, open_role
from synth_dspy.progress import Bars
from synth_dspy.run import Run
from synth_dspy.synthesis.decontaminate import decontaminate
from synth_dspy.synthesis.pipeline import Synthesis, Tunable, synthesise
from synth_dspy.task import Judge, Knowledge, Metric, Resources, Task
from synth_dspy.training.feedback import read_feedback
from synth_dspy.training.optimizer import WeightOptimizer
from synth_dspy.training.provider import LocalProvider, training_facts
from synth_dspy.training.spec import check_options
from synth_dspy.versions import versions

log = logging.getLogger("synth_dspy.experiment")

QUICK = {"candidates": 16, "held_out": 16, "validation": 8, "with_demonstrations": 0, "retention": 0}
"""Bounds of a `--quick` run."""


@dataclass
class Experiment:
    """One compile of one task. `facts` gathers what the report says besides the scores."""

    workspace: Path
    task: Task
    config: CompileConfig
    run: Run
    ledger: Ledger
    bars: Bars
    command: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.provider = LocalProvider(self.run.folder / "adapters", settings={"workspace": self.workspace})

    def compile(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run every station.

        Returns:
            `results` and `measurements`, as written to the run's folder.
        """
        began = time.perf_counter()
        names = self._arm_names()
        self._check_settings()
        with self.run.station("source"):
            knowledge, splits = self._read()
        with self.run.station("models"):
            resources = self._models()
        self.run.begun = True
        again = f"python -m synth_dspy.compile {self.run.task} --resume {self.run.id}"
        self.bars.console.print(f"run {self.run.id}; if it is stopped: {again}", soft_wrap=True, highlight=False)
        with self.run.station("index"), self.bars.bar("index", None) as bar:
            folder = saved.index_folder(self.workspace, self.run.task, self.config)
            retriever = open_retriever(folder, self.task, knowledge.documents, resources.embedder, bar.reach)
        resources = replace(resources, retriever=retriever)
        with self.run.station("synthesis"):
            rows = self._rows(knowledge, splits, resources)
        judge = self.task.judge(resources)
        training = self.config.training
        resources = replace(
            resources, judge=judge, training=training.options, feedback=self._feedback(rows["train"], splits)
        )
        with self.run.station("arms"):
            programs = self._arms(names, rows, resources, self._objective(judge))
        with self.run.station("evaluation"):
            predictions = self._evaluate(programs, rows["test"], resources, judge)
        with self.run.station("retention"):
            self.facts["retention"], notes = tuned.retained(
                programs,
                resources.student,
                self.config.retention,
                self._bound("retention", self.config.retention.prompts),
                workspace=self.workspace,
                executor=resources.executor,
                bars=self.bars,
                seed=self.config.seed,
            )
            self.facts["notes"] = [*self.facts.get("notes", []), *notes]
        return self._report(predictions, judge, time.perf_counter() - began)

    def _models(self) -> Resources:
        """Open every role's model: a wrong name is found here, not after an hour of work."""
        names = self.config.models
        # Twice as many rows as connections: while one waits out a refusal, another uses its place.
        hosted = any(not getattr(names, role).startswith(roles.EMBEDDED) for role in ("student", "teacher"))
        executor = Executor(self.config.concurrency * (2 if hosted else 1))
        opened: dict[str, dspy.LM | None] = {}
        with self.bars.bar("models", 4) as advance:
            for role in ("student", "teacher", "judge"):
                model = getattr(names, role)
                if role == "judge" and model == "reference":
                    opened[role] = None
                else:
                    provider = self.provider if role == "student" else None
                    opened[role] = lm = open_role(self.config, role, self.ledger, provider)
                    roles.check(lm)
                advance(1)
            embedder = open_embedder(self.config)
            embedder.embed(["ready?"])
            advance(1)
        dspy.configure(lm=opened["student"])
        return Resources(
            student=opened["student"],
            teacher=opened["teacher"],
            judge_lm=opened["judge"],
            judge_model=names.judge,
            embedder=embedder,
            retriever=None,
            executor=executor,
            seeds=(),
            held_out=(),
            words=self.config.words or self.task.words,
            seed=self.config.seed,
            quick=self.config.quick,
        )

    def _read(self) -> tuple[Knowledge, dict[str, datasets.Split]]:
        knowledge = self.task.source.read(self.config.limit)
        splits = datasets.split(knowledge, self.config.seed)
        groups = len({item.group for item in knowledge.items})
        if groups < 3:
            raise SetupError(
                f"At least 3 {self.task.noun}s are needed, to learn from some and be scored on others; found {groups}. "
                f"Add {self.task.noun}s, or raise --limit."
            )
        self.facts["skipped"] = [{"path": str(skip.path), "why": skip.why} for skip in knowledge.skipped]
        return knowledge, splits

    def _check_settings(self) -> None:
        """Find out now what would otherwise show after an hour of work."""
        for method, options in self.config.training.options.items():
            own = {field.name for field in fields(self._recipe(method))} if method in self.task.optimizers else set()
            check_options(method, {name: value for name, value in options.items() if name not in own})
        if self._bound("retention", self.config.retention.prompts):
            tuned.retention_data(self.config.retention, self.workspace)

    def _recipe(self, method: str) -> type:
        """The class of a method's recipe."""
        made = self.task.optimizers[method]
        return made if isinstance(made, type) and is_dataclass(made) else WeightOptimizer

    def _feedback(self, train: Sequence[dspy.Example], splits: dict[str, datasets.Split]) -> Sequence[dspy.Example]:
        """People's preferences, without those about what is held out."""
        path = self.config.training.feedback
        if path is None or not train:
            return ()
        held_out = {group for name in ("dev", "test") for group in splits[name].groups}
        feedback, left_out = read_feedback(path, sorted(train[0].inputs().keys()), held_out)
        if left_out:
            note = f"{left_out} preferences in {path.name} are about held-out {self.task.noun}s and were left out."
            self.facts.setdefault("notes", []).append(note)
        known = {str(example.group) for example in train} | set(splits["train"].groups)
        rows = [
            {"id": f"human-{n}", "group": next((v for v in e.values() if v in known), None), **e.toDict()}
            for n, e in enumerate(feedback, start=1)
        ]
        self.run.write_jsonl("datasets/feedback.jsonl", rows)
        return feedback

    def _rows(
        self, knowledge: Knowledge, splits: dict[str, datasets.Split], resources: Resources
    ) -> dict[str, list[dspy.Example]]:
        """The rows of every split. What is held out comes first: training rows are checked against it."""
        wanted = self._bound("candidates", self.config.synthesis.candidates)
        dev, test = list(splits["dev"].labelled), list(splits["test"].labelled)
        shown = replace(resources, seeds=splits["train"].labelled or tuple(knowledge.prompts))
        self.facts["held_out"] = "human-labelled" if test else "synthetic"
        if not test:
            test = list(self._synthesise("test", splits, shown, wanted).kept)
        if not dev:
            dev = list(self._synthesise("dev", splits, shown, max(1, wanted // 3)).kept)
        if not test:
            raise SetupError(
                f"There are no labelled questions about the held-out {self.task.noun}s, and none of the synthetic ones "
                "passed the filters. Name a stronger teacher with --models.teacher, or label some questions yourself."
            )
        gold, found = decontaminate(splits["train"].labelled, (*dev, *test), resources.embedder.embed)
        shown = replace(resources, seeds=gold or tuple(knowledge.prompts), held_out=(*dev, *test))
        synthesis = self._synthesise("train", splits, shown, wanted)
        train = datasets.training_rows(gold, synthesis.kept, self.config.synthesis.train_on)
        if not dev:
            log.warning("no development questions: prompts are chosen on training rows")
        bounds, seed = self.config.evaluation, self.config.seed
        rows = {
            "train": train,
            "dev": datasets.spread(dev or train, self._bound("validation", bounds.validation), seed),
            "test": datasets.spread(test, self._bound("held_out", bounds.held_out), seed),
        }
        self.facts["synthesis"] = synthesis.yield_table
        found_later = synthesis.contamination or {}
        self.facts["contamination"] = {kind: count + found_later.get(kind, 0) for kind, count in found.items()}
        self.facts["splits"] = {
            name: {"groups": len(splits[name].groups), "items": len(rows[name])} for name in ("train", "dev", "test")
        }
        for name, examples in rows.items():
            self.run.write_jsonl(f"datasets/{name}.jsonl", map(datasets.as_row, examples))
        return rows

    def _synthesise(self, name: str, splits: dict[str, datasets.Split], resources: Resources, wanted: int) -> Synthesis:
        synthesizer = self.task.synthesizer(resources)
        synthesizer.set_lm(resources.teacher)
        items = splits[name].items if wanted else ()
        if isinstance(synthesizer, Tunable) and items:
            with self.bars.bar(f"prompts of the synthesis ({name})", None), self.ledger.unit(station="synthesis"):
                synthesizer.tune(items, self.task.filters(resources), resources.executor)
        with self.bars.bar(f"synthesis ({name})", None) as bar, self.ledger.unit(station="synthesis"):
            synthesis = synthesise(
                items,
                synthesizer,
                self.task.filters(resources),
                executor=resources.executor,
                ledger=self.ledger,
                limit=wanted,
                progress=bar.reach,
            )
        self.run.write_jsonl(f"datasets/candidates-{name}.jsonl", synthesis.candidate_rows())
        return synthesis

    def _arms(
        self, names: list[str], rows: dict[str, list[dspy.Example]], resources: Resources, objective: Metric
    ) -> dict[str, dspy.Module]:
        programs: dict[str, dspy.Module] = {}
        self.facts["arms"] = described = []
        for name in names:
            with self.bars.bar(f"arm: {name}", None) as bar:
                self.provider.progress = bar.reach
                program = self.task.program(resources)
                program.set_lm(resources.student)
                optimizer = self.task.optimizers[name](resources, objective)
                began = time.perf_counter()
                failed = None
                with self.ledger.unit(station="arms", arm=name):
                    try:
                        if optimizer is not None:
                            program = optimizer.compile(program, trainset=rows["train"], valset=rows["dev"])
                        programs[name] = program
                    except SetupError:
                        raise  # true of every arm: no endpoint, no room to write
                    except Exception as error:
                        # One arm that cannot be made is a finding; the other arms go on.
                        failed = str(error) if isinstance(error, SynthDspyError) else f"{type(error).__name__}: {error}"
                        log.warning("arm %s failed", name, exc_info=error)
                if failed is None:
                    if saved.tuned_model(program, resources.student) is None:
                        program.set_lm(resources.student)
                    saved.save(self.run, name, program, self.config)
                kind = type(optimizer).__name__ if optimizer is not None else "none"
                described.append(
                    {
                        "name": name,
                        "optimizer": kind,
                        "description": (type(optimizer).__doc__ or "").split("\n")[0] if optimizer else "As declared.",
                        "compile_seconds": time.perf_counter() - began,
                        "demos": sum(len(predictor.demos) for predictor in program.predictors()),
                        "failed": failed,
                        "training": None if failed else self._training(program, resources.student),
                    }
                )
        if any(arm["training"] for arm in described):
            self.facts["pairs"] = "all"
        return programs

    def _training(self, program: dspy.Module, student: dspy.LM) -> dict[str, Any] | None:
        """What the report says of an arm's training; None for an arm that was not trained."""
        model = saved.tuned_model(program, student)
        return None if model is None else training_facts(model.parent)

    def _arm_names(self) -> list[str]:
        known = list(self.task.optimizers)
        asked = list(self.config.evaluation.arms or self.task.arms or known)
        for name in asked:
            if name not in known:
                raise SetupError(f"There is no arm {name!r}; this task has {', '.join(known)}.")
        baseline = known[0]
        return [baseline, *dict.fromkeys(name for name in asked if name != baseline)]

    def _objective(self, judge: Judge) -> Metric:
        return judge if self.task.objective == "judged" else self.task.metrics[self.task.objective]

    def _evaluate(
        self, programs: dict[str, dspy.Module], examples: Sequence[dspy.Example], resources: Resources, judge: Judge
    ) -> list[dict[str, Any]]:
        predictions: list[dict[str, Any]] = []
        few = self._bound("with_demonstrations", self.config.evaluation.with_demonstrations)
        variants = tuned.with_demonstrations(programs, resources.student, examples, few, self.config.seed)
        asked = {name: (program, examples) for name, program in programs.items()}
        asked |= {variant.name: (variant.program, variant.examples) for variant in variants}
        self.facts["variants"] = [{"name": variant.name, "of": variant.of} for variant in variants]
        for name, (program, examples) in asked.items():
            with self.bars.bar(f"evaluation: {name}", len(examples)) as advance:
                predictions += runner.run_arm(
                    name,
                    program,
                    examples,
                    metrics=self.task.metrics,
                    judge=judge,
                    executor=resources.executor,
                    ledger=self.ledger,
                    advance=advance,
                )
        return predictions

    def _report(
        self, predictions: list[dict[str, Any]], judge: Judge, seconds: float
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        models = self.config.models
        self.facts |= {
            "task": self.run.task,
            "noun": self.task.noun,
            "run_id": self.run.id,
            "baseline": next(iter(self.task.optimizers)),
            "seed": self.config.seed,
            "models": {role: getattr(models, role) for role in ("student", "teacher", "judge", "embedder")},
            "versions": versions(),
            "judge": {"name": judge.name, **judge.agreement},
            "stations": [{"name": name, "seconds": spent} for name, spent in self.run.seconds.items()],
            "concurrency": self.config.concurrency,
            "wall_s": seconds,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "command": self.command,
        }
        results, measurements = summarise(predictions, self.facts)
        self.run.write_jsonl("predictions.jsonl", predictions)
        self.run.write_json("results.json", results)
        self.run.write_json("measurements.json", measurements)
        write_report(self.run.folder)
        return results, measurements

    def _bound(self, name: str, value: int) -> int:
        return min(value, QUICK[name]) if self.config.quick else value
