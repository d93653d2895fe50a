"""The characters that are taught: UnicornGirl, and six of other species and looks.

`write_character` writes one as folders that a person could use: six drawings with captions, and the
true pictures of the exam's eight prompts. Positions and places are UnicornGirl's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pretraining import world
from pretraining.figure import IDENTIFIER, UNICORN_GIRL
from pretraining.world import DRAWINGS, EXAM, Figure, in_scene

# What makes a character: seven traits, each with the fields of a Figure that it consists of.
Traits = Mapping[str, tuple[str, ...]]
TRAITS: Traits = {
    "species": ("species", "hair"),
    "colours": ("pattern", "colours"),
    "headgear": ("headgear", "headgear_colour", "glasses"),
    "clothes": ("clothes",),
    "clothes colour": ("clothes_colour",),
    "emblem": ("emblem",),
    "emblem colour": ("emblem_colour",),
}
PROMPTS = tuple(f"a picture of {{subject}} {words}" for words, _ in EXAM)


@dataclass(frozen=True)
class Character:
    """Who is taught. `kept` ones are looked at for the final figures alone: no rule or bar of
    charsweep's may be chosen with them in view."""

    name: str
    identifier: str
    figure: Figure
    kept: bool = False

    @property
    def class_noun(self) -> str:
        return self.figure.species

    @property
    def drawings(self) -> tuple[Figure, ...]:
        """The six training images."""
        return tuple(in_scene(self.figure, scene) for _, scene in DRAWINGS)

    @property
    def exam(self) -> tuple[Figure, ...]:
        """The true pictures of the eight prompts."""
        return tuple(in_scene(self.figure, scene) for _, scene in EXAM)

    def words(self, folder: Path) -> list[str]:
        """What names it on charsweep's command line; `folder` is where `write_character` wrote."""
        if self.figure == UNICORN_GIRL:
            return ["character=unicorn_girl"]
        return [
            "character=folder",
            f"character.name={self.name}",
            f"character.images={folder / self.name / 'drawings'}",
            f"character.identifier={self.identifier}",
            f"character.class_noun={self.class_noun}",
            f"character.truth={folder / self.name / 'exam'}",
        ]


CHARACTERS = (
    Character("unicorn_girl", IDENTIFIER, UNICORN_GIRL),
    Character(
        "bear",
        "Pomalo",
        Figure(
            species="bear",
            hair="",
            colours=("teal",),
            clothes="overalls",
            clothes_colour="orange",
            emblem="cross",
            emblem_colour="blue",
            headgear="cap",
            headgear_colour="red",
        ),
    ),
    Character(
        "cat",
        "Vintari",
        Figure(
            species="cat",
            hair="",
            pattern="striped",
            colours=("orange", "black"),
            clothes="coat",
            clothes_colour="blue",
            emblem="moon",
            emblem_colour="yellow",
            headgear="crown",
            headgear_colour="pink",
        ),
    ),
    Character(
        "robot",
        "Zobrix",
        Figure(
            species="robot",
            hair="",
            pattern="two-tone",
            colours=("grey", "pink"),
            clothes="shirt",
            clothes_colour="purple",
            emblem="A",
            emblem_colour="white",
            headgear="party hat",
            headgear_colour="green",
        ),
    ),
    Character(
        "boy",
        "Kestrimo",
        Figure(
            species="boy",
            hair="spiky",
            colours=("green",),
            clothes="shirt",
            clothes_colour="yellow",
            emblem="heart",
            emblem_colour="red",
            glasses=True,
        ),
    ),
    Character(
        "bunny",
        "Lupeka",
        Figure(
            species="bunny",
            hair="",
            pattern="dipped",
            colours=("pink", "purple"),
            clothes="dress",
            clothes_colour="green",
            emblem="flower",
            emblem_colour="yellow",
            headgear="bow",
            headgear_colour="blue",
        ),
        kept=True,
    ),
    Character(
        "frog",
        "Quillam",
        Figure(
            species="frog",
            hair="",
            colours=("purple",),
            clothes="coat",
            clothes_colour="white",
            emblem="diamond",
            emblem_colour="red",
            headgear="top hat",
            headgear_colour="orange",
        ),
        kept=True,
    ),
)


def with_traits(
    who: Figure, other: Figure, traits: Iterable[str], fields_of: Traits = TRAITS
) -> Figure:
    """`who` with these traits of another."""
    fields = [field for trait in traits for field in fields_of[trait]]
    return replace(who, **{field: getattr(other, field) for field in fields})


def write_character(character: Character, folder: Path) -> None:
    """Write drawings/01.png, 01.txt … and exam/00.png …, prompts.txt in the character's folder."""
    own = "drawings", character.figure, character.identifier, "exam"
    world.write(world.character_files(*own), folder / character.name)
