"""What a task about documents is put together from: `from synth_dspy import document_tools`."""

from synth_dspy.domains.documents.contract_synthesis import CONTRACTS, DOCUMENTS
from synth_dspy.domains.documents.contract_wording import contract_wording
from synth_dspy.domains.documents.proposals import ProposedQuestions, proposed_questions
from synth_dspy.domains.documents.search import SearchRetrieval
from synth_dspy.domains.documents.source import Corpus
from synth_dspy.domains.documents.steps import RewriteQuery, SelectPassages
from synth_dspy.domains.documents.synthesis import DocumentSynthesis
from synth_dspy.evaluation.groundedness.judges import Groundedness, GroundednessJudge, Retrieval, RetrievalJudge
from synth_dspy.evaluation.groundedness.passage_scores import grounded, retrieval

__all__ = [
    "CONTRACTS", "DOCUMENTS", "Corpus", "DocumentSynthesis", "Groundedness", "GroundednessJudge", "ProposedQuestions",
    "Retrieval", "RetrievalJudge", "RewriteQuery", "SearchRetrieval", "SelectPassages", "contract_wording", "grounded",
    "proposed_questions", "retrieval",
]  # fmt: skip
