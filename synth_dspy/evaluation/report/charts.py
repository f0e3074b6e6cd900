"""The report's charts: inline SVG, coloured by the page's style sheet, each with a title and a description.

They are written without a plotting library: the page must contain no script, load nothing, follow the reader's light or
dark theme, and work with a screen reader. All text passes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

from synth_dspy.evaluation.records import Results
from synth_dspy.evaluation.report.judge import best_estimate
from synth_dspy.evaluation.report.verdict import capitalised, headline_name, points, same_as
from synth_dspy.synthesis.pipeline import YieldTable

WIDTH = 480
LABEL, VALUE = 166, 62  # columns left and right of the plot
LONGEST = 20  # characters of a label that fit its column
ROW, TOP, BOTTOM = 34, 8, 34


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of an interval chart: a dot, its whiskers, and its figure."""

    label: str
    value: float
    low: float
    high: float
    text: str
    style: str  # "arm", "base", "open" (no evidence of a difference) or "reference"


def arms_chart(results: Results) -> Markup:
    """The headline's score of every scored arm and reference row with its 95 % interval; a line marks the baseline."""
    marks = []
    references = results.get("reference_rows") or []
    for arm in [*results["arms"], *references]:
        score = best_estimate(arm)
        mean, low, high = score["mean"], score["low"], score["high"]
        if mean is not None and low is not None and high is not None:
            style = "reference" if arm in references else "base" if arm["name"] == results["baseline"] else "arm"
            marks.append(Mark(same_as(arm), mean, low, high, f"{100 * mean:.1f} %", style))
    if not marks:
        return Markup("")
    line = next((m.value for m in marks if m.style == "base"), None)
    ticks = _ticks(0.0, min(1.0, max(0.2, max(m.high for m in marks))))
    name = capitalised(headline_name(results))
    return _intervals(name, marks, ticks, line, lambda v: f"{100 * v:.0f}", "per cent, 95 % interval")


def differences_chart(results: Results) -> Markup:
    """Each arm's paired difference from the baseline with its 95 % interval; a line marks no difference."""
    marks = []
    for c in results["comparisons"]:
        difference, low, high = c["difference"], c["low"], c["high"]
        if c["against"] == results["baseline"] and difference is not None and low is not None and high is not None:
            style = "arm" if c["outcome"] in ("better", "worse") else "open"
            marks.append(Mark(c["arm"], difference, low, high, points(difference, unit=False), style))
    if not marks:
        return Markup("")
    ticks = _ticks(min(-0.05, *(m.low for m in marks)), max(0.05, *(m.high for m in marks)))
    title = f"Difference from {results['baseline']}"
    return _intervals(title, marks, ticks, 0.0, lambda v: _signed(100 * v), "points, paired, 95 % interval")


def yield_chart(synthesis: YieldTable) -> Markup:
    """A funnel: how many generated candidates were left after each filter."""
    steps = [("generated", synthesis.get("generated") or 0)]
    steps += [(f"after {f['name']}", f["kept"]) for f in synthesis.get("filters") or []]
    most = max((n for _, n in steps), default=0)
    if not most:
        return Markup("")
    label, value = 190, 92
    span, height = WIDTH - label - value, 26
    body = []
    for i, (name, n) in enumerate(steps):
        y = 4 + i * height
        body.append(
            Markup(
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
                '<rect class="bar{}" x="{}" y="{}" width="{:.1f}" height="16" rx="2"/>'
                '<text class="figure" x="{:.1f}" y="{}">{:,}<tspan class="axis"> · {:.0f} %</tspan></text>'
            ).format(
                *(label - 10, y + 13, _short(name, 26)),
                *("" if i == len(steps) - 1 else " faint", label, y, max(1.5, span * n / most)),
                *(label + span * n / most + 7, y + 13, n, 100 * n / most),
            )
        )
    counts = "; ".join(f"{name}: {n}" for name, n in steps)
    return _svg("Synthesis yield", f"Candidates left: {counts}.", 8 + height * len(steps), body)


def on_its_own(chart: Markup) -> Markup:
    """A chart with its part of the report's style sheet, for pages that lack it, such as a notebook."""
    return Markup('<div class="synth-dspy"><style>{}</style>{}</div>').format(_style(), chart)


@cache
def _style() -> Markup:
    sheet = (Path(__file__).with_name("templates") / "style.css").read_text(encoding="utf-8")
    colours = sheet[: sheet.index("* {")].replace(":root", ".synth-dspy")
    rules = "\n".join(re.findall(r"^\.chart.*$", sheet, re.MULTILINE)).replace(".chart", ".synth-dspy .chart")
    panel = ".synth-dspy { max-width: 500px; padding: 8px 12px; background: var(--paper); font-family: sans-serif; }"
    return Markup(f"\n{colours}{panel}\n{rules}\n")  # noqa: S704 - the package's own file


def _intervals(
    title: str,
    marks: Sequence[Mark],
    ticks: Sequence[float],
    line: float | None,
    write: Callable[[float], str],
    unit: str,
) -> Markup:
    low, high = ticks[0], ticks[-1]
    height = TOP + ROW * len(marks) + BOTTOM
    floor = TOP + ROW * len(marks)

    def x(value: float) -> float:
        return LABEL + (WIDTH - LABEL - VALUE) * (min(max(value, low), high) - low) / (high - low)

    body = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
            '<text class="axis" x="{0:.1f}" y="{3}" text-anchor="middle">{4}</text>'
        ).format(x(t), TOP, floor, floor + 15, write(t))
        for t in ticks
    ]
    body.append(
        Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (x(low) + x(high)) / 2, floor + 30, unit
        )
    )
    if line is not None:
        body.append(
            Markup('<line class="zero" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x(line), 2, floor)
        )
    for i, m in enumerate(marks):
        y = TOP + ROW * i + ROW / 2
        body.append(
            Markup(
                '<g class="{style}"><text x="{end}" y="{base:.1f}" text-anchor="end">{label}</text>'
                '<line class="whisker" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<path class="whisker" d="M{a:.1f} {c:.1f}v10M{b:.1f} {c:.1f}v10"/>'
                '<circle cx="{m:.1f}" cy="{y:.1f}" r="5.5"/>'
                '<text class="figure" x="{edge}" y="{base:.1f}" text-anchor="end">{text}</text></g>'
            ).format(
                style=m.style,
                end=LABEL - 12,
                base=y + 4.5,
                label=_short(m.label, LONGEST),
                a=x(m.low),
                b=x(m.high),
                c=y - 5,
                m=x(m.value),
                y=y,
                edge=WIDTH - 2,
                text=m.text,
            )
        )
    figures = "; ".join(f"{m.label}: {m.text}, interval {write(m.low)} to {write(m.high)}" for m in marks)
    return _svg(title, f"{figures}.", height, body)


def _svg(title: str, description: str, height: float, body: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg">'
        "<title>{}</title><desc>{}</desc>{}</svg>"
    ).format(WIDTH, height, title, description, Markup("").join(body))


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose [low, high], 0 among them if it lies between."""
    raw = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _signed(value: float) -> str:
    return "0" if abs(value) < 0.05 else f"{value:+.0f}".replace("-", "\u2212")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
