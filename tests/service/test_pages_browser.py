"""The pages in a browser on a small phone's screen, by keyboard alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from served import Serve, running

from synth_dspy.domains.documents.proposals import ProposedQuestions
from synth_dspy.loop.records import Transition
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import now
from synth_dspy.service.pages.label import label_app
from synth_dspy.service.settings import Limits, Traffic


def press(browser: WebDriver, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def with_control(browser: WebDriver, key: str) -> None:
    ActionChains(browser).key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()


def wait_for(browser: WebDriver, text: str) -> None:
    """Wait until a page says something; it must fit the screen."""
    script = "return document.readyState === 'complete' && document.body.innerText || ''"
    WebDriverWait(browser, 20, 0.02).until(lambda _: text in browser.execute_script(script))
    width = browser.execute_script("return window.innerWidth")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def focused(browser: WebDriver) -> str:
    return browser.switch_to.active_element.accessible_name


def tab_to(browser: WebDriver, name: str) -> None:
    for _ in range(40):
        if focused(browser) == name:
            return
        press(browser, Keys.TAB)
    raise AssertionError(f"no way to {name} by Tab")


def test_ask_compare_and_rate(registry: Registry, serve: Serve, phone: WebDriver) -> None:
    registry.challenge("v2", "person:ann", "")
    with serve(traffic=Traffic(share=0.0)) as service:
        phone.get(service.url)
        assert focused(phone) == "Question"
        press(phone, "Why?")
        with_control(phone, Keys.ENTER)
        wait_for(phone, "first: Why?")
        press(phone, "4")
        wait_for(phone, "Your score is kept.")
        press(phone, "u")
        wait_for(phone, "Your thumb is kept.")
        press(phone, "c")
        press(phone, "45, and no more")  # these keys are typed, and press nothing
        press(phone, Keys.TAB, Keys.ENTER)
        wait_for(phone, "Your comment is kept.")
        tab_to(phone, "The answer as it should be x")
        with_control(phone, "a")
        press(phone, "Because.")
        with_control(phone, Keys.ENTER)
        wait_for(phone, "Your corrected answer is kept.")
        press(phone, "a")
        wait_for(phone, "second: Why?")
        press(phone, "s")
        wait_for(phone, "Your choice is kept.")
        first, second = service.kept()
        assert [(each.kind, each.request, each.value) for each in service.feedback()] == [
            ("score", first.id, 4),
            ("thumb", first.id, True),
            ("comment", first.id, "45, and no more"),
            ("correction", first.id, "Because."),
            ("better", first.id, second.id),
        ]
        tab_to(phone, "Single keys")
        press(phone, Keys.ENTER, "q")
        wait_for(phone, "Which answer is better?")
        assert phone.execute_script("return localStorage.length") == 1
        phone.execute_script("localStorage.clear()")
        press(phone, "q")
        wait_for(phone, "Optional: document, conversation")
        assert [each for each in phone.get_log("browser") if each["level"] == "SEVERE"] == []


def test_label(tmp_path: Path, phone: WebDriver) -> None:
    path = tmp_path / "questions.proposed.jsonl"
    rows = [
        {
            "status": "proposed",
            "question": f"Question {n}?",
            "answer": "red",
            "document": "lease",
            "passage": "It is red.",
        }
        for n in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running(label_app(path, Limits()), Limits()) as url:
        phone.get(f"{url}/label")
        wait_for(phone, "Question 0?")
        seconds = []
        for number, key in enumerate("arasa"):
            began = time.perf_counter()
            press(phone, key)
            wait_for(phone, f"Question {number + 1}?")
            seconds.append(time.perf_counter() - began)
        print(f"seconds of a vote: {', '.join(f'{each:.2f}' for each in seconds)}")
        press(phone, "u")
        wait_for(phone, "You have decided on this one already: accepted.")
        press(phone, "r")
        wait_for(phone, "Question 5?")
        press(phone, "e")
        assert focused(phone) == "Question"
        with_control(phone, "a")
        press(phone, "Which colour is it?")
        with_control(phone, Keys.ENTER)
        wait_for(phone, "Question 6?")
        press(phone, "w", "Is it big?", Keys.TAB)
        with_control(phone, Keys.ENTER)
        wait_for(phone, "Accepted: “Is it big?”")
        wait_for(phone, "Question 6?")
    questions = ProposedQuestions.read(path)
    statuses = [
        "accepted",
        "rejected",
        "accepted",
        "proposed",
        "rejected",
        "edited",
        "proposed",
        "proposed",
        "accepted",
    ]
    assert [row["status"] for row in questions] == statuses
    assert (questions[5]["question"], questions[8]["question"]) == ("Which colour is it?", "Is it big?")


def test_approve(registry: Registry, serve: Serve, phone: WebDriver) -> None:
    for number, (before, after) in enumerate([("", "opened"), ("opened", "waiting")], start=1):
        registry.store.add(Transition("c1", before, after, now(), "loop", "v2 is better", {"challenger": "v2"}, number))
    with serve() as service:
        phone.get(f"{service.url}/loop")
        wait_for(phone, "Cycle c1 waits for you. v2 is better")
        tab_to(phone, "Your name")
        press(phone, "ann", Keys.TAB, "read 20 answers", Keys.TAB)
        assert focused(phone) == "Approve"
        press(phone, Keys.ENTER)
        wait_for(phone, "Approved: the challenger goes on.")
        last = registry.store.read(Transition, cycle="c1")[-1]
        assert (last.after, last.by, last.reason) == ("shadow", "person:ann", "read 20 answers")
