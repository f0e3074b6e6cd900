"""Opening what a run's configuration names: the model of a role, the retriever, the resources of a saved run.

Compiling and loading a saved program both go through here, so that a loaded program finds the same server, the same
embedder and the same index as the run that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.config import CompileConfig, Models, Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Document
from synth_dspy.core.resources import Resources
from synth_dspy.core.validation import spelling
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.retrieval import Retriever
from synth_dspy.models import roles

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.ledger import Ledger
    from synth_dspy.core.protocols import Embedder
    from synth_dspy.core.task import CompleteTask

EMBEDDED_OPTIONS = {"temperature": 0.0, "max_tokens": 48}
"""Short greedy answers suit a small model; what a hosted one does by default is its provider's choice."""


def check_model_options(models: Models) -> None:
    """Whether `[models.options.<role>]` sets what an embedded model knows, before any model is loaded.

    What other models know is their provider's affair: whatever stands there is passed on to them.

    Raises:
        SetupError: an option does not exist; names it and those that are spelt like it.
    """
    for role, asked in models.options.items():
        model = getattr(models, role)
        if not model.startswith(roles.EMBEDDED):
            continue
        known = sorted(roles.embedded_options())
        for name in sorted(asked.keys() - set(known)):
            raise SetupError(
                f"models.options.{role}.{name} is no option of the embedded model {model}: {spelling(name, known)}"
            )


def open_role(config: CompileConfig, role: str, ledger: Ledger | None, provider: Any = None) -> dspy.LM:
    """The LM of a role, as the run's configuration describes it; `provider` trains it, where it is embedded.

    Raises:
        SetupError: its model string is malformed, or its key is missing.
    """
    model = getattr(config.models, role)
    options: dict[str, Any] = dict(EMBEDDED_OPTIONS) if model.startswith(roles.EMBEDDED) else {}
    if provider is not None and model.startswith(roles.EMBEDDED):
        options["provider"] = provider
    options |= {"connections": config.concurrency, **config.models.options.get(role, {})}
    if not model.startswith(roles.EMBEDDED):
        for name in ("api_base", "allow_http", "max_reply_mb"):
            options.setdefault(name, getattr(config.models, name))
    return roles.lm_for(model, role=role, ledger=ledger, **options)


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
    """A retriever over an index that is in step with `documents`; None without documents.

    Args:
        folder: where the index lies; runs over the same knowledge share it, one updating it at a time.
        task: says in which wording documents of its kind answer.
        documents: all that the index is to hold.
        embedder: embeds chunks and queries.
        settings: of the retrieval.
        progress: called with (chunks embedded so far, chunks to embed).

    Raises:
        SetupError: another process has been updating the index for very long, or it cannot be opened.
    """
    if not documents:
        return None
    return Collection(folder, documents, embedder, task.wording).retriever(settings, progress)


def open_saved(
    config: CompileConfig, task: CompleteTask, *, ledger: Ledger | None = None, executor: Executor | None = None
) -> Resources:
    """What the factories of a task are given once its run is over: nothing is learned, so there are no examples.

    The student stands in the teacher's place, whom nobody asks any more. Who needs the judge's LM or the retriever
    adds it.

    Args:
        config: the run's.
        task: built with it.
        ledger: through which calls go; None makes every call anew.
        executor: runs many calls at once; by default as many as the run did.

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
        executor=executor or Executor(config.concurrency),
        seeds=(),
        held_out=(),
        words=config.words or task.words,
        seed=config.seed,
        noun=task.noun,
        abstain=task.abstain,
        steps=config.retrieval.steps,
    )
