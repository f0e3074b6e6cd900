"""The report of a run: `report.html` (self-contained), `report.md`, and the table on the terminal.

Questions, answers and passages come from documents and models, so they are never trusted: HTML is escaped by Jinja2,
Markdown by `markdown_text`, terminal text goes through rich's `Text`; and all of it through `visible`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synth_dspy.core.printable import visible
from synth_dspy.core.text import counted
from synth_dspy.evaluation.finished_runs import FinishedRun, as_written, read_run, write
from synth_dspy.evaluation.records import (
    ArmRecord,
    ClassificationRecord,
    ComparisonRecord,
    EstimateRecord,
    Measurements,
    Prediction,
    Results,
)
from synth_dspy.evaluation.report.figures import HEADLINE, RIGHT, outcome_of
from synth_dspy.evaluation.report.judge import agreement_sentence, agreement_words, best_estimate, threshold
from synth_dspy.evaluation.report.next_steps import next_steps, typed
from synth_dspy.evaluation.report.notes import has_risen, own_training
from synth_dspy.evaluation.report.passages import retrieval_note, support_note
from synth_dspy.evaluation.report.verdict import (
    capitalised,
    headline_name,
    is_measured,
    p_value,
    points,
    same_as,
    score_name,
    with_same,
)

if TYPE_CHECKING:
    import jinja2
    from rich.table import Table


SAMPLES = 10
UNKNOWN = "–"
ORIGINS = {"ai": "AI feedback", "gold": "gold answers", "human": "people's feedback", "synthetic": "synthetic"}


def write_report(folder: Path) -> tuple[Path, Path]:
    """Render `report.html` and `report.md` from the folder's results.json, measurements.json and predictions.jsonl.

    Returns:
        The paths of the HTML and the Markdown report.

    Raises:
        SetupError: one of the three files is missing or damaged, or a report cannot be written.
    """
    written = []
    for name, text in render(read_run(folder)).items():
        write(folder / name, text)
        written.append(folder / name)
    return written[0], written[1]


def render(run: FinishedRun) -> dict[str, str]:
    """The texts of `report.html` and `report.md`, by these names.

    Raises:
        SetupError: the run's files are damaged.
    """
    import jinja2

    results, measurements = run.results, run.measurements
    environment = _environment()
    with as_written(run.folder):
        score, measured, least = headline_name(results), is_measured(results), threshold(results)
        context = {
            "r": results,
            "m": measurements,
            "samples": samples(
                run.rows,
                [a["name"] for a in results["arms"] if a["n"] and "same_as" not in a],
                least=least or RIGHT,
                support=results.get("support"),
            ),
            "kinds": [k for k in ("answer", "answer_type", "category") if len(results["breakdown"].get(k, ())) > 1],
            "against": {c["arm"]: c for c in results["comparisons"] if c["against"] == results["baseline"]},
            "own": own_comparisons(results),
            "support_note": support_note(results),
            "retrieval_note": retrieval_note(results),
            "score": score,
            "the_score": score if measured else f"the {score}",
            "measured": measured,
            "whole": _scores(results, "scores"),
            "retrieval": _scores(results, "retrieval"),
            "parts": _scores(results, "further"),
            "column": capitalised(score if measured or least is None else "judged right"),
            "least": least,
            "corrected": any("corrected" in arm for arm in results["arms"]),
            "agreement_words": agreement_words(results["judge"]),
            "agreement": agreement_sentence(results["judge"]),
            "prompts": {
                c["arm"]: c for c in results.get("comparisons_prompts") or [] if c["against"] == results["baseline"]
            },
            "date": (measurements.get("date") or "").replace("T", " ")[:16],
            "trainings": list(_trainings(results["arms"])),
            "next": next_steps(results, measurements, run.folder),
            "command": typed(measurements),
            "models": _models(results),
            "retried": _retried(measurements),
            "in_usd": any(a.get("cost_usd_per_item") for a in measurements["arms"].values()),
        }
        try:
            return {
                name: visible(environment.get_template(f"{name}.j2").render(context))
                for name in ("report.html", "report.md")
            }
        except jinja2.TemplateRuntimeError as error:
            raise KeyError(str(error)) from error


def _models(results: Results) -> dict[str, str]:
    """What each role was, for the table of models: a judge that a metric replaces was not asked."""
    shown = {role: str(model) for role, model in results["models"].items()}
    if "judge" in shown and is_measured(results):
        shown["judge"] = f"not asked: answers are scored by {(results['judge'] or {}).get('name') or 'a metric'}"
    if "teacher" in shown and shown["teacher"] == shown.get("student"):
        shown["teacher"] += " (the student's model)"
    return shown


def _retried(measurements: Measurements) -> str:
    """A sentence on the retries that the latencies are without; empty of a run of an earlier version."""
    retries = {name: arm["retries"] for name, arm in measurements["arms"].items() if "retries" in arm}
    if not retries:
        return ""
    several = ", ".join(f"{name} {number:,}" for name, number in retries.items() if number)
    return (
        "It is without failed attempts and the waits after them, as far as the model's client reports them; retries: "
        f"{several or 'none'}."
    )


def _trainings(arms: Iterable[ArmRecord]) -> Iterator[dict[str, Any]]:
    """Every arm's own training, `t`, and how it ended; an arm whose training was discarded has another's weights."""
    for arm in arms:
        training = own_training(arm)
        if training is not None:
            ended = "early, by the dev loss" if training.get("stopped") == "early" else "as planned"
            ended += ", but the loss rose" if has_risen(training) else ""
            if "discarded" in arm:
                ended = f"discarded: {arm['discarded']['why']}"
            yield {"name": arm["name"], "t": training, "ended": ended}


def summary_table(results: Results, measurements: Measurements) -> Table:
    """The arms as a table for the terminal: score with interval, test, a further score, latency and tokens.

    The further score is macro F1 where the answer is a label, else the task's first: of whole answers, then of parts.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    def shown(text: str, style: str = "") -> Text:
        return Text(visible(text), style=style)

    verdict = results["verdict"]
    # Narrow enough for a terminal of 80 columns: a wrapped interval cannot be read.
    table = Table(title=shown(f"{results['task'] or ''}, n = {results['items']['headline']}"), title_justify="left")
    table.box, table.pad_edge, table.padding, table.collapse_padding = SIMPLE_HEAD, False, (0, 1), True
    lines = [f"{verdict['headline']} {verdict['detail']}"]
    references = [row for row in results.get("reference_rows") or [] if row["n"]]
    if references:
        scores = [f"{row['name']} {_percent(best_estimate(row)['mean'])} %" for row in references]
        lines.append(f"For comparison: {', '.join(scores)}.")
    lines += [
        f"{same_as(arm)}: {arm['discarded']['why']}."
        for arm in results["arms"]
        if "same_as" in arm and "discarded" in arm
    ]
    corrected = any("corrected" in arm for arm in results["arms"])
    if corrected:
        lines.append(
            "corr.: the judged share corrected for the judge's errors, as are interval and difference; it depends on "
            "how many answers the judge decided (an abstention needs no judge), so equal judged shares may differ."
        )
    if results["comparisons"]:
        lines.append(f"p Holm: p value against {results['baseline']}, raised for the number of arms compared.")
    if not is_measured(results):
        lines.append(f"Judge: {agreement_words(results['judge'])}.")
    table.caption, table.caption_justify = shown("\n".join(lines)), "left"
    table.add_column("arm", no_wrap=True)
    baseline = results["baseline"]
    further = next(iter([*_scores(results, "scores"), *_scores(results, "further")]), "")
    classes = results.get("classification")
    name = further.upper() if len(further) <= 3 else further.replace("_", " ")
    title = "macro\nF1 %" if classes else f"{name} %" if further else ""
    score = (
        f"{headline_name(results)}\n%"
        if is_measured(results)
        else "judged\n%"
        if corrected
        else "judged %"
        if threshold(results) is not None
        else "mean\nscore %"
    )
    columns = [
        score,
        *(["corr.\n%"] if corrected else []),
        "95 % interval",
        f"vs {baseline}",
        "p Holm",
        *([title] if title else []),
        "p50 s",
        "tokens",
    ]
    for column in columns:
        table.add_column(shown(column), justify="right", no_wrap=True)
    against = {c["arm"]: c for c in results["comparisons"] if c["against"] == baseline}
    for arm in results["arms"]:
        if arm["failed"] and not arm["n"]:
            table.add_row(shown(arm["name"]), shown("failed", style="red"), *[""] * (len(columns) - 1))
            continue
        best, versus = best_estimate(arm), against.get(arm["name"])
        measured = measurements["arms"].get(arm["name"])
        latency = measured["latency_p50_s"] if measured else None
        style = {"better": "green", "worse": "red"}.get(versus["outcome"], "") if versus else ""
        cells = [
            _percent(arm["scores"][HEADLINE]["mean"]),
            *([_percent(best["mean"])] if corrected else []),
            _interval(best),
            points(versus["difference"], unit=False) if versus else "",
            p_value(versus["p_holm"]).removeprefix("p ").removeprefix("= ") if versus else "",
            *([_percent(_further(arm, further, classes))] if title else []),
            _seconds(latency),
            f"{_count(arm['tokens']['prompt'])}/{_count(arm['tokens']['completion'])}",
        ]
        bold = "bold" if arm["name"] == verdict["best"] else ""
        table.add_row(
            shown(same_as(arm), style=bold),
            *[shown(c, style=style if i == 2 + corrected else "") for i, c in enumerate(cells)],
        )
    return table


