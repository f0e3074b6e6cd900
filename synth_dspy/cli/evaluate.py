"""Score saved programs on new items, or answers with a judge; measure the judge if the answers are labelled.

    python -m synth_dspy.evaluate runs/contract_qa/20260101-120000-ab12 --seeds new.jsonl
    python -m synth_dspy.evaluate runs/contract_qa/20260101-120000-ab12/programs/dpo --seeds new.jsonl --out scored
    python -m synth_dspy.evaluate --judge reference --items answers.jsonl --scores scores.jsonl
    python -m synth_dspy.evaluate --judge openai/gpt-4.1-mini --items answers.jsonl --scores scores.jsonl
    python -m synth_dspy.evaluate --judge reference --fit verdicts.jsonl --clauses clauses.jsonl --graded answers.jsonl

Saved programs answer the questions of `--seeds` and are scored by their task's own judge and metrics, with a report as
after a compile; items that they were trained on are left out. For questions about documents, lines (or rows of a .csv
file) have question, answer or references, and document.

Lines of `--items` have id, question, references, prediction, and optionally label (1 right, 0 wrong); those of
`--scores` have id and score in [0, 1]. For the intervals of a judge's agreement, answers of one group (a field of that
name, else the question) are resampled together. A judge on your own OpenAI-compatible server needs `--api-base` (a
compile's `--models.api-base`); its key comes from OPENAI_API_KEY. `--fit` refits the reference judge, on verdicts
that also have a group.

With `--rate grounded` (do the passages support the answer?) or `--rate retrieval` (do they contain an answer?) lines
also have passages, and a label is about that; `--judge reference` then scores by fitted features.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import ExecutorAddress, Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import refuse_to_overwrite, write_whole
from synth_dspy.core.io.jsonl import BOOL, ID, LABEL, TEXT, TEXTS, Check, read_rows
from synth_dspy.core.masking import mask_message
from synth_dspy.core.run_names import RunPath
from synth_dspy.core.text import counted
from synth_dspy.pipeline.trust import Caller

_BATCH = 256
REFERENCE = "reference"


class EvaluateConfig(Settings):
    """What to score, or what to fit.

    Attributes:
        runs: runs by their ids or folders, or folders of single saved programs (<id>/programs/<arm>), to score on the
            items of --seeds.
        seeds: labelled items that the saved programs are scored on, as JSON lines.
        out: folder of the saved programs' scores; by default one in the first run's evaluations.
        force: overwrite a finished evaluation in --out (its calls are not repeated), or the file of --scores.
        trust: allow the files, databases and models named by programs that somebody else made; without it, they are
            listed (docs/trust.md).
        judge: `reference`, which needs no language model, or a model string for the factuality judge.
        rate: what the judge says of answers: whether they are right (`factuality`), whether their passages support them
        rate: what the judge scores: `factuality` (is the answer right?), `grounded` (do its passages support it?) or
            `retrieval` (do the passages contain an answer?).
        api_base: address of an OpenAI-compatible server that serves the judge's model, or the models of saved programs
            in place of the one that they name.
        api_key_name: environment variable with the key for that server; by default OPENAI_API_KEY.
        allow_http: allow sending that key over http:// to another machine.
        executor: for saved programs, where model calls are made: `local` (in this process), `ray` (by workers on the
            Ray cluster that RAY_ADDRESS names, else on this machine), or `ray://HOST:PORT`.
        workers: workers on the Ray cluster; by default one for each of its machines, and two on this machine alone.
        max_usd: for saved programs, stop once their calls have cost so many US dollars; the same command with more
            goes on.
        max_minutes: for saved programs, stop after so many minutes.
        items: answers to score, as JSON lines.
        scores: where to write the scores, as JSON lines.
        fit: human verdicts to fit the reference judge on, as JSON lines.
        clauses: labelled contract clauses (CUAD's layout) that teach it long references.
        graded: answers about contracts graded by hand (data/calibration/answers.jsonl): one half of the documents
            teaches it, the other half measures it.
        parameters: the reference judge's file; by default the workspace's own.
        seed: seed for everything random in the fit.
    """

    runs: Positional[tuple[RunPath, ...]] = ()
    seeds: Path | None = None
    out: Path | None = None
    force: bool = False
    trust: bool = False
    judge: str = REFERENCE
    rate: Literal["factuality", "grounded", "retrieval"] = "factuality"
    api_base: str | None = None
    api_key_name: str | None = None
    allow_http: bool = False
    executor: ExecutorAddress = "local"
    workers: int | None = Field(default=None, ge=1)
    max_usd: float | None = Field(default=None, ge=0)
    max_minutes: float | None = Field(default=None, gt=0)
    items: Path | None = None
    scores: Path | None = None
    fit: Path | None = None
    clauses: Path | None = None
    graded: Path | None = None
    parameters: Path | None = None
    seed: int = 0


def main(args: list[str]) -> None:
    """Parse `args`, then score programs, or fit a judge and score answers with it."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(EvaluateConfig, verb="evaluate", description=description, args=args)
    if config.runs or config.seeds or config.out:
        _programs(config, f"{command('evaluate')} {shlex.join(args)}")
        return
    for name in _PROGRAMS_ONLY:
        if getattr(config, name) != _DEFAULTS[name]:
            raise SetupError(
                f"--{name.replace('_', '-')} is for saved programs, whose evaluation can be resumed: leave it out."
            )
    if config.fit is not None:
        _fit(config)
    if config.items is not None:
        _score(config)
    elif config.fit is None:
        raise SetupError(
            "Nothing to do: name runs and --seeds, answers with --items and --scores, or verdicts to fit on with --fit."
        )


def _programs(config: EvaluateConfig, typed: str) -> None:
    from synth_dspy.core.budget import Budget
    from synth_dspy.core.progress import Bars
    from synth_dspy.core.terminal import standard_output
    from synth_dspy.models.offline import quiet_libraries

    if not config.runs or config.seeds is None:
        missing = "--seeds with labelled items" if config.runs else "the runs whose programs are to be scored"
        raise SetupError(f"Saved programs are scored on labelled items: name {missing}.")
    # Judge and seed come from the run's configuration.
    own = {"runs", "seeds", "out", "force", "trust", "api_base", "api_key_name", "allow_http", *_PROGRAMS_ONLY}
    given = [name for name, value in config if name not in own and value != _DEFAULTS[name]]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise SetupError(f"Saved programs are scored with their run's settings: leave out {flag}.")
    if config.out is not None:  # a stopped evaluation has no results yet, and is resumed
        refuse_to_overwrite([config.out / "results.json"], force=config.force)
    quiet_libraries()
    bars, budget = Bars(), Budget(config.max_usd, config.max_minutes)
    with bars.status("loading libraries"):
        from synth_dspy.evaluation.report.render import failures, summary_table
        from synth_dspy.pipeline.rescore import rescore
    caller = Caller(
        config.trust, config.api_base, config.api_key_name, config.allow_http, True, config.executor, config.workers
    )
    results, measurements, folder = rescore(
        config.runs,
        config.seeds,
        config.out,
        bars=bars,
        command=mask_message(typed),
        caller=caller,
        budget=budget,
    )
    console = standard_output()
    for part in (summary_table(results, measurements), *failures(results)):
        console.print(part)
    console.print(str(folder / "report.html"), soft_wrap=True)


_DEFAULTS = dict(EvaluateConfig())
_PROGRAMS_ONLY = ("max_usd", "max_minutes", "executor", "workers")


def _score(config: EvaluateConfig) -> None:
    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    if config.scores is None:
        raise SetupError(f"Name a file for the scores of {config.items} with --scores.")
    refuse_to_overwrite([config.scores], force=config.force, flag="--scores")
    assert config.items is not None
    rows = read_items(config.items, passages=config.rate != "factuality")
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
            json.dumps({"id": row["id"], "score": None if isnan(score) else round(score, 6)}, ensure_ascii=False) + "\n"
            for row, score in zip(rows, scores, strict=True)
        ),
    )
    print(f"{counted(len(rows), 'answer')} scored by {judge.name}: {config.scores}")
    labelled = [
        (score, int(row["label"]), row.get("group") or row["question"])
        for row, score in zip(rows, scores, strict=True)
        if row.get("label") is not None and not isnan(score)
    ]
    if labelled:
        from synth_dspy.evaluation.reference_judge.calibration import agreement

        print(agreement(*zip(*labelled, strict=True)))


