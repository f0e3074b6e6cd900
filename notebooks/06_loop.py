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
from datetime import timedelta
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
moved = registry.promote(champion.id, "person:notebook", "the declared program, to begin with")
f"{champion.id} ({champion.arm}) is the champion"

# %% [markdown]
# ## Traffic, then drift
#
# First the questions that the champion was made for, again and again. Then staff ask about their handbook instead.
# The monitor compares each window of questions with those before by their embeddings; the signals together raise a
# false alarm with a probability of 5 % at most, however often one looks.

# %%
answered = predictions[predictions["arm"] == "rag"].to_dict("records")
handbook = [json.loads(line) for line in Path("../data/handbook/questions.jsonl").read_text().splitlines()]
number = itertools.count(1)


def request(question, answer, passages):
    """A request that the champion answered, a millisecond after the one before."""
    count = next(number)
    return loop_tools.Request(
        id=uuid.UUID(int=count).hex,
        at=moved.at + timedelta(milliseconds=count),
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
count = 64 if here.quick else 192
usual = [
    request(row["question"], row["prediction"], tuple(passage["text"] for passage in row["passages"]))
    for row in draws.choices(answered, k=count)
]
unusual = [request(row["question"], "The contract is silent.", ()) for row in draws.choices(handbook, k=count)]

monitor = loop_tools.Monitor(
    store, loop_tools.embedder_for("embedded/all-minilm-l6-v2").embed, lambda: ({}, {}), settle_s=0.0
)
store.add_together(usual)
quiet = monitor.look()
store.add_together(unusual)
loud = monitor.look()
pd.DataFrame(
    {
        "threshold": {reading.signal: reading.threshold for reading in quiet},
        "usual questions": {reading.signal: reading.statistic for reading in quiet},
        "and then others": {reading.signal: reading.statistic for reading in loud},
        "alarm": {reading.signal: reading.alarm for reading in loud},
    }
).round(1)

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

# %%
benchmark.results.figure("differences")

# %% [markdown]
# ## Checked
#
# No alarm on the usual questions, and one on the others that names them. A gate that would promote a program over
# itself, or both of two programs over each other, decides nothing. And a rollback restores exactly what was there.

# %%
signals = {reading.signal for reading in loop_tools.alarms(loud)}

assert not loop_tools.alarms(quiet), [loop_tools.describe(each) for each in loop_tools.alarms(quiet)]
assert here.quick or "questions" in signals, "the new questions went unnoticed"
assert itself.verdict != "promote", itself.reason
assert not decision.verdict == reverse.verdict == "promote", "each is better than the other"
assert promoted == challenger.id
assert registry.alias("champion") == champion.id
store.close()
f"alarms: {', '.join(sorted(signals)) or 'none'}; the gate says {decision.verdict}; the champion is {champion.id} again"
