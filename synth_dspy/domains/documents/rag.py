"""Retrieval-augmented generation around any signature with `passages` and `question`.

Task(program=RAG(AnswerFromHelp), source=Documents(folder, labelled="questions.jsonl", abstain="Not covered."))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Passage
from synth_dspy.core.protocols import Retriever
from synth_dspy.core.resources import Resources
from synth_dspy.core.text import as_text, one_line
from synth_dspy.domains.documents.steps import RewriteQuery, SelectPassages, is_capable
from synth_dspy.evaluation.answers import REASONING
from synth_dspy.evaluation.metrics import is_abstention
from synth_dspy.models.adapter import PlainAdapter


@dataclass(frozen=True)
class RAG:
    """Makes the program that searches the task's documents and answers from the passages.

    Attributes:
        signature: inputs `passages` and `question`, and one output of type str; its docstring instructs the model.
        adapter: writes the prompts; by default in plain form, which suits small models best.
        rewrite: whether the model first writes what to search for; None: as the run says (`--retrieval.steps`).
        select: whether the model chooses among more passages than it is given; None: as the run says.
    """

    signature: type[dspy.Signature]
    adapter: dspy.Adapter | None = None
    rewrite: bool | None = None
    select: bool | None = None

    def __call__(self, resources: Resources) -> dspy.Module:
        """The program, on the run's retriever.

        Raises:
            SetupError: the signature lacks an input.
        """
        if missing := [name for name in ("passages", "question") if name not in self.signature.input_fields]:
            raise SetupError(
                f"RAG({self.signature.__name__}) needs the inputs passages and question; add {missing[0]}."
            )
        steps = is_capable(resources.student.model) if resources.steps == "auto" else resources.steps == "on"
        return RetrieveAndAnswer(
            self.signature,
            resources,
            self.adapter or PlainAdapter(),
            rewrite=steps if self.rewrite is None else self.rewrite,
            select=steps if self.select is None else self.select,
        )


class RetrieveAndAnswer(dspy.Module):
    """Retrieves passages, then answers from them or abstains."""

    def __init__(
        self,
        signature: type[dspy.Signature],
        resources: Resources,
        adapter: dspy.Adapter,
        *,
        rewrite: bool = False,
        select: bool = False,
    ) -> None:
        super().__init__()
        self.rewrite = RewriteQuery() if rewrite else None
        self.select = SelectPassages() if select else None
        self.retriever = resources.retriever
        self.words = resources.words
        self.noun = resources.noun
        self.abstain = resources.abstain
        self.adapter = adapter
        self.output = next(name for name in signature.output_fields if name not in REASONING)
        self.answer = dspy.Predict(signature)

    def forward(self, question: str, document: str | None = None, **inputs: Any) -> dspy.Prediction:
        """The answer.

        Args:
            question: about one document, or about all of them.
            document: the document's id, or its file's name or path, with or without the ending; None searches all.
            **inputs: the signature's other inputs.

        Returns:
            `answer`, `passages` (best first) and `abstained`.

        Raises:
            SetupError: the task has no documents.
            ValueError: there is no such document, or several are called that.
        """
        if self.retriever is None:
            raise SetupError("RAG searches documents, and the task's source has none: give it Documents(folder).")
        id_of = getattr(self.retriever, "id_of", None)  # a retriever of the user's own need not know any names
        if document is not None and id_of is not None:
            try:
                document = id_of(document)
            except ValueError as error:
                raise ValueError(f"The {self.noun} {document!r} cannot be searched: {error}.") from None
        with dspy.context(adapter=self.adapter):
            passages = self._passages(self.retriever, question, document)
        if document is not None and not passages:
            raise ValueError(
                f"There is no {self.noun} {document!r}: give the id of one that was read, or leave it out."
            )
        with dspy.context(adapter=self.adapter):
            reply = self.answer(passages="\n".join(p.text for p in passages), question=question, **inputs)
        answer = one_line(as_text(reply[self.output]))
        ranked = sorted(passages, key=lambda p: -p.score)
        return dspy.Prediction(
            answer=answer, passages=[p.text for p in ranked], abstained=is_abstention(answer, self.abstain)
        )

    def load_state(self, state: Mapping[str, Any], **options: Any) -> None:
        """The saved program's state, and its steps: which it has may be another matter where it is loaded."""
        for name, step in (("rewrite", RewriteQuery), ("select", SelectPassages)):
            if not any(key.startswith(f"{name}.") for key in state):
                setattr(self, name, None)
            elif getattr(self, name) is None:
                setattr(self, name, step())
        super().load_state(state, **options)

    def _passages(self, retriever: Retriever, question: str, document: str | None) -> list[Passage]:
        """What the answer is written from: what the search gives, or of twice as much what the model chooses."""
        further = {"wording": self.rewrite(question=question).query} if self.rewrite is not None else {}
        if self.select is not None:
            more = retriever.search(question, document, 2 * self.words, **further)
            chosen = self.select(passages=more, question=question, words=self.words).passages if more else None
            if chosen is not None:
                return list(chosen)
        return retriever.search(question, document, self.words, **further)