def read_items(path: Path, *, passages: bool = False) -> list[dict[str, Any]]:
    """The answers of a file of `--items`, with the passages that they were made from where these are wanted.

    Raises:
        SetupError: the file cannot be read, or a line is malformed; names the line and the field.
    """
    return read_rows(path, {**_ITEM, "passages": TEXTS} if passages else _ITEM, optional={"label": LABEL, "group": ID})


def _judge(config: EvaluateConfig) -> Any:
    from synth_dspy.evaluation import judges
    from synth_dspy.evaluation.groundedness.judges import FittedJudge, GroundednessJudge, RetrievalJudge

    if config.judge == REFERENCE:
        if config.rate != "factuality":
            return FittedJudge(config.rate)
        return judges.ReferenceJudge(parameters=config.parameters or judges.PARAMETERS)
    from synth_dspy.models import roles

    lm = roles.lm_for(
        config.judge,
        role="judge",
        api_base=config.api_base,
        api_key_name=config.api_key_name,
        allow_http=config.allow_http,
    )
    roles.check(lm)
    return {"factuality": judges.FactualityJudge, "grounded": GroundednessJudge, "retrieval": RetrievalJudge}[
        config.rate
    ](lm)


def _fit(config: EvaluateConfig) -> None:
    from synth_dspy.core.config import Models
    from synth_dspy.core.progress import Bars
    from synth_dspy.evaluation.judges import PARAMETERS
    from synth_dspy.evaluation.reference_judge.fit import fit_and_measure
    from synth_dspy.models import roles
    from synth_dspy.models.offline import quiet_libraries

    if config.judge != REFERENCE:
        raise SetupError(f"Only the judge {REFERENCE} is fitted, not {config.judge}: leave out --judge or --fit.")
    assert config.fit is not None
    rows = read_rows(config.fit, _VERDICT)
    clauses = read_rows(config.clauses, _CLAUSE) if config.clauses else []
    answers = read_rows(config.graded, _GRADED) if config.graded else []
    target = config.parameters or PARAMETERS
    quiet_libraries()
    with TemporaryDirectory() as folder, Bars().bar("fitting", 300) as bar:
        fitted = fit_and_measure(
            rows,
            roles.token_embedder(Models().embedder),
            Path(folder),
            clauses=clauses,
            answers=answers,
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


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise SetupError(f"The scores cannot be written to {path} ({error.strerror or error}).") from error


_ITEM: Mapping[str, Check] = {"id": ID, "question": TEXT, "references": TEXTS, "prediction": TEXT}
_VERDICT: Mapping[str, Check] = {**_ITEM, "label": LABEL, "group": TEXT}
_GRADED: Mapping[str, Check] = {
    "group": TEXT,
    "question": TEXT,
    "references": TEXTS,
    "answer": TEXT,
    "right": LABEL,
    "arms": TEXTS,
}
_CLAUSE: Mapping[str, Check] = {
    "contract": TEXT,
    "category": TEXT,
    "details": TEXT,
    "answers": TEXTS,
    "normalized_answer": TEXT,
    "is_impossible": BOOL,
}
