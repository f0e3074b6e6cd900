"""What a folder that somebody else may have made is allowed to bring about. See docs/trust.md.

A saved program or a run names files, databases, models and addresses. Those of a run that this user made here are
followed. Of any other, two things are never followed: an address, and a variable whose value is sent there; the caller
names these. Everything else that reaches beyond the workspace's own files is listed, and followed with `trust`.
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
from synth_dspy.core.workspace import find_workspace, workspace_of

Config = TypeVar("Config", bound=CompileConfig)

EMBEDDED = "embedded/"
ROLES = ("student", "teacher", "judge", "embedder")
OWN_FOLDERS = ("programs", "optimizers", "eval", "data")
"""Folders of a workspace that its user fills."""
SAMPLING = frozenset(
    {"temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "min_p", "stop", "seed", "n",
     "presence_penalty", "frequency_penalty", "repetition_penalty", "rollout_id", "reasoning_effort", "timeout",
     "connections", "attempts", "max_reply_mb"}
)  # fmt: skip
"""Options of a model that say how it samples, and send nothing anywhere."""
NAMES = ("api_base", "api_key_name", "allow_http")
"""Options that say where a model is asked and what is sent there: the caller's to name."""
_ADDRESS = re.compile(r"://|base_url|api_base|allow_http|endpoint|host|proxy|header|api_key|credential", re.IGNORECASE)
_REACHES = re.compile(r"[/\\:~]|^\.\.?$")
"""A text that may be a path, an address, or a function of a module."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What whoever opens a folder allows it, and names for it.

    Attributes:
        trust: follow what the folder names, as if one had made it oneself, but for addresses and keys.
        api_base: address of the server of its models, in place of the one that it names.
        api_key_name: the environment variable that holds the key for it.
        allow_http: send that key over http:// to another machine too.
        flags: whether the caller sits at a command line, for messages.
    """

    trust: bool = False
    api_base: str | None = None
    api_key_name: str | None = None
    allow_http: bool = False
    flags: bool = False

    def arguments(self) -> list[str]:
        """The flags that say all this at a command line."""
        named = [
            (self.argument(name), value) for name in ("api_base", "api_key_name") if (value := getattr(self, name))
        ]
        flags = [self.argument(name) for name in ("trust", "allow_http") if getattr(self, name)]
        return [*flags, *(word for pair in named for word in pair)]

    def argument(self, name: str) -> str:
        """How the caller writes an argument."""
        return f"--{name.replace('_', '-')}" if self.flags else f"{name}="


def find_trusted_workspace(run: Path, is_own: Callable[[Path], bool]) -> tuple[Path, list[str]]:
    """The workspace that a run and its programs are declared in, and a line about it if its code is not yet trusted.

    Args:
        run: the run's folder.
        is_own: whether this user made it in a given workspace.

    Raises:
        SetupError: there is none.
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


def settle(
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
    """The configuration of a saved program or a run, as far as its reader lets it be followed.

    Args:
        config: what it says.
        caller: its reader.
        own: whether this user made it here.
        what: it, for messages.
        workspace: the folder with its task's file.
        folder: the run's; files in it are its own, and weights may lie there.
        roles: whose models are opened.
        further: lines of what else it asks for.

    Raises:
        SetupError: it names an address or a key and the caller does not, or asks for more than is allowed; lists what.
    """
    if own:
        return _renamed(config, caller, roles)
    hosted = [role for role in roles if _is_hosted(getattr(config.models, role))]
    _refuse_addresses(config, caller, hosted, what)
    asked = [*further, *_models(config, caller, roles, folder), *_settings(config, workspace)]
    if asked and not caller.trust:
        raise SetupError(_untrusted(what, asked, caller))
    options = {
        role: {name: value for name, value in given.items() if name not in NAMES}
        for role, given in config.models.options.items()
    }
    models = config.models.model_copy(update={"api_base": None, "allow_http": False, "options": options})
    default = type(config).model_fields["runs"].default  # an index is written where the workspace has its own
    update = {"models": models, "runs": default, "share": config.share and caller.trust}
    update["retrieval"] = config.retrieval.model_copy(update={"chroma": None})  # the documents stay here
    return _renamed(config.model_copy(update=update), caller, roles)


def _renamed(config: Config, caller: Caller, roles: Collection[str]) -> Config:
    """The configuration with the address and the key that the caller names in place of its own."""
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
    """Refuse what only the caller can name: where the models are asked, and with whose key."""
    named: list[tuple[str, str, Any]] = []
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
        how = f"if you want it, say {caller.argument(argument)}..." if argument else "this is not followed"
        lines.append(f"{setting} = {_shown(value)} ({how})")
    raise SetupError(
        f"{what} was not made by you in this workspace, so what you ask it, and your keys, are not sent where it says; "
        f"name the address or the variable yourself:\n{_list(lines)}"
    )


def _models(config: CompileConfig, caller: Caller, roles: Collection[str], folder: Path) -> Iterator[str]:
    from synth_dspy.models.weights.registry import REGISTRY

    for role in roles:
        model = getattr(config.models, role)
        if _is_hosted(model):
            if not caller.api_base:
                yield f"models.{role} = {_shown(model)}: what you ask it is sent to that provider, with your key"
            for name, value in config.models.options.get(role, {}).items():
                if name not in SAMPLING and name not in NAMES:
                    yield f"models.options.{role}.{name} = {_shown(value)}: is sent to that provider"
        elif model.startswith(EMBEDDED) and not _is_within(model.removeprefix(EMBEDDED), folder, REGISTRY):
            yield f"models.{role} = {_shown(model)}: weights outside its folder are loaded"


def _is_within(name: str, folder: Path, registered: Collection[str]) -> bool:
    """Whether an embedded model is one that this project knows by name, or lies in a folder."""
    try:
        return name in registered or Path(name).expanduser().resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return False


def _settings(config: CompileConfig, workspace: Path) -> Iterator[str]:
    """Settings of the task that name more than the workspace's own files."""
    section = getattr(config, "task", None)
    if section is None:
        return
    for name, value in section:
        if value == type(section).model_fields[name].default or not reaches(value, workspace):
            continue
        yield f"task.{name} = {_shown(value)}: is read, and may be run"


