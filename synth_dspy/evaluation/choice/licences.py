"""May a model be used commercially? What its licence says, in a word, by the model's name.

No legal advice: a summary of well-known licences, and "unknown" for everything else. A model's licence is what the user
says it is, else the registry's, else what its own file states (GGUF's `general.license`, a model card's `license:`),
else that of the family its name belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights.registry import REGISTRY

YES, CONDITIONS, NO, UNKNOWN = "yes", "yes, with conditions", "no", "unknown"
_ORDER = (YES, CONDITIONS, UNKNOWN, NO)
EMBEDDED = "embedded/"


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence: its name, whether it allows commercial use (one of the four words above), and on what terms."""

    name: str
    commercial: str
    terms: str = ""


_LLAMA = (
    'not with over 700 million monthly users, shown as "Built with Llama", tuned models named Llama-..., and Meta\'s '
)
_SERVICE = "the provider's terms of service apply, also to training other models on its answers"

_LICENCES = (
    *(Licence(name, YES)
      for name in ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "Unlicense")),
    Licence("CC-BY-4.0", CONDITIONS, "with attribution"),
    Licence("CC-BY-SA-4.0", CONDITIONS, "with attribution, and what is made of it under the same licence"),
    *(Licence(name, CONDITIONS, "copyleft: what is made of it and passed on is under the same licence")
      for name in ("GPL-3.0", "AGPL-3.0", "LGPL-3.0")),
    *(Licence(name, CONDITIONS, "not for the uses that its attachment forbids")
      for name in ("OpenRAIL", "OpenRAIL++", "BigScience-OpenRAIL-M", "BigCode-OpenRAIL-M", "CreativeML-OpenRAIL-M")),
    Licence("llama2", CONDITIONS, "not with over 700 million monthly users, nor to improve other language models"),
    *(Licence(name, CONDITIONS, f"{_LLAMA}acceptable use policy holds")
      for name in ("llama3", "llama3.1", "llama3.2", "llama3.3", "llama4")),
    Licence("gemma", CONDITIONS, "Google's prohibited uses are passed on with it and what is tuned from it"),
    Licence("qwen", CONDITIONS, "not with over 100 million monthly users without asking"),
    *(Licence(name, NO, "research only") for name in ("qwen-research", "MRL", "MNPL")),
    *(Licence(name, NO, "no commercial use") for name in ("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0")),
    Licence("OpenAI terms", CONDITIONS, _SERVICE),
    Licence("Anthropic terms", CONDITIONS, _SERVICE),
    Licence("Gemini API terms", CONDITIONS, _SERVICE),
    Licence("AWS service terms", CONDITIONS, _SERVICE),
)  # fmt: skip
LICENCES: Mapping[str, Licence] = {licence.name.casefold(): licence for licence in _LICENCES}
"""Licences by SPDX identifier, or by the name that model hubs use, in lower case."""

_FAMILIES = (
    (r"smollm|granite|olmo-?2|gpt-oss|mistral-7b|mixtral|mistral-nemo|nomic-embed|all-minilm|all-mpnet", "apache-2.0"),
    (r"deepseek-r1-distill-llama", "llama3.1"),
    (r"deepseek-r1|phi-?[34]|\bbge-|\be5-(small|base|large)", "mit"),
    (r"qwen-?2\.5.*[-:]3b", "qwen-research"),
    (r"qwen-?2\.5.*[-:]72b", "qwen"),
    (r"qwen-?(2\.5|3)|qwq", "apache-2.0"),
    (r"llama-?4", "llama4"),
    (r"llama-?3\.3", "llama3.3"),
    (r"llama-?3\.2", "llama3.2"),
    (r"llama-?3\.1", "llama3.1"),
    (r"llama-?3(?![.\d])", "llama3"),
    (r"llama-?2", "llama2"),
    (r"gemma-?[23]?n?[-:]|gemma-?[23]n?$", "gemma"),
    (r"jina-embeddings-v[34]", "cc-by-nc-4.0"),
    (r"^(openai|azure)/(gpt-[345]|chatgpt|o[134](-|$)|text-embedding)", "openai terms"),
    (r"claude", "anthropic terms"),
    (r"gemini-", "gemini api terms"),
    (r"amazon\.(nova|titan)", "aws service terms"),
)
"""Families whose licence is the same throughout, by what their names contain; the first that fits counts."""


def licence_of(model: str, stated: Mapping[str, str] | None = None) -> Licence:
    """The licence of a model string.

    Args:
        model: as a role names it.
        stated: licences that the user states, by model string.
    """
    if stated and model in stated:
        return named(stated[model])
    name = model.removeprefix(EMBEDDED)
    if model.startswith(EMBEDDED):
        if name in REGISTRY:
            return named(REGISTRY[name].licence)
        licence = _from_files(Path(name).expanduser())
        if licence:
            return named(licence)
    low = name.casefold()
    return next((LICENCES[licence] for pattern, licence in _FAMILIES if re.search(pattern, low)), named(UNKNOWN))


def named(licence: str) -> Licence:
    """The licence of that name; of an unlisted one, commercial use is unknown."""
    return LICENCES.get(licence.strip().casefold(), Licence(licence.strip() or UNKNOWN, UNKNOWN))


def strictest(licences: Sequence[Licence]) -> str:
    """What commercial use is allowed of something that combines all of these."""
    return max((licence.commercial for licence in licences), key=_ORDER.index, default=UNKNOWN)


def _from_files(path: Path) -> str | None:
    """The licence that a model's own files state; None if they state none or are missing."""
    card = path / "README.md" if path.is_dir() else path.with_name("README.md")
    try:
        if path.suffix == ".gguf" and path.is_file():
            from synth_dspy.models.weights.gguf import read_header

            stated = read_header(path).metadata.get("general.license")
            if stated is not None:
                return str(stated)
        head = card.read_text(encoding="utf-8") if card.is_file() else ""
    except (OSError, ValueError, SetupError):
        return None
    front = re.match(r"---\n(.*?)\n---", head, re.DOTALL)
    match = re.search(r"^license:\s*([\w.+-]+)\s*$", front[1], re.MULTILINE) if front else None
    return match[1] if match else None
