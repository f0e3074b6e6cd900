"""A choice on the terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synth_dspy.core.io.reading import Json
from synth_dspy.evaluation.choice.sentences import usd
from synth_dspy.evaluation.report.verdict import percent

if TYPE_CHECKING:
    from rich.table import Table


FRONT = "*"


def table(results: Json) -> Table:
    """The arms on one screen; those outside the limits dimmed, the chosen one bold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(f"{results['task'] or ''}, n = {results['items']}"), title_justify="left")
    made.box, made.pad_edge, made.padding, made.collapse_padding = SIMPLE_HEAD, False, (0, 1), True
    made.caption, made.caption_justify = Text(_legend(results)), "left"
    several = len({option["model"] for option in results["options"]}) > 1
    # Narrow enough for a terminal of 80 columns: a wrapped interval cannot be read.
    head = ["arm", *(["model"] if several else []), f"{results['called']} %", "95 % interval", "p50 s", "p95 s"]
    for i, column in enumerate([*head, "/s", "MB", "$/1000", "commercial"]):
        made.add_column(Text(column), justify="left" if i == 0 else "right", overflow="fold")
    for option in results["options"]:
        style = "bold" if option["name"] == results["chosen"] else "dim" if option["excluded"] else ""
        cells = _row(option)
        shown = [cells[0], *(cells[1:2] if several else []), *cells[2:8], *cells[9:]]
        made.add_row(*(Text(cell, style=style) for cell in shown))
    return made


def markdown(results: Json) -> str:
    """The choice as Markdown; names come through as they are."""
    from synth_dspy.evaluation.report.render import markdown_text as escape

    head = ["arm", "model", f"{results['called']} %", "95 % interval", "p50 s", "p95 s", "answers/s"]
    head += ["weights MB", "memory MB", "$/1000", "commercial", "licences", "within the limits"]
    lines = [
        f"# Choice of a model: {escape(results['task'])}",
        "",
        f"**{escape(results['recommendation'])}**",
        "",
        f"| {' | '.join(map(escape, head))} |",
        f"|{' --- |' * len(head)}",
    ]
    for option in results["options"]:
        licences = "; ".join(
            f"{role}: {licence['name']}{f' ({terms})' if (terms := licence['terms']) else ''}"
            for role, licence in option["licences"].items()
        )
        within = "; ".join(f"{flag}: {why}" for flag, why in option["excluded"].items()) or "yes"
        lines.append(f"| {' | '.join(map(escape, [*_row(option), licences, within]))} |")
    lines += ["", escape(_legend(results)), "", *(f"- {escape(note)}" for note in results["notes"]), ""]
    return "\n".join(lines)


def _row(option: Json) -> list[str]:
    quality = option["quality"]
    return [
        f"{option['name']}{FRONT if option['pareto'] else ''}",
        option["model"],
        percent(quality["mean"], "–"),
        f"{percent(quality['low'], '–')} – {percent(quality['high'], '–')}".replace(" ", "\u2009"),
        _number(option["latency_p50_s"], 2),
        _number(option["latency_p95_s"], 2),
        _number(option["throughput"], 2),
        _number(option["weights_mb"], 0),
        "–" if option["memory_mb"] is None else f"≤ {option['memory_mb']:,.0f}",
        usd(option["cost_per_thousand_usd"]).removeprefix("$"),
        option["commercial"].replace("yes, with ", ""),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _legend(results: Json) -> str:
    price = results["limits"]["cpu_hour_usd"]
    return (
        f"{FRONT} on the Pareto front of quality, p95 latency, cost and weights (MB); embedded models "
        f"cost ${price:g} for a CPU hour."
    )
