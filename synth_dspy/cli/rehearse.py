"""Rehearse the loop of a task: `python -m synth_dspy.loop rehearse TASK`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import FROM_ANSWERS, Settings, compile_settings, read_toml
from synth_dspy.core.errors import SetupError

if TYPE_CHECKING:
    from synth_dspy.loop.rehearsal.users import Users


class RehearseConfig(Settings):
    """What is rehearsed, and in which world."""

    task: Positional[str]
    """Name of a task file in programs/."""
    embedded: bool = False
    """Three whole cycles with the task's models, which answer and are trained, in place of drawn scores."""
    config: Path | None = None
    """With --embedded: a TOML file of the task's settings, as for `compile`."""
    arms: tuple[str, ...] = ("sft",)
    """With --embedded: arms that the cycles train."""
    reference: int = Field(default=160, ge=32)
    """With --embedded: requests before each event."""
    requests: int = Field(default=80, ge=10)
    """With --embedded: answers of a challenger in shadow, then with a share of the traffic, each; eight times as many
    under watch."""
    curve: bool = False
    """With --embedded: in place of cycles, how much each training method gains from more and more feedback."""
    methods: tuple[str, ...] = FROM_ANSWERS
    """With --curve: the training methods."""
    sizes: tuple[int, ...] = (8, 32, 128, 512)
    """With --curve: records of feedback."""
    seeds: int | None = Field(default=None, ge=1)
    """How often each event and each challenger is rehearsed, 200 times by default; with --curve, each training, once by
    default."""
    first_seed: int = Field(default=0, ge=0)
    """The first of the seeds."""
    only: tuple[str, ...] = ("events", "challengers")
    """Events that happen to a service, challengers at the gate, or names of some of either, such as `nothing`."""
    questions: Path | None = None
    """Labelled questions to replay, JSON lines or CSV; without them, embeddings are drawn around topics."""
    text: str = "text"
    """The field of these with the question."""
    kind: str = "kind"
    """The field of these with the question's kind, such as its intent."""
    most: int = Field(default=5_000, ge=100)
    """Questions that are embedded at most, spread evenly over the file."""
    embedder: str = "embedded/all-minilm-l6-v2"
    """The embedding model for them."""
    quality: float = Field(default=0.65, gt=0.2, lt=0.95)
    """Share of the first champion's answers that are right."""
    sensitivity: float = Field(default=0.85, gt=0, le=1)
    """Share of right answers that the judge calls right."""
    specificity: float = Field(default=0.80, gt=0, le=1)
    """Share of wrong answers that the judge calls wrong."""
    noise: float = Field(default=0.10, ge=0, lt=0.5)
    """Share of people's ratings that say the contrary of what is right."""
    rated: float = Field(default=0.30, ge=0, le=1)
    """Share of the answers that somebody rates."""
    corrections: float = Field(default=0.20, ge=0, le=1)
    """Share of the answers thought wrong that are corrected instead of rated."""
    rate: float = Field(default=0.05, gt=0, lt=1)
    """Probability of any false alarm, over all signals together."""
    processes: int | None = Field(default=None, ge=1)
    """At a time; by default one a core."""
    out: Path | None = None
    """Folder of the report; by default runs/TASK/rehearsal in the workspace."""


_NEED = {
    **dict.fromkeys(("config", "arms", "reference", "requests", "curve"), ("embedded",)),
    **dict.fromkeys(("methods", "sizes"), ("embedded", "curve")),
}
"""Settings that mean nothing without others."""
_DRAWN = (
    "only", "questions", "text", "kind", "most", "embedder", "quality", "sensitivity", "specificity", "rate",
    "processes",
)  # fmt: skip
"""Settings of drawn scores."""


