"""The terminal: the console script, progress on pipes and on a pty, Ctrl-C, closed pipes, resuming from anywhere."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finished_runs import make_run, row
from servers import Behaviour, Server, serving

from synth_dspy import __version__
from synth_dspy.__main__ import COMMANDS
from synth_dspy.cli import init
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.progress import Bars
from synth_dspy.core.run import start
from synth_dspy.core.terminal import standard_output
from synth_dspy.core.workspace import workspace_of
from synth_dspy.evaluation.report.render import failures, summary_table

ROOT = Path(__file__).resolve().parents[1]
MODULE = [sys.executable, "-m", "synth_dspy"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

TASK = '''
"""Rivers."""

import dspy

from synth_dspy.core.knowledge import Item, Knowledge, Skipped
from synth_dspy.core.task import Task, task

NAMES = ("Amazon", "Danube", "Ganges", "Mekong", "Niger", "Rhine", "Volga", "Yukon", "Zambezi", "Congo")


class Rivers:
    def read(self, limit=None):
        labelled = [
            dspy.Example(
                id=name, group=name, category="mouth", origin="gold", answer_type="place", spans=[], passages="",
                question=f"Where does the {name} end?", answer="sea", references=["sea"],
            ).with_inputs("question")
            for name in NAMES
        ]
        skipped = [Skipped(f"map{n}.pdf", "holds no text") for n in range(5)]
        return Knowledge([Item(name, name, name) for name in NAMES], labelled, skipped=skipped)


class Answers(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        return dspy.Prediction(answer=self.answer(question=question).answer, abstained=False)


class Nothing(dspy.Module):
    def forward(self, item):
        return []


class Polite:
    name, agreement = "polite", {}

    def __call__(self, example, prediction, trace=None):
        return 1.0

    def score_many(self, rows):
        return [1.0 for _ in rows]


class Broken:
    def compile(self, student, *, trainset, valset):
        raise ValueError("there is [no such] prompt, " + "however long one looks for it " * 5)


@task
def rivers() -> Task:
    return Task(
        source=Rivers(),
        program=lambda resources: Answers(),
        synthesizer=lambda resources: Nothing(),
        filters=lambda resources: [],
        judge=lambda resources: Polite(),
        metrics={"short": lambda example, prediction, trace=None: 1.0},
        optimizers={"an_untuned_baseline_arm": lambda r, m: None, "broken": lambda r, m: Broken()},
        noun="river",
    )
'''


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "check": False, "timeout": 500, "env": ENVIRONMENT, **options}
    return subprocess.run(command, **settings)  # type: ignore[call-overload,no-any-return]


def on_terminal(
    *command: str, until: Callable[[str], bool] = lambda shown: False, **environment: str
) -> tuple[int, str]:
    """Run a command on a pty; its status and what the terminal was sent. Ctrl-C is typed once `until` holds."""
    inherited = {name: value for name, value in ENVIRONMENT.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, {**inherited, "TERM": "xterm", **environment})
    shown, typed = "", False
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # Linux's word for the end
            read = b""
        if not read:
            break
        shown += read.decode(errors="replace")
        if not typed and until(shown):
            os.write(terminal, b"\x03")
            typed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The console script, as an installer writes it."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = declared["synth-dspy"].partition(":")
    path = tmp_path / "bin" / "synth-dspy"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def rivers(tmp_path: Path) -> Path:
    """A workspace with a task of its own."""
    programs = tmp_path / "my work" / "programs"
    programs.mkdir(parents=True)
    (programs / "__init__.py").touch()
    (programs / "rivers.py").write_text(TASK)
    return programs.parent


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Behaviour(latency_s=0.2)) as server:
        yield server


def flags(server: Server) -> list[str]:
    models = ["--models.student", "openai/mock", "--models.teacher", "openai/mock", "--models.api-base", server.url]
    return [*models, "--retention.prompts", "0", "--concurrency", "1"]


# The command line


def test_the_console_script_and_the_module_run_the_same_verbs(script: Path) -> None:
    for command in ([str(script)], MODULE):
        done = run(*command, "--version")
        assert (done.returncode, done.stdout) == (0, f"synth-dspy {__version__}\n")
        assert all(name in run(*command, "--help").stdout for name in COMMANDS)
        done = run(*command, "export", "--help")
        assert done.returncode == 0
        name = "synth-dspy export" if command == [str(script)] else "python -m synth_dspy.export"
        assert f"usage: {name} " in done.stdout


def test_the_list_of_commands_imports_no_library() -> None:
    show = "import sys; from synth_dspy.__main__ import main; main(['--help']); main(['--version']);"
    heavy = (
        "sorted({'dspy', 'torch', 'openvino', 'transformers', 'numpy', 'rich', 'pydantic', 'tyro'} & set(sys.modules))"
    )
    assert run(sys.executable, "-c", f"{show} print({heavy})").stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("compil contract_qa", "There is no command 'compil': did you mean compile?"),
        ("--versoin", "There is no option '--versoin': did you mean --version or versions?"),
        ("compile contract_aq", "Did you mean contract_qa?"),
        ("compile --quick contract_qa", "The task comes first"),
        ("compile contract_qa --modles.student x", "no option --modles.student: did you mean --models.student?"),
        ("compile contract_qa --evaluation.held_uot=3", "did you mean --evaluation.held-out?"),
        ("compile contract_qa --limit many", "--limit is 'many': it should be a whole number"),
        ("compile contract_qa --limit 1", "--limit is 1: it should be greater than or equal to 3"),
        ("compile contract_qa --seed", "Missing value for argument '--seed'"),
        ("compile contract_qa more", "'more' is one argument too many"),
        ("compile contract_qa --resume nowhere/at/all", "There is no run in"),
        ("compile contract_qa --resume x --quick", "give --resume without --quick"),
        ("choose a --max-latency fast", "--max-latency is 'fast': it should be a number"),
        ("weights pul", "invalid choice 'pul'"),
        ("report", "Missing: PATH"),
        ("blind sheets a", "Missing: --out PATH"),
        ("blind seats", "blind has no subcommand 'seats'"),
        ("train spec.json --dry", "did you mean --dry-run?"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments: str, says: str) -> None:
    done = run(*MODULE, *arguments.split(), cwd=ROOT)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_mistake_looks_the_same_on_a_terminal() -> None:
    status, shown = on_terminal(*MODULE, "report")
    assert status == 2
    assert "\x1b" not in shown
    assert "Missing: PATH" in shown


def test_help_is_shown_outside_a_workspace_too(tmp_path: Path) -> None:
    done = run(*MODULE, "compile", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "TASK --resume RUN" in done.stdout
    assert "No workspace found" in done.stdout


@pytest.mark.parametrize("command", ["--help", "compile contract_qa --help", "weights", "compile contract_qa --nope"])
def test_a_closed_pipe_ends_without_a_traceback(command: str, tmp_path: Path) -> None:
    nobody, pipe = os.pipe()
    os.close(nobody)
    errors = tmp_path / "errors"
    streams = {"stdout": pipe, "stderr": pipe if "nope" in command else errors.open("wb")}
    done = subprocess.run([*MODULE, *command.split()], cwd=ROOT, env=ENVIRONMENT, check=False, timeout=500, **streams)
    os.close(pipe)
    assert done.returncode == 141
    assert not errors.exists() or errors.read_text() == ""


def test_an_encoding_without_dashes_loses_no_table() -> None:
    done = run(*MODULE, "compile", "contract_qa", "--help", cwd=ROOT, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "--models.student" in done.stdout


# Progress

STEPS = """
import sys, time
from synth_dspy.core.progress import Bars
bars = Bars(every_s=0.05)
with bars.status("loading libraries"):
    pass
