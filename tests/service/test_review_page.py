"""The pages of a blind review: what they show, what they must not, and votes by form and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from finished_runs import make_run, row
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from served import Serve, running
from test_pages_browser import press, wait_for

from synth_dspy.cli import blind
from synth_dspy.evaluation.blind.review import Review
from synth_dspy.evaluation.blind.votes import Choice, read_votes
from synth_dspy.loop.comparison import CHALLENGER, CHAMPION
from synth_dspy.loop.gate import Pair
from synth_dspy.loop.judging import Judging, draw_pairs, read_judging
from synth_dspy.loop.records import Transition
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.status import JUDGING
from synth_dspy.loop.store import now
from synth_dspy.service.pages.review import results_path, review_app
from synth_dspy.service.settings import Limits

N = 12
KEY = "k" * 32


@pytest.fixture
def review(tmp_path: Path) -> Review:
    """Arms whose names are in no output."""
    passages = [{"id": "office_lease-3", "text": "The term is three <years>."}]
    rows = [
        row(arm, i, prediction=f"{said} {i}", judged=judged, passages=passages)
        for arm, said, judged in (("ragged_arm", "Two years", 0.2), ("tuned_arm", "Three <b>years</b>", 0.9))
        for i in range(N)
    ]
    run = make_run(tmp_path / "run-1", rows)
    blind.main(["sheets", str(run), "--out", str(tmp_path / "out"), "--items", str(N)])
    return Review(tmp_path / "out", raters=2, repeats=2)


@pytest.fixture
def place(review: Review) -> Iterator[str]:
    with running(review_app(review, (KEY,), Limits()), Limits()) as url:
        yield url


def visitor(place: str, name: str = "ann") -> httpx.Client:
    client = httpx.Client(base_url=place, headers={"Accept": "text/html"}, follow_redirects=True)
    form = {"token": field(client.get("/login").text, "token"), "name": name, "next": "/review"}
    assert client.post("/login", data=form).status_code == 200
    return client


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


def vote(client: httpx.Client, page: str, choice: str, comment: str = "", **more: str) -> str:
    form = {"token": field(page, "token"), "turn": field(page, "turn"), "choice": choice, "comment": comment} | more
    return client.post(f"/review/{number(page)}", data=form).text


def number(page: str) -> str:
    found = re.search(r'action="/review/(\d+)"', page)
    assert found is not None, page
    return found[1]


def test_a_page_shows_input_outputs_and_passages_and_nothing_that_tells_the_arms(review: Review, place: str) -> None:
    client = visitor(place)
    for _ in range(N + 2):
        response = client.get("/review/next")
        page = response.text
        for shown in (
            "Question ",
            "Two years ",
            "Three &lt;b&gt;years&lt;/b&gt; ",
            "The term is three &lt;years&gt;.",
            "right ",
        ):
            assert shown in page
        sent = page + str(response.headers) + str(response.url)
        for secret in (
            "arm",
            "item-0",
            "doc-0",
            "office_lease",
            "run-1",
            "0.9",
            "study",
            "key.json",
            str(review.folder),
        ):
            assert secret not in sent
        vote(client, page, "1")
    assert "nothing is left for you" in client.get("/review/next").text


def test_the_page_of_a_repeat_looks_like_any_other(review: Review, place: str) -> None:
    client = visitor(place)
    shapes = set()
    while 'name="turn"' in (page := client.get("/review/next").text):
        shapes.add(re.sub(r"\d+|[0-9a-f]{32,}", "", re.sub(r'value="[0-9a-f]+"', "", page)))
        vote(client, page, "1")
    shapes = {re.sub("Two years|Three &lt;b&gt;years&lt;/b&gt;", "", shape) for shape in shapes}
    assert len({shape for shape in shapes if "Back" in shape}) == 1
    assert sum(each.repeat for each in read_votes(review.folder / "votes.jsonl")) == 2


def test_ties_skips_comments_and_corrections(review: Review, place: str) -> None:
    client = visitor(place)
    page = vote(client, client.get("/review/next").text, "tie", "both are vague <i>")
    assert number(page) == "2"
    page = vote(client, page, "skip")
    back = client.get("/review/1").text
    assert "both are vague &lt;i&gt;" in back
    assert 'value="tie" accesskey="t" aria-pressed="true"' in back
    assert number(vote(client, back, "2", "the second has the figure")) == "3"
    choices = [vote.comment or vote.choice for vote in read_votes(review.folder / "votes.jsonl")]
    assert choices == ["both are vague <i>", "skip", "the second has the figure"]


def test_a_comment_alone_is_added_to_a_vote_and_asks_for_one_where_there_is_none(review: Review, place: str) -> None:
    client = visitor(place)
    page = client.get("/review/next").text
    refused = vote(client, page, "", "no idea yet")
    assert "Choose an output, or say that neither is better." in refused
    assert "no idea yet" in refused
    vote(client, page, "1")
    vote(client, client.get("/review/1").text, "", "added later")
    last = read_votes(review.folder / "votes.jsonl")[-1]
    assert last.comment == "added later"
    assert last.choice in (1, 2)


def test_a_form_of_another_rater_or_without_token_is_refused(review: Review, place: str) -> None:
    ann, bob = visitor(place), visitor(place, "bob")
    page = ann.get("/review/next").text
    bobs = bob.get("/review/next").text
    refused = bob.post("/review/1", data={"token": field(bobs, "token"), "turn": field(page, "turn"), "choice": "1"})
    assert refused.status_code == 409
    assert bob.post("/review/1", data={"turn": field(bobs, "turn"), "choice": "1"}).status_code == 403
    assert bob.post("/review/1", data={"token": field(bobs, "token"), "turn": "x", "choice": "9"}).status_code == 409
    assert not (review.folder / "votes.jsonl").exists()


def test_results_are_for_the_organiser_alone(review: Review, place: str) -> None:
    client = visitor(place)
    for path in ("/review/results", "/review/results?key=", "/review/results?key=%C3%A9"):
        assert client.get(path).status_code == 404
    assert "no vote yet" in client.get(results_path(review)).text
    for rater in ("ann", "bob"):
        client = visitor(place, rater)
        while 'name="turn"' in (page := client.get("/review/next").text):
            better = 1 + (page.index("Three &lt;b&gt;") > page.index("Two years"))
            vote(client, page, str(better), "has the term" if number(page) == "3" else "")
    page = client.get(results_path(review)).text
    for shown in (
        f"{N} of {N} items have the 2 votes",
        "tuned_arm is preferred to ragged_arm",
        "Of 4 items shown to a rater twice, 4 got the same choice again.",
        "Two raters agree on 100 % of the 12 items",
        "in the order of most raters&#39; choices in 100.0 % of 12 items",
        "With the judge&#39;s scores of all 12 items",
        "has the term",
    ):
        assert shown in page
    blind.main(["report", str(review.folder)])
    report = (review.folder / "blind.md").read_text()
    assert "has the term" in report
    assert "tuned\\_arm is preferred to ragged\\_arm" in report


def test_colleagues_need_the_key(review: Review, place: str) -> None:
    client = visitor(place)
    far = {"X-Forwarded-For": "203.0.113.9"}
    refused = client.get("/review/next", headers=far, follow_redirects=False)
    assert refused.headers["location"].startswith("/login")
    form = {"token": field(client.get("/login").text, "token"), "key": KEY, "name": "dan", "next": "/review"}
    assert "Begin" in client.post("/login", data=form, headers=far).text
    assert client.get("/review/next", headers=far).status_code == 200


def test_a_full_disk_loses_no_vote_in_silence(review: Review, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = visitor(place)
    page = client.get("/review/next").text

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert "send your vote again." in vote(client, page, "1")


def chosen(folder: Path) -> list[Choice]:
    """Every vote so far as the rater gave it: the position on the page, or the word."""
    return [
        vote.shown.index(vote.choice) + 1 if vote.shown and isinstance(vote.choice, int) else vote.choice
        for vote in read_votes(folder / "votes.jsonl")
    ]


def test_votes_by_keyboard_alone(review: Review, place: str, phone: WebDriver) -> None:
    def vote_with(key: str, then: str) -> None:
        press(phone, key)
        wait_for(phone, then)

    phone.get(place)
    vote_with("g", f"1 of {N + 2}")
    press(phone, "c")
    press(phone, "1 t s", Keys.ESCAPE)  # typed, not chosen
    for number, key in enumerate(("1", "2", "t", "s", "1"), start=2):
        vote_with(key, f"{number} of {N + 2}")
    vote_with("b", f"5 of {N + 2}")
    vote_with("2", f"6 of {N + 2}")
    assert chosen(review.folder) == [1, 2, "tie", "skip", 1, 2]
    assert read_votes(review.folder / "votes.jsonl")[0].comment == "1 t s"
    assert phone.get_log("browser") == []


VERDICTS: dict[str, Choice] = {
    "Only 1 is right 1": 1,
    "Only 2 is right 2": 2,
    "Both right r": "both",
    "Both wrong w": "neither",
    "Skip s": "skip",
}
"""What each button says, its key last, and what it stands for."""
WORDS = {CHAMPION: "Two years", CHALLENGER: "Three years"}


@pytest.fixture
def judging(tmp_path: Path, registry: Registry) -> Judging:
    """As many pairs of answers as there are verdicts, which a cycle waits for people to judge."""
    items = [f"item-{i:03d}" for i in range(len(VERDICTS))]
    answers = {
        arm: {item: row(arm, i, prediction=f"{text} {i}. " + "And so on. " * 40) for i, item in enumerate(items)}
        for arm, text in WORDS.items()
    }
    pairs = [Pair(0.5, 0.5, item, item=item) for item in items]
    drawn = draw_pairs(tmp_path / "c1", 1, pairs, answers, task="contract_qa", most=len(items), raters=1)  # type: ignore[arg-type]
    assert drawn is not None
    registry.store.add(Transition("c1", "", "compared", now(), "loop", "undecided", {JUDGING: str(drawn.folder)}))
    return drawn


@pytest.mark.parametrize("by", ["key", "button"])
def test_verdicts_on_the_answers_of_a_cycle(judging: Judging, serve: Serve, phone: WebDriver, by: str) -> None:
    right: dict[str, dict[str, float]] = {}
    with serve() as service:
        phone.get(f"{service.url}/review")
        wait_for(phone, "Say of each whether it is right")
        press(phone, "g")
        for number, (button, choice) in enumerate(VERDICTS.items(), start=1):
            wait_for(phone, f"{number} of {len(VERDICTS)}")
            shown = outputs(phone)
            press(phone, "t")  # a tie, which is no answer here
            phone.refresh()
            wait_for(phone, f"{number} of {len(VERDICTS)}")
            assert outputs(phone) == shown
            buttons = {each.accessible_name: each for each in phone.find_elements(By.NAME, "choice")}
            assert [*buttons] == [*VERDICTS]
            assert all(is_within_reach(each) for each in buttons.values())
            for secret in (CHAMPION, CHALLENGER, "v1", "v2", "first", "second", JUDGING):
                assert secret not in phone.page_source
            right[f"item-00{shown[0].split('.')[0][-1]}"] = {
                arm: float(choice == "both" or (isinstance(choice, int) and shown[choice - 1].startswith(text)))
                for arm, text in WORDS.items()
                if choice != "skip"
            }
            if by == "key":
                press(phone, button[-1])
            else:
                buttons[button].click()
        wait_for(phone, "nothing is left for you")
    assert chosen(judging.folder) == [*VERDICTS.values()]
    judged = read_judging(judging.folder.parent, 1)
    assert judged is not None
    assert {item: verdict.right for item, verdict in judged.verdicts.items()} == right
    assert phone.get_log("browser") == []


def test_zoomed_in_the_buttons_leave_room_for_the_outputs(judging: Judging, serve: Serve, zoomed: WebDriver) -> None:
    with serve() as service:
        zoomed.get(f"{service.url}/review")
        press(zoomed, "g")
        wait_for(zoomed, f"1 of {len(VERDICTS)}")
        zoomed.execute_script("document.querySelector('.columns').scrollIntoView({behavior: 'instant'})")
        top, screen = zoomed.execute_script(
            "return [document.querySelector('.votes').getBoundingClientRect().top, innerHeight]"
        )
        assert top > screen / 2  # room to read


def outputs(browser: WebDriver) -> list[str]:
    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, ".columns .text")]


def is_within_reach(button: WebElement) -> bool:
    """Whether a thumb hits a button without scrolling: 44 px each way, as WCAG's criterion 2.5.5 has it."""
    box = button.rect
    bottom = button.parent.execute_script("return window.scrollY + window.innerHeight")
    return min(box["width"], box["height"]) >= 44 and box["y"] + box["height"] <= bottom
