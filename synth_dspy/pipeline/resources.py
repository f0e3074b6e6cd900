"""Opens what a run's configuration names: the models of its roles, the retriever, the resources of a saved run.

Compiling and loading both use this module, so that a loaded program gets the same server, embedder and index as the run
that saved it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.config import CompileConfig, Models, Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Document
from synth_dspy.core.resources import Resources
from synth_dspy.core.validation import suggest
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.retrieval import Retriever
from synth_dspy.models import roles
from synth_dspy.models.cluster.cluster import open_cluster
from synth_dspy.models.cluster.engine import lm_on

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.ledger import Ledger
    from synth_dspy.core.protocols import Embedder
    from synth_dspy.core.task import CompleteTask

EMBEDDED_OPTIONS = {"temperature": 0.0, "max_tokens": 48}
"""Short greedy answers suit a small model; a hosted one keeps its provider's defaults."""


def check_model_options(models: Models) -> None:
    """Check `[models.options.<role>]` of embedded models before any model is loaded; other models get them unchecked.

    Raises:
        SetupError: an option does not exist; names it and those with a similar spelling.
    """
    for role, options in models.options.items():
        model = role if "/" in role else getattr(models, role)
        if not model.startswith(roles.EMBEDDED):
            continue
        valid = sorted(roles.embedded_options())
        for name in sorted(options.keys() - set(valid)):
            raise SetupError(
                f"models.options.{role}.{name} is not an option of the embedded model {model}: {suggest(name, valid)}"
            )


def check_models(config: CompileConfig, ledger: Ledger | None = None) -> None:
    """Check the models of a run as far as it can be done without loading, fetching or asking any.

    Args:
        config: names them.
        ledger: its budget may need their prices.

    Raises:
        SetupError: a model string names nothing that can be used, its key or price is missing, or an option does not
            exist.
    """
    check_model_options(config.models)
    for role in ("student", "teacher", "judge"):
        if getattr(config.models, role) != "reference":
            arguments = _arguments(config, role)
            roles.check_named(roles.lm_for(getattr(config.models, role), role=role, ledger=ledger, **arguments))
    open_embedder(config)
    roles.check_named_embedder(config.models.embedder, api_base=config.models.api_base)


def open_role(config: CompileConfig, role: str, ledger: Ledger | None, provider: Any = None) -> dspy.LM:
    """The LM of a role as configured; `provider` trains it if it is embedded. The teacher's may call in batches.

    Raises:
        SetupError: its model string is malformed, or its key is missing.
    """
    model, options = getattr(config.models, role), _arguments(config, role)
    if provider is not None and model.startswith(roles.EMBEDDED):
        options["provider"] = provider
    return lm_on(open_cluster(config.executor, config.workers), model, role=role, ledger=ledger, **options)


def _arguments(config: CompileConfig, role: str) -> dict[str, Any]:
    """The arguments of `roles.lm_for` for a role, as configured."""
    model = getattr(config.models, role)
    options: dict[str, Any] = dict(EMBEDDED_OPTIONS) if model.startswith(roles.EMBEDDED) else {}
    options |= {"connections": config.concurrency, **config.models.options.get(role, {})}
    if not model.startswith(roles.EMBEDDED):
        for name in ("api_base", "allow_http", "max_reply_mb"):
            options.setdefault(name, getattr(config.models, name))
    if role == "teacher" and config.aws.batch:
        options["batch"] = {"s3": config.aws.s3, "role": config.aws.role}
    return options


def open_executor(config: CompileConfig, *, spare: bool = False) -> Executor:
    """The executor for a configuration's model calls, which fills every worker of a cluster.

    Args:
        config: names the concurrency and the cluster.
        spare: twice as many rows as connections: while one waits to retry, another can use its connection.

    Raises:
        SetupError: the cluster cannot be used.
    """
    cluster = open_cluster(config.executor, config.workers)
    return Executor(config.concurrency * (cluster.size if cluster else 1) * (2 if spare else 1))


def open_embedder(config: CompileConfig) -> Embedder:
    """The embedder that the run's configuration names."""
    models = config.models
    return roles.embedder_for(models.embedder, api_base=models.api_base, allow_http=models.allow_http)


def open_retriever(
    folder: Path,
    task: CompleteTask,
    documents: Sequence[Document],
    embedder: Embedder,
    settings: Retrieval,
    progress: Callable[[int, int], None] | None = None,
) -> Retriever | None:
    """A retriever over an index of `documents`, which is updated first; None without documents.

    Args:
        folder: the index's; runs over the same knowledge share it, and update it one at a time.
        task: its `wording` gives the language of the documents that answer a question.
        documents: all documents of the index.
        embedder: embeds chunks and queries.
        settings: of the retrieval.
        progress: called with (chunks embedded so far, chunks to embed).

    Raises:
        SetupError: another process was still updating the index after a long wait, or it cannot be opened.
    """
    if not documents:
        return None
    return Collection(folder, documents, embedder, task.wording).retriever(settings, progress)


def open_saved(
    config: CompileConfig, task: CompleteTask, *, ledger: Ledger | None = None, executor: Executor | None = None
) -> Resources:
    """The resources for a task's factories after its run: without examples, since nothing is learned.

    The student also takes the teacher's role, which is not used. The judge's LM and the retriever are left to the
    caller.

    Args:
        config: the run's.
        task: built with it.
        ledger: records calls and answers repeated ones; None makes every call.
        executor: runs calls concurrently; by default with the run's concurrency.

    Raises:
        SetupError: the student's model string is malformed, or its key is missing.
    """
    student = open_role(config, "student", ledger)
    return Resources(
        student=student,
        teacher=student,
        judge_lm=None,
        judge_model=config.models.judge,
        embedder=open_embedder(config),
        retriever=None,
        executor=executor or open_executor(config),
        seeds=(),
        held_out=(),
        words=config.words or task.words,
        seed=config.seed,
        noun=task.noun,
        domain=task.domain,
        abstain=task.abstain,
        steps=config.retrieval.steps,
    )


def open_judged(
    config: CompileConfig, task: CompleteTask, *, ledger: Ledger | None = None, executor: Executor | None = None
) -> Resources:
    """`open_saved`, with the judge's LM if the run has one.

    Raises:
        SetupError: a model cannot be used.
    """
    resources = open_saved(config, task, ledger=ledger, executor=executor)
    if config.models.judge == "reference":
        return resources
    judge_lm = open_role(config, "judge", ledger)
    roles.check(judge_lm)
    return replace(resources, judge_lm=judge_lm)
