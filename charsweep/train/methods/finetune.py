"""Fine-tuning of a pretrained base: what of it trains, on which prompts, against which loss.

DreamBooth, LoRA and DreamBooth + LoRA are this one class: they differ in what trains and on which
prompts (Ruiz et al. 2022, arXiv 2208.12242; Hu et al. 2021, arXiv 2106.09685).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ConfigError
from charsweep.core.keys import CAME_LATER
from charsweep.core.methods import (
    CaptionChanges,
    Held,
    Loading,
    LossSettings,
    method_of,
    tags_of,
)
from charsweep.core.specs import CharacterSpec, ImageSetSpec, SnapshotSpec, TrajectorySpec
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED, LowRank

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from charsweep.core.methods import PackedMethod
    from charsweep.evaluate.sample import LoadSlot, Paint
    from charsweep.models.architectures import Shapes
    from charsweep.models.families import Family
    from charsweep.models.pipeline import LoadedPipeline
    from charsweep.models.weights import BaseWeights
    from charsweep.train.methods import Materials
    from charsweep.train.methods.denoising import DenoisingTrainable

PRIOR = ("prior_weight", "class_images")  # settings of prior preservation
LOAD_FACTORED = """\
tensors = load_file("adapter.safetensors")
for name, settings in json.loads(Path("adapter_config.json").read_text()).items():
    module = getattr(pipeline, name)
    module.add_adapter(PeftConfig.from_peft_type(**settings))
    own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
    set_peft_model_state_dict(module, own)"""
FACTORED_IMPORTS = (
    "import json",
    "from pathlib import Path",
    "from peft import PeftConfig, set_peft_model_state_dict",
    "from safetensors.torch import load_file",
)


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class FineTune:
    """What of the base trains, on which prompts, against which loss."""

    version: ClassVar[int] = 2
    prompted: ClassVar[bool] = True
    iterative: ClassVar[bool] = True
    identifier_tokens: ClassVar[None] = None

    base: str
    trains: Literal["weights", "adapters"]
    prompts: Literal["instance", "captions"]
    text_encoder: bool = False
    adapter: Literal["lora", "dora", "loha", "lokr"] | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    prior_weight: Annotated[float, Field(ge=0)] = 0.0
    class_images: Annotated[int, Field(ge=1, le=10_000)] = 32
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    noise_offset: Annotated[float, Field(ge=0)] = 0.0
    text_encoder_lr: Annotated[float, Field(gt=0, le=100)] | None = field(
        default=None, metadata=CAME_LATER
    )
    shuffle_caption: bool = field(default=False, metadata=CAME_LATER)
    keep_tokens: Annotated[int, Field(ge=0)] = field(default=0, metadata=CAME_LATER)
    caption_dropout_rate: Annotated[float, Field(ge=0, lt=1)] = field(
        default=0.0, metadata=CAME_LATER
    )

    def __post_init__(self) -> None:
        whole = (self.adapter, self.rank, self.alpha)
        if self.trains == "adapters" and None in whole:
            raise ValueError("trains=adapters needs adapter, rank and alpha")
        if self.trains == "weights" and (*whole, self.target_modules) != (None,) * 4:
            raise ValueError(
                "trains=weights takes no adapter, rank, alpha or target_modules; use "
                "trains=adapters"
            )

    # -- what it is --------------------------------------------------------------------------------

    @property
    def low_rank(self) -> LowRank | None:
        """The adapter that trains; None where all weights do."""
        if not (self.adapter and self.rank and self.alpha):
            return None
        return LowRank(self.adapter, self.rank, self.alpha, self.target_modules or ())

    @property
    def trains_base(self) -> bool:
        return self.low_rank is None

    @property
    def label(self) -> str:
        return f"r{self.rank}" if self.low_rank else ""

    @property
    def tags(self) -> tuple[str, ...]:
        found = ("dreambooth",) if self.prompts == "instance" else ()
        if self.adapter is None:
            return found
        if self.adapter in FACTORED:
            return (*found, "lycoris", self.adapter)
        return (*found, "lora", "template:sd-lora")  # the template shows the widget's pictures

    @property
    def unused(self) -> tuple[str, ...]:
        return () if self.prior_images else PRIOR

    @property
    def pack_key(self) -> tuple[object, ...] | None:
        """Plain adapters of one padded rank share a pass; all else trains alone."""
        low = self.low_rank
        if low is None or low.kind != "lora":
            return None
        return (self.text_encoder, self.prior_weight > 0, low.targets, low.held_rank)

    @property
    def loss(self) -> LossSettings:
        return LossSettings(self.prior_weight, self.min_snr_gamma, self.noise_offset)

    @property
    def caption_changes(self) -> CaptionChanges:
        return CaptionChanges(self.shuffle_caption, self.keep_tokens, self.caption_dropout_rate)

    @property
    def prior_images(self) -> int:
        return self.class_images if self.prior_weight else 0

    def settled(self, family: Family) -> Mapping[str, Any]:
        if self.trains == "weights" or self.target_modules is not None:
            return {}
        return {"target_modules": family.targets}

    def check(self, spec: TrajectorySpec, family: Family | None) -> None:
        if family and family.is_flow and self.min_snr_gamma is not None:
            raise ConfigError(
                f"method.min_snr_gamma={self.min_snr_gamma:g}: method.base={self.base} is "
                f"{family.title}, trained by flow matching, and min-SNR weighs losses by noise "
                "levels; set method.min_snr_gamma=null"
            )
        if family and self.text_encoder and family.taught(True) == family.taught(False):
            raise ConfigError(
                f"method.text_encoder=true: method.base={self.base} is {family.title}, whose text "
                "encoders are not taught; set method.text_encoder=false"
            )
        self._check_text(spec)

    def _check_text(self, spec: TrajectorySpec) -> None:
        """What is taught of text, and how, where that would change nothing."""
        own = self.text_encoder_lr
        if own is not None and not self.text_encoder:
            raise ConfigError(
                f"method.text_encoder_lr={own:g}: the text encoders are not taught; set "
                "method.text_encoder=true, or method.text_encoder_lr=null"
            )
        if own is not None and "prodigy" in spec.optimizer.identity.lower():
            raise ConfigError(
                f"method.text_encoder_lr={own:g}: {spec.optimizer.name} finds one learning rate "
                "for all that trains; set method.text_encoder_lr=null, or optimizer=adamw"
            )
        if self.keep_tokens and not self.shuffle_caption:
            raise ConfigError(
                f"method.keep_tokens={self.keep_tokens}: no tag changes places; set "
                "method.shuffle_caption=true, or method.keep_tokens=0"
            )
        most = max(len(tags_of(caption)) for caption in self.captions(spec.character))
        if self.shuffle_caption and most - self.keep_tokens < 2:
            raise ConfigError(
                "method.shuffle_caption=true: no caption has two tags, parts between commas, after "
                f"the first {self.keep_tokens} (method.keep_tokens), so none would change places; "
                "set method.shuffle_caption=false method.keep_tokens=0, or teach captions of tags "
                "with method.prompts=captions"
            )

    def captions(self, character: CharacterSpec) -> tuple[str, ...]:
        if self.prompts == "instance":
            return (character.instance_prompt,) * len(character.digests)
        return character.captions

    def taught(self, family: Family) -> tuple[str, ...]:
        return family.taught(self.text_encoder)

    # -- what it takes -----------------------------------------------------------------------------

    def snapshot_bytes(self, spec: TrajectorySpec, base: BaseWeights | None) -> int:
        """Of adapters to the byte; of a whole pipeline about, in float32."""
        assert base is not None
        low = self.low_rank
        if low is None:
            return 4 * base.numbers(base.shapes)
        shapes = self._shapes(base)
        return low.on(base.family, shapes).file_bytes(shapes)

    def held(self, resolution: int, base: BaseWeights | None) -> Held:
        """The numbers that pad the rank of plain adapters count too."""
        assert base is not None
        parts, low = self.taught(base.family), self.low_rank
        read = base.family.encoders if self.caption_changes.shuffle else ()  # at every step anew
        passed = tuple(dict.fromkeys((*parts, *read)))
        if low is None:
            aside = base.numbers(base.family.taught(text_encoder=True))
            return Held(base.numbers(parts), of_base=True, aside=aside, parts=passed)
        shapes = self._shapes(base)
        return Held(low.on(base.family, shapes).numbers(shapes), parts=passed)

    def _shapes(self, base: BaseWeights) -> Shapes:
        """Of the parts that are taught, as far as they are there."""
        names = self.taught(base.family)
        return {name: base.shapes[name] for name in names if name in base.shapes}

    # -- what it does ------------------------------------------------------------------------------

    def trainable(self, spec: TrajectorySpec, materials: Materials) -> DenoisingTrainable:
        from charsweep.train.methods.denoising import DenoisingTrainable
        from charsweep.train.trainable import slot_weights

        base = materials.base
        assert base is not None
        taught = base.parts(self.taught(base.family))
        weights = slot_weights(self.low_rank, base, taught, spec.pack)
        return DenoisingTrainable(spec, materials, weights)

    @contextlib.contextmanager
    def painter(
        self, images: ImageSetSpec, folder: Path, base: LoadedPipeline | None,
        device: torch.device,
    ) -> Iterator[Paint]:  # fmt: skip
        """The base as the snapshot left it, or as far on the way there as the strength says.

        Plain adapters are added to its weights: two thirds of the time that slots take, for image
        sets that need not share batches.
        """
        from charsweep.evaluate.sample import paint_with
        from charsweep.train.trainable import read_adapter

        assert base is not None
        low = self.low_rank
        if low and low.kind == "lora":
            taught = base.fused(read_adapter(folder, base), low.scale * images.strength)
        else:
            taught = base.with_snapshot(folder, images.strength)
        with taught:
            yield paint_with(base)

    @contextlib.contextmanager
    def adapter_slots(
        self, base: LoadedPipeline, width: int, folder_of: Callable[[SnapshotSpec], Path]
    ) -> Iterator[tuple[Paint, LoadSlot]]:
        """Stacked adapters: image i of a batch is drawn with that of slot i."""
        from charsweep.evaluate.sample import paint_with
        from charsweep.train.trainable import StackedAdapters, read_adapter

        low = self.low_rank
        assert low is not None
        stack = StackedAdapters(low, base, base.parts(self.taught(base.family)), width)
        loaded: dict[int, tuple[SnapshotSpec, float]] = {}

        def load_slot(slot: int, images: ImageSetSpec) -> None:
            snapshot, strength = images.snapshot, images.strength
            if loaded.get(slot) != (snapshot, strength):
                own = method_of(snapshot.trajectory.method).low_rank
                assert own is not None
                adapter = read_adapter(folder_of(snapshot), base)
                stack.adapters.set(slot, adapter, own.scale * strength)
                loaded[slot] = (snapshot, strength)

        try:
            yield paint_with(base), load_slot
        finally:
            stack.close()

    # -- what others do with its files -------------------------------------------------------------

    def loading(self, spec: TrajectorySpec, prompt: str, place: str) -> Loading | None:
        if self.adapter in FACTORED:
            return Loading(FACTORED_IMPORTS, LOAD_FACTORED.splitlines(), prompt)
        line = f'pipeline.load_lora_weights("{place}", weight_name="{ADAPTER_FILE}")'
        return Loading((), (line,), prompt)

    def elsewhere(self, spec: TrajectorySpec) -> str:
        return ""  # adapters are written once more, in the keys that others read


if TYPE_CHECKING:
    _: type[PackedMethod] = FineTune
