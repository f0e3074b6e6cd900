"""Made-up finished runs: a folder with the three files that comparing answers after the fact begins with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.core.knowledge import Skipped
from synth_dspy.core.training_facts import DiscardedTraining, TrainingFacts
from synth_dspy.evaluation.facts import (
    ArmFacts,
    Circumstances,
    Machine,
    ReferenceFacts,
    RowFacts,
    RunFacts,
    SplitFacts,
    TaskFacts,
)
from synth_dspy.evaluation.metrics import abstention, exact_match, retrieval_mrr, retrieval_recall, token_f1
from synth_dspy.evaluation.report.summary import summarise as summarise_run
from synth_dspy.evaluation.retention.measure import Followed, Perplexity, Retained
from synth_dspy.evaluation.scores import scores_of

SCORES = scores_of(
    {
        "f1": token_f1,
        "exact": exact_match,
        "recall": retrieval_recall,
        "mrr": retrieval_mrr,
        "abstention": abstention,
    }
)

SMALL = "embedded/smollm2-135m-instruct"
MODELS = {"student": SMALL, "teacher": SMALL, "judge": "reference", "embedder": "embedded/all-minilm-l6-v2"}


def row(arm: str, index: int, judged: float = 1.0, **more: Any) -> dict[str, Any]:
    """A prediction, as `evaluation.runner` writes it; every item is a group of its own."""
    return {
        "arm": arm,
        "id": f"item-{index:03d}",
        "group": f"doc-{index:03d}",
        "category": "Term",
        "answer_type": "text",
        "question": f"Question {index}?",
        "references": [f"right {index}"],
        "prediction": f"{arm} says {index}",
        "abstained": False,
        "passages": [],
        "latency_s": 1.0,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "cpu_s": 0.5,
        "cost_usd": None,
        "error": None,
        "scores": {"judged": judged, "f1": judged, "exact": judged},
        **more,
    }


def make_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    task: str = "contract_qa",
    models: Mapping[str, str] | None = None,
    arms: Sequence[Mapping[str, Any]] = (),
    **facts: Any,
) -> Path:
    """Write the run; arms are declared in the order of their rows unless given."""
    names = list(dict.fromkeys(r["arm"] for r in rows))
    results, measurements = summarise(
        rows,
        {
            "task": task,
            "run_id": folder.name,
            "baseline": names[0],
            "models": {**MODELS, **(models or {})},
            "held_out": "human-labelled",
            "arms": arms or [{"name": name} for name in names],
            "concurrency": 4,
            "peak_rss_mb": 900.0,
            **facts,
        },
    )
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "measurements.json").write_text(json.dumps(measurements))
    return folder


def summarise(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> tuple[Any, Any]:
    """`results` and `measurements` of rows and of what is known of their run, without the parts that facts are in."""
    arms = [ArmFacts(**{**arm, **_trainings(arm)}) for arm in facts.get("arms") or []]
    retained = {
        name: Retained(
            Followed(**each["ifeval"]) if each.get("ifeval") else None,
            Perplexity(**each["perplexity"]) if each.get("perplexity") else None,
        )
        for name, each in (facts.get("retention") or {}).items()
    }
    stations = facts.get("stations")
    run = RunFacts(
        baseline=facts.get("baseline", "rag"),
        arms=arms,
        rows=RowFacts(
            splits={name: SplitFacts(**split) for name, split in (facts.get("splits") or {}).items()},
            skipped=[Skipped(**skip) for skip in facts.get("skipped") or []],
            **_part(facts, "held_out", "synthesis", "contamination"),
        ),
        variants={variant["name"]: variant["of"] for variant in facts.get("variants") or []},
        references=[ReferenceFacts(**reference) for reference in facts.get("reference_rows") or []],
        retained=retained,
        seconds=None if stations is None else {station["name"]: station["seconds"] for station in stations},
        every_pair=facts.get("pairs") == "all",
        **_part(facts, "notes", "wall_s", "command"),
    )
    declared = TaskFacts(
        facts.get("task", ""),
        scores=facts.get("scores", SCORES),
        measured=facts.get("score", ""),
        **_part(facts, "noun", "objective", "labels", "classes", "judge", "passage_judges"),
    )
    circumstances = Circumstances(
        **_part(facts, "run_id", "seed", "models", "versions", "concurrency", "date", "peak_rss_mb"),
        machine=Machine(**facts["machine"]) if facts.get("machine") else None,
    )
    return summarise_run(rows, declared, run, circumstances)  # type: ignore[arg-type]


def _trainings(arm: Mapping[str, Any]) -> dict[str, Any]:
    training, discarded = arm.get("training"), arm.get("discarded")
    return {
        "training": TrainingFacts.of(training) if training else None,
        "discarded": DiscardedTraining(TrainingFacts.of(discarded["training"]), discarded["why"])
        if discarded
        else None,
    }


def _part(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts[name] for name in names if name in facts}
