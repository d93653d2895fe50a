"""Pretraining of CLIP: an open_clip model (ResNet at 64 px; 1.3 M parameters).

A batch holds 16 characters in 4 scenes each, so that a caption must name the position and the place
as well as the looks to find its picture (Radford et al. 2021, with hard negatives). Left to chance,
the places alone tell most of the scenes apart and arms are never learned. So the scenes of a
character differ, by turns, in everything, in their position, in their arms alone, or in eyes and
mouth alone.

That is not enough: at the start neither tower tells arms apart, and the contrastive gradient of
each is proportional to how well the other does, so both stayed at chance for 1,100 steps. A linear
head on each tower, thrown away afterwards, names position, face and place, and leads out of there.
And the picture tower is CLIP's ResNet (`RN50` in small): a ViT of the same size with 8 px patches
named places and eyes after 1,000 steps, but arms at 20 %.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip import CLIP
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from pretraining import checkpoint, data
from pretraining.captions import caption, full_caption
from pretraining.drawing import draw
from pretraining.figure import (
    ARMS,
    EYES,
    LEGS,
    MOUTHS,
    PLACES,
    SPECIES,
    Figure,
    random_character,
    random_scene,
)
from pretraining.progress import steps
from pretraining.tokenizer import LENGTH, VOCABULARY

CHARACTERS = 16  # per batch, each in data.SCENES scenes


STEPS = 2_400
PEAK_RATE = 1e-3
DIFFERENCES = ("scene", "position", "position", "arms", "arms", "face")  # by turns, see `alike_in`
NAMED: dict[str, tuple[str, ...]] = {
    "legs": LEGS, "arms": ARMS, "eyes": EYES, "mouth": MOUTHS, "place": PLACES, "species": SPECIES,
}  # fmt: skip
NAMING_WEIGHT = 0.5
MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": data.SIDE,
        "layers": [2, 2, 2, 2],
        "width": 12,
        "head_width": 64,
    },
    "text_cfg": {
        "context_length": LENGTH,
        "vocab_size": VOCABULARY,
        "width": 96,
        "heads": 4,
        "layers": 3,
        "hf_tokenizer_name": "charsweep",  # any name: the tokenizer is read from the same folder
    },
}
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def new_clip() -> CLIP:
    clip = CLIP(
        embed_dim=MODEL["embed_dim"], vision_cfg=MODEL["vision_cfg"], text_cfg=MODEL["text_cfg"]
    )
    nn.init.normal_(clip.token_embedding.weight, std=0.5)  # open_clip's .02 makes all words alike
    nn.init.normal_(clip.positional_embedding, std=0.15)
    return clip


class Named(nn.Module):
    """Names a figure's position, face and place from a feature, by linear layers."""

    def __init__(self) -> None:
        super().__init__()
        width = MODEL["embed_dim"]
        self.heads = nn.ModuleList(nn.Linear(width, len(words)) for words in NAMED.values())

    def forward(self, features: torch.Tensor, figures: list[Figure]) -> torch.Tensor:
        """Mean cross-entropy over all names; features (N, 128) of length 1."""
        losses = []
        for head, (field, words) in zip(self.heads, NAMED.items(), strict=True):
            right = torch.tensor([words.index(getattr(shown, field)) for shown in figures])
            losses.append(F.cross_entropy(head(10 * features), right.to(features.device)))
        return torch.stack(losses).mean()


def train_clip(work: Path, seed: int, tokenizer: CLIPTokenizer, export: Any = None) -> CLIP:
    """The training loop; returns the moving average."""
    target = checkpoint.device()
    torch.manual_seed(checkpoint.hash_of(f"{seed}-clip"))
    clip = new_clip().to(target)
    average = checkpoint.average_of(clip)
    heads = nn.ModuleDict({"pictures": Named(), "texts": Named()}).to(target)
    trained = [*clip.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE, weight_decay=0.05)
    path = work / "clip.safetensors"
    modules: dict[str, nn.Module] = {"clip": clip, "average": average, "heads": heads}
    first = checkpoint.load_state(path, modules, optimizer)
    saved = time.monotonic()
    for step in steps("clip", first, STEPS):
        figures = batch_figures(seed, step)
        drawn = np.stack([np.asarray(draw(shown, data.SIDE)) for shown in figures])
        tokens = _tokens(tokenizer, figures, Random(f"clip-caption-{seed}-{step}"))

        pictures = clip.encode_image(data.to_tensor(drawn).to(target), normalize=True)
        texts = clip.encode_text(tokens.to(target), normalize=True)
        alike = clip.logit_scale.exp() * pictures @ texts.T
        right = torch.arange(len(alike), device=target)
        loss = (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2
        naming = heads["pictures"](pictures, figures) + heads["texts"](texts, figures)
        loss = loss + NAMING_WEIGHT * naming
        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, STEPS, PEAK_RATE))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=4.6052)  # 100, as published
        checkpoint.update_average(average, clip, checkpoint.decay_at(step, 0.995))

        last = step + 1 == STEPS
        if step % 50 == 0:
            hits = (alike.argmax(1) == right).float()
            kinds = {
                kind: hits.reshape(CHARACTERS, -1).mean(1)[number :: len(DIFFERENCES)].mean().item()
                for number, kind in enumerate(DIFFERENCES)
            }
            shares = ", ".join(f"{kind} {share:.2f}" for kind, share in kinds.items())
            print(f"clip: step {step}, loss {loss.item():.4f}, top-1 {shares}", flush=True)
        if last or time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
    assert isinstance(average, CLIP)
    return average


def batch_figures(seed: int, step: int) -> list[Figure]:
    """Random characters, each in data.SCENES scenes; drawn anew, there is no end of them."""
    rng = Random(f"clip-{seed}-{step}")
    figures = []
    for number in range(CHARACTERS):
        who = random_character(rng)
        scenes = [random_scene(who, rng) for _ in range(data.SCENES)]
        figures += alike_in(DIFFERENCES[number % len(DIFFERENCES)], scenes, rng)
    return figures


def alike_in(difference: str, scenes: list[Figure], rng: Random) -> list[Figure]:
    """The scenes, made the same in all but what is named; no two are then quite the same."""
    count, first = len(scenes), scenes[0]
    if difference == "position":
        pairs = rng.sample(list(itertools.product(LEGS, ARMS)), count)
        return [replace(first, legs=legs, arms=arms) for legs, arms in pairs]
    if difference == "arms":
        return [replace(first, arms=arms) for arms in rng.sample(ARMS, count)]
    if difference == "face":
        pairs = rng.sample(list(itertools.product(EYES, MOUTHS)), count)
        return [replace(first, eyes=eyes, mouth=mouth) for eyes, mouth in pairs]
    return scenes


def _tokens(tokenizer: CLIPTokenizer, figures: list[Figure], rng: Random) -> torch.Tensor:
    """A caption per figure, half of them the full one; N x LENGTH ids."""
    texts = [
        full_caption(shown) if rng.random() < 0.5 else caption(shown, rng, omit=0.02, named=0.1)
        for shown in figures
    ]
    encoded = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids


def save_clip(clip: CLIP, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write open_clip's `local-dir:` layout, fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {k: v.detach().cpu().half().contiguous() for k, v in clip.state_dict().items()}
    unfinished = folder / "open_clip_model.tmp"
    save_file(tensors, unfinished)
    unfinished.chmod(0o644)  # safetensors writes files for the owner only
    unfinished.replace(folder / "open_clip_model.safetensors")
