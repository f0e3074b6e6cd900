"""Merges adapters into a GGUF file, which the embedded server, llama.cpp and (with a Modelfile) Ollama load.

Adapters cannot be applied to a GGUF file while it is served. So every matrix that an adapter changes is dequantised,
B·A·scale is added for each adapter in order, and the sum is written as Q8_0 (rounded by at most 1/254 of a block's
largest weight) or F16. Other tensors stay as they are, except for types that the server cannot read exactly (see
`READABLE_TYPES`), which are converted too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from synth_dspy.core.errors import SetupError
from synth_dspy.training.adapters import (
    adapted,
    check_adapter,
    identity,
    magnitudes,
    modules,
    read_adapter_config,
    scaling,
)
from synth_dspy.training.call_token import CallToken

MODELFILE = "Modelfile"
_Product = tuple[Any, Any, float, Any]
_KINDS = {"F16": 1, "Q8_0": 8}
_UNQUANTISED = (0, 1)
_LAYER_NORM = re.compile(r"blk\.\d+\.(attn|ffn)_norm\.weight")


def merge(
    base: str | Path,
    adapters: Sequence[Path],
    target: Path,
    kind: Literal["Q8_0", "F16"] = "Q8_0",
    *,
    token: CallToken | None = None,
) -> None:
    """Write `base` with its adapters merged as the GGUF file `target`, atomically.

    The same input gives the same bytes.

    Args:
        base: A registry name, a GGUF file, or a Hugging Face folder (whose other tensors become F16).
        adapters: PEFT LoRA folders, in training order.
        target: The file to write; its folder is created if missing.
        kind: Type of the tensors that an adapter changes, and of those whose type the server cannot read.
        token: The marker that was trained, to be set in the file's vocabulary.

    Raises:
        ArmError: An adapter belongs to another base, or is not a plain LoRA.
        SetupError: No such base, a family that cannot be served, or a full disk.
    """
    from synth_dspy.models.weights.cache import publish
    from synth_dspy.models.weights.gguf import readable
    from synth_dspy.models.weights.registry import resolve

    path = resolve(base)
    if path.is_dir():
        path = readable(path)
        if path.is_dir():
            raise SetupError(
                f"{path} is an OpenVINO model, into which nothing can be merged; name the model it was made from"
            )
    with publish(target) as part:
        _merge(path, adapters, part, kind, token)


def _merge(source: Path, adapters: Sequence[Path], target: Path, kind: str, token: CallToken | None) -> None:
    from synth_dspy.models.weights.gguf import READABLE_TYPES, open_gguf, rewrite, values_of
    from synth_dspy.training.call_token import changes, gguf_metadata, gguf_values

    reader = open_gguf(source)
    try:
        deltas = _Deltas(source, reader, adapters)
    except (LookupError, TypeError, ValueError) as error:
        raise SetupError(
            f"{source} lacks part of a llama or qwen2 model ({type(error).__name__}: {error}); name another copy of it"
        ) from error

    def change(tensor: Any) -> tuple[int, Any] | None:
        if tensor.name in deltas.targets:
            return _KINDS[kind], lambda each: deltas.merged(each.name, values_of(each))
        if token is not None and changes(token, tensor.name):
            whole = "F16" if tensor.tensor_type in _UNQUANTISED else "Q8_0"
            return _KINDS[whole], lambda each: gguf_values(token, each.name, values_of(each))
        # Unreadable types become `kind` too: 8 bits in lower layers would undo the precision of 16 bits above them.
        return None if tensor.tensor_type in READABLE_TYPES else (_KINDS[kind], values_of)

    rewrite(reader, target, change, gguf_metadata(token, reader.fields) if token is not None else None)


class _Deltas:
    """The changes that a sequence of adapters makes to a GGUF file.

    Attributes:
        targets: (A, B, scale, DoRA's magnitude or None) of every adapter in order, by GGUF's name of the tensor.
    """

    def __init__(self, source: Path, reader: Any, adapters: Sequence[Path]) -> None:
        import gguf

        self.architecture = str(reader.fields["general.architecture"].contents())
        if adapters and self.architecture not in ("llama", "qwen2"):
            raise SetupError(
                f"{source} is a {self.architecture} model; adapters can be merged into llama and qwen2 models"
            )
        layers, heads, kv_heads = (
            int(reader.fields[f"{self.architecture}.{key}"].contents())
            for key in ("block_count", "attention.head_count", "attention.head_count_kv")
        )
        # The rows of these are permuted for llama.cpp's rotary embedding.
        self.heads = {"attn_q": heads, "attn_k": kv_heads} if self.architecture == "llama" else {}
        shapes = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors}
        norms = [(t.name, t.data) for t in reader.tensors if _LAYER_NORM.fullmatch(t.name)]
        fingerprint = identity((*shapes["token_embd.weight"], layers), norms)
        arch = gguf.MODEL_ARCH.LLAMA if self.architecture == "llama" else gguf.MODEL_ARCH.QWEN2
        names = gguf.get_tensor_name_map(arch, layers)
        self.targets: dict[str, list[_Product]] = {}
        for adapter in adapters:
            config, matrices, sizes = read_adapter_config(adapter), modules(adapter), magnitudes(adapter)
            gguf_names = {m: str(names.get_name(f"{m}.weight", try_suffixes=(".weight",))) for m in matrices}
            target_shapes = {f"{m}.weight": shapes[name] for m, name in gguf_names.items() if name in shapes}
            check_adapter(adapter, matrices, target_shapes, fingerprint)
            for module, name in gguf_names.items():
                a, b = matrices[module]
                self.targets.setdefault(name, []).append((a, b, scaling(config, module, len(a)), sizes.get(module)))

    def merged(self, name: str, values: Any) -> Any:
        """A tensor's values with all adapters merged, [rows, columns] in the file's order."""
        from synth_dspy.models.weights.hf_folder import interleaved

        heads = self.heads.get(name.split(".")[-2])

        def ordered(rows: Any) -> Any:
            return interleaved(rows, heads) if heads else rows

        for a, b, scale, magnitude in self.targets[name]:
            size = None if magnitude is None else ordered(magnitude[:, None])[:, 0]
            values = adapted(values, ordered((b @ a) * scale), size)
        return values


# --- for Ollama ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Family:
    """A chat format: the strings before and after a message's role, and after its content."""

    begin: str
    after_role: str
    end: str
    newline: str

    def turn(self, role: str, content: str) -> str:
        return f"{self.begin}{role}{self.after_role}{content}{self.end}{self.newline}"

    def reply_prefix(self) -> str:
        """The prefix that makes the model reply."""
        return f"{self.begin}assistant{self.after_role}"


_FAMILIES = (
    _Family("<|im_start|>", "\n", "<|im_end|>", "\n"),  # ChatML: SmolLM2, Qwen2
    _Family("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", ""),  # Llama 3
)
_MOST_CONTEXT = 8192  # tokens: Ollama reserves memory for all of them


def write_modelfile(gguf: Path) -> Path:
    """Write the Modelfile for `ollama create NAME -f Modelfile`, next to a GGUF file.

    If the file's chat template is ChatML's or Llama 3's, which is determined by rendering it, it is written in Go's
    syntax; a default system message becomes SYSTEM. Decoding is greedy, as in the evaluation.

    Returns:
        Its path.

    Raises:
        SetupError: The disk is full.
    """
    from synth_dspy.models.weights.cache import publish
    from synth_dspy.models.weights.gguf import context_length, read_header

    metadata = read_header(gguf).metadata
    lines = [f"FROM ./{gguf.name}"]
    parts = _parse_template(str(metadata.get("tokenizer.chat_template", "")))
    if parts is None:
        lines.append("# The chat template is of an unknown family: Ollama converts the one in the GGUF file itself.")
    else:
        family, prefix, system = parts
        if metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.pre") == "llama-bpe"):
            prefix = ""  # the tokeniser adds this token itself
        messages = family.turn("{{ .Role }}", "{{ .Content }}")
        lines.append(f'TEMPLATE """{prefix}{{{{ range .Messages }}}}{messages}{{{{ end }}}}{family.reply_prefix()}"""')
        if system is not None:
            lines.append(f'SYSTEM """{system}"""')
        lines.append(f'PARAMETER stop "{family.end}"')
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {min(context_length(gguf), _MOST_CONTEXT)}"]
    target = gguf.with_name(MODELFILE)
    with publish(target) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def _parse_template(template: str) -> tuple[_Family, str, str | None] | None:
    """A Jinja chat template's family, its prefix before the first message, and its default system message, or None."""
    chat = [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")]
    written, bare = _render(template, chat), _render(template, chat[1:2])
    for family in _FAMILIES:
        body = "".join(family.turn(*message) for message in chat) + family.reply_prefix()
        prefix = written.removesuffix(body)
        rest = family.turn("user", "U") + family.reply_prefix()
        if family.begin in prefix or not (written.endswith(body) and bare.startswith(prefix) and bare.endswith(rest)):
            continue
        system = bare.removeprefix(prefix).removesuffix(rest)
        if not system:
            return family, prefix, None
        before, after = family.turn("system", "\0").split("\0")
        if system.startswith(before) and system.endswith(after):
            return family, prefix, system.removeprefix(before).removesuffix(after)
    return None


def _render(template: str, chat: Sequence[tuple[str, str]]) -> str:
    """Render (role, content) messages with a chat template; empty if that fails."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    messages = [{"role": role, "content": content} for role, content in chat]
    try:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        # Llama 3's begin-of-text token; the other families' templates write none.
        return environment.from_string(template).render(
            messages=messages, add_generation_prompt=True, bos_token="<|begin_of_text|>", eos_token=""
        )
    except (jinja2.TemplateError, TypeError):
        return ""
