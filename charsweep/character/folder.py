"""What a folder of drawings holds, by names alone: drawings, their masks, and what is neither.

Trainers put images of an image beside it, under its name and a word more: NAME-masklabel.png
(OneTrainer), NAME.mask.png beside NAME.src.png (cloneofsimo), masks/NAME.png (where sd-scripts and
ai-toolkit take a folder), NAME_depth.png (of a ControlNet). None of these is a drawing. A word in a
name says so only beside the image that it belongs to: gas-mask.png alone is a drawing.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from charsweep.core.errors import CharacterError
from charsweep.core.system.images import DRAWN_WORDS, FOREIGN_ENDINGS, images_in, natural_order
from charsweep.core.words import same

MASK = "mask"
MASK_WORDS = r"masks?(?:[-_. ]?label)?|alpha(?:[-_. ]?mask)?|matte|silhouette"
OTHER_WORDS = (
    r"depth(?:[-_. ]?map)?|canny|edges?|hed|mlsd|soft[-_. ]?edges?|scribble|sketch|lines?|"
    r"line[-_. ]?art|normals?(?:[-_. ]?(?:map|bae))?|(?:open|dw|dense)?[-_. ]?pose|skeleton|"
    r"key[-_. ]?points?|seg(?:mentation)?(?:[-_. ]?map)?|cond(?:[-_. ]?label|ition(?:ing)?)?"
    r"(?:[-_. ]?image)?|control(?:[-_. ]?net)?(?:[-_. ]?image)?|inpaint(?:ing)?|thumb(?:nail)?s?|"
    r"preview"
)
IMAGE_WORDS = r"src|source|img|image|photo|picture|orig(?:inal)?|rgb|colou?r"
BETWEEN = r"[-_. ]+"
REPEATED = re.compile(r"(\d+)_(.+)")  # a folder of sd-scripts': repeats, then the words
OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")
NAMED = 3  # files of one ending that are named; more are counted


@dataclass(frozen=True)
class Contents:
    """A folder's images by what they are, and everything else that lies there."""

    root: Path  # as given
    folder: Path  # where the drawings lie: the root, or sd-scripts' folder in it
    drawings: tuple[Path, ...]
    masks: Mapping[Path, tuple[Path, ...]]  # by drawing
    loose_masks: tuple[Path, ...]  # in a folder of masks, of no drawing
    aside: Mapping[Path, str]  # images of an image -> "the depth of 01.png"
    others: tuple[Path, ...]

    @property
    def repeats(self) -> int:
        """How often sd-scripts would show each drawing in an epoch; 0 where no folder says."""
        found = REPEATED.fullmatch(self.folder.name) if self.folder != self.root else None
        return int(found[1]) if found else 0


def contents_of(root: Path) -> Contents:
    """Sort what lies in a folder. Raises `CharacterError` where it cannot be listed."""
    folder = _folder_in(root)
    images = images_in(folder)
    sources = {path: _source(path, images) for path in images}
    owners = _owners(path for path in images if sources[path] is None)
    masks: dict[Path, list[Path]] = {}
    aside = {path: source for path, source in sources.items() if source is not None}
    for path in images:
        if path in aside:
            continue
        for words, kind in ((MASK_WORDS, MASK), (OTHER_WORDS, "")):
            core, word = parted(path.stem, words)
            own = [owner for owner in owners.get(core, ()) if owner != path]
            if own:
                aside[path] = f"the {kind or word} of {own[0].name}"
                for owner in own if kind else ():
                    masks.setdefault(owner, []).append(path)
    drawings = tuple(path for path in images if path not in aside)
    loose, others, seen = [], [], {folder, root, *images}
    for path in _listed(folder, root):
        if path in seen:
            continue
        inside = images_in(path) if path.parent == folder and _is_mask_folder(path) else []
        for mask in inside:
            own = owners.get(_key(mask.stem)) or owners.get(parted(mask.stem, MASK_WORDS)[0]) or []
            for owner in own:
                masks.setdefault(owner, []).append(mask)
            loose += [] if own else [mask]
        others += [] if inside else [path]
    return Contents(
        root=root,
        folder=folder,
        drawings=drawings,
        masks={path: tuple(masks.get(path, ())) for path in drawings},
        loose_masks=tuple(loose),
        aside=aside,
        others=tuple(others),
    )


