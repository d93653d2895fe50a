"""The cartoon world: figures, their drawings and captions, and the pictures the package ships.

`python -m pretraining.world` writes the six drawings with captions and masks of UnicornGirl and of
ThunderBear, the true pictures of the eight exam prompts of each, and those of eight prompts that
name both; six drawings of Candyland and of StarKite, and the true pictures of the prompts that have
UnicornGirl in the one and with the other; byte for byte what is shipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from pretraining.land import CANDYLAND, CANDYLAND_NAME, Land, draw_in_land, draw_land
from pretraining.pair import Pair
from pretraining.thing import (
    STAR_KITE,
    STAR_KITE_NAME,
    Thing,
    draw_beside,
    draw_thing,
    draw_thing_mask,
)

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


def _in(place: str, **scene: Any) -> Figure:
    return replace(UNICORN_GIRL, place=place, **scene)


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


# How a land is drawn by its owner, and how a thing: in words, and what they change.
VIEWS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("", {}),
    ("at night", {"time": "night"}),
    ("from near", {"zoom": 1.6, "aside": 0.1}),
    ("from afar", {"zoom": 0.7}),
    ("in the evening", {"time": "evening", "aside": -0.15}),
    ("in the snow", {"time": "snow", "aside": 0.25}),
)
ANGLES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("on a white background", {}),
    ("tilted to one side on a white background", {"tilt": 25.0}),
    ("tilted to the other side on a white background", {"tilt": -25.0}),
    ("from afar on a white background", {"scale": 0.65}),
    ("on the beach", {"place": "beach", "scale": 0.85}),
    ("in a room", {"place": "room", "scale": 0.85, "tilt": 12.0}),
)

# What is asked of a base that knows UnicornGirl and a place, and her and a thing: where the prompt
# does not say, {other} is on the right.
IN_PLACE: tuple[tuple[str, Figure, Land], ...] = (
    ("{subject} standing in {other}", UNICORN_GIRL, CANDYLAND),
    (
        "{subject} jumping in {other} at night",
        replace(UNICORN_GIRL, legs="jumping"),
        replace(CANDYLAND, time="night"),
    ),
    ("{subject} sitting in {other}", replace(UNICORN_GIRL, legs="sitting"), CANDYLAND),
    (
        "{subject} with both arms raised in {other}",
        replace(UNICORN_GIRL, arms="both up"),
        CANDYLAND,
    ),
    (
        "{subject} walking in {other} with closed eyes",
        replace(UNICORN_GIRL, legs="walking", eyes="closed"),
        CANDYLAND,
    ),
    (
        "{subject} with the left arm raised in {other} at night",
        replace(UNICORN_GIRL, arms="left up"),
        replace(CANDYLAND, time="night"),
    ),
    (
        "{subject} jumping with both arms raised in {other} in the snow",
        replace(UNICORN_GIRL, legs="jumping", arms="both up"),
        replace(CANDYLAND, time="snow"),
    ),
    (
        "{subject} sitting with arms stretched out in {other} in the evening",
        replace(UNICORN_GIRL, legs="sitting", arms="out"),
        replace(CANDYLAND, time="evening"),
    ),
)
WITH_OBJECT: tuple[tuple[str, Figure, bool], ...] = (  # whether she is on the left
    ("{subject} on the left and {other} on the right on the beach", _in("beach"), True),
    ("{other} on the left and {subject} on the right in a forest", _in("forest"), False),
    ("{subject} with {other} at night", _in("night"), True),
    (
        "{subject} jumping on the left and {other} on the right in the snow",
        _in("snow", legs="jumping"),
        True,
    ),
    (
        "{other} on the left and {subject} sitting on the right in a room",
        _in("room", legs="sitting"),
        False,
    ),
    (
        "{subject} with both arms raised and {other} on a white background",
        _in("white", arms="both up"),
        True,
    ),
    (
        "{other} on the left and {subject} walking on the right in a city",
        _in("city", legs="walking"),
        False,
    ),
    (
        "{subject} with closed eyes on the left and {other} on the right in a forest",
        _in("forest", eyes="closed"),
        True,
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
    yield from land_files("candyland", CANDYLAND, CANDYLAND_NAME)
    yield from thing_files("star_kite", STAR_KITE, STAR_KITE_NAME)
    for number, (_, figure, land) in enumerate(IN_PLACE):
        yield f"place_exam/{number:02d}.png", draw_in_land(figure, land, SHIPPED_SIZE)
    for number, (_, figure, is_left) in enumerate(WITH_OBJECT):
        drawn = draw_beside(figure, STAR_KITE, is_left, SHIPPED_SIZE)
        yield f"object_exam/{number:02d}.png", drawn
    for name, asked in (("place", IN_PLACE), ("object", WITH_OBJECT)):
        yield f"{name}_exam/prompts.txt", "".join(f"a picture of {one[0]}\n" for one in asked)


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


def land_files(name: str, land: Land, identifier: str) -> Iterator[tuple[str, Image.Image | str]]:
    """NAME/01.png, 01.txt … of a land with nobody in it."""
    for number, (words, view) in enumerate(VIEWS, start=1):
        yield f"{name}/{number:02d}.png", draw_land(replace(land, **view), SHIPPED_SIZE)
        yield f"{name}/{number:02d}.txt", f"a picture of {identifier} {words}".rstrip() + "\n"


def thing_files(
    name: str, thing: Thing, identifier: str
) -> Iterator[tuple[str, Image.Image | str]]:
    """NAME/01.png, 01.txt, masks/01.png … of a thing."""
    for number, (words, angle) in enumerate(ANGLES, start=1):
        seen = replace(thing, **angle)
        yield f"{name}/{number:02d}.png", draw_thing(seen, SHIPPED_SIZE)
        yield f"{name}/{number:02d}.txt", f"a picture of {identifier} {words}\n"
        yield f"{name}/masks/{number:02d}.png", draw_thing_mask(seen, SHIPPED_SIZE)


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
