"""MLflow as a projection of the loop: registered versions with their aliases, requests as traces, feedback on them.

    registered model <task>     its version tagged `synth_dspy.version` is ours of that id; same aliases
    traces                      one for each request, tagged with its id and version; feedback as assessments

What is deleted from the store is deleted there too, at the next projection. Requests that only the retention forgot are
not: MLflow has a retention of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from synth_dspy.loop.records import Alias, AliasMove, Deletion, Feedback, Request, Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store, now
from synth_dspy.pipeline.tracking import PREFIX, Tracking, project_run, safely, tracking_uri

log = logging.getLogger("synth_dspy.loop.mlflow")

VERSION, REQUEST, FEEDBACK, PROJECTED = (f"{PREFIX}{name}" for name in ("version", "request", "feedback", "projected"))
OVERLAP = timedelta(minutes=10)
"""Records are stamped before they are committed, so the last minutes are looked at again."""


def track_store(store: Store, say: Callable[[str], None] = log.warning) -> dict[str, int] | None:
    """Project what is new to where the environment says, if it says so. Never raises.

    Args:
        store: of the task.
        say: gets the sentence that it could not be tracked.

    Returns:
        How many versions, traces and assessments were added, and traces and assessments deleted; None where nothing is
        tracked, or it failed.
    """
    uri = tracking_uri()
    if uri is None:
        return None
    return safely(uri, store.task, f"The loop of {store.task}", lambda tracking: project_store(tracking, store), say)


def project_store(tracking: Tracking, store: Store) -> dict[str, int]:
    """Copy versions, aliases, requests and feedback that are new, and delete what was deleted.

    Args:
        tracking: open.
        store: of the task.
    """
    began = now()
    tags = tracking.client.get_experiment(tracking.experiment).tags
    since = datetime.fromisoformat(tags[PROJECTED]) - OVERLAP if PROJECTED in tags else None
    counts = {
        "versions": _versions(tracking, Registry(store)),
        "traces": _requests(tracking, store, since),
        "assessments": _feedback(tracking, store, since),
        "deleted": _deletions(tracking, store, since),
    }
    tracking.client.set_experiment_tag(tracking.experiment, PROJECTED, began.isoformat())
    return counts


def _versions(tracking: Tracking, registry: Registry) -> int:
    client, name = tracking.client, tracking.task
    versions = registry.versions()
    if not versions:
        return 0
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    there = {
        each.tags[VERSION]: each.version
        for each in client.search_model_versions(f"name = '{name}'")
        if VERSION in each.tags
    }
    new = [version for version in versions if version.id not in there]
    for version in new:
        run, folder = _arm(tracking, version), Path(version.run) / "programs" / version.arm
        source = folder.as_uri() if run is None else f"runs:/{run}/program"
        made = client.create_model_version(name, source, run, tags=_lineage(version), await_creation_for=0)
        there[version.id] = made.version
    for alias in get_args(Alias):
        moves = registry.store.read(AliasMove, alias=alias, last=1)
        if not moves:
            continue
        if moves[0].version is None:
            client.delete_registered_model_alias(name, alias)
            continue
        client.set_registered_model_alias(name, alias, there[moves[0].version])
        why = f"{moves[0].at:%Y-%m-%d %H:%M:%SZ}, {moves[0].by}: {moves[0].reason}"
        client.set_model_version_tag(name, there[moves[0].version], f"{PREFIX}{alias}", why)
    return len(new)


def _arm(tracking: Tracking, version: Version) -> str | None:
    """The MLflow run of a version's arm; None where its run is gone."""
    folder = Path(version.run)
    return project_run(tracking, folder).get(version.arm) if (folder / "results.json").is_file() else None


def _lineage(version: Version) -> dict[str, str]:
    fields = ("run", "arm", "parent", "program", "weights", "note")
    return {
        VERSION: version.id,
        **{f"{PREFIX}{name}": str(value) for name in fields if (value := getattr(version, name))},
        f"{PREFIX}created": version.created.isoformat(),
        f"{PREFIX}data": json.dumps(dict(version.data), sort_keys=True),
        f"{PREFIX}seeds": json.dumps(dict(version.seeds), sort_keys=True),
    }


