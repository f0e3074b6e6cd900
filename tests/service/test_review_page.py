"""The pages of a blind review: what they show, what they must not, and votes by form and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from finished_runs import make_run, row
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from served import running

from synth_dspy.cli import blind
from synth_dspy.evaluation.blind.review import Review
from synth_dspy.evaluation.blind.votes import read_votes
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


def test_votes_by_keyboard_alone(review: Review, place: str, phone: WebDriver) -> None:
    def press(key: str, then: str) -> None:
        ActionChains(phone).send_keys(key).perform()
        wait_for(phone, then)

    phone.get(place)
    press("g", f"1 of {N + 2}")
    ActionChains(phone).send_keys("c").perform()
    ActionChains(phone).send_keys("1 t s", Keys.ESCAPE).perform()  # typed, not chosen
    for number, key in enumerate(("1", "2", "t", "s", "1"), start=2):
        press(key, f"{number} of {N + 2}")
    press("b", f"5 of {N + 2}")
    press("2", f"6 of {N + 2}")
    votes = read_votes(review.folder / "votes.jsonl")
    assert [vote.shown.index(vote.choice) + 1 if vote.shown and isinstance(vote.choice, int) else vote.choice
            for vote in votes] == [1, 2, "tie", "skip", 1, 2]  # fmt: skip
    assert votes[0].comment == "1 t s"
    assert phone.get_log("browser") == []


def wait_for(browser: WebDriver, words: str) -> None:
    """Wait until the page says something; it must fit the screen."""
    script = "return document.readyState === 'complete' && document.body.innerText || ''"
    WebDriverWait(browser, 20, 0.02).until(lambda _: words in browser.execute_script(script))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
