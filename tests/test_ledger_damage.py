"""A damaged ledger: told in a sentence with the way on, never an answer, and restored to all that is whole."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synth_dspy.cli import restore
from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Verdict
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall, Unit

PAGE = 4096
AGAIN = "python -m synth_dspy.compile demo --resume r1"
KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_ledger_damage import ANSWERS
from synth_dspy.core.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for call in list(ANSWERS.values())[:20]:
    ledger.record(call)
os._exit(9)
"""


def answer(number: int) -> ModelCall:
    """Of all sizes: in a leaf page, over several pages; with figures of every kind."""
    text = f'{{"text": "{number} ' + "wörd " * (number % 7) ** 4 + '"}'
    unit = Unit("evaluation", f"item-{number}", "rag")
    return ModelCall(
        f"{number:064x}", text, "openai/m", "student", unit, "answered", number, None, 0.25 * number, 3, -0.0
    )


ANSWERS = {call.key: call for call in map(answer, range(150))}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder whose ledger has 150 answers, and a snapshot with the first 120 of them."""
    folder = tmp_path_factory.mktemp("sound")
    path = folder / "ledger.sqlite"
    calls = list(ANSWERS.values())
    with Ledger(path) as ledger:
        for call in calls[:120]:
            ledger.record(call)
        ledger.record_verdict("c1", "grounded", Verdict(True, 1.0, "it is"))
        ledger.execute_once("e1", lambda: {"value": 7})
        ledger.record_failure(calls[0], ValueError("once"))
        ledger.snapshot()
        kept = (folder / "ledger.snapshot.sqlite").read_bytes()
        for call in calls[120:]:
            ledger.record(call)
    (folder / "ledger.snapshot.sqlite").write_bytes(kept)
    return folder


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "a run"))


def read_all(path: Path) -> dict[str, ModelCall]:
    with Ledger(path, resume_command=AGAIN) as ledger:
        assert ledger.verdicts() == {("c1", "grounded"): Verdict(True, 1.0, "it is")}
        assert ledger.execute_once("e1", lambda: {"value": 8}) == {"value": 7}
        return {call.key: call for call in ledger.calls()}


def test_what_is_read_back_is_what_was_written(run: Path) -> None:
    assert read_all(run / "ledger.sqlite") == ANSWERS


def zero(path: Path, begin: int, size: int = PAGE) -> None:
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(size))


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("create table notes (text)")
    db.close()


def later(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()


def endless(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("create view v as with recursive n(i) as (select 1 union all select i + 1 from n) select i from n")
        db.execute(
            "create trigger t after insert on calls begin delete from failures where (select sum(i) from v) > 0; end"
        )
    db.close()


def rows_gone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("delete from calls where rowid % 2")
    db.close()


def answer_changed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("update calls set response = '{}' where rowid = 7")
    db.close()


def tokens_changed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("update calls set input_tokens = 0 where rowid = 7")
    db.close()


def verdict_changed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("update verdicts set keep = 0")
    db.close()


def outcome_changed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("""update executions set outcome = '{"value": 8}'""")
    db.close()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "last page zeroed": lambda path: zero(path, path.stat().st_size - PAGE),
    "first page zeroed": lambda path: zero(path, 0),
    "header zeroed": lambda path: zero(path, 0, 16),
    "middle pages zeroed": lambda path: zero(path, path.stat().st_size // PAGE // 2 * PAGE, 4 * PAGE),
    "all of it zeroed": lambda path: zero(path, 0, path.stat().st_size),
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut within a page": lambda path: os.truncate(path, path.stat().st_size - 100),
    "cut to its first page": lambda path: os.truncate(path, PAGE),
    "cut to its header": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "text": lambda path: path.write_text("not a database\n" * 1000),
    "removed": lambda path: path.unlink(),
    "rows gone": rows_gone,
    "an answer changed": answer_changed,
    "tokens changed": tokens_changed,
    "a verdict changed": verdict_changed,
    "an outcome changed": outcome_changed,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_with_the_snapshot_and_the_commands_and_restored(run: Path, damage: str) -> None:
    path = run / "ledger.sqlite"
    DAMAGE[damage](path)
    with pytest.raises(SetupError) as caught:
        Ledger(path, resume_command=AGAIN)
    message = str(caught.value)
    command = f"-m synth_dspy.restore {shlex.quote(str(run))}"
    assert f"The ledger {path} is damaged" in message
    assert str(run / "ledger.snapshot.sqlite") in message
    assert "120 answers" in message
    assert f"{command}`" in message
    assert f"go on with `{AGAIN}`" in message

    restore.main(shlex.split(command)[2:])
    answers = read_all(path)
    assert answers.items() <= ANSWERS.items()  # nothing false
    assert len(answers) >= 120  # nothing lost that the snapshot had


def test_every_answer_outside_the_damaged_pages_is_restored(run: Path) -> None:
    path = run / "ledger.sqlite"
    pages = path.stat().st_size // PAGE
    zero(path, (pages - 1) * PAGE)
    zero(path, pages // 2 * PAGE)
    (run / "ledger.snapshot.sqlite").unlink()
    with pytest.raises(SetupError, match="has no good snapshot"):
        Ledger(path)
    restore.main([str(run)])
    with Ledger(path) as ledger:
        answers = {call.key: call for call in ledger.calls()}
    assert answers.items() <= ANSWERS.items()
    assert len(answers) >= 100
    assert (run / "ledger.damaged-1.sqlite").is_file()


def test_every_page_zeroed_in_turn_is_told_or_makes_no_difference(run: Path) -> None:
    path = run / "ledger.sqlite"
    whole = path.read_bytes()
    detected = 0
    for begin in range(0, len(whole), PAGE):
        path.write_bytes(whole[:begin] + bytes(PAGE) + whole[begin + PAGE :])
        try:
            answers = read_all(path)
        except SetupError:
            detected += 1
        else:
            assert answers == ANSWERS
    assert detected > len(whole) // PAGE // 2


def test_a_changed_byte_anywhere_is_told_or_makes_no_difference(run: Path) -> None:
    path = run / "ledger.sqlite"
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(120):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            answers = read_all(path)
        except SetupError:
            continue
        assert answers == ANSWERS


def test_damage_under_an_open_ledger_ends_all_reading_and_writing(run: Path) -> None:
    path = run / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number in range(1000, 1300):  # more than SQLite keeps in memory
            ledger.record(ModelCall(f"{number:064x}", '"' + "x" * 20_000 + '"', "m", "student"))
    with Ledger(path) as ledger:
        size = path.stat().st_size
        zero(path, 8 * PAGE, size - 8 * PAGE)
        keys = [*ANSWERS, *(f"{number:064x}" for number in range(1000, 1300))]
        with pytest.raises(SetupError, match="is damaged"):
            [ledger.lookup(key) for key in keys]
        for use in (
            lambda: ledger.record(answer(500)),
            lambda: ledger.lookup(keys[0]),
            lambda: ledger.snapshot(),
            ledger.verdicts,
        ):
            with pytest.raises(SetupError, match="is damaged"):
                use()
    with pytest.raises(SetupError, match="450 answers"):  # the damaged one did not take the good snapshot's place
        Ledger(path)


def test_a_snapshot_that_is_damaged_is_none(run: Path) -> None:
    zero(run / "ledger.snapshot.sqlite", PAGE)
    assert read_all(run / "ledger.sqlite") == ANSWERS
    zero(run / "ledger.sqlite", PAGE)
    with pytest.raises(SetupError, match="has no good snapshot"):
        Ledger(run / "ledger.sqlite")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (foreign, "not a ledger"),
        (later, "later version of synth_dspy: update synth_dspy"),
        (endless, "contains triggers"),
    ],
)
def test_a_file_that_is_something_else_is_left_alone(run: Path, change: Callable[[Path], None], says: str) -> None:
    path = run / "ledger.sqlite"
    change(path)
    content = path.read_bytes()
    with pytest.raises(SetupError, match=says):
        Ledger(path)
    with sqlite3.connect(path) as db:  # as SQLite may have changed how it journals
        assert db.execute("pragma user_version").fetchone() in ((0,), (1,), (99,))
    db.close()
    assert len(path.read_bytes()) == len(content)


def test_a_ledger_of_the_first_version_gets_checksums_and_keeps_its_answers(run: Path) -> None:
    path = run / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        for table in ("calls", "failures", "verdicts", "executions"):
            db.execute(f"alter table {table} drop column checksum")
        db.execute("pragma user_version = 0")
        db.execute("pragma application_id = 0")
    db.close()
    (run / "ledger.snapshot.sqlite").unlink()
    assert read_all(path) == ANSWERS
    tokens_changed(path)
    with pytest.raises(SetupError, match="does not match its checksum"):
        Ledger(path)


def test_a_log_of_pages_that_its_ledger_is_missing_from_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.record(answer(1))
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "ledger.sqlite-wal", copy)
    ledger.close()
    with pytest.raises(SetupError, match="is damaged"):
        Ledger(copy / "ledger.sqlite")
    assert (copy / "ledger.sqlite-wal").stat().st_size


def test_answers_that_a_lost_log_of_pages_held_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    for number in range(20):
        ledger.record(answer(number))
    ledger.snapshot()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("ledger.sqlite", "ledger.snapshot.sqlite"):  # but not the log, where all of it still is
        shutil.copy(tmp_path / name, copy)
    ledger.close()
    with pytest.raises(SetupError, match="it lacks 20 rows that its snapshot has"):
        Ledger(copy / "ledger.sqlite")
    restore.main([str(copy)])
    with Ledger(copy / "ledger.sqlite") as restored:
        assert {call.key: call for call in restored.calls()} == dict(list(ANSWERS.items())[:20])


WRITE_UNTIL_FULL = """
import pathlib, resource, sys
from synth_dspy.core.usage import ModelCall
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
written = 0
try:
    ledger = Ledger(pathlib.Path(sys.argv[1]))
    for written in range(10_000):
        ledger.record(ModelCall(f"{written:064x}", '"' + 'x' * 5000 + '"', "m", "student"))
