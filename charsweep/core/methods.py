"""The `Method` protocol: how a base, or nothing, comes to draw one character.

Reached through conf/method/. A method is a frozen dataclass whose fields are the settings of its
YAML file; it is one .py in `charsweep.train.methods` and one .yaml. Planning reads methods too, so
they import torch and diffusers only inside their functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from charsweep.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from charsweep.core.specs import (
        CharacterSpec,
        ImageSetSpec,
        Plugin,
        SnapshotSpec,
        TrajectorySpec,
    )
    from charsweep.evaluate.sample import LoadSlot, Paint
    from charsweep.models.adapter_file import LowRank
    from charsweep.models.families import Family
    from charsweep.models.pipeline import LoadedPipeline
    from charsweep.models.weights import BaseWeights
    from charsweep.train.methods import Materials, Trainable


class LossSettings(NamedTuple):
    """What the denoising loss is made with."""

    prior_weight: float = 0.0  # of the loss on class images; 0: none are seen
    min_snr_gamma: float | None = None
    noise_offset: float = 0.0


class CaptionChanges(NamedTuple):
    """What becomes of a training image's caption at a step, as sd-scripts has it.

    A caption is dropped, so that the base is taught without a prompt, or its tags, the parts
    between commas, are put into another order.
    """

    shuffle: bool = False  # the tags after the first ones
    kept: int = 0  # how many of these keep their place
    dropout_rate: float = 0.0  # how often there is none


def tags_of(caption: str) -> list[str]:
    """The parts of a caption between commas."""
    return [tag.strip() for tag in caption.split(",")]


class Held(NamedTuple):
    """How many numbers one trial of a method holds in float32 while it trains."""

    trained: int  # each has a gradient, and a state in the optimizer
    of_base: bool = False  # whether these are the base's own weights, or lie beside them
    mean: int = 0  # of a running mean of the weights
    aside: int = 0  # of a copy of weights to put back, in the machine's memory
    parts: tuple[str, ...] = ()  # of the base, beside its denoiser, that every pass goes through


class Loading(NamedTuple):
    """Python that draws with a snapshot's files: what a model card shows."""

    imports: Sequence[str]
    lines: Sequence[str]  # of a method with a base: these change `pipeline`, the untaught base
    prompt: str = ""  # as those who have loaded the files so write it


class Method(Protocol):
    """How the weights of a trajectory come to be, and what draws with them."""

    @property
    def version(self) -> int:
        """Goes up when the method's numbers change; part of every key."""

    @property
    def base(self) -> str | None:
        """Name of the base that it teaches, among the models; None: it starts from nothing.

        One with a base looks at the training images as `TrajectorySpec.framing` says; one without
        at their middle squares, in float32.
        """

    @property
    def prompted(self) -> bool:
        """Whether its images follow prompts."""

    @property
    def iterative(self) -> bool:
        """Whether it draws in inference steps, by a sampler."""

    @property
    def trains_base(self) -> bool:
        """Whether the base's own weights train: they are float32 whatever is multiplied."""

    @property
    def label(self) -> str:
        """What tells it from its like in the names of folders, as "r4"; "": nothing."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Words by which the hub finds what is taught so."""

    @property
    def unused(self) -> Collection[str]:
        """Names of settings that change nothing, as the others are."""

    @property
    def pack_key(self) -> tuple[object, ...] | None:
        """Trials with equal keys can share a forward pass; None: never packed.

        One with a key is a `PackedMethod`.
        """

    @property
    def low_rank(self) -> LowRank | None:
        """The low-rank adapter that its snapshots are; None: they are something else."""

    @property
    def loss(self) -> LossSettings:
        """The settings of its denoising loss; one without a denoiser leaves them unread."""

    @property
    def caption_changes(self) -> CaptionChanges:
        """What becomes of the training images' captions at a step."""

    @property
    def text_encoder_lr(self) -> float | None:
        """The learning rate of the text encoders' tensors; None: that of all others."""

    @property
    def identifier_tokens(self) -> int | None:
        """How many tokens stand for the identifier in prompts; None: what tokenizers make of it."""

    @property
    def prior_images(self) -> int:
        """How many images of the class it also learns from, drawn by the untaught base."""

    def settled(self, family: Family) -> Mapping[str, Any]:
        """Settings that were left open and that a base of this family decides, with their values.

        They are part of every key as if they had been typed.
        """

    def check(self, spec: TrajectorySpec, family: Family | None) -> None:
        """Raise ConfigError for a family of bases, a character or a size that it cannot teach."""

    def captions(self, character: CharacterSpec) -> tuple[str, ...]:
        """The prompt of each training image; () where none is read."""

    def taught(self, family: Family) -> tuple[str, ...]:
        """Names of the parts of the base that change."""

    def snapshot_bytes(self, spec: TrajectorySpec, base: BaseWeights | None) -> int:
        """What the files of a snapshot take: to the byte where only what is added is written, else
        about."""

    def held(self, resolution: int, base: BaseWeights | None) -> Held:
        """What a trial holds in memory while it trains."""

    def trainable(self, spec: TrajectorySpec, materials: Materials) -> Trainable:
        """Slots for as many trials as `spec.pack`, all with this trial's pack key."""

    def painter(
        self, images: ImageSetSpec, folder: Path, base: LoadedPipeline | None,
        device: torch.device,
    ) -> AbstractContextManager[Paint]:  # fmt: skip
        """What draws image sets like this one from its snapshot, which lies in `folder`, at its
        strength, which is not 0; a base is put back, bit for bit, afterwards."""

    def loading(self, spec: TrajectorySpec, prompt: str, place: str) -> Loading | None:
        """Python that draws `prompt` with the files of a snapshot; None: nobody else could.

        Called in the folder with the files; `place` is what that is called: ".", or its name on the
        hub. Whole pipelines need none.
        """

    def elsewhere(self, spec: TrajectorySpec) -> str:
        """How other programs take its files as they are, in Markdown; "": they do not."""


class PackedMethod(Method, Protocol):
    """A method whose trials train, and whose snapshots are drawn, several in one forward pass."""

    def adapter_slots(
        self, base: LoadedPipeline, width: int, folder_of: Callable[[SnapshotSpec], Path]
    ) -> AbstractContextManager[tuple[Paint, LoadSlot]]:
        """What draws `width` images, each of the image set in its own slot, until the block ends.

        The methods of those that will be loaded have the same pack key as this one.
        """


def base_precision(spec: TrajectorySpec) -> str:
    """How its base lies in memory while it is taught: weights that train are float32."""
    return "fp32" if method_of(spec.method).trains_base else spec.precision


def takes_strength(method: Method) -> bool:
    """Whether what it changes of a base's weights can be put on in part."""
    return method.low_rank is not None or method.trains_base


def method_of(plugin: Plugin) -> Method:
    """The method that a plug-in names; ConfigError for a class that is none."""
    made: Method = plugin.made
    lacks = [name for name in vars(Method) if not name.startswith("_") and not hasattr(made, name)]
    if lacks:
        raise ConfigError(
            f"method._target_={plugin.identity} is no method: it lacks {', '.join(lacks)}; see "
            "charsweep.core.methods.Method"
        )
    return made
