"""Function calling: the calls for a user's request, or none if no function fits or an argument is missing.

python -m synth_dspy.compile function_calling
python -m synth_dspy.compile function_calling --task.functions path/to/module.py
python -m synth_dspy.compile function_calling --task.bfcl path/to/bfcl --limit 60
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from synth_dspy import SetupError, Task, function_tools, recipes, task

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "functions"
METHODS = ("sft", "dpo", "orpo", "kto", "grpo", "rloo", "online_dpo")


@task
def function_calling(
    functions: Path | None = None,
    examples: Path | None = None,
    bfcl: Path | None = None,
    mix: str = "single=4,choice=3,parallel=1,nested=1,missing_argument=2,irrelevant=2,multi_turn=1",
    syntax: Literal["json", "python"] = "json",
    history: Literal["prune", "summary", "all"] = "prune",
    reverse_quantile: float | None = None,
    call_token: str | None = None,
) -> Task:
    """Calls of functions.

    Args:
        functions: your own functions: a Python module, a folder of modules, an OpenAPI or tool file.
        examples: labelled examples of calling those functions, as in data/functions/examples.jsonl; without any, the
            held-out requests are synthetic.
        bfcl: the Berkeley Function Calling Leaderboard's files, as a folder, instead of your own.
        mix: shares of the categories of synthetic requests: single, choice, parallel, nested, missing_argument,
            irrelevant, multi_turn; a category that is left out is not written.
        syntax: the syntax of calls.
        history: how to shorten a conversation that is too long.
        reverse_quantile: share of the requests that the reverse-query filter rejects; by default those below 0.5.
        call_token: the beginning of a reply with calls, such as <tool_call>; training makes it a single token, and
            cannot use another.
    """
    source = function_tools.Functions(SAMPLE, functions, examples, bfcl, syntax)
    function_tools.parse_mix(mix)  # checked before anything is read
    if reverse_quantile is not None and not 0 <= reverse_quantile < 1:
        raise SetupError(f"--task.reverse-quantile {reverse_quantile:g} is not a share: write a number such as 0.2.")
    if call_token is not None and (not call_token or any(map(str.isspace, call_token))):
        raise SetupError(f"--task.call-token {call_token!r} is not a token: write a word such as <tool_call>.")
    training = {method: {"call_token": call_token} for method in METHODS} if call_token else {}
    return Task(
        source=source,
        program=lambda resources: function_tools.FunctionCaller(
            resources, source, history, call_token=call_token or ""
        ),
        synthesizer=lambda resources: function_tools.function_synthesizer(resources, source, mix),
        filters=lambda resources: function_tools.function_filters(resources, source, quantile=reverse_quantile),
        judge=lambda resources: function_tools.CallJudge(source.own),
        metrics=function_tools.call_metrics(source.own),
        optimizers={
            "zero_shot": recipes.as_declared,
            "bootstrap": recipes.Bootstrap,
            "sft": recipes.LoraSft.with_settings(**training),
            "dpo": recipes.LoraDpo.with_settings(**training),
            "orpo": recipes.LoraOrpo.with_settings(**training),
            "kto": recipes.LoraKto.with_settings(**training),
            "grpo": recipes.LoraGrpo.with_settings(**training),
            "rloo": recipes.LoraRloo.with_settings(**training),
            "online_dpo": recipes.LoraOnlineDpo.with_settings(**training),
            "together": recipes.Together.with_settings(**training),
            "distill": recipes.Distill.with_settings(**training),
        },
        arms=("zero_shot", "bootstrap", "sft", "dpo", "orpo"),
        noun="function",
        labels="--task.functions PATH --task.examples FILE",
        words=150,
    )
