# %% [markdown]
# # 4. Better weights: SFT, DPO and ORPO, plugged back into the same program
#
# Five versions of one program answer the same held-out questions about contracts: as declared (`rag`), with
# demonstrations (`bootstrap`), and with weights tuned in three ways. `sft` learns the reference answers. `dpo` and
# `orpo` go on from there and learn to prefer them to the tuned model's own wrong answers.
#
# Each training is small here, to be done in a minute or two. Each is a LoRA adapter, made in a process of its own,
# merged, and put behind the program's `lm`. Nothing else in the program changes.

# %%
import place

here = place.find()
here

# %%
import json
import math

import pandas as pd

import synth_dspy

run = synth_dspy.compile_task(
    "contract_qa",
    arms=["rag", "bootstrap", "sft", "dpo", "orpo"],
    runs_folder=here.runs / "04_tune",
    limit=12 if here.quick else None,
    evaluation={"held_out": 20 if here.quick else 40, "validation": 4 if here.quick else 8},
    synthesis={"candidates": 0 if here.quick else 8},
    training={
        "minutes": 10,  # of each at the most; rows that would take longer are left out
        "options": {
            "sft": {"examples": 40 if here.quick else 64},
            "dpo": {"examples": 8 if here.quick else 24, "most": 4 if here.quick else 12},
            "orpo": {"examples": 8 if here.quick else 24, "most": 4 if here.quick else 12},
        },
    },
    retention={"prompts": 0},
    splits={"folds": 1},
)
run

# %% [markdown]
# ## What was trained
#
# Rows, steps, and *parity*: the tuned weights, merged and served, must write the same tokens as the model that was
# trained. An arm that fails this is thrown away. `dpo` and `orpo` have few rows, since they learn from answers of which
# one is clearly better than the other, and a model of this size seldom writes two such.

# %%
arms_of_run = json.loads((run.folder / "results.json").read_text())["arms"]
training = {arm["name"]: arm["training"] for arm in arms_of_run if arm["training"]}
pd.DataFrame(
    {
        name: {
            "rows": facts["rows"],
            "steps": facts["steps"],
            "parity": f"{100 * facts['parity']['share']:.0f} % of {facts['parity']['tokens']} tokens",
        }
        for name, facts in training.items()
    }
).T

# %% [markdown]
# ## One question, every version

# %%
predictions = pd.read_json(run.folder / "predictions.jsonl", lines=True)
scored = predictions[predictions["arm"].isin(run.arms)]
first = scored.loc[scored["references"].map(len) > 0, "id"].iloc[0]
example = scored[scored["id"] == first].set_index("arm")
print(example["question"].iloc[0], "->", example["references"].iloc[0][0])
example[["prediction"]]

# %% [markdown]
# ## The five-way benchmark

# %%
run.results.figure()

# %%
print(run.results.verdict)

# %% [markdown]
# ## Checked
#
# The comparison is fair only if the five differ in what was compiled and in nothing else. So: each answered the same
# questions and read the same passages; the tuned programs ask with the signature of the declared one, of other
# weights; and what is served is what was trained. DPO's loss is known before anything is learned: the model and the
# reference that it is held to are the same then, so each pair costs log 2. Another value would mean another reference.

# %%
asked = {arm: set(rows["id"]) for arm, rows in scored.groupby("arm")}
read = scored.assign(passages=scored["passages"].map(lambda passages: json.dumps(passages, sort_keys=True)))
declared = run.program("rag").predictors()[0]

assert set(training) == {"sft", "dpo", "orpo"}, [arm["failed"] for arm in arms_of_run]
assert all(ids == asked["rag"] for ids in asked.values()), "the arms answered different questions"
assert read.groupby("id")["passages"].nunique().eq(1).all(), "two arms read different passages"
for name, facts in training.items():
    predictor = run.program(name).predictors()[0]
    assert predictor.signature.instructions == declared.signature.instructions, name
    assert predictor.lm.model != declared.lm.model, f"{name} is served by the student's own weights"
    assert facts["parity"]["share"] >= 0.9, f"{name} is served otherwise than it was trained"
assert abs(training["dpo"]["loss"]["first"] - math.log(2)) < 0.05, "DPO did not begin at its reference"
f"{len(asked)} programs, {len(asked['rag'])} questions each, the same passages; {len(training)} have tuned weights"
