"""The story as one page of HTML, with its images inside it, to be read, printed or sent."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from charsweep.actions.story.choose_pictures import Candidate, Choice
from charsweep.core.store.files import write_text
from charsweep.core.system.images import opened
from charsweep.core.system.templates import fill

PICTURE, THUMBNAIL = 640, 128  # pixels; small pictures are enlarged, large ones reduced


@dataclass(frozen=True)
class Scene:
    """A scene as it is laid out: its image, and all candidates with theirs."""

    number: int
    caption: str
    prompt: str
    picture: Path
    choice: Choice
    others: tuple[tuple[Candidate, Path], ...]


@dataclass(frozen=True)
class Story:
    """What is laid out, and the words below it."""

    title: str
    identifier: str
    scenes: tuple[Scene, ...]
    drawn_by: str
    rule: str
    sweep: str
    has_report: bool


def write_page(story: Story, path: Path) -> None:
    """Fill template.html; every string is escaped there."""
    scenes = [_laid_out(scene) for scene in story.scenes]
    html = fill(Path(__file__).with_name("template.html"), {"story": story, "scenes": scenes})
    write_text(path, html + "\n")


def _laid_out(scene: Scene) -> dict[str, Any]:
    return {
        "scene": scene,
        "uri": data_uri(scaled(scene.picture, PICTURE)),
        "others": [
            {
                "candidate": candidate,
                "uri": data_uri(scaled(file, THUMBNAIL)),
                "is_chosen": candidate == scene.choice.chosen,
            }
            for candidate, file in scene.others
        ],
    }


def scaled(path: Path, side: int) -> Image.Image:
    """A square image at `side` × `side` pixels."""
    with opened(path) as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def data_uri(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, format="WEBP", quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")
