"""A sweep of 4,200 cells out of few stored images, and how fast its page is in a real browser.

    python tests/helpers/large_sweep.py --images FOLDER --root FOLDER [--measure]

`--images` is any folder with PNGs, such as a store; each is there once, under many names (hard
links). `--measure` serves the page and prints how long its first view takes and how long the
frames are while it scrolls.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.core.store.files import link_or_copy

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

AXES: dict[str, list[Any]] = {
    "method": ["dreambooth", "lora", "dreambooth_lora"],
    "lr": [1e-1, 1e-2, 1e-3, 1e-4, 5e-5, 1e-5, 1e-6],
    "train_steps": list(range(100, 2001, 100)),
    "inference_steps": list(range(10, 101, 10)),
}
PROMPTS, SEEDS = 2, 1
SCROLL = """
    const done = arguments[arguments.length - 1];
    const grid = document.querySelector('.grid');
    const frames = [];
    let last = performance.now(), left = arguments[0];
    const step = (now) => {
        frames.push(now - last);
        last = now;
        grid.scrollTop += arguments[1];
        left -= 1;
        if (left) requestAnimationFrame(step); else done(frames.slice(1));
    };
    requestAnimationFrame(step);
"""
READY = """
    const tiles = [...document.querySelectorAll('.tile img')];
    const box = document.querySelector('.grid')?.getBoundingClientRect();
    const seen = tiles.filter(one => {
        const at = one.getBoundingClientRect();
        return box && at.bottom > box.top && at.top < box.bottom && at.right > box.left
            && at.left < box.right;
    });
    return seen.length > 0 && seen.every(one => one.complete && one.naturalWidth) && seen.length;
"""


def write_sweep(root: Path, images: Path, axes: dict[str, list[Any]] = AXES) -> Path:
    """`sweeps/large` in that root, with its images; returns its folder."""
    files = sorted(images.rglob("*.png"))[:400]
    assert files, f"no PNG in {images}"
    folder, store = root / "sweeps" / "large", root / "sweeps" / "store"
    folder.mkdir(parents=True)
    chance = random.Random(0)
    prompts = [f"a picture of UnicornGirl, {number}" for number in range(PROMPTS)]
    manifest = json.dumps({
        "prompts": prompts, "seeds": list(range(SEEDS)),
        "files": [{"file": f"{at:03d}.png", "prompt": at // SEEDS, "seed": at % SEEDS}
                  for at in range(PROMPTS * SEEDS)],
    })  # fmt: skip
    lines = []
    for number, values in enumerate(itertools.product(*axes.values())):
        point = {**dict(zip(axes, values, strict=True)), "seed": 0}
        key = f"{number + 1:012x}"
        place = f"trajectory--{number // 10:012x}/step-{point['train_steps']:06d}/exam--{key}"
        (store / place).mkdir(parents=True)
        (store / place / "images.json").write_text(manifest)
        for at in range(PROMPTS * SEEDS):
            link_or_copy(chance.choice(files), store / place / f"{at:03d}.png")
        score = chance.random()
        known = {"score": score, "identity": score, "prompt": 1.0, "dino": score}
        lines.append(json.dumps({
            "cell": key, "state": "finished", "trial": number, "values": point, "base": "sdxl",
            "trajectory": place.partition("/")[0], "step": point["train_steps"], "images": place,
            "diverged_at": None, "error": None, "scores": known, "gains": known, "size_mb": 1.0,
            "train_seconds": 10.0, "paid_seconds": 10.0, "sample_seconds": 1.0,
            "seconds_per_step": 0.1, "peak_memory_mb": 900.0,
            "per_image": {name: [[value + at / 100] * SEEDS for at in range(PROMPTS)]
                          for name, value in known.items()},
        }) + "\n")  # fmt: skip
    (folder / "cells.jsonl").write_text("".join(lines))
    (folder / "sweep.json").write_text(json.dumps({
        "name": "large", "question": "How fast is the page?", "command": "", "axes": axes,
        "exam": {"prompts": prompts, "seeds": list(range(SEEDS))}, "plan": {"cells": len(lines)},
    }))  # fmt: skip
    return folder


@contextlib.contextmanager
def served(root: Path, name: str, *words: str) -> Iterator[str]:
    """`action=choose` until the block ends; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "charsweep", "action=choose", f"root={root}", f"name={name}",
         *words],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = ""
    try:
        for line in process.stdout:
            told += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"http://127\.0\.0\.1:\d+/", told)
        assert found, f"action=choose did not tell its address:\n{told}"
        yield found[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        process.stdout.close()


def first_view(browser: Chrome, url: str) -> tuple[float, int]:
    """Seconds until all images in view are there, from the request for the page; how many."""
    started = time.perf_counter()
    browser.get(url)
    while not (count := browser.execute_script(READY)):
        assert time.perf_counter() - started < 60, "no images in a minute"
        time.sleep(0.02)
    return time.perf_counter() - started, int(count)


def frames(browser: Chrome, count: int = 300, pixels: int = 90) -> list[float]:
    """Milliseconds of each frame while the grid scrolls by so many pixels a frame."""
    return [float(one) for one in browser.execute_async_script(SCROLL, count, pixels)]


def busy_seconds(browser: Chrome) -> float:
    """Of the page's main thread, on the CPU: what other programs take is not in it."""
    found = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")


def measure(root: Path) -> None:
    from helpers.browser import chromium

    with served(root, "large") as url, chromium(1200, 800) as browser:
        browser.set_script_timeout(120)
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        for visit in ("cold", "warm"):
            seconds, count = first_view(browser, url)
            print(f"first view, {visit}: {seconds:.2f} s, {count} images")
        for what in ("cold", "warm"):
            before = busy_seconds(browser)
            found = sorted(frames(browser))
            busy = 1000 * (busy_seconds(browser) - before) / len(found)
            at = [found[round(share * (len(found) - 1))] for share in (0.5, 0.95, 0.99, 1)]
            over = sum(one > 50 for one in found)
            print(f"scrolling, {what}: median {at[0]:.1f}, 95 % {at[1]:.1f}, 99 % {at[2]:.1f}, "
                  f"longest {at[3]:.1f} ms; {over} of {len(found)} frames over 50 ms; "
                  f"the page's own work {busy:.1f} ms of CPU a frame")  # fmt: skip
            browser.execute_script("document.querySelector('.grid').scrollTop = 0")
            time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    if given.images:
        started = time.perf_counter()
        folder = write_sweep(given.root, given.images)
        print(f"{folder}: {time.perf_counter() - started:.1f} s")
    if given.measure:
        measure(given.root)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