with bars.bar("asking", 3) as bar:
    for _ in range(3):
        bar()
        time.sleep(0.2)
bars.say("3 skipped: [a].pdf cannot be read")
with bars.bar("counting", None) as bar:
    bar.reach(4, 4)
"""


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


def test_without_a_terminal_each_step_says_when_it_begins_how_far_it_is_and_what_it_took() -> None:
    for forced in ({}, {"FORCE_COLOR": "1"}):
        done = run(sys.executable, "-c", STEPS, env={**ENVIRONMENT, "TERM": "xterm", **forced})
        assert "\r" not in done.stderr
        lines = [re.sub(r"\d+\.\d", "S", line) for line in plain(done.stderr).splitlines()]
        running = [line for line in lines if "running" in line]
        for done_by_then in ("1 of 3", "2 of 3"):  # with the rate since the line before, if there is one
            shown = rf"asking: running for S s, {done_by_then}, [\d.S]+/s, about \d+ s left"
            assert any(re.fullmatch(shown, line) for line in running), running
        assert [line for line in lines if line not in running] == [
            "loading libraries: begins",
            "loading libraries: took S s",
            "asking: begins",
            "asking: took S s, 3 of 3",
            "3 skipped: [a].pdf cannot be read",
            "counting: begins",
            "counting: took S s, 4 of 4",
        ]


TRAINING = """
import time
from synth_dspy.core.progress import Bars
with Bars(every_s=0.05).bar("arm: sft", None, afterwards="merging and checking the model") as bar:
    bar.reach(12, 12)
    time.sleep(0.3)
