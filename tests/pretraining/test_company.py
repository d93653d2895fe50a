"""Learning company goes on from the shipped weights, on two sizes of pictures, and resumes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from charsweep.models.embedded import WEIGHTS
from pretraining.company import load_shipped, shipped_vae
from pretraining.pretrain_base import Base, Bucket, save_pipeline, train_base
from pretraining.tokenizer import load_tokenizer


def test_a_base_starts_from_its_shipped_weights_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = torch.Generator().manual_seed(0)
    buckets = [
        Bucket(torch.randn(4, 32, 8, width, generator=random), lambda index, rng: "a girl")
        for width in (8, 12)
    ]
    begun: list[Base] = []

    def begin(base: Base) -> None:
        load_shipped(base, WEIGHTS / "sdxl")
        begun.append(base)

    words = load_tokenizer(WEIGHTS / "sdxl" / "tokenizer")
    train = partial(train_base, "sdxl", tmp_path, 0, words, buckets, begin=begin, peak_rate=1e-5)
    shipped = Base("sdxl")
    load_shipped(shipped, WEIGHTS / "sdxl")
    first = train(2).state_dict()
    assert "sdxl: step 1, loss" in capsys.readouterr().out
    for name, value in shipped.state_dict().items():
        assert torch.allclose(value, first[name], atol=1e-4)
    again = train(2).state_dict()
    assert len(begun) == 1
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_no_path_of_a_machine_is_written(tmp_path: Path) -> None:
    words, vae = load_tokenizer(WEIGHTS / "sd15" / "tokenizer"), shipped_vae()
    save_pipeline(Base("sd15"), vae, words, tmp_path)
    written = [*tmp_path.glob("*/config.json"), *WEIGHTS.glob("*/*/config.json")]
    assert len(written) == 3 + 3 + 4
    for path in written:
        assert "_name_or_path" not in json.loads(path.read_text(encoding="utf-8"))
