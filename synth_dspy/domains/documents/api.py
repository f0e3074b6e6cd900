"""What a task about documents is put together from: `from synth_dspy import document_tools`."""

from synth_dspy.domains.documents.contract_synthesis import CONTRACTS, DOCUMENTS
from synth_dspy.domains.documents.contract_wording import contract_wording
from synth_dspy.domains.documents.proposals import ProposedQuestions, proposed_questions
from synth_dspy.domains.documents.source import Corpus
from synth_dspy.domains.documents.synthesis import DocumentSynthesis

__all__ = [
    "CONTRACTS", "DOCUMENTS", "Corpus", "DocumentSynthesis", "ProposedQuestions", "contract_wording",
    "proposed_questions",
]  # fmt: skip
