"""The report of a rehearsal, as HTML and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup, escape

from synth_dspy.loop.rehearsal.challengers import CHALLENGERS
from synth_dspy.loop.rehearsal.drawn import CORRELATION, DAY
from synth_dspy.loop.rehearsal.events import EVENTS
from synth_dspy.loop.rehearsal.figures import ChallengerFigures, EventFigures, challenger_figures, event_figures
from synth_dspy.loop.rehearsal.learning import Point
from synth_dspy.loop.rehearsal.run import Rehearsal
from synth_dspy.loop.rehearsal.steps import ITEMS, TRIAL, WATCH
from synth_dspy.loop.rehearsal.trial import LOOK, REFERENCE
from synth_dspy.loop.signals.together import STATISTICAL

Table = tuple[Sequence[str], Sequence[Sequence[str]]]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px } caption { text-align: left; font-weight: 600 }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top }
.wide { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e8e8e8 } th, td { border-color: #444 } }
"""


def write_report(rehearsal: Rehearsal, folder: Path, curve: Sequence[Point] = ()) -> list[Path]:
    """Write `report.html`, `report.md` and `rehearsal.jsonl`, a line for each seed.

    Args:
        rehearsal: what came of it.
        folder: where to; it is made.
        curve: a learning curve of feedback, where one was made.

    Returns:
        The paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("report.html", "report.md", "rehearsal.jsonl")]
    paths[0].write_text(as_html(rehearsal, curve), encoding="utf-8")
    paths[1].write_text(as_markdown(rehearsal, curve), encoding="utf-8")
    lines = [json.dumps(each) for each in (*map(asdict, rehearsal.outcomes), *map(asdict, rehearsal.decisions))]
    paths[2].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return paths


def as_markdown(rehearsal: Rehearsal, curve: Sequence[Point] = ()) -> str:
    """The report in Markdown."""
    parts = ["# Rehearsal of the loop", *(f"- {line}" for line in _setting(rehearsal))]
    text = parts[0] + "\n\n" + "\n".join(parts[1:]) + "\n"
    for title, (head, rows), note in _sections(rehearsal, curve):
        lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        text += f"\n## {title}\n\n" + "\n".join(lines) + f"\n\n{note}\n"
    return text


def as_html(rehearsal: Rehearsal, curve: Sequence[Point] = ()) -> str:
    """The report as one HTML page."""
    body = Markup("<h1>Rehearsal of the loop</h1><ul>")
    body += Markup("").join(Markup("<li>{}</li>").format(line) for line in _setting(rehearsal)) + Markup("</ul>")
    for title, (head, rows), note in _sections(rehearsal, curve):
        body += Markup('<h2>{}</h2><div class="wide"><table><thead><tr>').format(title)
        body += Markup("").join(Markup('<th scope="col">{}</th>').format(cell) for cell in head)
        body += Markup("</tr></thead><tbody>")
        for row in rows:
            body += (
                Markup("<tr>") + Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) + Markup("</tr>")
            )
        body += Markup("</tbody></table></div><p>{}</p>").format(note)
    page = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Rehearsal of the loop</title>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{page}{viewport}<style>{_STYLE}</style></head><body>{escape(body)}</body></html>\n"


def _setting(rehearsal: Rehearsal) -> list[str]:
    setting, policy = rehearsal.setting, rehearsal.gate.policy
    judge, users = setting.judge, setting.users
    return [
        f"Questions: {rehearsal.questions}; {DAY} a day. The first champion is right in {_percent(setting.quality)} of "
        f"its answers; two versions' answers to one question have the correlation {CORRELATION}. All scores are drawn.",
        f"Judge: calls {_percent(judge.sensitivity)} of right answers right and {_percent(judge.specificity)} of wrong "
        "ones wrong.",
        f"People: {users.raters} raters rate {_percent(users.rated)} of the answers and are mistaken in "
        f"{_percent(users.noise)}; in labels for the gate, in {_percent(users.label_noise)}.",
        f"Signals: false alarms of at most {_percent(setting.rate)} are stated for all {len(STATISTICAL)} together "
        f"(each has an equal share), however long they watch. Observed here for "
        f"{setting.event_at + setting.horizon:,} requests without an event, after {REFERENCE:,} of reference; "
        f"looked at every {LOOK} requests, canaries and documents "
        f"once a day. Events happen after {setting.event_at:,} requests and are waited for {setting.horizon:,} more.",
        f"Gate: {ITEMS:,} judged items, labels at {policy.looks} looks: "
        f"{', '.join(str(policy.labels_at(look + 1)) for look in range(policy.looks))} items; an interval of "
        f"{100 * policy.level:.3g} % at each look. A promoted challenger first answers {TRIAL} requests in shadow and "
        f"{TRIAL} as a share, then is watched for {WATCH:,}.",
        f"Took {rehearsal.seconds / 60:.1f} minutes.",
    ]


def _sections(rehearsal: Rehearsal, curve: Sequence[Point]) -> list[tuple[str, Table, str]]:
    events, challengers = event_figures(rehearsal.outcomes), challenger_figures(rehearsal.decisions)
    sections: list[tuple[str, Table, str]] = []
    if events:
        note = (
            "Delays count requests from the event's effect to the alarm, seeds that did not notice it as later than "
            "all others. Shares in brackets are exact 95 % intervals. False alarms are those before the event, or, "
            "where nothing happens, at any time; an alarm of an event that has nothing to notice is not counted as one."
        )
        sections.append(("What was noticed", _noticed(events), note))
        note = (
            "Right answers: means over the seeds before the event, from then to the end of its cycle, and after a "
            "promotion. Promotions are right where the version truly is no worse in use. Trainings, labels and the "
            "cost of the answers are means per seed. A training makes a version better or worse by chance, beyond "
            "what it learns anew, so not every cycle ends with a promotion. Planted bad challengers show the gate "
            "scores that they do not keep in use; their promotions count as wrong."
        )
        sections.append(("What became of it", _became(events), note))
    if challengers:
        note = (
            "Labels are pairs of answers that people labelled. By the judge's scores alone is tried with one look, "
            "without protected slices."
        )
        sections.append(("Challengers at the gate", _at_gate(challengers), note))
    if curve:
        head = ("method", "records of feedback", "rows", "gain in points (95 % interval)", "seconds")
        rows = [
            (point.method, str(point.records), str(point.rows), _gain(point), f"{point.seconds:.0f}") for point in curve
        ]
        note = "Each training starts from the base and takes the first records of one shuffled sequence."
        sections.append(("Learning curve of feedback", (head, rows), note))
    return sections


def _noticed(events: Sequence[EventFigures]) -> Table:
    head = ("event", "noticed", "median delay", "90 % within", "first noticed by", "false alarms")
    return head, [
        (
            EVENTS[each.name].about,
            "-" if each.noticed is None else str(each.noticed),
            _number(each.delay, each.noticed is not None),
            _number(each.late, each.noticed is not None),
            ", ".join(f"{name} {count}" for name, count in each.by.items()) or "-",
            str(each.false_alarms),
        )
        for each in events
    ]


def _became(events: Sequence[EventFigures]) -> Table:
    head = (
        "event", "right before", "during", "after", "promoted rightly", "wrongly", "rolled back", "trainings", "labels",
        "answers, USD",
    )  # fmt: skip
    return head, [
        (
            EVENTS[each.name].about,
            *("-" if share is None else _percent(share) for share in (each.before, each.during, each.after)),
            str(each.promoted_better),
            str(each.promoted_worse),
            str(each.rolled_back),
            f"{each.trainings:.2f}",
            f"{each.labels:.0f}",
            f"{each.cost_usd:.2f}",
        )
        for each in events
    ]


def _at_gate(challengers: Sequence[ChallengerFigures]) -> Table:
    head = ("challenger", "promoted", "rejected", "labels, median", "labels, mean", "promoted by the judge alone")
    return head, [
        (
            CHALLENGERS[each.name].about,
            str(each.promoted),
            str(each.rejected),
            f"{each.labels:.0f}",
            f"{each.labels_mean:.0f}",
            "-" if each.unlabelled is None else str(each.unlabelled),
        )
        for each in challengers
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float | None, to_notice: bool) -> str:
    if not to_notice:
        return "-"
    return "not within the horizon" if value is None else f"{value:,.0f} requests"


def _gain(point: Point) -> str:
    gain = point.gain
    if gain.mean is None or gain.low is None or gain.high is None:
        return "-"
    return f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
