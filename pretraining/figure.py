"""Figures: who can be drawn in the cartoon world, and in which scenes.

A figure is a handful of independent choices (who, which hair, which clothes, legs, arms, eyes,
place); models that learn how the choices combine can be taught a new combination. *Left and right
are the figure's own*: she faces us, so her left arm is on the right-hand side of the picture.

UnicornGirl is a Figure like the others, but `random_figure` cannot make her: rainbow hair, the horn
and the star are outside its choices, and so is a girl in a purple dress. Nor can it make
ThunderBear: nobody else has goggles, a bolt or a scarf.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

Point = tuple[float, float]

COLOURS: dict[str, str] = {
    "red": "#d92b36",
    "orange": "#f28c28",
    "yellow": "#f5d547",
    "green": "#46a94e",
    "teal": "#35a79c",
    "blue": "#3b6fd9",
    "purple": "#8d4fc0",
    "pink": "#ef8fa8",
    "brown": "#80523c",
    "grey": "#96979b",
    "black": "#2f2f33",
    "white": "#ece9e2",
}
RAINBOW = ("#e4505f", "#f59b42", "#f7dd5b", "#5fbf6a", "#4f9be0", "#a56fd6")

SPECIES = ("girl", "boy", "bear", "cat", "bunny", "dog", "robot", "frog")
PATTERNS = ("plain", "striped", "two-tone", "dipped")
HAIR_STYLES = {"girl": ("long", "short", "pigtails"), "boy": ("short", "spiky")}
CLOTHES = ("dress", "shirt", "overalls", "coat")
EMBLEMS = ("none", "heart", "moon", "flower", "square", "circle", "diamond", "cross", "dots", "A")
HEADGEAR = (
    "none",
    "top hat",
    "crown",
    "bow",
    "party hat",
    "wizard hat",
    "cap",
    "flower",
    "feather",
    "pompom hat",
)
LEGS = ("standing", "sitting", "jumping", "walking")
ARMS = ("down", "left up", "right up", "both up", "out", "hips")
EYES = ("open", "closed")
MOUTHS = ("smile", "open", "sad")
PLACES = ("white", "beach", "forest", "night", "city", "room", "snow")

# What only the characters that ship have; no random figure draws it and no random caption says it.
HERS_ALONE = ("rainbow", "horn", "star")
HIS_ALONE = ("goggles", "bolt", "scarf")
IDENTIFIER, HIS_IDENTIFIER = "UnicornGirl", "ThunderBear"


@dataclass(frozen=True)
class Figure:
    """Who is drawn, in which position and where; `shift` and `scale` move the figure a little."""

    species: str = "girl"
    colours: tuple[str, ...] = ("brown",)  # of hair or fur, as many as the pattern needs
    pattern: str = "plain"
    hair: str = "long"  # "" for animals and robots
    clothes: str = "dress"
    clothes_colour: str = "red"
    emblem: str = "none"
    emblem_colour: str = "white"
    headgear: str = "none"
    headgear_colour: str = "red"
    glasses: bool = False
    scarf: str = "none"  # its colour
    legs: str = "standing"
    arms: str = "down"
    eyes: str = "open"
    mouth: str = "smile"
    place: str = "white"
    shift: Point = (0.0, 0.0)
    scale: float = 1.0


UNICORN_GIRL = Figure(
    colours=("rainbow",),
    pattern="rainbow",
    clothes_colour="purple",
    emblem="star",
    emblem_colour="yellow",
    headgear="horn",
    headgear_colour="yellow",
)

THUNDER_BEAR = Figure(
    species="bear",
    hair="",
    colours=("blue",),
    clothes="shirt",
    clothes_colour="yellow",
    emblem="bolt",
    emblem_colour="black",
    headgear="goggles",
    headgear_colour="brown",
    scarf="red",
)


# ----------------------------------------------------------------------------------- choosing


def random_character(rng: Random) -> Figure:
    """Everything that stays when a character moves: species, hair or fur, clothes, headgear."""
    species = rng.choices(SPECIES, weights=(5, 3, 2, 2, 2, 2, 2, 2))[0]
    pattern = rng.choices(PATTERNS, weights=(14, 3, 2, 1))[0]
    n_colours = {"plain": 1, "two-tone": 2, "dipped": 2, "striped": rng.choice((2, 2, 3))}[pattern]
    clothes = rng.choices(CLOTHES, weights=(5 if species == "girl" else 1, 3, 2, 2))[0]
    clothes_colour = rng.choice(
        [c for c in COLOURS if not (species == "girl" and clothes == "dress" and c == "purple")]
    )
    return Figure(
        species=species,
        colours=tuple(rng.sample(list(COLOURS), n_colours)),
        pattern=pattern,
        hair=rng.choice(HAIR_STYLES.get(species, ("",))),
        clothes=clothes,
        clothes_colour=clothes_colour,
        emblem="none" if rng.random() < 0.4 else rng.choice(EMBLEMS[1:]),
        emblem_colour=rng.choice([c for c in COLOURS if c != clothes_colour]),
        headgear="none" if rng.random() < 0.5 else rng.choice(HEADGEAR[1:]),
        headgear_colour=rng.choice(list(COLOURS)),
        glasses=rng.random() < 0.1,
    )


def random_scene(character: Figure, rng: Random) -> Figure:
    """The same character in a random position, mood and place, shifted and scaled a little."""
    return replace(
        character,
        legs=rng.choices(LEGS, weights=(5, 3, 3, 2))[0],
        arms=rng.choices(ARMS, weights=(3, 2, 2, 2, 2, 1))[0],
        eyes=rng.choices(EYES, weights=(3, 1))[0],
        mouth=rng.choices(MOUTHS, weights=(4, 1, 1))[0],
        place=rng.choices(PLACES, weights=(3, 2, 2, 2, 2, 2, 2))[0],
        shift=(rng.uniform(-0.03, 0.03), rng.uniform(-0.012, 0.012)),
        scale=rng.uniform(0.94, 1.02),
    )


def random_figure(rng: Random) -> Figure:
    """A random character in a random scene; never one that ships, nor what is theirs alone."""
    return random_scene(random_character(rng), rng)
