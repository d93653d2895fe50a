"""Scores against their definitions and against torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small import encoder_named, execute, sweep_of
from PIL import Image

from charsweep.character.attributes import rivals_of
from charsweep.config import load_sweep
from charsweep.core.errors import ModelsError
from charsweep.core.specs import AttributeSpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import load_encoder
from charsweep.evaluate.encoders.network import Network
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures
from charsweep.evaluate.metrics.clip_i import ClipI
from charsweep.evaluate.metrics.clip_t import ClipT
from charsweep.evaluate.metrics.copy import Copy
from charsweep.evaluate.metrics.dino import Dino
from charsweep.evaluate.metrics.diversity import Diversity
from charsweep.evaluate.metrics.drift import Drift
from charsweep.evaluate.metrics.identity import Identity
from charsweep.evaluate.metrics.leak import Leak
from charsweep.evaluate.metrics.prompt import Prompt
from charsweep.evaluate.metrics.quality_ratio import QualityRatio
from charsweep.evaluate.metrics.score import Score
from charsweep.evaluate.score import Scorer, Seen, squares
from charsweep.models.pipeline import quiet
from charsweep.results.cells import stored_scores, values_of
from pretraining.world import EXAM, UNICORN_GIRL, Figure, draw, random_character


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
    def diversity(images: list[list[float]]) -> float | None:
        return Diversity()(replace(exam_of(images, [[1, 0, 0]]), prompts=None)).value

    assert diversity([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]) == pytest.approx(0.0, abs=1e-6)
    assert diversity([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]) == pytest.approx(1.0, abs=1e-6)
    assert diversity([[1, 0, 0], [0, 1, 0]]) is None


def test_diversity_counts_images_that_are_right() -> None:
    """Debris is diverse; of two seeds each, only the first prompt's are both her."""
    dino = [[1, 0.2, 0], [1, -0.2, 0], [1, 0, 0], [0, 0, 1]]
    clip = [[1, 1, 0], [1, 1, 0], [-1, 0, 0], [-1, 0, 0]]
    expected = 1 - float(unit([dino[0]])[0] @ unit([dino[1]])[0])
    assert Diversity()(asked_exam(clip, dino)).value == pytest.approx(expected, abs=1e-6)


def test_copy_is_positive_for_a_copy_and_blank_for_one_reference() -> None:
    references = [[1.0, 0.2, 0], [1.0, -0.2, 0], [1.0, 0, 0.4]]
    assert (Copy()(exam_of(references[:2], references)).value or 0) > 0
    assert (Copy()(exam_of([[0, 0, 1.0], [0, 1.0, 0]], references)).value or 0) < 0
    assert Copy()(exam_of([[1, 0, 0], [0, 1, 0]], [[1, 0, 0]])).value is None


@pytest.mark.parametrize(("count", "repeats"), [(4, {"1": 2, "2": 2}), (2, {})])
def test_which_drawings_are_repeated_is_counted(count: int, repeats: dict[str, int]) -> None:
    references = [[1.0, 0.2, 0], [1.0, -0.2, 0], [1.0, 0, 0.4]]
    images = [references[0]] * 2 + [references[1]] * 2 if count == 4 else [[0, 0, 1.0]] * 2
    assert Copy()(exam_of(images, references)).details["repeats"] == repeats


ASKED = ["a girl sitting on the beach", "a girl jumping"]
VOCABULARY = (
    AttributeSpec("position", ("sitting", "jumping")),
    AttributeSpec("place", ("on the beach", "in a city")),
)
# A CLIP that sees position, place and beauty: an axis each; 0.5 of a word is its absence.
TEXTS = {
    "a girl sitting on the beach": [1, 1, 0],
    "a girl jumping on the beach": [-1, 1, 0],
    "a girl sitting in a city": [1, -1, 0],
    "a girl jumping": [-1, 0, 0.1],
    "a girl sitting": [1, 0, 0.1],
}


def asked_exam(clip: list[list[float]], dino: list[list[float]], **more: Any) -> Exam:
    """Images of the two prompts, half each; the base shows what is asked and is nobody."""
    half = len(clip) // 2
    images = ImageFeatures(
        {"clip": unit(clip), "dino": unit(dino)}, tuple(int(i >= half) for i in range(len(clip)))
    )
    base = ImageFeatures(
        {"clip": unit([[1, 1, 0], [-1, 0, 0]]), "dino": unit([[0, 1, 0]] * 2)}, (0, 1)
    )
    rivals = [
        {
            name: unit([TEXTS[text] for text in texts])
            for name, texts in rivals_of(p, VOCABULARY).items()
        }
        for p in ASKED
    ]
    return Exam(
        images,
        {"dino": unit([[1, 0.1, 0], [1, -0.1, 0], [1, 0, 0.2]])},
        unit([TEXTS[prompt] for prompt in ASKED]),
        base,
        rivals=rivals,
        **more,
    )


RIGHT, HER = [[1, 1, 0], [-1, 0, 0]], [[1, 0, 0]] * 2


def test_prompt_is_the_share_of_what_is_asked_that_is_shown() -> None:
    assert Prompt()(asked_exam(RIGHT, HER)).per_image == (1.0, 1.0)
    in_a_city = [[1, -1, 0], [-1, 0, 0]]
    assert Prompt()(asked_exam(in_a_city, HER)).per_image == (0.5, 1.0)
    assert Prompt()(asked_exam(RIGHT[::-1], HER)).per_image == (0.0, 0.0)


def test_only_what_clip_reads_on_known_images_counts() -> None:
    exam = asked_exam([[1, -1, 0], [-1, 0, 0]], HER)
    assert exam.untaught is not None
    blind = {"clip": unit([[1, -1, 0], [-1, 0, 0]]), "dino": exam.untaught.by_encoder["dino"]}
    unread = replace(exam, untaught=ImageFeatures(blind, (0, 1)))
    score = Prompt()(unread)
    assert score.per_image == (1.0, 1.0)  # the place does not count: the base is never right there
    assert score.details["attributes"]["place"] == {"base": 0.0, "counts": False}
    true = ImageFeatures({"clip": unit(RIGHT)}, (0, 1))
    score = Prompt()(
        replace(unread, truth=replace(true, by_encoder={**true.by_encoder, "dino": unit(HER)}))
    )
    assert score.per_image == (0.5, 1.0)  # on true pictures it is
    assert score.details["attributes"]["place"]["counts"]


def test_prompts_that_name_nothing_readable_are_contrasted_with_the_others() -> None:
    exam = replace(asked_exam(RIGHT, HER), rivals=[{}, {}], class_prompt=unit([[0, 0, 1]]))
    score = Prompt()(exam)
    assert score.per_image == (1.0, 1.0)
    assert score.details["by_contrast"] == [0, 1]
    swapped = replace(exam, images=replace(exam.images, prompt_of=(1, 0)))
    assert Prompt()(swapped).per_image == (0.0, 0.0)


