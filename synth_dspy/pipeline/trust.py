"""What a saved program or a run that somebody else may have made is allowed to do. See docs/trust.md.

Such a folder names files, databases, models and addresses. Those of a run that this user made here are used. In any
other, addresses, and variables whose values are sent there, are never used: the caller names them. Everything else that
reaches beyond the workspace's own files is listed, and used with `trust`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.database_url import file_of
from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import mask_message
from synth_dspy.core.s3.address import address_of, is_address
from synth_dspy.core.workspace import find_workspace, workspace_of

Config = TypeVar("Config", bound=CompileConfig)

EMBEDDED = "embedded/"
LOCAL = "local"
ROLES = ("student", "teacher", "judge", "embedder")
OWN_FOLDERS = ("programs", "optimizers", "eval", "data")
"""Folders of a workspace that its user fills."""
SAMPLING = frozenset(
    {"temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "min_p", "stop", "seed", "n",
     "presence_penalty", "frequency_penalty", "repetition_penalty", "rollout_id", "reasoning_effort", "timeout",
     "connections", "attempts", "max_reply_mb", "price"}
)  # fmt: skip
"""Options of a model that concern sampling only, and send nothing anywhere."""
NAMES = ("api_base", "api_key_name", "allow_http")
"""Options for a model's address and what is sent there, which only the caller may set."""
_ADDRESS = re.compile(r"://|base_url|api_base|allow_http|endpoint|host|proxy|header|api_key|credential", re.IGNORECASE)
_REACHES = re.compile(r"[/\\:~]|^\.\.?$")
"""A text that may be a path, an address, or a function of a module."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What the user who opens a folder allows it, and sets for it.

    Attributes:
        trust: treat the folder as the user's own, except for addresses and keys.
        api_base: address of its models' server, in place of the one in the folder.
        api_key_name: environment variable with the key for that server.
        allow_http: allow sending that key over http:// to another machine.
        flags: whether messages name command-line flags rather than arguments.
        executor: where model calls are made; None: as a resumed run says, else in this process.
        workers: on the Ray cluster.
    """

    trust: bool = False
    api_base: str | None = None
    api_key_name: str | None = None
    allow_http: bool = False
    flags: bool = False
    executor: str | None = None
    workers: int | None = None

    def arguments(self) -> list[str]:
        """The same as command-line flags."""
        named = [
            (self.argument(name), str(value))
            for name in ("api_base", "api_key_name", "executor", "workers")
            if (value := getattr(self, name))
        ]
        flags = [self.argument(name) for name in ("trust", "allow_http") if getattr(self, name)]
        return [*flags, *(word for pair in named for word in pair)]

    def argument(self, name: str) -> str:
        """An argument as the caller writes it."""
        return f"--{name.replace('_', '-')}" if self.flags else f"{name}="

    def executing(self, config: Config, *, default: str = LOCAL) -> Config:
        """A configuration with the caller's executor and workers."""
        workers = self.workers or (config.workers if self.executor is None else None)
        return config.model_copy(update={"executor": self.executor or default, "workers": workers})


def find_trusted_workspace(run: Path, is_own: Callable[[Path], bool]) -> tuple[Path, list[str]]:
    """The workspace that declares a run and its programs, and a line about it if its code is not yet trusted.

    Args:
        run: the run's folder.
        is_own: whether this user made the run in a given workspace.

    Raises:
        SetupError: there is no workspace.
    """
    current = _find(find_workspace, Path.cwd())
    nearest = _find(workspace_of, run)
    if current is not None and current.is_relative_to(run):  # whoever shares a run may have put a task file into it
        current = _find(find_workspace, run.parent)
    for place in (nearest, current):
        if place is not None and is_own(place):
            return place, []
    if nearest is None or nearest == current:
        return current or find_workspace(run.parent), []
    return nearest, [f"the code in {nearest / 'programs'} is run (if it is your own, change into that folder)"]


def _find(find: Callable[[Path], Path], start: Path) -> Path | None:
    try:
        return find(start)
    except SetupError:
        return None


