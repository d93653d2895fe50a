"""Encoders: networks that turn images, and some of them texts, into features.

A class of them is reached through conf/encoder/: a frozen dataclass whose fields are the settings
of its YAML file, besides `path`, where the weights lie. The CLIP and DINO of the models are read by
the same classes. No torch before `load`, because planning asks a class for its version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from PIL import Image

from charsweep.core.plugins import resolve
from charsweep.core.specs import EncoderSpec
from charsweep.evaluate.metrics import Features, Likeness
from charsweep.models.weights import Layout, Weights

OWN = {"clip": "OpenClip", "dino": "Timm"}  # the classes that read what comes with the models


class Encoder(Protocol):
    """A network with its weights and its published preprocessing."""

    @property
    def measure(self) -> Likeness | None:
        """How alike two images are; None: the cosine of their features."""

    def images(self, images: Sequence[Image.Image]) -> Features:
        """Features (N, D), of length 1 unless there is a `measure`."""


@runtime_checkable
class PromptEncoder(Encoder, Protocol):
    """An encoder of a kind that `reads_prompts`."""

    def texts(self, prompts: Sequence[str]) -> Features:
        """Features (P, D) of length 1."""


class EncoderKind(Protocol):
    """What a class of conf/encoder/ answers."""

    version: ClassVar[int]  # goes up when its numbers change; part of every key
    layout: ClassVar[Layout]  # how its weights lie in a folder or a repository
    reads_prompts: ClassVar[bool]

    def load(self, spec: EncoderSpec, weights: Weights) -> Encoder:
        """Read the weights, made or fetched first if they are not there. Raises `ModelsError`."""


def load_encoder(spec: EncoderSpec, weights: Weights) -> Encoder:
    """The network that a spec stands for."""
    kind: EncoderKind = spec.kind.made if spec.kind else resolve(OWN[spec.name])()
    return kind.load(spec, weights)
