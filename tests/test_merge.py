"""Merging: the GGUF file holds the weights that PEFT would have merged, belongs to its base, and is written whole."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import pytest
from tiny import tiny_adapter, tiny_model

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.models.weights.gguf import rewrite, values_of
from synth_dspy.training.adapters import record_base
from synth_dspy.training.base import apply_adapters, base_folder, load_base, load_tokenizer
from synth_dspy.training.merge import merge, write_modelfile
from synth_dspy.training.merged_folder import write_merged
from synth_dspy.training.unmerged import concatenate_adapters

Types = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slow"):
        return  # real weights are in the user's cache
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return tiny_adapter(tmp_path / "adapter", base)


def _weights(model: Any) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def _tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_dora_is_merged_as_peft_does_and_the_file_is_the_trained_model(family: str, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from synth_dspy.training.weight_check import check_weights

    base = tiny_model(tmp_path / "base", family=family)
    trained = get_peft_model(
        load_base(base)[0], LoraConfig(r=4, lora_alpha=8, use_dora=True, use_rslora=True, target_modules="all-linear")
    ).eval()
    with torch.no_grad():
        for name, values in trained.named_parameters():
            if "lora_B" in name:
                values.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
            elif "magnitude" in name:
                values.mul_(1.1)
    trained.save_pretrained(tmp_path / "dora", save_embedding_layers=False)
    ours = _weights(apply_adapters(load_base(base)[0], [tmp_path / "dora"]))
    training = tmp_path / "training"
    shutil.copytree(tmp_path / "dora", training / "adapter")
    (training / "spec.json").write_text(json.dumps({"method": "sft", "model": str(base), "rows": "rows.jsonl"}))
    folder = _weights(load_base(write_merged(training, tmp_path / "merged"))[0])
    with pytest.raises(ArmError, match="is a DoRA adapter, which cannot be put into one adapter with others"):
        concatenate_adapters([tmp_path / "dora", tmp_path / "dora"], tmp_path / "one")
    merge(base, [tmp_path / "dora"], tmp_path / "model.gguf", "F16")
    assert check_weights(trained, tmp_path / "model.gguf") > 14
    merge(base, [], tmp_path / "untrained.gguf", "F16")
    with pytest.raises(ArmError, match="not the trained model"):
        check_weights(trained, tmp_path / "untrained.gguf")
    read_back = _weights(_transformers_reads(tmp_path / "model.gguf"))
    theirs = _weights(trained.merge_and_unload())
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(folder[name], expected, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(read_back[name], expected, atol=5e-3, err_msg=name)  # float16


# --- the same weights as PEFT's own merging --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(
    "config",
    [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 32, "layers.1.mlp.up_proj": 2}}, {"layers": (1,)}],
    ids=["plain", "rank-stabilised", "alpha-pattern", "last-layer"],
)
def test_it_merges_as_peft_does(family: str, config: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel

    base = tiny_model(tmp_path / "base", family=family)
    adapter = tiny_adapter(tmp_path / "adapter", base, **config)
    theirs = _weights(PeftModel.from_pretrained(load_base(base)[0], str(adapter)).merge_and_unload())
    ours = _weights(apply_adapters(load_base(base)[0], [adapter]))
    before = _weights(load_base(base)[0])
    changed = [name for name in theirs if not np.array_equal(theirs[name], before[name])]
    assert len(changed) == (7 if "layers" in config else 14)
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, atol=1e-6, err_msg=name)

    merge(base, [adapter], tmp_path / "model.gguf", "F16")
    # The way back into a folder is transformers' own, which knows nothing of this project's.
    read_back = _weights(_transformers_reads(tmp_path / "model.gguf"))
    for name, expected in theirs.items():
        np.testing.assert_allclose(read_back[name], expected, atol=2e-3, err_msg=name)  # float16


def test_q8_0_rounds_by_a_hundredth(base: Path, adapter: Path, tmp_path: Path) -> None:
    merge(base, [adapter], tmp_path / "model.gguf", "Q8_0")
    tensors = _tensors(tmp_path / "model.gguf")
    assert {t.tensor_type for n, t in tensors.items() if "attn_q" in n or "ffn_down" in n} == {Types.Q8_0}
    assert tensors["token_embd.weight"].tensor_type == Types.F16
    loaded = _weights(_transformers_reads(tmp_path / "model.gguf"))
    expected = _weights(apply_adapters(load_base(base)[0], [adapter]))
    for name, values in expected.items():
        assert np.abs(loaded[name] - values).max() <= np.abs(values).max() / 200, name


def test_two_adapters_are_added_in_order(base: Path, adapter: Path, tmp_path: Path) -> None:
    second = tiny_adapter(tmp_path / "second", base, seed=5, rank=2, targets=("q_proj", "down_proj"))
    merge(base, [adapter, second], tmp_path / "both.gguf", "F16")
    expected = _weights(apply_adapters(load_base(base)[0], [adapter, second]))
    loaded = _weights(_transformers_reads(tmp_path / "both.gguf"))
    for name, values in expected.items():
        np.testing.assert_allclose(loaded[name], values, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("kind", ["Q8_0", "F16"])
def test_the_rest_of_a_gguf_file_stays_as_it_was(base: Path, tmp_path: Path, kind: Literal["Q8_0", "F16"]) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", base, targets=("q_proj",), layers=(1,))
    source = tmp_path / "base.gguf"
    merge(base, [], tmp_path / "f16.gguf")
    kinds = {"blk.0.ffn_up.weight": Types.Q4_1, "blk.0.ffn_down.weight": Types.Q5_0, "blk.0.attn_v.weight": Types.Q4_0}
    rewrite(
        gguf.GGUFReader(tmp_path / "f16.gguf"),
        source,
        lambda tensor: (kinds[tensor.name], values_of) if tensor.name in kinds else None,
    )
    merge(source, [adapter], tmp_path / "model.gguf", kind)
    before, after = _tensors(source), _tensors(tmp_path / "model.gguf")
    assert list(before) == list(after)
    for name, tensor in before.items():
        if name == "blk.1.attn_q.weight":
            assert not np.array_equal(values_of(tensor), values_of(after[name]))
        elif tensor.tensor_type in (Types.Q4_1, Types.Q5_0):  # not read exactly, or not at all, by OpenVINO
            assert after[name].tensor_type == Types[kind]
            np.testing.assert_allclose(values_of(after[name]), values_of(tensor), atol=0.01)
        else:
            assert after[name].tensor_type == tensor.tensor_type
            assert after[name].data.tobytes() == tensor.data.tobytes(), name
    old, new = gguf.GGUFReader(source).fields, gguf.GGUFReader(tmp_path / "model.gguf").fields
    same = {key for key in old if not key.startswith("GGUF.")}
    assert {key: old[key].contents() for key in same} == {key: new[key].contents() for key in same}


def test_the_same_input_gives_the_same_bytes(base: Path, adapter: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        merge(base, [adapter], tmp_path / name)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_a_full_disk_leaves_nothing_behind(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, data: Any, *_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    merge(base, [], tmp_path / "plain.gguf")
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    target = tmp_path / "out" / "model.gguf"
    with pytest.raises(SetupError, match=r"the disk is full: could not write .*model\.gguf"):
        merge(tmp_path / "plain.gguf", [adapter], target)
    assert list(target.parent.iterdir()) == []


# --- what does not belong together -----------------------------------------------------------------------------------


def test_an_adapter_for_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "wider", hidden=128)
    adapter = tiny_adapter(tmp_path / "adapter", other)
    sentence = r"is for another base: .*_proj\.weight is \d+ x \d+ here, and \d+ x \d+ in the adapter; .*wider"
    with pytest.raises(ArmError, match=sentence):
        merge(base, [adapter], tmp_path / "model.gguf")
    with pytest.raises(ArmError, match=sentence):
        apply_adapters(load_base(base)[0], [adapter])
    assert not (tmp_path / "model.gguf").exists()


def test_an_adapter_for_another_base_of_the_same_shape_is_refused(base: Path, tmp_path: Path) -> None:
    import torch

    from synth_dspy.training.base import load_base as load

    other = tiny_model(tmp_path / "other", seed=9)
    model, _ = load(other)
    with torch.no_grad():  # random models have norms of 1; trained ones do not
        model.get_parameter("model.layers.0.input_layernorm.weight").mul_(1.5)
    model.save_pretrained(other)
    adapter = tiny_adapter(tmp_path / "adapter", other)
    record_base(adapter, load(other)[0])
    apply_adapters(load(other, precision="bf16")[0], [adapter])  # its own base, also in another precision
    merge(other, [adapter], tmp_path / "own.gguf")
    for refuse in (
        lambda: merge(base, [adapter], tmp_path / "model.gguf"),
        lambda: apply_adapters(load(base)[0], [adapter]),
    ):
        with pytest.raises(ArmError, match=r"for another base of the same shape; it was trained on .*other"):
            refuse()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias all"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_other_kinds_of_adapters_are_refused(config: dict[str, Any], reason: str, base: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", base, **config)
    with pytest.raises(ArmError, match=f"not a plain LoRA adapter .*{reason}"):
        merge(base, [adapter], tmp_path / "model.gguf")


def test_pickled_weights_are_not_loaded(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ArmError, match=r"no adapter_model\.safetensors"):
        merge(base, [adapter], tmp_path / "model.gguf")


# --- the base --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_gguf_base_is_its_folder_again(family: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "folder", family=family)
    merge(folder, [], tmp_path / "base.gguf", "F16")
    model, tokenizer = load_base(tmp_path / "base.gguf")
    original, other_tokenizer = load_base(folder)
    for (name, loaded), (other, expected) in zip(_weights(model).items(), _weights(original).items(), strict=True):
        assert name == other
        np.testing.assert_allclose(loaded, expected, atol=1e-3, err_msg=name)
    messages = [{"role": "user", "content": "Clause 12:\n\n1. né 2021  <|im_end|>"}]
    assert tokenizer.apply_chat_template(messages) == other_tokenizer.apply_chat_template(messages)
    assert tokenizer.eos_token == other_tokenizer.eos_token
    assert model.config.eos_token_id == original.config.eos_token_id
    assert base_folder(tmp_path / "base.gguf") == base_folder(tmp_path / "base.gguf")


WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize("digits", [r"\p{N}", r"\p{N}{1,3}", None], ids=["qwen2", "llama-bpe", "gpt-2"])
def test_text_is_split_by_the_model_s_own_rule(digits: str | None, base: Path, tmp_path: Path) -> None:
    path = base / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    steps: list[dict[str, Any]] = [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}]
    steps[0]["use_regex"] = digits is None
    if digits is not None:
        pattern = {"Regex": WORDS % digits}
        steps.insert(0, {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False})
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    tokenizer["model"]["ignore_merges"] = digits == r"\p{N}{1,3}"
    path.write_text(json.dumps(tokenizer))
    merge(base, [], tmp_path / "base.gguf")
    text = "Term:\n\n1. The supplier's 2021 DELIVERY,  né\n\n 12.\r\n\n2. (payment)…"
    expected = load_tokenizer(base)(text)["input_ids"]
    assert load_tokenizer(tmp_path / "base.gguf")(text)["input_ids"] == expected


def test_bases_that_cannot_be_trained_are_told(tmp_path: Path, base: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError, match=r"cannot be trained: it is not a Hugging Face folder"):
        load_base(tmp_path / "empty")
    (base / "chat_template.jinja").unlink()
    assert "Assistant:" in load_tokenizer(base).chat_template  # a plain one, as it is served


def test_four_bits_need_cuda(base: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SetupError, match="needs a CUDA GPU"):
        load_base(base, quantize=True)


# --- for Ollama ------------------------------------------------------------------------------------------------------

LLAMA3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def test_a_modelfile_for_chatml(base: Path, tmp_path: Path) -> None:
    merge(base, [], tmp_path / "model.gguf")
    assert write_modelfile(tmp_path / "model.gguf").read_text() == (
        "FROM ./model.gguf\n"
        'TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}'
        '<|im_start|>assistant\n"""\n'
        'SYSTEM """You are a helpful assistant"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        "PARAMETER temperature 0\n"
        "PARAMETER num_ctx 1024\n"
    )


