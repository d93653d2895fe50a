"""Which encoders a metric reads images and prompts with: fields of its class name them.

encoder: str = reads_images("dino")
prompt_encoder: str = reads_prompts("clip")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from charsweep.core.keys import CAME_LATER

OWN = ("clip", "dino")  # what comes with the models; all others are files of conf/encoder/
READS = "reads"


def reads_images(usual: str) -> Any:
    """A metric's field for the encoder of the images; in no key while it is the usual one."""
    return field(default=usual, metadata={**CAME_LATER, READS: "images"})


def reads_prompts(usual: str) -> Any:
    """The same for the one that reads the prompts, and the images beside them."""
    return field(default=usual, metadata={**CAME_LATER, READS: "prompts"})


def encoder_fields(metric: Any) -> Mapping[str, bool]:
    """The fields of a metric that name encoders, and whether prompts are read with them."""
    return {
        one.name: one.metadata[READS] == "prompts"
        for one in fields(metric)
        if READS in one.metadata
    }


def encoders_of(metric: Any) -> tuple[str, ...]:
    """What a metric reads images with; the models' own, where its class does not say."""
    named = [getattr(metric, name) for name in encoder_fields(metric)]
    return tuple(dict.fromkeys(named)) or OWN


def prompt_encoder_of(metric: Any) -> str:
    """What reads the prompts for a metric."""
    named = (getattr(metric, name) for name, reads in encoder_fields(metric).items() if reads)
    return next(named, "clip")
