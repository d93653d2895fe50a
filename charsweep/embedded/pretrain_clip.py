"""Portraits and captions in; an open_clip model (ViT, patch 8, 64 px; 1.3 M parameters) out.

A batch holds 32 characters in 4 scenes each, so that a caption must name the position and the place
as well as the looks to find its picture (Radford et al. 2021, with hard negatives). The places
alone tell most of the scenes apart: after a first phase CLIP recognised 9 poses at 41 % only, and
arms not at all. In the second phase the scenes of a character share their place, eyes and mouth; in
the third, most of the characters differ between their scenes in nothing but their arms. The shipped
weights are from about step 200 of the third phase, with arms still at chance: see the card.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
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

from charsweep.embedded import checkpoint, data
from charsweep.embedded.captions import caption, full_caption
from charsweep.embedded.drawing import draw
from charsweep.embedded.figure import ARMS, Figure
from charsweep.embedded.progress import steps
from charsweep.embedded.tokenizer import LENGTH, VOCABULARY

CHARACTERS = 32  # per batch, each in data.SCENES scenes


@dataclass(frozen=True)
class Phase:
    """One run over the data, with its own schedule and its own kind of hard negatives."""

    name: str
    steps: int
    peak_rate: float
    characters: int = CHARACTERS
    same_place: bool = False
    only_arms: float = 0.0  # the share of characters whose scenes differ in their arms alone


PHASES = (
    Phase("clip", 1_100, 1e-3),
    Phase("clip-poses", 700, 7e-4, same_place=True),
    Phase("clip-arms", 600, 1e-3, characters=16, same_place=True, only_arms=0.6),
)
MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": data.SIDE,
        "patch_size": 8,
        "width": 128,
        "layers": 4,
        "head_width": 32,
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
    return CLIP(
        embed_dim=MODEL["embed_dim"], vision_cfg=MODEL["vision_cfg"], text_cfg=MODEL["text_cfg"]
    )


def train_clip(work: Path, seed: int, tokenizer: CLIPTokenizer, export: Any = None) -> CLIP:
    """All phases; each starts from the moving average of the one before."""
    torch.manual_seed(checkpoint.hash_of(f"{seed}-clip"))
    clip = new_clip().to(checkpoint.device())
    for phase in PHASES:
        clip = train_phase(phase, clip.requires_grad_(True), work, seed, tokenizer, export)
    return clip


def train_phase(
    phase: Phase, clip: CLIP, work: Path, seed: int, tokenizer: CLIPTokenizer, export: Any
) -> CLIP:
    """The training loop; returns the moving average."""
    target = checkpoint.device()
    average = checkpoint.average_of(clip)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=phase.peak_rate, weight_decay=0.05)
    path = work / f"{phase.name}.safetensors"
    modules: dict[str, nn.Module] = {"clip": clip, "average": average}
    first = checkpoint.load_state(path, modules, optimizer)
    saved = time.monotonic()
    for step in steps(phase.name, first, phase.steps):
        figures = batch_figures(phase, seed, step)
        drawn = np.stack([np.asarray(draw(shown, data.SIDE)) for shown in figures])
        tokens = _tokens(tokenizer, figures, Random(f"{phase.name}-caption-{seed}-{step}"))

        pictures = clip.encode_image(data.to_tensor(drawn).to(target), normalize=True)
        texts = clip.encode_text(tokens.to(target), normalize=True)
        alike = clip.logit_scale.exp() * pictures @ texts.T
        right = torch.arange(len(alike), device=target)
        loss = (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2
        rate = checkpoint.rate_at(step, phase.steps, phase.peak_rate)
        checkpoint.set_rate(optimizer, rate)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=4.6052)  # 100, as published
        checkpoint.update_average(average, clip, checkpoint.decay_at(step, 0.995))

        last = step + 1 == phase.steps
        if step % 50 == 0:
            hits = (alike.argmax(1) == right).float().mean().item()
            print(
                f"{phase.name}: step {step}, loss {loss.item():.4f}, top-1 {hits:.2f}", flush=True
            )
        if last or time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
    assert isinstance(average, CLIP)
    return average


def batch_figures(phase: Phase, seed: int, step: int) -> list[Figure]:
    """Random characters, each in data.SCENES scenes; drawn anew, there is no end of them."""
    random = checkpoint.generator(seed, phase.name, step)
    chosen = torch.randint(data.CHARACTERS, (phase.characters,), generator=random).tolist()
    rng = Random(f"{phase.name}-{seed}-{step}")
    figures = []
    for number, who in enumerate(chosen):
        scenes = [
            data.portrait(seed, who, (step * phase.characters + number) * data.SCENES + scene)
            for scene in range(data.SCENES)
        ]
        one = scenes[0]
        if number < phase.only_arms * phase.characters:
            scenes = [replace(one, arms=arms) for arms in rng.sample(ARMS, data.SCENES)]
        elif phase.same_place:
            scenes = [replace(s, place=one.place, eyes=one.eyes, mouth=one.mouth) for s in scenes]
        figures += scenes
    return figures


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
