# %% [markdown]
# # 7. Your own program
#
# No task file, no documents: any DSPy program, rows, and a metric. Here a program finds the order that a customer's
# message is about. Replace the three cells below with your own; everything after them stays as it is.

# %%
import place

here = place.find()
here

# %%
import json
import random

import dspy
import pandas as pd

import synth_dspy


class FindOrder(dspy.Signature):
    """Name the order that the message is about."""

    message: str = dspy.InputField()
    order: str = dspy.OutputField()


program = dspy.Predict(FindOrder)

# %% [markdown]
# Messages in 16 wordings, six of each, with other numbers in them that a careless reader would take. The column `group`
# keeps rows that are alike in the same split: the program is scored on wordings that it has not learned from. Without
# it, repeating what it learned would look like skill.

# %%
WORDINGS = [
    "My parcel has not come. It is order K-{order}, paid with invoice R-{invoice}.",
    "I want to send back K-{order}. The invoice is R-{invoice}; my number is {phone}.",
    "Invoice R-{invoice} is wrong: I paid for K-{order} twice. Please call {phone}.",
    "Hello, where is order K-{order}? I have been waiting since the {day}th.",
    "You charged invoice R-{invoice} on the {day}th, but K-{order} was cancelled.",
    "Can I still change the address of K-{order}? You reach me under {phone}.",
    "The box of K-{order} was open, and half is missing. See invoice R-{invoice}.",
    "On the {day}th I got the wrong size. Please exchange it, K-{order}, and mind R-{invoice}.",
    "R-{invoice} says paid, your shop says open. Which is it? This is about K-{order}.",
    "Please deliver K-{order} to my neighbour instead, on the {day}th.",
    "Two of the cups in K-{order} are broken. I can send pictures from {phone}.",
    "I have had no answer since the {day}th. K-{order}, invoice R-{invoice}. Hello?",
    "Kindly send me a copy of R-{invoice}; I need it for K-{order}.",
    "My son ordered this without asking, K-{order}. Take it back! Call {phone} after the {day}th.",
    "The voucher did not work, so R-{invoice} is too high. The order was K-{order}.",
    "Is K-{order} on its way? The courier said the {day}th and then hung up.",
]
draws = random.Random(0)
rows = []
for number in range(96):
    group = number % len(WORDINGS)
    numbers = {
        "order": draws.randrange(1000, 10000),
        "invoice": draws.randrange(1000, 10000),
        "phone": draws.randrange(200000, 1000000),
        "day": draws.randrange(4, 20),
    }
    message, order = WORDINGS[group].format(**numbers), f"K-{numbers['order']}"
    rows.append(dspy.Example(message=message, order=order, group=f"wording-{group}").with_inputs("message"))


# %%
def metric(example, prediction, trace=None):
    """Whether the answer is the order's number and nothing else."""
    return prediction.order.strip() == example.order


# %% [markdown]
# ## Compile
#
# Three programs: as declared (`zero_shot`), with demonstrations (`bootstrap`), and with weights tuned on 16 rows
# (`sft`). The table has one row for each, scored by the metric. The verdict is careful: with fewer than 30 held-out
# messages it speaks of too few, however small p is. Read the interval, and bring more rows.

# %%
run = synth_dspy.compile_task(
    program=program,
    trainset=rows,
    metric=metric,
    name="orders",
    arms=["bootstrap", "sft"],
    runs_folder=here.runs / "07_your_own_program",
    evaluation={"held_out": 30, "validation": 6},
    training={"minutes": 10, "options": {"sft": {"examples": 16}}},
    retention={"prompts": 0},
    splits={"folds": 1},
)
run

# %% [markdown]
# ## What changed
#
# The same held-out messages, before and after. The small model often sees the order and does not know the form: it
# repeats the message, or adds the invoice. Tuning teaches a form from a few rows; what a model cannot do at all it
# would not.

# %%
predictions = pd.read_json(run.folder / "predictions.jsonl", lines=True)
by_arm = predictions.pivot_table(index="question", columns="arm", values="prediction", aggfunc="first")
by_arm[["zero_shot", "bootstrap", "sft"]].iloc[::5]

# %% [markdown]
# ## Use it
#
# The tuned program, on messages that nobody wrote before. It runs on the tuned weights, in this process.

# %%
messages = [
    "Good morning, K-4417 came without its lid.",
    "Which invoice belongs to K-2090? I only have R-5512.",
    "Stop the order! The number is K-7003, my phone 665120.",
]
tuned = run.program("sft")
answers = [tuned(message=message).order for message in messages]
pd.DataFrame({"message": messages, "order": answers})

# %% [markdown]
# ## Keep it
#
# What a run saves is JSON and weights, nothing pickled. `load` needs the program that was compiled, and opens it
# anywhere.

# %%
again = synth_dspy.load(run.folder / "programs" / "sft", program=program)
run.results.figure()

# %% [markdown]
# ## Checked
#
# No wording is both learned from and scored on, and every program was scored on the same messages. The tuned one is
# right more often, and the saved one answers as it does. And the program that went in is as it was: nothing was
# compiled into it behind your back.


# %%
def groups(name):
    """The wordings in a split of the run's."""
    lines = (run.folder / "datasets" / f"{name}.jsonl").read_text().splitlines()
    return {json.loads(line)["group"] for line in lines}


declared, sft = run.results["zero_shot"].score, run.results["sft"].score

assert groups("test"), "there is nothing to score on"
assert not groups("test") & (groups("train") | groups("dev")), "a wording is on both sides"
assert len({arm.score.n for arm in run.results.arms}) == 1, "the arms were scored on different rows"
assert sft.mean > declared.mean, "tuning taught nothing"
assert [again(message=message).order for message in messages] == answers, "the saved program answers otherwise"
assert program.lm is None, "the program that went in was changed"
assert not program.demos, "the program that went in was changed"
f"{declared.mean:.0%} right as declared, {sft.mean:.0%} tuned, on {sft.n} messages in wordings that were not learned"
