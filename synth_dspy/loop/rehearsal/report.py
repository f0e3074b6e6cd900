"""The report of a rehearsal, as HTML and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from synth_dspy.loop.rehearsal.challengers import CHALLENGERS
from synth_dspy.loop.rehearsal.drawn import CORRELATION, DAY
from synth_dspy.loop.rehearsal.events import EVENTS
from synth_dspy.loop.rehearsal.figures import ChallengerFigures, EventFigures, challenger_figures, event_figures
from synth_dspy.loop.rehearsal.page import Page, Section, Table
from synth_dspy.loop.rehearsal.run import Rehearsal
from synth_dspy.loop.rehearsal.steps import ITEMS, TRIAL, WATCH
from synth_dspy.loop.rehearsal.trial import LOOK, REFERENCE
from synth_dspy.loop.signals.together import STATISTICAL


def write_report(rehearsal: Rehearsal, folder: Path) -> list[Path]:
    """Write `report.html`, `report.md` and `rehearsal.jsonl`, a line for each seed.

    Args:
        rehearsal: what came of it.
        folder: where to; it is made.

    Returns:
        The paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("report.html", "report.md", "rehearsal.jsonl")]
    page = Page("Rehearsal of the loop", _setting(rehearsal), _sections(rehearsal))
    paths[0].write_text(page.html(), encoding="utf-8")
    paths[1].write_text(page.markdown(), encoding="utf-8")
    lines = [json.dumps(each) for each in (*map(asdict, rehearsal.outcomes), *map(asdict, rehearsal.decisions))]
    paths[2].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return paths


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


def _sections(rehearsal: Rehearsal) -> list[Section]:
    events, challengers = event_figures(rehearsal.outcomes), challenger_figures(rehearsal.decisions)
    sections: list[Section] = []
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
