"""A character, loaded and checked: training images, captions, masks and content digests.

Everything is looked at before anything is said: one `CharacterError` lists every image, caption
and mask that cannot be used, so a folder is mended in one go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from charsweep.character.captions import captions_in
from charsweep.character.folder import drawings_in, left_out
from charsweep.character.framing import framed
from charsweep.character.lint import Thumbnail, thumbnail_of
from charsweep.character.masks import Masks, TrainingImage, masks_of, open_masked
from charsweep.core.errors import CharacterError
from charsweep.core.keys import digest_of, key_of
from charsweep.core.specs import CharacterSpec
from charsweep.core.system.images import (
    UnusableError,
    decoded,
    images_in,
    message_of,
    open_image,
    read_bytes,
)
from charsweep.core.words import holds


@dataclass(frozen=True)
class Pictures:
    """Images that nothing is taught from, in their order, and the digests of their contents."""

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    thumbnails: tuple[Thumbnail, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Found:
    """What the folder of the training images held, for a plan to say."""

    captions: Mapping[str, str]  # by the training images' names, of those with one of their own
    thumbnails: tuple[Thumbnail, ...]
    masks: int  # training images with a mask file, used or not
    left_out: tuple[str, ...]  # names of what is neither drawing, caption nor mask
    folder: str  # the folder with sd-scripts' repeats that they were read from, if they were


@dataclass(frozen=True)
class ClassImages(Pictures):
    """Images of the class, and a caption for each, for prior preservation."""

    captions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a trajectory knows them by: their contents and captions."""
        return key_of({"digests": self.digests, "captions": self.captions})


@dataclass(frozen=True)
class Character:
    """Files of the training images in their order, the spec with captions and words, masks."""

    paths: tuple[Path, ...]
    spec: CharacterSpec
    masks: Masks | None
    found: Found = field(compare=False)
    held_out: Pictures | None = None  # drawings of her that identity is measured against
    truth: Pictures | None = None  # the true picture of each exam prompt
    class_images: ClassImages | None = None  # None: the untaught base draws them


def load_character(
    name: str,
    folder: Path,
    identifier: str,
    class_noun: str,
    instance_prompt: str,
    class_prompt: str,
    masks: str | None = None,
    min_size: int = 32,
    held_out: int = 0,
) -> Character:
    """Find, decode and caption the training images in `folder`.

    The shorter side must have at least `min_size` pixels. An image without a caption gets the
    instance prompt. `masks` says where masks are read from: "file", NAME-mask.png beside NAME.png
    or as other trainers name it, or "alpha". The last `held_out` images are not trained on. The
    settings have checked that no word is empty and that the instance prompt has the identifier.
    Raises `CharacterError`.
    """
    problems = []
    if holds(class_prompt, identifier):  # which is what training ties to her
        problems.append(
            f'class_prompt "{class_prompt}" contains the identifier "{identifier}": name the '
            f'class only, for instance "a picture of {class_noun}"'
        )
    contents, missing = drawings_in(folder, "character.images")
    paths = contents.drawings
    if held_out and held_out >= len(paths) > 0:
        problems.append(
            f"held_out={held_out} leaves none of its {len(paths)} images to teach: hold out fewer"
        )
        held_out = 0
    taught = len(paths) - held_out
    digests, thumbnails = checked(paths, min_size, problems)
    captions = captions_in(contents, problems)
    texts = {name: text for name, (text, _) in captions.texts.items()}
    known = masks_of(masks, paths[:taught], contents, problems) if masks else None
    problems += missing
    if problems:
        raise CharacterError(message_of(f"character {name}, folder {folder}", problems))
    spec = CharacterSpec(
        name=name,
        digests=digests[:taught],
        captions=tuple(texts.get(path.name, instance_prompt) for path in paths[:taught]),
        identifier=identifier,
        class_noun=class_noun,
        instance_prompt=instance_prompt,
        class_prompt=class_prompt,
    )
    rest = Pictures(paths[taught:], digests[taught:], thumbnails[taught:])
    found = Found(
        captions={path.name: texts[path.name] for path in paths[:taught] if path.name in texts},
        thumbnails=thumbnails[:taught],
        masks=sum(bool(contents.masks[path]) for path in paths[:taught]),
        left_out=left_out(contents, captions.files),
        folder=contents.folder.name if contents.repeats else "",
    )
    return Character(paths[:taught], spec, known, found, rest if held_out else None)


