"""`apply`: a saved program over a table, against a loopback server."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import databases
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from applied import ASK, ROOT, workspace_with_program
from servers import CHAT_REPLY, Behaviour, Server, command, serving

from synth_dspy.cli import apply as cli
from synth_dspy.core.budget import Budget
from synth_dspy.core.errors import BudgetReached, SetupError
from synth_dspy.pipeline import saved
from synth_dspy.pipeline.apply.job import Applied, apply_program
from synth_dspy.pipeline.apply.settings import Job
from synth_dspy.pipeline.saved_files import read_saved
from synth_dspy.pipeline.trust import Caller

QUESTIONS = ["Where?", "When?", "Where?", "Why?"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace_with_program(tmp_path_factory.mktemp("work"), model="openai/gpt-4o-mini")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Behaviour(prompt_tokens=2000, completion_tokens=500)) as server:  # $0.0006 a call
        yield server


@pytest.fixture
def postgres() -> Iterator[str]:
    folder = databases.programs()
    if folder is None:
        pytest.skip("no PostgreSQL server, or no psycopg, is installed")
    with databases.serving(folder) as url:
        yield url


def run(
    program: Path, server: Server, given: object, output: Path, budget: Budget | None = None, **job: Any
) -> Applied:
    caller = Caller(api_base=server.url)
    return apply_program(read_saved(program, caller), Job(str(given), output, **job), caller=caller, budget=budget)


def write_csv(path: Path, questions: list[str] = QUESTIONS) -> Path:
    rows = [{"id": f"{number:03}", "q": question} for number, question in enumerate(questions)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "q"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_summary_is_in_plain_sentences() -> None:
    done = Applied(Path("out.csv"), 9, 6, 1, 1, "it is empty: leave it out.", 12.5, 1, 0, 1, 1, None)
    assert "6 distinct, 1 of them run now in 12 s (0.08/s), 1 failed" in str(done)
    assert "the first failure: it is empty: leave it out; the same command with --force tries them again" in str(done)


@pytest.mark.parametrize(("reason", "cut"), [("length", 3), ("stop", 0)])
def test_answers_cut_off_at_the_token_limit_are_counted(program: Path, tmp_path: Path, reason: str, cut: int) -> None:
    with serving(Behaviour(finish_reason=reason)) as server:
        done = run(program, server, write_csv(tmp_path / "rows.csv"), tmp_path / "out.csv", columns={"question": "q"})
    assert (done.truncated, done.failed) == (cut, 0)
    assert ("3 of those run now were cut off at the model's token limit" in str(done)) == (cut > 0)


def test_equal_rows_are_answered_once_and_other_columns_stay(program: Path, server: Server, tmp_path: Path) -> None:
    done = run(program, server, write_csv(tmp_path / "rows.csv"), tmp_path / "out.csv", columns={"question": "q"})
    rows = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == ["000", "001", "002", "003"]
    assert list(rows[0]) == ["id", "q", "answer", "error"]
    assert rows[0]["answer"] == rows[2]["answer"] != rows[1]["answer"]
    assert (done.rows, done.distinct, server.answered.total()) == (4, 3, 3)
    run(program, server, tmp_path / "rows.csv", tmp_path / "out.csv", columns={"question": "q"}, force=True)
    assert server.answered.total() == 3


def test_progress_of_a_program_whose_run_was_copied_to_s3_is_kept_in_runs(
    program: Path, server: Server, tmp_path: Path
) -> None:
    made = read_saved(program, Caller(api_base=server.url))
    made = replace(made, config=made.config.model_copy(update={"runs": Path("s3://bucket/runs")}))
    given = write_csv(tmp_path / "copied.csv")
    job = Job(str(given), tmp_path / "out.csv", columns={"question": "q"})
    apply_program(made, job, caller=Caller(api_base=server.url))
    assert len(list((made.workspace / "runs" / "ask" / "applied").glob("copied-*/answers-*.sqlite"))) == 1
    assert not (made.workspace / "s3:").exists()


def test_types_survive_from_parquet_to_parquet(program: Path, server: Server, tmp_path: Path) -> None:
    table = pa.table({"question": ["a", "b"], "times": [1, 2], "tags": [["x"], []], "price": pa.array([1.5, None])})
    pq.write_table(table, tmp_path / "rows.parquet")
    run(
        program, server, tmp_path / "rows.parquet", tmp_path / "out.parquet",
        outputs={"answer": "reply", "words": "words", "times": "n"},
    )  # fmt: skip
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.schema.names == ["question", "times", "tags", "price", "reply", "words", "n", "error"]
    assert out.select(["question", "times", "tags", "price"]).to_pylist() == table.to_pylist()
    assert out["n"].to_pylist() == [1, 2]
    assert json.loads(out["words"][0].as_py())[0] == "answer"


def test_json_lines_keep_their_keys_and_delta_takes_mixed_columns(
    program: Path, server: Server, tmp_path: Path
) -> None:
    lines = [{"question": "a", "note": {"x": 1}}, {"question": "b", "note": "text", "more": [1, 2]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(program, server, tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in line} for row, line in zip(out, lines, strict=True)] == lines
    assert [list(row) for row in out] == [[*line, "answer", "error"] for line in lines]
    pytest.importorskip("deltalake")
    run(program, server, tmp_path / "rows.jsonl", tmp_path / "out.delta")
    run(program, server, tmp_path / "out.delta", tmp_path / "again.csv", outputs={"answer": "a2"}, error_column="e2")
    again = read_csv(tmp_path / "again.csv")
    assert sorted(row["note"] for row in again) == ["text", '{"x": 1}']
    assert all(row["answer"] == row["a2"] for row in again)


def test_outputs_that_are_no_numbers_are_empty(program: Path, server: Server, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "odd.csv", ["nan", "-inf", "half"])
    job: dict[str, Any] = {"columns": {"question": "q"}, "outputs": {"ratio": "ratio"}, "force": True}
    for _ in range(2):
        run(program, server, rows, tmp_path / "out.parquet", **job)
        assert pq.read_table(tmp_path / "out.parquet")["ratio"].to_pylist() == [None, None, 0.5]
    (stored,) = program.parents[2].glob("applied/odd-*/answers-*.sqlite")
    with sqlite3.connect(stored) as db:  # as earlier versions left it
        db.execute("update answers set outputs = ? where outputs like '%null%'", ('{"ratio": NaN}',))
    run(program, server, rows, tmp_path / "out.parquet", **job)
    assert pq.read_table(tmp_path / "out.parquet")["ratio"].to_pylist() == [None, None, 0.5]
    assert server.answered.total() == 3


NOTED = (
    ASK.replace("[Item(name, name, name) for name in NAMES]", "[Item('notes', 'notes', read_notes())]").replace(
        "question=question,", "question=f'{NOTES.read_text()} {question}',"
    )
    + """