def test_a_modelfile_for_llama_3(base: Path, tmp_path: Path) -> None:
    (base / "chat_template.jinja").write_text(LLAMA3)
    merge(base, [], tmp_path / "model.gguf")
    text = write_modelfile(tmp_path / "model.gguf").read_text()
    turn = "<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>"
    opening = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    # This file's tokeniser adds no begin-of-text token, so the template has to.
    assert f'TEMPLATE """<|begin_of_text|>{{{{ range .Messages }}}}{turn}{{{{ end }}}}{opening}"""' in text
    assert 'PARAMETER stop "<|eot_id|>"' in text
    assert "SYSTEM" not in text


@pytest.mark.parametrize("template", ["{{ messages[0]['content'] }}", "{{ messages.nothing.at.all }}", "{% broken"])
def test_an_unknown_template_is_left_to_ollama(template: str, base: Path, tmp_path: Path) -> None:
    (base / "chat_template.jinja").write_text(template)
    merge(base, [], tmp_path / "model.gguf")
    text = write_modelfile(tmp_path / "model.gguf").read_text()
    assert "TEMPLATE" not in text
    assert "an unknown family" in text


# --- the embedded 135M model -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")
def test_a_tuned_real_model_answers_alike_everywhere(workspace: Path, tmp_path: Path) -> None:
    """Trained in torch, merged as the recipes do, served here and by llama.cpp: the same greedy replies."""
    from synth_dspy.training.parity import check_parity

    rows = _contract_rows(workspace)
    model, tokenizer = load_base(MODEL)
    tuned = _tune(model, tokenizer, rows[16:])
    tuned.save_pretrained(tmp_path / "adapter")
    record_base(tmp_path / "adapter", tuned)
    merge(MODEL, [tmp_path / "adapter"], tmp_path / "model.gguf", "F16")
    prompts = [prompt for prompt, _ in rows[:8]]
    parity = check_parity(tuned.eval(), tokenizer, tmp_path / "model.gguf", prompts, max_tokens=24)
    assert parity.share >= 0.95, parity
    assert parity.difference is not None
    assert parity.difference < parity.bound
    merge(MODEL, [], tmp_path / "base.gguf")
    with pytest.raises(ArmError, match="not the trained model"):  # what was trained is what agrees
        check_parity(tuned, tokenizer, tmp_path / "base.gguf", prompts[:4], max_tokens=16)
    # llama.cpp rounds otherwise (14 of the first 16): near ties differ, a wrong file would differ everywhere.
    assert _same_in_llama_cpp(tmp_path / "model.gguf", prompts) >= 0.75


