"""List the registered weights, and fetch them.

    python -m synth_dspy.weights                                 name, size, licence, and path
    python -m synth_dspy.weights pull smollm2-135m-instruct      fetch it, unless it is there

Commands fetch what they need on first use; this one does so in advance. The cache is SYNTH_DSPY_HOME, by
default the user's cache folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from synth_dspy.cli.arguments import parse
from synth_dspy.core.errors import SetupError


@dataclass(frozen=True)
class WeightsConfig:
    """What to do.

    Attributes:
        action: `list` all, or `pull` the named ones.
        names: Registered names, for `pull`.
    """

    action: tyro.conf.Positional[Literal["list", "pull"]] = "list"
    names: tyro.conf.Positional[tuple[str, ...]] = ()


def main(args: list[str]) -> None:
    """Parse `args`, then list or pull."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(WeightsConfig, verb="weights", description=description, args=args)
    from synth_dspy.core.cache import cache_home
    from synth_dspy.models.weights.fetch import cached, pull
    from synth_dspy.models.weights.registry import REGISTRY

    if config.action == "pull":
        if not config.names:
            raise SetupError(f"weights pull needs a name: one of {', '.join(sorted(REGISTRY))}.")
        unknown = [name for name in config.names if name not in REGISTRY]
        if unknown:
            raise SetupError(f"There are no weights named {unknown[0]!r}; there are {', '.join(sorted(REGISTRY))}.")
        for name in config.names:
            print(pull(REGISTRY[name]))
        return
    width = max(map(len, REGISTRY))
    for entry in REGISTRY.values():
        where = cached(entry) or f"not fetched (from {', '.join(map(str, entry.sources))})"
        print(f"{entry.name:{width}}  {entry.size / 1e6:6.0f} MB  {entry.licence:10}  {where}")
    print(f"cache: {cache_home()}")
