"""What a denoiser is told of prompts, and how that of several becomes one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told: `hidden` (N, tokens, …); `pooled` (N, width), if it is; `mask`
    (N, tokens), which tokens are a prompt's own, where prompts differ in length."""

    hidden: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    def __getitem__(self, index: Any) -> Conditioning:
        """That of the prompts at `index`."""
        return self._each(lambda part: part[index])

    def to(self, dtype: torch.dtype) -> Conditioning:
        """In that precision; a mask is no number."""
        cast = replace(self, mask=None)._each(lambda part: part.to(dtype))
        return replace(cast, mask=self.mask)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        parts = (self.hidden, self.pooled, self.mask)
        hidden, *others = [None if part is None else change(part) for part in parts]
        assert hidden is not None
        return Conditioning(hidden, *others)


def join(parts: Sequence[Conditioning]) -> Conditioning:
    """Conditionings one after the other, as one batch; those with a mask filled up to the longest.

    A family whose bits depend on that length makes all of one.
    """
    import torch

    pooled = [part.pooled for part in parts if part.pooled is not None]
    masks = [part.mask for part in parts if part.mask is not None]
    hidden = [part.hidden for part in parts]
    if masks:
        hidden, masks = filled(hidden), filled(masks)
    return Conditioning(
        torch.cat(hidden),
        torch.cat(pooled) if pooled else None,
        torch.cat(masks) if masks else None,
    )


def filled(parts: Sequence[Tensor]) -> list[Tensor]:
    """Tensors (N, tokens, …) with zeros behind, or False, as long as the longest of them."""
    import torch

    most = max(part.shape[1] for part in parts)
    return [
        torch.cat([part, part.new_zeros(len(part), most - part.shape[1], *part.shape[2:])], dim=1)
        for part in parts
    ]
