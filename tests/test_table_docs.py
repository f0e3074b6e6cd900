"""The task: its program, its metrics, its judge, its verb, and (slow) a compile whose program documents a database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dspy
import duckdb
import pytest
from dspy.utils import DummyLM
from embedders import WordEmbedder
from servers import Behaviour, serving

import synth_dspy
from programs.table_docs import TableDocumenter, table_docs
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.domains.tables.documentation import LONGEST, clean, coverage, document
from synth_dspy.domains.tables.generate import Sampler, read_vocabulary
from synth_dspy.domains.tables.judge import (
    AgreementJudge,
    UsefulnessJudge,
    brevity,
    covered,
    length,
    nothing_invented,
    says_more,
)
from synth_dspy.domains.tables.schema import WHOLE, Column, Table
from synth_dspy.domains.tables.units import IndustryItem
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.database import document_database
from synth_dspy.training.prompting import estimate_tokens
from synth_dspy.training.traces import prompts

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = ROOT / "data" / "industries" / "vocabulary.toml"


def example(**fields: object) -> dspy.Example:
    row = {"question": "bill: cust_no int", "column": "cust_no int", "focus": "cust_no", "references": ["Who pays"]}
    return dspy.Example(**{**row, "names": ["bill", "bill_no", "cust_no", "total"], **fields})


def comment_prediction(text: str) -> dspy.Prediction:
    return dspy.Prediction(answer=text)


@pytest.mark.parametrize(
    ("metric", "text", "score"),
    [
        (covered, "Customer who pays", 1.0),
        (covered, "", 0.0),
        (covered, "bill_no: number. cust_no: customer. total: sum", 0.0),
        (nothing_invented, "Customer who pays, see bill_no", 1.0),
        (nothing_invented, "Foreign key to customers.cust_id", 0.0),
        (nothing_invented, "Weight of the customer in kilograms", 1.0),  # invented, but no name
        (says_more, "Customer number", 0.0),
        (says_more, "cust_no", 0.0),
        (says_more, "", 0.0),
        (says_more, "Customer who pays the bill", 1.0),
        (length, "Payer", 0.0),
        (length, "Customer who pays", 1.0),
        (length, "and so on " * 20, 0.0),
    ],
)
def test_metrics(metric: object, text: str, score: float) -> None:
    assert metric(example(), comment_prediction(text)) == score


def test_names_that_a_reference_or_a_foreign_key_gives_are_not_invented() -> None:
    row = example(column="cust_no int, foreign key to Customers.CustNo", references=["See PayerList."])
    assert nothing_invented(row, comment_prediction("Foreign key to Customers.CustNo, in PayerList")) == 1.0


def test_a_comment_that_mentions_everything_agrees_less_than_one_that_says_it() -> None:
    references = ["Last name of the person."]
    assert brevity("Last name of the person", references) == 1.0
    assert brevity("The last name of the person, as it is written in the passport", references) == 1.0
    assert brevity("word " * 30, references) == 0.5
    assert brevity("", references) == 1.0  # the judge's own affair


@pytest.mark.slow
def test_a_comment_is_scored_by_the_reference_judge_and_marked_down() -> None:
    judge = AgreementJudge()
    row = {"question": "person: last_name", "references": ["Last name of the person."]}
    rambling = (
        "Last name of the person. The first name is the name. The title is the title. The suffix is the suffix of it"
    )
    comments = ["The person's last name", rambling, "Weight in kilograms", ""]
    right, long, wrong, empty = judge.score_many([{**row, "prediction": text} for text in comments])
    assert right > 0.7 > long > wrong
    assert empty == 0.0
    assert judge.agreement == {}  # measured on answers to questions, not on comments


def test_usefulness_is_asked_of_a_model_and_an_empty_comment_is_none() -> None:
    judge = UsefulnessJudge(DummyLM([{"score": "0.8"}]), Executor(1))
    rows = [{"question": "q", "references": ["r"], "prediction": text} for text in ("", "Customer who pays")]
    assert judge.score_many(rows) == [0.0, 0.8]


def test_the_program_comments_on_what_it_is_asked() -> None:
    program = TableDocumenter(SimpleNamespace())
    with dspy.context(lm=DummyLM([{"comment": ' Comment: "Customer\nwho pays" '}], adapter=PlainAdapter())):
        prediction = program(table="bill (cust_no)", column="cust_no int")
    assert (prediction.answer, prediction.abstained) == ("Customer who pays", False)


def test_prompts_of_wide_tables_stay_within_200_tokens() -> None:
    from synth_dspy.domains.tables.labelled import row

    sampler = Sampler(read_vocabulary(VOCABULARY))
    industry = next(item for item in table_docs().source.read(1).items if isinstance(item, IndustryItem))
    made = [sampler.sample(industry.industry, n).table for n in range(40)]
    widest = max(made, key=lambda table: len(table.columns))
    assert len(widest.columns) > 25
    program = TableDocumenter(SimpleNamespace())
    program.set_lm(dspy.LM("test/none", engine=SimpleNamespace(complete=lambda request: None)))
    examples = [row(widest, column.name, "What it is") for column in widest.columns]
    prompts_made = prompts(program, examples, Executor(2))
    assert len(prompts_made) == len(examples)
    assert max(estimate_tokens("".join(m["content"] for m in messages)) for messages in prompts_made) <= 200


def test_documentation_covers_every_column_once_and_keeps_what_people_wrote() -> None:
    table = Table("bill", (Column("a", comment="Ours"), Column("b"), Column("c")))
    program = lambda table, column: SimpleNamespace(answer=f"About {column}")  # noqa: E731
    (doc,) = document(program, [table], Executor(2))
    assert [(c.column, c.text, c.written) for c in doc.comments] == [
        (WHOLE, f"About {WHOLE}", True),
        ("a", "Ours", False),
        ("b", "About b", True),
        ("c", "About c", True),
    ]
    assert coverage(table, [c.column for c in doc.comments]).whole
    assert not coverage(table, ["a", "b", "b", "x"]).whole
    shares = coverage(table, ["a", "b", "b", "x"])
    assert (shares.missing, shares.invented, shares.repeated) == ((WHOLE, "c"), ("x",), ("b",))


def test_a_model_that_never_answers_is_an_error_and_one_that_fails_once_is_not() -> None:
    table = Table("bill", (Column("a"), Column("b")))

    def program(table: str, column: str) -> SimpleNamespace:
        if column == "a":
            raise ValueError("broken")
        return SimpleNamespace(answer="Something")

    (doc,) = document(program, [table], Executor(1))
    assert [comment.column for comment in doc.comments] == [WHOLE, "b"]
    with pytest.raises(ModelError, match="broken"):
        document(program, [Table("bill", (Column("a"),), comment="There")], Executor(1))


def test_replies_are_made_comments() -> None:
    assert clean("Description: `The total`") == "The total"
    sentences = " ".join(f"Sentence {n} ends." for n in range(100))
    assert clean(sentences) == sentences[:LONGEST].rpartition(". ")[0] + "."
    assert len(clean(" ".join(map(str, range(300))))) <= LONGEST
    assert clean("Album Id, Album Id, album Id, Album Id") == "Album Id"
    assert clean("Date of the sale. Date of the sale. Price") == "Date of the sale. Price"
    assert clean("Number of the order that the order line is of") == "Number of the order that the order line is of"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["none", "--database", "sqlite:///x.db", "--out", "x.md"], "There is no database file"),
        (["none", "--database", "{db}", "--out", "x.docx"], "extension"),
        (["none", "--database", "{db}", "--out", "x.md"], "There is no saved program"),
        (["none", "--database", "{db}", "--out", "x.md", "--apply"], "There is no saved program"),
        (["none", "--database", "{db}", "--out", "{old}"], r"old\.md exists already: .* with --force"),
        (["none", "--database", "{db}", "--out", "{old}", "--force"], "There is no saved program"),
        (["none", "--database", "{db}", "--out", "x.md", "--samples", "-1"], "--samples is -1: it should be"),
    ],
)
def test_the_verb_says_what_is_wrong_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str
) -> None:
    from synth_dspy.cli.document import main

    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("CREATE TABLE a (x INT)")
    (tmp_path / "old.md").write_text("old")
    given = [arg.format(db=tmp_path / "a.duckdb", old=tmp_path / "old.md") for arg in args]
    with pytest.raises(SetupError, match=says):
        main([str(tmp_path / given[0]), *given[1:]])
    assert (tmp_path / "old.md").read_text() == "old"


def test_another_task_s_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering(dspy.Module):
        def forward(self, question: str, document: str = "") -> dspy.Prediction:
            raise AssertionError("it is not to be asked")

    monkeypatch.setattr("synth_dspy.pipeline.saved.open_program", lambda *_: Answering())
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("CREATE TABLE a (x INT)")
    with pytest.raises(SetupError, match="takes question, document, not a table and a column"):
        document_database(tmp_path / "rag", str(tmp_path / "a.duckdb"), tmp_path / "x.md")
    assert not (tmp_path / "x.md").exists()


def test_help_of_the_verb_loads_no_library() -> None:
    code = (
        "import sys, synth_dspy.document as d\ntry: d.main(['--help'])\nexcept SystemExit: pass\n"
        "print({'dspy', 'torch', 'duckdb', 'sqlglot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    assert "--apply" in done.stdout


def shop(folder: Path, tables: int, comments: int) -> str:
    """A DuckDB of tables of twelve columns, of which the first `comments` have one; its URL."""
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        for t in range(tables):
            connection.execute(f"CREATE TABLE shop_{t} ({', '.join(f'c{n} INT' for n in range(12))})")
            for n in range(comments):
                connection.execute(f"COMMENT ON COLUMN shop_{t}.c{n} IS 'Count of things of kind {t} and {n}'")
    return f"duckdb:///{folder / 'shop.duckdb'}"


@pytest.mark.parametrize(
    ("tables", "comments", "own", "says"),
    [
        (3, 10, 30, "The scores are about the 30 comments by people on 3 tables of the database."),
        (3, 1, 3, "mostly about the sample's tables: there are only 3 comments by people on 3 tables of the database"),
        (2, 12, 24, "mostly about the sample's tables: there are only 24 comments by people on 2 tables"),
        (3, 0, 0, "The scores are about the sample's tables, not about the database's, which have no comments"),
    ],
)
def test_a_database_s_own_comments_are_scored_if_there_are_enough_and_a_note_says_whose_are(
    tmp_path: Path, tables: int, comments: int, own: int, says: str
) -> None:
    knowledge = table_docs(database=shop(tmp_path, tables, comments)).source.read()
    of_database = [row for row in knowledge.labelled if row.group.startswith("shop_")]
    assert len(of_database) == own
    assert (len(of_database) == len(knowledge.labelled)) == (own >= 30)
    (note,) = knowledge.notes
    assert says in note


def test_tables_that_are_named_are_scored_beside_a_database_s(tmp_path: Path) -> None:
    database, given = shop(tmp_path, 3, 10), tmp_path / "given.sql"
    given.write_text("CREATE TABLE given (a INT); COMMENT ON COLUMN given.a IS 'Age of the person in years';")
    knowledge = table_docs(database=database, tables=given).source.read()
    assert {row.group for row in knowledge.labelled} == {"shop_0", "shop_1", "shop_2", "given"}
    (note,) = knowledge.notes
    assert note.endswith("given.sql and about 30 comments by people on 3 tables of the database.")
    assert table_docs(tables=given).source.read().notes == ()


def test_a_database_without_tables_is_refused_before_any_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"shop\.duckdb has no tables.*leave out --task\.database"):
        table_docs(database=shop(tmp_path, 0, 0)).source.read()


def test_report_and_terminal_begin_with_whose_comments_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(dspy, "configure", lambda **_: None)  # of the process: other tests would see it
    with serving(Behaviour(reply="Number of things")) as server:
        run = synth_dspy.compile_task(
            "table_docs",
            workspace=ROOT,
            runs_folder=tmp_path / "runs",
            models={"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url},
            arms=["bootstrap"],
            retention={"prompts": 0},
            quick=True,
            task={"database": shop(tmp_path, 2, 0)},
        )
    results = json.loads((run.folder / "results.json").read_text())
    assert "nothing_invented" in results["arms"][0]["scores"] | results["arms"][0]["further"], "older runs call it so"
    report = (run.folder / "report.md").read_text().lower()
    assert "no names invented" in report
    assert "nothing invented" not in report
    first, *_ = results["notes"]
    assert first.startswith("The scores are about the sample's tables, not about the database's")
    assert first in capsys.readouterr().err


@pytest.mark.slow
def test_a_compile_leaves_a_program_that_documents_a_database(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "synth_dspy.compile", "table_docs", "--quick", "--runs", str(tmp_path / "runs")]
    run += ["--evaluation.arms", "zero_shot", "--evaluation.held-out", "8", "--synthesis.candidates", "8"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "runs" / "table_docs").glob("*/results.json")
    arms = json.loads(results.read_text())["arms"]
    assert [(arm["name"], arm["n"], arm["errors"]) for arm in arms] == [("zero_shot", 8, 0)]
    database = tmp_path / "shop.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE customer (cust_no INT PRIMARY KEY, full_name VARCHAR)")
    verb = [sys.executable, "-m", "synth_dspy.document", str(results.parent / "programs" / "zero_shot"), "--database"]
    verb += [str(database), "--out", str(tmp_path / "x.sql"), "--apply"]
    done = subprocess.run(verb, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.sql").read_text().count("COMMENT ON") == 3
    with duckdb.connect(str(database), read_only=True) as connection:
        comments = connection.execute("SELECT comment FROM duckdb_columns() WHERE table_name = 'customer'").fetchall()
    assert all(comment for (comment,) in comments)