def _scores(results: Results, about: Literal["scores", "retrieval", "further"]) -> list[str]:
    """Names of the measured scores of whole answers, of passages or of parts, in the task's order."""
    return [name for name in results["scores"] if any(name in arm[about] for arm in results["arms"])]


def _further(arm: ArmRecord, name: str, classes: ClassificationRecord | None) -> float | None:
    if classes:
        labels = classes["arms"].get(arm["name"])
        return labels["macro_f1"]["mean"] if labels else None
    return {**arm["scores"], **arm["further"]}[name]["mean"]


def failures(results: Results) -> list[str]:
    """Why arms failed, in full, to print below the table."""
    return [visible(f"{arm['name']} failed: {arm['failed']}") for arm in results["arms"] if arm["failed"]]


def own_comparisons(results: Results) -> list[ComparisonRecord]:
    """Comparisons of the task's own scores; runs of earlier versions have those of token F1."""
    if "comparisons_own" in results:
        return list(results["comparisons_own"])
    return [{**c, "score": "f1"} for c in results.get("comparisons_f1") or []]


def samples(
    predictions: Iterable[Prediction],
    arms: Sequence[str],
    limit: int = SAMPLES,
    *,
    least: float = RIGHT,
    support: str | None = None,
) -> list[dict[str, Any]]:
    """Items with every arm's answer: first those where the arms disagree, then those that all got wrong, then the rest.

    Within a rank the categories alternate, so that ten samples are not all dates; in each, hard items come first.
    """
    items: dict[str, dict[str, Any]] = {}
    for row in predictions:
        if row["arm"] not in arms:  # a variant or a reference row
            continue
        shown = items.setdefault(str(row["id"]), {"row": row, "answers": {}})
        judged = (row.get("scores") or {}).get(HEADLINE)
        right = judged is not None and judged >= least
        unsupported = outcome_of(row, support) in ("hallucinated", "right_unsupported")
        hallucinated = unsupported and not right
        shown["answers"][row["arm"]] = {**row, "judged": judged, "right": right, "hallucinated": hallucinated}
    share = {
        key: sum(a["right"] for a in item["answers"].values()) / len(item["answers"]) for key, item in items.items()
    }
    ranked: list[tuple[int, int, str, str]] = []
    turn: Counter[tuple[int, str]] = Counter()
    for key in sorted(items, key=lambda k: (share[k], k)):
        rank = 1 if share[key] == 0 else 2 if share[key] == 1 else 0
        category = str(items[key]["row"].get("category") or "")
        turn[rank, category] += 1
        ranked.append((rank, turn[rank, category], category, key))
    chosen = []
    for _, _, _, key in sorted(ranked)[:limit]:
        row, answers = items[key]["row"], items[key]["answers"]
        passages = {p["text"]: p.get("id") or "" for a in answers.values() for p in a.get("passages") or []}
        chosen.append(
            {
                **{k: row.get(k) for k in ("id", "group", "category", "question", "references")},
                "answers": [(name, answers[name]) for name in arms if name in answers],
                "passages": [(name, text) for text, name in passages.items()],
            }
        )
    return chosen


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    from synth_dspy.evaluation.report import charts

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("synth_dspy.evaluation.report", "templates"),
        autoescape=jinja2.select_autoescape(["html.j2"]),  # Markdown is escaped by `markdown_text`
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "pct": _percent,
        "interval": _interval,
        "points": lambda value: points(value, unit=False) if value is not None else UNKNOWN,
        "relative": lambda v: UNKNOWN if v is None else f"{v:+,.0f} %".replace("-", "\u2212"),
        "detectable": lambda v: "> 100" if v is not None and v > 1 else _percent(v),
        "p": lambda value: UNKNOWN if value is None else p_value(value).removeprefix("p ").removeprefix("= "),
        "seconds": _seconds,
        "duration": _duration,
        "count": _count,
        "counted": counted,
        "usd": lambda v: UNKNOWN if v is None else f"${v:.4f}" if v < 0.1 else f"${v:.2f}",
        "fixed": lambda v, digits=2: UNKNOWN if v is None else f"{v:.{digits}f}",
        "within": lambda ends, digits=2: (
            f" (95\u00a0% interval {ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""
        ),
        "unbroken": lambda v: re.sub(r" (?=[%=<])|(?<=[=<]) ", "\u00a0", str(v)),  # "5 %" and "n = 9" on one line
        "md": markdown_text,
        "score": score_name,
        "capitalised": capitalised,
        "between": lambda c: (
            UNKNOWN if c["low"] is None else " to ".join(points(c[k], unit=False) for k in ("low", "high"))
        ),
        "change": lambda v: UNKNOWN if v is None else f"{v:+,.1f}".replace("-", "\u2212"),
        "number": lambda v: UNKNOWN if v is None else f"{v:g}",
        "counts": lambda counts: _listed(counts, {}),
        "origins": lambda counts: _listed(counts, ORIGINS),
        "top": _top,
        "same_as": same_as,
        "with_same": with_same,
        "loss": _loss,
        "parity": _parity,
        "clip": lambda v, most=600: v if len(v := str(v or "")) <= most else v[: most - 1].rstrip() + "…",
    }
    environment.globals |= {
        "arms_chart": charts.arms_chart,
        "differences_chart": charts.differences_chart,
        "yield_chart": charts.yield_chart,
    }
    return environment


