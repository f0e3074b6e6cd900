"""One run from start to end: source, splits, synthesis, datasets, arms, predictions, report.

Every model call goes through the run's ledger, and everything between the calls is a function of their answers and the
seed. To resume a run is therefore to run it again: answered calls are not repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import dspy

from synth_dspy.core.errors import BudgetReached, MetricError, SetupError, SynthDspyError, explain_failure
from synth_dspy.core.knowledge import Knowledge
from synth_dspy.core.protocols import Judge
from synth_dspy.core.resources import Resources
from synth_dspy.evaluation import runner
from synth_dspy.evaluation.ai_feedback import make_rater
from synth_dspy.evaluation.facts import ArmFacts, ReferenceFacts, RowFacts, RunFacts
from synth_dspy.evaluation.records import Measurements, Prediction, Results
from synth_dspy.evaluation.reference_rows import Reference, trivial_answers, under_dspy_adapter
from synth_dspy.evaluation.results import write_results
from synth_dspy.evaluation.retention.measure import Retained
from synth_dspy.evaluation.spending import spending_of
from synth_dspy.models import roles
from synth_dspy.models.cluster.cluster import open_cluster
from synth_dspy.models.cluster.connecting import LOCAL
from synth_dspy.models.embedded.pool import pool
from synth_dspy.pipeline import datasets, saved
from synth_dspy.pipeline import tuned_arms as tuned
from synth_dspy.pipeline.arms import arm_names, check_training, compile_arms, trains_weights
from synth_dspy.pipeline.compile_plan import describe_compile, describe_proposing
from synth_dspy.pipeline.context import Context
from synth_dspy.pipeline.defaults import SEARCH, judge_of, with_resources, with_search
from synth_dspy.pipeline.folds import (
    Plan,
    fold_context,
    fold_facts,
    merge_arms,
    merge_references,
    merge_rows,
    plan_folds,
)
from synth_dspy.pipeline.generators import with_generators
from synth_dspy.pipeline.proposals import proposes, with_proposed
from synth_dspy.pipeline.resources import check_models, open_embedder, open_executor, open_retriever, open_role
from synth_dspy.pipeline.rows import check_feedback, collect_feedback, collect_questions, collect_rows, read_knowledge
from synth_dspy.pipeline.trial import try_program
from synth_dspy.training.job import Training, TrainingProcess, start_idle_worker, stop_idle_worker
from synth_dspy.training.provider import LocalProvider

log = logging.getLogger("synth_dspy.pipeline.experiment")


@dataclass(frozen=True, slots=True)
class Compiled:
    """The arms of one fold: the rows, the programs, and, unless nothing was held out, their answers.

    `retained` is what tuning cost elsewhere, of the programs that the run ends with.
    """

    rows: Mapping[str, Sequence[dspy.Example]]
    row_facts: RowFacts
    programs: dict[str, dspy.Module]
    arms: Sequence[ArmFacts]
    predictions: Sequence[Prediction]
    variants: Mapping[str, str]
    references: Sequence[ReferenceFacts]
    retained: Mapping[str, Retained]


@dataclass
class Experiment(Context):
    """One compile of one task, stage by stage."""

    def __post_init__(self) -> None:
        self.programs: dict[str, dspy.Module] = {}
        self.provider = LocalProvider(
            self.run.folder / "adapters", settings={"workspace": self.workspace}, start=self._trainings()
        )
        self.provider.budget = self.ledger.budget

    def compile(self) -> tuple[Results, Measurements]:
        """Run every stage.

        Returns:
            `results` and `measurements`, as written to the run's folder.
        """
        start = time.perf_counter()
        if self.config.search:
            self.task = with_search(self.task)
        names, left_out = arm_names(self.task, self.config.models.student, self.config.evaluation.arms)
        searched = [SEARCH] if self.config.search else []  # by the first student, whichever models are compared
        names = [name for name in names if name not in searched]
        check_models(self.config, self.ledger)
        home, others = self.run.folder / "elsewhere", bool(self.config.models.compare or self.config.arm)
        with self.bars.status("preparing the compared models") if others else nullcontext():
            self.generators = with_generators(self.task, names, self.config, home, trains_weights)
        self.task, names = self.generators.task, [*self.generators.names, *searched]
        check_training(self.task, self.config.training.options, self.workspace)
        for generator in {id(each): each for each in self.generators.of.values()}.values():
            check_models(generator.config, self.ledger)
        if self.bound("retention"):
            tuned.retention_data(self.config.retention)
        with self.run.station("source"), self.bars.status("reading the source"):
            knowledge, single = read_knowledge(self)
            check_feedback(self, knowledge)
            if self.config.search and not knowledge.documents:
                raise SetupError("--search retrieval is for tasks about documents, and this task's source has none.")
            plan = plan_folds(self, knowledge, single, names)
        scored = [splits for splits in plan.folds if splits["test"].groups]
        if proposes(self, knowledge) and not self.config.unreviewed:
            self.say(describe_proposing(self))
        else:
            self.say(describe_compile(self, names, scored, plan.final, generators=self.generators.of))
        self._check_budget()
        self._start_trainer(names)
        with self.run.station("models"):
            resources = self._models()
        with dspy.context(lm=resources.student):  # not `configure`, which is the user's
            return self._run_stages(names, left_out, knowledge, plan, resources, start)

    def _run_stages(
        self,
        names: Sequence[str],
        left_out: str | None,
        knowledge: Knowledge,
        plan: Plan,
        resources: Resources,
        start: float,
    ) -> tuple[Results, Measurements]:
        """The stages that call models."""
        self.run.begun = True
        self.say(f"run {self.run.id}; if it is stopped: {self.run.resume_command}")
        if left_out:
            self.say(left_out)
            self.note(left_out)
        with self.run.station("index"), self.bars.bar("index", None) as bar:
            folder = saved.index_folder(self.workspace, self.run.task, self.config, self.task)
            settings = self.config.retrieval
            retriever = open_retriever(folder, self.task, knowledge.documents, resources.embedder, settings, bar.reach)
        resources = replace(resources, retriever=retriever)
        self.task = with_resources(self.task, resources)
        judge = judge_of(self.task, resources)
        # A question about another corpus is asked of a document of this one; nothing else fits another source.
        train = plan.folds[0]["train"]
        elsewhere = [
            prompt.copy(document=train.groups[0]) for prompt in knowledge.prompts[:1] if "document" in prompt.inputs()
        ]
        try_program(self, resources, judge, train.labelled or elsewhere)
        with self.run.station("synthesis"):
            proposed = with_proposed(self, knowledge, resources)
        if proposed is not knowledge:
            knowledge = proposed
            plan = plan_folds(self, knowledge, datasets.split(knowledge, self.config.seed), names)
        resources = replace(
            resources, judge=judge, training=self.config.training.options, minutes=self.config.training.minutes
        )
        folds: list[Compiled] = []
        for number, splits in enumerate(plan.folds, start=1):
            context: Context = self
            if plan.final is not None:
                self.say(f"fold {number} of {len(plan.folds)}{_remaining(start, number - 1, len(plan.folds) + 1)}")
                context = fold_context(self, number)
            folds.append(self._compile_fold(context, names, knowledge, splits, resources, judge))
            if plan.final is not None:
                for row in folds[-1].predictions:
                    row["fold"] = number
        last = folds[0]
        if plan.final is not None:
            self.say(f"on all labels{_remaining(start, len(plan.folds), len(plan.folds) + 1)}")
            last = self._compile_fold(self, names, knowledge, plan.final, resources, judge)
        self.programs = last.programs
        arms, row_facts = last.arms, last.row_facts
        if plan.final is not None:
            arms, failed = merge_arms([fold.arms for fold in folds], last.arms)
            row_facts = merge_rows([fold.row_facts for fold in folds], last.row_facts, len(knowledge.labelled))
            self.note(_how_scored(len(folds), self.task.noun), *failed)
        held_out = [example for fold in folds for example in fold.rows["test"]]
        self.note(*self.generators.note(held_out, self.task.noun))
        facts = RunFacts(
            baseline=next(iter(self.task.optimizers)),
            arms=arms,
            rows=row_facts,
            variants={name: arm for fold in folds for name, arm in fold.variants.items()},
            references=merge_references([fold.references for fold in folds]),
            retained=last.retained,
            notes=self.notes,
            seconds=self.run.seconds,
            wall_s=time.perf_counter() - start,
            command=self.command,
            every_pair=any(arm.training for arm in arms),
            folds=[fold_facts(splits, fold.rows) for splits, fold in zip(plan.folds, folds, strict=True)]
            if plan.final is not None
            else (),
            labelled=plan.labelled,
            spending=spending_of(self.ledger, _training_s([*folds, last])),
        )
        self.ledger.budget.check_refused()
        self.ledger.snapshot()  # raises, before any result is written, if the ledger is damaged
        predictions = [row for fold in folds for row in fold.predictions]
        return write_results(self.run, self.task, self.config, judge, predictions, facts)

    def _compile_fold(
        self,
        context: Context,
        names: Sequence[str],
        knowledge: Knowledge,
        splits: datasets.Splits,
        resources: Resources,
        judge: Judge,
    ) -> Compiled:
        """Rows, arms and answers of one fold; `context` says where they are kept.

        No more of its held-out groups is in `resources` than their knowledge, which the program looks things up in.
        """
        resources = replace(resources, evidence_by_id={})
        with self.run.station("synthesis"):
            rows, row_facts = collect_rows(context, knowledge, splits, resources)
        resources = replace(
            resources,
            feedback=collect_feedback(context, rows, splits),
            questions=collect_questions(context, rows, splits),
            rater=make_rater(resources) if self.config.training.questions else None,
        )
        objective = judge if self.task.objective == "judged" else self.task.metrics[self.task.objective]
        with self.run.station("arms"):
            programs, arms = compile_arms(context, names, rows, resources, objective, self.provider, self.generators.of)
            stop_idle_worker()
        with self.run.station("evaluation"):
            kept = context is self  # the programs that the run ends with
            predictions, variants, retained = self._evaluate(programs, rows["test"], resources, judge, retention=kept)
            further: list[Prediction] = []
            references: list[ReferenceFacts] = []
            if rows["test"]:
                further, references = self._evaluate_references(programs, rows, resources, judge)
        return Compiled(rows, row_facts, programs, arms, [*predictions, *further], variants, references, retained)

    def _trainings(self) -> Callable[[Path], Training]:
        """Where weights are trained."""
        settings, aws = self.config.training, self.config.aws
        if settings.backend == "local":
            return TrainingProcess
        from synth_dspy.training.sagemaker.job import SageMakerJobs

        assert aws.s3 is not None  # checked with the settings
        assert aws.role is not None
        return SageMakerJobs(settings.sagemaker, aws.s3, aws.role, self.run.folder, self.say, ledger=self.ledger)

    def _start_trainer(self, names: Sequence[str]) -> None:
        """Start the training process, unless no arm trains weights or a resumed run may have trained them already."""
        here = self.config.executor == LOCAL and self.provider.is_local and not self.provider.home().exists()
        if here and any(trains_weights(self.task.optimizers[name]) for name in names):
            start_idle_worker()

    def _check_budget(self) -> None:
        """Stop before something that takes long, if the time is up.

        Raises:
            BudgetReached: it is. The run stays, even without a call, since the message says how to go on with it.
        """
        try:
            self.ledger.budget.check()
        except BudgetReached:
            self.run.begun = True
            raise

    def _models(self) -> Resources:
        """Open every role's model, so that a wrong name fails now and not after an hour of work."""
        names = self.config.models
        hosted = any(not getattr(names, role).startswith(roles.EMBEDDED) for role in ("student", "teacher"))
        self.provider.cluster = open_cluster(self.config.executor, self.config.workers)
        executor = open_executor(self.config, spare=hosted)
        lms: dict[str, dspy.LM | None] = {}
        with self.bars.bar("models", 4) as advance:
            for role in ("student", "teacher", "judge"):
                model = getattr(names, role)
                if role == "judge" and model == "reference":
                    lms[role] = None
                else:
                    provider = self.provider if role == "student" else None
                    lms[role] = lm = open_role(self.config, role, self.ledger, provider)
                    roles.check(lm)
                    self._check_budget()
                    if role == "student" and (engine := roles.describe_engine(lm)) is not None:
                        self.bars.say(engine)
                advance(1)
            for generator in {id(each): each for each in self.generators.of.values()}.values():
                generator.lm = open_role(generator.config, "student", self.ledger, self.provider)
                roles.check(generator.lm)
            embedder = open_embedder(self.config)
            embedder.embed(["ready?"])
            advance(1)
        self._check_budget()
        return Resources(
            student=lms["student"],
            teacher=lms["teacher"],
            judge_lm=lms["judge"],
            judge_model=names.judge,
            embedder=embedder,
            retriever=None,
            executor=executor,
            seeds=(),
            held_out=(),
            words=self.config.words or self.task.words,
            seed=self.config.seed,
            quick=self.config.quick,
            evidence=self.task.evidence,
            noun=self.task.noun,
            domain=self.task.domain,
            abstain=self.task.abstain,
            steps=self.config.retrieval.steps,
        )

    def _evaluate(
        self,
        programs: dict[str, dspy.Module],
        examples: Sequence[dspy.Example],
        resources: Resources,
        judge: Judge,
        *,
        retention: bool,
    ) -> tuple[list[Prediction], dict[str, str], dict[str, Retained]]:
        """Predictions of the arms and their variants, the arm of each variant, and the retention measurements.

        All calls of a model are made while it is loaded.
        """
        predictions: list[Prediction] = []
        few = self.bound("with_demonstrations")
        own = {name: program for name, program in programs.items() if name not in self.generators.of}
        variants = tuned.with_demonstrations(own, resources.student, examples, few, self.config.seed)
        models = tuned.compared_models(own, resources.student) if retention and self.bound("retention") else {}
        retained: dict[str, Retained] = {}
        jobs = {}
        for name, program in programs.items():
            jobs[name] = (program, examples)
            jobs |= {each.name: (each.program, each.examples) for each in variants if each.of == name}
        for name, (program, examples) in jobs.items():
            if examples:
                with self.bars.bar(f"evaluation: {name}", len(examples)) as advance:
                    self._preload_model(name, program, examples)
                    predictions += self._answer(name, program, examples, resources, judge, advance)
            model = name if name in models else tuned.STUDENT
            if model in models and model not in retained:
                self._measure_retention(model, *models.pop(model), resources, retained)
        if tuned.STUDENT not in retained:
            retained.clear()  # nothing to compare with
        return predictions, {variant.name: variant.of for variant in variants}, retained

    def _preload_model(self, name: str, program: dspy.Module, examples: Sequence[dspy.Example]) -> None:
        """Load an arm's embedded model before its answers are timed, unless all are in the ledger already."""
        if self.config.executor != LOCAL:  # the workers do
            return
        answered = {call.unit.source for call in self.ledger.calls(station="evaluation", arm=name)}
        if answered >= {str(example.id) for example in examples}:
            return
        for model in {predictor.lm.model for predictor in program.predictors() if predictor.lm is not None}:
            if model.startswith(roles.EMBEDDED):
                with suppress(Exception), pool().lease(model.removeprefix(roles.EMBEDDED)):
                    pass  # its answers report the error

    def _answer(
        self,
        name: str,
        program: dspy.Module,
        examples: Sequence[dspy.Example],
        resources: Resources,
        judge: Judge,
        advance: Callable[[int], None],
        *,
        lenient: bool = False,
    ) -> list[Prediction]:
        """Predictions of an arm or reference for the examples, scored by the task's metrics and the judge."""
        return runner.run_arm(
            name,
            program,
            examples,
            metrics=self.task.metrics,
            judge=judge,
            executor=resources.executor,
            ledger=self.ledger,
            advance=advance,
            lenient=lenient,
        )

    def _evaluate_references(
        self,
        programs: dict[str, dspy.Module],
        rows: Mapping[str, Sequence[dspy.Example]],
        resources: Resources,
        judge: Judge,
    ) -> tuple[list[Prediction], list[ReferenceFacts]]:
        """Predictions of the reference rows; a reference that cannot be run or scored is left out of the report."""
        baseline = next(iter(self.task.optimizers))
        references: list[Reference] = trivial_answers(rows["train"], self.task.outputs)
        if baseline in programs and not self.config.quick:
            references.append(under_dspy_adapter(baseline, programs[baseline]))
        predictions: list[Prediction] = []
        described: list[ReferenceFacts] = []
        for reference in references:
            examples = datasets.spread(rows["test"], reference.most(len(rows["test"])), self.config.seed)
            with self.bars.bar(f"evaluation: {reference.name}", len(examples)) as advance:
                try:
                    # A task's metric may need more of a prediction than these have.
                    answered = self._answer(
                        reference.name, reference.program, examples, resources, judge, advance, lenient=True
                    )
                except (SynthDspyError, AttributeError, KeyError, TypeError, ValueError) as error:
                    if isinstance(error, SetupError) and not isinstance(error, MetricError):
                        raise
                    log.warning("%s could not be scored", reference.name, exc_info=error)
                    described.append(replace(reference.facts(), skipped=explain_failure(error).rstrip(".")))
                    continue
            described.append(reference.facts())
            if not described[-1].skipped:
                predictions += answered
        return predictions, described

    def _measure_retention(
        self, name: str, lm: dspy.LM, weights: str | Path, resources: Resources, retained: dict[str, Retained]
    ) -> None:
        """Measure a model's instruction following and perplexity outside the task."""
        measured, note = tuned.retained(
            name,
            lm,
            weights,
            self.config.retention,
            self.bound("retention"),
            executor=resources.executor,
            bars=self.bars,
            seed=self.config.seed,
        )
        if measured is not None:
            retained[name] = measured
        if note is not None:
            self.note(note)


def _training_s(compiled: Sequence[Compiled]) -> float:
    """Seconds of all trainings; the last of `compiled` may be one of the others."""
    of = {id(each): each for each in compiled}.values()
    return sum((arm.training.seconds or 0.0) for each in of for arm in each.arms if arm.training is not None)


def _how_scored(folds: int, noun: str) -> str:
    """What cross-fitting means for the figures."""
    return (
        f"Scored by {folds}-fold cross-fitting: each answer is of a program that was made without the {noun} in "
        f"question, and an arm's figures are those of its {folds} programs. The saved and exported programs were made "
        "of all labels and were not themselves scored."
    )


def _remaining(began: float, done: int, folds: int) -> str:
    """How long the other folds will take, by those that are done."""
    minutes = (time.perf_counter() - began) / 60 / done * (folds - done) if done else 0.0
    return f"; about {minutes:.0f} more minutes in all" if minutes >= 1 else ""
