"""What a plan says that a snapshot takes, against the files, and for the published models."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.small import family, sweep_of, weights_at
from helpers.true_shapes import modules

from charsweep.core.specs import TrajectorySpec
from charsweep.models.embedded import FOLDER
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline
from charsweep.models.weights import find_base
from charsweep.plan import cost
from charsweep.train.methods.finetune import FineTune
from charsweep.train.trainable import slot_weights

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut", "time_emb_proj", "proj_in", "ff.net.2", "conv"]


@cache
def base_of(name: str) -> LoadedPipeline:
    weights = weights_at(FOLDER / "weights" / name)
    return load_base(weights.spec, weights, torch.device("cpu"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> TrajectorySpec:
    return sweep_of(tmp_path_factory.mktemp("sizes")).cells[0].trajectory


def planned(template: TrajectorySpec, base: str, **settings: object) -> int:
    """`cost.snapshot_bytes` of the template with these settings of its method."""
    method = replace(template.method, settings={**template.method.settings, **settings})
    weights = find_base(base, Path("made"), family("sd15" if "sd15" in base else "sdxl"))
    spec = replace(template, base=weights.spec, method=method)
    return cost.snapshot_bytes(spec, {spec.base_key: weights})


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
@pytest.mark.parametrize("targets", [ATTENTION, CONVOLUTIONS], ids=["attention", "convolutions"])
@pytest.mark.parametrize("text_encoder", [False, True])
@pytest.mark.parametrize(("adapter", "rank"), [
    ("lora", 1), ("lora", 4), ("lora", 13), ("dora", 3), ("loha", 2), ("lokr", 2), ("lokr", 64),
])  # fmt: skip
def test_an_adapter_is_as_large_as_planned_to_the_byte(
    adapter: str, rank: int, text_encoder: bool, targets: list[str], base: str,
    template: TrajectorySpec, tmp_path: Path,
) -> None:  # fmt: skip
    settings = {
        "adapter": adapter, "rank": rank, "alpha": 2.5, "target_modules": tuple(targets),
        "text_encoder": text_encoder,
    }  # fmt: skip
    method, loaded = FineTune(**{**template.method.settings, **settings}), base_of(base)
    taught = loaded.parts(method.taught(loaded.family))
    made = slot_weights(method.low_rank, loaded, taught, 1)
    made.enter(0, replace(template, method=replace(template.method, settings=asdict(method))))
    made.save(0, tmp_path)
    made.leave(0)
    made.close()
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert planned(template, f"embedded:weights/{base}", **settings) == written


# -- the published models, by their architecture alone ---------------------------------------------


def test_sizes_for_stable_diffusion(template: TrajectorySpec) -> None:
    parts, base = modules("sd15"), "random:sd15"
    parameters = {name: sum(p.numel() for p in one.parameters()) for name, one in parts.items()}
    assert parameters == {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863}
    adapter = {"adapter": "lora", "rank": 4, "alpha": 4.0, "target_modules": tuple(ATTENTION)}
    numbers = 797_184  # of rank 4 on the 128 layers of 32 attentions
    size = planned(template, base, **adapter, text_encoder=False)
    assert 0 < size - 4 * numbers < 40_000  # the header
    assert round(size / 1e6, 2) == 3.23
    whole = dict.fromkeys(("adapter", "rank", "alpha", "target_modules"))
    assert planned(template, base, trains="weights", **whole) == 4 * sum(parameters.values())
    assert 4 * sum(parameters.values()) == pytest.approx(4.27e9, rel=0.005)


def test_sizes_for_stable_diffusion_xl(template: TrajectorySpec) -> None:
    parts, base = modules("sdxl"), "random:sdxl"
    parameters = {name: sum(p.numel() for p in one.parameters()) for name, one in parts.items()}
    assert parameters["unet"] == 2_567_463_684
    adapter = {"adapter": "lora", "rank": 4, "alpha": 4.0, "target_modules": tuple(ATTENTION)}
    numbers = 5_806_080  # of rank 4 on the 560 layers of 140 attentions
    size = planned(template, base, **adapter, text_encoder=False)
    assert 0 < size - 4 * numbers < 180_000  # the header
    assert round(size / 1e6, 2) == 23.39
    encoders = planned(template, base, **adapter, text_encoder=True) - size
    per_layer = 4 * 4 * 2 * (12 * 768 + 32 * 1280)  # four layers, A and B, bytes after it
    assert encoders == pytest.approx(4 * per_layer, rel=0.05)
