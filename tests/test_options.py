"""Options of roles and of trainings as flags: they reach the configuration as TOML's do, and go before it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.options import take_options
from synth_dspy.core.config import CompileConfig, to_toml
from synth_dspy.core.errors import SetupError
from synth_dspy.training.spec import RESERVED, Lora, TrainSpec


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["--training.options.sft.examples", "200"], {"sft": {"examples": 200}}),
        (["--training.options.sft.lora.layers", "8"], {"sft": {"lora": {"layers": 8, "rank": 4}}}),
        (["--training.options.sft.lora", "none"], {"sft": {"lora": "none"}}),
        (["--training.options.dpo.learning-rate=1e-4"], {"dpo": {"learning_rate": 1e-4}}),
        (["--training.options.sft.gguf", "F16"], {"sft": {"gguf": "F16"}}),
        (["--training.options.sft.packing", "True"], {"sft": {"packing": True}}),
        (["--training.options.sft.lora.targets", '["q_proj"]'], {"sft": {"lora": {"targets": ["q_proj"], "rank": 4}}}),
        (["--training.options.sft.call_token", "a\nb = 3"], {"sft": {"call_token": "a\nb = 3"}}),
    ],
)
def test_an_option_of_a_training_is_a_flag_that_goes_before_the_file(
    tmp_path: Path, args: list[str], options: dict[str, Any]
) -> None:
    below: dict[str, Any] = {"sft": {"lora": {"rank": 4}, "epochs": 3}}
    file = CompileConfig.model_validate({"training": {"options": below}})
    config, rest = take_options(file, ["--quick", *args, "--seed", "3"])
    config = parse(CompileConfig, verb="compile", description="", default=config, args=rest)
    assert (config.quick, config.seed) == (True, 3)
    assert config.training.options == {
        **below,
        **{method: {**below.get(method, {}), **o} for method, o in options.items()},
    }
    assert file.training.options == below
    assert "[training.options." in to_toml(config)


def test_an_option_of_a_role_is_a_flag() -> None:
    given = ["--models.options.teacher.temperature", "-0.5", "--models.options.judge.stop", "END"]
    config, rest = take_options(CompileConfig(), given)
    assert rest == []
    assert config.models.options == {"teacher": {"temperature": -0.5}, "judge": {"stop": "END"}}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--training.options.sft.epochs"], r"^--training\.options\.sft\.epochs needs a value\.$"),
        (["--training.options.sft.epochs", "--quick"], "epochs needs a value"),
        (
            ["--training.options.sft", "3"],
            r"lacks the name of an option: write it as --training\.options\.METHOD\.NAME VALUE",
        ),
        (["--training.options.stf.epochs", "3"], "stf is not a training method; the methods are sft, dpo"),
        (["--models.options.pupil.seed", "3"], "pupil is not a role"),
        (["--models.options.judge.api_key", "secret"], r"api_key: a configuration must not contain a key; name [^']+$"),
    ],
)
def test_a_flag_that_is_no_option_is_one_sentence(args: list[str], sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence) as caught:
        take_options(CompileConfig(), args)
    assert "secret" not in str(caught.value)


def test_help_names_every_option_of_a_training_and_loads_no_library_for_it(workspace: Path) -> None:
    code = (
        "import sys; from synth_dspy.compile import main\n"
        "try: main(['contract_qa', '--help'])\n"
        "finally: print('heavy:', sorted({'dspy', 'torch', 'openvino_genai', 'numpy'} & sys.modules.keys()))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=workspace, check=True
    ).stdout
    assert "heavy: []" in completed
    assert "--training.options.METHOD.NAME VALUE" in completed
    names = {*TrainSpec.model_fields} - RESERVED | {f"lora.{name}" for name in Lora.model_fields}
    listed = completed.partition("NAME is ")[2].partition(" (TrainSpec")[0].replace("\n", " ").split(", ")
    assert {name.strip() for name in listed} == names
