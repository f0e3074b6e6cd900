# %% [markdown]
# # 2. The baseline, what it looks up, and who judges it
#
# Before anything is tuned: how good is plain retrieval-augmented generation, where does it fail, and can the judge
# that says so be trusted? Every later notebook is compared with this row.

# %%
import place

here = place.find()
here

# %% [markdown]
# `doc_qa` is a task file of this project (`programs/doc_qa.py`), with 120 questions about a staff handbook that
# people wrote. `rag` is the program as it is declared, without an optimizer.

# %%
import json

import dspy
import pandas as pd

import synth_dspy
from synth_dspy import ReferenceJudge

run = synth_dspy.compile_task(
    "doc_qa",
    arms=["rag"],
    runs_folder=here.runs / "02_rag",
    evaluation={"held_out": 16 if here.quick else 40},
    synthesis={"candidates": 0},
    retention={"prompts": 0},
    splits={"folds": 1},
)

# %% [markdown]
# ## What it scores
#
# `score` is the share of answers that the judge calls right. `recall` is the share of questions whose gold passage
# was among those looked up, `mrr` how high it ranked, `grounded` how far the passages support the answer.

# %%
run

# %% [markdown]
# ## One question, step by step
#
# The compiled program is an ordinary DSPy module. Its prediction carries the passages that it read.

# %%
held_out = [json.loads(line) for line in (run.folder / "datasets" / "test.jsonl").read_text().splitlines()]
asked = next(row for row in held_out if row["references"])
answer = run.program("rag")(question=asked["question"], document=asked["document"])
print("question: ", asked["question"])
print("reference:", asked["references"][0])
print("answer:   ", answer.answer)
pd.DataFrame({"passage": [passage[:110] + " …" for passage in answer.passages]})

# %% [markdown]
# ## Retrieval or reading?
#
# The answers, by whether the gold passage was looked up. Where it was and the answer is wrong, the model failed to
# read; no better search would help. That is what the notebooks 3 to 5 work on.

# %%
predictions = pd.read_json(run.folder / "predictions.jsonl", lines=True)
rag = predictions[predictions["arm"] == "rag"]
scores = pd.DataFrame(list(rag["scores"]))[["recall", "judged"]].dropna()
table = pd.crosstab(
    (scores["recall"] > 0).map({True: "gold passage found", False: "not found"}).rename("search"),
    (scores["judged"] >= 0.5).map({True: "right", False: "wrong"}).rename("answer"),
)
table.reindex(index=["gold passage found", "not found"], columns=["right", "wrong"], fill_value=0)

# %% [markdown]
# ## The judge on trial
#
# The judge compares an answer with the references; no language model is involved. It is put to the test on questions
# that it was not fitted on: the reference itself is right; the answer to another question, and the reference denied,
# are wrong.

# %%
judge = ReferenceJudge()
answered = [row for row in held_out if row["references"] and row["answer_type"] != "yes_no"]
shifted = answered[1:] + answered[:1]


def accepted(answers):
    """Share of the answers that the judge calls right."""
    given = zip(answered, answers, strict=True)
    verdicts = [judge(dspy.Example(**row), dspy.Prediction(answer=text)) >= 0.5 for row, text in given]
    return sum(verdicts) / len(verdicts)


trial = pd.Series(
    {
        "the reference": accepted(row["references"][0] for row in answered),
        "the answer to another question": accepted(row["references"][0] for row in shifted),
        "the reference, denied": accepted(f"It is not {row['references'][0]}." for row in answered),
    },
    name="called right",
)
trial.to_frame().round(2)

# %% [markdown]
# ## The figure
#
# The baseline beside trivial answers. A score is worth something only if it beats "always silent".

# %%
run.results.figure()

# %% [markdown]
# ## Checked
#
# The judge must accept references and refuse the other two. And a run is a function of its answers: resumed, it asks
# the model nothing anew, and ends with the same bytes.

# %%
before = (run.folder / "results.json").read_bytes()
synth_dspy.compile_task("doc_qa", resume=run.folder)

assert trial["the reference"] >= 0.95, trial
assert trial["the answer to another question"] <= 0.1, trial
assert trial["the reference, denied"] <= 0.1, trial
assert (run.folder / "results.json").read_bytes() == before, "the resumed run differs"
f"The judge passed on {len(answered)} questions; the resumed run ended with the same {len(before):,} bytes"
