"""See `served`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver
from served import Serve, serving_from, versions

from synth_dspy.loop.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return versions(tmp_path)


@pytest.fixture
def serve(registry: Registry) -> Serve:
    return serving_from(registry)


@pytest.fixture(scope="module")
def phone() -> Iterator[WebDriver]:
    """A browser with a window as wide as a small phone's."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, Service(shutil.which("chromedriver"))) as browser:
        set_screen(browser, 360, 740)
        yield browser


@pytest.fixture
def zoomed(phone: WebDriver) -> Iterator[WebDriver]:
    """The browser with what 400 % zoom leaves of a screen of 1280 by 1024 pixels (WCAG's criterion 1.4.10)."""
    set_screen(phone, 320, 256)
    yield phone
    set_screen(phone, 360, 740)


def set_screen(browser: WebDriver, width: int, height: int) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
