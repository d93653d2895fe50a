"""Files of low-rank adapters: the names, shapes and settings in them, by kind and layers.

No torch: planning asks for sizes, and other programs' formats are written from the file alone. The
shapes are those that peft makes with its defaults; tests hold them against the files it writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from charsweep.core.errors import ConfigError
from charsweep.models.architectures import Shapes
from charsweep.models.safetensors_file import TensorEntry, file_size

if TYPE_CHECKING:
    from peft import PeftConfig

    from charsweep.models.families import Family

ADAPTER_FILE = "pytorch_lora_weights.safetensors"  # as diffusers names it in a folder
FACTORED_FILE, FACTORED_CONFIG = "adapter.safetensors", "adapter_config.json"
FACTORED = ("loha", "lokr")  # kinds for which LoRA files have no names
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
MAGNITUDE = "lora_magnitude_vector"  # of DoRA
SMALLEST_PADDED_RANK = 8
METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's settings in a LoRA file


class LowRank(NamedTuple):
    """A low-rank adapter: its kind, rank, alpha, and the ends of its layers' names; `but` is how
    names begin that it does not go on though they end so."""

    kind: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    but: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """What the product of its factors is multiplied by."""
        return self.alpha / self.rank

    def on(self, family: Family, taught: Shapes) -> LowRank:
        """The same on a base of that family, whose parts have these tensors: without the layers of
        the denoiser in which samples share a row."""
        shapes = taught.get(family.denoiser, {})
        layers = [path for path, _ in layers_in(shapes, self.targets)]
        mixing = (start for start in family.mixing if any(starts(path, start) for path in layers))
        but = tuple(mixing)
        targets = (one for target in self.targets for one in as_peft_reads(target, shapes, but))
        return self._replace(but=but, targets=tuple(targets))

    def config(self, name: str) -> PeftConfig:
        """What peft calls it, for the module `name` of a pipeline."""
        from peft import PeftConfig

        # LoHa and LoKr (Yeh et al. 2023, arXiv 2309.14859) begin in a way of their own
        more = {} if self.kind in FACTORED else {"init_lora_weights": "gaussian"}
        kind: Any = PeftConfig  # which leaves this one method without types
        made: PeftConfig = kind.from_peft_type(**self.settings(name), **more)
        return made

    def settings(self, name: str) -> dict[str, Any]:
        """What peft needs to put it on the module `name`; peft's defaults stay its own.

        Written out in full, all of them would be unknown words to an earlier peft, and change with
        a later.
        """
        common: dict[str, Any] = {"r": self.rank, "target_modules": sorted(self.of(name))}
        if self.kind in FACTORED:
            return {"peft_type": self.kind.upper(), "alpha": self.alpha, **common}
        is_dora = self.kind == "dora"
        return {"peft_type": "LORA", "lora_alpha": self.alpha, "use_dora": is_dora, **common}

    def of(self, name: str) -> tuple[str, ...]:
        """Its targets in the module `name`."""
        return TEXT_TARGETS if name.startswith("text_encoder") else self.targets

    def layers(self, name: str, taught: Shapes) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Its layers in the module `name`, and the shapes of their weights."""
        return layers_in(taught.get(name, {}), self.of(name), self.but)

    def check(self, taught: Shapes) -> None:
        """ConfigError for targets that no layer of these parts is named by."""
        for part, shapes in taught.items():
            lacking = [one for one in self.of(part) if not any(layers_in(shapes, [one], self.but))]
            if lacking:
                told = f"method.target_modules={','.join(lacking)}: {part}"
                if any(layers_in(shapes, lacking)):
                    raise ConfigError(
                        f"{told} reads several samples in one row there, so trials that share a "
                        "pass would mix; take it out"
                    )
                raise ConfigError(
                    f"{told} has no linear or convolution layer of that name; name the last parts "
                    "of layers, as in method.target_modules=[to_q,to_k,to_v,to_out.0]"
                )

    @property
    def held_rank(self) -> int:
        """As it is held in memory: plain adapters are padded."""
        return padded_rank(self.rank) if self.kind == "lora" else self.rank

    def numbers(self, taught: Shapes) -> int:
        """How many numbers it holds on the parts with these tensors; those that pad count too."""
        return sum(
            math.prod(part)
            for name in taught
            for _, weight in self.layers(name, taught)
            for part in parts_of(self.kind, self.held_rank, weight).values()
        )

    def file_bytes(self, taught: Shapes) -> int:
        """Bytes of its file or files on the parts with these tensors."""
        entries = {
            published(f"{name}.{layer}.{part}", self.kind): TensorEntry("F32", shape)
            for name in taught
            for layer, weight in self.layers(name, taught)
            for part, shape in parts_of(self.kind, self.rank, weight).items()
        }
        settings = {name: self.settings(name) for name in taught}
        if self.kind in FACTORED:
            return file_size(entries, {}) + len(factored_config(settings).encode())
        return file_size(entries, {"format": "pt", METADATA: lora_metadata(settings)})


