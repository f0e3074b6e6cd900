"""A task of one's own, from rows, documents or a DSPy program: what it leaves out, and what its author is told."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from embedders import WordEmbedder
from scripted import scripted_lm, scripted_resources
from servers import Behaviour, Server, serving

import synth_dspy
from synth_dspy import RAG, Documents, Examples, Rows, SetupError, Task
from synth_dspy.core.config import compile_settings
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.datasets import split
from synth_dspy.pipeline.defaults import complete
from synth_dspy.pipeline.saved import build_task

DOCS = Path(__file__).resolve().parents[1] / "docs" / "your-task.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
TEAMS = ("billing", "card", "login")


class Triage(dspy.Signature):
    """Say which team answers the ticket."""

    text: str = dspy.InputField()
    team: Literal["billing", "card", "login"] = dspy.OutputField()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)  # of the process: other tests would see it
    with serving(Behaviour(reply='{"team": "card"}')) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace whose `programs` package is imported anew."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "__init__.py").touch()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    kept = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] == "programs"}
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *path])
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "programs"]:
        del sys.modules[name]
    sys.modules.update(kept)


def tickets(number: int = 48) -> list[dict[str, str]]:
    return [{"text": f"Ticket {n} about my {TEAMS[n % 3]}", "team": TEAMS[n % 3]} for n in range(number)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(server: Server) -> dict[str, Any]:
    models = {"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url}
    return {"models": models, "concurrency": 4, "retention": {"prompts": 0}}


def declared(here: Path, name: str, text: str) -> Any:
    """The task that a file of this text declares."""
    (here / "programs" / f"{name}.py").write_text(text, encoding="utf-8")
    return build_task(here, name, compile_settings(here / "programs" / f"{name}.py")())


class TestRows:
    def test_the_documented_task_reads_its_rows_wherever_it_is_run_from(self, own: Path, monkeypatch: Any) -> None:
        write(own / "data" / "tickets.jsonl", [*tickets(), {"text": "I would like to borrow money", "team": "loan"}])
        monkeypatch.chdir(own / "data")
        task = declared(own, "tickets", SNIPPETS[0])
        assert len(SNIPPETS[0].strip().splitlines()) <= 25
        knowledge = task.source.read()
        assert len(knowledge.labelled) == 49
        assert task.classes == ("billing", "card", "login", "transfer", "loan", "other")
        assert next(iter(task.optimizers)) == "zero_shot"
        assert task.arms == ("zero_shot", "bootstrap", "sft", "dpo", "orpo")

    def test_labels_are_spread_evenly_over_the_splits(self, tmp_path: Path) -> None:
        rows = write(tmp_path / "rows.jsonl", tickets())
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(rows)))
        for part in split(task.source.read(), 0).values():
            teams = [row.category for row in part.labelled]
            assert {teams.count(team) for team in TEAMS} == {len(teams) // 3}

    def test_csv_is_read_too_and_groups_stay_together(self, tmp_path: Path) -> None:
        lines = ["text,team,group", *(f'"A, b {n}",{TEAMS[n % 3]},customer-{n // 4}' for n in range(24))]
        (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(tmp_path / "rows.csv")))
        knowledge = task.source.read()
        assert knowledge.labelled[0].text == "A, b 0"
        assert len({row.group for row in knowledge.labelled}) == 6

    @pytest.mark.parametrize(("name", "separator"), [("rows.csv", ";"), ("rows.tsv", "\t"), ("rows.csv", "\t")])
    def test_a_table_is_read_by_the_separator_of_its_header(self, tmp_path: Path, name: str, separator: str) -> None:
        lines = ["text,team", *('"A, b; c",card' for _ in range(3))]
        swapped = [line.replace(",card", f"{separator}card").replace("text,", f"text{separator}") for line in lines]
        (tmp_path / name).write_text("\n".join(swapped), encoding="utf-8")
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(tmp_path / name)))
        assert {row.text for row in task.source.read().labelled} == {"A, b; c"}

    def test_a_file_of_another_ending_is_told_which_are_tables(self, tmp_path: Path) -> None:
        (tmp_path / "rows.txt").write_text("text\tteam\nA\tcard\n", encoding="utf-8")
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(tmp_path / "rows.txt")))
        with pytest.raises(
            SetupError, match=r"line 1: is not valid JSON .*; the name of a table ends with \.csv or \.tsv"
        ):
            task.source.read()

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"text": "no team"}, r"rows\.jsonl, line 2: field 'team' is missing"),
            ({"text": None, "team": "card"}, r"line 2: field 'text' is null; fill it in"),
            ({"text": "x", "team": "cards"}, r"line 2: field 'team' is \"cards\"; make it one of billing, card, login"),
        ],
    )
    def test_a_row_that_is_wrong_is_named(self, tmp_path: Path, row: dict[str, str], message: str) -> None:
        rows = write(tmp_path / "rows.jsonl", [tickets()[0], row])
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(rows)))
        with pytest.raises(SetupError, match=message):
            task.source.read()

    @pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
    def test_the_first_wrong_rows_are_listed_with_their_number(self, tmp_path: Path, name: str) -> None:
        teams = ["card", "Card ", "cards", "loans", "card", "logon"]
        rows = write(tmp_path / "rows.jsonl", [{"text": f"{n}", "team": team} for n, team in enumerate(teams)])
        lines = ["text,team", *(f"{n},{team}" for n, team in enumerate(teams))]
        (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
        first = 2 if name == rows.name else 3
        with pytest.raises(SetupError) as caught:
            complete(Task(program=dspy.Predict(Triage), source=Rows(tmp_path / name))).source.read()
        said = str(caught.value)
        assert f"line {first}: field 'team' is \"Card \"; make it card, as the program's type spells it. " in said
        assert f"line {first + 2}: field 'team' is \"loans\"; make it one of billing, card, login" in said
        assert f"line {first + 3}" not in said
        assert said.endswith(f" In all, 4 rows of {tmp_path / name} are wrong.")

    def test_a_column_that_a_csv_file_lacks_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("text,label\na,b\n", encoding="utf-8")
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(tmp_path / "rows.csv")))
        with pytest.raises(SetupError, match=r"line 1: the column 'team' is missing; the columns are text, label"):
            task.source.read()

    def test_a_run_scores_by_equality_and_asks_for_the_labels_alone(self, server: Server, tmp_path: Path) -> None:
        rows = write(tmp_path / "rows.jsonl", [*tickets(), {"text": " ", "team": "card"}])
        task = Task(program=dspy.Predict(Triage), source=Rows(rows))
        run = synth_dspy.compile_task(task, name="tickets", workspace=tmp_path, **settings(server))
        results = run.results
        assert results.baseline == "zero_shot"
        assert results["zero_shot"].score.mean == pytest.approx(1 / 3)
        assert results["zero_shot"].score.n == results.n == 12
        assert "'billing'" in json.dumps(server.requests[-1])
        report = (run.folder / "report.md").read_text(encoding="utf-8")
        assert "strong and weak" in report
        assert "The input text is empty in 1 of 49 labelled rows" in report
        assert run.report.is_file()

    def test_a_metric_reads_other_outputs_which_the_constant_answer_has_too(
        self, server: Server, tmp_path: Path
    ) -> None:
        class Sorted(dspy.Signature):
            text: str = dspy.InputField()
            team: Literal["billing", "card", "login"] = dspy.OutputField()
            urgent: bool = dspy.OutputField()

        def urgency(example: Any, prediction: Any, trace: Any = None) -> float:
            return float(prediction.urgent is example.urgent)

        def model_s(example: Any, prediction: Any, trace: Any = None) -> float:
            if prediction.get("passages") is not None:  # the constant answer's
                raise AttributeError("no model gave this")
            return 1.0

        server.behaviour.reply = '{"team": "card", "urgent": true}'
        lines = [f"{row['text']},{row['team']},{str(row['team'] == 'card').lower()}" for row in tickets()]
        (tmp_path / "rows.csv").write_text("\n".join(["text,team,urgent", *lines]), encoding="utf-8")
        task = Task(
            program=dspy.Predict(Sorted),
            source=Rows(tmp_path / "rows.csv"),
            answer="team",
            metrics={"urgency": urgency, "model_s": model_s},
        )
        run = synth_dspy.compile_task(task, name="tickets", arms=["zero_shot"], workspace=tmp_path, **settings(server))
        records = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
        (constant,) = [row for row in records["reference_rows"] if row["kind"] == "frequent"]
        assert constant["further"]["urgency"]["n"] == 12, "its other outputs are those of the row whose answer it is"
        assert constant["further"]["model_s"]["n"] == 0, "a metric that fails on it has no score there"
        assert constant["scores"]["judged"]["n"] == 12

    def test_the_program_s_own_inputs_are_left_alone(self, tmp_path: Path) -> None:
        class Sorted(dspy.Signature):
            category: str = dspy.InputField()
            question: str = dspy.InputField()
            team: Literal["billing", "card"] = dspy.OutputField()

        rows = [{"category": f"C{n}", "question": f"Q{n}", "team": "card"} for n in range(5)]
        source = complete(Task(program=dspy.Predict(Sorted), source=Examples(rows))).source
        inputs = source.read().labelled[0].inputs().toDict()
        assert inputs == {"category": "C0", "question": "Q0"}, "nor does the label stand among them"
        with pytest.raises(SetupError, match="called 'id', which is a column"):
            complete(Task(program=dspy.Predict("id -> team"), source=Examples([{"id": 1, "team": "x"}]))).source.read()

    def test_a_row_is_named_by_what_it_says_not_by_where_it_stands(self, tmp_path: Path) -> None:
        task = Task(program=dspy.Predict(Triage), source=Rows(write(tmp_path / "a.jsonl", tickets(9))))
        source = complete(task).source
        there = write(tmp_path / "b.jsonl", tickets(9)[::-1])
        one, other = (
            {row.text: row.id for row in rows} for rows in (source.read().labelled, source.read_labelled(there))
        )
        assert one == other
        assert len(set(one.values())) == 9

    def test_labels_that_few_rows_have_are_held_out_too(self) -> None:
        rows = [{"question": f"{n} + 1", "answer": n + 1} for n in range(40)]
        source = complete(Task(program=dspy.Predict("question -> answer: int"), source=Examples(rows))).source
        assert {name: len(part.labelled) for name, part in split(source.read(), 0).items()} == {
            "train": 24,
            "dev": 6,
            "test": 10,
        }

    @pytest.mark.parametrize(
        ("kind", "cell", "value"),
        [
            ("Literal[1, 2]", "1", 1),
            ("bool", "false", False),
            ("list[str]", '["a", "b"]', ["a", "b"]),
            ("Optional[Literal['a', 'b']]", "", None),
        ],
    )
    def test_a_cell_is_read_as_the_type_says(self, tmp_path: Path, kind: str, cell: str, value: Any) -> None:
        quoted = cell.replace('"', '""')
        (tmp_path / "rows.csv").write_text(f'question,answer\nQ?,"{quoted}"\n', encoding="utf-8")
        task = complete(Task(program=dspy.Predict(f"question -> answer: {kind}"), source=Rows(tmp_path / "rows.csv")))
        assert task.source.read().labelled[0].answer == value

    def test_a_line_with_more_cells_than_the_header_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("text,team\nHello, I need help,card\n", encoding="utf-8")
        task = complete(Task(program=dspy.Predict(Triage), source=Rows(tmp_path / "rows.csv")))
        with pytest.raises(SetupError, match="line 2: has more cells than the header"):
            task.source.read()

    def test_a_row_that_abstains_is_right_to(self) -> None:
        rows = [{"question": "Who?", "answer": "not covered"}, {"question": "What?", "answer": "x"}]
        task = complete(Task(program=dspy.Predict("question -> answer"), source=Examples(rows), abstain="Not covered."))
        silent, open_ = task.source.read().labelled
        assert (silent.references, open_.references) == ([], ["x"])
        prediction = dspy.Prediction(answer="Not covered.", abstained=True)
        assert (task.metrics["f1"](silent, prediction), task.metrics["f1"](open_, prediction)) == (1.0, 0.0)


class TestDocuments:
    def test_the_documented_task_reads_pages_and_short_labels(self, own: Path) -> None:
        pages = own / "data" / "help"
        pages.mkdir()
        for name, text in (("passwords", "A reset link is valid for 30 minutes."), ("fees", "There is no yearly fee.")):
            (pages / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
        labels = [
            {"question": "How long is a password reset link valid?", "answer": "30 minutes", "document": "passwords"},
            {"question": "Is there a yearly fee?", "references": ["no", "There is no yearly fee."]},
            {"question": "Which phones does the app run on?", "answer": "Not covered."},
        ]
        write(own / "data" / "questions.jsonl", labels)
        assert len(SNIPPETS[1].strip().splitlines()) <= 32
        task = declared(own, "help", SNIPPETS[1])
        first, second, third = task.source.read().labelled
        assert (first.document, first.spans, first.references) == ("passwords", ["30 minutes"], ["30 minutes"])
        assert (second.document, second.group) == (None, "fees")
        assert (third.references, third.answer) == ([], "Not covered.")
        assert task.abstain == "Not covered."
        silent, wrong = dspy.Prediction(answer="Not covered", abstained=True), dspy.Prediction(answer="no")
        assert task.metrics["f1"](third, silent) == task.metrics["abstention"](third, silent) == 1.0
        assert task.metrics["f1"](third, wrong) == 0.0
        assert task.metrics["abstention"](first, silent) == 0.0

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            ({"question": "Who?"}, r"line 1: has neither 'answer' nor 'references'"),
            ({"question": "Who?", "answer": "I", "document": "page"}, "'document' is \"page\"; but no such document"),
        ],
    )
    def test_a_label_that_is_wrong_is_named(self, tmp_path: Path, label: dict[str, str], message: str) -> None:
        (tmp_path / "help").mkdir()
        (tmp_path / "help" / "page-1.md").write_text("Some text.", encoding="utf-8")
        write(tmp_path / "questions.jsonl", [label])
        with pytest.raises(SetupError, match=message):
            Documents(tmp_path / "help", labelled="questions.jsonl").read()

    def test_a_program_that_searches_needs_documents(self) -> None:
        class Answer(dspy.Signature):
            passages: str = dspy.InputField()
            question: str = dspy.InputField()
            answer: str = dspy.OutputField()

        task = complete(Task(program=RAG(Answer), source=Examples(())))
        with pytest.raises(SetupError, match=r"give it Documents\(folder\)"):
            task.program(scripted_resources(scripted_lm(lambda prompt: "x")))(question="Who?")

    def test_questions_about_all_documents_are_spread_and_a_limit_leaves_some_out(self, tmp_path: Path) -> None:
        (tmp_path / "help").mkdir()
        for n in range(6):
            (tmp_path / "help" / f"page-{n}.md").write_text(f"Page {n} says {n} things.", encoding="utf-8")
        labels: list[dict[str, Any]] = [{"question": f"Number {n}?", "answer": "Not covered."} for n in range(20)]
        labels.append({"question": "How many?", "answer": "3 things", "document": "page-3"})
        write(tmp_path / "questions.jsonl", labels)
        source = Documents(tmp_path / "help", labelled="questions.jsonl", abstain="Not covered.")
        assert len({row.group for row in source.read().labelled}) > 3
        assert len(source.read(3).documents) == 3
        assert {row.document for row in source.read(3).labelled} <= {None, *(d.id for d in source.read(3).documents)}


class TestProgram:
    def rows(self, number: int = 40) -> list[dspy.Example]:
        made = (dspy.Example(question=f"What is {n}?", answer="card") for n in range(number))
        return [row.with_inputs("question") for row in made]

    def test_a_program_with_a_metric_becomes_a_benchmark(self, server: Server, tmp_path: Path) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"

        def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
            return bool(prediction.answer == example.answer)

        program = dspy.Predict("question -> answer")
        run = synth_dspy.compile_task(
            program=program, trainset=self.rows(), metric=metric, workspace=tmp_path, **settings(server)
        )
        assert run.folder.parent.name == "program"
        assert {arm.name for arm in run.results.arms} == {"zero_shot", "bootstrap"}
        assert run.results["zero_shot"].score.mean == 1.0
        assert run.results.to_pandas().loc["zero_shot", "score"] == 1.0
        written = [(run.folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html")]
        assert not any("strong and weak" in text for text in written), "its rows are of one kind"
        assert "zero_shot" in run.results._repr_html_()
        before = len(server.requests)
        resumed = synth_dspy.compile_task(
            program=program, trainset=self.rows(), metric=metric, workspace=tmp_path, resume=run.folder
        )
        assert len(server.requests) - before <= 2, "the models were tried, and no answered call was made again"
        assert resumed.results == run.results
        by_id = synth_dspy.compile_task(
            program=program, trainset=self.rows(), metric=metric, workspace=tmp_path, resume=run.folder.name
        )
        assert by_id.folder == run.folder
        for missing, said in (
            ("20200101-000000-0000", f"The latest are: {run.folder.name}"),
            ("a/b", "name a run's folder"),
        ):
            with pytest.raises(SetupError, match=f"There is no run .*{said}"):
                synth_dspy.compile_task(program=program, trainset=self.rows(), workspace=tmp_path, resume=missing)
        same: dict[str, Any] = {"program": program, "trainset": self.rows(), "metric": metric}
        for name, other in {
            "program": dspy.ChainOfThought("question -> answer"),
            "trainset": self.rows()[1:],
            "metric": lambda example, prediction, trace=None: False,
        }.items():
            with pytest.raises(SetupError, match=f"started with another {name}, .*: leave out resume= to start a new"):
                synth_dspy.compile_task(**{**same, name: other}, workspace=tmp_path, resume=run.folder)
        again = synth_dspy.compile_task(
            **same, workspace=tmp_path, resume=run.folder, max_minutes=60, **settings(server)
        )
        assert again.results == run.results, "the call as it was, with resume="
        with pytest.raises(SetupError, match=r"started with another evaluation\.arms: leave it out"):
            synth_dspy.compile_task(**same, workspace=tmp_path, resume=run.folder, arms=["random_search"])
        assert run.program("zero_shot")(question="What?").answer == "card"
        loaded = synth_dspy.load(run.folder / "programs" / "bootstrap", program=program)
        assert loaded(question="What is 1?").answer == "card"

    def test_the_call_in_the_report_is_the_one_that_was_made_also_after_a_resumption(
        self, server: Server, tmp_path: Path
    ) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        given: dict[str, Any] = {
            "program": dspy.Predict("question -> answer"), "trainset": self.rows(), "workspace": tmp_path
        }  # fmt: skip
        run = synth_dspy.compile_task(**given, arms=["bootstrap"], quick=True, **settings(server))
        call = f"compile_task(..., arms=['bootstrap'], quick=True, concurrency=4, models={settings(server)['models']!r}"

        def words(text: str) -> set[str]:
            return set(re.findall(r"[\w:/.]+", text))

        for _ in range(2):
            report = (run.folder / "report.md").read_text(encoding="utf-8")
            (again,) = re.findall(r"Run it again:\n\n +(.*)", report)
            assert again.startswith("compile_task(..., arms=['bootstrap'], quick=True, ")
            assert words(call) <= words(again)
            assert f"{again.replace(', quick=True', '')}\n" in report  # the next step
            run = synth_dspy.compile_task(**given, resume=run.folder)

    def test_rows_that_are_all_the_same_leave_nothing_to_learn_from(self, server: Server, tmp_path: Path) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        same, program = self.rows(1) * 30, dspy.Predict("question -> answer")
        given: dict[str, Any] = {"program": program, "workspace": tmp_path, **settings(server)}
        end = r"give rows that differ from each other\.$"  # not: resume it, which would read the same rows
        with pytest.raises(SetupError, match=r"All \d+ training rows are duplicates of held-out ones, .* " + end):
            synth_dspy.compile_task(trainset=same, metric=lambda example, prediction, trace=None: True, **given)
        run = synth_dspy.compile_task(
            trainset=[*same, *self.rows(12)[1:]], metric=lambda example, prediction, trace=None: True, **given
        )
        assert re.search(
            r"\d+ of \d+ labelled training rows were removed as duplicates of held-out rows: rows that repeat so often "
            "make a score mean little",
            run.report.read_text(encoding="utf-8"),
        )

    @pytest.mark.slow
    def test_the_programs_of_a_run_are_asked_after_it(self, tmp_path: Path) -> None:
        """On a real model, whose calls went through the run's ledger, which is closed by then."""
        program = dspy.Predict(Triage)
        rows = tickets(24)
        run = synth_dspy.compile_task(
            program=program, trainset=rows, arms=["bootstrap"], quick=True, workspace=tmp_path
        )
        assert run.folder.parent.name == "triage"
        assert run.program("zero_shot")(text="My card is gone").team in TEAMS
        assert run.program("bootstrap")(text="I cannot sign in").team in TEAMS

    def test_what_python_compiled_is_opened_with_its_program(self, server: Server, tmp_path: Path) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        run = synth_dspy.compile_task(
            program=dspy.Predict("question -> answer"), trainset=self.rows(), workspace=tmp_path, **settings(server)
        )
        saved = run.folder / "programs" / "zero_shot"
        with pytest.raises(SetupError, match=r"synth_dspy\.load\(.*, program=\.\.\.\)"):
            synth_dspy.load(saved)
        with pytest.raises(
            SetupError, match=r"it has program \(Question, Answer\), the one given has program \(A, B, "
        ):
            synth_dspy.load(saved, program=dspy.Predict("a, b -> answer"))
        with pytest.raises(
            SetupError, match=r"it has program \(Question, Answer\), .* program \(Question, Label\); give"
        ):
            synth_dspy.load(saved, program=dspy.Predict("question -> label"))

    @pytest.mark.parametrize(
        ("program", "message"),
        [(dspy.Predict, r"the class Predict: give an instance"), (None, "Name either a task")],
    )
    def test_what_is_no_program_is_told(self, program: Any, message: str, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match=message):
            synth_dspy.compile_task(program=program, trainset=self.rows(), workspace=tmp_path)

    def test_a_metric_that_is_wrong_about_a_training_row_ends_the_run(self, server: Server, tmp_path: Path) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        calls = []

        def later(example: Any, prediction: Any, trace: Any = None) -> float:
            calls.append(example)
            return 1.0 if len(calls) < 3 else 7.0

        with pytest.raises(SetupError, match="the metric 'later' gave 7"):
            synth_dspy.compile_task(
                program=dspy.Predict("question -> answer"),
                trainset=self.rows(),
                metric=later,
                workspace=tmp_path,
                **settings(server),
            )

    def test_a_metric_out_of_bounds_is_named_with_its_line(self, server: Server, tmp_path: Path) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"

        def percent(example: Any, prediction: Any, trace: Any = None) -> float:
            return 100.0

        with pytest.raises(SetupError, match=r"test_your_task\.py:\d+: the metric 'percent' gave 100\.0"):
            synth_dspy.compile_task(
                program=dspy.Predict("question -> answer"),
                trainset=self.rows(),
                metric=percent,
                arms=["zero_shot"],
                workspace=tmp_path,
                **settings(server),
            )

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "yes"])
    def test_a_metric_that_gives_no_number_is_named_with_its_line(
        self, server: Server, tmp_path: Path, value: Any
    ) -> None:
        def mine(example: Any, prediction: Any, trace: Any = None) -> Any:
            return value

        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        with pytest.raises(
            SetupError, match=rf"test_your_task\.py:\d+: the metric 'mine' gave {value!r}; a metric gives"
        ):
            synth_dspy.compile_task(
                program=dspy.Predict("question -> answer"),
                trainset=self.rows(),
                metric=mine,
                workspace=tmp_path,
                **settings(server),
            )

    def test_a_metric_of_other_arguments_is_named_before_any_model_is_asked(
        self, server: Server, tmp_path: Path
    ) -> None:
        def pair(example: Any, prediction: Any) -> float:
            return 1.0

        program, wanted = (
            dspy.Predict("question -> answer"),
            r"takes \(.*\).*; a metric takes \(example, prediction, trace",
        )
        given: dict[str, Any] = {"workspace": tmp_path, **settings(server)}
        with pytest.raises(SetupError, match=r"test_your_task\.py:\d+: the metric 'pair' " + wanted):
            synth_dspy.compile_task(program=program, trainset=self.rows(), metric=pair, **given)
        task = Task(program=program, source=Examples(self.rows()), metrics={"mine": pair})  # type: ignore[dict-item]
        with pytest.raises(SetupError, match=r"the metric 'mine' " + wanted):
            synth_dspy.compile_task(task, **given)
        assert not server.requests

    def test_the_optimizers_climb_the_metric_which_keeps_its_own_model(self, server: Server, tmp_path: Path) -> None:
        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        mine = dspy.LM("openai/mine", api_base=server.url, api_key="x")
        seen = set()

        def metric(example: Any, prediction: Any, trace: Any, name: Any, steps: Any) -> Any:
            seen.add(dspy.settings.lm.model)
            return dspy.Prediction(score=0.5)

        with dspy.context(lm=mine):
            run = synth_dspy.compile_task(
                program=dspy.Predict("question -> answer"),
                trainset=self.rows(),
                metric=metric,
                workspace=tmp_path,
                **settings(server),
            )
            assert dspy.settings.lm is mine
        assert seen == {"openai/mine"}
        assert run.results["bootstrap"].score.mean == 0.5

    @pytest.mark.parametrize(
        ("program", "inputs"),
        [
            (dspy.ReAct("question -> answer", tools=[]), ("question",)),
            (dspy.ChainOfThought("context, question -> answer"), ("context", "question")),
        ],
    )
    def test_a_program_s_inputs_are_those_that_it_is_called_with(self, program: Any, inputs: tuple[str, ...]) -> None:
        from synth_dspy.evaluation.answers import answer_type

        assert answer_type(program).inputs == inputs

    def test_a_program_s_own_answer_keeps_its_type(self) -> None:
        from synth_dspy.evaluation.answers import answer_type
        from synth_dspy.pipeline.answering import Answering

        class Counts(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.count = dspy.Predict("text -> answer: int")

            def forward(self, text: str, unit: str = "words") -> dspy.Prediction:
                return dspy.Prediction(answer=42)

        kind = answer_type(Counts())
        assert (kind.inputs, kind.kind) == (("text",), "label")
        assert Answering(Counts(), kind)(text="x").answer == 42

    def test_a_trainset_without_an_input_is_named(self, server: Server, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="Row 1 of the trainset lacks 'question'"):
            synth_dspy.compile_task(
                program=dspy.Predict("question -> answer"),
                trainset=[{"answer": "x"}] * 9,
                workspace=tmp_path,
                **settings(server),
            )

    def test_a_setting_that_does_not_exist_is_named(self, server: Server, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="evaluation"):
            synth_dspy.compile_task(
                program=dspy.Predict("question -> answer"),
                trainset=self.rows(),
                workspace=tmp_path,
                evaluation={"held": 3},
            )


class TestMistakes:
    """Each is one sentence, before any work is done."""

    def test_a_misspelt_import(self, own: Path) -> None:
        with pytest.raises(SetupError, match=r"mine\.py:1: ImportError: .*Did you mean Rows"):
            declared(own, "mine", "from synth_dspy import Row, Task, task\n\n@task\ndef mine() -> Task: ...\n")

    def test_a_function_that_gives_no_task(self, own: Path) -> None:
        with pytest.raises(SetupError, match=r"mine\.py:3: mine returns a NoneType; it must return a Task"):
            declared(own, "mine", "from synth_dspy import Task, task\n\n@task\ndef mine() -> Task: ...\n")

    def test_several_outputs_and_none_called_answer(self) -> None:
        with pytest.raises(SetupError, match=r"outputs are team, reason, .*Task\(answer='team'"):
            complete(Task(program=dspy.Predict("text -> team, reason"), source=Examples(())))

    def test_an_objective_that_is_no_metric(self) -> None:
        with pytest.raises(SetupError, match="objective 'f2' is not one of its metrics: f1, exact"):
            complete(Task(program=dspy.Predict("text -> team"), source=Examples(()), objective="f2"))

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("return dspy.Prediction(reply='x')", "has no 'answer', only reply"),
            ("return dspy.Prediction(answer=missing)", r"mine\.py:\d+: the program failed .* NameError"),
        ],
    )
    def test_a_program_that_is_wrong_ends_the_run_before_any_work(
        self, own: Path, server: Server, body: str, message: str
    ) -> None:
        write(own / "data" / "rows.jsonl", [{"question": f"Q {n}?", "answer": "a"} for n in range(20)])
        text = f"""
import dspy
from synth_dspy import Examples, Knowledge, Resources, Task, task
from synth_dspy.core.knowledge import Item

class Mine(dspy.Module):
    def forward(self, question):
        {body}

class Source:
    def read(self, limit=None):
        rows = [dspy.Example(id=str(n), group=str(n), question="Q?", answer="a", references=["a"]) for n in range(9)]
        return Knowledge([Item(str(n), str(n), "x") for n in range(9)], [row.with_inputs("question") for row in rows])

@task
def mine() -> Task:
    return Task(program=lambda resources: Mine(), source=Source())
"""
        (own / "programs" / "mine.py").write_text(text, encoding="utf-8")
        with pytest.raises(SetupError, match=message):
            synth_dspy.compile_task("mine", workspace=own, **settings(server))
        assert not list(own.glob("runs/mine/*/programs"))

    def test_a_judge_without_a_name(self, server: Server, tmp_path: Path) -> None:
        rows = write(tmp_path / "rows.jsonl", tickets())
        task = Task(program=dspy.Predict(Triage), source=Rows(rows), judge=lambda resources: object())  # type: ignore[arg-type,return-value]
        with pytest.raises(SetupError, match=r"test_your_task\.py:\d+: the task's judge is a object without a name"):
            synth_dspy.compile_task(task, name="tickets", workspace=tmp_path, **settings(server))

    @pytest.mark.parametrize(
        ("agreement", "field"), [(0.97, ""), ({"kappa": "good"}, r", of which \['kappa'\] is wrong")]
    )
    def test_a_judge_whose_agreement_is_no_mapping_of_figures(
        self, server: Server, tmp_path: Path, agreement: Any, field: str
    ) -> None:
        class Mine:
            name = "mine"

            def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
                return 1.0

            def score_many(self, rows: Any) -> list[float]:
                return [1.0 for _ in rows]

        Mine.agreement = agreement  # type: ignore[attr-defined]
        rows = write(tmp_path / "rows.jsonl", tickets())
        task = Task(program=dspy.Predict(Triage), source=Rows(rows), judge=lambda resources: Mine())  # type: ignore[arg-type,return-value]
        wanted = rf"the judge 'mine' has the agreement .*{field}; make it None, or a dictionary of what was measured"
        with pytest.raises(SetupError, match=wanted):
            synth_dspy.compile_task(task, name="tickets", workspace=tmp_path, **settings(server))
        assert not server.requests[1:], "before anything is scored"

    def test_a_judge_whose_agreement_was_not_measured(self, server: Server, tmp_path: Path) -> None:
        class Mine:
            name, agreement = "mine", None

            def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
                return 1.0

            def score_many(self, rows: Any) -> list[float]:
                return [1.0 for _ in rows]

        server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
        rows = Examples([{"question": f"What is {n}?", "answer": "card"} for n in range(40)])
        task = Task(program=dspy.Predict("question -> answer"), source=rows, judge=lambda resources: Mine())  # type: ignore[arg-type,return-value]
        run = synth_dspy.compile_task(task, arms=["zero_shot"], name="mine", workspace=tmp_path, **settings(server))
        assert "not measured here" in run.report.read_text(encoding="utf-8")


