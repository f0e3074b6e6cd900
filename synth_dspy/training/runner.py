"""Runs a training from its spec to an adapter, a merged model and a parity check; it can be killed at any point.

    rows -> tokens -> base model -> (reference) -> training -> adapter/ -> model.gguf -> parity -> result.json

`result.json` is written last: a folder that holds one is complete. Otherwise the training resumes from its last
checkpoint and ends with the same adapter.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import shutil
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.memory import available_memory
from synth_dspy.core.versions import versions
from synth_dspy.models.embedded.precision import precision
from synth_dspy.models.weights.cache import publish
from synth_dspy.models.weights.trained import CONCATENATED, MERGED, RESULT, WHOLE
from synth_dspy.training.call_token import CallToken
from synth_dspy.training.checkpoints import (
    last_checkpoint,
    load_best,
    read_best,
    write_json,
)
from synth_dspy.training.data import TokenRows, read_prompts, read_rows, tokenize
from synth_dspy.training.events import Emit
from synth_dspy.training.failures import as_user_error
from synth_dspy.training.frozen import frozen_in_bf16
from synth_dspy.training.full import set_trained_weights
from synth_dspy.training.reward_server import JudgeReward
from synth_dspy.training.spec import ADAPTER, ENGINE, ONLINE, PLAN, PROMPTS, TrainSpec, read_spec

if TYPE_CHECKING:
    from synth_dspy.training.estimate import Estimate

CHECKPOINTS = "checkpoints"
_LEAST_PROMPTS = 8
_BEGINNING = 400
WAIT_S = 20.0
"""How long to wait for another process that is finishing the same training."""


def train(path: Path, emit: Emit, *, dry_run: bool = False) -> dict[str, Any]:
    """Run the training that a spec file describes, in the spec's folder; see `events` for what is emitted.

    Returns:
        The content of result.json; with `dry_run`, the estimate.

    Raises:
        SetupError: the spec or its rows are invalid, or another process trains in the folder.
        ArmError: the training or the parity check failed.
    """
    from synth_dspy.core.io.locks import lock_file

    spec = read_spec(path)
    folder = path.resolve().parent
    try:
        if dry_run:
            return _Training(spec, folder, emit).run(dry_run)
        lock = lock_file(folder / ".lock", wait_s=WAIT_S)
        if lock is None:
            raise SetupError(f"Another process trains in {folder}: wait until it ends, or stop it.")
        try:
            return _previous_result(spec, folder) or _Training(spec, folder, emit).run(dry_run)
        finally:
            os.close(lock)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        failure = as_user_error(error, spec, folder)
        if failure is None:
            raise
        raise failure from error


class _Training:
    """One run of a spec; holds the state that its steps share."""

    def __init__(self, spec: TrainSpec, folder: Path, emit: Emit) -> None:
        self.spec = spec
        self.written = spec
        """As in the file, whose `auto` stands for what this machine has room for."""
        self.folder = folder
        self.emit = emit
        self.checkpoints = folder / CHECKPOINTS
        self.token: CallToken | None = None

    def run(self, dry_run: bool) -> dict[str, Any]:
        spec = self.spec
        rows = read_rows(spec.rows, spec.method)
        dev = read_rows(spec.dev, spec.method) if spec.dev is not None and spec.method not in ONLINE else []
        held_out = read_prompts(spec.prompts)[:PROMPTS] if spec.prompts is not None else []
        prompts = _pad_prompts(held_out, [_prompt_of(row) for row in rows])
        reward = _reward(spec, self.folder) if spec.method in ONLINE else None

        import torch
        from transformers import set_seed

        from synth_dspy.training.base import load_base, load_tokenizer
        from synth_dspy.training.estimate import estimate
        from synth_dspy.training.savers import attention, uses_liger

        begin_peak()
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        set_seed(spec.seed)
        bf16 = uses_bf16(spec)
        uses_liger(spec)  # refuses what cannot be had before the model is loaded
        if spec.full or "auto" in (spec.quantize, spec.gradient_checkpointing, spec.optimizer):
            spec = self.spec = self._resolved(spec, self._tokens(rows, load_tokenizer(spec.model)), bf16)
        model, tokenizer = load_base(
            spec.model,
            # On a CPU the weights stay in fp32, and autocast computes in bf16: faster than bf16 weights.
            precision="bf16" if bf16 and torch.cuda.is_available() and not spec.full else "fp32",
            quantize=spec.quantize is True,
            adapters=spec.adapters,
            attention=attention(spec, bf16=bf16),
        )
        patch_kernels(spec, model)
        tokenizer = self._marked(model, tokenizer)
        every_row = self._tokens(rows, tokenizer)
        dev_rows = self._tokens(dev, tokenizer) if dev else None
        whole = estimate(spec, every_row, model, bf16=bf16)
        if not dry_run:
            _prepare_checkpoints(self.checkpoints, _fingerprint(self.written))
        plan = self._plan(whole, len(every_row.rows), keep=not dry_run)
        train_rows = every_row.first(plan["rows"])
        expected = {
            **(whole if train_rows is every_row else estimate(spec, train_rows, model, bf16=bf16)).asdict(),
            "available": plan["available"],
            "all_rows_s": plan["all_rows_s"],
        }
        if dry_run:
            return expected
        self.emit({"event": "started", **expected})

        from synth_dspy.training.trainers import build
        from synth_dspy.training.trainers.watch import SAVE_S, Watch

        trainer = build(spec, model, tokenizer, train_rows, dev_rows, folder=self.checkpoints, bf16=bf16, reward=reward)
        trainer.add_callback(
            Watch(
                trainer,
                self.emit,
                method=spec.method,
                folder=self.checkpoints,
                patience=spec.patience,
                save_s=None if spec.full else SAVE_S,
            )
        )
        last = last_checkpoint(self.checkpoints)
        with frozen_in_bf16(trainer.model, spec, bf16=bf16):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        result = self._result(trainer, train_rows, bf16) | {key: plan[key] for key in ("available", "all_rows_s")}
        trained = trainer.model
        if (best := read_best(self.checkpoints)) is not None:
            result |= {"dev_loss": best.loss, "best_step": best.step, "dev_accuracy": best.accuracy}
            set_trained_weights(trained, load_best(self.checkpoints))
        self._save(trained, tokenizer)
        trainer.accelerator.free_memory()
        del trainer
        if spec.quantize:
            # What is served is the 16-bit base with the adapter, so compare with that; one model in memory at a time.
            del model, trained
            release()
            trained = self._merged()
        release()  # memory for the served model, which the parity check loads next
        failed = None
        # A short training gets a short check: its weights are compared in any case.
        prompts = prompts[: max(_LEAST_PROMPTS, len(train_rows.rows))]
        if spec.gguf != "none":
            result["parity"], failed = self._serve(trained, tokenizer, prompts)
            result["parity"]["held_out"] = min(len(held_out), len(prompts))
        else:
            from synth_dspy.training.unmerged import REPLIES, write_replies

            # vLLM is compared with these replies once this process has released the GPU.
            write_replies(self.folder / REPLIES, trained.eval(), tokenizer, prompts, max_tokens=spec.completion_tokens)
        result |= _peak()
        if failed is not None:
            result["failed"] = failed
        write_json(self.folder / RESULT, result)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        if failed is not None:
            raise ArmError(failed)
        return result

    def _resolved(self, spec: TrainSpec, rows: TokenRows, bf16: bool) -> TrainSpec:
        """The spec for this machine: what saves memory is decided before any weights are loaded."""
        from transformers import AutoConfig

        from synth_dspy.training.base import base_folder
        from synth_dspy.training.estimate import largest
        from synth_dspy.training.full import check_room
        from synth_dspy.training.memory import Shape, memory
        from synth_dspy.training.savers import free_memory, resolve_savers

        tokens, predicted = largest(spec, rows.groups)
        config = AutoConfig.from_pretrained(base_folder(spec.model), local_files_only=True)
        gpu = free_memory()
        resolved = resolve_savers(spec, config, tokens=tokens, predicted=predicted, bf16=bf16, free=gpu)
        if spec.full:
            device = "cpu" if gpu is None else "cuda"
            need = memory(
                resolved, Shape.of(spec, config), tokens=tokens, predicted=predicted, bf16=bf16, device=device
            )
            check_room(spec, need, free=available_memory() if gpu is None else gpu, device=device)
        return resolved

    def _plan(self, whole: Estimate, rows: int, *, keep: bool) -> dict[str, Any]:
        """How many rows to train on within the time limit: `rows`, `available`, `all_rows_s`."""
        path = self.checkpoints / PLAN
        with suppress(OSError, ValueError):
            plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return plan
        fitting = rows
        if self.spec.minutes is not None and whole.estimate_s > 60 * self.spec.minutes:
            fitting = max(min(rows, self.spec.batch), int(rows * 60 * self.spec.minutes / whole.estimate_s))
        plan = {"rows": fitting, "available": rows, "all_rows_s": whole.estimate_s}
        if keep:
            write_json(path, plan)
        return plan

    def _marked(self, model: Any, tokenizer: Any) -> Any:
        """The tokeniser with the call token; also sets the token's row in the model."""
        if self.spec.call_token is None:
            return tokenizer
        from synth_dspy.training.call_token import find, renamed, set_rows

        self.token = find(tokenizer, self.spec.call_token, model.get_input_embeddings().num_embeddings)
        if self.token.replaces is not None and (self.spec.gguf == "none" or self._unmerged()):
            raise SetupError(
                f"{self.spec.model} has no token {self.token.text!r}, and its base is served unchanged: set call_token "
                "to one that the model has."
            )
        set_rows(model, self.token)
        return renamed(tokenizer, self.token)

    def _tokens(self, rows: list[dict[str, Any]], tokenizer: Any) -> TokenRows:
        spec = self.spec
        sampled = spec.completion_tokens if spec.method in ONLINE else 0
        return tokenize(rows, spec.method, tokenizer, max_tokens=spec.max_tokens, sampled=sampled)

    def _result(self, trainer: Any, rows: TokenRows, bf16: bool) -> dict[str, Any]:
        import torch

        state = trainer.state
        steps = [entry for entry in state.log_history if "loss" in entry]
        curve = [[entry["step"], entry["loss"]] for entry in steps]
        tenth = max(1, len(curve) // 10)  # a single step may be a single row, which says little
        seconds = steps[-1]["seconds"]
        extra = [name for name in ("accuracy", "margin", "divergence", "reward") if name in steps[-1]]
        return {
            "fingerprint": _fingerprint(self.written),
            "method": self.spec.method,
            "rows": len(rows.rows),
            "left_out": rows.left_out,
            "tokens": trainer.tokens,
            "steps": state.global_step,
            "epochs": round(state.epoch, 4),
            "loss": {"first": _mean(curve[:tenth]), "last": _mean(curve[-tenth:]), "curve": curve},
            "dev_loss": None,
            **{name: steps[-1][name] for name in extra},
            "seconds": round(seconds, 3),
            "tokens_per_second": round(trainer.tokens / seconds, 1),
            "parity": None,
            "stopped": "early" if state.global_step < state.max_steps else "finished",
            "precision": "bf16" if bf16 else "fp32",
            "savers": {name: getattr(self.spec, name) for name in ("quantize", "gradient_checkpointing", "optimizer")},
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "versions": {**versions(), **_library_versions()},
        }

    def _save(self, trained: Any, tokenizer: Any) -> None:
        from synth_dspy.training.adapters import record_base
        from synth_dspy.training.base import base_folder
        from synth_dspy.training.full import write_folder

        if self.spec.full:
            changed = self.token is not None and self.token.replaces is not None
            write_folder(trained, tokenizer if changed else None, base_folder(self.spec.model), self.folder / WHOLE)
            return
        with publish(self.folder / ADAPTER) as part:
            trained.save_pretrained(part, save_embedding_layers=False)
            (part / "README.md").unlink(missing_ok=True)  # PEFT's template
            record_base(part, trained)

    def _merged(self) -> Any:
        from peft import PeftModel

        from synth_dspy.training.base import load_base

        model, tokenizer = load_base(self.spec.model, precision="bf16", adapters=self.spec.adapters)
        self._marked(model, tokenizer)
        return PeftModel.from_pretrained(model, self.folder / ADAPTER).eval()

    def _unmerged(self) -> bool:
        """Whether the tuned model is served as an adapter on its base, by the engine that serves the base."""
        from synth_dspy.models.embedded.backend import engine_of
        from synth_dspy.models.weights.registry import resolve

        return engine_of(resolve(self.spec.model)) == "transformers"

    def _serve(self, trained: Any, tokenizer: Any, prompts: list[Any]) -> tuple[dict[str, Any], str | None]:
        """Merge, and compare the served with the trained model: (facts about parity, the failure or None)."""
        from synth_dspy.models.weights.hf_folder import write_gguf
        from synth_dspy.training.merge import merge, write_modelfile
        from synth_dspy.training.parity import check_parity, explain_failure

        spec, target = self.spec, self.folder / MERGED
        assert spec.gguf != "none"
        kinds: list[Literal["Q8_0", "F16"]] = [spec.gguf] if spec.gguf == "F16" else ["Q8_0", "F16"]
        facts: dict[str, Any] = {}
        failure = None
        if spec.full:
            whole = self.folder / WHOLE
            if not self._unmerged():
                with publish(target) as part:
                    write_gguf(whole, part)
                write_modelfile(target)
                whole = target
            parity = check_parity(trained.eval(), tokenizer, whole, prompts, max_tokens=spec.completion_tokens)
            return {**parity.asdict(), "gguf": "F16"}, explain_failure(parity, spec)
        if self._unmerged():
            from synth_dspy.training.unmerged import concatenate_adapters

            adapter = concatenate_adapters([*spec.adapters, self.folder / ADAPTER], self.folder / CONCATENATED)
            parity = check_parity(trained.eval(), tokenizer, adapter, prompts, max_tokens=spec.completion_tokens)
            return {**parity.asdict(), "gguf": "none"}, explain_failure(parity, spec)
        for kind in kinds:  # fall back to 16 bits if 8 bits change too many answers
            merge(spec.model, [*spec.adapters, self.folder / ADAPTER], target, kind, token=self.token)
            write_modelfile(target)
            parity = check_parity(trained.eval(), tokenizer, target, prompts, max_tokens=spec.completion_tokens)
            facts = {**parity.asdict(), "gguf": kind, "before": facts or None}
            failure = explain_failure(parity, spec)
            if failure is None:
                break
        return facts, failure


def _pad_prompts(prompts: list[Any], training_prompts: list[Any]) -> list[Any]:
    """Held-out prompts, padded to `PROMPTS` with distinct training prompts."""
    padded = list(prompts)
    for prompt in training_prompts:
        if len(padded) >= PROMPTS:
            break
        if prompt not in padded:
            padded.append(prompt)
    return padded


def _prompt_of(row: dict[str, Any]) -> Any:
    """A row's prompt; of a text, its beginning."""
    return row["prompt"] if "prompt" in row else [{"role": "user", "content": row["text"][:_BEGINNING]}]


def uses_bf16(spec: TrainSpec) -> bool:
    """Whether a training computes in bfloat16: as set, or by the machine's default."""
    if spec.precision != "auto":
        return spec.precision == "bf16"
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return precision() == "bf16"


def _previous_result(spec: TrainSpec, folder: Path) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if result.get("fingerprint") != _fingerprint(spec):
        raise SetupError(
            f"{folder} holds the result of other settings or rows, or of another version of synth_dspy: train in "
            f"another folder, or remove its {RESULT}."
        )
    if result.get("failed"):
        raise ArmError(str(result["failed"]))
    return result


def _fingerprint(spec: TrainSpec) -> str:
    try:
        return spec.fingerprint()
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}; check the spec's paths.") from error