def is_target(path: str, targets: Sequence[str], but: Sequence[str] = ()) -> bool:
    """Whether a layer's name is one of those, or ends in one as a whole part, and begins with none
    of the others."""
    ends = any(path == target or path.endswith(f".{target}") for target in targets)
    return ends and not any(starts(path, start) for start in but)


def as_peft_reads(
    target: str, shapes: Mapping[str, Sequence[int]], but: Sequence[str] = ()
) -> list[str]:
    """A target; or the whole names of its layers, where peft would also take for one what holds
    layers and ends so, or what lies in the others."""
    paths = [name.rpartition(".")[0] for name in shapes]
    is_plain = not any(f".{target}." in f".{path}" for path in paths)
    if is_plain and not any(starts(path, start) for path in paths for start in but):
        return [target]
    return [path for path, _ in layers_in(shapes, [target], but)] or [target]


def starts(path: str, start: str) -> bool:
    """Whether a layer's name is that, or begins with it as whole parts."""
    return path == start or path.startswith(f"{start}.")


def layers_in(
    shapes: Mapping[str, Sequence[int]], targets: Sequence[str], but: Sequence[str] = ()
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names of the linear and convolution layers to teach, and the shapes of their weights."""
    for name, shape in shapes.items():
        path = name.removesuffix(".weight")
        if path != name and len(shape) in (2, 4) and is_target(path, targets, but):
            yield path, tuple(shape)


def published(name: str, kind: str = "lora") -> str:
    """A tensor's name in a LoRA file: text encoder 1 keeps the level that transformers 5 dropped,
    and encoders' magnitudes are weights, without which transformers leaves them as they begin.

    In peft's own files (LoHa, LoKr) a tensor is called as the module calls it.
    """
    first, rest = name.split(".", 1)
    if first.startswith("text_encoder") and name.endswith(f".{MAGNITUDE}"):
        return f"{published(name.removesuffix(MAGNITUDE), kind)}{MAGNITUDE}.weight"
    if first != "text_encoder":
        return name
    rest = rest.removeprefix("text_model.")
    return f"text_encoder.{rest}" if kind in FACTORED else f"text_encoder.text_model.{rest}"


def parts_of(kind: str, rank: int, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The tensors that such an adapter adds to a layer whose weight is (out, in[, k, k])."""
    out, *into = weight
    flat, ones = math.prod(into), (1,) * (len(weight) - 2)
    if kind == "loha":
        return {
            "hada_w1_a": (out, rank), "hada_w1_b": (rank, flat),
            "hada_w2_a": (out, rank), "hada_w2_b": (rank, flat),
        }  # fmt: skip
    if kind == "lokr":
        return kronecker(rank, weight)
    parts = {"lora_A.weight": (rank, *into), "lora_B.weight": (out, rank, *ones)}
    if kind == "dora":
        parts[MAGNITUDE] = (1, out, *ones) if ones else (out,)
    return parts


def kronecker(rank: int, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """LoKr's two factors of a weight; the larger one is itself of low rank where that is less."""
    out, into, *kernel = weight
    (out_small, out_large), (in_small, in_large) = near_root(out), near_root(into)
    small = {"lokr_w1": (out_small, in_small)}
    if rank >= max(out_large, in_large) / 2:
        return {**small, "lokr_w2": (out_large, in_large, *kernel)}
    flat = in_large * math.prod(kernel)
    return {**small, "lokr_w2_a": (out_large, rank), "lokr_w2_b": (rank, flat)}


def near_root(dimension: int) -> tuple[int, int]:
    """The two factors of a number that lie nearest each other, the smaller one first."""
    small = next(n for n in range(math.isqrt(dimension), 0, -1) if dimension % n == 0)
    return small, dimension // small


def padded_rank(rank: int) -> int:
    """The next power of two, at least 8: trials of one padded rank may share a pack.

    Not the largest rank that happens to be in the pack: bits must not depend on what else is in it.
    """
    return max(SMALLEST_PADDED_RANK, 1 << (rank - 1).bit_length())


def lora_metadata(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of each module as diffusers writes them into a LoRA file."""
    flat = {f"{name}.{key}": value for name, own in settings.items() for key, value in own.items()}
    return json.dumps(flat, indent=2, sort_keys=True)


def factored_config(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings of each module as they lie beside peft's own tensors."""
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"
