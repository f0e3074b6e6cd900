"""Continued pre-training: the student reads the documents themselves, before or instead of learning from answers.

Gururangan et al., "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks", arXiv:2004.10964; with a replay
of general text against forgetting, Ibrahim et al., "Simple and Scalable Strategies to Continually Pre-train Large
Language Models", arXiv:2403.08763. Read are the documents of the training questions alone: those of dev and held-out
questions stand for the documents to come, which the program only looks things up in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import dspy

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.io import jsonl
from synth_dspy.core.s3.reading import local
from synth_dspy.training.optimizer import Method, Settings, WeightOptimizer, bare, spread_evenly, train, trainable_lm
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.spec import PROMPTS
from synth_dspy.training.traces import prompts

PIECE = 2000
"""Characters of a replayed row: short enough to spread replay evenly among the documents."""


@dataclass(frozen=True)
class Cpt(WeightOptimizer):
    """LoRA continued pre-training on the documents of the training questions.

    `examples` is the maximum number of documents; None: all.

    Attributes:
        replay: a file of general text to mix in: plain text, or JSON lines with `text`; none comes with the project.
        replay_share: share of the text that is replayed, as far as the file goes.
    """

    replay: str | None = None
    replay_share: float = 0.2

    method: ClassVar[Method] = "cpt"
    # Blocks of 512 tokens: a longer one takes the memory of logits and attention, and a document rarely needs it here.
    cpu: ClassVar[Settings] = {
        "learning_rate": 2e-4,
        "epochs": 1,
        "batch": 2,
        "warmup_steps": 2,
        "max_tokens": 512,
        "gguf": "F16",
    }
    gpu: ClassVar[Settings] = {"lora": {"rank": 64, "alpha": 64}}

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """Train on the documents, and return a copy of the program with the tuned LM.

        Raises:
            ArmError: the task has no documents, or the model has no local weights.
            SetupError: there is no text to replay where the settings name some.
        """
        trainable_lm(student)
        documents = self._documents(trainset)
        if not documents:
            raise ArmError("The arm reads the documents of the training questions, and this task's have none.")
        replayed = self._replayed(sum(len(row["text"]) for row in documents))
        rows = spread_evenly(documents, replayed)
        program = bare(student)
        options: dict[str, Any] = {
            "seed": self.resources.seed,
            "counts": {
                "rows": len(rows),
                "by_origin": {"document": len(documents), **({"replay": len(replayed)} if replayed else {})},
                "dropped": {},
            },
            **self.options(len(rows)),
        }
        options["prompts"] = prompts(program, list(valset or ())[:PROMPTS], self.resources.executor)[:PROMPTS]
        return train(program, self.method, rows, **options)

    def _documents(self, trainset: Sequence[dspy.Example]) -> list[dict[str, Any]]:
        """The documents that training questions are about, in the order of the seed."""
        search = self.resources.retriever
        if search is None:
            return []
        names = dict.fromkeys(str(row.get("document") or row.get("group")) for row in self.ordered(trainset))
        rows = [{"id": name, "source": name, "origin": "document", "text": search.text(name)} for name in names]
        return [row for row in rows if row["text"].strip()][: self.bound()]

    def _replayed(self, size: int) -> list[dict[str, Any]]:
        """General text, `replay_share` of the whole, in pieces.

        Args:
            size: characters of the documents.
        """
        if self.replay is None or self.replay_share <= 0:
            return []
        text = _read(self.replay)[: int(size * self.replay_share / (1 - self.replay_share))]
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        return [
            {"id": f"replay-{number}", "source": "replay", "origin": "replay", "text": piece}
            for number, piece in enumerate(pieces)
            if piece.strip()
        ]


@dataclass(frozen=True)
class CptSft(LoraSft):
    """LoRA supervised fine-tuning on the reference answers, after continued pre-training on the documents.

    The settings are those of cpt and of sft.
    """

    begins_with: ClassVar[Method | None] = "cpt"

    def start(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None
    ) -> dspy.Module:
        return Cpt(self.resources, self.metric).compile(student, trainset=trainset, valset=valset)


def check_replay(options: Mapping[str, Any]) -> None:
    """Check the settings of cpt's replay, before any work is done.

    Raises:
        SetupError: the share is not below 1, or the file cannot be read; names it.
    """
    if (share := options.get("replay_share", 0.0)) >= 1:
        raise SetupError(f"training.options.cpt.replay_share is {share:g}: it must be less than 1.")
    if (replay := options.get("replay")) is not None:
        _read(replay)


def _read(name: str) -> str:
    """The text of a file, by path or `s3://` address.

    Raises:
        SetupError: it cannot be read; names it.
    """
    path = local(name).expanduser()
    if path.suffix == ".jsonl":
        return "\n\n".join(row["text"] for row in jsonl.read_rows(path, {"text": jsonl.FILLED}))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SetupError(
            f"training.options.cpt.replay is {str(path)!r}, which cannot be read ({error}): name a text file in UTF-8, "
            "or JSON lines with text."
        ) from error