def drawings_in(folder: Path, setting: str) -> tuple[Contents, list[str]]:
    """The contents, and what is wrong if there is no drawing among them."""
    contents = contents_of(folder)
    if contents.drawings:
        return contents, []
    inside = [path for path in contents.others if path.is_dir() and images_in(path)]
    if not inside:
        return contents, [f"it holds no {DRAWN_WORDS}: put one drawing or more right into it"]
    names = " and ".join(path.name for path in inside)
    word = shlex.quote(f"{setting}={inside[0]}")
    return contents, [f"its drawings are in {names}: give one folder, as in {word}"]


def left_out(contents: Contents, used: Iterable[Path]) -> tuple[str, ...]:
    """Names of what is neither drawing, mask nor caption, with the reason where a name says it."""
    masks = {mask for own in contents.masks.values() for mask in own}
    told = [
        f"{path.name} ({why})" if why else path.name
        for path, why in contents.aside.items()
        if path not in masks
    ]
    told += [f"{path.parent.name}/{path.name}" for path in contents.loose_masks]
    known = set(used)
    rest = [path for path in contents.others if path not in known]
    counts = Counter(path.suffix.lower() for path in rest)
    for ending, count in counts.items():
        alike = [path for path in rest if path.suffix.lower() == ending]
        if count > NAMED and ending:
            told.append(f"{count} files {ending}")
        else:
            told += [path.name + "/" * path.is_dir() for path in alike]
    return tuple(told)


def _folder_in(root: Path) -> Path:
    """The folder itself, or, where it holds no images, sd-scripts' one folder in it."""
    if images_in(root):
        return root
    repeated = [
        path
        for path in _sorted(root)
        if path.is_dir() and REPEATED.fullmatch(path.name) and images_in(path)
    ]
    return repeated[0] if len(repeated) == 1 else root


def _owners(images: Iterable[Path]) -> dict[str, list[Path]]:
    """By what images of an image may call it: 01, 01.png, and 01 for 01.src.png or image_01.png."""
    owners: dict[str, list[Path]] = {}
    for path in images:
        keys = dict.fromkeys((_key(path.stem), _key(path.name), parted(path.stem, IMAGE_WORDS)[0]))
        for key in filter(None, keys):
            owners.setdefault(key, []).append(path)
    return owners


def parted(stem: str, words: str) -> tuple[str, str]:
    """A name as what it belongs to and one of the words, before or after it; ("", "") without."""
    stem = _key(stem)
    found = re.fullmatch(rf"(.+?){BETWEEN}({words})(?:[-_. ]?\d{{1,2}})?", stem)
    if found:
        return found[1], found[2]
    found = re.fullmatch(rf"({words}){BETWEEN}(.+)", stem)
    return (found[2], found[1]) if found else ("", "")


def _source(path: Path, images: Sequence[Path]) -> str | None:
    """Of a file that a program drew in, beside the picture that it gave: what it is."""
    if path.suffix.lower() not in FOREIGN_ENDINGS:
        return None
    given = [p for p in images if _key(p.stem) == _key(path.stem) and p != path]
    read = [p for p in given if p.suffix.lower() not in FOREIGN_ENDINGS]
    return f"another file of {read[0].name}" if read else None


def _is_mask_folder(path: Path) -> bool:
    return path.is_dir() and path.name.casefold() in (MASK, MASK + "s")


def _listed(folder: Path, root: Path) -> Iterator[Path]:
    """What lies in the folder, and in the one above it where that was given."""
    for place in dict.fromkeys((folder, root)):
        for path in _sorted(place):
            if not path.name.startswith(".") and path.name.casefold() not in OF_THE_SYSTEM:
                yield path


def _sorted(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: natural_order(path.name))
    except OSError as error:
        raise CharacterError(
            f"{folder} cannot be read ({error.strerror}): check its permissions"
        ) from error


def _key(name: str) -> str:
    """A name as names are compared: é is one letter however it is written, in any case."""
    return same(name).casefold()
