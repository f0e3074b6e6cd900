"""The report of a rehearsal with models, as HTML, Markdown and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synth_dspy.core.io.files import write_whole
from synth_dspy.loop.rehearsal.embedded import STATE, Rehearsal, Round
from synth_dspy.loop.rehearsal.page import Page, Section

_TITLE = "Rehearsal of the loop with models"


def write_report(rehearsal: Rehearsal) -> list[Path]:
    """Write `report.html` and `report.md`; `rehearsal.json` is there already.

    Returns:
        The paths of the files.
    """
    page = Page(_TITLE, _setting(rehearsal), _sections(rehearsal.rounds))
    paths = [rehearsal.folder / name for name in ("report.html", "report.md")]
    for path, text in zip(paths, (page.html(), page.markdown()), strict=True):
        write_whole(path, text)
    return [*paths, rehearsal.folder / STATE]


def _setting(rehearsal: Rehearsal) -> list[str]:
    users, scale, world = rehearsal.users, rehearsal.scale, rehearsal.world
    return [
        f"Task: {rehearsal.task}; student {rehearsal.config.models.student}, judge {rehearsal.config.models.judge}.",
        f"Kinds of questions at the beginning: {', '.join(sorted(world.kinds))}; later also "
        f"{', '.join(sorted(world.later))}.",
        f"People: {users.raters} raters rate {_percent(users.rated)} of the answers, are mistaken in "
        f"{_percent(users.noise)}, and correct {_percent(users.corrections)} of the answers that they think wrong. "
        "They draw from questions that are never labelled, and never held out for the figures.",
        f"Traffic: {scale.reference} requests before each event; {_percent(scale.new)} of the later questions are of "
        f"new kinds; {scale.requests} answers in shadow, as many with a share of {_percent(scale.share)}, and "
        "eight times as many under watch. Signals are looked at every 32 requests.",
        f"Gate: slices of fewer than {scale.slice_items} held-out items are not protected.",
        f"Took {sum(each.minutes for each in rehearsal.rounds) + rehearsal.launch_minutes:.1f} minutes.",
    ]


def _sections(rounds: list[Round]) -> list[Section]:
    head: tuple[str, ...] = ("event", "noticed", "requests until then", "how the cycle ended", "champions", "minutes")
    cycles = [
        (
            each.name,
            each.noticed or "no",
            "-" if each.delay is None else str(each.delay),
            each.ended or "-",
            " → ".join(each.versions),
            f"{each.minutes:.1f}",
        )
        for each in rounds
    ]
    note = "Champions: before the event, after it, and after the cycle."
    sections: list[Section] = [("The cycles", (head, cycles), note)]
    figures = [
        (
            each.name,
            *(_figure(each.held_out[n]) if len(each.held_out) > n else "-" for n in range(3)),
            "-" if each.gain is None else _gain(each.gain),
            *(_mean(each.traffic.get(part, [])) for part in ("before", "during", "after")),
        )
        for each in rounds
    ]
    head = (
        "event", "held-out right: before it", "after it", "after the cycle", "gain of the cycle, points",
        "seen by people: before it", "until the end of the cycle", "after the cycle",
    )  # fmt: skip
    note = (
        "Held-out questions are the same for all versions, are right as things stand at that time, and are neither "
        "labelled nor asked. What people saw includes the answers of a challenger with a share of the traffic, and "
        "those of a champion whose index is older than the documents. Brackets are 95 % intervals."
    )
    return [*sections, ("Right answers", (head, figures), note)]


def _figure(figure: dict[str, Any]) -> str:
    if figure["mean"] is None or figure["low"] is None or figure["high"] is None:
        return "-"
    interval = f"{100 * figure['low']:.0f} to {100 * figure['high']:.0f}"
    return f"{_percent(figure['mean'])} ({interval}; n = {figure['n']})"


def _gain(figure: dict[str, Any]) -> str:
    if figure["mean"] is None or figure["low"] is None or figure["high"] is None:
        return "-"
    return f"{100 * figure['mean']:+.1f} ({100 * figure['low']:+.1f} to {100 * figure['high']:+.1f})"


def _mean(values: list[float]) -> str:
    return f"{_percent(sum(values) / len(values))} (n = {len(values)})" if values else "-"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