def without_drawings(spec: CharacterSpec) -> Character:
    """A character of whom there are words alone."""
    return Character((), spec, None, Found({}, (), 0, (), ""))


def load_held_out(folder: Path, min_size: int = 32) -> Pictures:
    """The drawings in a folder that nothing is taught from. Raises `CharacterError`."""
    contents, problems = drawings_in(folder, "character.held_out")
    digests, thumbnails = checked(contents.drawings, min_size, problems)
    if problems:
        raise CharacterError(message_of(f"character.held_out, folder {folder}", problems))
    return Pictures(contents.drawings, digests, thumbnails)


def load_class_images(
    folder: Path, class_prompt: str, identifier: str, min_size: int = 32
) -> ClassImages:
    """The images of the class in a folder, with captions beside them or the class prompt.

    Raises `CharacterError`.
    """
    contents, problems = drawings_in(folder, "character.class_images")
    paths = contents.drawings
    digests, thumbnails = checked(paths, min_size, problems)
    texts = {name: text for name, (text, _) in captions_in(contents, problems).texts.items()}
    captions = tuple(texts.get(path.name, class_prompt) for path in paths)
    problems += [
        f"{path.name}: its caption holds the identifier {identifier}: say what class it is of"
        for path, caption in zip(paths, captions, strict=True)
        if holds(caption, identifier)
    ]
    if problems:
        raise CharacterError(message_of(f"character.class_images, folder {folder}", problems))
    return ClassImages(paths, digests, thumbnails, captions)


def load_truth(folder: Path, count: int) -> Pictures:
    """The true images `00.png`, `01.png`, …: exactly one per exam prompt.

    Raises `CharacterError`.
    """
    names = [f"{index:02d}.png" for index in range(count)]
    found = {path.name: path for path in images_in(folder)}
    problems = [f"{name} is missing: draw it" for name in names if name not in found]
    problems += [
        f"{name} belongs to none of the {count} exam prompts: rename it or move it away"
        for name in found
        if name not in names
    ]
    digests, _ = checked([found[name] for name in names if name in found], 1, problems)
    if problems:
        raise CharacterError(message_of(f"true pictures of the exam, folder {folder}", problems))
    return Pictures(tuple(found[name] for name in names), digests)


def open_training_images(character: Character, masked: bool) -> list[TrainingImage]:
    """The training images, with their masks if wanted (and if the character has them)."""
    if not masked or character.masks is None:
        return [TrainingImage(open_image(path), None) for path in character.paths]
    pairs = zip(character.paths, character.masks.paths, strict=True)
    return [open_masked(path, mask) for path, mask in pairs]


@lru_cache(maxsize=64)  # asked for every trajectory of a sweep, most of which look alike
def check_framed(character: Character, crop: str, resolution: int) -> None:
    """Raise `CharacterError` if the subject of a masked image lies outside what is shown of it."""
    problems = [
        f"{path.name}: nothing of its mask is within what framing={crop} shows at {resolution} "
        "pixels: use framing=buckets, or mend the mask"
        for path, image in zip(character.paths, open_training_images(character, True), strict=True)
        if image.mask is not None and framed(image.mask, crop, resolution).getbbox() is None
    ]
    if problems:
        raise CharacterError(message_of(f"masks of character {character.spec.name}", problems))


def checked(
    paths: Iterable[Path], min_size: int, problems: list[str]
) -> tuple[tuple[str, ...], tuple[Thumbnail, ...]]:
    """Content digests and small copies of files that decode and are large enough."""
    digests, thumbnails = [], []
    for path in paths:
        try:
            data = read_bytes(path)
            image = decoded(data)
            if min(image.size) < min_size:
                raise UnusableError(
                    f"{image.width} × {image.height} pixels is too small: at least {min_size} × "
                    f"{min_size} are needed, so draw or scan it larger"
                )
            digests.append(digest_of(data))
            thumbnails.append(thumbnail_of(path.name, image))
        except UnusableError as error:
            problems.append(f"{path.name}: {error}")
    return tuple(digests), tuple(thumbnails)
