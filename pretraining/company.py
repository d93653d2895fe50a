"""The embedded weights learn company: two figures in pictures of 96 x 64, beside one in 64 x 64.

    python -m pretraining.company                 # everything, on two cores in 2.5 h
    python -m pretraining.company dino clip       # some stages; the same again resumes
    python -m pretraining.company card            # the model card, once the new weights are shipped

It starts from the shipped weights and goes on with their recipe on two buckets in turn: the figures
that they were trained on, and wide pictures. From nothing it would take twice as long, and what is
gained for one figure in those hours would have to be gained again. The autoencoder and the words of
the tokenizer stay what they are: the one is convolutions alone, the other spells what it lacks.

Two processes of one thread each work side by side (a second thread hardly speeds up models of this
size). A step took, in CPU seconds: sdxl .40 and .66 (64 and 96 px wide), sd15 .47 and .55, CLIP .9,
DINO .7; with the numbers of steps below that makes 2 h. sd15 has gone through it twice, first
for 5,400 steps at 7e-4. Checkpoints, and the weights in `weights/`, lie in the work folder; the
shipped ones are not touched. What was measured before and after stands in `company.json` and is
printed at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from numpy.typing import NDArray
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from torch import nn

from charsweep.models.embedded import WEIGHTS
from pretraining import data
from pretraining.card import write_card
from pretraining.drawing import draw
from pretraining.pretrain import note_seconds, seconds_spent
from pretraining.pretrain_base import Base, Bucket, Kind, figures_bucket, save_pipeline, train_base
from pretraining.pretrain_clip import (
    NAMED,
    NAMED_OF_BOTH,
    figure_batch,
    pair_batch,
    save_clip,
    train_clip,
)
from pretraining.pretrain_dino import learn_company, save_dino
from pretraining.pretrain_vae import encode
from pretraining.progress import steps
from pretraining.tokenizer import load_tokenizer

LANES = ("figures", "pairs", "sdxl", "clip"), ("before", "sd15", "dino")  # side by side
COUNT = {"figures": 24_000, "pairs": 24_000}  # pictures
STEPS = {"sdxl": 5_800, "sd15": 9_500, "clip": 1_200, "dino": 900}
RATE = {"sdxl": 7e-4, "sd15": 1e-3, "clip": 5e-4}  # about half of what they began with
SEED = 0


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stages:
        torch.set_num_threads(1)
        for name in options.stages:
            began = time.monotonic()
            STAGES[name](options.work)
            note_seconds(options.work, name, time.monotonic() - began)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))
    began = time.monotonic()
    _run_beside(LANES, options.work)
    STAGES["after"](options.work)
    print(f"{time.monotonic() - began:.0f} s; by stage {seconds_spent(options.work)}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--work", type=Path, default=Path("company-work"), help="all that is made")
    options = parser.parse_args()
    unknown = sorted(set(options.stages) - set(STAGES))
    if unknown:
        parser.error(f"no stage named {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return options


def _run_beside(lanes: Sequence[Sequence[str]], work: Path) -> None:
    """A process for each lane; ends with an error if one did, and none outlives the command."""
    print("side by side: " + " | ".join(", ".join(stages) for stages in lanes), flush=True)
    words = [sys.executable, "-m", "pretraining.company", "--work", str(work)]
    started = [subprocess.Popen([*words, *stages]) for stages in lanes]
    try:
        codes = [process.wait() for process in started]
    finally:
        for process in started:
            process.terminate()
    if any(codes):
        raise SystemExit("a stage failed; the same command goes on where it was stopped")


def measure(when: str, weights: Path, work: Path) -> None:
    """What weights know of one figure and of two, into company.json; the judge learns first."""
    from benchmarks.validity import company  # which in turn is made of this package

    company.main([when, str(weights), "--work", str(work)])


# -- pictures


def make_figures(work: Path) -> None:
    def drawn(index: int) -> NDArray[np.uint8]:
        return np.asarray(draw(data.figure(SEED, index), data.SIDE))

    store_latents(work, "figures", drawn)


def make_pairs(work: Path) -> None:
    store_latents(work, "pairs", lambda index: data.draw_wide(data.wide(SEED, index)))


def store_latents(work: Path, name: str, drawn: Callable[[int], NDArray[np.uint8]]) -> None:
    """Draw and encode the pictures of a bucket, once; fp16."""
    path = work / f"latents-{name}.safetensors"
    if path.exists():
        return
    vae = shipped_vae()
    parts = [
        encode(vae, np.stack([drawn(100 * part + index) for index in range(100)])).half()
        for part in steps(name, 0, COUNT[name] // 100)
    ]
    unfinished = path.with_suffix(".tmp")
    save_file({"latents": torch.cat(parts).contiguous()}, unfinished)
    unfinished.replace(path)


def shipped_vae() -> Any:
    return AutoencoderKL.from_pretrained(WEIGHTS / "sd15" / "vae", dtype=torch.float32)


def buckets(work: Path) -> tuple[Bucket, ...]:
    """One figure, and two, which are new: twice as often."""
    make_figures(work)
    make_pairs(work)
    figures, pairs = (
        load_file(work / f"latents-{name}.safetensors")["latents"] for name in ("figures", "pairs")
    )
    two = Bucket(pairs, lambda index, rng: data.wide_caption(data.wide(SEED, index), rng))
    return figures_bucket(figures, SEED), two, two


# -- the models, each from its shipped weights


def make_base(kind: Kind, work: Path) -> None:
    words = load_tokenizer(WEIGHTS / kind / "tokenizer")
    vae, folder = shipped_vae(), work / "weights" / kind

    def export(average: nn.Module) -> None:
        assert isinstance(average, Base)
        save_pipeline(average, vae, words, folder)

    export(
        train_base(
            kind, work, SEED, words, buckets(work), STEPS[kind], export,
            begin=partial(load_shipped, folder=WEIGHTS / kind), peak_rate=RATE[kind],
        )
    )  # fmt: skip


def load_shipped(base: Base, folder: Path) -> None:
    """Give a base the weights of a pipeline's folder."""
    kinds = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
    pipeline: Any = kinds[base.kind].from_pretrained(folder, dtype=torch.float32)
    for part, own in base.named_children():
        own.load_state_dict(getattr(pipeline, part).state_dict())