def run_settings(config: CompileConfig, workspace: Path) -> Iterator[str]:
    """What else a run's configuration names when the run goes on: files to read, functions to train with."""
    for section in ("training", "retention"):
        for name, value in getattr(config, section):
            if name != "options" and value is not None and reaches(value, workspace):
                yield f"{section}.{name} = {_shown(value)}: is read"
    for method, given in config.training.options.items():
        for name, value in given.items():
            if reaches(value, workspace):
                yield f"training.options.{method}.{name} = {_shown(value)}: is read, and may be run"


def links_out(folder: Path, run: Path) -> Iterator[str]:
    """Lines about links in a folder that lead out of the run: whoever writes there writes elsewhere."""
    for path in (folder, *(() if folder.is_symlink() else sorted(folder.rglob("*")))):
        if path.is_symlink() and not _is_within(str(path), run.resolve(), ()):
            yield f"{_shown(path)} is a link to {_shown(os.readlink(path))}: files there are read, and written over"


def refuse_links(folder: Path, run: Path, caller: Caller) -> None:
    """Refuse to write into a folder of somebody else's run from which links lead out of it, unless they are trusted.

    Raises:
        SetupError: they do; lists them.
    """
    if not caller.trust and (asked := list(links_out(folder, run))):
        raise SetupError(_untrusted(f"The run {run}", asked, caller))


def reaches(value: Any, workspace: Path) -> bool:
    """Whether a setting may name a file, a database, an address or code that is not the workspace's own."""
    if isinstance(value, Mapping):
        return any(reaches(each, workspace) for each in value.values())
    if isinstance(value, list | tuple):
        return any(reaches(each, workspace) for each in value)
    if not isinstance(value, str | Path):
        return False
    if isinstance(value, str):
        if "://" not in value and not _REACHES.search(value):
            return False
        found = file_of(value)
        value = found[1] if found else Path(value)
    try:
        path = Path(os.path.normpath(value.expanduser().absolute()))
        folders = [workspace / name for name in OWN_FOLDERS]
        inside = next((folder for folder in folders if path.is_relative_to(folder)), None)
        if inside is None:  # elsewhere it is not even looked whether something is there
            return True
        return not path.exists() or not path.resolve().is_relative_to(inside.resolve())
    except (OSError, ValueError, RuntimeError):
        return True


def _untrusted(what: str, asked: Sequence[str], caller: Caller) -> str:
    word = "--trust" if caller.flags else "trust=True"
    return (
        f"{what} was not made by you in this workspace, and asks for more than it holds; with {word} it is allowed to "
        f"(docs/trust.md):\n{_list(asked)}"
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"  - {line}" for line in lines)


def _shown(value: Any) -> str:
    """A value on one line, without what a terminal would obey and without credentials."""
    text = mask_message(str(value))
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
