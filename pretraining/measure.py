"""The figures of the model card, measured on the shipped weights; each a plain number.

All figures are taken on figures and characters of a seed that pretraining never saw, through plain
diffusers, open_clip and timm: what a user of the package gets.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from numpy.typing import NDArray
from peft import LoraConfig

from pretraining import data
from pretraining.captions import full_caption
from pretraining.drawing import draw
from pretraining.figure import ARMS, LEGS, PLACES, Figure, random_character
from pretraining.pair import Pair, random_company, random_pair
from pretraining.pair_captions import full_pair_caption
from pretraining.pretrain_clip import with_colours_exchanged

POSES: tuple[tuple[str, str], ...] = (
    *(("standing", arms) for arms in ARMS),
    *((legs, "down") for legs in LEGS if legs != "standing"),
)
GUIDANCE, SAMPLE_STEPS = 5.0, 25


def drawn(figures: list[Figure]) -> torch.Tensor:
    """NCHW float32 in [-1, 1]."""
    return data.to_tensor(np.stack([np.asarray(draw(f, data.SIDE)) for f in figures]))


def held_out(count: int, skip: int = 0) -> list[Figure]:
    return [data.figure(data.HELD_OUT_SEED, skip + index) for index in range(count)]


def held_out_pairs(count: int) -> list[Pair]:
    return [random_pair(Random(f"pair-{data.HELD_OUT_SEED}-{index}")) for index in range(count)]


def drawn_wide(pairs: list[Pair]) -> NDArray[np.uint8]:
    """N x 64 x 96 x 3."""
    return np.stack([data.draw_wide(pair) for pair in pairs])


# ---------------------------------------------------------------------------------- autoencoder


def reconstruction(weights: Path, count: int = 256) -> dict[str, float]:
    """PSNR in dB (of pictures in [0, 1]) and mean absolute error in grey levels of 255."""
    return restored(weights, drawn(held_out(count)))


@torch.no_grad()
def restored(weights: Path, pictures: torch.Tensor) -> dict[str, float]:
    """The same of any NCHW pictures in [-1, 1]."""
    vae = AutoencoderKL.from_pretrained(weights / "sd15" / "vae", dtype=torch.float32)
    restored = torch.cat(
        [vae.decode(vae.encode(part).latent_dist.mean).sample for part in pictures.split(32)]
    ).clamp(-1, 1)
    squared = ((restored - pictures) / 2).square().mean((1, 2, 3))
    return {
        "vae_psnr_db": float((-10 * squared.log10()).mean()),
        "vae_l1_levels": float((restored - pictures).abs().mean() * 127.5),
    }


# ----------------------------------------------------------------------------------------- CLIP


class Clip:
    """The shipped CLIP, loaded by plain open_clip; features have length 1."""

    def __init__(self, weights: Path) -> None:
        name = f"local-dir:{weights / 'clip'}"
        self.model = open_clip.create_model_and_transforms(name, require_pretrained=True)[0].eval()
        self.tokenizer = open_clip.get_tokenizer(name)

    @torch.no_grad()
    def pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(pictures, normalize=True)
        return features

    @torch.no_grad()
    def texts(self, texts: list[str]) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_text(self.tokenizer(texts), normalize=True)
        return features


def retrieval(weights: Path, rounds: int = 8, count: int = 64) -> dict[str, float]:
    """Top-1 among 64 held-out pictures with full captions, both ways, mean over the rounds."""
    clip = Clip(weights)
    to_text, to_picture = [], []
    for number in range(rounds):
        figures = held_out(count, skip=count * number)
        alike = clip.pictures(drawn(figures)) @ clip.texts([full_caption(f) for f in figures]).T
        right = torch.arange(count)
        to_text.append(float((alike.argmax(1) == right).float().mean()))
        to_picture.append(float((alike.argmax(0) == right).float().mean()))
    return {
        "clip_picture_to_caption_top1": sum(to_text) / rounds,
        "clip_caption_to_picture_top1": sum(to_picture) / rounds,
    }


def order_read(weights: Path, count: int = 256) -> dict[str, float]:
    """Of pictures of two, the share whose caption CLIP prefers to a wrong one of the same words.

    Wrong is who stands on which side (`swapped`), or whose hair or fur has which colour
    (`colours`); and the share whose own caption is the nearest among those of 64 pairs.
    """
    clip, pairs = Clip(weights), held_out_pairs(count)
    seen = clip.pictures(data.to_tensor(data.squashed(drawn_wide(pairs))))
    own = clip.texts([full_pair_caption(pair) for pair in pairs])
    found = {}
    for name, wrong in (
        ("swapped", [pair.swapped for pair in pairs]),
        ("colours", [with_colours_exchanged(pair) for pair in pairs]),
    ):
        texts = [full_pair_caption(pair) for pair in wrong]
        told = torch.tensor(
            [text != full_pair_caption(pair) for text, pair in zip(texts, pairs, strict=True)]
        )
        better = (seen * own).sum(1) > (seen * clip.texts(texts)).sum(1)
        found[f"clip_pair_{name}"] = float(better[told].float().mean())
    hits = [
        (part @ texts.T).argmax(1) == torch.arange(len(part))
        for part, texts in zip(seen.split(64), own.split(64), strict=True)
    ]
    return found | {"clip_pair_retrieval": float(torch.cat(hits).float().mean())}


def asked_figures(count: int) -> list[Figure]:
    """Held-out figures in one of the nine plain poses, eyes open, all poses and places in turn."""
    rng = Random("asked")
    asked = []
    for number, shown in enumerate(held_out(count, skip=5_000)):
        legs, arms = POSES[number % len(POSES)]
        place = PLACES[number % len(PLACES)]
        scale = rng.uniform(0.97, 1.0)
        asked.append(
            replace(
                shown, legs=legs, arms=arms, place=place, eyes="open", mouth="smile", scale=scale
            )
        )
    return asked


def recognised(clip: Clip, pictures: torch.Tensor, figures: list[Figure]) -> dict[str, float]:
    """Zero-shot: the right pose among nine and the right place among seven, as shares.

    The candidates for one picture are its full caption with only the pose, or the place, changed.
    """
    features = clip.pictures(pictures)
    poses, places = [], []
    for feature, shown in zip(features, figures, strict=True):
        ways = [full_caption(replace(shown, legs=legs, arms=arms)) for legs, arms in POSES]
        there = [full_caption(replace(shown, place=place)) for place in PLACES]
        guess = POSES[int((clip.texts(ways) @ feature).argmax())]
        poses.append(guess == (shown.legs, shown.arms))
        places.append(PLACES[int((clip.texts(there) @ feature).argmax())] == shown.place)
    return {"pose": sum(poses) / len(poses), "place": sum(places) / len(places)}


# ----------------------------------------------------------------------------------------- DINO


@torch.no_grad()
def identity(weights: Path, characters: int = 64) -> dict[str, float]:
    """Nearest neighbour by cosine: each drawing against one other drawing of all 64 characters.

    For every ordered pair of scenes (a, b) all drawings in scene a are queries and all in scene b
    the gallery; position, place, eyes and mouth differ at random between a and b.
    """
    vit = timm.create_model(f"local-dir:{weights / 'dino'}", pretrained=True).eval()
    figures = [
        data.portrait(data.HELD_OUT_SEED, who, scene)
        for scene in range(data.SCENES)
        for who in range(characters)
    ]
    features = F.normalize(vit(drawn(figures)), dim=-1).reshape(data.SCENES, characters, -1)
    right = torch.arange(characters)
    hits, same, other = [], [], []
    for a in range(data.SCENES):
        for b in range(data.SCENES):
            if a != b:
                alike = features[a] @ features[b].T
                hits.append(float((alike.argmax(1) == right).float().mean()))
                same.append(float(alike.diag().mean()))
                other.append(
                    float((alike.sum() - alike.diag().sum()) / (alike.numel() - characters))
                )
    return {
        "dino_identity_top1": sum(hits) / len(hits),
        "dino_same_character": sum(same) / len(same),
        "dino_other_character": sum(other) / len(other),
    }


@torch.no_grad()
def identity_in_company(weights: Path, characters: int = 64) -> dict[str, float]:
    """Nearest neighbour by cosine: a character in the square of a picture of two, against drawings
    of all characters alone, in other scenes; once as the left one of the two, once as the right."""
    vit = timm.create_model(f"local-dir:{weights / 'dino'}", pretrained=True).eval()
    alone = [data.portrait(data.HELD_OUT_SEED, who, 0) for who in range(characters)]
    pairs = []
    for who, figure in enumerate(alone):
        rng = Random(f"company-{data.HELD_OUT_SEED}-{who}")
        pairs.append(random_company(figure, random_character(rng), rng))
    swapped = [pair.swapped for pair in pairs]
    left, right = (
        data.squares(drawn_wide(part))[side] for side, part in ((0, pairs), (1, swapped))
    )
    known = F.normalize(vit(drawn(alone)), dim=-1)
    right_ones = torch.arange(characters)
    hits = [
        (F.normalize(vit(data.to_tensor(part)), dim=-1) @ known.T).argmax(1) == right_ones
        for part in (left, right)
    ]
    return {"dino_company_top1": float(torch.cat(hits).float().mean())}


# ---------------------------------------------------------------------------------------- bases


def pipeline(weights: Path, kind: str) -> Any:
    """The shipped pipeline with a fast sampler: DPM-Solver++ (Lu et al. 2022)."""
    kinds = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
    loaded = kinds[kind].from_pretrained(weights / kind, dtype=torch.float32)
    loaded.scheduler = DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def sample(
    loaded: Any, prompts: list[str], seed: int = 0, width: int = data.SIDE
) -> NDArray[np.uint8]:
    """One picture for each prompt, N x 64 x width x 3 uint8, each from its own generator."""
    parts = []
    for start in range(0, len(prompts), 24):
        part = prompts[start : start + 24]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        pictures = loaded(
            part,
            generator=generators,
            num_inference_steps=SAMPLE_STEPS,
            guidance_scale=GUIDANCE,
            height=data.SIDE,
            width=width,
            output_type="np",
        ).images
        parts.append((pictures * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def base_samples(
    weights: Path, kind: str, figures: list[Figure]
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Samples for full captions, and the share whose pose and place CLIP recognises."""
    pictures = sample(pipeline(weights, kind), [full_caption(f) for f in figures])
    found = recognised(Clip(weights), data.to_tensor(pictures), figures)
    return pictures, {f"{kind}_{name}": share for name, share in found.items()}


