"""Blind comparison of arms or runs, for every task: `python -m synth_dspy.blind page | sheets | rate | report`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.run_names import RunPath
from synth_dspy.core.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from synth_dspy.evaluation.blind.votes import VoteFile

USAGE = """usage: {blind} page RUN [RUN ...] [--arms A B] [--raters N] [--host ADDRESS]
       {blind} sheets RUN [RUN ...] --arms A B --out DIR [--items N] [--seed S]
       {blind} rate DIR/sheets.jsonl --rater NAME --votes FILE.jsonl
       {blind} rate DIR/sheets.jsonl --judge MODEL --votes FILE.jsonl
       {blind} report DIR [--votes FILE ...]

Compare answers without knowing which arm they come from. `page` shows them to people in a browser. `sheets` writes
outputs in random order, without names, and puts the key in a separate file; raters need only the sheets. `rate` shows
one item at a time, or has a judge model vote; a sheets.csv with the column choice filled in is a file of votes too.
`report` merges the votes and says which arm won.
"""


class ComparisonConfig(Settings):
    """What to compare."""

    runs: Positional[tuple[RunPath, ...]]
    """Finished runs of one task, by their ids or folders."""
    arms: tuple[str, ...] = ()
    """Arms to compare, separated by spaces or commas; of one run among several: <run>/<arm>; by default all."""
    items: int = Field(default=40, ge=1)
    """Show at most this many items."""
    references: bool = True
    """Show raters the accepted answers too."""
    seed: int = 0
    """Seed for drawing items and the order of outputs."""


class SheetsConfig(ComparisonConfig):
    """What to compare, and where to write it."""

    out: Path
    """Folder for sheets.jsonl and sheets.csv, which raters get, and key.json, which you keep."""


class PageConfig(ComparisonConfig):
    """What to compare, by how many, and where."""

    out: Path | None = None
    """Folder of the comparison and its votes; by default `blind` in the first run's folder. A comparison that is there
    already goes on; its folder may be named instead of the run's."""
    raters: int | None = Field(default=None, ge=1)
    """Votes that each item is to get, each by another rater; by default two, and for the pairs of the loop as many as
    it was told."""
    repeats: int | None = Field(default=None, ge=0)
    """Items that every rater gets a second time, without being told; by default one in ten."""
    host: str = "127.0.0.1"
    """Address to listen on; others than loopback need keys in SYNTH_DSPY_KEY."""
    port: int = Field(default=8001, ge=0, le=65535)
    """Port to listen on; 0: any that is free."""


class RateConfig(Settings):
    """Who votes, and the file of the votes."""

    sheet: Positional[Path]
    """The sheets.jsonl to rate."""
    votes: Path
    """File to append votes to, as JSON lines; items that the rater has voted on are not shown again."""
    rater: str | None = None
    """Your name, as shown in the report; for a judge, by default its model string."""
    judge: str | None = None
    """Let this model vote instead of a person."""
    api_base: str | None = None
    """Address of an OpenAI-compatible server that serves the judge's model."""
    api_key_name: str | None = None
    """Environment variable with the key for that server; by default OPENAI_API_KEY."""
    allow_http: bool = False
    """Allow sending that key over http:// to another machine."""
    concurrency: int = Field(default=8, ge=1)
    """Items that the judge rates at once."""


class ReportConfig(Settings):
    """What to report."""

    folder: Positional[RunPath]
    """Folder that the sheets were written to, such as <id>/blind."""
    votes: tuple[Path, ...] = ()
    """Files of votes (.jsonl, or .csv filled in); if a rater voted twice on an item, the last vote counts. By default
    those of the page."""


def main(args: list[str]) -> int:
    """Parse `args`, then make sheets, take votes, or report."""
    parts: Mapping[str, Callable[[list[str]], None]] = {
        "page": _page,
        "sheets": _sheets,
        "rate": _rate,
        "report": _report,
    }
    if not args or args[0] in ("-h", "--help"):
        print(USAGE.format(blind=command("blind")))
        return 0 if args else 2
    if args[0] not in parts:
        raise SetupError(f"blind has no subcommand {args[0]!r}: use page, sheets, rate or report.")
    parts[args[0]](args[1:])
    return 0


def _sheets(args: list[str]) -> None:
    from synth_dspy.evaluation.blind.sheets import CSV, KEY, SHEETS

    about = "Write sheets with the outputs in random order and without names."
    config = parse(SheetsConfig, verb="blind sheets", description=about, args=args)
    _make(config, config.out)
    _console().print(f"for the raters: {config.out / SHEETS} or {config.out / CSV}; for you alone: {config.out / KEY}")


def _make(config: ComparisonConfig, out: Path) -> None:
    """Write sheets and key."""
    from synth_dspy.evaluation.blind.sheets import make_sheets
    from synth_dspy.evaluation.finished_runs import find_arms, read_runs

    arms = find_arms(read_runs(config.runs), _names(config.arms))
    counts = make_sheets(arms, out, items=config.items, seed=config.seed, references=config.references)
    _console().print(
        f"{counted(counts['shown'], 'item')} with the outputs of {', '.join(arm.name for arm in arms)}; left out: "
        f"{counts['left_out']} that not all of them answered, {counts['identical']} with identical answers."
    )


def _names(arms: Sequence[str]) -> list[str]:
    return [name for given in arms for name in given.split(",") if name]


