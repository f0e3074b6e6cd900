"""Defaults of a task: judge, metrics and prompts by the type of its program's answer; arms; synthesis.

Labels are compared by equality, structures field by field, texts by the run's judge. What a task sets itself is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from pydantic import TypeAdapter, ValidationError

from synth_dspy.core.errors import SetupError
from synth_dspy.core.protocols import Filter, Judge, Metric
from synth_dspy.core.resources import NeedsResources, Resources
from synth_dspy.core.task import Arm, CompleteTask, Program, Task
from synth_dspy.core.workspace import import_from
from synth_dspy.domains.documents.rag import RAG
from synth_dspy.domains.documents.search import SearchRetrieval
from synth_dspy.domains.documents.source import Corpus, Documents
from synth_dspy.domains.rows.source import Examples, Rows
from synth_dspy.evaluation.answers import (
    LABEL,
    STRUCTURE,
    TEXT,
    AnswerType,
    Equality,
    FieldByField,
    ModelFree,
    answer_type,
    check_metric,
    is_judge,
    make_structure_metrics,
    place_of,
)
from synth_dspy.evaluation.groundedness.passage_scores import grounded, retrieval
from synth_dspy.evaluation.judges import make_judge
from synth_dspy.evaluation.metrics import abstention, exact_match, retrieval_mrr, retrieval_recall, token_f1
from synth_dspy.evaluation.records import JudgeRecord
from synth_dspy.pipeline.answering import Answering
from synth_dspy.training.recipes import DEFAULT_ARMS, RECIPES, as_declared

SEARCH = "search"
"""The arm of `--search retrieval`."""
OWN_RECIPES = Path("optimizers") / "recipes.py"
"""A workspace's own recipes: `RECIPES`, arms by name, which override the engine's."""


def complete(task: Task, workspace: Path | None = None) -> CompleteTask:
    """A task with its defaults filled in.

    Args:
        task: as declared.
        workspace: its recipes override the engine's.

    Raises:
        SetupError: its program's answer cannot be determined, a part has the wrong type, or a metric takes other
            arguments; names file and line.
    """
    answer = _answer(task)
    kind = TEXT if answer is None else answer.kind
    source, documents = task.source, isinstance(task.source, Documents | Corpus)
    if isinstance(source, Rows | Examples):
        if answer is None:
            raise SetupError(
                "Rows need the names of a program's inputs and outputs: give the Task a DSPy program, not a function."
            )
        source = source.about(answer, task.abstain)
    abstain = task.abstain or (source.abstain if isinstance(source, Documents) else "")
    metrics = dict(task.metrics) or _metrics(kind, documents, abstain)
    for name, metric in metrics.items():
        check_metric(name, metric)
    optimizers = dict(task.optimizers) or _arms("rag" if isinstance(task.program, RAG) else "zero_shot", workspace)
    climbs_f1 = kind == TEXT and task.judge is None and "f1" in metrics
    objective = task.objective or ("f1" if climbs_f1 else "judged")
    if objective != "judged" and objective not in metrics:
        raise SetupError(
            f"The task's objective {objective!r} is not one of its metrics: {', '.join(metrics) or 'none'}."
        )
    default_arms = (next(iter(optimizers)), *DEFAULT_ARMS) if not task.optimizers else ()
    names = {field.name for field in fields(CompleteTask)}
    declared = {field.name: getattr(task, field.name) for field in fields(task) if field.name in names}
    return CompleteTask(
        **{
            **declared,
            "program": _program(task, answer, abstain),
            "source": source,
            "abstain": abstain,
            "synthesizer": task.synthesizer or getattr(source, "synthesizer", None),
            "filters": task.filters or getattr(source, "filters", None) or no_filters,
            "judge": task.judge or _judge(kind),
            "metrics": metrics,
            "optimizers": optimizers,
            "objective": objective,
            "arms": task.arms or default_arms,
            "evidence": task.evidence or (retrieval_recall if documents else None),
            "noun": "row" if isinstance(source, Rows | Examples) and task.noun == "document" else task.noun,
        },
        classes=answer.classes if answer is not None and kind == LABEL else (),
        output="answer" if answer is None else answer.name,
        outputs=("answer",) if answer is None else tuple(answer.outputs),
    )


def judge_of(task: CompleteTask, resources: Resources) -> Judge:
    """The task's judge.

    Raises:
        SetupError: the task's factory does not return a judge, or its agreement is no mapping of figures; names the
            file and line.
    """
    judge = task.judge(resources)
    if not is_judge(judge):
        raise SetupError(
            f"{place_of(task.judge)}: the task's judge is a {type(judge).__name__} without a name, score_many or "
            "__call__; a judge has name, agreement and score_many(rows), and is called as a metric is."
        )
    agreement = getattr(judge, "agreement", None)
    try:
        TypeAdapter(JudgeRecord).validate_python(agreement if agreement is not None else {})
    except ValidationError as error:
        field = "".join(f"[{part!r}]" for part in error.errors()[0]["loc"])
        raise SetupError(
            f"{place_of(judge)}: the judge {judge.name!r} has the agreement {agreement!r}"
            f"{field and f', of which {field} is wrong'}; make it None, or a dictionary of what was measured, such as "
            "{'n': 200, 'kappa': 0.8, 'source': 'our graders'}."
        ) from None
    return judge


def with_resources(task: CompleteTask, resources: Resources) -> CompleteTask:
    """The task with the run's resources passed to the metrics that need them."""
    metrics = {
        name: metric.with_resources(resources) if isinstance(metric, NeedsResources) else metric
        for name, metric in task.metrics.items()
    }
    return replace(task, metrics=metrics)


