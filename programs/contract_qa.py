"""Contract QA: answer a question about one contract, or say that the contract is silent.

python -m synth_dspy.compile contract_qa
python -m synth_dspy.compile contract_qa --task.cuad path/to/CUAD_v1.json --limit 40
python -m synth_dspy.compile contract_qa --task.documents ~/my-contracts
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dspy

from eval.judges import ContractFactuality
from optimizers.recipes import CONTRACTS
from synth_dspy import RAG, SetupError, Task, document_tools, make_judge, metrics, recipes, task

ABSTENTION = document_tools.CONTRACTS.abstention
SAMPLE = Path(__file__).resolve().parents[1] / "data" / "contracts"


class AnswerFromPassages(dspy.Signature):
    """Answer the question from the passages of the contract. Use the contract's own words and as few as possible.
    If the passages do not answer it, write: The contract is silent."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


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
        labelled: labelled questions about them, JSON lines or CSV with question, answer and document; without,
            questions are proposed for you to review.
        cuad: the CUAD data, as CUAD_v1.json or as a folder, instead of your own.
        categories: CUAD categories to ask about (of 41), separated by commas; by default all.
        max_mib: larger files of your own are skipped.
    """
    asked = tuple(name.strip() for name in categories.split(",") if name.strip())
    if asked and cuad is None:
        raise SetupError("--task.categories chooses among CUAD's questions: add --task.cuad.")
    return Task(
        source=document_tools.Corpus(
            SAMPLE, ABSTENTION, documents, labelled, cuad, asked, max_mib, synthesis=document_tools.CONTRACTS
        ),
        program=RAG(AnswerFromPassages),
        abstain=ABSTENTION,
        judge=partial(make_judge, signature=ContractFactuality),
        metrics={
            "f1": metrics.token_f1,
            "exact": metrics.exact_match,
            "recall": metrics.retrieval_recall,
            "mrr": metrics.retrieval_mrr,
            "retrieval": document_tools.retrieval,
            "grounded": document_tools.grounded,
            "abstention": metrics.abstention,
        },
        optimizers={
            "rag": recipes.as_declared,
            "bootstrap": recipes.Bootstrap,
            "random_search": recipes.RandomSearch,
            "mipro": recipes.Mipro,
            "gepa": recipes.Gepa,
            "sft": recipes.LoraSft.with_settings(**CONTRACTS),
            "dpo": recipes.LoraDpo.with_settings(**CONTRACTS),
            "orpo": recipes.LoraOrpo.with_settings(**CONTRACTS),
            "kto": recipes.LoraKto.with_settings(**CONTRACTS),
            "grpo": recipes.LoraGrpo.with_settings(**CONTRACTS),
            "rloo": recipes.LoraRloo.with_settings(**CONTRACTS),
            "online_dpo": recipes.LoraOnlineDpo.with_settings(**CONTRACTS),
            "together": recipes.Together.with_settings(**CONTRACTS),
            "distill": recipes.Distill.with_settings(**CONTRACTS),
            "cpt": recipes.Cpt,
            "cpt_sft": recipes.CptSft.with_settings(**CONTRACTS),
        },
        objective="f1",  # it rewards short answers, which the judge does not require
        arms=("rag", "bootstrap", "sft", "dpo", "orpo"),
        wording=document_tools.contract_wording,
        evidence=metrics.retrieval_recall,
        asks=("labelled", "categories"),
        labels="--task.documents FOLDER --task.labelled FILE",
        domain="contracts",
        words=350 if documents or cuad else 100,  # the sample contracts are short
    )
