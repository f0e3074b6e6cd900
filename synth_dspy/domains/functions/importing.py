"""Imports a user's Python file as a module. This runs the file, so only the sandbox's child does it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path


def import_file(path: Path) -> types.ModuleType:
    """The module of a file, within its package if it has one. The standard library wins over files near it.

    Raises:
        BaseException: whatever the module raises.
    """
    parts, folder = [] if path.stem == "__init__" else [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    if len(parts) > 1 or path.stem == "__init__":
        module = importlib.import_module(".".join(parts))
        if module.__file__ and Path(module.__file__).resolve() == path:
            return module
    # Another name if a module already has this one.
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    name = f"user_{path.stem}" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints are looked up there
    spec.loader.exec_module(module)
    return module
