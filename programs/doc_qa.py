"""Questions and answers over documents of any kind: a help centre, a handbook, a manual.

python -m synth_dspy.compile doc_qa
python -m synth_dspy.compile doc_qa --documents ~/handbook --labelled questions.csv
python -m synth_dspy.compile doc_qa --documents ~/handbook        # proposes questions, which you review
"""

from __future__ import annotations

from pathlib import Path

import dspy

from synth_dspy import RAG, Task, document_tools, task

ABSTENTION = "The document does not say."
SAMPLE = Path(__file__).resolve().parents[1] / "data" / "handbook"


class AnswerFromPassages(dspy.Signature):
    """Answer the question from the passages of the document. Use the document's own words and as few as possible.
    If the passages do not answer it, write: The document does not say."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


@task
def doc_qa(documents: Path | None = None, labelled: Path | None = None, max_mib: int = 20) -> Task:
    """Questions about documents.

    Args:
        documents: a folder of your own documents (text, Markdown, HTML, PDF, DOCX).
        labelled: labelled questions about them, JSON lines or CSV with question, answer and document; without,
            questions are proposed for you to review.
        max_mib: files of your own that are larger are skipped.
    """
    return Task(
        source=document_tools.Corpus(SAMPLE, ABSTENTION, documents, labelled, max_mib=max_mib),
        program=RAG(AnswerFromPassages),
        abstain=ABSTENTION,
        asks=("labelled",),
        labels="--task.documents FOLDER --task.labelled FILE",
        words=350 if documents else 100,  # the sample pages are short
    )
