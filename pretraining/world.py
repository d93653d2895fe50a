"""The cartoon world: figures, their drawings and captions, and the pictures the package ships.

`python -m pretraining.world` writes UnicornGirl's six drawings with captions and the true
pictures of the eight exam prompts, byte for byte what is shipped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from charsweep.models.embedded import UNICORN_GIRL as DRAWINGS_FOLDER
from charsweep.models.embedded import UNICORN_GIRL_EXAM as EXAM_FOLDER
from pretraining.captions import caption, full_caption
from pretraining.drawing import draw
from pretraining.figure import (
    IDENTIFIER,
    UNICORN_GIRL,
    Figure,
    random_character,
    random_figure,
    random_scene,
)

__all__ = [
    "Figure",
    "UNICORN_GIRL",
    "caption",
    "draw",
    "full_caption",
    "random_character",
    "random_figure",
    "random_scene",
]

SHIPPED_SIZE = 512

# What the character's owner has drawn: file number -> (caption, figure).
DRAWINGS: tuple[tuple[str, Figure], ...] = (
    ("standing on a white background", UNICORN_GIRL),
    ("with the right arm raised on a white background", replace(UNICORN_GIRL, arms="right up")),
    ("with arms stretched out on a white background", replace(UNICORN_GIRL, arms="out")),
    ("sitting on a white background", replace(UNICORN_GIRL, legs="sitting")),
    ("standing on the beach", replace(UNICORN_GIRL, place="beach")),
    ("standing in a room", replace(UNICORN_GIRL, place="room")),
)

# What is asked of a taught model: positions and places that the drawings do not show.
EXAM: tuple[tuple[str, Figure], ...] = (
    ("with the left arm raised on a white background", replace(UNICORN_GIRL, arms="left up")),
    ("with both arms raised at night", replace(UNICORN_GIRL, arms="both up", place="night")),
    (
        "standing with closed eyes in a forest",
        replace(UNICORN_GIRL, eyes="closed", place="forest"),
    ),
    ("jumping on a white background", replace(UNICORN_GIRL, legs="jumping")),
    (
        "jumping with both arms raised in the snow",
        replace(UNICORN_GIRL, legs="jumping", arms="both up", place="snow"),
    ),
    ("sitting on the beach", replace(UNICORN_GIRL, legs="sitting", place="beach")),
    (
        "sitting with the left arm raised in a room",
        replace(UNICORN_GIRL, legs="sitting", arms="left up", place="room"),
    ),
    (
        "walking in a city with closed eyes",
        replace(UNICORN_GIRL, legs="walking", place="city", eyes="closed"),
    ),
)


def write_shipped(drawings: Path = DRAWINGS_FOLDER, exam: Path = EXAM_FOLDER) -> None:
    """Write 01.png, 01.txt … of the character and 00.png … and prompts.txt of its exam."""
    drawings.mkdir(parents=True, exist_ok=True)
    exam.mkdir(parents=True, exist_ok=True)
    for number, (words, figure) in enumerate(DRAWINGS, start=1):
        draw(figure, SHIPPED_SIZE).save(drawings / f"{number:02d}.png", optimize=True)
        text = f"a picture of {IDENTIFIER} {words}\n"
        (drawings / f"{number:02d}.txt").write_text(text, encoding="utf-8")
    for number, (_, figure) in enumerate(EXAM):
        draw(figure, SHIPPED_SIZE).save(exam / f"{number:02d}.png", optimize=True)
    prompts = [f"a picture of {{subject}} {words}\n" for words, _ in EXAM]
    (exam / "prompts.txt").write_text("".join(prompts), encoding="utf-8")


if __name__ == "__main__":
    write_shipped()