def make_clip(work: Path) -> None:
    words = load_tokenizer(WEIGHTS / "clip")

    def begin(clip: CLIP) -> None:
        clip.load_state_dict(shipped_clip().state_dict())

    export = partial(save_clip, tokenizer=words, folder=work / "weights" / "clip")
    export(
        train_clip(
            work, SEED, words, export,
            batches={"one": figure_batch, "two": pair_batch}, named=dict(NAMED) | NAMED_OF_BOTH,
            total=STEPS["clip"], begin=begin, peak=RATE["clip"],
        )
    )  # fmt: skip


def shipped_clip() -> Any:
    name = f"local-dir:{WEIGHTS / 'clip'}"
    return open_clip.create_model_and_transforms(name, require_pretrained=True)[0].float()


def make_dino(work: Path) -> None:
    vit = timm.create_model(f"local-dir:{WEIGHTS / 'dino'}", pretrained=True)
    export = partial(save_dino, folder=work / "weights" / "dino")
    export(learn_company(work, SEED, copy.deepcopy(vit), STEPS["dino"], export))


def make_card(work: Path) -> None:
    """The card of the shipped weights, once those of the work folder have been put there."""
    found = json.loads((work / "company.json").read_text(encoding="utf-8"))
    figures = {f"{when}_{n}": v for when in ("before", "after") for n, v in found[when].items()}
    spent = {f"company_{stage}_seconds": took for stage, took in seconds_spent(work).items()}
    write_card(WEIGHTS, figures | spent)


STAGES: dict[str, Callable[[Path], None]] = {
    "before": partial(measure, "before", WEIGHTS),
    "figures": make_figures,
    "pairs": make_pairs,
    "sdxl": partial(make_base, "sdxl"),
    "sd15": partial(make_base, "sd15"),
    "clip": make_clip,
    "dino": make_dino,
    "after": lambda work: measure("after", work / "weights", work),
    "card": make_card,
}

if __name__ == "__main__":
    main()
