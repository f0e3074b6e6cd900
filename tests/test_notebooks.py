"""The notebooks: committed as they ran, from the public names alone; and what a kernel does with a run."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from finished_runs import make_run, row
from nbclient import NotebookClient
from servers import Behaviour, serving

import synth_dspy

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
OTHERS = {"dspy", "pandas", "place"} | set(sys.stdlib_module_names)
"""What a notebook may import besides the project's public names."""
each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
sys.path.insert(0, str(NOTEBOOKS))
import execute  # noqa: E402
import place  # noqa: E402


def cells(notebook: Any) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_there_are_seven() -> None:
    assert [path.stem for path in SOURCES] == [
        "01_data", "02_rag", "03_optimize", "04_tune", "05_preferences", "06_loop", "07_your_own_program"
    ]  # fmt: skip


@each
def test_what_was_executed_is_the_source(source: Path) -> None:
    executed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(executed)
    assert cells(executed) == cells(jupytext.read(source))


@each
def test_it_ran_to_its_end_and_shows_a_figure_and_nothing_of_the_machine(source: Path) -> None:
    path = source.with_suffix(".ipynb")
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= execute.MOST_BYTES
    outputs = []
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "code":
            assert cell["execution_count"], cell["source"]
            outputs += cell["outputs"]
    assert not [output for output in outputs if output["output_type"] == "error"]
    shown = json.dumps(outputs)
    assert "<svg" in shown
    assert not re.findall(r"/(?:home|Users|root|work|tmp|opt|usr)/[\w.-]+", shown)
    last = json.loads(text)["cells"][-1]
    assert last["outputs"][-1]["output_type"] == "execute_result", "the last cell says what was checked"
    assert len([node for node in ast.walk(ast.parse("".join(last["source"]))) if isinstance(node, ast.Assert)]) >= 3


@each
def test_it_uses_public_names_alone(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    public = {name: getattr(synth_dspy, name) for name in synth_dspy.__all__}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {name.name for name in node.names} <= OTHERS | {"synth_dspy"}
        elif isinstance(node, ast.ImportFrom):
            assert node.module == "synth_dspy" or str(node.module).split(".")[0] in OTHERS, node.module
            assert node.module != "synth_dspy" or {name.name for name in node.names} <= set(public)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            if name == "synth_dspy":
                assert node.attr in public, node.attr
            elif hasattr(public.get(name), "__all__"):
                assert node.attr in public[name].__all__, f"{name}.{node.attr}"


@pytest.mark.parametrize(
    ("metadata", "name", "runs"),
    [
        (None, "a laptop or a server", ROOT / "runs" / "notebooks"),
        ({"ResourceName": "mine"}, "a SageMaker notebook instance", Path("SageMaker") / "synth-dspy-runs"),
        ({"AppType": "JupyterLab"}, "SageMaker Studio (JupyterLab)", Path("synth-dspy-runs")),
    ],
)
def test_the_first_cell_finds_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, str] | None, name: str, runs: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "resource-metadata.json"
    if metadata is not None:
        file.write_text(json.dumps(metadata), encoding="utf-8")
    here = place.find(file, {})
    assert (here.name, here.runs, here.quick) == (name, tmp_path / runs, False)
    elsewhere = place.find(file, {"NOTEBOOK_RUNS": str(tmp_path / "mine"), "QUICK": "1"})
    assert (elsewhere.runs, elsewhere.quick) == (tmp_path / "mine", True)


def test_the_charts_of_the_report_are_figures(tmp_path: Path) -> None:
    rows = [row(arm, index, float(index % 2 == 0 or arm == "sft")) for arm in ("rag", "sft") for index in range(12)]
    results = synth_dspy.Results.read(make_run(tmp_path / "run", rows))
    arms, differences = (results.figure(name)._repr_html_() for name in ("arms", "differences"))
    assert "<svg" in arms
    assert "Difference from rag" in differences
    assert all(".synth-dspy .chart .zero" in html and ":root" not in html for html in (arms, differences))
    assert results.figure("yield")._repr_html_() == "", "nothing was synthesised"


def test_paths_of_the_machine_are_not_written() -> None:
    assert execute.without_paths(f"{sys.executable} -m x {ROOT}/runs/a") == "python -m x ./runs/a"