except SetupError as error:
    print(written, error)
"""


@pytest.mark.parametrize("limit", [0, 100, 4096, 20_000, 300_000])
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "ledger.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_FULL, str(path), str(limit)], capture_output=True, text=True, check=False
    )
    written, _, error_text = done.stdout.partition(" ")
    assert "free some space" in error_text, done.stderr
    with Ledger(path) as ledger:
        assert [call.key for call in ledger.calls()] == [f"{number:064x}" for number in range(int(written))]


def test_whatever_stands_in_the_lock_the_run_is_open_elsewhere(run: Path) -> None:
    with Ledger(run / "ledger.sqlite"):
        (run / "ledger.sqlite.lock").write_bytes(b"\xff\xfe\0")
        with pytest.raises(SetupError, match="already open in process"):
            Ledger(run / "ledger.sqlite")


def test_restoring_says_what_is_wrong(tmp_path: Path, run: Path) -> None:
    with pytest.raises(SetupError, match=r"There is no ledger\.sqlite"):
        restore.main([str(tmp_path / "nowhere")])
    with Ledger(run / "ledger.sqlite"), pytest.raises(SetupError, match="already open"):
        restore.main([str(run)])
    (run / "ledger.snapshot.sqlite").unlink()
    zero(run / "ledger.sqlite", 0, 1 << 20)
    with pytest.raises(SetupError, match="Start a new run"):
        restore.main([str(run)])


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The ledger of a run that was killed before its first snapshot, with 20 answers in its log of pages."""
    path = tmp_path / "killed" / "ledger.sqlite"
    path.parent.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)], check=False)
    assert not list(path.parent.glob("*snapshot*"))
    return path


