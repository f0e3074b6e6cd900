"""Score answers with a judge, and measure the judge where the answers are labelled.

    python -m synth_dspy.evaluate --judge reference --items answers.jsonl --scores scores.jsonl
    python -m synth_dspy.evaluate --judge openai/gpt-4.1-mini --items answers.jsonl --scores scores.jsonl
    python -m synth_dspy.evaluate --judge reference --fit verdicts.jsonl --clauses clauses.jsonl

Lines of `--items` hold id, question, references, prediction, and label (1 right, 0 wrong) where it is known; those of
`--scores` id and score in [0, 1]. A judge behind an OpenAI-compatible server of your own is found by `--api-base` (a
compile's `--models.api-base`); its key comes from OPENAI_API_KEY. `--fit` fits the reference judge again, on verdicts
that also hold a group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synth_dspy.cli import parse, run_verb
from synth_dspy.config import Settings
from synth_dspy.errors import SetupError

_BATCH = 256
REFERENCE = "reference"


class EvaluateConfig(Settings):
    """What to score, or what to fit.

    Attributes:
        judge: `reference`, which needs no language model, or a model string for the factuality judge.
        api_base: address of an OpenAI-compatible server that serves the judge's model.
        items: answers to score, as JSON lines.
        scores: where to write the scores, as JSON lines.
        fit: human verdicts to fit the reference judge on, as JSON lines.
        clauses: labelled contract clauses (CUAD's layout) that teach it long references.
        parameters: the reference judge's file; the workspace's own unless given.
        seed: of what the fit draws.
    """

    judge: str = REFERENCE
    api_base: str | None = None
    items: Path | None = None
    scores: Path | None = None
    fit: Path | None = None
    clauses: Path | None = None
    parameters: Path | None = None
    seed: int = 0


def main(args: list[str]) -> None:
    """Parse `args`, then fit or score."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(EvaluateConfig, verb="evaluate", description=description, args=args)
    if config.fit is not None:
        _fit(config)
    if config.items is not None:
        _score(config)
    elif config.fit is None:
        raise SetupError("Nothing to do: name the answers with --items and --scores, or verdicts to fit on with --fit.")


def _score(config: EvaluateConfig) -> None:
    from synth_dspy.lms.offline import quiet_libraries
    from synth_dspy.progress import Bars

    if config.scores is None:
        raise SetupError(f"{config.items} would be scored to nowhere: name a file with --scores.")
    assert config.items is not None
    rows = read_rows(config.items, _ITEM)
    quiet_libraries()
    judge = _judge(config)
    scores: list[float] = []
    with Bars().bar("scoring", len(rows)) as bar:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            scores += judge.score_many(batch)
            bar(len(batch))
    _write(
        config.scores,
        "".join(
            json.dumps({"id": row["id"], "score": round(score, 6)}, ensure_ascii=False) + "\n"
            for row, score in zip(rows, scores, strict=True)
        ),
    )
    print(f"{len(rows)} answers scored by {judge.name}: {config.scores}")
    labelled = [
        (score, int(row["label"])) for row, score in zip(rows, scores, strict=True) if row.get("label") is not None
    ]
    if labelled:
        from synth_dspy.evaluation.calibration import agreement

        print(agreement([score for score, _ in labelled], [label for _, label in labelled]))


def _judge(config: EvaluateConfig) -> Any:
    from synth_dspy.workspace import find_workspace, import_from

    judges = import_from(find_workspace(), "eval.judges")
    if config.judge == REFERENCE:
        return judges.ReferenceJudge(parameters=config.parameters or judges.PARAMETERS)
    from synth_dspy import roles

    lm = roles.lm_for(config.judge, role="judge", api_base=config.api_base)
    roles.check(lm)
    return judges.FactualityJudge(lm)


def _fit(config: EvaluateConfig) -> None:
    from synth_dspy.config import Models
    from synth_dspy.evaluation.reference_fit import fit_and_measure
    from synth_dspy.lms.offline import quiet_libraries
    from synth_dspy.progress import Bars
    from synth_dspy.workspace import find_workspace, import_from

    if config.judge != REFERENCE:
        raise SetupError(f"Only the judge {REFERENCE} is fitted, not {config.judge}: leave out --judge or --fit.")
    assert config.fit is not None
    rows = read_rows(config.fit, _VERDICT)
    clauses = read_rows(config.clauses, _CLAUSE) if config.clauses else []
    target = config.parameters or import_from(find_workspace(), "eval.judges").PARAMETERS
    quiet_libraries()
    with Bars().bar("fitting", 300) as bar:
        fitted = fit_and_measure(
            rows,
            token_embedder(Models().embedder),
            clauses=clauses,
            seed=config.seed,
            source=config.fit.stem if config.fit.stem != "verdicts" else config.fit.resolve().parent.name,
            progress=lambda share: bar.reach(round(300 * share), 300),
        )
    try:
        fitted.save(target)
    except OSError as error:
        raise SetupError(f"The parameters cannot be written to {target} ({error.strerror}).") from error
    print(f"fitted on {len(rows)} verdicts and {len(clauses)} clauses: {target}")
    print(f"on held-out groups: {json.dumps(fitted.agreement)}")


def token_embedder(model: str) -> Any:
    """The embedder of a model string, if it gives token vectors.

    Raises:
        SetupError: it does not.
    """
    from synth_dspy import roles

    embedder = roles.embedder_for(model)
    if not hasattr(embedder, "embed_tokens"):
        raise SetupError(
            f"The reference judge compares token by token, which {model} cannot: use an embedded embedder."
        )
    return embedder


Check = Callable[[Any], bool]

_TEXT: Check = lambda value: isinstance(value, str)  # noqa: E731
_TEXTS: Check = lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value)  # noqa: E731
_LABEL: Check = lambda value: value in (0, 1)  # noqa: E731
_ID: Check = lambda value: isinstance(value, str | int)  # noqa: E731
_BOOL: Check = lambda value: isinstance(value, bool)  # noqa: E731