def restrict_config(
    config: Config,
    caller: Caller,
    *,
    own: bool,
    what: str,
    workspace: Path,
    folder: Path,
    roles: Collection[str] = ("student", "embedder"),
    further: Sequence[str] = (),
) -> Config:
    """The configuration of a saved program or a run, restricted to what the caller allows.

    Args:
        config: the saved configuration.
        caller: who opens it.
        own: whether this user made it here.
        what: its name in messages.
        workspace: the folder with its task file.
        folder: the run's; weights in it may be loaded.
        roles: roles whose models are opened.
        further: lines on what else it asks for.

    Raises:
        SetupError: it names an address or a key and the caller does not, or asks for more than is allowed; lists it.
    """
    if own:
        return _renamed(config, caller, roles)
    hosted = [role for role in roles if _is_hosted(getattr(config.models, role))]
    _refuse_addresses(config, caller, hosted, what)
    requests = [*further, *_models(config, caller, roles, folder), *_settings(config, workspace)]
    if "teacher" in roles:  # a run, which opens them again
        requests += _further_models(config, folder)
    if requests and not caller.trust:
        raise SetupError(untrusted(what, requests, caller))
    options = {
        role: {name: value for name, value in own_options.items() if name not in NAMES}
        for role, own_options in config.models.options.items()
    }
    models = config.models.model_copy(update={"api_base": None, "allow_http": False, "options": options})
    default = type(config).model_fields["runs"].default  # an index is written to the workspace's own runs
    update = {"models": models, "runs": default, "share": config.share and caller.trust}
    update["retrieval"] = config.retrieval.model_copy(update={"chroma": None})  # the documents stay here
    return _renamed(config.model_copy(update=update), caller, roles)


def _renamed(config: Config, caller: Caller, roles: Collection[str]) -> Config:
    """The configuration with the caller's address and key in place of its own."""
    named = {name: value for name in ("api_base", "api_key_name") if (value := getattr(caller, name))}
    if not named and not caller.allow_http:
        return config
    options = {role: {**config.models.options.get(role, {}), **named} for role in roles if role != "embedder"}
    allow_http = caller.allow_http or config.models.allow_http
    update: dict[str, Any] = {"options": {**config.models.options, **options}, "allow_http": allow_http}
    if caller.api_base:
        update["api_base"] = caller.api_base
    return config.model_copy(update={"models": config.models.model_copy(update=update)})


def _is_hosted(model: str) -> bool:
    return not model.startswith(EMBEDDED) and model != "reference"


def _refuse_addresses(config: CompileConfig, caller: Caller, hosted: Sequence[str], what: str) -> None:
    """Refuse addresses and keys of the folder's models: only the caller may name them."""
    further = {**dict.fromkeys(config.models.compare, "models.compare"), **dict.fromkeys(config.arm, "arm")}
    named: list[tuple[str, str, Any]] = [("", where, model) for model, where in further.items() if "://" in model]
    ambient = (os.environ.get("OPENAI_API_BASE"), os.environ.get("OPENAI_BASE_URL"), "OPENAI_API_KEY", False)
    if hosted and config.models.api_base and config.models.api_base not in ambient:
        named.append(("api_base", "models.api_base", config.models.api_base))
    for role in hosted:
        if "://" in (model := getattr(config.models, role)):
            named.append(("", f"models.{role}", model))
        for name, value in config.models.options.get(role, {}).items():
            if _ADDRESS.search(f"{name} {value}") and not (name in NAMES and value in ambient):
                named.append((name if name in NAMES else "", f"models.options.{role}.{name}", value))
    missing = [each for each in named if not (each[0] and getattr(caller, each[0]))]
    if not missing:
        return
    lines = []
    for argument, setting, value in missing:
        how = f"if you want it, use {caller.argument(argument)}..." if argument else "this is not used"
        lines.append(f"{setting} = {_shown(value)} ({how})")
    raise SetupError(
        f"{what} was not made by you in this workspace, so your questions and keys are not sent to addresses it names; "
        f"name the address or the variable yourself:\n{_list(lines)}"
    )


def _models(config: CompileConfig, caller: Caller, roles: Collection[str], folder: Path) -> Iterator[str]:
    from synth_dspy.models.weights.registry import REGISTRY

    for role in roles:
        model = getattr(config.models, role)
        if _is_hosted(model):
            if not caller.api_base:
                yield f"models.{role} = {_shown(model)}: your questions are sent to that provider, with your key"
            for name, value in config.models.options.get(role, {}).items():
                if name not in SAMPLING and name not in NAMES:
                    yield f"models.options.{role}.{name} = {_shown(value)}: is sent to that provider"
        elif model.startswith(EMBEDDED) and not _is_within(model.removeprefix(EMBEDDED), folder, REGISTRY):
            yield f"models.{role} = {_shown(model)}: weights outside its folder are loaded"