def with_search(task: CompleteTask) -> CompleteTask:
    """The task with the arm that searches for the best retrieval."""
    return replace(task, optimizers={**task.optimizers, SEARCH: task.optimizers.get(SEARCH, SearchRetrieval)})


def no_filters(resources: Resources) -> Sequence[Filter]:
    """No filters."""
    return ()


def _answer(task: Task) -> AnswerType | None:
    """The answer's type; None if the program is a function that makes one."""
    if isinstance(task.program, dspy.Module):
        return answer_type(task.program, task.answer)
    if isinstance(task.program, RAG):
        return answer_type(dspy.Predict(task.program.signature), task.answer)
    return None


def _program(task: Task, answer: AnswerType | None, abstain: str) -> Program:
    if not isinstance(task.program, dspy.Module):
        if inspect.isclass(task.program) or callable(task.program):
            return task.program
        raise SetupError(
            f"The task's program is {task.program!r}; give it a DSPy module, RAG(signature) or a function."
        )
    assert answer is not None
    # DSPy's JSON adapter requests the type's schema, which constrains an embedded model's reply.
    adapter = None if answer.kind == TEXT else dspy.JSONAdapter()
    return partial(_wrapped, task.program, answer, abstain, adapter)


def _wrapped(
    program: dspy.Module, answer: AnswerType, abstain: str, adapter: dspy.Adapter | None, resources: Resources
) -> dspy.Module:
    return Answering(program, answer, abstain, adapter)


def _judge(kind: str) -> Callable[[Resources], Judge]:
    if kind == TEXT:
        return make_judge
    return ModelFree(Equality, "by equality") if kind == LABEL else ModelFree(FieldByField, "field by field")


def _metrics(kind: str, documents: bool, abstain: str) -> dict[str, Metric]:
    if kind == LABEL:
        return {}
    if kind == STRUCTURE:
        return make_structure_metrics()
    metrics: dict[str, Metric] = {"f1": token_f1, "exact": exact_match}
    if documents:
        metrics |= {"recall": retrieval_recall, "mrr": retrieval_mrr, "retrieval": retrieval, "grounded": grounded}
    return metrics | ({"abstention": abstention} if abstain else {})


def _arms(baseline: str, workspace: Path | None) -> dict[str, Arm]:
    own: Mapping[str, Any] = {}
    if workspace is not None and (workspace / OWN_RECIPES).is_file():
        own = getattr(import_from(workspace, "optimizers.recipes"), "RECIPES", {})
    return {baseline: as_declared, **RECIPES, **own}
