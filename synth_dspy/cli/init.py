"""`python -m synth_dspy.init DIR`: a workspace with one task, ready to run and to edit."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command

STARTER = Path(__file__).with_name("starter")
PACKED = Path(__file__).parents[1] / "_samples"
FOLDERS = ("programs", "optimizers", "eval", "data", "domains")
DOMAINS = Path(__file__).parents[1] / "domains"
NOT_COPIED = frozenset({"__init__", "reader_child", "reader_process", "readers", "cleaning"})
"""Modules of a domain that are not copied, as a child process runs them by their path in the package."""


@dataclass(frozen=True)
class InitConfig:
    """Make a workspace."""

    directory: Positional[Path]
    """Folder to make; it may exist, but must not contain any of the workspace's folders."""
    sample: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Begin with one of the sample tasks (contract_qa, doc_qa, function_calling, scoped_assistant, table_docs) and its
    data."""
    eject: Literal["documents", "functions", "assistant", "tables"] | None = None
    """Also copy a domain's modules for you to change; from then on you maintain them."""


def main(args: list[str]) -> int:
    """Make the folder and print the next step."""
    config = parse(InitConfig, verb="init", description=__doc__ or "", args=args)
    target = config.directory.expanduser()
    existing = [name for name in FOLDERS if (target / name).exists()]
    if existing:
        raise SetupError(f"{target} already contains {', '.join(existing)}: nothing was changed. Name another folder.")
    files = _starter() if config.sample is None else _sample(config.sample)
    name = config.sample or "tickets"
    try:
        for source, place in files:
            if not (target / place).exists():  # a README of its own
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / place)
        (target / "programs" / "__init__.py").touch()
        if config.eject is not None:
            _eject(config.eject, target)
    except OSError as error:
        raise SetupError(f"Could not make the workspace in {target}: {error.strerror or error}.") from error
    then = f"cd {shlex.quote(str(target))}\n    {command('compile', anywhere=True)} {name} --quick"
    print(f"{target} is ready: programs/{name}.py is the task. Next:\n\n    {then}")
    return 0


def samples() -> Path:
    """The folder of the sample tasks: inside an installed wheel, next to the package in a checkout.

    Raises:
        SetupError: neither is there.
    """
    for folder in (PACKED, Path(__file__).resolve().parents[2]):
        if all((folder / name).is_dir() for name in FOLDERS[:-1]):
            return folder
    raise SetupError("This installation lacks the sample tasks: install synth_dspy again.")


def _starter() -> Iterable[tuple[Path, Path]]:
    return [(path, path.relative_to(STARTER)) for path in _files(STARTER)]


def _sample(name: str) -> list[tuple[Path, Path]]:
    """The files of a sample task: its own, the workspace's modules that it imports, and its data."""
    home = samples()
    tasks = sorted(path.stem for path in (home / "programs").glob("*.py") if path.stem != "__init__")
    if name not in tasks:
        raise SetupError(f"There is no sample task {name!r}; there are {', '.join(tasks)}.")
    text = (home / "programs" / f"{name}.py").read_text(encoding="utf-8")
    files = [home / "programs" / f"{name}.py"]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("optimizers", "eval"):
            module = home / Path(*node.module.split(".")).with_suffix(".py")
            files += [module, module.with_name("__init__.py")]
    for match in re.finditer(r'"data" / "(\w+)"', text):
        files += _files(home / "data" / match[1])
    return [(path, path.relative_to(home)) for path in dict.fromkeys(files)]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _eject(domain: str, target: Path) -> None:
    """Copy a domain's modules into the workspace, and change its tasks to import them from there."""
    modules = [path for path in sorted((DOMAINS / domain).glob("*.py")) if path.stem not in NOT_COPIED]
    folder = target / "domains" / domain
    folder.mkdir(parents=True)
    (target / "domains" / "__init__.py").touch()
    (folder / "__init__.py").touch()
    names = "|".join(path.stem for path in modules)
    own = re.compile(rf"\bsynth_dspy\.domains\.{domain}\.({names})\b")
    for path in modules:
        text = own.sub(rf"domains.{domain}.\1", path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(text, encoding="utf-8")
    tools = {"documents": "document_tools", "functions": "function_tools", "tables": "table_tools"}
    tool = tools.get(domain, "assistant_tools")
    for path in (target / "programs").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if tool in text:
            text = re.sub(rf"(from synth_dspy import .*?)\b{tool}, ", r"\1", text)
            text = text.replace(
                "from synth_dspy import", f"from domains.{domain} import api as {tool}\nfrom synth_dspy import", 1
            )
            path.write_text(text, encoding="utf-8")
