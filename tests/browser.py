"""A headless Chromium for tests of pages; they are skipped where there is none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

DESKTOP, PHONE = (1280, 900), (390, 844)


@contextlib.contextmanager
def open_browser(*, scripts: bool = True) -> Iterator[WebDriver]:
    """A browser without a window.

    Args:
        scripts: whether pages may run JavaScript.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(each)
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        browser.set_window_size(*DESKTOP)
        yield browser
    finally:
        browser.quit()


def picture(browser: WebDriver, path: Path, size: tuple[int, int] = DESKTOP) -> None:
    """Keep what a window of this size shows; on a phone the page must not be wider than the screen."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.save_screenshot(str(path))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= size[0], f"{width} pixels wide"


def text(browser: WebDriver) -> str:
    """What the page says."""
    with contextlib.suppress(WebDriverException):  # between two pages there is none
        return str(browser.execute_script("return document.querySelector('main').innerText"))
    return ""


def wait_for(browser: WebDriver, words: str) -> None:
    """Wait until the page says something."""
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: words in text(browser))