def _further_models(config: CompileConfig, folder: Path) -> Iterator[str]:
    """Lines on compared models, and on arms made elsewhere."""
    from synth_dspy.models.weights.registry import REGISTRY

    arms = [("arm", arm, arm.partition("=")[2]) for arm in config.arm]
    for where, name, model in [*(("models.compare", model, model) for model in config.models.compare), *arms]:
        path = model.removeprefix(EMBEDDED)
        if not model.startswith((EMBEDDED, "/")):
            yield f"{where} = {_shown(name)}: your questions are sent to that provider, with your key"
        elif not _is_within(path, folder, REGISTRY):
            yield f"{where} = {_shown(name)}: weights outside its folder are loaded"


def _is_within(name: str, folder: Path, registered: Collection[str]) -> bool:
    """Whether an embedded model is a registered one, or in the folder."""
    try:
        return name in registered or Path(name).expanduser().resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return False


def _settings(config: CompileConfig, workspace: Path) -> Iterator[str]:
    """Lines on task settings that reach beyond the workspace's own files."""
    section = getattr(config, "task", None)
    if section is None:
        return
    for name, value in section:
        if value == type(section).model_fields[name].default or not reaches(value, workspace):
            continue
        yield f"task.{name} = {_shown(value)}: is read, and may be run"


def run_settings(config: CompileConfig, workspace: Path) -> Iterator[str]:
    """Lines on what else a resumed run's configuration names: files to read, functions to train with."""
    for section in ("training", "retention"):
        for name, value in getattr(config, section):
            if name != "options" and value is not None and reaches(value, workspace):
                yield f"{section}.{name} = {_shown(value)}: is read"
    if config.training.backend != "local":
        machines = config.training.sagemaker
        yield f"training.backend = {_shown(config.training.backend)}: trains on {machines.instance}, at your expense"
        if machines.image is not None:
            yield f"training.sagemaker.image = {_shown(machines.image)}: is run there, with aws.role"
    for name, value in config.aws:
        if value:
            yield f"aws.{name} = {_shown(value)}: prompts are written there, with your credentials"
    for method, given in config.training.options.items():
        for name, value in given.items():
            if reaches(value, workspace):
                yield f"training.options.{method}.{name} = {_shown(value)}: is read, and may be run"


def links_out(folder: Path, run: Path) -> Iterator[str]:
    """Lines on links in a folder that lead out of the run, through which files elsewhere would be written."""
    for path in (folder, *(() if folder.is_symlink() else sorted(folder.rglob("*")))):
        if path.is_symlink() and not _is_within(str(path), run.resolve(), ()):
            yield f"{_shown(path)} is a link to {_shown(os.readlink(path))}: files there are read, and written over"


def refuse_links(folder: Path, run: Path, caller: Caller) -> None:
    """Refuse to write into a folder of somebody else's run with links that lead out of it, unless it is trusted.

    Raises:
        SetupError: there are such links; lists them.
    """
    if not caller.trust and (links := list(links_out(folder, run))):
        raise SetupError(untrusted(f"The run {run}", links, caller))


def reaches(value: Any, workspace: Path) -> bool:
    """Whether a setting may name a file, a database, an address or code outside the workspace."""
    if isinstance(value, Mapping):
        return any(reaches(each, workspace) for each in value.values())
    if isinstance(value, list | tuple):
        return any(reaches(each, workspace) for each in value)
    if not isinstance(value, str | Path):
        return False
    if is_address(value):
        return True
    if isinstance(value, str):
        if "://" not in value and not _REACHES.search(value):
            return False
        database = file_of(value)
        value = database[1] if database else Path(value)
    try:
        path = Path(os.path.normpath(value.expanduser().absolute()))
        folders = [workspace / name for name in OWN_FOLDERS]
        inside = next((folder for folder in folders if path.is_relative_to(folder)), None)
        if inside is None:  # outside, not even its existence is checked
            return True
        return not path.exists() or not path.resolve().is_relative_to(inside.resolve())
    except (OSError, ValueError, RuntimeError):
        return True


def untrusted(what: str, requests: Sequence[str], caller: Caller) -> str:
    """A sentence that refuses what somebody else's folder asks for, lists it, and says how to allow it."""
    word = "--trust" if caller.flags else "trust=True"
    return (
        f"{what} was not made by you in this workspace, and asks for more than it contains; {word} allows it "
        f"(docs/trust.md):\n{_list(requests)}"
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"  - {line}" for line in lines)


def _shown(value: Any) -> str:
    """A value on one line, without control characters and credentials."""
    text = mask_message(str(address_of(value) or value) if is_address(value) else str(value))
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
