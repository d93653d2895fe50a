"""MODEL_CARD.md of the embedded models, and its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from charsweep.models.embedded import FOLDER
from pretraining import data, measure
from pretraining.pair_captions import full_pair_caption

CARD = FOLDER / "MODEL_CARD.md"
PICTURES = FOLDER / "card"
SAMPLES = 63  # nine poses times seven places
ZOOM = 2


def write_card(weights: Path, further: dict[str, float]) -> None:
    """Measure everything, keep the figures as JSON and the pictures as PNG, and write the card.

    Figures that are not measured here stay as they were, unless they are among the further ones.
    """
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / "figures.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    figures = {name: round(v, 4) for name, v in (all_figures(weights) | further).items()}
    path.write_text(json.dumps(known | figures, indent=2) + "\n")
    CARD.write_text(text_of(known | figures), encoding="utf-8")


def all_figures(weights: Path) -> dict[str, float]:
    """Every figure of the card; writes the contact sheets on the way."""
    figures = {**measure.sizes(weights), **measure.reconstruction(weights)}
    figures |= {**measure.retrieval(weights), **measure.identity(weights)}
    asked = measure.asked_figures(SAMPLES)
    clip = measure.Clip(weights)
    truth = measure.recognised(clip, measure.drawn(asked), asked)
    figures |= {f"truth_{name}": share for name, share in truth.items()}
    for kind in ("sd15", "sdxl"):
        pictures, found = measure.base_samples(weights, kind, asked)
        figures |= found
        save_sheet(pictures, 9, PICTURES / f"{kind}-samples.png")
        loaded = measure.pipeline(weights, kind)
        save_sheet(measure.sample(loaded, named_prompts()), 8, PICTURES / f"{kind}-names.png")
        two = measure.sample(loaded, pair_prompts(), width=data.WIDTH)
        save_sheet(two, 6, PICTURES / f"{kind}-two.png")
        figures |= measure.times(weights, kind)
    save_sheet(restored_pairs(weights), 8, PICTURES / "vae.png")
    return figures


def named_prompts() -> list[str]:
    """The exam with three invented names and with "a girl" in the place of the identifier."""
    lines = (FOLDER / "unicorn_girl_exam" / "prompts.txt").read_text().splitlines()
    subjects = ("a girl", "Morlu", "Zambi the bear", "UnicornGirl")
    return [line.format(subject=subject) for subject in subjects for line in lines]


def pair_prompts(count: int = 36) -> list[str]:
    """What held-out pairs look like, in words."""
    return [full_pair_caption(pair) for pair in measure.held_out_pairs(count)]


@torch.no_grad()
def restored_pairs(weights: Path, count: int = 32) -> NDArray[np.uint8]:
    """Held-out pictures and their reconstructions in turn, NHWC uint8."""
    vae: Any = AutoencoderKL.from_pretrained(weights / "sd15" / "vae", dtype=torch.float32)
    pictures = measure.drawn(measure.held_out(count))
    restored = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    pairs = torch.stack([pictures, restored], dim=1).flatten(0, 1)
    levels: NDArray[np.uint8] = ((pairs + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return levels


def save_sheet(pictures: NDArray[np.uint8], columns: int, path: Path) -> None:
    """Tile NHWC pictures row by row, enlarged without smoothing."""
    height, width = (side * ZOOM for side in pictures.shape[1:3])
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for number, picture in enumerate(pictures):
        tile = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (number % columns * width, number // columns * height))
    sheet.save(path, optimize=True)


def text_of(f: dict[str, float]) -> str:
    """The card; `f` holds the figures by name."""
    return (
        Path(__file__)
        .with_name("card_template.md")
        .read_text(encoding="utf-8")
        .format_map(_Shown(f))
    )


class _Shown(dict[str, float]):
    """Figures for a template; one that was not measured reads "not measured"."""

    def __missing__(self, name: str) -> Any:
        return _NotMeasured()


class _NotMeasured:
    def __format__(self, spec: str) -> str:
        return "not measured"
