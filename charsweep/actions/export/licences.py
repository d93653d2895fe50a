"""Licences of published bases, which what is taught to them comes under: told in a model card.

As their repositories said in November 2026. A licence belongs to weights, not to a family of bases.
"""

from __future__ import annotations

from typing import NamedTuple


class Licence(NamedTuple):
    """A licence in the hub's words, or by a name of its own, and what it demands beside."""

    name: str
    is_known: bool = True  # to the hub, by that name
    demands: str = ""


APACHE = Licence("apache-2.0")
STABILITY = Licence(
    "stabilityai-ai-community",
    is_known=False,
    demands="Stability AI's community licence: free, also commercially, below a revenue that it "
    "names; say that the weights are derived from Stability AI's.",
)
FLUX = Licence(
    "flux-non-commercial-license",
    is_known=False,
    demands="Black Forest Labs' non-commercial licence: what is derived from the base may not be "
    "used commercially either.",
)
KREA = Licence(
    "krea-2-community-license",
    is_known=False,
    demands="Krea's community licence: free, also commercially, for up to 50 seats; whoever offers "
    "the weights to others keeps harmful content out.",
)
ANIMA = Licence(
    "circlestone-labs-non-commercial-license",
    is_known=False,
    demands="CircleStone Labs' non-commercial licence 1.0: an adapter counts as a derivative of "
    "Anima, comes under the same licence, and may not be used commercially.",
)
LICENCES = {  # by hub id
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Licence("creativeml-openrail-m"),
    "stabilityai/stable-diffusion-xl-base-1.0": Licence("openrail++"),
    "stabilityai/stable-diffusion-3.5-medium": STABILITY,
    "stabilityai/stable-diffusion-3.5-large": STABILITY,
    "Tongyi-MAI/Z-Image": APACHE,
    "Tongyi-MAI/Z-Image-Turbo": APACHE,
    "circlestone-labs/Anima-Base-v1.0-Diffusers": ANIMA,
    "black-forest-labs/FLUX.2-klein-base-4B": APACHE,
    "black-forest-labs/FLUX.2-klein-4B": APACHE,
    "black-forest-labs/FLUX.2-klein-base-9B": FLUX,
    "black-forest-labs/FLUX.2-klein-9B": FLUX,
    "krea/Krea-2-Raw": KREA,
    "krea/Krea-2-Turbo": KREA,
    "Qwen/Qwen-Image": APACHE,
    "Qwen/Qwen-Image-2512": APACHE,
}