_ITEM: Mapping[str, tuple[Check, str]] = {
    "id": (_ID, "a string or a number"),
    "question": (_TEXT, "a string"),
    "references": (_TEXTS, "a list of strings"),
    "prediction": (_TEXT, "a string"),
}
_VERDICT = {**_ITEM, "label": (_LABEL, "0 or 1"), "group": (_TEXT, "a string")}
_CLAUSE = {
    "contract": (_TEXT, "a string"),
    "category": (_TEXT, "a string"),
    "details": (_TEXT, "a string"),
    "answers": (_TEXTS, "a list of strings"),
    "normalized_answer": (_TEXT, "a string"),
    "is_impossible": (_BOOL, "true or false"),
}


def read_rows(path: Path, fields: Mapping[str, tuple[Check, str]]) -> list[dict[str, Any]]:
    """The JSON lines of a file, each with `fields`; further fields are kept, empty lines passed over.

    Raises:
        SetupError: there is no such file, it is empty, or a line is not as described; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also cut at U+2028 inside a string
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SetupError(f"{path} cannot be read: {reason}.") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SetupError(f"Line {number} of {path} is not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise SetupError(f"Line {number} of {path} is not a JSON object.")
        for name, (check, kind) in fields.items():
            if name not in row:
                raise SetupError(f"Line {number} of {path} has no field {name!r}; each line needs {', '.join(fields)}.")
            if not check(row[name]):
                raise SetupError(f"The field {name!r} on line {number} of {path} is not {kind}.")
        if row.get("label") is not None and not _LABEL(row["label"]):
            raise SetupError(f"The field 'label' on line {number} of {path} is not 0 or 1.")
        rows.append(row)
    if not rows:
        raise SetupError(f"{path} holds no lines.")
    return rows


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"The scores cannot be written to {path} ({error.strerror}).") from error


if __name__ == "__main__":
    run_verb(main)
