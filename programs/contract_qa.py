"""Contract QA: answer a question about one contract, or say that the contract is silent.

python -m synth_dspy.compile contract_qa
python -m synth_dspy.compile contract_qa --task.cuad path/to/CUAD_v1.json --limit 40
python -m synth_dspy.compile contract_qa --task.documents ~/my-contracts
"""

from __future__ import annotations

from pathlib import Path

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.resources import Resources
from synth_dspy.core.task import Task, task
from synth_dspy.domains.documents.contract_synthesis import CONTRACTS
from synth_dspy.domains.documents.contract_wording import contract_wording
from synth_dspy.domains.documents.source import Corpus
from synth_dspy.evaluation.judges import make_judge
from synth_dspy.evaluation.metrics import (
    ABSTENTION,
    abstains,
    abstention,
    exact_match,
    retrieval_mrr,
    retrieval_recall,
    token_f1,
)
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.training.optimizer import with_defaults
from synth_dspy.training.recipes.bootstrap import Bootstrap
from synth_dspy.training.recipes.gepa import Gepa
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.lora_grpo import LoraGrpo
from synth_dspy.training.recipes.lora_kto import LoraKto
from synth_dspy.training.recipes.lora_orpo import LoraOrpo
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.recipes.mipro import Mipro
from synth_dspy.training.recipes.random_search import RandomSearch

TRAINING = {"sft": {"abstentions": 0.08}}
"""Contracts are silent on a sixth of what they are asked; see `LoraSft.abstentions`."""


class AnswerFromPassages(dspy.Signature):
    """Answer the question from the passages of the contract. Use the contract's own words and as few as possible.
    If the passages do not answer it, write: The contract is silent."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class ContractQA(dspy.Module):
    """Retrieve, answer, or say that the contract is silent."""

    def __init__(self, resources: Resources) -> None:
        super().__init__()
        self.retriever = resources.retriever
        self.words = resources.words
        self.answer = dspy.Predict(AnswerFromPassages)

    def forward(self, question: str, document: str | None = None) -> dspy.Prediction:
        """The answer.

        Args:
            question: about one contract, or about all of them.
            document: the contract's id (its file's name without the ending); None searches them all.

        Returns:
            `answer`, `passages` (best first) and `abstained`.

        Raises:
            ValueError: there is no such contract.
        """
        assert self.retriever is not None
        passages = self.retriever.search(question, document, self.words)
        if document is not None and not passages:
            raise ValueError(f"There is no contract {document!r}: give the id of one that was read, or None for all.")
        with dspy.context(adapter=PlainAdapter()):
            said = self.answer(passages="\n".join(p.text for p in passages), question=question)
        answer = " ".join(str(said.answer).split())
        ranked = sorted(passages, key=lambda p: -p.score)
        return dspy.Prediction(answer=answer, passages=[p.text for p in ranked], abstained=abstains(answer))


@task
def contract_qa(
    documents: Path | None = None,
    labelled: Path | None = None,
    cuad: Path | None = None,
    categories: str = "",
    max_mib: int = 20,
) -> Task:
    """Questions about contracts.

    Args:
        documents: a folder of your own contracts (text, Markdown, HTML, PDF, DOCX).
        labelled: labelled questions about them, as in data/contracts/questions.jsonl.
        cuad: the CUAD data, as CUAD_v1.json or as a folder, instead of your own.
        categories: which of CUAD's 41 categories are asked about, with commas between them; by default all.
        max_mib: files of your own that are larger are skipped.
    """
    asked = tuple(name.strip() for name in categories.split(",") if name.strip())
    if asked and cuad is None:
        raise SetupError("--task.categories chooses among CUAD's questions: add --task.cuad.")
    sample = Path(__file__).resolve().parents[1] / "data" / "contracts"

    return Task(
        source=Corpus(sample, ABSTENTION, documents, labelled, cuad, asked, max_mib),
        program=ContractQA,
        synthesizer=CONTRACTS.synthesizer,
        filters=CONTRACTS.filters,
        judge=make_judge,
        metrics={
            "f1": token_f1,
            "exact": exact_match,
            "recall": retrieval_recall,
            "mrr": retrieval_mrr,
            "abstention": abstention,
        },
        optimizers={
            "rag": lambda resources, metric: None,
            "bootstrap": Bootstrap,
            "random_search": RandomSearch,
            "mipro": Mipro,
            "gepa": Gepa,
            "sft": with_defaults(LoraSft, TRAINING),
            "dpo": with_defaults(LoraDpo, TRAINING),
            "orpo": with_defaults(LoraOrpo, TRAINING),
            "kto": with_defaults(LoraKto, TRAINING),
            "grpo": with_defaults(LoraGrpo, TRAINING),
        },
        objective="f1",  # prompts climb it: it asks for short answers, where the judge only asks for right ones
        arms=("rag", "bootstrap", "sft", "dpo", "orpo"),
        wording=contract_wording,
        evidence=retrieval_recall,
        asks=("labelled", "categories"),
        labels="--task.documents FOLDER --task.labelled FILE",
        words=350 if documents or cuad else 100,  # the sample contracts are short
    )
