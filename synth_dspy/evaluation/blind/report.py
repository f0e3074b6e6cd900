"""The report of a blind comparison, on the terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synth_dspy.core.io.reading import Json
from synth_dspy.core.text import counted
from synth_dspy.evaluation.blind.tally import interval, win_rate
from synth_dspy.evaluation.report.verdict import ALPHA, p_value, percent

if TYPE_CHECKING:
    from rich.table import Table


BETWEEN = "95 % interval"
_OF_RATERS = ("rater", "votes", "ties", "skipped", "agrees %", "positions %", "p position", "same again")


def tables(results: Json) -> list[Table]:
    """What the terminal shows: arms, pairs and raters."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = []
    for title, head, rows in tables_of(results):
        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for i, column in enumerate(head):
            table.add_column(Text(column), justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        made.append(table)
    return made


def sentences(results: Json) -> list[str]:
    """The sentences below the tables: agreement, position bias, and what limits the figures."""
    agreement = results["agreement"]
    if agreement["percent"] is None:
        sentence = "Agreement is unknown: no item has votes of two raters."
    else:
        sentence = (
            f"Two raters agree on {100 * agreement['percent']:.0f} % of the "
            f"{counted(agreement['items'], 'item')} that several rated"
        )
        if agreement["alpha"] is not None:
            sentence += f"; Krippendorff's alpha is {agreement['alpha']:.2f}"
        if agreement["low"] is not None:
            sentence += f" (95 % interval {agreement['low']:.2f} to {agreement['high']:.2f})"
        sentence += "."
    judge = results["judge"]
    repeats = results["repeats"].values()
    more = []
    if repeats:
        same, n = (sum(each[name] for each in repeats) for name in ("same", "n"))
        more.append(f"Of {counted(n, 'item')} shown to a rater twice, {same} got the same choice again.")
    if judge is not None and judge["n"]:
        more.append(
            f"The judge's scores put two outputs in the order of most raters' choices in {percent(judge['rate'])} % of "
            f"{counted(judge['n'], 'item')}, 95 % interval {interval(judge)} %; chance is 50 %."
            + (
                f" Left out: {counted(judge['undecided'], 'pair')} that one of them did not separate."
                if judge["undecided"]
                else ""
            )
        )
    powered = [_powered_sentence(pair) for pair in results["pairs"] if pair["powered"]]
    return [sentence, *more, _position_sentence(results["positions"]), *powered, *results["notes"]]


def markdown(results: Json) -> str:
    """The report as Markdown; names of arms and raters come through as they are."""
    from synth_dspy.evaluation.report.render import markdown_text as escape

    counts = results["counts"]
    lines = [
        f"# Blind comparison: {escape(results['task'])}",
        "",
        f"**{escape(results['headline'])}**",
        "",
        f"{counted(results['votes'], 'vote')} by {counted(len(results['raters']), 'rater')} on {results['items']} of "
        f"{counted(counts['shown'], 'item')} ({results['study']}). Left out: {counted(counts['left_out'], 'item')} "
        f"that not all arms answered, {counts['identical']} with the same output of every arm. Skipped: "
        f"{results['skipped']}.",
    ]
    for title, head, rows in tables_of(results):
        lines += ["", f"## {title}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        lines += [f"| {' | '.join(map(escape, row))} |" for row in rows]
    if results["comments"]:
        lines += ["", "## Comments", ""]
        lines += [
            f"- item {each['item']}, {escape(each['rater'])} ({escape(each['choice'])}): {escape(each['comment'])}"
            for each in results["comments"]
        ]
    lines += ["", "## What to make of it", "", *(f"- {escape(one)}" for one in sentences(results))]
    method = results["method"]
    lines += [
        "",
        "Win rates are shares of votes, averaged over items; ties are shared, so that chance gives an arm "
        f"{100 / len(results['arms']):.0f} % and a side of a pair 50 %. Intervals: {method['interval']}, over "
        f"{method['unit']}; tests: {method['test']}, with {method['correction']}'s correction. They generalise "
        "to other items, not to other raters.",
        "",
    ]
    return "\n".join(lines)


def _powered_sentence(pair: Json) -> str:
    powered = pair["powered"]
    return (
        f"With the judge's scores of all {powered['n']} items on which the outputs differ, {pair['arm']} wins "
        f"{win_rate(powered)} % over {pair['against']}, 95 % interval {interval(powered)} % (prediction-powered "
        "inference: the judge's errors do not bias it if the items on the sheets were drawn at random and all rated)."
    )


def _position_sentence(positions: Json) -> str:
    if not positions["n"]:
        return "These votes do not show whether the position of an output mattered."
    shares = ", ".join(f"{100 * share:.0f} %" for share in positions["shares"])
    conclusion = "the position matters" if positions["p"] < ALPHA else "no evidence that the position matters"
    return f"Choices by position: {shares} of {positions['n']}; {conclusion} ({p_value(positions['p'])})."


def tables_of(results: Json) -> list[tuple[str, list[str], list[list[str]]]]:
    arms = [
        [a["arm"], win_rate(a), interval(a), *(str(a[k]) for k in ("wins", "ties", "losses", "n"))]
        for a in results["arms"]
    ]
    pairs = [
        [
            f"{p['arm']} : {p['against']}",
            win_rate(p),
            interval(p),
            _p(p["p_holm"]),
            *(str(p[k]) for k in ("wins", "ties", "losses", "n")),
        ]
        for p in results["pairs"]
    ]
    by_rater = [
        [rater["rater"], arm, win_rate(estimate), interval(estimate), str(estimate["n"])]
        for rater in results["raters"]
        for arm, estimate in rater["arms"].items()
    ]
    raters = [
        [
            r["rater"],
            *(str(r[k]) for k in ("votes", "ties", "skipped")),
            "–" if r["agreement_with_others"] is None else f"{100 * r['agreement_with_others']:.0f}",
            " / ".join(f"{100 * share:.0f}" for share in r["positions"]["shares"]) or "–",
            _p(r["positions"]["p_holm"]),
            f"{twice['same']} of {twice['n']}" if (twice := results["repeats"].get(r["rater"])) else "–",
        ]
        for r in results["raters"]
    ]
    return [
        ("Arms", ["arm", "win %", BETWEEN, "wins", "ties", "losses", "items"], arms),
        ("Pairs", ["pair", "win %", BETWEEN, "p Holm", "wins", "ties", "losses", "items"], pairs),
        ("Arms by rater", ["rater", "arm", "win %", BETWEEN, "items"], by_rater),
        ("Raters", [*_OF_RATERS], raters),
    ]


def _p(value: float | None) -> str:
    return p_value(value).removeprefix("p ").removeprefix("= ")
