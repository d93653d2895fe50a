"""The cartoon world: figures, their drawings and captions, and the pictures the package ships.

`python -m pretraining.world` writes the six drawings with captions and masks of UnicornGirl and of
ThunderBear, the true pictures of the eight exam prompts of each, and those of eight prompts that
name both, byte for byte what is shipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from charsweep.models.embedded import FOLDER
from pretraining.captions import caption, full_caption
from pretraining.drawing import draw, draw_mask, draw_pair
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


# What is asked of a base that knows both. A name in braces is a character's in conf/character/;
# where no side is told, the true picture shows one of those that would be right.
TOGETHER: tuple[tuple[str, Pair], ...] = (
    (
        "{unicorn_girl} walking on the left and {thunder_bear} on the right in a forest",
        Pair(replace(UNICORN_GIRL, legs="walking", place="forest"), THUNDER_BEAR),
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
        "{unicorn_girl} on the left and {thunder_bear} on the right the right one taller "
        "on the beach",
        Pair(replace(UNICORN_GIRL, place="beach"), THUNDER_BEAR, taller="right"),
    ),
)


def in_scene(who: Figure, scene: Figure) -> Figure:
    """`who` in the position, mood and place of `scene`."""
    return replace(
        who, legs=scene.legs, arms=scene.arms, eyes=scene.eyes, mouth=scene.mouth, place=scene.place
    )


def shipped() -> Iterator[tuple[str, Image.Image | str]]:
    """Every file by its path: drawings of each character with masks, its exam, the exam of both."""
    yield from character_files("unicorn_girl", UNICORN_GIRL, IDENTIFIER)
    yield from character_files("thunder_bear", THUNDER_BEAR, HIS_IDENTIFIER)
    for number, (_, pair) in enumerate(TOGETHER):
        yield f"together_exam/{number:02d}.png", draw_pair(pair, SHIPPED_SIZE)
    prompts = [f"a picture of {words}\n" for words, _ in TOGETHER]
    yield "together_exam/prompts.txt", "".join(prompts)


def character_files(
    name: str, figure: Figure, identifier: str, exam: str = ""
) -> Iterator[tuple[str, Image.Image | str]]:
    """NAME/01.png, 01.txt, masks/01.png … of a character, 00.png … and prompts.txt of its exam."""
    exam = exam or f"{name}_exam"
    for number, (words, scene) in enumerate(DRAWINGS, start=1):
        yield f"{name}/{number:02d}.png", draw(in_scene(figure, scene), SHIPPED_SIZE)
        yield f"{name}/{number:02d}.txt", f"a picture of {identifier} {words}\n"
        yield f"{name}/masks/{number:02d}.png", draw_mask(in_scene(figure, scene), SHIPPED_SIZE)
    for number, (_, scene) in enumerate(EXAM):
        yield f"{exam}/{number:02d}.png", draw(in_scene(figure, scene), SHIPPED_SIZE)
    prompts = [f"a picture of {{subject}} {words}\n" for words, _ in EXAM]
    yield f"{exam}/prompts.txt", "".join(prompts)


def write(files: Iterable[tuple[str, Image.Image | str]], folder: Path) -> None:
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            content.save(path, optimize=True)


if __name__ == "__main__":
    write(shipped(), FOLDER)