def _prepare_checkpoints(checkpoints: Path, fingerprint: str) -> None:
    """Create the folder for checkpoints; remove those of other settings or rows."""
    marker = checkpoints / "fingerprint"
    if checkpoints.is_dir() and not (marker.is_file() and marker.read_text(encoding="ascii") == fingerprint):
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(exist_ok=True)
    with publish(marker) as part:
        part.write_text(fingerprint, encoding="ascii")


def _reward(spec: TrainSpec, folder: Path) -> Any:
    from synth_dspy.core.workspace import import_from

    where = f"training.options.{spec.method}.reward"
    if spec.scored_by_run:
        return JudgeReward(folder)
    module, _, name = (spec.reward or "").partition(":")
    if module.startswith(ENGINE):
        loaded = import_module(module)
    elif module and spec.workspace is not None:
        loaded = import_from(spec.workspace.resolve(), module)
    else:
        raise SetupError(f"{spec.method} needs {where}, a function of the workspace as module:function.")
    reward = getattr(loaded, name, None)
    if not callable(reward):
        raise SetupError(f"{where} is {spec.reward!r}, and {module} has no function {name!r}.")
    return reward


def release() -> None:
    """Return freed memory to the system, and the GPU's to other processes."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def patch_kernels(spec: TrainSpec, model: Any) -> None:
    """Use Liger's kernels in a loaded model, if the spec and the machine say so."""
    from synth_dspy.training.savers import uses_liger

    if uses_liger(spec):
        from transformers.integrations.liger import apply_liger_kernel

        # Not the losses: the output layer runs only where a completion is predicted, see `sequences.py`.
        apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})


def begin_peak() -> None:
    """Reset the peak memory of this process; if the system cannot, the peak is that of all its trainings."""
    import torch

    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    """Peak memory since `begin_peak` in bytes: of the GPU, if there is one, else of the process."""
    import torch

    return float(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 1024 * _peak_rss())


def _peak() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {
        "peak_rss_mb": round(_peak_rss() / 1024, 1),
        "peak_gpu_mb": None if gpu is None else round(gpu, 1),
    }


def _peak_rss() -> int:
    """Peak memory since `begin_peak`, in KiB."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _mean(curve: list[list[float]]) -> float:
    return sum(loss for _, loss in curve) / len(curve)


def _library_versions() -> dict[str, str]:
    installed = {}
    for package in ("trl", "peft", "bitsandbytes"):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed
