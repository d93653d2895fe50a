"""Scores against their definitions and against torchmetrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small import execute, sweep_of

from charsweep.core.errors import ModelsError
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import load_clip, load_dino
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures
from charsweep.evaluate.metrics.clip_i import ClipI
from charsweep.evaluate.metrics.clip_t import ClipT
from charsweep.evaluate.metrics.copy import Copy
from charsweep.evaluate.metrics.dino import Dino
from charsweep.evaluate.metrics.diversity import Diversity
from charsweep.evaluate.metrics.quality_ratio import QualityRatio
from charsweep.models.pipeline import quiet


def unit(rows: list[list[float]]) -> Features:
    array = np.array(rows, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def exam_of(images: list[list[float]], references: list[list[float]]) -> Exam:
    """Two prompts, half of the images each; CLIP and DINO see the same."""
    count = len(images)
    prompt_of = tuple(int(i >= count // 2) for i in range(count))
    both = ImageFeatures({"clip": unit(images), "dino": unit(images)}, prompt_of)
    refs = {"clip": unit(references), "dino": unit(references)}
    return Exam(both, refs, unit([[1, 0, 0], [0, 1, 0]]), both)


def test_identity_is_the_mean_of_all_pairs() -> None:
    exam = exam_of([[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 1, 0]])
    score = Dino()(exam)
    expected = [(1 + 2**-0.5) / 2, (0 + 2**-0.5) / 2]
    assert score.per_image == pytest.approx(expected, abs=1e-6)
    assert score.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert ClipI()(exam).value == pytest.approx(score.value)


def test_prompt_score_reads_each_image_against_its_own_prompt() -> None:
    exam = exam_of([[1, 0, 0], [1, 0, 0]], [[1, 0, 0]])
    assert ClipT()(exam).per_image == pytest.approx((1.0, 0.0), abs=1e-6)


def test_diversity_is_between_seeds_of_one_prompt() -> None:
    same = exam_of([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], [[1, 0, 0]])
    assert Diversity()(same).value == pytest.approx(0.0, abs=1e-6)
    apart = exam_of([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], [[1, 0, 0]])
    assert Diversity()(apart).value == pytest.approx(1.0, abs=1e-6)
    assert Diversity()(exam_of([[1, 0, 0], [0, 1, 0]], [[1, 0, 0]])).value is None


def test_copy_is_positive_for_a_copy_and_blank_for_one_reference() -> None:
    references = [[1.0, 0.2, 0], [1.0, -0.2, 0], [1.0, 0, 0.4]]
    assert (Copy()(exam_of(references[:2], references)).value or 0) > 0
    assert (Copy()(exam_of([[0, 0, 1.0], [0, 1.0, 0]], references)).value or 0) < 0
    assert Copy()(exam_of([[1, 0, 0], [0, 1, 0]], [[1, 0, 0]])).value is None


def test_quality_takes_all_three() -> None:
    references = [[1.0, 0.3, 0], [1.0, -0.3, 0], [1.0, 0, 0.3], [1.0, 0, -0.3]]
    prompts = unit([[1, 0, 0], [1, 0, 0]])
    untaught = ImageFeatures({"clip": unit([[1, 1, 0], [1, 1, 0]])}, (0, 1))

    def quality(image: list[float], clip: list[float]) -> float | None:
        images = ImageFeatures({"clip": unit([clip] * 2), "dino": unit([image] * 2)}, (0, 1))
        refs = {"dino": unit(references)}
        return QualityRatio()(Exam(images, refs, prompts, untaught)).value

    assert quality([1, 0, 0], [1, 0, 0]) == 1.0
    assert quality([0, 1, 0], [1, 0, 0]) == 0.0  # somebody else
    assert quality([1, 0, 0], [0, 1, 0]) == 0.0  # not what was asked for
    assert quality([1.0, 0.3, 0], [1, 0, 0]) == 0.0  # a training image over again


def test_clip_t_equals_torchmetrics(tmp_path: Path) -> None:
    """torchmetrics' CLIPScore, handed our network by its callable, gives 100 times our number."""
    from torchmetrics.multimodal import CLIPScore

    sweep, store, (result,) = execute(tmp_path, "train_steps=1")
    spec, weights = sweep.encoders["clip"]
    encoder = load_clip(spec, weights)
    pictures = [open_image(store.folder / str(result.images) / f"{i:03d}.png") for i in range(4)]
    prompts = [p for p in sweep.cells[0].exam_prompts for _ in range(2)]

    class Model(torch.nn.Module):
        config = type("Config", (), {"text_config": type("T", (), {"max_position_embeddings": 77})})

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return encoder.network.encode_image(pixels)

        def get_text_features(self, ids: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return encoder.network.encode_text(ids)

    class Processor:
        def __call__(
            self, text: object = None, images: object = None, **_: object
        ) -> dict[str, torch.Tensor]:
            out = {}
            if images is not None:
                out["pixel_values"] = encoder.pixels(pictures)
            if text is not None:
                out["input_ids"] = encoder.tokenizer(prompts)
                out["attention_mask"] = torch.ones_like(out["input_ids"])
            return out

    metric = CLIPScore(model_name_or_path=lambda: (Model(), Processor()))
    uint8 = [torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures]
    with torch.no_grad():
        theirs = float(metric(uint8, prompts)) / 100
    ours = ClipT()(
        Exam(
            ImageFeatures({"clip": encoder.images(pictures)}, (0, 0, 1, 1)),
            {},
            encoder.texts(sweep.cells[0].exam_prompts),
            None,
        )
    )
    assert ours.value == pytest.approx(theirs, abs=1e-6)
    assert result.scores["clip_t"] == pytest.approx(ours.value, abs=1e-6)


def test_preprocessing_is_resize_and_centre_crop(tmp_path: Path) -> None:
    spec, weights = sweep_of(tmp_path).encoders["dino"]
    encoder = load_dino(replace(spec, resize=96, crop=64), weights)
    wide = open_image(sweep_of(tmp_path).character.paths[0]).resize((300, 150))
    assert encoder.pixels([wide]).shape == (1, 3, 64, 64)
    square = load_dino(spec, weights).images([wide.crop((75, 0, 225, 150))])
    assert np.linalg.norm(square) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("load", [load_clip, load_dino])
def test_broken_encoder_weights_are_one_error(load: object, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    spec, weights = sweep.encoders["clip"]
    with pytest.raises(ModelsError, match=str(tmp_path)), quiet():
        load(spec, replace(weights, path=tmp_path))  # type: ignore[operator]


def test_gains_are_against_the_same_exam(tmp_path: Path) -> None:
    sweep, store, (result,) = execute(tmp_path, "train_steps=1", "lr=1e-7")
    from charsweep.results.cells import scores_of

    base = scores_of(sweep.cells[0], sweep.cells[0].untaught_set, store)
    for name, gain in result.gains.items():
        assert gain == pytest.approx((result.scores[name] or 0) - (base[name] or 0))
    assert abs(result.gains["dino"] or 0) < 0.01  # a step at 1e-7 teaches nothing
