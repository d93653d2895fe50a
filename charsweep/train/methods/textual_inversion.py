"""Textual inversion: the identifier is given token embeddings that train; all else is frozen.

Gal et al. 2022 (arXiv 2208.01618), with several vectors for one identifier and, on SDXL, in both
text encoders. The file is `learned_embeds.safetensors` as diffusers, A1111 and ComfyUI read it.

Diffusers' tokenizers keep added tokens in lower case and expand one that has several vectors only
where a prompt has it in lower case too, so files and cards write the identifier so; CLIP reads all
prompts in lower case anyway. Configs of published encoders may carry `eos_token_id: 2`, by which
the pooled embedding is that of the highest token: an added one, not the last. It is mended for as
long as the tokens are there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ConfigError
from charsweep.core.methods import CaptionChanges, Held, Loading, LossSettings
from charsweep.core.specs import CharacterSpec, SnapshotSpec, TrajectorySpec
from charsweep.core.system.names import as_title
from charsweep.core.words import replaced
from charsweep.models.safetensors_file import TensorEntry, file_size, settle_header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from charsweep.core.methods import PackedMethod
    from charsweep.core.specs import ImageSetSpec
    from charsweep.evaluate.sample import Asked, LoadSlot, Paint
    from charsweep.models.families import Family
    from charsweep.models.pipeline import LoadedPipeline
    from charsweep.models.weights import BaseWeights
    from charsweep.train.methods import Materials
    from charsweep.train.methods.denoising import DenoisingTrainable

EMBEDDING_FILE = "learned_embeds.safetensors"
EMBEDDING = "token_embedding.weight"  # how the name of a CLIP encoder's table ends
# The names of the vectors in the file, by the encoders that they are for; None: the identifier.
NAMES: Mapping[tuple[str, ...], tuple[str | None, ...]] = {
    ("text_encoder",): (None,),
    ("text_encoder", "text_encoder_2"): ("clip_l", "clip_g"),
}
LOAD_ONE = 'pipeline.load_textual_inversion("{place}", weight_name="learned_embeds.safetensors")'
LOAD_BOTH = """\
learned = load_file("learned_embeds.safetensors")
pipeline.load_textual_inversion(learned["clip_l"], token={token})
pipeline.load_textual_inversion(
    learned["clip_g"], token={token},
    text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2,
)
pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id"""
ELSEWHERE = """\
**ComfyUI**: put `learned_embeds.safetensors` into `models/embeddings` as `{name}.safetensors` and
write `embedding:{name}`. **A1111** and its relatives: put it into `embeddings` under the same name
and write `{name}`."""


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class TextualInversion:
    """`num_vectors` embeddings that the identifier stands for, on which prompts."""

    version: ClassVar[int] = 1
    prompted: ClassVar[bool] = True
    iterative: ClassVar[bool] = True
    trains_base: ClassVar[bool] = False
    tags: ClassVar[tuple[str, ...]] = ("textual_inversion",)
    unused: ClassVar[tuple[str, ...]] = ()
    low_rank: ClassVar[None] = None
    loss: ClassVar[LossSettings] = LossSettings()
    caption_changes: ClassVar[CaptionChanges] = CaptionChanges()
    text_encoder_lr: ClassVar[None] = None
    prior_images: ClassVar[int] = 0

    base: str
    prompts: Literal["instance", "captions"]
    num_vectors: Annotated[int, Field(ge=1, le=32)] = 4  # a prompt has room for 75 tokens

    @property
    def label(self) -> str:
        return f"v{self.num_vectors}"

    @property
    def identifier_tokens(self) -> int:
        return self.num_vectors

    @property
    def pack_key(self) -> tuple[object, ...]:
        """The tokens of a trial stand in no prompt of another's, so they need only be as many."""
        return (self.num_vectors,)

    def settled(self, family: Family) -> Mapping[str, Any]:
        return {}

    def check(self, spec: TrajectorySpec, family: Family | None) -> None:
        assert family is not None
        if spec.company:
            raise ConfigError(
                f"company=together: method={spec.method.name} learns what one word stands for, and "
                "these are two; choose a method that learns both, as method=dreambooth_lora"
            )
        if family.is_flow or family.encoders not in NAMES:
            raise ConfigError(
                f"method.base={self.base} is {family.title}, for which there are no files of token "
                "embeddings; teach it with method=dreambooth_lora"
            )

    def captions(self, character: CharacterSpec) -> tuple[str, ...]:
        if self.prompts == "instance":
            return (character.instance_prompt,) * len(character.digests)
        return character.captions

    def taught(self, family: Family) -> tuple[str, ...]:
        return family.encoders

    # -- what it takes -----------------------------------------------------------------------------

    def snapshot_bytes(self, spec: TrajectorySpec, base: BaseWeights | None) -> int:
        assert base is not None
        names = names_of(base.family, spec.character.identifier)
        vectors = zip(names, widths_of(base), strict=True)
        return file_size(
            {name: TensorEntry("F32", (self.num_vectors, n)) for name, n in vectors}, {}
        )

    def held(self, resolution: int, base: BaseWeights | None) -> Held:
        assert base is not None
        return Held(self.num_vectors * sum(widths_of(base)), parts=base.family.encoders)

    # -- what it does ------------------------------------------------------------------------------

    def trainable(self, spec: TrajectorySpec, materials: Materials) -> DenoisingTrainable:
        from charsweep.train.methods.denoising import DenoisingTrainable

        assert materials.base is not None
        weights = TokenEmbeddings(materials.base, spec.pack, self.num_vectors)
        return DenoisingTrainable(spec, materials, weights, weights.prompts)

    @contextlib.contextmanager
    def painter(
        self, images: ImageSetSpec, folder: Path, base: LoadedPipeline | None,
        device: torch.device,
    ) -> Iterator[Paint]:  # fmt: skip
        assert base is not None
        with self.adapter_slots(base, 1, lambda _: folder) as (paint, load_slot):
            load_slot(0, images)
            yield paint

    @contextlib.contextmanager
    def adapter_slots(
        self, base: LoadedPipeline, width: int, folder_of: Callable[[SnapshotSpec], Path]
    ) -> Iterator[tuple[Paint, LoadSlot]]:
        """Image i of a batch is drawn with the tokens of slot i modulo `width`."""
        from charsweep.evaluate.sample import paint_with

        embeddings = TokenEmbeddings(base, width, self.num_vectors)
        loaded: dict[int, SnapshotSpec] = {}
        as_it_is = paint_with(base)

        def load_slot(slot: int, images: ImageSetSpec) -> None:
            if loaded.get(slot) != (snapshot := images.snapshot):
                embeddings.load(slot, snapshot.trajectory.character.identifier, folder_of(snapshot))
                loaded[slot] = snapshot

        def paint(spec: ImageSetSpec, asked: Sequence[Asked]) -> NDArray[np.float32]:
            written = []
            for place, one in enumerate(asked):
                (prompt,) = embeddings.prompts(place % width, [one.prompt])
                written.append(one._replace(prompt=prompt))
            return as_it_is(spec, written)

        try:
            yield paint, load_slot
        finally:
            embeddings.close()

    # -- what others do with its files -------------------------------------------------------------

    def loading(self, spec: TrajectorySpec, prompt: str, place: str) -> Loading:
        assert spec.base is not None
        identifier = spec.character.identifier
        written = replaced(prompt, identifier, identifier.lower())
        family: Family = spec.base.family.made
        if len(family.encoders) == 1:
            return Loading((), (LOAD_ONE.format(place=place),), written)
        imports = ("from safetensors.torch import load_file",)
        token = json.dumps(identifier.lower(), ensure_ascii=False)
        return Loading(imports, LOAD_BOTH.format(token=token).splitlines(), written)

    def elsewhere(self, spec: TrajectorySpec) -> str:
        return ELSEWHERE.format(name=as_title(spec.character.identifier))


