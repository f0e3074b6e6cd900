"""MLflow as a projection of runs: parameters, scores and reports are copied there, and nothing is ever read back.

`SYNTH_DSPY_TRACK` names where: an SQLite file or URL, or the address of an MLflow server. A variable and not a setting,
so that a run's files are the same with and without it. A run is one MLflow run with a nested one for each arm. What
cannot be tracked is a warning, never an error: the records here are the source, and can be projected again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_text
from synth_dspy.core.masking import mask_message
from synth_dspy.evaluation.finished_runs import read_run
from synth_dspy.evaluation.records import ArmMeasured, ArmRecord

log = logging.getLogger("synth_dspy.pipeline.tracking")

VARIABLE = "SYNTH_DSPY_TRACK"
PREFIX = "synth_dspy."
"""Of the tags that lead from MLflow's entries back to the records."""
RUN, ARM, RESULTS = f"{PREFIX}run", f"{PREFIX}arm", f"{PREFIX}results"

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
    # A server that does not answer must not hold up a run: by default MLflow tries for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_OVERRIDDEN = {"OTEL_SDK_DISABLED": "false"}  # `models/offline.py` turns it off, and with it MLflow's traces
_SET_BY_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_LONGEST = 6_000
"""Characters of an MLflow parameter."""
_SQLITE = "sqlite:///"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Tracking:
    """An open MLflow store.

    Attributes:
        mlflow: the module.
        client: its client.
        experiment: id of the task's experiment.
        task: the task's name.
    """

    mlflow: Any
    client: Any
    experiment: str
    task: str

    def runs(self, tag: str, value: str) -> list[Any]:
        """The runs with a tag, the latest first."""
        found: list[Any] = self.client.search_runs([self.experiment], f"tags.`{tag}` = '{value}'")
        return found


def tracking_uri() -> str | None:
    """Where to, from the environment; None: nowhere."""
    return os.environ.get(VARIABLE, "").strip() or None


def track_run(folder: Path, task: str, say: Callable[[str], None] = log.warning) -> None:
    """Project a finished run to where the environment says, if it says so. Never raises.

    Args:
        folder: the run's.
        task: its task's name.
        say: gets the sentence that it could not be tracked.
    """
    uri = tracking_uri()
    if uri is not None:
        safely(uri, task, f"The run {folder.name}", lambda tracking: project_run(tracking, folder), say)


def safely(
    uri: str, task: str, what: str, project: Callable[[Tracking], _Result], say: Callable[[str], None] = log.warning
) -> _Result | None:
    """Call a projection with an open store; says why, and returns None, where it fails."""
    try:
        with open_tracking(uri, task) as tracking:
            return project(tracking)
    except Exception as error:  # whatever a library or a server thinks of
        why = str(error) if isinstance(error, SetupError) else f"{type(error).__name__}: {error}"
        first = mask_message(why).strip().splitlines()[0][:200].rstrip(".")
        say(f"{what} could not be tracked in {mask_message(uri)} ({first}). Nothing else is affected.")
        return None


@contextmanager
def open_tracking(uri: str, task: str) -> Iterator[Tracking]:
    """Open a store, and its experiment for a task.

    Args:
        uri: an SQLite file, a database URL, or a server's address.
        task: the task's name, which its experiment and registered model take.

    Raises:
        SetupError: MLflow is not installed.
        Exception: MLflow's, where the store cannot be opened.
    """
    before = {name: os.environ.get(name) for name in (*_SETTINGS, *_OVERRIDDEN, *_SET_BY_MLFLOW)}
    os.environ.update({name: value for name, value in _SETTINGS.items() if before[name] is None} | _OVERRIDDEN)
    try:
        try:
            import mlflow
        except ImportError as error:
            raise SetupError("MLflow is not installed: pip install 'synth_dspy[track]'") from error
        uris = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        uri = uri if urlsplit(uri).scheme else f"{_SQLITE}{Path(uri).expanduser().absolute()}"
        if uri.startswith(_SQLITE):
            Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        try:
            mlflow.set_tracking_uri(uri)  # of the process: traces and assessments know no other
            mlflow.set_registry_uri(uri)
            client = mlflow.MlflowClient()
            yield Tracking(mlflow, client, _experiment(client, uri, task), task)
        finally:
            mlflow.set_tracking_uri(uris[0])
            mlflow.set_registry_uri(uris[1])
    finally:
        for name, earlier in before.items():
            if earlier is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = earlier