def test_identity_goes_from_the_base_to_the_least_typical_drawing() -> None:
    exam = asked_exam(RIGHT * 2, [[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    her, base, half, other = Identity()(exam).per_image or ()
    assert (her, base) == (1.0, pytest.approx(0.0, abs=1e-6))
    assert 0.6 < half < 0.8
    assert 0.0 < other < 0.2
    assert Identity()(replace(exam, untaught=None)).value is None


def test_identity_is_measured_by_drawings_that_were_not_taught() -> None:
    exam = asked_exam(RIGHT, [[0, 0, 1]] * 2)
    assert Identity()(exam).details["drawings"] == "training images"
    held_out = replace(exam, held_out={"dino": unit([[0, 0, 1], [0, 0.1, 1]])})
    score = Identity()(held_out)
    assert (score.value, score.details["drawings"]) == (1.0, "held out")
    one = replace(exam, held_out={"dino": unit([[0, 0, 1]])})  # its scale ends at the same image
    assert Identity()(one).value == pytest.approx(1.0)


def test_score_and_quality_want_both_in_the_same_image() -> None:
    both = asked_exam(RIGHT, HER)
    assert (Score()(both).value, QualityRatio()(both).value) == (1.0, 1.0)
    copies = asked_exam(RIGHT[::-1], HER)
    assert (Score()(copies).value, QualityRatio()(copies).value) == (0.0, 0.0)
    base = asked_exam(RIGHT, [[0, 1, 0]] * 2)
    assert Score()(base).value == pytest.approx(0.0, abs=1e-6)
    divided = asked_exam([RIGHT[0], RIGHT[0]], [[1, 0, 0], [1, 0, 0]])  # one right in all, one not
    assert QualityRatio()(divided).value == 0.5
    assert Score()(replace(both, prompts=None)).value is None
    assert QualityRatio()(replace(both, untaught=None)).value is None


def test_leak_is_what_the_class_got_of_the_character() -> None:
    nobody = asked_exam(RIGHT, [[0, 1, 0]] * 2)
    assert Leak()(nobody).value == pytest.approx(0.0, abs=1e-6)
    assert Leak()(asked_exam(RIGHT, HER)).value == pytest.approx(1.0, abs=0.05)


def test_drift_is_how_far_the_same_seed_has_moved() -> None:
    assert Drift()(asked_exam(RIGHT, [[0, 1, 0]] * 2)).value == pytest.approx(0.0, abs=1e-6)
    assert Drift()(asked_exam(RIGHT, [[0, 1, 0], [1, 0, 0]])).per_image == pytest.approx((0, 1))


GREEN_BOY = {
    "pattern": "plain", "colours": ("black",), "hair": "short", "headgear": "none",
    "clothes": "shirt", "clothes_colour": "green", "emblem": "none",
}  # fmt: skip


def test_true_pictures_pass_and_frauds_do_not(tmp_path: Path) -> None:
    """With the encoders that ship, on drawings of the cartoon world by its own hand."""
    sweep = load_sweep([f"root={tmp_path}"])
    spec, character = sweep.cells[0].exam, sweep.character
    encoders = {one: load_encoder(one, weights) for one, weights in sweep.encoders.items()}
    metrics = {metric.name: metric for metric in sweep.cells[0].metrics}
    drawings = [open_image(path) for path in character.paths]
    assert character.truth is not None
    true = [open_image(path) for path in character.truth.paths]
    references = squares(lambda: drawings)
    scorer = Scorer(encoders.__getitem__, Store(tmp_path), references, references)

    def seen(pictures: Sequence[Image.Image]) -> Seen:
        return Seen(lambda: pictures, tuple(range(len(true))))

    def scene(who: Figure, shown: Figure) -> Image.Image:
        position = {name: getattr(shown, name) for name in ("arms", "legs", "eyes", "place")}
        return draw(replace(who, **position))

    chance = Random(0)
    anybody = [replace(random_character(chance), species="girl", hair="long") for _ in EXAM]
    base = seen([scene(who, figure) for who, (_, figure) in zip(anybody, EXAM, strict=True)])

    def judged(pictures: Sequence[Image.Image]) -> tuple[float, float]:
        found = [
            metrics[name].made(scorer.exam(spec, metrics[name], seen(pictures), base)).value
            for name in ("score", "quality_ratio")
        ]
        return found[0] or 0.0, found[1] or 0.0

    assert min(judged(true)) >= 0.9
    score, quality = judged([drawings[i % len(drawings)] for i in range(len(true))])
    assert (score <= 0.25, quality) == (True, 0.0)
    noise = Image.effect_noise((64, 64), 120).convert("RGB")
    score, quality = judged([noise] * len(true))
    assert (score <= 0.05, quality) == (True, 0.0)
    other = [scene(replace(UNICORN_GIRL, **GREEN_BOY), figure) for _, figure in EXAM]
    score, quality = judged(other)
    assert (score <= 0.1, quality) == (True, 0.0)


def test_clip_t_equals_torchmetrics(tmp_path: Path) -> None:
    """torchmetrics' CLIPScore, handed our network by its callable, gives 100 times our number."""
    from torchmetrics.multimodal import CLIPScore

    sweep, store, (result,) = execute(tmp_path, "train_steps=1")
    spec, weights = encoder_named(sweep, "clip")
    encoder = load_encoder(spec, weights)
    assert isinstance(encoder, Network)
    pictures = [open_image(store.folder / str(result.images) / f"{i:03d}.png") for i in range(4)]
    prompts = [p for p in sweep.cells[0].exam.prompts for _ in range(2)]

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
            encoder.texts(sweep.cells[0].exam.prompts),
            None,
        )
    )
    assert ours.value == pytest.approx(theirs, abs=1e-6)
    assert result.scores["clip_t"] == pytest.approx(ours.value, abs=1e-6)


def test_preprocessing_is_resize_and_centre_crop(tmp_path: Path) -> None:
    spec, weights = encoder_named(sweep_of(tmp_path), "dino")
    encoder = load_encoder(replace(spec, resize=96, crop=64), weights)
    assert isinstance(encoder, Network)
    wide = open_image(sweep_of(tmp_path).character.paths[0]).resize((300, 150))
    assert encoder.pixels([wide]).shape == (1, 3, 64, 64)
    square = load_encoder(spec, weights).images([wide.crop((75, 0, 225, 150))])
    assert np.linalg.norm(square) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["clip", "dino"])
def test_broken_encoder_weights_are_one_error(name: str, tmp_path: Path) -> None:
    spec, weights = encoder_named(sweep_of(tmp_path), name)
    with pytest.raises(ModelsError, match=str(tmp_path)), quiet():
        load_encoder(spec, replace(weights, path=tmp_path))


def test_gains_are_against_the_same_exam(tmp_path: Path) -> None:
    sweep, store, (result,) = execute(tmp_path, "train_steps=1", "lr=1e-7")
    assert sweep.cells[0].untaught_set is not None
    base = values_of(stored_scores(sweep.cells[0], sweep.cells[0].untaught_set, store))
    known = {name: gain for name, gain in result.gains.items() if gain is not None}
    assert {"score", "dino", "clip_t"} <= set(known)
    for name, gain in known.items():
        assert gain == pytest.approx((result.scores[name] or 0) - (base[name] or 0))
    assert abs(result.gains["dino"] or 0) < 0.01  # a step at 1e-7 teaches nothing
