# %% [markdown]
# # 6. The loop: drift, the gate, promotion
#
# A service answers with a champion. Something changes; a challenger is trained; a gate decides whether it takes over.
# Here each part is put to the test by itself, on the programs of the five-way benchmark (`04_tune`) and with no
# further model call. `python -m synth_dspy.loop contract_qa` does it all, against a running service.

# %%
import place

here = place.find()
here

# %%
import itertools
import json
import random
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from synth_dspy import Run, loop_tools

benchmark = Run(here.latest("04_tune"))
predictions = pd.read_json(benchmark.folder / "predictions.jsonl", lines=True)

# %% [markdown]
# ## The champion
#
# A version is an arm of a finished run, with the hashes of its program and data. The champion is an alias; who moved
# it, when and why is kept.

# %%
database = here.runs / "06_loop" / "production.sqlite"
for file in database.parent.glob("production.sqlite*"):
    file.unlink()
store = loop_tools.Store.open(database, "contract_qa")
registry = loop_tools.Registry(store)
champion = registry.register(benchmark.folder, "rag")
registry.promote(champion.id, "person:notebook", "the declared program, to begin with")
f"{champion.id} ({champion.arm}) is the champion"

# %% [markdown]
# ## Traffic, then drift
#
# First 128 questions of the kind that the champion was made for, drawn again and again from the held-out ones. Then
# staff ask 128 about their handbook instead, and the champion has no passages for them.

# %%
numbers = itertools.count(1)


def request(question, answer, passages):
    """A request that the champion has just answered."""
    return loop_tools.Request(
        id=uuid.UUID(int=next(numbers)).hex,
        at=datetime.now(UTC),
        version=champion.id,
        route="champion",
        inputs={"question": question},
        answer=answer,
        abstained=False,
        passages=passages,
        prompt_tokens=200,
        completion_tokens=10,
        latency_s=0.5,
    )


draws = random.Random(0)
answered = predictions[predictions["arm"] == "rag"].to_dict("records")
handbook = [json.loads(line) for line in Path("../data/handbook/questions.jsonl").read_text().splitlines()]
usual = [
    (row["question"], row["prediction"], tuple(passage["text"] for passage in row["passages"]))
    for row in draws.choices(answered, k=128)
]
unusual = [(row["question"], "The contract is silent.", ()) for row in draws.choices(handbook, k=128)]

# %% [markdown]
# The monitor looks after every 32 requests. Each signal turns what is new into *evidence* of a change, and alarms at
# 160. Evidence multiplies: if nothing has changed, it is expected to stay at 1, and the probability that any of the
# eight signals ever reaches 160 is 5 % at most, however often one looks.
#
# How fast can an alarm be? A window of 32 questions is compared with those before by a permutation test of their
# embeddings. Its p-value is 0.001 at the least, which multiplies the evidence by about 21. So one strange window is
# never enough, and three or four are, if there were some usual ones to compare them with.

# %%
monitor = loop_tools.Monitor(
    store, loop_tools.embedder_for("embedded/all-minilm-l6-v2").embed, lambda: ({}, {}), settle_s=0.0
)
looks = {}
for traffic, kind in [(usual, "usual"), (unusual, "handbook")]:
    for begin in range(0, len(traffic), 32):
        store.add_together([request(*each) for each in traffic[begin : begin + 32]])
        looks[kind, begin + 32] = monitor.look()
loud = looks["handbook", 128]

evidence = pd.DataFrame(
    {look: {reading.signal: f"{reading.statistic:,.1f}" for reading in readings} for look, readings in looks.items()}
).T.rename_axis(["traffic", "requests"])
evidence["alarm"] = [", ".join(reading.signal for reading in loop_tools.alarms(each)) for each in looks.values()]
evidence.drop(columns="documents")

# %%
for reading in loop_tools.alarms(loud):
    print(loop_tools.describe(reading))

# %% [markdown]
# ## The gate
#
# The tuned program is the challenger. Both answered the same held-out questions; the gate promotes where the interval
# of the difference lies above zero, with margins and the number of looks set beforehand.

# %%
challenger = registry.register(benchmark.folder, "sft")
judged = {
    arm: {row["id"]: row for row in predictions[predictions["arm"] == arm].to_dict("records")} for arm in ("rag", "sft")
}


def pairs(before, after):
    """The questions that both arms answered."""
    return [
        loop_tools.Pair(row["scores"]["judged"], judged[after][name]["scores"]["judged"], row["group"])
        for name, row in judged[before].items()
    ]


decision = loop_tools.decide(pairs("rag", "sft"))
reverse = loop_tools.decide(pairs("sft", "rag"))
itself = loop_tools.decide(pairs("rag", "rag"))
for trial, each in {"sft against rag": decision, "rag against sft": reverse, "rag against itself": itself}.items():
    print(f"{trial}: {each.verdict}. {each.reason}")

# %% [markdown]
# ## Promotion, and back
#
# What the gate lets through is promoted. Otherwise a person may still do so, by name and with a reason; and whatever
# was promoted can be rolled back in one move.

# %%
by, reason = ("loop", decision.reason) if decision.verdict == "promote" else ("person:notebook", "to try it out")
registry.promote(challenger.id, by, reason, decision.evidence())
promoted = registry.alias("champion")
registry.roll_back("person:notebook", "the exercise is over")
pd.DataFrame(
    [{"alias": m.alias, "from": m.before, "to": m.version, "by": m.by, "reason": m.reason} for m in registry.moves()]
)

# %% [markdown]
# ## The figure
#
# The differences that the gate decided on, each arm's from the baseline's. A hollow dot is no evidence of any.

# %%
benchmark.results.figure("differences")

# %% [markdown]
# ## Checked
#
# No alarm on usual traffic, at any of four looks; an alarm about the questions once they are other ones, though not at
# the first window, which cannot suffice. A gate that would promote a program over itself, or both of two programs over
# each other, decides nothing. And a rollback restores exactly what was there.

# %%
first = next((count for (kind, count), each in looks.items() if kind == "handbook" and loop_tools.alarms(each)), None)
signals = {reading.signal for reading in loop_tools.alarms(loud)}

for (kind, count), readings in looks.items():
    alarms = loop_tools.alarms(readings)
    assert kind != "usual" or not alarms, f"a false alarm after {count}: {loop_tools.describe(alarms[0])}"
assert "questions" in signals, "the new questions went unnoticed"
assert first > 32, "one window of questions raised the alarm"
assert itself.verdict != "promote", itself.reason
assert not decision.verdict == reverse.verdict == "promote", "each is better than the other"
assert promoted == challenger.id
assert registry.alias("champion") == champion.id
store.close()
f"no false alarm, and one after {first} new questions; the gate: {decision.verdict}; {champion.id} is champion again"
