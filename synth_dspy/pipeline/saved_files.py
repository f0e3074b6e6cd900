"""Reads the two files of a saved program and checks them before anything that they name is opened or run.

Their author may have written anything: the types of all values are checked, import paths outside this package are
refused, and whatever reaches beyond the workspace needs the caller's permission (`synth_dspy.pipeline.trust`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synth_dspy.core import signing
from synth_dspy.core.config import CompileConfig, as_started, compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.validation import describe_error
from synth_dspy.core.workspace import task_file
from synth_dspy.pipeline.trust import Caller, find_trusted_workspace, restrict_config

PROGRAM = "program.json"
ABOUT = "about.json"
INPUTS = "inputs"
"""In `about.json`: the inputs that the program needs; runs of earlier versions do not have it."""
IN_MEMORY = "in_memory"
"""Key in `about.json`: no task file declares the program."""
MAX_BYTES = 64_000_000
"""Size of the largest file that is read."""
_ENGINES = "synth_dspy.models.embedded.engine"
ENGINES = frozenset({f"{_ENGINES}:EmbeddedEngine", f"{_ENGINES}:AsyncEmbeddedEngine"})
"""The only engine classes that a saved program may name."""
EARLIER = {name.replace(_ENGINES, "synth_dspy.lms.engine"): name for name in ENGINES}
"""Their names in earlier versions."""
STATE = frozenset({"traces", "train", "demos", "signature", "lm", "fields"})
"""Keys of a predictor's state."""
_TEXTS = ("task", "arm", "weights")


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved program, restricted to what its caller allows.

    Attributes:
        folder: the program's.
        workspace: the folder with its declaration.
        about: the contents of `about.json`.
        state: the contents of `program.json`.
        config: its run's settings, with the caller's addresses and keys.
        own: whether this user made it in this workspace.
    """

    folder: Path
    workspace: Path
    about: Mapping[str, Any]
    state: Mapping[str, Any]
    config: CompileConfig
    own: bool

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder.parent.parent

    @property
    def arm(self) -> str:
        """Its arm's name in the run."""
        return str(self.about.get("arm") or self.folder.name)


def read_saved(
    path: Path,
    caller: Caller,
    *,
    workspace: Path | None = None,
    roles: Collection[str] = ("student", "embedder"),
    in_memory: bool = False,
) -> Saved:
    """Read a saved program without opening or running anything that it names.

    Args:
        path: the program's folder.
        caller: who opens it.
        workspace: the folder with its declaration; by default the one recorded in its run, else the nearest above it,
            else above the current folder.
        roles: roles whose models will be opened.
        in_memory: the caller has the program's declaration, so no workspace is searched for it.

    Raises:
        SetupError: the folder has no program, its task is missing, it names code outside this package, or it asks for
            more than the caller allows.
    """
    folder = path.expanduser().resolve()
    run = folder.parent.parent
    state, about = _read(folder / PROGRAM), _read(folder / ABOUT)
    _check_about(about, folder / ABOUT)
    _check_state(state, folder / PROGRAM)
    if about.get(IN_MEMORY) and not in_memory:
        raise SetupError(
            f"The program {folder} was compiled from Python, and no task file declares it: open it with "
            f"synth_dspy.load({str(path)!r}, program=...), which is given the program or the Task that was compiled."
        )
    signed = {key: value for key, value in about.items() if key != "signature"}

    def is_own(place: Path) -> bool:
        return signing.is_own(about.get("signature"), place, signed, state)

    if in_memory and workspace is None:  # where it was compiled: above its runs, else here
        workspace = next((place for place in run.parents[1:6] if is_own(place)), Path.cwd())
    here, further = find_trusted_workspace(run, is_own) if workspace is None else (workspace.resolve(), [])
    own = is_own(here)
    model = CompileConfig if in_memory else compile_settings(task_file(here, about["task"]))
    try:
        config = as_started(model.model_validate(about["config"]))
    except ValidationError as error:
        raise SetupError(f"In the saved program {folder / ABOUT}, config.{describe_error(error, model)}") from None
    if not own:
        further += _requests(run, state, about, config.models.student)
    what = f"The saved program {folder}"
    config = restrict_config(
        config, caller, own=own, what=what, workspace=here, folder=run, roles=roles, further=further
    )
    return Saved(folder, here, about, _with_current_names(state), caller.executing(config), own)