"""


def test_after_the_last_unit_a_step_says_what_it_still_does_and_not_that_no_time_is_left() -> None:
    done = run(sys.executable, "-c", TRAINING, env={**ENVIRONMENT, "TERM": "xterm"})
    *_, running, took = plain(done.stderr).splitlines()
    assert re.fullmatch(r"arm: sft: running for \S+ s, 12 of 12, merging and checking the model", running)
    assert re.fullmatch(r"arm: sft: took \S+ s, 12 of 12", took)
    _, shown = on_terminal(sys.executable, "-c", TRAINING)
    assert "arm: sft, merging and checking the model" in plain(shown)


def test_on_a_terminal_there_are_bars_and_a_dumb_one_gets_lines() -> None:
    _, shown = on_terminal(sys.executable, "-c", STEPS)
    assert "\x1b[" in shown
    assert "3/3" in plain(shown)
    assert "begins" not in shown
    _, dumb = on_terminal(sys.executable, "-c", STEPS, TERM="dumb")
    assert "\x1b" not in dumb
    assert "asking: begins" in dumb
    _, colourless = on_terminal(sys.executable, "-c", STEPS, NO_COLOR="1")
    assert "3/3" in plain(colourless)
    assert not re.search(r"\x1b\[(?:\d+;)*[34]\d", colourless)
    assert re.search(r"\x1b\[(?:\d+;)*[34]\d", shown)


def test_a_step_that_fails_took_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="on purpose"), Bars().bar("asking", 2):
        raise ValueError("on purpose")
    assert capsys.readouterr().err == "asking: begins\n"


# The table


def test_the_table_is_as_wide_as_its_content_and_reasons_stand_below_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    names = ["zero_shot_with_a_name_that_is_longer_than_most", "a_failed_one"]
    why = "the [trained] model answers otherwise, " + "and that is a long story " * 10
    rows = [row(names[0], index) for index in range(9)]
    arms = [{"name": names[0]}, {"name": names[1], "failed": why}]
    folder = make_run(tmp_path / "run", rows, arms=arms)
    results, measurements = (json.loads((folder / f"{n}.json").read_text()) for n in ("results", "measurements"))
    console = standard_output()
    for part in (summary_table(results, measurements), *failures(results)):
        console.print(part)
    out = capsys.readouterr().out
    assert "…" not in out
    for whole in (names[0], "95 % interval", "judged %", "tokens", "100/10"):
        assert whole in out
    assert re.search(r"a_failed_one +failed", out)
    assert f"a_failed_one failed: {why.strip()}" in out
    assert max(map(len, out.splitlines()[:6])) < 200


# Runs


def test_a_run_notes_its_workspace_only_where_it_lies_elsewhere(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for target in (mine, other):
        init.main([str(target)])
    inside = start(mine / "runs", "contract_qa", CompileConfig(), mine)
    outside = start(tmp_path / "out", "contract_qa", CompileConfig(), mine)
    elsewhere = start(other / "runs", "contract_qa", CompileConfig(), mine)
    assert [workspace_of(each.folder) for each in (inside, outside, elsewhere)] == [mine] * 3
    mine.rename(tmp_path / "moved")
    assert workspace_of(tmp_path / "moved" / inside.folder.relative_to(mine)) == tmp_path / "moved"
    assert workspace_of(elsewhere.folder) == other  # what it notes is not there any more


def test_a_run_is_not_resumed_as_one_of_another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth_dspy.cli.compile import main

    init.main([str(tmp_path / "my own")])
    programs = tmp_path / "my own" / "programs"
    (programs / "triage.py").write_text((programs / "tickets.py").read_text())
    begun = start(tmp_path / "my own" / "runs", "triage", CompileConfig(), tmp_path / "my own")
    for folder, path in (("/", str(begun.folder)), (tmp_path, f"my own/runs/triage/{begun.id}")):
        monkeypatch.chdir(folder)
        with pytest.raises(SetupError, match=f"is a run of triage: resume it with .* --resume '{re.escape(path)}'"):
            main(["tickets", "--resume", path])


@pytest.mark.slow
def test_a_run_whose_reader_went_away_goes_on_from_any_folder(
    tmp_path: Path, rivers: Path, script: Path, server: Server
) -> None:
    command = [str(script), "compile", "rivers", *flags(server), "--runs", str(tmp_path / "all runs")]
    # The pipe's reader goes once the run has begun, as `2>&1 | head` does.
    process = subprocess.Popen(
        command, cwd=rivers, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    hint = next(line for line in process.stdout if "if it is stopped: " in line).partition("if it is stopped: ")[2]
    process.stdout.close()
    assert process.wait(300) == 141
    (folder,) = (tmp_path / "all runs" / "rivers").iterdir()
    assert not (folder / "results.json").exists()
    log = (folder / "run.log").read_text()
    assert hint in log
    assert "Traceback" not in log

    done = run("sh", "-c", hint, cwd="/")
    assert done.returncode == 0, done.stderr
    assert max(server.answered.values()) == 1
    assert "\x1b" not in done.stdout + done.stderr
    for line in ("reading the source: begins", "models: begins", "arm: broken: begins"):
        assert line in done.stderr.splitlines()
    assert re.search(r"^evaluation: an_untuned_baseline_arm: took [\d.]+ s, (\d+) of \1$", done.stderr, re.MULTILINE)
    assert "5 skipped: map0.pdf holds no text; map1.pdf" in done.stderr
    assert "map4.pdf holds no text." in done.stderr
    reason = (
        "broken failed: An unexpected ValueError ended it (there is [no such] prompt, however long one looks for it"
    )
    assert reason in done.stderr
    assert reason in done.stdout
    assert re.search(r"broken +failed", done.stdout)
    assert "an_untuned_baseline_arm" in done.stdout
    assert "…" not in done.stdout
    assert (folder / "results.json").exists()


@pytest.mark.slow
def test_ctrl_c_stops_a_run_with_a_hint_and_without_a_traceback(rivers: Path, script: Path, server: Server) -> None:
    program = f"cd {shlex.quote(str(rivers))} && exec {shlex.join([str(script), 'compile', 'rivers', *flags(server)])}"
    status, shown = on_terminal("sh", "-c", program, until=lambda shown: "evaluation" in plain(shown), COLUMNS="300")
    assert status == 130, shown
    assert "Traceback" not in shown
    (folder,) = (rivers / "runs" / "rivers").iterdir()
    hint = re.search(r"stopped; no answered call is lost; to resume: ([^\r\n]+)", plain(shown))
    assert hint
    assert shlex.split(hint[1])[-2:] == ["--resume", str(folder)]


def test_a_reader_that_goes_away_ends_a_step_that_lasts() -> None:
    steps = STEPS.replace("time.sleep(0.2)", "time.sleep(900)").replace("\n", "\n    ")
    code = f"from synth_dspy.cli.arguments import run_verb\ndef main(args):{steps}\nrun_verb(main)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    assert "begins" in process.stderr.readline()
    process.stderr.close()
    assert process.wait(300) == 141
