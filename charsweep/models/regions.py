"""Drawing by columns: each column of a picture looks at words of its own (`core.columns`).

A place of the picture looks, in every cross-attention, at the words of the whole and at those of
its own column, as in the regional sampling of Mix-of-Show (Gu et al. 2023, section 3.3).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CROSS = "attn2"  # how diffusers' U-Nets call the layers in which places look at words


@contextlib.contextmanager
def looking_by_columns(unet: Any, columns: int, size: tuple[int, int]) -> Iterator[None]:
    """A U-Net whose places look at the words of the whole and of their own column; as it was
    afterwards.

    It is given the tokens of the whole and of each column side by side, equally many. `size` is
    the width and height of the latents.
    """
    if not columns:
        yield
        return
    attentions = [m for name, m in unet.named_modules() if name.rpartition(".")[2] == CROSS]
    own = [attention.processor for attention in attentions]
    masks: dict[tuple[int, int], Tensor] = {}
    for attention in attentions:
        attention.set_processor(Columns(attention.processor, columns, size, masks))
    try:
        yield
    finally:
        for attention, processor in zip(attentions, own, strict=True):
            attention.set_processor(processor)


class Columns:
    """diffusers' own attention, with a mask by columns."""

    def __init__(
        self, own: Any, columns: int, size: tuple[int, int], masks: dict[tuple[int, int], Tensor]
    ) -> None:
        self.own, self.columns, self.size, self.masks = own, columns, size, masks

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *words: Any,
        **named: Any,
    ) -> Tensor:  # fmt: skip
        places, tokens = hidden_states.shape[1], encoder_hidden_states.shape[1]
        if (places, tokens) not in self.masks:
            mask = column_mask(self.columns, tokens, *shrunk(self.size, places))
            self.masks[places, tokens] = mask.to(hidden_states)
        mask = self.masks[places, tokens].expand(len(hidden_states), -1, -1)
        named["attention_mask"] = mask
        found: Tensor = self.own(attn, hidden_states, encoder_hidden_states, *words, **named)
        return found


def column_mask(columns: int, tokens: int, width: int, height: int) -> Tensor:
    """What is added to the attention of each place, row by row, to each token: (1, places, tokens);
    0, or minus infinity for the words of other columns."""
    import torch

    each = tokens // (columns + 1)
    mask = torch.zeros(height, width, tokens)
    of_place = torch.arange(width) * columns // width
    for column in range(columns):
        others = (of_place != column).nonzero().flatten()
        mask[:, others, (column + 1) * each : (column + 2) * each] = -math.inf
    return mask.view(1, height * width, tokens)


def shrunk(size: tuple[int, int], places: int) -> tuple[int, int]:
    """Width and height of that many places: the latents', halved as often as need be."""
    width, height = size
    while width * height > places:
        width, height = math.ceil(width / 2), math.ceil(height / 2)
    assert width * height == places, f"{places} places are no {size[0]} x {size[1]}, halved"
    return width, height
