"""The other of two that are taught, and pictures of both: from a folder, or what they are composed
of.

The other is a character, an object or a place. Composed pictures put both side by side, or the
first in the place, cut out of their drawings by masks: those of the character's settings, else mask
files that lie beside the drawings, whether the loss heeds them or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from charsweep.character.captions import captions_in
from charsweep.character.folder import contents_of, drawings_in
from charsweep.character.load import Character, Pictures, checked
from charsweep.character.masks import ENDING, Masks, masks_of
from charsweep.core.errors import CharacterError
from charsweep.core.specs import PLACE, CharacterSpec
from charsweep.core.system.images import message_of
from charsweep.core.words import holds, replaced

SETTING = "company.joint_images"
WITHOUT = (
    f"give masks (NAME{ENDING}.png beside NAME.png, or transparency with masks: alpha), or "
    f"pictures of both, {SETTING}=FOLDER, or show both in none of the steps, company.joint_share=0"
)


@dataclass(frozen=True)
class JointImages(Pictures):
    """Pictures that show both, and a caption for each, which names both."""

    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Companion:
    """The other of two, and what pictures of both are, or are made of."""

    other: Character
    joint: JointImages | None = None
    cut: tuple[
        Masks, ...
    ] = ()  # of the first, and of the other that is no place; (): none are made


def joint_caption(left: str, right: str) -> str:
    """What a composed picture shows, by the identifiers."""
    return f"a picture of {left} on the left and {right} on the right on a white background"


def captions_of_both(first: str, other: CharacterSpec) -> tuple[str, ...]:
    """All captions that composed pictures of both may have."""
    if other.kind == PLACE:
        return tuple(caption_in_place(text, first, other.identifier) for text in other.captions)
    names = (first, other.identifier)
    return joint_caption(*names), joint_caption(*names[::-1])


def caption_in_place(caption: str, who: str, place: str) -> str:
    """What is shown where somebody is put on a drawing of a place: its caption with both in it."""
    if holds(caption, place):
        return replaced(caption, place, f"{who} in {place}")
    return f"a picture of {who} in {place}"


def load_joint_images(folder: Path, first: str, second: str, min_size: int = 32) -> JointImages:
    """The pictures of both in a folder, whose captions name both by their identifiers.

    Raises `CharacterError`.
    """
    contents, problems = drawings_in(folder, SETTING)
    paths = contents.drawings
    digests, thumbnails = checked(paths, min_size, problems)
    texts = {name: text for name, (text, _) in captions_in(contents, problems).texts.items()}
    for path in paths:
        if path.name not in texts:
            problems.append(
                f"{path.name}: has no caption: write {path.stem}.txt, which names {first} and "
                f"{second}"
            )
        elif lacking := [name for name in (first, second) if not holds(texts[path.name], name)]:
            problems.append(
                f"{path.name}: its caption lacks {' and '.join(lacking)}: write it in, or take the "
                "picture out, if it does not show both"
            )
    if problems:
        raise CharacterError(message_of(f"{SETTING}, folder {folder}", problems))
    return JointImages(paths, digests, thumbnails, tuple(texts[path.name] for path in paths))


def cut_masks(character: Character) -> Masks:
    """The masks by which a character is cut out. Raises `CharacterError`."""
    if character.masks is not None:
        return character.masks
    folder = character.paths[0].parent
    contents, problems = contents_of(folder), list[str]()
    where = f"character {character.spec.name}, folder {folder}"
    if not any(contents.masks[path] for path in character.paths):
        raise CharacterError(
            f"{where}: has no masks, and company=together cuts characters and objects out of "
            f"their drawings to show both in one picture: {WITHOUT}"
        )
    found = masks_of("file", character.paths, contents, problems)
    if problems:
        raise CharacterError(message_of(f"{where}, masks that company=together cuts by", problems))
    return found