def models_in(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The predictors' own models, by the predictors' names."""
    return {key: value["lm"] for key, value in state.items() if key != "metadata" and value.get("lm")}


def _requests(run: Path, state: Mapping[str, Any], about: Mapping[str, Any], student: str) -> Iterator[str]:
    """One line for each thing that a program's two files ask for besides its configuration."""
    if "weights" not in about:
        for key, lm in models_in(state).items():
            if lm["model"] != student:
                yield f"{key}.lm in {PROGRAM} = {lm['model']!r}: that model is opened"
        return
    weights = (run / about["weights"]).resolve()
    if not weights.is_relative_to(run):
        yield f"weights = {about['weights']!r}: weights outside its folder are loaded"
    elif weights.is_dir():
        yield f"weights = {about['weights']!r}: vLLM is started with them"


def _check_about(about: Mapping[str, Any], path: Path) -> None:
    for key in _TEXTS:
        if (key in about or key == "task") and not (isinstance(about.get(key), str) and "\0" not in about[key]):
            raise SetupError(f"The saved program {path} is damaged: its {key} is missing or is not text.")
    if not isinstance(about.get("config"), dict):
        raise SetupError(f"The saved program {path} is damaged: its config is missing or is not an object.")


def _with_current_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with the class names of earlier versions replaced by the current ones."""
    text = json.dumps(state)
    for earlier, name in EARLIER.items():
        text = text.replace(json.dumps(earlier), json.dumps(name))
    today: dict[str, Any] = json.loads(text)
    return today


def _check_state(state: Mapping[str, Any], path: Path) -> None:
    """Check that a state has the shape that `save` writes, and only DSPy's LM class and this package's engines."""
    from synth_dspy.models.dspy_compat import PLAIN_LM, saved_lm_class  # DSPy takes seconds to import

    for key, value in state.items():
        if key == "metadata":
            continue
        lm = value.get("lm") if isinstance(value, dict) else None
        whole = isinstance(value, dict) and isinstance(value.get("demos", []), list) and not value.keys() - STATE
        if not whole or not (lm is None or isinstance(lm, dict)):
            raise SetupError(f"The saved program {path} is damaged: {key!r} is not a predictor's state.")
        if lm is None:
            continue
        engines = [lm[name] for name in ("engine", "async_engine") if isinstance(lm.get(name), dict)]
        allowed = ENGINES | EARLIER.keys()
        foreign = [str(engine.get("class")) for engine in engines if engine.get("class") not in allowed]
        if (named := saved_lm_class(lm)) != PLAIN_LM:
            foreign.append(named)
        if foreign:
            raise SetupError(
                f"The saved program {path} asks to import {', '.join(foreign)}; only this package's own engine is "
                "loaded from a file. Remove its `lm` entry and set the LM yourself."
            )
        if not isinstance(lm.get("model"), str):
            raise SetupError(f"The saved program {path} is damaged: the model of {key!r} has no name.")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():  # not a pipe, which would block
        missing = f"There is no saved program in {path.parent}: {path.name} is missing"
        raise SetupError(f"{missing}; {_suggestion(path.parent)}.")
    if path.stat().st_size > MAX_BYTES:
        raise SetupError(f"The saved program {path} cannot be read: it is longer than {MAX_BYTES // 10**6} MB.")
    return read_json_object(path, "The saved program", "copy it again from where it was made")


def _suggestion(folder: Path) -> str:
    """What to name instead of a folder without a program: for a run, one of its programs."""
    programs = [*folder.glob(f"programs/*/{PROGRAM}"), *folder.glob(f"*/{PROGRAM}")]
    if not programs:
        return "name a folder runs/<task>/<id>/programs/<arm>"
    return f"name one of those in it: {', '.join(sorted(str(path.parent.relative_to(folder)) for path in programs))}"
