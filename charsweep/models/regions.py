"""Drawing by columns: each column of a picture is predicted by itself (`core.columns`).

At every step the denoiser is asked once for each column, about the whole picture and with that
column's words, and of each answer its column is kept: MultiDiffusion (Bar-Tal et al. 2023, arXiv
2302.08113, equation 5) with regions that do not overlap. Where adapters draw apart, each answers
for its own columns alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from charsweep.core.columns import Pass

Choose = Callable[[int], None]  # has one of several adapters answer from now on


@contextlib.contextmanager
def predicting_by_columns(
    unet: Any, passes: Sequence[Pass], choose: Choose, width: int
) -> Iterator[None]:
    """A U-Net that answers in several passes over the same latents, `width` of them wide; as it was
    afterwards.

    It is given the words of all passes side by side, equally many tokens of each, and XL's pooled
    ones; samples without guidance come first, where there are any.
    """
    if len(passes) == 1:
        choose(passes[0].drawer)
        yield
        return
    own, before = unet.forward, vars(unet).get("forward")
    kept = [kept_by(one, width) for one in passes]

    def forward(
        noisy: Tensor, timestep: Any, encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None, **named: Any,
    ) -> tuple[Tensor]:  # fmt: skip
        words = encoder_hidden_states.chunk(len(passes), dim=1)
        pooled = (added_cond_kwargs or {}).get("text_embeds")
        found: Tensor | None = None
        for number, one in enumerate(passes):
            choose(one.drawer)
            added = added_cond_kwargs
            if pooled is not None:
                added = {**(added or {}), "text_embeds": pooled.chunk(len(passes), dim=1)[number]}
            answer = own(
                noisy, timestep, encoder_hidden_states=words[number], added_cond_kwargs=added,
                **named,
            )[0]  # fmt: skip
            here = kept[number].to(noisy.device).repeat(len(noisy) // len(kept[number]), 1, 1, 1)
            found = answer if found is None else answer.where(here, found)
        assert found is not None
        return (found,)

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward
        if before is not None:
            unet.forward = before


def kept_by(one: Pass, width: int) -> Tensor:
    """What is kept of a pass, (N, 1, 1, width): true where the column of each picture is."""
    import torch

    place = torch.arange(width)
    of_each = [
        place * column[1] // width == column[0] if column else place < 0 for column in one.columns
    ]
    return torch.stack(of_each)[:, None, None]