def test_a_run_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="04_tune: run that one first"):
        place.Place("here", tmp_path, False).latest("04_tune")


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the least of each notebook writes its runs to."""
    monkeypatch.setenv("QUICK", "1")
    monkeypatch.setenv("NOTEBOOK_RUNS", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_the_first_notebook_runs_and_holds_what_it_checks(quick: Path) -> None:
    """The others that call a language model take longer than the suite has: see `test_all_run_in_their_order_...`."""
    executed = execute.execute(NOTEBOOKS / "01_data.py", timeout_s=300)
    assert "answers stand in their documents" in executed.cells[-1].outputs[-1].data["text/plain"]
    assert (quick / "01_data" / "handbook" / "questions.proposed.jsonl").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("better", "verdict"), [("sft", "promote"), ("rag", "reject")])
def test_the_loop_s_notebook_holds_what_it_checks_whichever_program_is_better(
    quick: Path, better: str, verdict: str
) -> None:
    contracts = (ROOT / "data" / "contracts" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in contracts[::9]]
    rows = [
        row(arm, number, float(arm == better), question=question)
        for arm in ("rag", "sft")
        for number, question in enumerate(questions)
    ]
    run = make_run(quick / "04_tune" / "contract_qa" / "20260101-000000-0000", rows)
    for arm in ("rag", "sft"):
        (run / "programs" / arm).mkdir(parents=True)
        for name in ("program.json", "about.json"):
            (run / "programs" / arm / name).write_text("{}", encoding="utf-8")
    checked = execute.execute(NOTEBOOKS / "06_loop.py", timeout_s=120).cells[-1].outputs[-1].data["text/plain"]
    assert "no false alarm" in checked
    assert f"the gate: {verdict}" in checked


@pytest.mark.slow  # so that `-m "not slow"`, which replaces the default, leaves it out too
@pytest.mark.notebooks
@pytest.mark.timeout(3600)
def test_all_run_in_their_order_and_hold_what_they_check(quick: Path) -> None:
    for source in SOURCES:
        executed = execute.execute(source, timeout_s=1800)
        assert cells(executed) == cells(jupytext.read(source))
        assert executed.cells[-1].outputs[-1].output_type == "execute_result", source.stem
    assert {path.name for path in quick.iterdir()} >= {source.stem for source in SOURCES}


# In a kernel

KERNEL = """
import os
import dspy
import synth_dspy
os.umask(0o022)
rows = [dspy.Example(question=f"What is {n}?", answer="card").with_inputs("question") for n in range(40)]
program = dspy.Predict("question -> answer")
given = dict(trainset=rows, arms=["bootstrap"], quick=True, workspace=WORKSPACE, concurrency=4,
             models={"student": "openai/mock", "teacher": "openai/mock", "api_base": ADDRESS})
---
run = synth_dspy.compile_task(program=program, **given)
---
run
---
again = synth_dspy.compile_task(program=program, **given)
---
[again.folder != run.folder, oct(os.umask(0o022)), again.program("bootstrap")(question="?").answer]
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The outputs of the cells above, each a list, from a kernel of its own."""
    behaviour = Behaviour(reply="[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]")
    with serving(behaviour) as server:
        text = KERNEL.replace("WORKSPACE", repr(str(tmp_path_factory.mktemp("kernel"))))
        text = text.replace("ADDRESS", repr(server.url))
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in text.split("\n---\n")])
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(ROOT))
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
class TestInAKernel:
    def test_a_run_shows_one_block_that_is_updated(self, kernel: list[Any]) -> None:
        (block,) = kernel[1]
        assert block.output_type == "display_data"
        assert "<details>" in block.data["text/html"]
        assert "evaluation: bootstrap" in block.data["text/html"]

    def test_a_run_shows_itself_with_the_report_s_chart_and_style(self, kernel: list[Any]) -> None:
        (shown,) = kernel[2]
        page = shown.data["text/html"]
        assert re.search(r"<th>bootstrap</th>", page)
        assert "<svg" in page
        assert ".synth-dspy .chart .whisker" in page, "a line without a stroke is not drawn"
        assert "<th>cost_usd</th>" not in page, "nothing was charged"

    def test_a_second_run_works_and_the_umask_is_as_it_was(self, kernel: list[Any]) -> None:
        assert len(kernel[3]) == 1
        (last,) = kernel[4]
        assert last.data["text/plain"] == "[True, '0o22', 'card']"


# On SageMaker


def test_the_kernel_is_of_the_project_s_environment(tmp_path: Path) -> None:
    for script in (NOTEBOOKS / "sagemaker").glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    bin_folder = tmp_path / ".venv" / "bin"
    script = ["bash", str(NOTEBOOKS / "sagemaker" / "on-start.sh")]
    own = {**os.environ, "ROOT": str(tmp_path), "OWNER": "nobody-of-this-name", "HOME": str(tmp_path / "home")}
    early = subprocess.run(script, env=own, capture_output=True, text=True, check=True)
    assert "not there yet" in early.stderr
    bin_folder.mkdir(parents=True)
    wrapper = f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n'
    (bin_folder / "python").write_text(wrapper, encoding="utf-8")
    (bin_folder / "python").chmod(0o755)
    subprocess.run(script, env=own, capture_output=True, check=True)
    (spec,) = (tmp_path / "home").rglob("kernel.json")
    assert spec.parent.name == "synth-dspy"
    assert json.loads(spec.read_text())["env"]["SYNTH_DSPY_HOME"] == str(tmp_path / ".cache")


def test_the_project_s_folder_must_be_named() -> None:
    done = subprocess.run(
        ["bash", str(NOTEBOOKS / "sagemaker" / "on-create.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Name the project's folder" in done.stderr
