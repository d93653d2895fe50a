"""Low-rank adapters of several trials side by side on the layers of one frozen base.

A layer's adapters are two stacked tensors, A of shape (width, rank, in) and B of shape
(width, rank, out), and one batched product serves all trials. Sample i of a batch belongs to slot
i mod width, so a batch of `width` needs no copy, and one that holds the unconditional half first
(classifier-free guidance) finds the same adapters in both halves.

That holds as long as every layer sees the samples one by one, in their order, which an assertion
looks after: in a layer that saw several in one row, trials would mix without a word.

Ranks are padded with zeros to the stack's; rows of zeros get gradients of exactly zero. What a
slot computes does not depend on the other slots as long as width and padded rank stay the same.
Free slots can be left out of a pass: `narrow`; see `charsweep.train.narrowing` for the bits.

(peft can mix adapters in a batch too, when a hook hands `adapter_names` to each of its layers, but
it loops over the adapters and gathers and scatters their samples one by one.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from charsweep.core.errors import ConfigError
from charsweep.models.adapter_file import is_target


class Passed:
    """How many samples the module that is passed through was given last."""

    samples = 0

    def count(self, module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """A hook that runs before the module: samples come first, as a tensor or a list."""
        self.samples = len(next(iter((*given, *named.values()))))


class Stacked(nn.Module):
    """A frozen layer and what `width` trials add to its output: scale · B A x, each its own."""

    def __init__(
        self, layer: nn.Module, width: int, rank: int, a_shape: torch.Size, out: int, passed: Passed
    ) -> None:
        super().__init__()
        self.layer, self.passed = layer, passed
        like = layer.weight
        assert isinstance(like, Tensor)
        options: Any = {"dtype": torch.float32, "device": like.device}
        self.a = nn.Parameter(torch.zeros(width, rank, *a_shape, **options))
        self.b = nn.Parameter(torch.zeros(width, rank, out, **options))
        self.scale = torch.zeros(width, 1, 1, **options)
        self._narrow: tuple[nn.Parameter, nn.Parameter, Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        """That of the frozen layer, whose precision some modules look up."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def width(self) -> int:
        """Slots of a pass."""
        return len(self._narrow[2] if self._narrow else self.scale)

    def narrow(self, slots: slice) -> None:
        """Pass with these slots alone; what they learn is learnt by the whole."""
        parts = [nn.Parameter(whole.detach()[slots]) for whole in (self.a, self.b)]
        for part, whole in zip(parts, (self.a, self.b), strict=True):
            assert whole.grad is not None
            part.grad = whole.grad[slots]
        self._narrow = (parts[0], parts[1], self.scale[slots])

    def check(self, x: Tensor) -> None:
        """What comes in has one row for each sample."""
        samples = self.passed.samples
        assert len(x) == samples, f"{len(x)} rows of {samples} samples: trials would mix"

    def at(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """A, B and scale in the precision of what comes in; what trains is float32."""
        a, b, scale = self._narrow or (self.a, self.b, self.scale)
        return a.to(dtype), b.to(dtype), scale.to(dtype)


class StackedLinear(Stacked):
    def __init__(self, layer: nn.Linear, width: int, rank: int, passed: Passed) -> None:
        a_shape = torch.Size([layer.in_features])
        super().__init__(layer, width, rank, a_shape, layer.out_features, passed)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ..., in) -> (N, ..., out); sample i wears the adapter of slot i mod width."""
        self.check(x)
        y: Tensor = self.layer(x)
        rows = x.reshape(-1, self.width, x[0].numel() // x.shape[-1], x.shape[-1])
        rows = rows.transpose(0, 1).flatten(1, 2)
        a, b, scale = self.at(x.dtype)
        low = torch.bmm(rows, a.transpose(1, 2)) * scale
        own = torch.bmm(low, b).unflatten(1, (len(x) // self.width, -1)).transpose(0, 1)
        summed: Tensor = y + own.reshape(y.shape)
        return summed


class StackedConv2d(Stacked):
    def __init__(self, layer: nn.Conv2d, width: int, rank: int, passed: Passed) -> None:
        assert layer.groups == 1
        assert layer.padding_mode == "zeros"
        shape = torch.Size([layer.in_channels, *layer.kernel_size])
        super().__init__(layer, width, rank, shape, layer.out_channels, passed)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, h, w) -> (N, out, h', w'): A is a convolution like the layer's, B is 1 x 1."""
        self.check(x)
        layer = self.layer
        assert isinstance(layer, nn.Conv2d)
        y: Tensor = layer(x)
        a, b, scale = self.at(x.dtype)
        side_by_side = x.reshape(-1, self.width * x.shape[1], *x.shape[2:])
        low = F.conv2d(
            side_by_side, a.flatten(0, 1), None, layer.stride, layer.padding, layer.dilation,
            groups=self.width,
        )  # fmt: skip
        low = low.unflatten(1, (self.width, -1)).flatten(3) * scale
        return y + torch.matmul(b.transpose(1, 2), low).reshape(y.shape)


