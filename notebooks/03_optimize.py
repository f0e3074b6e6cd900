# %% [markdown]
# # 3. Better prompts: BootstrapFewShot and its successors
#
# The weights stay as they are; the prompt is compiled. `bootstrap` is DSPy's BootstrapFewShot: it runs the program
# over training questions, and answers that score well become demonstrations. `random_search` tries several such sets
# and keeps the one that does best on development questions, or none, if none does better.
#
# `gepa` and `mipro` rewrite the instruction too, from what went wrong. They need a teacher that can write one, which
# the embedded student cannot: with `models={"teacher": "openai/..."}` add them to `arms` below.

# %%
import place

here = place.find()
here

# %%
import json

import pandas as pd

import synth_dspy

arms = ["bootstrap", "random_search"]
run = synth_dspy.compile_task(
    "doc_qa",
    arms=arms,
    runs_folder=here.runs / "03_optimize",
    evaluation={"held_out": 16 if here.quick else 40, "validation": 4 if here.quick else 12},
    synthesis={"candidates": 0},
    retention={"prompts": 0},
    splits={"folds": 1},
)
run

# %% [markdown]
# ## What was compiled
#
# Demonstrations and instructions, in the very same program. Each demonstration is a training question with the
# passage that holds its answer.

# %%
compiled = {name: run.program(name).predictors()[0] for name in run.arms}
pd.DataFrame(
    {
        "demonstrations": {name: len(predictor.demos) for name, predictor in compiled.items()},
        "words of instruction": {
            name: len(predictor.signature.instructions.split()) for name, predictor in compiled.items()
        },
    }
).loc[list(run.arms)]

# %%
for demo in compiled["bootstrap"].demos[:2]:
    print(f"question: {demo['question']}\nanswer:   {demo['answer']}\n")

# %% [markdown]
# ## Did it help?
#
# Paired differences from the baseline, on the same held-out questions. A hollow dot is no evidence of a difference.
# At this size a model often copies demonstrations instead of learning from them, and the prompt gets longer with
# each.

# %%
run.results.figure("differences")

# %% [markdown]
# ## Checked
#
# An optimizer that has seen a held-out question, or even its document, would be scored on what it was fitted to. No
# compiled prompt may hold either: neither demonstrations nor instructions.


# %%
def rows(name):
    """A split of the run's, as a list of rows."""
    return [json.loads(line) for line in (run.folder / "datasets" / f"{name}.jsonl").read_text().splitlines()]


held_out, learned = rows("test"), {row["question"] for row in [*rows("train"), *rows("dev")]}
prompts = {
    name: f"{predictor.signature.instructions}\n{[dict(demo) for demo in predictor.demos]}"
    for name, predictor in compiled.items()
}
shown = [demo["question"] for predictor in compiled.values() for demo in predictor.demos]

assert set(arms) <= set(run.arms), [arm.failed for arm in run.results.arms]
assert shown, "no optimizer chose a demonstration"
assert set(shown) <= learned, "a demonstration comes from nowhere"
for name, prompt in prompts.items():
    leaked = [row["question"] for row in held_out if row["question"] in prompt]
    assert not leaked, f"{name} has seen {leaked}"
assert not {row["group"] for row in held_out} & {row["group"] for row in rows("train")}, "a document is on both sides"
f"{len(shown)} demonstrations in {len(prompts)} prompts, none of them about the {len(held_out)} held-out questions"