from pathlib import Path

NOTES = Path(__file__).with_name("notes.txt")


def read_notes():
    with NOTES.with_name("reads.txt").open("a") as file:
        file.write("read\\n")
    return NOTES.read_text()
"""
)


def test_rows_run_again_once_the_documents_or_the_code_have_changed(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = workspace_with_program(tmp_path / "work", model="openai/gpt-4o-mini", code=NOTED)
    code, notes, reads = (tmp_path / "work" / "programs" / name for name in ("ask.py", "notes.txt", "reads.txt"))
    rows = write_csv(tmp_path / "rows.csv")

    def answer() -> tuple[int, int, bool]:
        """Rows run, calls made, and whether the change is said."""
        capsys.readouterr()
        before = server.answered.total()
        done = run(program, server, rows, tmp_path / "out.csv", columns={"question": "q"}, force=True)
        return done.run_now, server.answered.total() - before, "has changed" in capsys.readouterr().err

    notes.write_text("The rent is 900.")
    assert answer() == (3, 3, False)
    assert answer() == (0, 0, False)
    notes.write_text("The rent is 1200.")
    assert answer() == (3, 3, True)
    notes.write_text("The rent is 900.")
    assert answer() == (3, 0, True)  # the ledger has these calls
    code.write_text(code.read_text().replace("answer=reply.answer,", "answer=reply.answer.upper(),"))
    assert answer() == (3, 0, True)
    assert all(row["answer"].isupper() for row in read_csv(tmp_path / "out.csv"))
    assert reads.read_text().split() == ["read"] * 5  # once a start


@pytest.mark.parametrize("suffix", [".parquet", ".delta"])
def test_a_column_that_no_type_holds_is_named_and_no_answer_is_lost(
    program: Path, server: Server, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".delta":
        pytest.importorskip("deltalake")
    numbers = [2**60 + 1] * 1024 + [0.5]  # in two batches
    lines = [{"question": "a", "n": number, "note": {}, "notes": [{"x": {}}]} for number in numbers]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SetupError, match=r"column 'n' cannot hold all its values as double: .*--output .*\.jsonl") as e:
        run(program, server, tmp_path / "rows.jsonl", tmp_path / f"out{suffix}")
    assert "\n" not in str(e.value)
    assert not (tmp_path / f"out{suffix}").exists()
    assert run(program, server, tmp_path / "rows.jsonl", tmp_path / "out.jsonl").run_now == 0
    assert [json.loads(line)["n"] for line in (tmp_path / "out.jsonl").open()] == numbers
    (tmp_path / "few.jsonl").write_text(json.dumps(lines[0]) + "\n")
    run(program, server, tmp_path / "few.jsonl", tmp_path / f"few{suffix}")
    run(program, server, tmp_path / f"few{suffix}", tmp_path / "again.csv", outputs={"answer": "a2"}, error_column="e2")
    (row,) = read_csv(tmp_path / "again.csv")
    assert (row["n"], row["note"], row["notes"]) == (str(2**60 + 1), "{}", '[{"x": {}}]')


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_cells_with_any_line_break_are_read_again_as_they_were(
    program: Path, server: Server, tmp_path: Path, suffix: str
) -> None:
    questions = ["one\rtwo", "one\ntwo", "one\r\ntwo", 'a "word"', "plain"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"question": each}) + "\n" for each in questions))
    first, again = tmp_path / f"out{suffix}", tmp_path / "again.jsonl"
    run(program, server, tmp_path / "rows.jsonl", first)
    assert first.read_bytes().endswith(b"\n")
    assert not first.read_bytes().endswith(b"\r\n")
    run(program, server, first, again, outputs={"answer": "a2"}, error_column="e2")
    assert [json.loads(line)["question"] for line in again.read_text().split("\n") if line] == questions


def test_the_result_of_a_query_is_read_once(program: Path, server: Server, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mails.sqlite") as db:
        db.execute("create table mails (id integer, body text)")
        db.executemany("insert into mails values (?, ?)", [(1, "a"), (2, "b"), (3, None)])
    query = "select id, body as question from mails order by id"
    done = run(program, server, tmp_path / "mails.sqlite", tmp_path / "out.parquet", query=query)
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in out] == [1, 2, 3]
    assert [row["error"] for row in out] == [None, None, "the column question is empty"]
    assert done.failed == 1
    with duckdb.connect(str(tmp_path / "mails.duckdb")) as db:
        db.execute("create table mails as select 7::smallint as id, 'a' as question, date '2024-02-29' as day")
    run(program, server, f"duckdb:///{tmp_path / 'mails.duckdb'}", tmp_path / "duck.parquet", query="mails")
    assert pq.read_table(tmp_path / "duck.parquet").schema.field("day").type == pa.date32()
    assert server.answered.total() == 3


@pytest.mark.parametrize("engine", ["sqlite", "duckdb"])
def test_the_database_is_asked_anew_after_a_start_that_answered_nothing(
    program: Path, server: Server, tmp_path: Path, engine: str
) -> None:
    file = tmp_path / f"grows.{engine}"

    def execute(statement: str) -> None:
        db: Any = sqlite3.connect(file) if engine == "sqlite" else duckdb.connect(str(file))
        db.execute(statement)
        db.commit()
        db.close()

    def answer(**job: Any) -> list[dict[str, Any]]:
        run(program, server, f"{engine}:///{file}", tmp_path / "out.jsonl", force=True, **job)
        return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    execute("create table mails (id integer)")
    execute("insert into mails values (1)")
    with pytest.raises(SetupError, match="has no column 'question'"):
        answer(query="mails")
    execute("alter table mails add column question text")
    execute("insert into mails values (2, 'a')")
    assert [row["question"] for row in answer(query="mails")] == [None, "a"]
    with pytest.raises(SetupError, match="has a column 'id' already"):
        answer(query="mails", outputs={"answer": "id"})
    execute("insert into mails values (3, 'b')")
    assert [row["question"] for row in answer(query="mails")] == [None, "a", "b"]


def test_a_query_without_rows_is_named_and_asked_again(program: Path, server: Server, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "empty.sqlite") as db:
        db.execute("create table mails (question text)")
    given, query = f"sqlite:///{tmp_path / 'empty.sqlite'}", "select * from mails"
    with pytest.raises(SetupError, match=r"The query 'select \* from mails' gives no rows on sqlite:///"):
        run(program, server, given, tmp_path / "out.csv", query=query)
    with sqlite3.connect(tmp_path / "empty.sqlite") as db:
        db.execute("insert into mails values ('a')")
    assert run(program, server, given, tmp_path / "out.csv", query=query).rows == 1


JOINED = "select q.question, r.question, r.id from q, r"
TABLES = (
    "create table q (question text)",
    "insert into q values ('mine')",
    "create table r (question text, id integer)",
    "insert into r values ('other', 7)",
)


def refuse_columns_of_equal_names(program: Path, server: Server, given: str, output: Path) -> None:
    with pytest.raises(SetupError, match=r"two columns named 'question': name one .* with AS\.$"):
        run(program, server, given, output, query=JOINED)
    run(program, server, given, output, query=JOINED.replace("r.question", "r.question as other"))
    (row,) = map(json.loads, output.read_text().splitlines())
    assert (row["question"], row["other"], row["id"]) == ("mine", "other", 7)


def test_a_query_with_two_columns_of_one_name_is_refused(program: Path, server: Server, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "joined.sqlite") as lite:
        for statement in TABLES:
            lite.execute(statement)
    refuse_columns_of_equal_names(program, server, f"sqlite:///{tmp_path / 'joined.sqlite'}", tmp_path / "lite.jsonl")
    with duckdb.connect(str(tmp_path / "joined.duckdb")) as duck:
        for statement in TABLES:
            duck.execute(statement)
    refuse_columns_of_equal_names(program, server, f"duckdb:///{tmp_path / 'joined.duckdb'}", tmp_path / "duck.jsonl")


def test_a_failed_row_is_kept_and_tried_again(program: Path, tmp_path: Path) -> None:
    replies = {"bad": "no field at all"}

    def respond(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        return next((reply for word, reply in replies.items() if word in text), CHAT_REPLY)

    rows = write_csv(tmp_path / "rows.csv", ["good", "bad", "fine"])
    with serving(Behaviour(respond=respond)) as server:
        done = run(program, server, rows, tmp_path / "out.csv", columns={"question": "q"})
        out = read_csv(tmp_path / "out.csv")
    assert [bool(row["answer"]) for row in out] == [True, False, True]
    assert [bool(row["error"]) for row in out] == [False, True, False]
    assert done.failed == 1
    assert "--force" in str(done)


def test_many_failures_in_a_row_stop_the_job(program: Path, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", [f"question {number}" for number in range(50)])
    with (
        serving(Behaviour(reply="no field at all")) as server,
        pytest.raises(SetupError, match="The last 5 rows failed, one after the other"),
    ):
        run(program, server, rows, tmp_path / "out.csv", columns={"question": "q"}, stop_after=5, concurrency=2)
    assert not (tmp_path / "out.csv").exists()
    assert server.answered.total() < 50


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ({}, r"has no column 'question', which the program takes: name the column with --columns question=COLUMN"),
        ({"columns": {"question": "qq"}}, r"has no column 'qq': did you mean q"),
        ({"columns": {"text": "q"}}, r"The program has no input 'text' .*: it takes question, times\."),
        (
            {"columns": {"question": "q"}, "outputs": {"answer": "id"}},
            r"has a column 'id' already: .*--outputs answer=",
        ),
        ({"columns": {"question": "q"}, "outputs": {"reason": "reason"}}, r"predictions have no 'reason': .*answer"),
        ({"columns": {"question": "q"}, "query": "select 1"}, r"--query is for databases"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    program: Path, server: Server, tmp_path: Path, job: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SetupError, match=sentence):
        run(program, server, write_csv(tmp_path / "rows.csv"), tmp_path / "out.csv", **job)
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_column_is_named_before_the_program_is_opened(
    program: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "rebuild", lambda *_: pytest.fail("the program was opened"))
    with pytest.raises(SetupError, match=r"has no column 'question'"):
        run(program, server, write_csv(tmp_path / "rows.csv"), tmp_path / "out.csv")
    with pytest.raises(SetupError, match=r"has no column 'qq': did you mean q"):
        run(program, server, tmp_path / "rows.csv", tmp_path / "out.csv", columns={"question": "qq"})


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.jsonl", b'{"question": "a"}\n[1]\n', r"line 2 is not a JSON object"),
        ("rows.jsonl", b"", r"has no rows"),
        ("rows.parquet", b"PAR1", r"cannot be read as a table"),
        ("rows.csv", b'question\n"never closed\n', r"cannot be read as a table"),
        ("rows.xls", b"", r"has an unknown extension"),
    ],
)
def test_an_input_that_cannot_be_read_is_named(
    program: Path, server: Server, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SetupError, match=sentence):
        run(program, server, tmp_path / name, tmp_path / "out.csv")


def test_a_finished_output_is_replaced_only_with_force(program: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(SetupError, match="exists already"):
        run(program, server, write_csv(tmp_path / "rows.csv"), tmp_path / "out.csv", columns={"question": "q"})
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert not server.requests


def test_after_sigkill_no_answered_row_is_asked_again(program: Path, tmp_path: Path) -> None:
    rows, log = write_csv(tmp_path / "rows.csv", [f"question {number}" for number in range(200)]), tmp_path / "log"
    log.touch()
    serve = subprocess.Popen(command(Behaviour(latency_s=0.05, log=str(log))), stdout=subprocess.PIPE, text=True)
    assert serve.stdout is not None
    typed = [
        sys.executable, "-m", "synth_dspy", "apply", str(program), "--input", str(rows), "--columns", "question=q",
        "--output", str(tmp_path / "out.csv"), "--api-base", f"http://127.0.0.1:{int(serve.stdout.readline())}/v1",
        "--concurrency", "8",
    ]  # fmt: skip
    options: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "stderr": subprocess.DEVNULL}
    try:
        first = subprocess.Popen(typed, stdout=subprocess.DEVNULL, **options)
        while len(log.read_text().split()) < 60 and first.poll() is None:
            time.sleep(0.01)
        first.kill()
        first.wait()
        assert not (tmp_path / "out.csv").exists()
        subprocess.run(typed, check=True, stdout=subprocess.DEVNULL, **options)
    finally:
        serve.kill()
        serve.wait()
    answered = log.read_text().split()
    assert len(answered) == len(set(answered)) == 200
    assert all(row["answer"] and not row["error"] for row in read_csv(tmp_path / "out.csv"))


def test_a_budget_stops_the_job_and_more_of_it_goes_on(program: Path, server: Server, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", [f"question {number}" for number in range(60)])
    job: dict[str, Any] = {"columns": {"question": "q"}, "concurrency": 4}
    with pytest.raises(
        BudgetReached, match=r"^\d+ of 60 rows done, .*\$0\.0\d+ spent in \d+ priced calls.*higher limit"
    ):
        run(program, server, rows, tmp_path / "out.csv", Budget(max_usd=0.012), **job)
    first = server.answered.total()
    assert 20 <= first <= 20 + 2 * 4  # of the calls whose price was not known yet, all may have been under way
    with pytest.raises(BudgetReached):
        run(program, server, rows, tmp_path / "out.csv", Budget(max_usd=0.012), **job)
    assert server.answered.total() == first
    done = run(program, server, rows, tmp_path / "out.csv", Budget(max_usd=1.0), **job)
    assert server.answered.total() == len(server.answered) == 60
    (student,) = done.spent
    assert student["cost_usd"] == pytest.approx(60 * 0.0006)
    assert len(read_csv(tmp_path / "out.csv")) == 60


def test_a_limit_of_dollars_needs_a_price(tmp_path: Path, server: Server) -> None:
    unpriced = workspace_with_program(tmp_path / "work", model="openai/house-model")
    rows = write_csv(tmp_path / "rows.csv")
    arguments = [
        str(unpriced), "--input", str(rows), "--output", str(tmp_path / "out.csv"), "--columns", "question=q",
        "--api-base", server.url, "--max-usd", "1",
    ]  # fmt: skip
    with pytest.raises(SetupError, match=r"--max-usd needs the price of the student model openai/house-model"):
        cli.main(arguments)
    cli.main([*arguments, "--price", "1", "2"])
    assert len(read_csv(tmp_path / "out.csv")) == 4


def test_a_database_without_a_query_is_documented(tmp_path: Path, server: Server) -> None:
    with sqlite3.connect(tmp_path / "shop.sqlite") as db:
        for number in range(5):
            db.execute(f"create table orders_{number} (id integer primary key, placed_{number} text)")
    documenter = workspace_with_program(tmp_path / "work", task="table_docs")
    done = run(documenter, server, tmp_path / "shop.sqlite", tmp_path / "docs.csv")
    out = read_csv(tmp_path / "docs.csv")
    assert done.rows == len(out) == 15
    assert [row["column_name"] for row in out[:3]] == ["", "id", "placed_0"]
    assert all(row["answer"] for row in out)


def test_the_rows_of_a_postgresql_query_are_answered(
    program: Path, server: Server, postgres: str, tmp_path: Path
) -> None:
    engine = sa.create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(sa.text("create table asked (id serial, q text, price numeric(8, 2), at timestamptz)"))
        rows = [{"q": question} for question in QUESTIONS]
        connection.execute(sa.text("insert into asked (q, price, at) values (:q, 1.5, '2024-01-31 12:00+00')"), rows)
    job: dict[str, Any] = {"columns": {"question": "q"}}
    done = run(program, server, postgres, tmp_path / "out.csv", query="asked", **job)
    assert (done.rows, done.distinct, done.failed) == (4, 3, 0)
    written = read_csv(tmp_path / "out.csv")
    assert [row["q"] for row in written] == QUESTIONS
    assert {row["price"] for row in written} == {"1.50"}
    plain = postgres.replace("+psycopg", "")
    with engine.begin() as connection:
        for statement in TABLES:
            connection.execute(sa.text(statement))
    refuse_columns_of_equal_names(program, server, plain, tmp_path / "joined.jsonl")
    done = run(
        program, server, plain, tmp_path / "two.jsonl", query="select q, id from asked where id > 2 order by id", **job
    )
    assert (done.rows, done.run_now) == (2, 2)
    with pytest.raises(SetupError, match=r"The query cannot be run on .*relation \"nothing\" does not exist"):
        run(program, server, plain, tmp_path / "three.jsonl", query="nothing", **job)
    with pytest.raises(SetupError, match=r"The query cannot be run on postgresql://.*127.0.0.1:9/y \(connection"):
        run(program, server, "postgresql://x@127.0.0.1:9/y", tmp_path / "four.jsonl", query="nothing", **job)
