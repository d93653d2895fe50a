"""The parent run of a sweep that has ended: its tables, report and reference images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image

from charsweep.core.store.files import inside
from charsweep.core.system.images import opened
from charsweep.track.pictures import exam_rows, image_key, plain

TRAINING_IMAGE_SIDE = 512  # px; a training image may be a scan of any size
FILES = ("cells.csv", "votes.jsonl", "report/index.html", "report/report.pdf")
SHOWN = "charsweep.pictures"


def log_outcome(
    client: MlflowClient,
    experiment: str,
    parent: str,
    sweep: Mapping[str, Any],
    folder: Path,
    store: Path,
) -> str | None:
    """Log what there is to the parent run; returns the report's address within the UI."""
    for name in FILES:
        if (folder / name).exists():
            place = Path(name).parent.as_posix()
            client.log_artifact(parent, str(folder / name), None if place == "." else place)
    log_references(client, parent, sweep, store)
    if not (folder / "report" / "index.html").exists():
        return None
    return f"#/experiments/{experiment}/runs/{parent}/artifacts/report/index.html"


def log_references(
    client: MlflowClient, parent: str, sweep: Mapping[str, Any], store: Path
) -> None:
    """The training images, and the images of untaught bases and truth, unless they are there."""
    sets = references(sweep)
    drawings = (sweep.get("character") or {}).get("images") or []
    shown = hashlib.sha256(json.dumps([sets, drawings]).encode()).hexdigest()[:12]
    if client.get_run(parent).data.tags.get(SHOWN) == shown:
        return
    log_training_images(client, parent, drawings)
    for label, relative in sets.items():
        images = inside(store, relative)
        if (images / "images.json").exists():
            manifest = str(images / "images.json")
            client.log_artifact(parent, manifest, f"references/{plain(label)}")
            for key, row in exam_rows(images, label):
                log_image(client, parent, key, row)
    client.set_tag(parent, SHOWN, shown)


def log_training_images(client: MlflowClient, parent: str, drawings: Sequence[str]) -> None:
    for index, path in enumerate(map(Path, drawings)):
        if path.exists():
            with opened(path) as image:
                drawing = image.convert("RGB")
            drawing.thumbnail((TRAINING_IMAGE_SIDE, TRAINING_IMAGE_SIDE))
            log_image(client, parent, image_key("drawing", index), drawing)


def log_image(client: MlflowClient, run: str, key: str, picture: Image.Image) -> None:
    # Step 0: the image grid shows one step at a time, and cells differ in their steps.
    client.log_image(run, picture, key=key, step=0, synchronous=True)


def references(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Label -> image set below the store: of each untaught base, and of the truth; of several
    exams, those of each."""
    found = {}
    for one in sweep.get("exams") or [sweep]:
        known, of = one.get("references") or {}, f", {one['name']}" if one is not sweep else ""
        bases = {f"untaught {name}": base for name, base in (known.get("base") or {}).items()}
        for label, reference in {**bases, "truth": known.get("truth")}.items():
            if reference and reference.get("images"):
                found[f"{label}{of}"] = str(reference["images"])
    return found
