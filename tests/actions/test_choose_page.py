"""The page of action=choose as people use it, in a real browser."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import browser as chromium
from helpers.fake_sweep import EVIL, PROMPTS, FakeSweep, scored
from helpers.large_sweep import served
from PIL import Image

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

RATES, STEPS = [1e-4, 1e-3, 1e-2, 1e-1], [20, 40, 80]
SEEN = (Path(__file__).parents[1] / "helpers" / "seen.js").read_text(encoding="utf-8")
KEYS = ["\ue012", "\ue014", "\ue014", "\ue015"]  # left, right, right, down
ESCAPE, ENTER, TAB, SPACE = "\ue00c", "\ue007", "\ue004", " "


@pytest.fixture
def sweep(tmp_path: Path) -> FakeSweep:
    """Eleven cells that were drawn, one that diverged."""
    fake = FakeSweep(tmp_path, {"lr": RATES, "train_steps": STEPS})
    for steps in STEPS:
        for number, rate in enumerate(RATES):
            bad = rate == RATES[-1] and steps == STEPS[-1]
            score = scored(0.3 + 0.1 * number + steps / 200)
            fake.add("diverged" if bad else "finished", lr=rate, train_steps=steps, scores=score)
    fake.write()
    return fake


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Chrome]:
    if lacking := chromium.missing():
        pytest.skip(lacking)
    with chromium.chromium(1200, 800, tmp_path) as page:
        yield page


def press(page: Chrome, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(page).send_keys(key).perform()


def js(page: Chrome, script: str) -> Any:
    return page.execute_script(f"return {script}")


def choose(page: Chrome, label: str, option: str) -> None:
    """An option of the select with that label."""
    from selenium.webdriver.support.ui import Select

    fields = page.find_elements("css selector", ".controls .field")
    (field,) = [one for one in fields if one.text.split("\n")[0] == label]
    Select(field.find_element("tag name", "select")).select_by_visible_text(option)


def count(page: Chrome) -> str:
    return str(js(page, "document.querySelector('.count').textContent"))


def size(page: Chrome, wide: int, high: int, scheme: str) -> None:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": wide, "height": high, "deviceScaleFactor": 1, "mobile": wide < 600,
    })  # fmt: skip
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def answered(sweep: FakeSweep) -> int:
    """Votes that count, in the file."""
    path = sweep.folder / "votes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    undone = {line["undo"] for line in lines if "undo" in line}
    return len({line["id"] for line in lines if "id" in line} - undone)


@pytest.mark.browser
def test_look_vote_and_choose(page: Chrome, sweep: FakeSweep, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        words = ("fake", f"choose.port={probe.getsockname()[1]}")
    with served(tmp_path, *words) as url:
        look(page, url, tmp_path)
        press(page, "v")
        vote(page, 20)
        chromium.wait_for(page, "20 votes", lambda _: answered(sweep) == 20)
    vote(page, 2)  # nobody answers now
    time.sleep(0.3)
    assert answered(sweep) == 20
    with served(tmp_path, *words):
        chromium.wait_for(page, "what was kept is sent", lambda _: answered(sweep) == 22)
        vote(page, 18)
        chromium.wait_for_text(page, "40 votes")
        assert answered(sweep) == 40
        press(page, "u")
        chromium.wait_for(page, "one is taken back", lambda _: answered(sweep) == 39)
        press(page, SPACE)  # skipped: no vote that tells anything
        chromium.wait_for_text(page, "39 votes")
        page.refresh()
        chromium.wait_for_text(page, "39 votes")
        accessible(page)
        foreign = {
            one for one in chromium.requested(page) if not one.startswith((url, "blob:", "data:"))
        }
        assert not foreign
        assert not [
            line for line in page.get_log("browser") if "Content Security" in line["message"]
        ]


def look(page: Chrome, url: str, downloads: Path) -> None:
    """By keys alone: into the grid, to an image, larger, filtered, saved."""
    page.get(url)
    chromium.wait_for(
        page, "tiles", lambda p: len(p.find_elements("css selector", ".tile img")) == 11
    )
    said = chromium.wait_for_text(page, "is recommended", "diverged", "12 images", "1e-4", "80")
    assert "0.90" in said  # the best one's score, below it
    assert js(page, "document.querySelector('.tile.best').getAttribute('aria-label')") == (
        f"learning rate 1e-2, training steps 80, {PROMPTS[0]}, exam seed 0, score 0.90"
    )
    for _ in range(25):
        press(page, TAB)
        if js(page, "document.activeElement.getAttribute('role')") == "gridcell":
            break
    else:
        raise AssertionError("no key leads into the grid")
    press(page, "\ue014", "\ue015", ENTER)
    said = chromium.wait_for_text(page, "Learning rate 1e-3 · 40 training steps", "true picture")
    assert "of 11 settings by score" in said
    press(page, "\ue014")
    chromium.wait_for_text(page, "Learning rate 1e-2 · 40 training steps")
    press(page, ESCAPE)
    focused = "document.activeElement.getAttribute('aria-label')"
    chromium.wait_for(page, "the image has the focus", lambda p: "1e-2" in str(js(p, focused)))
    wide = "document.querySelector('.tile').offsetWidth"
    before = js(page, wide)
    press(page, "+")
    assert js(page, wide) > before
    choose(page, "prompt", "… <b>sitting</b> & waving")  # text, whatever it says
    assert js(page, "document.querySelectorAll('.grid b').length") == 3  # labels of rows
    choose(page, "rows", "exam seed")
    choose(page, "training steps", "80")
    assert count(page) == "8 images"
    choose(page, "show", "the best")
    chromium.wait_for(page, "fewer images", lambda p: count(p) == "2 images")
    choose(page, "show", "all cells")
    page.find_element("xpath", "//button[text()='Save as PNG']").click()
    saved = downloads / "fake-grid.png"
    chromium.wait_for(page, "the grid as a PNG", lambda _: saved.exists())
    with Image.open(saved) as image:
        assert image.format == "PNG"
        assert image.width > 4 * 192


def vote(page: Chrome, times: int) -> None:
    """Votes by keys, each on a pair that is there."""
    for number in range(times):
        chromium.wait_for(
            page, "a pair", lambda p: p.find_elements("css selector", ".vote[data-ready]")
        )
        press(page, KEYS[number % len(KEYS)])
    assert js(page, "document.querySelector('.drawings img').alt") == EVIL
    assert "lr" not in str(js(page, "document.querySelector('.pair').textContent"))  # unseen


def accessible(page: Chrome) -> None:
    """Every view, on a laptop and a phone, in the light and in the dark."""
    for wide, high, scheme in ((1200, 800, "light"), (390, 844, "dark"), (390, 844, "light"),
                               (1200, 800, "dark")):  # fmt: skip
        size(page, wide, high, scheme)
        for view in ("look", "vote", "progress"):
            page.execute_script(f"location.hash = '{view}'")
            chromium.wait_for(
                page, view, lambda p, view=view: p.find_elements("css selector", f"section.{view}")
            )
            time.sleep(0.4)
            assert page.execute_script(SEEN) == [], (view, wide, scheme)
        page.execute_script("location.hash = 'look'")
        chromium.wait_for(page, "tiles", lambda p: p.find_elements("css selector", ".tile img"))
        page.execute_script("document.querySelector('.tile').click()")
        chromium.wait_for_text(page, "Take this one")
        assert page.execute_script(SEEN) == [], ("one image", wide, scheme)
        press(page, ESCAPE)