def test_the_public_names_are_there_and_typed() -> None:
    assert len(synth_dspy.__all__) <= 42
    for name in synth_dspy.__all__:
        assert getattr(synth_dspy, name) is not None, name
    assert (Path(synth_dspy.__file__).parent / "py.typed").is_file()


def test_the_snippet_about_a_program_runs(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.behaviour.reply = "[[ ## answer ## ]]\ncard\n\n[[ ## completed ## ]]"
    monkeypatch.chdir(tmp_path)
    inner = synth_dspy.compile_task
    names: dict[str, Any] = {"my_pairs": [(f"What is {n}?", "card") for n in range(40)]}

    def hosted(**given: Any) -> Any:  # whose weights are not here
        return inner(**{**given, "arms": ["bootstrap"]}, **settings(server))

    monkeypatch.setattr(synth_dspy, "compile_task", hosted)
    code = SNIPPETS[3].replace('run.program("sft")', 'run.program("bootstrap")')
    exec(compile(code, str(DOCS), "exec"), names)
    assert names["run"].results["zero_shot"].score.mean == 1.0


def test_the_snippet_about_proposed_questions_runs(tmp_path: Path) -> None:
    row = {"status": "proposed", "answer": "a thing", "document": "page"}
    write(tmp_path / "questions.proposed.jsonl", [{**row, "question": f"What is {n}?"} for n in range(5)])
    names: dict[str, Any] = {}
    exec(compile(SNIPPETS[2], str(DOCS), "exec"), names)
    names["review"](tmp_path)
    counts = synth_dspy.document_tools.proposed_questions(tmp_path).counts
    assert dict(counts) == {"accepted": 3, "rejected": 1, "edited": 1, "proposed": 1}


def test_the_snippet_of_a_judge_scores_a_run(server: Server, tmp_path: Path) -> None:
    names: dict[str, Any] = {"Task": Task}
    exec(compile(SNIPPETS[5], str(DOCS), "exec"), names)
    server.behaviour.reply = "[[ ## answer ## ]]\nthe card\n\n[[ ## completed ## ]]"
    rows = Examples([{"question": f"What is {n}?", "answer": "card"} for n in range(40)])
    task = names["judged_task"](dspy.Predict("question -> answer"), rows)
    run = synth_dspy.compile_task(task, name="held", workspace=tmp_path, **settings(server))
    assert run.results["zero_shot"].score.mean == 1.0
    record = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))["judge"]
    assert (record["name"], record["kappa"], record["n"]) == ("lenient", 0.81, 200)


def test_the_snippet_of_a_task_s_parts_is_python_that_runs() -> None:
    names: dict[str, Any] = {}
    exec(compile(SNIPPETS[4], str(DOCS), "exec"), names)
    made = names["my_task"](dspy.Predict("question -> answer"), Examples(()))
    task = complete(made)
    assert task.metrics["polite"](None, dspy.Prediction(answer="Please wait")) == 1.0
    assert list(task.optimizers) == ["as_is", "bootstrap", "sft"]