def flip_in_the_middle(log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)


def cut(log: Path) -> None:
    os.truncate(log, log.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_in_the_middle, cut, Path.unlink])
def test_answers_that_are_missing_before_the_first_snapshot_are_missed(
    killed: Path, damage: Callable[[Path], None]
) -> None:
    damage(killed.with_name("ledger.sqlite-wal"))
    with pytest.raises(SetupError, match=r"is damaged \(it lacks \d+ answers that had been written\)"):
        Ledger(killed)
    if damage is Path.unlink:
        return
    restore.main([str(killed.parent)])
    with Ledger(killed) as ledger:
        assert 0 < len(ledger.calls()) < 20
        ledger.record(answer(100))


def test_a_killed_run_lacks_nothing(killed: Path) -> None:
    for _ in range(2):
        with Ledger(killed) as ledger:
            assert {call.key: call for call in ledger.calls()} == dict(list(ANSWERS.items())[:20])


def test_answers_that_went_with_the_machine_are_warned_of(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut(killed.with_name("ledger.sqlite-wal"))
    count = killed.with_name("ledger.count")
    count.write_text(count.read_text().split()[0] + " another-start-of-the-machine\n")
    for warned in (True, False):
        caplog.clear()
        with Ledger(killed) as ledger:
            assert len(ledger.calls()) < 20
        assert ("lost when the machine went down" in caplog.text) == warned


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"-5 x\n", b"9" * 5000, "²".encode()])
def test_a_count_that_is_none_says_nothing(killed: Path, content: bytes) -> None:
    killed.with_name("ledger.count").write_bytes(content)
    with Ledger(killed) as ledger:
        assert len(ledger.calls()) == 20
