"""Drawing by columns: each column of a picture is predicted by itself (`core.columns`).

At every step the denoiser is asked once for each column, with that column's words, about a window
around it that is as wide as the picture is high, and of each answer its column is kept:
MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113, section 4) with regions that do not overlap.
So what stands in a column is drawn as in a square of its own, as it was taught, and sees in what
the windows share what stands beside it. Where adapters draw apart, each answers for its own columns
alone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from charsweep.core.columns import Pass

Choose = Callable[[int], None]  # has one of several adapters answer from now on
WIDTHS = (1, 5)  # in XL's sizes: of the picture before it was cropped, and of the crop


@contextlib.contextmanager
def predicting_by_columns(
    unet: Any, passes: Sequence[Pass], choose: Choose, unit: int
) -> Iterator[None]:
    """A U-Net that answers in several passes over the same latents, of so many pixels each; as it
    was afterwards.

    It is given the words of all passes side by side, equally many tokens of each, and XL's pooled
    ones; samples without guidance come first, where there are any.
    """
    if len(passes) == 1:
        choose(passes[0].drawer)
        yield
        return
    own, before = unet.forward, vars(unet).get("forward")

    def forward(
        noisy: Tensor, timestep: Any, encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None, **named: Any,
    ) -> tuple[Tensor]:  # fmt: skip
        words = encoder_hidden_states.chunk(len(passes), dim=1)
        found = noisy.new_zeros(noisy.shape)
        for number, one in enumerate(passes):
            choose(one.drawer)
            places, kept = (part.to(noisy.device) for part in window(one, *noisy.shape[2:]))
            times = len(noisy) // len(places)
            index = places.repeat(times, 1)[:, None, None].expand(*noisy.shape[:3], -1)
            added = added_cond_kwargs and dict(added_cond_kwargs)
            if added and "text_embeds" in added:
                added["text_embeds"] = added["text_embeds"].chunk(len(passes), dim=1)[number]
            if added and "time_ids" in added:
                added["time_ids"] = added["time_ids"].clone()
                added["time_ids"][:, WIDTHS] = float(places.shape[1] * unit)
            (answer, *_) = own(
                noisy.gather(3, index), timestep, encoder_hidden_states=words[number],
                added_cond_kwargs=added, **named,
            )  # fmt: skip
            drawn = found.scatter(3, index, answer)
            found = drawn.where(kept.repeat(times, 1)[:, None, None], found)
        return (found,)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward
        if before is not None:
            unet.forward = before


def window(one: Pass, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of each picture the places of the latents, from left to right, that a pass sees (N, seen),
    and which of all places are kept of it (N, width).

    It sees its column, or as much around it as the picture is high, within the picture.
    """
    import torch

    edges = [-(-place * width // one.of) for place in range(one.of + 1)]
    widest = max(last - first for first, last in itertools.pairwise(edges))
    seen = min(width, max(widest, height))
    starts, kept = [], []
    for column in one.columns:
        first, last = edges[column or 0], edges[(column or 0) + 1]
        starts.append(min(max((first + last - seen) // 2, 0), width - seen))
        place = torch.arange(width)
        kept.append((place >= first) & (place < last) & (column is not None))
    return torch.tensor(starts)[:, None] + torch.arange(seen), torch.stack(kept)
