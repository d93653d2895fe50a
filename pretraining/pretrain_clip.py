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

Wide pictures of two figures are seen squashed to a square (open_clip's resize mode of that name,
which leaves square pictures as they are). Their batches hold, by turns, a pair beside the same pair
with sides exchanged, and both again with the colours of hair or fur exchanged; a pair together in
four ways; in four scenes; one figure in four companies (Yuksekgonul et al. 2023: a CLIP that is
never shown captions in another order reads them as bags of words). Batches of both kinds go through
the towers together, because batch norm keeps one mean for both.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip import CLIP
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from pretraining import checkpoint, data
from pretraining.captions import caption, full_caption
from pretraining.drawing import draw
from pretraining.figure import (
    ARMS,
    COLOURS,
    EYES,
    LEGS,
    MOUTHS,
    PLACES,
    SPECIES,
    Figure,
    random_character,
    random_scene,
)
from pretraining.pair import HELD_ARMS, TOGETHER, Pair, random_company
from pretraining.pair_captions import full_pair_caption, pair_caption
from pretraining.progress import steps
from pretraining.tokenizer import LENGTH, VOCABULARY

CHARACTERS = 16  # per batch, each in data.SCENES scenes


STEPS = 2_400
PEAK_RATE = 1e-3
DIFFERENCES = ("scene", "position", "position", "arms", "arms", "face")  # by turns, see `alike_in`
PAIR_DIFFERENCES = ("sides", "together", "sides", "company", "sides", "scene")  # `company_in`
NAMED: dict[str, tuple[str, ...]] = {
    "legs": LEGS, "arms": ARMS, "eyes": EYES, "mouth": MOUTHS, "place": PLACES, "species": SPECIES,
}  # fmt: skip
NAMED_OF_EACH: dict[str, tuple[str, ...]] = {  # of two figures
    "species": SPECIES, "colour": tuple(COLOURS), "clothes_colour": tuple(COLOURS), "legs": LEGS,
}  # fmt: skip
NAMED_OF_BOTH = {"together": TOGETHER, "place": PLACES} | {
    f"{side} {what}": words for side in ("left", "right") for what, words in NAMED_OF_EACH.items()
}
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
    "resize_mode": "squash",
}


def new_clip() -> CLIP:
    clip = CLIP(
        embed_dim=MODEL["embed_dim"], vision_cfg=MODEL["vision_cfg"], text_cfg=MODEL["text_cfg"]
    )
    nn.init.normal_(clip.token_embedding.weight, std=0.5)  # open_clip's .02 makes all words alike
    nn.init.normal_(clip.positional_embedding, std=0.15)
    return clip


@dataclass(frozen=True)
class Batch:
    """Pictures, N x 64 x 64 x 3, a caption for each, and what is to be named in each."""

    pictures: NDArray[np.uint8]
    texts: list[str]
    names: Mapping[str, list[str]]
    differences: tuple[str, ...]  # in what its groups of scenes differ, by turns


Batches = Callable[[int, int], Batch]  # of a seed and a step


