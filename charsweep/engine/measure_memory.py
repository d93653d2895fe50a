"""The modules of a base in, what they keep in memory while they train and draw out: measured.

They run on torch's meta device, where tensors have a shape and a dtype but no memory, so that the
true sizes are measured anywhere in seconds. Every storage that an operation makes is counted until
it is freed, through the forward and the backward pass, with gradient checkpointing and without;
attention is counted as flash-type kernels keep it (Dao et al. 2022, arXiv 2205.14135): queries,
keys, values, output and the logarithm of the sums, never the N × N weights. Not seen are the
workspaces within kernels and what the allocator loses between blocks.

At each instant, the bytes are affine in the samples, and a sample's in the positions of its latent
and in the rank of its adapter; so few runs at small sizes give every size. Of the instants those
are kept that can be the highest. `python -m charsweep.engine.measure_memory` measures
what is shipped, and writes models/architectures/memory.json.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charsweep.core.specs import TrajectorySpec
from charsweep.core.store.store import Store
from charsweep.embedded import FOLDER as EMBEDDED
from charsweep.models.architectures import FOLDER, Shapes, shapes_of
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.weights import BaseWeights
from charsweep.plan.memory.estimate import ways_of
from charsweep.plan.memory.figures import (
    DECODING,
    PACKED,
    Instant,
    Known,
    drawing_way,
    fingerprint,
    remember,
    training_way,
)
from charsweep.train.stacked_lora import Adapters
from charsweep.train.trainable import LowRank

BASES = ("sd15", "sdxl")
SIDES = (16, 32)  # of the latent; the bytes are affine in its positions from 8 × 8 on
RANKS = (8, 16)
TOKENS = 77  # of CLIP's text encoders
# Where the instants that can be highest are looked for: samples, positions, rank.
GRID = [(n, side**2, rank) for n in (1, 2, 4, 8, 16, 64, 256) for side in (8, 16, 32, 64, 128, 256)
        for rank in (4, 16, 64)]  # fmt: skip
RANKED = ("lora", "dora")  # whose products of rank are made for every sample
Curve = NDArray[np.float64]  # bytes at each instant


@dataclass(frozen=True)
class Size:
    """Of one run: trials in the pass, samples of each, side of the latent, rank."""

    width: int = 1
    batch: int = 2
    side: int = SIDES[0]
    rank: int = RANKS[0]

    @property
    def samples(self) -> int:
        return self.width * self.batch


@dataclass(frozen=True)
class Way:
    """How a U-Net is trained: weights, or adapters of a kind; whether in half precision."""

    trains: str  # weights, lora, dora, loha, lokr
    half: bool
    checkpointing: bool
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")


# -- counting --------------------------------------------------------------------------------------


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Counts the bytes of storages made within it while they live, after each operation."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.gradients = 0
        self._curve: list[tuple[int, int]] = []
        self._known = known  # alive, so that no other storage takes the place of theirs
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        self._curve.append((self.bytes, self.gradients))
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.bytes += size
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.bytes -= size

    @contextlib.contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Tell the gradients of a module's weights, once they are whole, from the rest."""

        def whole(parameter: Tensor) -> None:
            self.gradients += parameter.nbytes

        hooks = [
            parameter.register_post_accumulate_grad_hook(whole)  # type: ignore[no-untyped-call]
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        yield
        for hook in hooks:
            hook.remove()

    def curves(self) -> tuple[Curve, Curve]:
        """At each instant, what is neither known nor a whole gradient, and those gradients."""
        both = np.array(self._curve, dtype=np.float64)
        return both[:, 0] - both[:, 1], both[:, 1]


class Flash(torch.autograd.Function):
    """Attention in shapes alone: what its kernels take, give and keep."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        sums = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


# What of CUDA's autocast lists (torch/amp) a U-Net and CLIP call: cast to half, and to full.
TO_HALF = ((F, "linear"), (F, "conv2d"), (torch, "bmm"), (torch, "matmul"))
TO_FULL = ((F, "group_norm"), (F, "layer_norm"))


@contextlib.contextmanager
def as_on_card(half: bool) -> Iterator[None]:
    """Attention as a flash-type kernel; with `half`, the casts of CUDA's autocast.

    torch's own autocast does not see tensors on the meta device, and its modes are left where
    checkpoints call a network again: so the functions themselves are exchanged.
    """
    low = Casts(torch.bfloat16)
    exchanged: list[tuple[Any, str, Any]] = [
        (F, "scaled_dot_product_attention", low.attention if half else _flash)
    ]
    if half:
        exchanged += [(owner, name, low.around(getattr(owner, name))) for owner, name in TO_HALF]
        full = Casts(torch.float32)
        exchanged += [(owner, name, full.around(getattr(owner, name))) for owner, name in TO_FULL]
    with contextlib.ExitStack() as undo:
        for owner, name, function in exchanged:
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, function)
        yield


def _flash(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
    return Flash.apply(query, key, value)


class Casts:
    """Arguments of functions to one type; weights that train are cast once, as autocast does."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._weights: dict[Tensor, Tensor] = {}

    def around(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def with_casts(*args: Any, **kwargs: Any) -> Tensor:
            named = {name: self._cast(value) for name, value in kwargs.items()}
            return function(*(self._cast(value) for value in args), **named)

        return with_casts

    def attention(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        return _flash(*(self._cast(one) for one in (query, key, value)))

    def _cast(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if not (value.requires_grad and value.is_leaf and self.dtype != torch.float32):
            return value.to(self.dtype)
        if value not in self._weights:
            self._weights[value] = value.to(self.dtype)
        return self._weights[value]


# -- a U-Net ---------------------------------------------------------------------------------------


def training_curve(config: Mapping[str, Any], way: Way, size: Size) -> tuple[Curve, Curve]:
    """Bytes at each instant of one forward and backward pass: gradients of weights, and the rest.

    Not counted: the weights, the adapters with their gradients, the optimizer.
    """
    frozen = way.trains != "weights"
    unet = unet_of(config, torch.bfloat16 if way.half and frozen else torch.float32)
    unet.requires_grad_(not frozen)
    adapters = _put_on(unet, way, size)
    if way.checkpointing:
        unet.enable_gradient_checkpointing()
    known = [*unet.parameters(), *unet.buffers(), *adapters]
    live = Live([*known, *(one.grad for one in known if one.grad is not None)])
    inputs = _inputs(config, size, unet.dtype)
    own = contextlib.nullcontext() if way.trains == "lora" else live.watching(unet)
    with own, as_on_card(way.half and not frozen), live:  # a frozen base is in half itself
        predicted = unet(**inputs, return_dict=False)[0].float()
        loss = F.mse_loss(predicted, torch.empty_like(predicted), reduction="none")
        loss.mean(dim=(1, 2, 3)).sum().backward()
    return live.curves()


def unet_of(config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(dict(config))
    return nn.Module.to(unet.eval(), dtype)  # not its own, which warns of modules that it has not


def _put_on(unet: Any, way: Way, size: Size) -> list[Tensor]:
    """The adapters of a kind; returns what they hold beside the U-Net's parameters."""
    if way.trains == "lora":
        stack = Adapters({"unet": unet}, {"unet": way.targets}, size.width, size.rank)
        stack.attach()
        for layer in stack.layers.values():
            layer.scale = layer.scale.to("meta")
        return [layer.scale for layer in stack.layers.values()]
    if way.trains != "weights":
        low = LowRank(way.trains, size.rank, float(size.rank), way.targets)
        unet.add_adapter(low.config("unet"))
    return []


def _inputs(config: Mapping[str, Any], size: Size, dtype: torch.dtype) -> dict[str, Any]:
    """What a U-Net is called with, on the meta device."""
    count = size.samples
    meta: Any = {"device": "meta", "dtype": dtype}
    inputs: dict[str, Any] = {
        "sample": torch.empty(count, config["in_channels"], size.side, size.side, **meta),
        "timestep": torch.empty(count, dtype=torch.long, device="meta"),
        "encoder_hidden_states": torch.empty(count, TOKENS, config["cross_attention_dim"], **meta),
    }
    if config.get("addition_embed_type") == "text_time":
        pooled = config["projection_class_embeddings_input_dim"]
        pooled -= 6 * config["addition_time_embed_dim"]
        inputs["added_cond_kwargs"] = {
            "text_embeds": torch.empty(count, pooled, **meta),
            "time_ids": torch.empty(count, 6, **meta),
        }
    return inputs


def drawing_curve(call: Callable[[], object], module: nn.Module) -> Curve:
    """Bytes at each instant of a call without gradients."""
    with (
        torch.no_grad(),
        as_on_card(False),
        Live([*module.parameters(), *module.buffers()]) as live,
    ):
        call()
    curve: Curve = live.curves()[0]
    return curve


# -- figures ---------------------------------------------------------------------------------------


def training_instants(config: Mapping[str, Any], way: Way, width: int = 1) -> list[Instant]:
    """The instants of training a U-Net that can be the highest, for any size."""

    def curve(**changes: int) -> Curve:
        return training_curve(config, way, replace(Size(width), **changes))[0]

    first, gradients = training_curve(config, way, Size(width))
    ranked = None
    if way.trains in RANKED:
        ranked = curve(rank=RANKS[1]), curve(rank=RANKS[1], side=SIDES[1])
    runs = Runs(2 * width, first, curve(batch=4), curve(side=SIDES[1]), ranked)
    return runs.highest(gradients)


def drawing_instants(call: Callable[[int, int], Curve]) -> list[Instant]:
    """The same of a call without gradients, by samples and side of the latent."""
    small, large = SIDES
    return Runs(2, call(2, small), call(4, small), call(2, large)).highest()


@dataclass(frozen=True, eq=False)
class Runs:
    """Curves of runs that differ in samples, in positions, and in rank.

    Their operations are the same, so an instant is told by its number.
    """

    samples: int
    first: Curve
    doubled: Curve  # with twice the samples
    wider: Curve  # with a larger latent
    ranked: tuple[Curve, Curve] | None = None  # with a higher rank, at both sizes of the latent

    def highest(self, gradients: Curve | None = None) -> list[Instant]:
        """The instants that are highest at some size."""
        columns = self._columns(np.zeros_like(self.first) if gradients is None else gradients)
        tops = {int(np.argmax(_bytes(columns, *size))) for size in GRID}
        return [Instant(*(float(f"{n:.6g}") for n in columns[:, at])) for at in sorted(tops)]

    def _columns(self, gradients: Curve) -> NDArray[np.float64]:
        """The numbers of an `Instant`, for each."""
        small, large = (side**2 for side in SIDES)
        fixed = 2 * self.first - self.doubled
        at_small, at_large = ((curve - fixed) / self.samples for curve in (self.first, self.wider))
        ranks = [np.zeros_like(fixed), np.zeros_like(fixed)]
        if self.ranked:
            higher = [(curve - fixed) / self.samples for curve in self.ranked]
            ranks = [
                (high - low) / (RANKS[1] - RANKS[0])
                for high, low in zip(higher, (at_small, at_large), strict=True)
            ]
        slopes = [
            (b - a) / (large - small)
            for a, b in ((at_small - RANKS[0] * ranks[0], at_large - RANKS[0] * ranks[1]), ranks)
        ]
        sample = at_small - RANKS[0] * ranks[0] - slopes[0] * small
        ranked = ranks[0] - slopes[1] * small
        return np.stack([fixed, sample, slopes[0], ranked, slopes[1], gradients])


def _bytes(columns: NDArray[np.float64], samples: int, positions: int, rank: int) -> Curve:
    fixed, sample, position, ranked, ranked_position, gradients = columns
    each = sample + position * positions + rank * (ranked + ranked_position * positions)
    total: Curve = fixed + samples * each + gradients
    return total


# -- whole networks --------------------------------------------------------------------------------

TRAINS = ("weights", "lora", PACKED, "dora", "loha", "lokr")


def unet_figures(
    folder: Path, trains: Sequence[str] = TRAINS, precisions: Sequence[str] = ("fp32", "bf16")
) -> dict[str, list[Instant]]:
    """All ways of training a U-Net, and of drawing with it, by name."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    figures = {}
    for precision in precisions:
        half = precision != "fp32"
        for kind in trains:
            for checkpointing in (False, True):
                way = Way("lora" if kind == PACKED else kind, half, checkpointing)
                width = 2 if kind == PACKED else 1
                name = training_way(kind, precision, checkpointing)
                figures[name] = training_instants(config, way, width)
        unet = unet_of(config, torch.bfloat16 if half else torch.float32)

        def call(samples: int, side: int, unet: Any = unet) -> Curve:
            inputs = _inputs(config, Size(1, samples, side), unet.dtype)
            return drawing_curve(lambda: unet(**inputs, return_dict=False), unet)

        figures[drawing_way(precision)] = drawing_instants(call)
    return figures


def vae_figures(folder: Path) -> dict[str, list[Instant]]:
    """Decoding, which is done in full precision."""
    from diffusers import AutoencoderKL

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        vae: Any = AutoencoderKL.from_config(config)

    def decode(samples: int, side: int) -> Curve:
        latents = torch.empty(samples, config["latent_channels"], side, side, device="meta")
        return drawing_curve(lambda: vae.decode(latents, return_dict=False), vae)

    return {DECODING: drawing_instants(decode)}


def encoder_figures(folder: Path) -> dict[str, list[Instant]]:
    """Training a text encoder; its texts are of one length."""
    import transformers

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        encoder: Any = kind(transformers.CLIPTextConfig(**config)).eval()
    figures = {}
    for precision in ("fp32", "bf16"):

        def curves(samples: int, precision: str = precision) -> tuple[Curve, Curve]:
            ids = torch.zeros(
                samples, config["max_position_embeddings"], dtype=torch.long, device="meta"
            )
            encoder.zero_grad(set_to_none=True)
            live = Live([*encoder.parameters(), *encoder.buffers()])
            with live.watching(encoder), as_on_card(precision != "fp32"), live:
                output = encoder(ids, output_hidden_states=True)
                (output[0].sum() + output.hidden_states[-2].sum()).backward()
            return live.curves()

        first, gradients = curves(2)
        runs = Runs(2, first, curves(4)[0], first)
        figures[training_way("weights", precision, False)] = runs.highest(gradients)
    return figures


def measure(spec: TrajectorySpec, base: BaseWeights, store: Store) -> None:
    """Measure what an estimate of a trajectory and of drawing needs, and remember it."""
    known, shapes = Known(store), base.shapes
    whole = training_way("weights", spec.precision, False)
    kinds = {way.partition(",")[0] for batch in (1, 2) for way in ways_of(spec, batch, False)}
    for part, figures in FIGURES.items():
        wanted = DECODING if part == "vae" else whole
        if part == "unet":
            found = unet_figures(base.configs / part, sorted(kinds), (spec.precision,))
        elif part in shapes and not known.find(shapes[part], wanted):
            found = figures(base.configs / part)
        else:
            continue
        remember(store, f"{base.pipeline.name} {part}", shapes[part], found)


FIGURES: dict[str, Callable[[Path], dict[str, list[Instant]]]]
FIGURES = {"unet": unet_figures, "vae": vae_figures, "text_encoder": encoder_figures,
           "text_encoder_2": encoder_figures}  # fmt: skip


def measure_shipped() -> dict[str, Any]:
    """The figures of the published architectures and of the embedded bases."""
    found: dict[str, Any] = {}
    folders = {name: FOLDER / name for name in BASES}
    folders |= {f"embedded {name}": EMBEDDED / "weights" / name for name in BASES}
    for name, folder in folders.items():
        shapes = shapes_of(name) if name in BASES else shapes_at(folder)
        for part, figures in FIGURES.items():
            key = fingerprint(shapes[part]) if part in shapes else ""
            if key and key not in found:  # both VAEs are one architecture
                found[key] = {"what": f"{name} {part}", "ways": figures(folder / part)}
    return found


def shapes_at(folder: Path) -> Shapes:
    """Shapes of the tensors of a pipeline in a folder, by part."""
    files = sorted(folder.glob("*/*.safetensors"))
    return {file.parent.name: tensor_shapes(file) for file in files}


def write_shipped(path: Path = FOLDER / "memory.json") -> None:
    rows = [
        f'{json.dumps(key)}: {{"what": {json.dumps(one["what"])}, "ways": {{\n'
        + ",\n".join(f" {json.dumps(way)}: {json.dumps(at)}" for way, at in one["ways"].items())
        + "}}"
        for key, one in measure_shipped().items()
    ]
    path.write_text("{" + ",\n".join(rows) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    write_shipped()
