"""The shipped weights: they load with the plain libraries and do what the model card says."""

import json
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from helpers.variants import FAMILIES
from safetensors import safe_open

from charsweep.models.embedded import FOLDER, WEIGHTS
from pretraining import data, measure
from pretraining.captions import full_caption

LIMIT = 25_000_000  # bytes of all weights together
KINDS = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def card() -> dict[str, float]:
    figures: dict[str, float] = json.loads((FOLDER / "card" / "figures.json").read_text())
    return figures


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_loads_and_draws_with_plain_diffusers(kind):
    pipeline = KINDS[kind].from_pretrained(WEIGHTS / kind)
    pipeline.set_progress_bar_config(disable=True)
    encoders = [pipeline.text_encoder, *([pipeline.text_encoder_2] if kind == "sdxl" else [])]
    tokenizers = [pipeline.tokenizer, *([pipeline.tokenizer_2] if kind == "sdxl" else [])]
    for encoder, tokenizer in zip(encoders, tokenizers, strict=True):
        assert len(tokenizer) == encoder.config.vocab_size
        assert tokenizer.eos_token_id == encoder.config.eos_token_id
        assert tokenizer.model_max_length == encoder.config.max_position_embeddings
        assert encoder.dtype == torch.float32
    generator = torch.Generator().manual_seed(0)
    picture = pipeline(
        "a picture of a girl", num_inference_steps=2, generator=generator, output_type="np"
    ).images
    assert picture.shape == (1, 64, 64, 3)


def test_both_pipelines_ship_the_same_autoencoder():
    name = Path("vae") / "diffusion_pytorch_model.safetensors"
    assert (WEIGHTS / "sd15" / name).read_bytes() == (WEIGHTS / "sdxl" / name).read_bytes()


def test_the_longest_captions_fit_the_prompt():
    tokenizer = StableDiffusionPipeline.from_pretrained(WEIGHTS / "sd15").tokenizer
    texts = [full_caption(figure) for figure in measure.held_out(500)]
    longest = max(len(ids) for ids in tokenizer(texts).input_ids)
    assert longest <= tokenizer.model_max_length


def test_all_weights_are_small_half_precision_safetensors():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 9
    for path in weights:
        with safe_open(path, framework="pt") as tensors:
            names = [n for n in tensors.keys() if not n.endswith("num_batches_tracked")]  # noqa: SIM118 - safe_open has no iterator
            dtypes = {tensors.get_slice(name).get_dtype() for name in names}
        assert dtypes == {"F16"}, path


def test_clip_and_dino_load_with_plain_libraries():
    name = f"local-dir:{WEIGHTS / 'clip'}"
    clip, _, preprocess = open_clip.create_model_and_transforms(name, require_pretrained=True)
    tokens = open_clip.get_tokenizer(name)(["a picture of a girl on the beach"])
    assert tokens.shape == (1, 48)
    assert clip.encode_text(tokens).shape == (1, 128)
    assert preprocess.transforms[0].size == data.SIDE
    vit = timm.create_model(f"local-dir:{WEIGHTS / 'dino'}", pretrained=True).eval()
    assert vit(torch.zeros(1, 3, data.SIDE, data.SIDE)).shape == (1, 112)


def test_reconstruction_is_what_the_card_says(card):
    figures = measure.reconstruction(WEIGHTS, count=48)
    assert figures["vae_psnr_db"] == pytest.approx(card["vae_psnr_db"], abs=1.0)


def test_retrieval_is_what_the_card_says(card):
    """Two sets of 64 instead of the card's eight: within ten points."""
    figures = measure.retrieval(WEIGHTS, rounds=2)
    for name, value in figures.items():
        assert value == pytest.approx(card[name], abs=0.1)
        assert value >= 0.75


@pytest.mark.parametrize(
    ("figure", "least"),
    [
        ("clip_picture_to_caption_top1", 0.8),
        ("clip_caption_to_picture_top1", 0.8),
        ("dino_identity_top1", 0.8),
        *((f"{kind}_{what}", 0.7) for kind in ("sd15", "sdxl") for what in ("pose", "place")),
        ("truth_pose", 0.95),
        ("vae_psnr_db", 30.0),
    ],
)
def test_the_models_reach_their_aims(card, figure, least):
    assert card[figure] >= least


@pytest.mark.parametrize("kind", FAMILIES)
def test_samples_follow_their_prompts(kind):
    """Eighteen of the card's 63 prompts: positions and places are those asked for."""
    _, found = measure.base_samples(WEIGHTS, kind, measure.asked_figures(18))
    assert found[f"{kind}_pose"] >= 0.7
    assert found[f"{kind}_place"] >= 0.9


def test_identity_is_what_the_card_says(card):
    figures = measure.identity(WEIGHTS)
    assert figures["dino_identity_top1"] == pytest.approx(card["dino_identity_top1"], abs=0.02)
    assert figures["dino_same_character"] > figures["dino_other_character"] + 0.2