def main(args: list[str]) -> None:
    """Rehearse without model calls, and write report.html, report.md and rehearsal.jsonl."""
    about = (
        "Rehearse the loop without model calls: scores are drawn from stated probabilities; signals, gate, cycle, "
        "registry and store are the real ones. The report says what is noticed, how late, with how many false alarms, "
        "what is promoted, and how many labels that takes."
    )
    config = parse(RehearseConfig, verb="loop rehearse", description=about, args=args)
    given = {name for name, field in RehearseConfig.model_fields.items() if getattr(config, name) != field.default}
    for name, flags in _NEED.items():
        if name in given and not all(getattr(config, flag) for flag in flags):
            raise SetupError(f"--{name} needs {' and '.join(f'--{flag}' for flag in flags)}: see docs/rehearsal.md.")
    if config.embedded:
        if drawn := [name for name in _DRAWN if name in given]:
            raise SetupError(f"--{drawn[0]} is a setting of drawn scores: leave it out, or leave out --embedded.")
        if config.seeds is not None and not config.curve:
            raise SetupError("--embedded makes one rehearsal: in place of --seeds, run it with another --first-seed.")
        _with_models(config)
        return

    from synth_dspy.core.progress import Bars
    from synth_dspy.core.terminal import standard_output
    from synth_dspy.core.validation import suggest
    from synth_dspy.core.workspace import find_workspace, task_file
    from synth_dspy.loop.rehearsal.challengers import CHALLENGERS
    from synth_dspy.loop.rehearsal.drawn import Judge
    from synth_dspy.loop.rehearsal.events import EVENTS
    from synth_dspy.loop.rehearsal.report import write_report
    from synth_dspy.loop.rehearsal.run import rehearse
    from synth_dspy.loop.rehearsal.stream import read_questions
    from synth_dspy.loop.rehearsal.trial import Setting
    from synth_dspy.models.roles import embedder_for

    workspace = find_workspace()
    task_file(workspace, config.task)
    if config.sensitivity + config.specificity <= 1:
        raise SetupError(
            "--sensitivity and --specificity together must be above 1: a judge that guesses shows nothing."
        )
    whole = {"events": EVENTS, "challengers": CHALLENGERS}
    valid = {*whole, *EVENTS, *CHALLENGERS}
    if unknown := [name for name in config.only if name not in valid]:
        raise SetupError(f"There is no event or challenger {unknown[0]!r}: {suggest(unknown[0], sorted(valid))}")
    chosen = {each for name in config.only for each in whole.get(name, (name,))}
    questions, source = None, "drawn around topics"
    if config.questions is not None:
        embed = embedder_for(config.embedder).embed
        questions = read_questions(config.questions, config.text, config.kind, embed, most=config.most)
        source = f"{len(questions.texts):,} replayed from {config.questions.name}, embedded by {config.embedder}"
    judge, users = Judge(config.sensitivity, config.specificity), _users(config)
    console = standard_output()
    with Bars(every_s=10.0).bar("rehearsal", None) as bar:
        rehearsal = rehearse(
            config.seeds or 200,
            first=config.first_seed,
            setting=Setting(config.quality, judge, users, config.rate),
            questions=questions,
            source=source,
            events=[name for name in EVENTS if name in chosen],
            challengers=[name for name in CHALLENGERS if name in chosen],
            processes=config.processes,
            progress=bar.reach,
        )
    for path in write_report(rehearsal, config.out or workspace / "runs" / config.task / "rehearsal"):
        console.print(str(path), soft_wrap=True)


def _users(config: RehearseConfig) -> Users:
    from synth_dspy.loop.rehearsal.users import Users

    return Users(rated=config.rated, noise=config.noise, corrections=config.corrections)


def _with_models(config: RehearseConfig) -> None:
    """Three cycles with the task's models."""
    from synth_dspy.core.terminal import standard_output
    from synth_dspy.core.workspace import find_workspace, task_file
    from synth_dspy.models.offline import quiet_libraries

    workspace = find_workspace()
    settings = compile_settings(task_file(workspace, config.task))
    task_config = read_toml(config.config, settings) if config.config is not None else settings()
    quiet_libraries()
    from synth_dspy.loop.rehearsal.embedded import Rehearsal, Scale
    from synth_dspy.loop.rehearsal.embedded_report import write_report

    name = "rehearsal-curve" if config.curve else "rehearsal-embedded"
    folder = config.out or workspace / "runs" / config.task / name
    console = standard_output()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    rehearsal = Rehearsal(
        workspace,
        config.task,
        task_config,
        folder,
        users=_users(config),
        scale=Scale(reference=config.reference, requests=config.requests),
        seed=config.first_seed,
        arms=config.arms,
        say=say,
    )
    if config.curve:
        from synth_dspy.loop.rehearsal.curve import Curve, write_curve

        curve = Curve(rehearsal)
        seeds = range(config.first_seed, config.first_seed + (config.seeds or 1))
        curve.run(config.sizes, config.methods, seeds)
        paths = write_curve(curve)
    else:
        rehearsal.run()
        paths = write_report(rehearsal)
    for path in paths:
        say(str(path))
