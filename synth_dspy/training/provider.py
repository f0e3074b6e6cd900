"""Fine-tuning of local models through DSPy's own interface: `lm.finetune(...)` returns a job whose result is an LM.

    lm = roles.lm_for("embedded/smollm2-135m-instruct", role="student", provider=LocalProvider())
    tuned = lm.finetune(rows, None, {"method": "sft", "epochs": 2}).result()      # a dspy.LM, ready in any program

`dspy.BootstrapFinetune` and `dspy.BetterTogether` work with it unchanged. A training's folder is named by its
fingerprint, so the same training is not repeated. Tuning a tuned model starts from the original base and its adapters,
so nothing is quantised twice.

With `gguf = "none"` the adapter is not merged: vLLM serves it, and the tuned LM is `openai/<name>` at its address.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dspy.clients.provider import Provider, TrainingJob
from dspy.clients.utils_finetune import TrainingStatus
from pydantic import ValidationError

from synth_dspy.core.budget import UNLIMITED
from synth_dspy.core.config import METHODS
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.training_facts import TrainingFacts
from synth_dspy.core.validation import describe_error
from synth_dspy.models.cluster.cluster import Cluster
from synth_dspy.models.weights.trained import CONCATENATED, MERGED, SPEC, TUNED, WHOLE, read_result
from synth_dspy.training.adapters import CONFIG
from synth_dspy.training.full import model_of
from synth_dspy.training.job import Cancelled, Progress, Training, TrainingProcess
from synth_dspy.training.reward_server import serving
from synth_dspy.training.spec import ADAPTER, TrainSpec, read_spec
from synth_dspy.training.unmerged import PARITY, SERVED, serve, with_server_engine
from synth_dspy.training.vllm import executable, servers

log = logging.getLogger("synth_dspy.training")

PREFIX = "embedded/"
COUNTS = "counts.json"
FOLLOWS = frozenset({"adapters", "model", "rows"})
"""Fields of a spec that follow from the LM and the rows."""
Row = Mapping[str, Any]


class LocalTrainingJob(TrainingJob):
    """A training in a child process, or elsewhere. `result()` returns the tuned LM, or raises the error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.process: Training | None = None
        self.folder: Path | None = None
        self.cancelled = False

    def set_result(self, result: Any) -> None:
        """DSPy passes a failure as a result; here `result()` raises it."""
        if isinstance(result, BaseException):
            self.set_exception(result)
        else:
            super().set_result(with_server_engine(result))

    def cancel(self) -> bool:
        """Stop the training; its checkpoints stay, and the same training resumes from them."""
        self.cancelled = True
        return self.process is None or self.process.cancel() or not self.done()

    def begin(self, folder: Path, start: Callable[[Path], Training]) -> Training:
        """The training of `folder`, which `start` makes.

        Raises:
            Cancelled: the job was cancelled before.
        """
        self.folder, self.process = folder, start(folder)
        if self.cancelled:
            raise Cancelled(f"The training {folder.name} was cancelled before it began.")
        return self.process

    def status(self) -> TrainingStatus:
        """The job's status: pending, running, succeeded, failed or cancelled."""
        if self.done():
            error = self.exception()
            if error is None:
                return TrainingStatus.succeeded
            return TrainingStatus.cancelled if isinstance(error, Cancelled) else TrainingStatus.failed
        return TrainingStatus.pending if self.process is None else TrainingStatus.running


