"""A sweep's folder and store made of flat colours and sines, for tests of what reads them."""

from __future__ import annotations

import itertools
import json
import math
import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from matplotlib.figure import Figure
from PIL import Image

from charsweep.report import write_report
from charsweep.results import CellResult, Record, load_record

METRICS = [
    "score", "quality_ratio", "identity", "prompt", "dino", "clip_i", "clip_t", "diversity", "copy",
]  # fmt: skip
BASE = {
    "score": 0.1, "identity": 0.15, "prompt": 0.75, "dino": 0.55,
    "clip_i": 0.62, "clip_t": 0.30, "diversity": 0.3, "copy": 0.5,
}  # fmt: skip
PROMPTS = ["a picture of UnicornGirl jumping", "a picture of UnicornGirl <b>sitting</b> & waving"]
EVIL = "<script>alert(1)</script>"
# From a cell's score to those of its images: the standard error over the two prompts is .02. It is
# the same in every cell, so between cells, compared image by image, any difference is told.
SPREAD = ((-0.03, -0.01), (0.01, 0.03))


class FakeSweep:
    """A sweep's folder and store as the contract describes them, of flat colours and sines."""

    def __init__(
        self, root: Path, axes: dict[str, list[Any]], name: str = "fake", **sweep: Any
    ) -> None:
        self.folder, self.store = root / "sweeps" / name, root / "sweeps" / "store"
        self.folder.mkdir(parents=True)
        self.store.mkdir(exist_ok=True)
        self.axes = axes
        self.cells: list[dict[str, Any]] = []
        drawing = root / 'it\'s "quoted" <01>.png'
        Image.new("RGBA", (40, 60), (255, 0, 128, 128)).save(drawing)
        fixed = {"method": "dreambooth_lora", "lr": 1e-3, "train_steps": 40}
        fixed |= {"inference_steps": 50, "seed": 0}
        self.fixed = fixed
        self.sweep: dict[str, Any] = {
            "name": name,
            "question": "Which learning rate teaches the character best?",
            "command": "python -m charsweep +sweep=fake",
            "started": "2026-11-22T17:30:00+00:00",
            "finished": "2026-11-22T17:35:00+00:00",
            "axes": axes,
            "fixed": {name: value for name, value in fixed.items() if name not in axes},
            "settings": {"models": {"name": "embedded"}},
            "objectives": [{"metric": "score", "direction": "maximize"}],
            "metrics": METRICS,
            "character": {
                "name": "unicorn_girl",
                "identifier": "UnicornGirl",
                "class_noun": "girl",
                "images": [str(drawing), str(root / "gone.png")],
                "captions": [EVIL, "a picture that is gone"],
            },
            "exam": {"prompts": PROMPTS, "seeds": [0, 1]},
            "references": {
                "base": {
                    "sdxl": {
                        "scores": BASE,
                        "images": self.draw("base-sdxl--0/step-000000/exam", "gray"),
                    }
                },
                "truth": {
                    "scores": {"score": 0.95, "dino": 0.93, "clip_i": 0.92, "clip_t": 0.31},
                    "images": self.draw("truth--0/step-000000/exam", "gold", seeds=1),
                },
                "real": {"dino": 0.9, "clip_i": 0.91},
            },
            "plan": {
                "cells": len(list(itertools.product(*axes.values()))),
                "trajectories": 1,
                "steps_asked": 700,
                "steps_needed": 100,
                "images": 28,
                "seconds": 250.0,
                "bytes": 12345678,
            },
            "environment": {"charsweep": "0.1.0", "python": "3.11", "device": "cpu", "threads": 2},
            **sweep,
        }

    def draw(self, folder: str, colour: Any, seeds: int = 2) -> str:
        """An image set of one colour."""
        place = self.store / folder
        place.mkdir(parents=True, exist_ok=True)
        files = []
        for index in range(len(PROMPTS) * seeds):
            Image.new("RGB", (16, 16), colour).save(place / f"{index:03d}.png")
            files.append(
                {"file": f"{index:03d}.png", "prompt": index // seeds, "seed": index % seeds}
            )
        manifest = {"prompts": PROMPTS, "seeds": list(range(seeds)), "files": files}
        (place / "images.json").write_text(json.dumps(manifest))
        return folder

    def add(self, state: str = "finished", **values: Any) -> dict[str, Any]:
        """One more cell; `scores` among the values overrides its scores, by chance otherwise."""
        number = len(self.cells)
        given = values.pop("scores", {})
        point = {**self.fixed, **values}
        sharing = {k: v for k, v in point.items() if k not in ("train_steps", "inference_steps")}
        slug = "-".join(str(value) for value in sharing.values()).replace("/", "-")
        trajectory = f"trajectory-{slug}--0"
        chance = random.Random(number)
        scores: dict[str, Any] = {}
        if state == "finished":
            scores = {name: round(chance.uniform(0.2, 0.9), 6) for name in METRICS} | given
        known = {name: scores[name] for name in scores if scores[name] is not None}
        self.losses(trajectory, point["train_steps"], state == "diverged", number)
        folder = f"{trajectory}/step-{point['train_steps']:06d}/exam-{number}"
        colour = tuple(chance.randrange(256) for _ in range(3))
        cell = {
            "cell": f"{number:012x}",
            "state": state,
            "trial": number,
            "values": point,
            "base": "sdxl",
            "trajectory": trajectory,
            "step": point["train_steps"],
            "images": self.draw(folder, colour) if state == "finished" else None,
            "diverged_at": 23 if state == "diverged" else None,
            "error": f"out of memory {EVIL}" if state == "failed" else None,
            "scores": scores,
            "per_image": {name: image_scores(known[name]) for name in known if name != "diversity"},
            "gains": {name: known[name] - BASE[name] for name in known if name in BASE},
            "size_mb": 0.31,
            "train_seconds": 25.125,
            "paid_seconds": 12.5,
            "sample_seconds": 6.0,
            "seconds_per_step": 0.025,
            "peak_memory_mb": 900.0,
        }
        self.cells.append(cell)
        return cell

    def losses(self, trajectory: str, steps: int, diverged: bool, number: int) -> None:
        """A falling sine, or one that blows up at step 23."""
        folder = self.store / trajectory
        folder.mkdir(exist_ok=True)
        rows = ["step,loss,lr,grad_norm,seconds"]
        for step in range(1, (23 if diverged else steps) + 1):
            loss = 0.1 + 0.02 * math.sin(step + number) + 1 / (step + 5)
            if diverged:
                loss = math.nan if step == 23 else 0.1 * 1.6**step
            rows.append(f"{step},{loss},0.001,1.0,0.02")
        (folder / "loss.csv").write_text("\n".join(rows) + "\n")

    def write(self) -> None:
        """Write the sweep's files as they stand."""
        (self.folder / "sweep.json").write_text(json.dumps(self.sweep))
        lines_ = [json.dumps(cell, ensure_ascii=False) for cell in self.cells]
        (self.folder / "cells.jsonl").write_text("".join(line + "\n" for line in lines_), "utf-8")

    def record(self) -> Record:
        """Write the sweep's files and read them as the report does."""
        self.write()
        return load_record(self.folder, self.store)

    def report(self, pdf: bool = False, plots: bool = False) -> str:
        """Write the sweep's files and the report (PDF, and what is in its plots, only if asked:
        slow); return its HTML."""
        self.write()
        with (
            nullcontext() if pdf else without_pdf(),
            nullcontext() if plots or pdf else without_plots(),
        ):
            index = write_report(self.folder, self.store)
        assert index == self.folder / "report" / "index.html"
        return index.read_text(encoding="utf-8")


def image_scores(score: float) -> list[list[float]]:
    """Scores of a cell's images, by prompt and seed, whose mean is the cell's."""
    return [[score + one for one in seeds] for seeds in SPREAD]


def result(**known: Any) -> CellResult:
    """A cell's result of which only some fields matter."""
    nothing: dict[str, Any] = dict.fromkeys(CellResult.__dataclass_fields__)
    empty: dict[str, Any] = {
        name: {} for name in ("values", "gains", "per_image", "repeats", "made")
    }
    usual = {"state": "finished", "worst": "", "trainings": 1}
    return CellResult(**{**nothing, **usual, **empty, **known})


def without_pdf() -> AbstractContextManager[Any]:
    """An empty file where the PDF would be."""
    return patch("charsweep.report.write.write_pdf", lambda content, path: path.touch() or "")


def without_plots() -> AbstractContextManager[Any]:
    """Plots of which the files are there and empty."""

    def save(figure: Figure, file: Any, **_: Any) -> None:
        if isinstance(file, str):
            Path(file).touch()
        else:
            file.write("<svg><defs></defs></svg>")

    return patch.object(Figure, "savefig", save)


def scored(score: float, **more: float | None) -> dict[str, Any]:
    """Scores of a cell that shows all that it is asked for: its score is its identity."""
    same = {"score": score, "identity": score, "dino": score}
    return {**same, "prompt": 1.0, "clip_t": 0.3, "clip_i": 0.7, "quality_ratio": 0.5, **more}
