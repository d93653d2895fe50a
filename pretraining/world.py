"""The cartoon world: figures, their drawings and captions, and the pictures the package ships.

`python -m pretraining.world` writes the six drawings with captions of UnicornGirl and of
ThunderBear, the true pictures of the eight exam prompts of each, and those of eight prompts that
name both, byte for byte what is shipped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from charsweep.models.embedded import FOLDER
from pretraining.captions import caption, full_caption
from pretraining.drawing import draw, draw_pair
from pretraining.figure import (
    HIS_IDENTIFIER,
    IDENTIFIER,
    THUNDER_BEAR,
    UNICORN_GIRL,
    Figure,
    random_character,
    random_figure,
    random_scene,
)
from pretraining.pair import Pair

__all__ = [
    "Figure",
    "THUNDER_BEAR",
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


# What is asked of a base that knows both. A name in braces is a character's in conf/character/; where
# no side is told, the true picture shows one of those that would be right.
TOGETHER: tuple[tuple[str, Pair], ...] = (
    (
        "{unicorn_girl} on the left and {thunder_bear} on the right on a white background",
        Pair(UNICORN_GIRL, THUNDER_BEAR),
    ),
    (
        "{thunder_bear} on the left and {unicorn_girl} on the right on the beach",
        Pair(replace(THUNDER_BEAR, place="beach"), UNICORN_GIRL),
    ),
    (
        "{unicorn_girl} and {thunder_bear} holding hands in a forest",
        Pair(replace(UNICORN_GIRL, place="forest"), THUNDER_BEAR, "holding hands"),
    ),
    (
        "{thunder_bear} on the left holding hands with {unicorn_girl} on the right at night",
        Pair(replace(THUNDER_BEAR, place="night"), UNICORN_GIRL, "holding hands"),
    ),
    (
        "{unicorn_girl} sitting on the left and {thunder_bear} standing on the right in a room",
        Pair(replace(UNICORN_GIRL, legs="sitting", place="room"), THUNDER_BEAR),
    ),
    (
        "{unicorn_girl} in front of {thunder_bear} in the snow",
        Pair(replace(UNICORN_GIRL, place="snow"), THUNDER_BEAR, "left in front"),
    ),
    (
        "{thunder_bear} jumping on the left and {unicorn_girl} with both arms raised on the right "
        "in a city",
        Pair(
            replace(THUNDER_BEAR, legs="jumping", place="city"),
            replace(UNICORN_GIRL, arms="both up"),
        ),
    ),
    (
        "{unicorn_girl} on the left and {thunder_bear} on the right the right one a head taller "
        "on the beach",
        Pair(replace(UNICORN_GIRL, place="beach"), THUNDER_BEAR, taller="right"),
    ),
)


def in_scene(who: Figure, scene: Figure) -> Figure:
    """`who` in the position, mood and place of `scene`."""
    return replace(
        who, legs=scene.legs, arms=scene.arms, eyes=scene.eyes, mouth=scene.mouth, place=scene.place
    )


def write_shipped(folder: Path = FOLDER) -> None:
    """Write the drawings of each character, its exam, and the exam of both, each in its folder."""
    for name, identifier, figure in (
        ("unicorn_girl", IDENTIFIER, UNICORN_GIRL),
        ("thunder_bear", HIS_IDENTIFIER, THUNDER_BEAR),
    ):
        write_character(figure, identifier, folder / name, folder / f"{name}_exam")
    exam = folder / "together_exam"
    exam.mkdir(parents=True, exist_ok=True)
    for number, (_, pair) in enumerate(TOGETHER):
        draw_pair(pair, SHIPPED_SIZE).save(exam / f"{number:02d}.png", optimize=True)
    prompts = [f"a picture of {words}\n" for words, _ in TOGETHER]
    (exam / "prompts.txt").write_text("".join(prompts), encoding="utf-8")


def write_character(figure: Figure, identifier: str, drawings: Path, exam: Path) -> None:
    """Write 01.png, 01.txt … of a character and 00.png … and prompts.txt of its exam."""
    drawings.mkdir(parents=True, exist_ok=True)
    exam.mkdir(parents=True, exist_ok=True)
    for number, (words, scene) in enumerate(DRAWINGS, start=1):
        drawn = draw(in_scene(figure, scene), SHIPPED_SIZE)
        drawn.save(drawings / f"{number:02d}.png", optimize=True)
        text = f"a picture of {identifier} {words}\n"
        (drawings / f"{number:02d}.txt").write_text(text, encoding="utf-8")
    for number, (_, scene) in enumerate(EXAM):
        drawn = draw(in_scene(figure, scene), SHIPPED_SIZE)
        drawn.save(exam / f"{number:02d}.png", optimize=True)
    prompts = [f"a picture of {{subject}} {words}\n" for words, _ in EXAM]
    (exam / "prompts.txt").write_text("".join(prompts), encoding="utf-8")


if __name__ == "__main__":
    write_shipped()