class Named(nn.Module):
    """Names what a picture or a caption shows from its feature, by linear layers."""

    def __init__(self, named: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.named = named
        width = MODEL["embed_dim"]
        self.heads = nn.ModuleDict({what: nn.Linear(width, len(named[what])) for what in named})

    def forward(self, features: torch.Tensor, names: Mapping[str, list[str]]) -> torch.Tensor:
        """Mean cross-entropy over all names; features (N, 128) of length 1."""
        losses = []
        for what, shown in names.items():
            right = torch.tensor([self.named[what].index(word) for word in shown])
            guesses = self.heads[what](10 * features)
            losses.append(F.cross_entropy(guesses, right.to(features.device)))
        return torch.stack(losses).mean()


def figure_batch(seed: int, step: int) -> Batch:
    """One figure in each picture."""
    figures = batch_figures(seed, step)
    return Batch(
        np.stack([np.asarray(draw(shown, data.SIDE)) for shown in figures]),
        _captions(figures, Random(f"clip-caption-{seed}-{step}")),
        {what: [getattr(shown, what) for shown in figures] for what in NAMED},
        DIFFERENCES,
    )


def pair_batch(seed: int, step: int) -> Batch:
    """Two figures in each picture, squashed."""
    pairs = batch_pairs(seed, step)
    rng = Random(f"clip-pair-caption-{seed}-{step}")
    texts = [
        full_pair_caption(pair, pose=rng.random() < 0.3)
        if rng.random() < 0.6
        else pair_caption(pair, rng, omit=0.02, named=0.1, placed=1.0)
        for pair in pairs
    ]
    names = {what: [_name_of(pair, what) for pair in pairs] for what in NAMED_OF_BOTH}
    drawn = np.stack([data.draw_wide(pair) for pair in pairs])
    return Batch(data.squashed(drawn), texts, names, PAIR_DIFFERENCES)


def _name_of(pair: Pair, what: str) -> str:
    side, _, which = what.partition(" ")
    if not which:
        return str(getattr(pair, what))
    figure = pair.left if side == "left" else pair.right
    return figure.colours[0] if which == "colour" else str(getattr(figure, which))


def train_clip(
    work: Path,
    seed: int,
    tokenizer: CLIPTokenizer,
    export: Any = None,
    batches: Mapping[str, Batches] | None = None,
    named: Mapping[str, Sequence[str]] = NAMED,
    total: int = STEPS,
    begin: Callable[[CLIP], None] | None = None,
    peak: float = PEAK_RATE,
) -> CLIP:
    """The training loop; returns the moving average.

    Every step shows a batch of each kind, told apart from its like alone. `begin(clip)` sets the
    weights that a new run starts with.
    """
    target = checkpoint.device()
    torch.manual_seed(checkpoint.hash_of(f"{seed}-clip"))
    path = work / "clip.safetensors"
    clip = new_clip().to(target)
    if begin is not None and not path.exists():
        begin(clip)
    average = checkpoint.average_of(clip)
    heads = nn.ModuleDict({"pictures": Named(named), "texts": Named(named)}).to(target)
    trained = [*clip.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=peak, weight_decay=0.05)
    modules: dict[str, nn.Module] = {"clip": clip, "average": average, "heads": heads}
    first = checkpoint.load_state(path, modules, optimizer)
    saved = time.monotonic()
    kinds = batches or {"one figure": figure_batch}
    for step in steps("clip", first, total):
        shown = {kind: batch(seed, step) for kind, batch in kinds.items()}
        drawn = np.concatenate([batch.pictures for batch in shown.values()])
        tokens = _tokens(tokenizer, [text for batch in shown.values() for text in batch.texts])

        size = len(drawn) // len(shown)
        pictures = clip.encode_image(data.to_tensor(drawn).to(target), normalize=True)
        texts = clip.encode_text(tokens.to(target), normalize=True)
        right = torch.arange(size, device=target)
        losses, found = [], []
        for batch, seen, read in zip(
            shown.values(), pictures.split(size), texts.split(size), strict=True
        ):
            alike = clip.logit_scale.exp() * seen @ read.T
            contrast = (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2
            naming = heads["pictures"](seen, batch.names) + heads["texts"](read, batch.names)
            losses.append(contrast + NAMING_WEIGHT * naming)
            found.append((alike.argmax(1) == right).float())
        loss = torch.stack(losses).mean()
        checkpoint.set_rate(optimizer, checkpoint.rate_at(step, total, peak))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=4.6052)  # 100, as published
        checkpoint.update_average(average, clip, checkpoint.decay_at(step, 0.995))

        last = step + 1 == total
        if step % 50 == 0:
            told = [
                f"{kind}: {_shares(hits, batch.differences)}"
                for (kind, batch), hits in zip(shown.items(), found, strict=True)
            ]
            print(f"clip: step {step}, loss {loss.item():.4f}, top-1 {'; '.join(told)}", flush=True)
        if last or time.monotonic() - saved > checkpoint.SECONDS_BETWEEN_CHECKPOINTS:
            checkpoint.save_state(path, step + 1, modules, optimizer)
            if export is not None:
                export(average)
            saved = time.monotonic()
    assert isinstance(average, CLIP)
    return average


def _shares(hits: torch.Tensor, differences: tuple[str, ...]) -> str:
    """Of a batch's hits, the share by what its groups differ in."""
    groups = hits.reshape(CHARACTERS, -1).mean(1)
    shares: dict[str, list[float]] = {}
    for number, share in enumerate(groups.tolist()):
        shares.setdefault(differences[number % len(differences)], []).append(share)
    return ", ".join(f"{what} {sum(own) / len(own):.2f}" for what, own in shares.items())


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


def batch_pairs(seed: int, step: int) -> list[Pair]:
    """Random pairs, each in data.SCENES variants."""
    rng = Random(f"clip-pairs-{seed}-{step}")
    pairs = []
    for number in range(CHARACTERS):
        pair = random_company(random_character(rng), random_character(rng), rng)
        pairs += company_in(PAIR_DIFFERENCES[number % len(PAIR_DIFFERENCES)], pair, rng)
    return pairs


def company_in(difference: str, pair: Pair, rng: Random) -> list[Pair]:
    """A pair in four variants that are the same in all but what is named."""
    if difference == "sides":
        other = with_colours_exchanged(pair)
        return [pair, pair.swapped, other, other.swapped]
    if difference == "together":
        left, right = (replace(one, arms=HELD_ARMS[i][0]) for i, one in enumerate(pair.both))
        return [Pair(left, right, together) for together in TOGETHER]
    if difference == "company":
        others = [random_company(pair.left, random_character(rng), rng).right for _ in range(3)]
        strangers = [replace(one, place=pair.place, arms=pair.right.arms) for one in others]
        return [pair, *(replace(pair, right=one) for one in strangers)]
    return [pair, *(random_company(*pair.both, rng) for _ in range(3))]


def with_colours_exchanged(pair: Pair) -> Pair:
    """Each in the other's colours of hair or fur."""
    left, right = pair.both
    return replace(
        pair,
        left=replace(left, pattern=right.pattern, colours=right.colours),
        right=replace(right, pattern=left.pattern, colours=left.colours),
    )


def _captions(figures: list[Figure], rng: Random) -> list[str]:
    """A caption per figure, half of them the full one."""
    return [
        full_caption(shown) if rng.random() < 0.5 else caption(shown, rng, omit=0.02, named=0.1)
        for shown in figures
    ]


def _tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """N x LENGTH ids."""
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