def _page(args: list[str]) -> None:
    about = "Let people compare outputs in a browser; every vote is on disk before the next item is shown."
    config = parse(PageConfig, verb="blind page", description=about, args=args)

    from synth_dspy.core.progress import Bars

    with Bars().status("loading libraries"):
        from synth_dspy.evaluation.blind.review import Review
        from synth_dspy.service.access import keys_from_environment, refuse_open_bind
        from synth_dspy.service.pages.review import results_path, review_app
        from synth_dspy.service.server import listen, make_server, place_of
        from synth_dspy.service.settings import Limits
    keys = keys_from_environment()
    refuse_open_bind(config.host, keys)
    review = Review(_comparison(config), config.raters, config.repeats)
    listening = listen(config.host, config.port)
    limits = Limits()
    place = place_of(listening)

    def started() -> None:
        print(f"for the raters:   {place}", flush=True)
        print(f"for you alone:    {place}{results_path(review)}", flush=True)
        print(f"votes and report: {review.folder}; stop with Ctrl-C", flush=True)

    with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has stopped
        make_server(review_app(review, keys, limits), limits, started).run(sockets=[listening])
    print(f"stopped; every vote is kept: {command('blind report')} {review.folder}")


def _comparison(config: PageConfig) -> Path:
    """The folder of the comparison, which is made unless it is there.

    Raises:
        SetupError: it is of other arms.
    """
    from synth_dspy.evaluation.blind.sheets import KEY, read_key

    if not config.runs:
        raise SetupError("Name the folder of a finished run, runs/<task>/<id>, or of a comparison.")
    folder = config.out or config.runs[0] / "blind"
    if config.out is None and (config.runs[0] / KEY).is_file():
        folder = config.runs[0]
    if not (folder / KEY).exists():
        _make(config, folder)
        return folder
    there = [arm["name"] for arm in read_key(folder)["arms"]]
    if wanted := [name for name in _names(config.arms) if name not in there]:
        raise SetupError(
            f"{folder} holds a comparison of {', '.join(there)}, without {wanted[0]}: name another folder with --out."
        )
    _console().print(f"going on with the comparison of {', '.join(there)} in {folder}")
    return folder


def _rate(args: list[str]) -> None:
    from synth_dspy.evaluation.blind.sheets import RIGHT, read_sheet
    from synth_dspy.evaluation.blind.terminal import ask
    from synth_dspy.evaluation.blind.votes import VoteFile

    about = "Vote on one item at a time; stop and resume as you like."
    config = parse(RateConfig, verb="blind rate", description=about, args=args)
    if config.rater is None and config.judge is None:
        raise SetupError("A vote needs a rater: name yourself with --rater, or a model with --judge.")
    rows = read_sheet(config.sheet)
    votes = VoteFile(config.votes, rows[0]["study"], config.rater if config.rater is not None else str(config.judge))
    remaining = [row for row in rows if str(row["item"]) not in votes.done]
    if not remaining:
        print(f"{votes.rater} has voted on all {len(rows)} items: {config.votes}")
        return
    if config.judge is not None:
        if rows[0].get("asks") == RIGHT:
            raise SetupError("People judge these pairs, and correct the judge by it: name yourself with --rater.")
        failed = _judge(config, remaining, votes)
    else:
        failed = ask(remaining, votes, total=len(rows), read=input, console=_console())
    failures = f", {failed} without a vote (run the same command again)" if failed else ""
    _console().print(f"{len(votes.done)} of {len(rows)} items rated by {votes.rater}{failures}: {config.votes}")


def _judge(config: RateConfig, rows: Sequence[Mapping[str, Any]], votes: VoteFile) -> int:
    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    assert config.judge is not None
    quiet_libraries()
    bars = Bars()
    with bars.status("loading libraries"):
        import dspy

        from synth_dspy.core.executor import Executor
        from synth_dspy.evaluation.blind.judge import PairwiseJudge, rate
        from synth_dspy.models import roles
        from synth_dspy.pipeline.resources import EMBEDDED_OPTIONS
    embedded = config.judge.startswith(roles.EMBEDDED)
    options: dict[str, Any] = dict(EMBEDDED_OPTIONS) if embedded else {}
    options |= {name: getattr(config, name) for name in ("api_base", "api_key_name", "allow_http")}
    lm = roles.lm_for(config.judge, role="judge", **options)
    roles.check(lm)
    # An embedded model's reply is constrained to JSON, which small models rarely write on their own.
    adapter = dspy.JSONAdapter() if embedded else None
    with dspy.settings.context(adapter=adapter), bars.bar("votes", len(rows)) as advance:
        return rate(PairwiseJudge(lm), rows, votes, Executor(config.concurrency), advance)


def _report(args: list[str]) -> None:
    about = "Merge votes and report which arm won, with what certainty, and how well the raters agree."
    config = parse(ReportConfig, verb="blind report", description=about, args=args)

    from synth_dspy.evaluation.blind.report import markdown, sentences, tables
    from synth_dspy.evaluation.blind.sheets import read_key
    from synth_dspy.evaluation.blind.tally import tally_votes
    from synth_dspy.evaluation.blind.votes import VOTES, read_votes
    from synth_dspy.evaluation.finished_runs import write

    key = read_key(config.folder)
    paths = config.votes or (config.folder / VOTES,)
    if not config.votes and not paths[0].is_file():
        raise SetupError(
            f"{config.folder} holds no votes: collect some with {command(f'blind page {config.folder}')}, or name "
            "files of votes with --votes."
        )
    results = tally_votes(key, [vote for path in paths for vote in read_votes(path)])
    write(config.folder / "blind.json", json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    write(config.folder / "blind.md", markdown(results))
    console = _console()
    for table in tables(results):
        console.print(table)
    for sentence in (results["headline"], *sentences(results)):
        console.print(sentence)
    console.print(str(config.folder / "blind.md"))


def _console() -> Console:
    from synth_dspy.core.terminal import standard_output

    return standard_output()
