# %% [markdown]
# # 7. Your own program
#
# No task file, no documents: any DSPy program, rows, and a metric. Here support tickets go to teams. Replace the
# three cells below with your own; everything after them stays as it is.

# %%
import place

here = place.find()
here

# %%
from typing import Literal

import dspy
import pandas as pd

import synth_dspy


class Triage(dspy.Signature):
    """Say which team answers the ticket."""

    ticket: str = dspy.InputField()
    team: Literal["billing", "cards", "login", "transfers"] = dspy.OutputField()


program = dspy.Predict(Triage)

# %%
SUBJECTS = {
    "billing": ["the monthly fee", "my last invoice", "a charge that I do not know", "the price of my plan"],
    "cards": ["my debit card", "the card's PIN", "a card that the machine kept", "the new credit card"],
    "login": ["my password", "the code by text message", "the app, which locks me out", "my user name"],
    "transfers": ["a payment to my landlord", "money sent abroad", "a standing order", "a transfer to my sister"],
}
FRAMES = [
    "I have a question about {}.",
    "There is a problem with {}. Can you help?",
    "Since yesterday something is wrong with {}.",
    "Whom do I ask about {}?",
    "Hello, it is about {} again, and I am annoyed.",
]
rows = [
    dspy.Example(ticket=frame.format(subject), team=team).with_inputs("ticket")
    for team, subjects in SUBJECTS.items()
    for subject in subjects
    for frame in FRAMES
]


# %%
def metric(example, prediction, trace=None):
    """Whether the ticket goes to the right team."""
    return prediction.team == example.team


# %% [markdown]
# ## Compile
#
# The rows are split: some are learned from, some decide between prompts, and the rest are only scored on.

# %%
run = synth_dspy.compile_task(
    program=program,
    trainset=rows,
    metric=metric,
    name="tickets",
    arms=["sft"] if here.quick else ["bootstrap", "sft"],
    runs_folder=here.runs / "07_your_own_program",
    evaluation={"held_out": 8 if here.quick else 32, "validation": 4 if here.quick else 12},
    training={"minutes": 0.1 if here.quick else 0.5},
    retention={"prompts": 0},
    splits={"folds": 1},
)
run

# %% [markdown]
# ## Use it
#
# The tuned program, on tickets that nobody wrote before. It runs on the tuned weights, in this process.

# %%
tickets = [
    "The cash machine swallowed my card in Lisbon",
    "Why did you take 4.90 from my account on the first?",
    "I can't get in, it says my password is wrong",
    "The rent never reached my landlord",
    "Good morning!",
]
tuned = run.program("sft")
answers = [tuned(ticket=ticket).team for ticket in tickets]
pd.DataFrame({"ticket": tickets, "team": answers})

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
# The embedded model can only write a label, also for a ticket that belongs to no team. The saved program is the one
# that was scored. And the program that went in is as it was: nothing was compiled into it behind your back.

# %%
labels = set(SUBJECTS)

assert set(answers) <= labels, answers
assert [again(ticket=ticket).team for ticket in tickets] == answers, "the saved program answers otherwise"
assert program.lm is None, "the program that went in was changed"
assert not program.demos, "the program that went in was changed"
assert run.results["sft"].score.n == run.results["zero_shot"].score.n, "the arms were scored on different rows"
f"{len(tickets)} tickets, each to one of {len(labels)} teams, and the same from the saved program"