class LocalProvider(Provider):
    """Trains embedded models, by default on this machine.

    Args:
        folder: the folder for trainings, one subfolder each; by default in the cache.
        progress: called with (steps done, steps in all) of the running training.
        settings: `TrainSpec` fields for every training, overridden by those of a call.
        start: makes the training of a folder; by default in a process of this machine.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        progress: Progress | None = None,
        settings: Mapping[str, Any] | None = None,
        start: Callable[[Path], Training] = TrainingProcess,
    ) -> None:
        super().__init__()
        self.finetunable = True
        self.TrainingJob = LocalTrainingJob
        self.folder = folder
        self.progress = progress
        self.budget = UNLIMITED
        """A training stops where its time is up."""
        self.settings = dict(settings or {})
        self.cluster: Cluster | None = None
        """Where trainings run that nothing else was said of; None: on this machine."""
        self._folders: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self.start = start

    def __deepcopy__(self, memo: dict[int, Any]) -> LocalProvider:
        return self  # copies of an LM share it

    @staticmethod
    def is_provider_model(model: str) -> bool:
        return model.startswith(PREFIX)

    @staticmethod
    def kill(lm: Any, launch_kwargs: dict[str, Any] | None = None) -> None:
        """Free the model's memory; the next call loads it again."""
        from synth_dspy.models.embedded.pool import pool

        if lm.model.startswith(PREFIX):  # vLLM stops by itself while something is trained
            pool().unload(lm.model.removeprefix(PREFIX))

    def finetune(  # static in DSPy, but called on the instance
        self,
        job: LocalTrainingJob,
        model: str,
        train_data: Sequence[Row],
        train_data_format: Any,
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Train, merge and check a model.

        Args:
            job: receives the process, so that it can be cancelled.
            model: `embedded/<name or path>`, possibly the result of an earlier training.
            train_data: rows as described at `TrainSpec.rows`, or DSPy's chat rows (`messages`, the reply last).
            train_data_format: DSPy's name of the format; ignored, as it follows from the rows.
            train_kwargs: `method` and other `TrainSpec` fields; `dev` and `prompts` as lists of rows; `counts`, the
                counts of rows for the report; `scorer`, the reward of replies where `reward` is `judge`.

        Returns:
            The model string of the tuned model.

        Raises:
            ArmError: the training or the parity check failed.
            SetupError: a setting does not exist, or the model cannot be trained here.
        """
        from synth_dspy.models.embedded.pool import pool

        options = {**self.settings, **(train_kwargs or {})}
        scorer = options.pop("scorer", None)
        if scorer is not None and not self.is_local:
            raise ArmError(
                "The judge that rewards this training runs here, which the machines that train cannot reach: train it "
                "on this machine, or set reward to a function of the workspace as module:function."
            )
        folder = prepare(self.home(), model, train_data, options)
        process = job.begin(folder, self._start)
        if self.is_local and read_result(folder) is None:
            pool().close()  # frees memory and cores for the training; a concurrent call reloads its model
            servers().stop()
        try:
            # Two arms that run side by side may need the same training.
            with self._folders[folder], serving(scorer, folder), _stopping(process, self.budget.remaining_s):
                process.run(self.progress)
            if read_spec(folder / SPEC).gguf != "none":
                return f"{PREFIX}{_tuned(folder)}"
            return serve(folder, waiting=self.progress, cancelled=lambda: job.cancelled)
        finally:
            if not job.cancelled:
                servers().resume(waiting=self.progress)

    @property
    def is_local(self) -> bool:
        """Whether trainings run on this machine, and need its memory and cores."""
        return self._start is TrainingProcess

    @property
    def _start(self) -> Callable[[Path], Training]:
        if self.cluster is None or self.start is not TrainingProcess:
            return self.start
        return partial(TrainingProcess, cluster=self.cluster)

    def home(self) -> Path:
        """The folder for trainings."""
        if self.folder is not None:
            return self.folder
        from synth_dspy.core.cache import cache_home

        return cache_home() / "adapters"


@contextmanager
def _stopping(process: Training, seconds: float | None) -> Iterator[None]:
    """Cancel a training after so many seconds; its last checkpoint stays."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, process.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def prepare(home: Path, model: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> Path:
    """Create a training's folder, unless the same training has one already.

    Returns:
        `<home>/<method>-<fingerprint>`, which holds spec.json, rows.jsonl and the other files of the spec.
    """
    options = dict(settings)
    if given := sorted(FOLLOWS & options.keys()):
        raise SetupError(f"The training setting {given[0]} follows from the LM and the rows: leave it out.")
    counts = options.pop("counts", None)
    method = options.setdefault("method", "sft")
    if method not in METHODS:
        raise SetupError(f"There is no training method {method!r}; the methods are {', '.join(METHODS)}.")
    if not rows:
        dropped = ", ".join(f"{count} {why}" for why, count in ((counts or {}).get("dropped") or {}).items())
        raise ArmError(f"There are no rows to train on with {method}{f' (dropped: {dropped})' if dropped else ''}.")
    if options.get("gguf") == "none":
        executable()  # only vLLM serves an unmerged adapter
    base, adapters = origin(model)
    earlier = training_of(model)
    if earlier is not None and (marker := read_spec(earlier / SPEC).call_token) is not None:
        options.setdefault("call_token", marker)
    home.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=home))  # private
    if home.stat().st_mode & 0o077 == 0o050:  # the run is shared with the group
        new.chmod(0o750)
    try:
        for name, values in (
            ("rows", rows),
            ("dev", options.pop("dev", None)),
            ("prompts", options.pop("prompts", None)),
        ):
            if values:
                _write_jsonl(new / f"{name}.jsonl", [_row(value, number) for number, value in enumerate(values)])
                options[name] = Path(f"{name}.jsonl")
        # Paths of earlier trainings are relative to the spec's final folder.
        options["adapters"] = tuple(Path(os.path.relpath(adapter, home / "x")) for adapter in adapters)
        if Path(base).name == WHOLE and Path(base).resolve().is_relative_to(home.resolve()):
            base = os.path.relpath(base, home / "x")
        try:
            spec = TrainSpec(model=base, **options)
        except ValidationError as error:
            raise SetupError(f"Of the training settings, {describe_error(error, TrainSpec, hidden=FOLLOWS)}") from error
        (new / SPEC).write_text(spec.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
        if counts is not None:
            (new / COUNTS).write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        folder = home / f"{method}-{read_spec(new / SPEC).fingerprint()}"
        if not (folder / SPEC).exists():
            new.replace(folder)
        return folder
    except OSError as error:
        raise SetupError(f"Could not write the training data in {home}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _tuned(folder: Path) -> Path:
    """What is served of a finished training: a merged file, adapters in one, all weights, or the adapter."""
    parts = (MERGED, CONCATENATED, WHOLE)
    return next((folder / name for name in parts if (folder / name).exists()), folder / ADAPTER)


def has_weights(model: str) -> bool:
    """Whether a model has local weights: it is embedded, or was trained here."""
    return model.startswith(PREFIX) or training_of(model) is not None


def origin(model: str) -> tuple[str, tuple[Path, ...]]:
    """The base of a model, and the adapters of its training if it was trained here.

    Raises:
        SetupError: the model is hosted.
    """
    folder = training_of(model)
    if folder is not None:
        return model_of(folder)
    if not model.startswith(PREFIX):
        raise SetupError(
            f"Only embedded models are trained here, and the student is {model}: name embedded/<name or path>."
        )
    name = model.removeprefix(PREFIX)
    path = Path(name)
    return (str(path.expanduser().resolve()) if path.exists() else name), ()


def training_of(model: str) -> Path | None:
    """The folder of the training that produced a model, or None."""
    weights = weights_of(model)
    return weights.parent if weights is not None and (weights.parent / SPEC).is_file() else None


def weights_of(model: str) -> Path | None:
    """The tuned weights of a model, or None: its merged file, or the adapter served on its base.

    A merged file lies beside the specification of its training, or, if that was elsewhere, beside its adapter.
    """
    if model.startswith(SERVED):
        served_model = servers().where(model.removeprefix(SERVED))
        path = None if served_model is None else served_model[1]
    else:
        path = Path(model.removeprefix(PREFIX))
        path = path if path.name in TUNED else None
    if path is None or not ((path.parent / SPEC).is_file() or (path.parent / ADAPTER / CONFIG).is_file()):
        return None
    return path


def tuned_lm(lm: Any, weights: Path) -> Any:
    """A copy of `lm` with tuned weights as returned by `weights_of`; vLLM is started for an adapter.

    Raises:
        SetupError: vLLM does not start.
    """
    if weights.is_file() or read_spec(weights.parent / SPEC).gguf != "none":
        return lm.copy(model=f"{PREFIX}{weights}")
    return with_server_engine(lm.copy(model=serve(weights.parent)))


def trained_sources(folder: Path) -> frozenset[str]:
    """Ids of the examples whose rows a finished training was trained on, within its time limit."""
    spec, result = read_spec(folder / SPEC), read_result(folder) or {}
    lines = [line for line in spec.rows.read_text(encoding="utf-8").split("\n") if line]
    if spec.method != "cpt":  # whose result counts blocks
        lines = lines[: result.get("rows", len(lines))]
    # This may include a few rows that were too long, which does no harm.
    return frozenset(str(json.loads(line).get("source")) for line in lines)


def training_facts(folder: Path) -> TrainingFacts:
    """The facts for the report about the finished training in a folder."""
    result = read_result(folder) or {}
    counts = folder / COUNTS
    spec = read_spec(folder / SPEC)
    parity = folder / PARITY
    if parity.is_file():
        result["parity"] = json.loads(parity.read_text(encoding="utf-8"))
    return TrainingFacts.of(
        {
            **result,
            "trained_rows": result.get("rows"),  # the counts below include rows beyond the time limit
            "minutes": spec.minutes,
            "method": spec.method,
            "learning_rate": spec.learning_rate,
            "rank": spec.lora.rank or None,
            "reward": spec.reward,
            "adapters": [adapter.parent.name for adapter in spec.adapters],
            **(json.loads(counts.read_text(encoding="utf-8")) if counts.is_file() else {}),
        }
    )


def _row(row: Row, number: int) -> dict[str, Any]:
    if "messages" not in row:
        return dict(row)
    messages = list(row["messages"])
    if not messages or messages[-1]["role"] != "assistant":
        raise ArmError(f"Training row {number + 1} does not end with the assistant's reply.")
    return {"id": f"row-{number}", "source": "", "prompt": messages[:-1], "completion": messages[-1:]}


def _write_jsonl(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