class TokenEmbeddings:
    """Token embeddings of `width` trials on a base's text encoders, `count` tokens for each trial.

    Slot s's token i is called "<s.i>": prompts are written with these in the identifier's place.
    """

    def __init__(self, base: LoadedPipeline, width: int, count: int) -> None:
        import torch

        self.base, self.count = base, count
        self.identifiers: dict[int, str] = {}
        self.encoders = dict(zip(base.family.encoders, base.text_encoders, strict=True))
        self.tokenizers = dict(zip(base.family.encoders, base.family.tokenizers, strict=True))
        self.vectors: dict[str, list[Tensor]] = {}
        for name, encoder in self.encoders.items():
            zeros = torch.zeros(count, encoder.get_input_embeddings().weight.shape[1])
            self.vectors[name] = [
                zeros.to(base.device, copy=True).requires_grad_() for _ in range(width)
            ]
        self._undo = contextlib.ExitStack()
        self._put_on()

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        """Begin with the class noun, the mean of its tokens where it has several."""
        import torch

        character = spec.character
        self.identifiers[slot] = character.identifier
        for name, encoder in self.encoders.items():
            tokenizer = getattr(self.base.pipeline, self.tokenizers[name])
            if len(_numbers(tokenizer, character.identifier)) == 1:  # diffusers gives it no other
                raise ConfigError(
                    f"character.identifier={character.identifier}: is a word that the base knows, "
                    "and textual inversion makes a new one; choose a name that it does not know, "
                    "as UnicornGirl"
                )
            noun = _numbers(tokenizer, character.class_noun)
            known = encoder.get_input_embeddings().weight
            with torch.no_grad():
                self.vectors[name][slot].copy_(known[noun].float().mean(0))

    def load(self, slot: int, identifier: str, folder: Path) -> None:
        """What `save` wrote."""
        import torch
        from safetensors.torch import load_file

        self.identifiers[slot] = identifier
        tensors = load_file(folder / EMBEDDING_FILE)
        names = names_of(self.base.family, identifier)
        with torch.no_grad():
            for own, name in zip(self.vectors.values(), names, strict=True):
                own[slot].copy_(tensors[name])

    def save(self, slot: int, folder: Path) -> None:
        from safetensors.torch import save_file

        names = names_of(self.base.family, self.identifiers[slot])
        vectors = zip(names, self.named(slot).values(), strict=True)
        save_file({name: one.detach().cpu().contiguous() for name, one in vectors},
                  folder / EMBEDDING_FILE)  # fmt: skip
        settle_header(folder / EMBEDDING_FILE)

    def prompts(self, slot: int, captions: Sequence[str]) -> list[str]:
        tokens = " ".join(f"<{slot}.{index}>" for index in range(self.count))
        return [replaced(caption, self.identifiers[slot], tokens) for caption in captions]

    def narrow(self, slots: slice) -> None:
        """Captions say whose tokens are read."""

    def leave(self, slot: int) -> None:
        del self.identifiers[slot]

    def named(self, slot: int) -> dict[str, Tensor]:
        return {f"{name}.vectors": own[slot] for name, own in self.vectors.items()}

    def zero_grad(self) -> None:
        for vector in self._all():
            vector.grad = None

    def gradients(self) -> list[Tensor]:
        return [vector.grad for vector in self._all() if vector.grad is not None]

    def _all(self) -> Iterator[Tensor]:
        for own in self.vectors.values():
            yield from own

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._put_on()

    def close(self) -> None:
        self._undo.close()

    def _put_on(self) -> None:
        """Tokenizers that know the tokens, and encoders that look them up in `vectors`."""
        import copy

        pipeline = self.base.pipeline
        for name, encoder in self.encoders.items():
            reader, table = self.tokenizers[name], encoder.get_input_embeddings()
            own = getattr(pipeline, reader)
            extended = copy.deepcopy(own)
            width = len(self.vectors[name])
            tokens = [f"<{slot}.{index}>" for slot in range(width) for index in range(self.count)]
            assert extended.add_tokens(tokens) == len(tokens)
            self._undo.callback(setattr, pipeline, reader, own)
            setattr(pipeline, reader, extended)
            self._undo.callback(encoder.set_input_embeddings, table)
            encoder.set_input_embeddings(extended_table(table, len(own), self.vectors[name]))
            for module in encoder.modules():
                if getattr(module, "eos_token_id", None) == 2:
                    self._undo.callback(setattr, module, "eos_token_id", 2)
                    module.eos_token_id = own.eos_token_id


def extended_table(table: nn.Embedding, first: int, vectors: Sequence[Tensor]) -> nn.Module:
    """A frozen embedding in which the tokens from number `first` on are those vectors, in order."""
    import torch
    from torch import nn

    class Extended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table

        @property
        def weight(self) -> Tensor:
            return self.table.weight

        def forward(self, numbers: Tensor) -> Tensor:
            known = self.table(numbers.clamp(max=first - 1))
            learned = torch.cat(list(vectors)).to(known.dtype)[(numbers - first).clamp(min=0)]
            return torch.where((numbers >= first)[..., None], learned, known)

    return Extended()


def names_of(family: Family, identifier: str) -> list[str]:
    """What the vectors of each encoder are called in the file."""
    return [name or identifier.lower() for name in NAMES[family.encoders]]


def widths_of(base: BaseWeights) -> list[int]:
    """How many numbers an embedding has in each encoder."""
    return [
        next(shape[1] for key, shape in base.shapes[name].items() if key.endswith(EMBEDDING))
        for name in base.family.encoders
    ]


def _numbers(tokenizer: Any, text: str) -> list[int]:
    numbers: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return numbers


if TYPE_CHECKING:
    _: type[PackedMethod] = TextualInversion
