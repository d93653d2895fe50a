"""Captions of the cartoon world, in plain English.

Captions leave things out, change the order, and about a quarter give the figure an invented name
("a picture of Morlu, a girl with red hair, on the beach"), often with no looks at all ("a picture
of Tovali jumping in a forest"). So to a base trained on them an unknown word in the place of a name
says nothing about looks, and prompts made of a name, a position and a place are familiar: what
teaching an identifier needs.
"""

from __future__ import annotations

from random import Random

from pretraining.figure import Figure

PREFIXES = ("a picture of ", "a picture of ", "a picture of ", "a drawing of ", "a cartoon of ", "")
LEG_WORDS = {
    "standing": ("standing",),
    "sitting": ("sitting",),
    "jumping": ("jumping", "jumping", "jumping in the air"),
    "walking": ("walking",),
}
ARM_WORDS = {
    "down": ("", "", "", "", "with both arms down"),
    "left up": ("with the left arm raised", "raising the left arm", "lifting the left arm"),
    "right up": ("with the right arm raised", "raising the right arm", "lifting the right arm"),
    "both up": ("with both arms raised", "raising both arms", "lifting both arms"),
    "out": ("with arms stretched out", "stretching both arms out"),
    "hips": ("with hands on hips",),
}
EYE_WORDS = {
    "open": ("", "", "", "", "with open eyes"),
    "closed": ("with closed eyes", "with eyes closed"),
}
MOUTH_WORDS = {
    "smile": ("", "", "smiling"),
    "open": ("with an open mouth",),
    "sad": ("looking sad",),
}
PLACE_WORDS = {
    "white": ("on a white background",),
    "beach": ("on the beach", "at the beach"),
    "forest": ("in a forest", "in the forest"),
    "night": ("at night",),
    "city": ("in a city", "in the city"),
    "room": ("in a room",),
    "snow": ("in the snow",),
}
SYLLABLES = [c + v for c in "bcdfghjklmnprstvwxz" for v in "aeiouy"]
ENDINGS = ("", "", "n", "r", "l", "s", "x", "th", "lia", "bert", "mon")


def caption(figure: Figure, rng: Random, omit: float = 0.15, named: float = 0.25) -> str:
    """One caption; `omit` is the chance that a part is left out, `named` that of a name."""
    subject = subject_of(figure, rng, omit, named)
    scene = _scene(figure, rng, omit)
    if rng.random() < 0.08:
        return f"{scene[-1]}, {subject} {' '.join(scene[:-1])}".strip()
    return " ".join([rng.choice(PREFIXES) + subject, *scene])


def full_caption(figure: Figure) -> str:
    """The caption that leaves nothing out and is always the same; for measuring."""
    parts = [
        f"a picture of {described(figure)}",
        LEG_WORDS[figure.legs][0],
        ARM_WORDS[figure.arms][0],
        EYE_WORDS[figure.eyes][0],
        MOUTH_WORDS[figure.mouth][0],
        PLACE_WORDS[figure.place][0],
    ]
    return " ".join(part for part in parts if part)


def random_name(rng: Random) -> str:
    """An invented name of two to four syllables: Morlu, Zambi, Tovalilia."""
    name = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3))) + rng.choice(ENDINGS)
    return name.capitalize()


def subject_of(figure: Figure, rng: Random, omit: float, named: float) -> str:
    if rng.random() >= named:
        if rng.random() < omit:
            return _a(figure.species)
        return described(figure, rng, omit)
    name = random_name(rng)
    kind = rng.random()
    if kind < 0.5:
        return name
    if kind < 0.7:
        return f"{name} the {figure.species}"
    return f"{name}, {described(figure, rng, omit)},"


def _scene(figure: Figure, rng: Random, omit: float) -> list[str]:
    """Position, mood and place, in one of two orders; at least one part."""
    arms = rng.choice(ARM_WORDS[figure.arms])
    legs = rng.choice(LEG_WORDS[figure.legs])
    if figure.legs == "standing" and arms and rng.random() < 0.5:
        legs = ""
    place = rng.choice(PLACE_WORDS[figure.place])
    eyes, mouth = rng.choice(EYE_WORDS[figure.eyes]), rng.choice(MOUTH_WORDS[figure.mouth])
    if rng.random() < 0.6:
        parts = [legs, arms, eyes, mouth, place]
    else:
        parts = [legs, place, arms, eyes, mouth]
    kept = [part for part in parts if part and rng.random() >= omit]
    return kept or [place]


def described(figure: Figure, rng: Random | None = None, omit: float = 0.0) -> str:
    """ "a girl with long red and blue striped hair wearing a green dress with a yellow heart"."""

    def keep() -> bool:
        return rng is None or rng.random() >= omit

    words = [coated(figure) if keep() else _a(figure.species)]
    worn = []
    if keep():
        worn.append(clothes_of(figure) + (_emblem(figure) if keep() else ""))
    if figure.headgear != "none" and keep():
        worn.append(f"{_a(figure.headgear_colour)} {figure.headgear}")
    if figure.glasses and keep():
        worn.append("glasses")
    if rng is not None and rng.random() < 0.3:
        rng.shuffle(worn)
    if worn:
        verb = "in" if rng is not None and rng.random() < 0.3 else "wearing"
        words.append(f"{verb} {' and '.join(worn)}")
    return " ".join(words)


def coated(figure: Figure) -> str:
    """The species with its hair or fur."""
    if figure.hair:
        return (
            f"{_a(figure.species)} with {figure.hair} {_pattern(figure)}hair{_tips(figure, 'tips')}"
        )
    if figure.pattern in ("plain", "dipped"):
        return f"{_a(figure.colours[0])} {figure.species}{_tips(figure, 'top')}"
    return f"{_a(_pattern(figure))}{figure.species}"


def _pattern(figure: Figure) -> str:
    first, *rest = figure.colours
    if figure.pattern == "two-tone":
        return f"half {first} and half {rest[0]} "
    if figure.pattern == "striped":
        return f"{' '.join([first, *rest[:-1]])} and {rest[-1]} striped "
    return f"{first} "


def _tips(figure: Figure, what: str) -> str:
    if figure.pattern != "dipped":
        return ""
    return (
        f" with {figure.colours[1]} tips"
        if what == "tips"
        else f" with {_a(figure.colours[1])} top"
    )


def clothes_of(figure: Figure) -> str:
    if figure.clothes == "overalls":
        return f"{figure.clothes_colour} overalls"
    return f"{_a(figure.clothes_colour)} {figure.clothes}"


def _emblem(figure: Figure) -> str:
    if figure.emblem == "none":
        return ""
    if figure.emblem == "dots":
        return f" with {figure.emblem_colour} dots"
    sign = "letter A" if figure.emblem == "A" else figure.emblem
    return f" with {_a(figure.emblem_colour)} {sign}"


def _a(word: str) -> str:
    """The word with its article."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