def times(weights: Path, kind: str) -> dict[str, float]:
    """Milliseconds: a LoRA step (rank 4, forward and backward) at batch 1 and 8; a U-Net call."""
    unet = pipeline(weights, kind).unet
    width = unet.config.cross_attention_dim

    pooled = (unet.config.projection_class_embeddings_input_dim or 0) - 6 * 16

    def inputs(count: int) -> dict[str, Any]:
        added = {
            "text_embeds": torch.zeros(count, max(pooled, 0)),
            "time_ids": torch.zeros(count, 6),
        }
        return {
            "sample": torch.randn(count, unet.config.in_channels, 8, 8),
            "timestep": 500,
            "encoder_hidden_states": torch.randn(count, 48, width),
            "added_cond_kwargs": added if kind == "sdxl" else None,
        }

    with torch.no_grad():
        call = _milliseconds(lambda: unet(**inputs(32))) / 32
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    found = {f"{kind}_ms_per_image_and_call": call}
    for count in (1, 8):
        step = _milliseconds(lambda n=count: unet(**inputs(n)).sample.square().mean().backward())
        found[f"{kind}_ms_per_lora_step_batch_{count}"] = step
    return found


def _milliseconds(work: Any, repeats: int = 10) -> float:
    """The median of some repeats."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)[repeats // 2]


def sizes(weights: Path) -> dict[str, float]:
    """MB (10^6 bytes) on disk of each model and of all."""
    found = {
        f"{folder.name}_mb": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
        for folder in sorted(weights.iterdir())
        if folder.is_dir()
    }
    return {**found, "total_mb": sum(found.values())}
