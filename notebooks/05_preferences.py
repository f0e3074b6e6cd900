# %% [markdown]
# # 5. Preferences: people's feedback, AI feedback, KTO and GRPO
#
# People correct an answer, or say that it is good or bad; most answers get no opinion at all, and a judge fills in.
# `kto` learns from single answers called good or bad, so a thumb is enough. `grpo` needs no answers: the model
# samples several, a reward scores them, and the better ones become likelier.
#
# This notebook asks the baseline of the five-way benchmark (`04_tune`), rates what it says, and learns from the
# ratings.

# %%
import place

here = place.find()
here

# %%
import json

import dspy
import pandas as pd

import synth_dspy
from synth_dspy import Run, document_tools, metrics

benchmark = Run(here.latest("04_tune"))


def rows(run, name):
    """A file of a run's data, as a list of rows."""
    return [json.loads(line) for line in (run.folder / "datasets" / f"{name}.jsonl").read_text().splitlines()]


learnable = [row for row in rows(benchmark, "train") if row["origin"] == "gold" and row["references"]]
asked = learnable[:12] if here.quick else learnable[::2][:32]
held_out = rows(benchmark, "test")

# %% [markdown]
# ## What people say
#
# The baseline answers questions that may be learned from. The references stand in for a person, who calls an answer
# good where it says much of what a reference says.

# %%
program = benchmark.program("rag")
answers = [program(question=row["question"], document=row["document"]) for row in asked]
people = [metrics.token_f1(dspy.Example(**row), answer) >= 0.5 for row, answer in zip(asked, answers, strict=True)]
f"{sum(people)} of {len(people)} answers are good"

# %% [markdown]
# ## What a judge says
#
# AI feedback, without references: do the passages support the answer? It is not the same question, so the two differ,
# and the table says how. Where they differ much, AI feedback teaches the wrong thing.

# %%
judged = [document_tools.grounded(dspy.Example(**row), answer) for row, answer in zip(asked, answers, strict=True)]
names = {1.0: "supported", 0.0: "not supported"}
pd.crosstab(
    pd.Series(people, name="people").map({True: "good", False: "bad"}),
    pd.Series([names.get(score, "no opinion: it abstains") for score in judged], name="judge"),
)

# %% [markdown]
# ## The file of feedback
#
# People's opinions of half of the answers, with a correction where the answer is bad; the judge's of the others. And
# one mistake on purpose: three lines about held-out questions. They must not be learned.

# %%
feedback = []
for number, (row, answer, good, score) in enumerate(zip(asked, answers, people, judged, strict=True)):
    prompt = {"question": row["question"], "document": row["document"]}
    if number % 2 == 0:
        feedback.append({**prompt, "answer": answer.answer or "-", "good": good})
        if not good:
            feedback.append({**prompt, "answer": row["references"][0], "good": True})
    elif score in names:
        feedback.append({**prompt, "answer": answer.answer, "good": score == 1.0, "source": "ai"})
leaks = [
    {"question": row["question"], "document": row["document"], "answer": row["references"][0], "good": True}
    for row in held_out
    if row["references"]
][:3]

path = here.runs / "05_preferences" / "feedback.jsonl"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text("".join(json.dumps(line) + "\n" for line in [*feedback, *leaks]))
pd.crosstab(
    pd.Series([line.get("source", "people") for line in feedback], name="from"),
    pd.Series(["good" if line["good"] else "bad" for line in feedback], name="called"),
)

# %% [markdown]
# ## Learn from it
#
# The settings are those of the benchmark, so the held-out questions are too.

# %%
run = synth_dspy.compile_task(
    "contract_qa",
    arms=["rag", "kto", "grpo"],
    runs_folder=here.runs / "05_preferences",
    limit=12 if here.quick else None,
    evaluation={"held_out": 20 if here.quick else 40, "validation": 4 if here.quick else 8},
    synthesis={"candidates": 0},
    training={
        "minutes": 10,
        "feedback": path,
        "options": {
            "sft": {"examples": 8 if here.quick else 32},
            "kto": {"examples": 8 if here.quick else 16, "most": 12 if here.quick else 24},
            "grpo": {"examples": 2 if here.quick else 8},
        },
    },
    retention={"prompts": 0},
    splits={"folds": 1},
)

# %% [markdown]
# ## Beside the five
#
# The rows of the benchmark, read again and not run again, and the two new ones. `kto` and `grpo` start from an SFT of
# their own, which saw people's good answers too but fewer rows than the benchmark's. So the table does not say which
# method is best.

# %%
columns = ["score", "low", "high", "n", "f1", "exact"]
table = pd.concat([benchmark.results.to_pandas(), run.results.to_pandas().drop(index="rag")])[columns]
table.round(3)

# %%
run.results.figure()

# %% [markdown]
# ## Checked
#
# Feedback comes from use, and people use a system on the very questions that it is scored on. So the engine must
# leave out what is held out, whoever hands it in, count it, and keep it out of every row that a training read.

# %%
questions = {row["question"] for row in held_out} - {row["question"] for row in learnable}
documents = {row["document"] for row in held_out}
used = rows(run, "feedback")
notes = json.loads((run.folder / "results.json").read_text())["notes"]
read = [line for file in run.folder.glob("adapters/*/rows.jsonl") for line in file.read_text().splitlines()]

assert {"kto", "grpo"} <= set(run.arms), [arm.failed for arm in run.results.arms]
assert [row["id"] for row in rows(run, "test")] == [row["id"] for row in held_out], "the runs are scored on other items"
assert used, "no feedback was used"
assert read, "nothing was trained"
assert not {row["document"] for row in used} & documents, "feedback about a held-out document is learned"
assert not [line for line in read if any(json.dumps(question)[1:-1] in line for question in questions)], "leaked"
assert any(f"{len(leaks)} line" in note and "held-out" in note for note in notes), notes
f"{len(used)} of {len(feedback) + len(leaks)} lines were used; {len(read)} rows to train on were made, none held out"