def project_run(tracking: Tracking, folder: Path) -> dict[str, str]:
    """Copy a run; one that is there with the same results is left as it is.

    Returns:
        The id of the MLflow run of each arm.

    Raises:
        SetupError: the run is not finished.
    """
    client, name = tracking.client, folder.resolve().name
    run = read_run(folder)
    content = hashlib.sha256((folder / "results.json").read_bytes()).hexdigest()
    there = tracking.runs(RUN, name)
    arms = {each.data.tags[ARM]: each.info.run_id for each in there if ARM in each.data.tags}
    whole = [each for each in there if ARM not in each.data.tags]
    if whole and whole[0].data.tags.get(RESULTS) == content:
        return arms
    for each in there:  # a run that was killed while it was copied, or has other results since
        client.delete_run(each.info.run_id)
    began, ended = (int((folder / file).stat().st_mtime * 1000) for file in ("config.toml", "results.json"))
    verdict = str(run.results["verdict"]["headline"])
    tags = {RUN: name, f"{PREFIX}folder": str(folder.resolve()), "mlflow.note.content": verdict}
    parent = client.create_run(tracking.experiment, began, tags, name).info.run_id
    _log_params(client, parent, _flat(tomllib.loads(read_text(folder / "config.toml"))))
    _log_params(client, parent, {f"versions.{package}": v for package, v in run.results["versions"].items()})
    for file in ("report.html", "results.json", "measurements.json", "config.toml"):
        if (folder / file).is_file():
            client.log_artifact(parent, str(folder / file))
    ids = {}
    for arm in run.results["arms"]:
        tags = {RUN: name, ARM: arm["name"], "mlflow.parentRunId": parent}
        ids[arm["name"]] = one = client.create_run(tracking.experiment, began, tags, arm["name"]).info.run_id
        about = {"arm": arm["name"], "optimizer": arm["optimizer"], "description": arm["description"]}
        _log_params(client, one, about | {"failed": arm["failed"]} | _flat(dict(arm["training"] or {}), "training."))
        _log_metrics(tracking, one, _metrics(arm, run.measurements["arms"].get(arm["name"])), ended)
        if (folder / "programs" / arm["name"]).is_dir():
            client.log_artifacts(one, str(folder / "programs" / arm["name"]), "program")
        client.set_terminated(one, "FAILED" if arm["failed"] else "FINISHED", ended)
    client.set_terminated(parent, "FINISHED", ended)
    client.set_tag(parent, RESULTS, content)  # last: now it is whole
    return ids


def _experiment(client: Any, uri: str, task: str) -> str:
    experiment = client.get_experiment_by_name(task)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = None  # a server knows where its artefacts lie; MLflow would put a file's into the current folder
    if uri.startswith(_SQLITE):
        location = (Path(uri.removeprefix(_SQLITE)).absolute().parent / "mlflow-artifacts" / task).as_uri()
    return str(client.create_experiment(task, location))


def _metrics(arm: ArmRecord, measured: ArmMeasured | None) -> dict[str, float]:
    values: dict[str, Any] = {"n": arm["n"], "errors": arm["errors"]}
    kinds = {**arm["scores"], **arm["further"], **({"corrected": arm["corrected"]} if "corrected" in arm else {})}
    for score, figures in kinds.items():
        values |= {score: figures["mean"], f"{score}.low": figures["low"], f"{score}.high": figures["high"]}
    values |= {f"tokens.{kind}": n for kind, n in arm["tokens"].items()}
    if measured is not None:
        values |= {name: value for name, value in measured.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in values.items() if value is not None}


def _log_params(client: Any, run: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            client.log_param(run, _key(name), str(value)[:_LONGEST])


def _log_metrics(tracking: Tracking, run: str, values: Mapping[str, float], at: int) -> None:
    metric = tracking.mlflow.entities.Metric
    tracking.client.log_batch(run, [metric(_key(name), value, at, 0) for name, value in values.items()])


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _key(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w. /-]", "_", name)[:250]
