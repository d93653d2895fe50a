"""Portraits and captions in; an open_clip model (ViT, patch 8, 64 px; 1.3 M parameters) out.

A batch holds 32 characters in 4 scenes each, so that a caption must name the position and the place
as well as the looks to find its picture (Radford et al. 2021, with hard negatives).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import CLIP
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from charsweep.embedded import checkpoint, data
from charsweep.embedded.captions import caption, full_caption
from charsweep.embedded.progress import steps
from charsweep.embedded.tokenizer import LENGTH, VOCABULARY

STEPS = 1_100
CHARACTERS = 32  # per batch, each in data.SCENES scenes
PEAK_RATE = 1e-3
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


def train_clip(
    work: Path, seed: int, tokenizer: CLIPTokenizer, total: int = STEPS, export: Any = None
) -> CLIP:
    """The training loop; returns the moving average."""
    target = checkpoint.device()
    portraits = data.stored_portraits(work, seed)
    torch.manual_seed(checkpoint.hash_of(f"{seed}-clip"))
    clip = new_clip().to(target)
    average = checkpoint.average_of(clip)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    path = work / "clip.safetensors"
    modules: dict[str, nn.Module] = {"clip": clip, "average": average}
    first = checkpoint.load_state(path, modules, optimizer)
    saved = time.monotonic()
    for step in steps("clip", first, total):
        random = checkpoint.generator(seed, "clip", step)
        chosen = torch.randperm(len(portraits), generator=random)[:CHARACTERS].sort().values
        drawn = portraits[chosen.numpy()].reshape(-1, data.SIDE, data.SIDE, 3)
        tokens = _tokens(tokenizer, seed, step, chosen.tolist()).to(target)

        pictures = clip.encode_image(data.to_tensor(drawn).to(target), normalize=True)
        texts = clip.encode_text(tokens, normalize=True)
        alike = clip.logit_scale.exp() * pictures @ texts.T
        right = torch.arange(len(alike), device=target)
        loss = (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2

        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, total, PEAK_RATE))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=4.6052)  # 100, as published
        checkpoint.update_average(average, clip, checkpoint.decay_at(step))

        if step % 100 == 0:
            hits = (alike.argmax(1) == right).float().mean().item()
            print(f"clip: step {step}, loss {loss.item():.4f}, top-1 {hits:.2f}", flush=True)
        if time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS or step + 1 == total:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
    assert isinstance(average, CLIP)
    return average


def _tokens(tokenizer: CLIPTokenizer, seed: int, step: int, characters: list[int]) -> torch.Tensor:
    """A caption per portrait, half of them the full one; (characters x scenes) x LENGTH ids."""
    texts = []
    for who in characters:
        for scene in range(data.SCENES):
            rng = Random(f"clip-caption-{seed}-{step}-{who}-{scene}")
            shown = data.portrait(seed, who, scene)
            whole = rng.random() < 0.5
            texts.append(full_caption(shown) if whole else caption(shown, rng, 0.1, 0.1))
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
    unfinished.replace(folder / "open_clip_model.safetensors")
