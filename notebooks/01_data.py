# %% [markdown]
# # 1. From documents to questions
#
# A benchmark needs questions whose answers somebody has checked. A folder of documents has none. So the teacher
# proposes some, a person reads them, and the documents that are scored on are kept away from everything that is
# learned.
#
# The teacher here is a model of 135 million parameters that runs in this process. It is too small to write good
# questions, so a rule turns statements of the documents round. A stronger teacher also writes its own.

# %%
import place

here = place.find()
here

# %% [markdown]
# ## The documents
#
# A copy of the staff handbook, because the proposed questions are kept with the documents. Text, Markdown, HTML, PDF
# and DOCX are read, and cut into chunks, the pieces that a search returns.

# %%
import json
import shutil

import dspy
import pandas as pd

import synth_dspy
from synth_dspy import RAG, AwaitingReview, Documents, Task, document_tools, recipes

folder = here.runs / "01_data" / "handbook"
shutil.rmtree(folder, ignore_errors=True)
shutil.copytree("../data/handbook/documents", folder)

source = Documents(folder, abstain="The handbook does not say.")
knowledge = source.read()
pd.DataFrame(
    {
        "words": [len(document.text.split()) for document in knowledge.documents],
        "chunks": [sum(item.group == document.id for item in knowledge.items) for document in knowledge.documents],
    },
    index=[document.id for document in knowledge.documents],
).head(6)

# %% [markdown]
# ## The task
#
# A signature, a program that looks passages up, and the source. Nothing is read or asked yet.


# %%
class AnswerFromHandbook(dspy.Signature):
    """Answer the question from the passages of the handbook, in as few of their words as possible.
    If they do not answer it, write: The handbook does not say."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


handbook = Task(
    program=RAG(AnswerFromHandbook), source=source, noun="page", optimizers={"rag": recipes.as_declared}, words=100
)
settings = {
    "name": "handbook",
    "runs_folder": here.runs / "01_data",
    "evaluation": {"held_out": 4 if here.quick else 24},
    "synthesis": {"candidates": 12 if here.quick else 24},
    "retention": {"prompts": 0},
    "splits": {"folds": 1},
}

# %% [markdown]
# ## The teacher proposes, a person decides
#
# The run stops: it will not score anything on questions that nobody has read.

# %%
try:
    synth_dspy.compile_task(handbook, **settings)
except AwaitingReview as waiting:
    print(waiting)

# %%
questions = document_tools.proposed_questions(folder)
questions.to_pandas()[["question", "answer", "document"]].head(8)

# %% [markdown]
# Read them here, or with `python -m synth_dspy.label FOLDER`. This cell stands in for the reader: it refuses long
# questions and adds one that the page does not answer. Programs must be able to say so.

# %%
long = [number for number, row in enumerate(questions) if len(row["question"].split()) > 16]
questions.accept(*(number for number in range(len(questions)) if number not in long))
questions.reject(*long)
questions.add("Which colour are the parking tickets?", answer="", document=questions[0]["document"])
questions.save()
dict(questions.counts)

# %% [markdown]
# ## The run
#
# The same call again. It now has questions, and divides them by document: some to learn from, some to score on. About
# the documents to learn from, the teacher writes further candidates. Each candidate passes a chain of filters or is
# dropped with a reason.

# %%
run = synth_dspy.compile_task(handbook, **settings)


# %%
def rows(name):
    """A file of the run's, as a list of rows."""
    return [json.loads(line) for line in (run.folder / "datasets" / name).read_text().splitlines()]


def dropped(candidate):
    """The filter that dropped a candidate, and why."""
    verdict = candidate["verdicts"][-1]
    return "" if candidate["kept"] else f"{verdict['filter']}: {verdict['why']}".removesuffix(": ")


candidates = rows("candidates-train.jsonl")
pd.DataFrame(candidates)[["question", "answer", "group"]].assign(dropped=[dropped(each) for each in candidates]).head(8)

# %% [markdown]
# The small teacher often writes no question at all, and is found out by the first filter; others drop what was asked
# already, what its page does not answer, and what is too close to a held-out question. Some candidates ask on purpose
# for what a page does not say: the right answer is then to say so.
#
# ## What was left
#
# The funnel: candidates that were written, and how many each filter let pass.

# %%
run.results.figure("yield")

# %% [markdown]
# ## Checked
#
# Two things must hold of any folder, or the scores mean nothing: an accepted answer stands in its document word for
# word, and no row to learn from comes from a document that is held out, or repeats a held-out question.

# %%
texts = {document.id: " ".join(document.text.split()) for document in knowledge.documents}
accepted = [row for row in questions if row["status"] == "accepted" and row["answer"]]
invented = [row["question"] for row in accepted if " ".join(row["answer"].split()) not in texts[row["document"]]]
learned, held_out = [*rows("train.jsonl"), *rows("dev.jsonl")], rows("test.jsonl")

assert accepted, "no question was accepted"
assert not invented, f"answers that their documents do not hold: {invented}"
assert learned, "there is nothing to learn from"
assert held_out, "there is nothing to score on"
assert not {row["group"] for row in learned} & {row["group"] for row in held_out}, "a document is on both sides"
assert not {row["question"] for row in learned} & {row["question"] for row in held_out}, "a question is on both sides"
f"{len(accepted)} answers stand in their documents; {len(learned)} rows to learn from and {len(held_out)} to score on"
