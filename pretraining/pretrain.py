"""The recipe of the embedded weights: all training stages, from a seed, and their model card.

    python -m pretraining.pretrain                    # everything, on two cores about 2 h
    python -m pretraining.pretrain vae sd15 --work D  # some stages; the same again resumes

Stages: sdxl, sd15 (which starts from it), vae, clip, dino, and card at the end. Those that do not
wait for another may run at the same time, each in its own process with `--threads 1`; that is how
the shipped weights were made. Checkpoints lie in the work folder and can be deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTokenizer

from charsweep.models.embedded import WEIGHTS
from pretraining import tokenizer
from pretraining.card import write_card
from pretraining.pretrain_base import (
    STEPS,
    Base,
    Kind,
    figures_bucket,
    save_pipeline,
    save_vae,
    start_from,
    stored_average,
    train_base,
)
from pretraining.pretrain_clip import save_clip, train_clip
from pretraining.pretrain_dino import save_dino, train_dino
from pretraining.pretrain_vae import start_vae, stored_latents, train_decoder


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.stages or list(STAGES):
        began = time.monotonic()
        STAGES[name](options.work, options.out, options.seed)
        note_seconds(options.work, name, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--work", type=Path, default=Path("pretrain-work"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves the choice to torch")
    options = parser.parse_args()
    unknown = sorted(set(options.stages) - set(STAGES))
    if unknown:
        parser.error(f"no stage named {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return options


def make_vae(work: Path, out: Path, seed: int) -> None:
    """Set the encoder, train the decoder, and put both into the pipelines that exist already."""

    def export(average: nn.Module) -> None:
        save_vae(average, work / "vae")
        for kind in ("sd15", "sdxl"):
            if (out / kind).exists():
                save_vae(average, out / kind / "vae")

    export(train_decoder(work, seed, export=export))


def make_base(kind: Kind, work: Path, out: Path, seed: int) -> None:
    """Train one pipeline; it is exported at every checkpoint: there is always one to try.

    It needs the latents only, so it may train while the decoder still does.
    """
    words = stored_tokenizer(work, seed)

    def export(average: nn.Module) -> None:
        assert isinstance(average, Base)
        save_pipeline(average, current_vae(work, seed), words, out / kind)

    def begin(base: Base) -> None:
        sdxl = stored_average(work, "sdxl").to(base.unet.device)
        start_from(base, sdxl, seed, words, figures)

    figures = figures_bucket(stored_latents(work, start_vae(work, seed), seed), seed)
    start = begin if kind == "sd15" else None
    export(train_base(kind, work, seed, words, [figures], STEPS[kind], export, start))


def current_vae(work: Path, seed: int) -> Any:
    """The autoencoder as far as its decoder has come."""
    if (work / "vae" / "config.json").exists():
        return AutoencoderKL.from_pretrained(work / "vae", dtype=torch.float32)
    return start_vae(work, seed)


def make_clip(work: Path, out: Path, seed: int) -> None:
    words = stored_tokenizer(work, seed)
    save_clip(
        train_clip(
            work, seed, words, export=partial(save_clip, tokenizer=words, folder=out / "clip")
        ),
        words,
        out / "clip",
    )


def make_dino(work: Path, out: Path, seed: int) -> None:
    save_dino(train_dino(work, seed, export=partial(save_dino, folder=out / "dino")), out / "dino")


def make_card(work: Path, out: Path, seed: int) -> None:
    write_card(out, {f"{stage}_seconds": spent for stage, spent in seconds_spent(work).items()})


def stored_tokenizer(work: Path, seed: int) -> CLIPTokenizer:
    """Learned on the first call, then read from the work folder."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        tokenizer.new_tokenizer(seed).save_pretrained(str(folder))
    return tokenizer.load_tokenizer(folder)


def note_seconds(work: Path, stage: str, seconds: float) -> None:
    """Add to what a stage has cost in this work folder, over all its starts."""
    spent = seconds_spent(work)
    path = work / f"seconds-{stage}.json"  # one file per stage: two stages may run at once
    path.write_text(json.dumps({stage: round(spent.get(stage, 0.0) + seconds, 1)}))


def seconds_spent(work: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for path in sorted(work.glob("seconds-*.json")):
        found.update(json.loads(path.read_text()))
    return found


STAGES: dict[str, Callable[[Path, Path, int], None]] = {
    "sdxl": partial(make_base, "sdxl"),
    "sd15": partial(make_base, "sd15"),
    "vae": make_vae,
    "clip": make_clip,
    "dino": make_dino,
    "card": make_card,
}

if __name__ == "__main__":
    main()