def _requests(tracking: Tracking, store: Store, since: datetime | None) -> int:
    requests = store.read(Request, since=since)
    if not requests:
        return 0
    recent = None if since is None else f"timestamp_ms >= {min(_ms(_start(request)) for request in requests)}"
    there = {trace.info.tags[REQUEST] for trace in _traces(tracking, recent)}
    new = [request for request in requests if request.id not in there]
    for request in new:
        _add_trace(tracking, request)
    tracking.mlflow.flush_trace_async_logging()  # they are sent in batches, to wherever MLflow is set to by then
    return len(new)


def _start(request: Request) -> datetime:
    return request.at - timedelta(seconds=request.latency_s)


def _add_trace(tracking: Tracking, request: Request) -> None:
    start = int(_start(request).timestamp() * 1e9)
    tokens = {"input_tokens": request.prompt_tokens, "output_tokens": request.completion_tokens}
    attributes = {
        "mlflow.chat.tokenUsage": tokens | {"total_tokens": sum(tokens.values())},
        "cost_usd": request.cost_usd,
        "person": request.person,
        "error": request.error,
    }
    span = tracking.client.start_trace(
        "answer",
        inputs=dict(request.inputs),
        attributes={name: value for name, value in attributes.items() if value is not None},
        tags={REQUEST: request.id, VERSION: request.version, f"{PREFIX}route": request.route},
        experiment_id=tracking.experiment,
        start_time_ns=start,
    )
    tracking.client.end_trace(
        span.trace_id,
        outputs={"answer": request.answer, "abstained": request.abstained, "passages": list(request.passages)},
        status="OK" if request.error is None else "ERROR",
        end_time_ns=start + int(request.latency_s * 1e9),
    )


def _feedback(tracking: Tracking, store: Store, since: datetime | None) -> int:
    added = 0
    for record in store.read(Feedback, since=since):
        trace = next(iter(_traces(tracking, f"tags.`{REQUEST}` = '{record.request}'")), None)
        if trace is None or _tag(record.id) in trace.info.tags:
            continue
        source = tracking.mlflow.entities.AssessmentSource(
            "HUMAN" if record.source == "person" else "LLM_JUDGE", record.rater or "anonymous"
        )
        kept: dict[str, Any] = {"trace_id": trace.info.trace_id, "source": source, "metadata": {FEEDBACK: record.id}}
        if record.opinion.kind == "correction":
            tracking.mlflow.log_expectation(name="expected_response", value=record.value, **kept)
        else:
            tracking.mlflow.log_feedback(name=record.kind, value=record.value, **kept)
        tracking.client.set_trace_tag(trace.info.trace_id, _tag(record.id), "1")
        added += 1
    return added


def _deletions(tracking: Tracking, store: Store, since: datetime | None) -> int:
    deleted = 0
    for deletion in store.read(Deletion, since=since):
        for request in deletion.requests:
            gone = [trace.info.trace_id for trace in _traces(tracking, f"tags.`{REQUEST}` = '{request}'")]
            if gone:
                deleted += tracking.client.delete_traces(tracking.experiment, trace_ids=gone)
        for feedback in deletion.feedback:
            for trace in _traces(tracking, f"tags.`{_tag(feedback)}` = '1'"):
                for assessment in trace.info.assessments:
                    if (assessment.metadata or {}).get(FEEDBACK) == feedback:
                        tracking.mlflow.delete_assessment(trace.info.trace_id, assessment.assessment_id)
                        deleted += 1
                tracking.client.delete_trace_tag(trace.info.trace_id, _tag(feedback))
    return deleted


def _traces(tracking: Tracking, wanted: str | None) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = tracking.client.search_traces(
            locations=[tracking.experiment],
            filter_string=wanted,
            max_results=500,
            page_token=token,
            include_spans=False,
        )
        found += [trace for trace in page if REQUEST in trace.info.tags]
        token = page.token
        if not token:
            return found


def _tag(feedback: str) -> str:
    return f"{FEEDBACK}.{feedback}"


def _ms(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp() * 1000)