MODEL = "smollm2-135m-instruct"


def _contract_rows(workspace: Path) -> list[tuple[list[dict[str, str]], str]]:
    """Questions about contracts, each with the words around the answer; and the answer."""
    folder = workspace / "data" / "contracts"
    rows = []
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        path = folder / "documents" / f"{item['document']}.txt"
        if not item["spans"] or not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        start = max(0, text.find(item["spans"][0]) - 80)
        question = f"{text[start : start + 240]}\n\nQuestion: {item['question']}"
        system = "Answer the question from the passage, briefly."
        rows.append(
            ([{"role": "system", "content": system}, {"role": "user", "content": question}], item["references"][0])
        )
    return random.Random(0).sample(rows, 32)


def _tune(model: Any, tokenizer: Any, rows: list[tuple[list[dict[str, str]], str]]) -> Any:
    """A few steps of LoRA, completion only."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    tuned = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=projections))
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=2e-3)
    for number, (prompt, answer) in enumerate(rows):
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        before = tokenizer(text, add_special_tokens=False)["input_ids"]
        after = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([before + after])
        labels = torch.tensor([[-100] * len(before) + after])
        (tuned(input_ids=ids, labels=labels).loss / 2).backward()
        if number % 2:
            torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return tuned


def _same_in_llama_cpp(path: Path, prompts: list[list[dict[str, str]]]) -> float:
    """The share of prompts to which llama.cpp and the embedded server reply with the same tokens."""
    xllamacpp = pytest.importorskip("xllamacpp")
    import httpx

    from synth_dspy.models.embedded.generation import Sampling
    from synth_dspy.models.embedded.server import ModelServer

    server = ModelServer(path)
    try:
        texts = [server.render(prompt) for prompt in prompts]
        ids = [server.token_ids(text) for text in texts]
        futures = [server.submit(text, Sampling(max_tokens=48)) for text in texts]
        ours = [future.result().token_ids for future in futures]
    finally:
        server.close()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx = 1, 2048
    params.verbosity, params.port = 0, 0
    llama = xllamacpp.Server(params)
    same = 0
    with httpx.Client(base_url=llama.listening_address, timeout=600) as client:
        for text, prompt, reply in zip(texts, ids, ours, strict=True):
            tokenize_request = {"content": text, "add_special": False, "parse_special": True}
            assert client.post("/tokenize", json=tokenize_request).json()["tokens"] == prompt
            body = {"prompt": prompt, "n_predict": 48, "temperature": 0, "return_tokens": True}
            theirs = client.post("/completion", json=body).json()["tokens"]
            end = reply[-1] if len(reply) < 48 else None  # which llama.cpp leaves out
            same += [t for t in theirs if t != end] == [t for t in reply if t != end]
    return same / len(prompts)


def _transformers_reads(path: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