class Adapters:
    """A stack of low-rank adapters on named modules; `attach` puts it on.

    `targets` are the last parts of layers' names, as in peft's `target_modules`, and `but` the
    first parts of those that get none.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], targets: Mapping[str, Sequence[str]], width: int,
        rank: int, but: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.width, self.rank = width, rank
        self.passed = {name: Passed() for name in modules}
        self.modules, self._hooks = modules, list[RemovableHandle]()
        self.layers: dict[str, Stacked] = {}
        self._places: list[tuple[nn.Module, str, Stacked]] = []
        for name, module in modules.items():
            for path, layer in list(module.named_modules()):
                if is_target(path, targets[name], but):
                    parent, _, child = path.rpartition(".")
                    stacked = _stacked(f"{name}.{path}", layer, width, rank, self.passed[name])
                    self.layers[f"{name}.{path}"] = stacked
                    self._places.append((module.get_submodule(parent), child, stacked))
            if not any(layer.startswith(f"{name}.") for layer in self.layers):
                raise ConfigError(
                    f"method.target_modules={list(targets[name])}: {name} has no such layer; name "
                    "the last parts of layers, like to_q, to_k, to_v, to_out.0"
                )
        self.gradient = self._one_gradient()
        self.slots = slice(0, width)  # of a pass

    def _one_gradient(self) -> Tensor:
        """All gradients as views of one tensor, so that one call clears them."""
        parameters = [p for layer in self.layers.values() for p in (layer.a, layer.b)]
        flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        parts = flat.split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return flat

    def zero_grad(self) -> None:
        self.gradient.zero_()

    def narrow(self, slots: slice) -> None:
        """Pass with these slots alone."""
        if slots != self.slots:
            self.slots = slots
            for layer in self.layers.values():
                layer.narrow(slots)

    def attach(self) -> None:
        for parent, child, stacked in self._places:
            setattr(parent, child, stacked)
        self._hooks = [
            module.register_forward_pre_hook(self.passed[name].count, with_kwargs=True)
            for name, module in self.modules.items()
        ]

    def detach(self) -> None:
        for parent, child, stacked in self._places:
            setattr(parent, child, stacked.layer)
        for hook in self._hooks:
            hook.remove()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """The base without the stack, until the block ends."""
        self.detach()
        try:
            yield
        finally:
            self.attach()

    # -- one slot ------------------------------------------------------------------------------

    @torch.no_grad()
    def clear(self, slot: int) -> None:
        """Make a slot add nothing."""
        for layer in self.layers.values():
            for tensor in (layer.a, layer.b, layer.scale):
                tensor[slot] = 0

    @torch.no_grad()
    def set(self, slot: int, weights: Mapping[str, Tensor], scale: float) -> None:
        """Put one adapter in: `NAME.lora_A.weight` and `NAME.lora_B.weight` of every layer."""
        self.clear(slot)
        for name, layer in self.layers.items():
            a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
            layer.a[slot, : len(a)] = a.to(layer.a)
            layer.b[slot, : len(a)] = b.flatten(1).T.to(layer.b)
            layer.scale[slot] = scale

    @torch.no_grad()
    def weights(self, slot: int, rank: int) -> dict[str, Tensor]:
        """What `set` took, as it is now, in the shapes of peft's layers."""
        found = {}
        for name, layer in self.layers.items():
            b = layer.b[slot, :rank].T.contiguous()
            convolution = isinstance(layer, StackedConv2d)
            found[f"{name}.lora_A.weight"] = layer.a[slot, :rank].clone()
            found[f"{name}.lora_B.weight"] = b[:, :, None, None] if convolution else b
        return found

    def views(self, slot: int, rank: int) -> dict[str, nn.Parameter]:
        """The slot's part of all tensors, with its gradients: what its optimizer moves."""
        found = {}
        for name, layer in self.layers.items():
            for kind, whole in (("A", layer.a), ("B", layer.b)):
                part = nn.Parameter(whole.detach()[slot, :rank])
                assert whole.grad is not None
                part.grad = whole.grad[slot, :rank]
                found[f"{name}.lora_{kind}"] = part
        return found


def gaussian(shapes: Mapping[str, Tensor], rank: int, source: torch.Generator) -> dict[str, Tensor]:
    """A from a normal distribution of deviation 1/rank, B zero (peft's "gaussian")."""
    return {
        name: torch.randn(like.shape, generator=source) / rank
        if name.endswith("lora_A.weight")
        else torch.zeros(like.shape)
        for name, like in shapes.items()
    }


def _stacked(name: str, layer: nn.Module, width: int, rank: int, passed: Passed) -> Stacked:
    if isinstance(layer, nn.Linear):
        return StackedLinear(layer, width, rank, passed)
    if isinstance(layer, nn.Conv2d):
        return StackedConv2d(layer, width, rank, passed)
    raise ConfigError(
        f"method.target_modules: {name} is a {type(layer).__name__}; low-rank adapters go on "
        "linear and convolution layers"
    )
