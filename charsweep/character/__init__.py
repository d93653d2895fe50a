"""The character: its training images, captions, masks, and how images are framed.

A folder of images goes in; checked images, their words and digests come out.
"""

from charsweep.character.drawings import Drawings, drawings_of
from charsweep.character.framing import UNIT, framed, middle_of, middle_square, size_of, sizes_of
from charsweep.character.load import (
    Character,
    ClassImages,
    Pictures,
    check_framed,
    load_character,
    load_class_images,
    load_held_out,
    load_truth,
    open_training_images,
    without_drawings,
)
from charsweep.character.masks import ALPHA, TrainingImage, mask_beside, open_masked

__all__ = [
    "ALPHA",
    "UNIT",
    "Character",
    "ClassImages",
    "Drawings",
    "Pictures",
    "TrainingImage",
    "check_framed",
    "drawings_of",
    "framed",
    "load_character",
    "load_class_images",
    "load_held_out",
    "load_truth",
    "mask_beside",
    "middle_of",
    "middle_square",
    "open_masked",
    "open_training_images",
    "size_of",
    "sizes_of",
    "without_drawings",
]