def markdown_text(value: Any) -> str:
    """Untrusted text as one line of Markdown, escaped so that it is shown literally, also in a table cell."""
    text = re.sub(r"\s+", " ", str(UNKNOWN if value is None else value)).strip()
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", text)


def _listed(counts: Mapping[str, int] | None, names: Mapping[str, str]) -> str:
    """Counts as words, the larger ones first: "gold answers: 54, synthetic: 20"."""
    ranked = sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{names.get(name, name)}: {n:,}" for name, n in ranked if n) or UNKNOWN


def _top(counts: Mapping[str, int] | None, most: int = 12) -> str:
    """The most frequent values with their counts, and the total of the rest."""
    ranked = sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))
    shown, rest = dict(ranked[:most]), ranked[most:]
    more = f", {len(rest)} more: {sum(n for _, n in rest):,}" if rest else ""
    return _listed(shown, {}) + more


def _loss(loss: Mapping[str, float | None] | None) -> str:
    first, last = (loss or {}).get("first"), (loss or {}).get("last")
    return UNKNOWN if first is None or last is None else f"{first:.3f} → {last:.3f}"


def _parity(parity: Mapping[str, Any] | None) -> str:
    if not parity or parity.get("n") is None:
        return UNKNOWN
    whole = parity.get("tokens") or parity["n"]  # reports of earlier versions count prompts
    return f"{parity['agreed']} / {whole}"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def _interval(estimate: EstimateRecord) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return UNKNOWN
    return f"{100 * estimate['low']:.1f}\u2009–\u2009{100 * estimate['high']:.1f}"


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"
