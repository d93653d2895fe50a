"""The character: its training images, captions, masks, and how images are framed.

A folder of images goes in; checked images, their words and digests come out.
"""

from charsweep.character.companion import (
    Companion,
    JointImages,
    caption_in_place,
    captions_of_both,
    cut_masks,
    joint_caption,
    load_joint_images,
)
from charsweep.character.drawings import Drawings, drawings_of
from charsweep.character.framing import (
    UNIT,
    WHOLE,
    WIDE,
    framed,
    middle_of,
    middle_square,
    size_of,
    sizes_of,
    wide,
)
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
    "WHOLE",
    "WIDE",
    "Character",
    "ClassImages",
    "Companion",
    "Drawings",
    "JointImages",
    "Pictures",
    "TrainingImage",
    "caption_in_place",
    "captions_of_both",
    "check_framed",
    "cut_masks",
    "drawings_of",
    "framed",
    "joint_caption",
    "load_character",
    "load_class_images",
    "load_held_out",
    "load_joint_images",
    "load_truth",
    "mask_beside",
    "middle_of",
    "middle_square",
    "open_masked",
    "open_training_images",
    "size_of",
    "sizes_of",
    "wide",
    "without_drawings",
]
