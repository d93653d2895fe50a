"""The UI of a root folder in a headless Chromium: pages waited for, and pictures taken of them.

    PYTHONPATH=tests python -m helpers.browser --root FOLDER --name SWEEP --screenshots FOLDER

needs Chromium and its driver (`apt-get install chromium chromium-driver`) and downloads nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PATIENCE = 240.0  # seconds for a page: a busy machine is no error
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
         "--force-color-profile=srgb", "--disable-background-networking")  # fmt: skip
CURVES = """
    const cards = [...document.querySelectorAll(
        "[data-testid='experiment-view-compare-runs-card']")];
    const card = cards.find(one => one.querySelector('h4')?.textContent === arguments[0]);
    return card ? card.querySelectorAll('path.js-line').length : 0;
"""
# Text of what is drawn by Plotly is SVG's, which `innerText` leaves out.
TEXT = "return document.body.innerText + ' ' + [...document.querySelectorAll('svg text')]" + (
    ".map(text => text.textContent).join(' ')"
)
# What covers a third of the page on a first visit.
UNASKED = ("assistant.chat_panel.close", "shared_view.dismiss")
LOADED = """
    const found = [...document.querySelectorAll('img')].filter(
        image => /get-artifact|blob:/.test(image.src));
    return found.map(image => image.complete ? image.naturalWidth : 0);
"""


@dataclass(frozen=True)
class Served:
    """A running `action=ui`: its process and the two addresses that it told."""

    process: subprocess.Popen[str]
    table: str
    charts: str

    @property
    def url(self) -> str:
        return self.table.partition("/#")[0]


def missing() -> str | None:
    """What a browser test lacks here; None if it has all."""
    lacking = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return f"no {' and no '.join(lacking)} here" if lacking else None


@contextlib.contextmanager
def served(root: Path, name: str) -> Iterator[Served]:
    """`python -m charsweep action=ui`, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "charsweep", "action=ui", f"root={root}", f"name={name}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        told = ""
        for line in process.stdout:
            told += line
            if "Ctrl-C" in line:
                break
        pages = re.findall(r"http://127\.0\.0\.1:\d+/#\S+", told)
        assert len(pages) == 2, f"action=ui did not tell the sweep's two pages:\n{told}"
        yield Served(process, *pages)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        process.stdout.close()


@contextlib.contextmanager
def chromium(
    width: int = 1500, height: int = 1000, downloads: Path | None = None
) -> Iterator[Chrome]:
    """A headless browser of that size, in pixels, that remembers what it has asked for."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    if downloads:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def requested(browser: Chrome) -> set[str]:
    """The addresses that pages have asked for since this was asked last."""
    messages = (json.loads(line["message"])["message"] for line in browser.get_log("performance"))
    return {
        str(one["params"]["request"]["url"])
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    }


def wait_for(browser: Chrome, what: str, condition: Callable[[Chrome], object]) -> None:
    """Until the condition holds; an error tells what was waited for and what the page says."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    patient = WebDriverWait(
        browser, PATIENCE, 0.2, ignored_exceptions=[StaleElementReferenceException]
    )
    try:
        patient.until(condition)
    except TimeoutException:
        raise AssertionError(f"{what}: not within {PATIENCE} s on {text(browser)!r}") from None


def text(browser: Chrome) -> str:
    """All that can be read on the page."""
    return str(browser.execute_script(TEXT))


def wait_for_text(browser: Chrome, *wanted: str) -> str:
    """All that can be read on the page once it says all this."""
    for one in wanted:
        wait_for(browser, one, lambda page, one=one: one in text(page))
    return text(browser)


def curves(browser: Chrome, chart: str) -> int:
    """How many lines are drawn in the chart of that title; 0 before it is there."""
    return int(browser.execute_script(CURVES, chart))


def image_widths(browser: Chrome) -> list[int]:
    """Of the pictures that come from MLflow's artifacts; 0 for one that did not load."""
    return [int(width) for width in browser.execute_script(LOADED)]


def click(browser: Chrome, button: str) -> None:
    """A button by the name that MLflow's UI gives it, such as `shared_view.dismiss`."""
    from selenium.webdriver.common.by import By

    for found in browser.find_elements(By.CSS_SELECTOR, f"[data-component-id$='{button}']"):
        found.click()


# -- pictures --------------------------------------------------------------------------------------


def take_screenshots(root: Path, name: str, folder: Path) -> list[Path]:
    """The cells of a sweep as a table, and its curves and pictures, as PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [folder / "mlflow_cells.png", folder / "mlflow_charts.png"]
    with served(root, name) as ui, chromium(1500, 1000) as browser:
        browser.get(ui.table)
        wait_for(browser, "the runs", lambda page: "matching runs" in text(page))
        for button in UNASKED:
            click(browser, button)
        click(browser, "metadata_editor.expand_button")  # the whole note
        take(browser, taken[0])
        browser.set_window_size(1500, 1500)
        browser.get(ui.charts)
        wait_for(browser, "the loss curves", lambda page: curves(page, "loss"))
        wait_for(browser, "the pictures", lambda page: any(image_widths(page)))
        for button in UNASKED:
            click(browser, button)
        take(browser, taken[1])
    return taken


def take(browser: Chrome, path: Path) -> None:
    # Without a mouse Plotly shows the tools that appear when one is over a chart.
    browser.execute_script("document.head.insertAdjacentHTML('beforeend', arguments[0])",
                           "<style>.modebar { display: none }</style>")  # fmt: skip
    time.sleep(2)  # panels slide and charts grow
    browser.save_screenshot(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--name", default="lr_grid")
    parser.add_argument("--screenshots", type=Path, required=True)
    given = parser.parse_args()
    for path in take_screenshots(given.root, given.name, given.screenshots):
        print(path)


if __name__ == "__main__":
    main()
