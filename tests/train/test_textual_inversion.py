"""Textual inversion: its files as others read them, its exactness, and the base left as it was."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from helpers.small import base_named, execute, pictures, small, snapshot_bytes, sweep_of
from helpers.variants import FAMILIES
from PIL import Image
from safetensors.torch import load_file

from charsweep.__main__ import main
from charsweep.actions.export.write import export
from charsweep.config import Sweep, load_sweep
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.seeding import generator
from charsweep.core.specs import SnapshotSpec
from charsweep.core.store import Store
from charsweep.core.store.losses import LossRow
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline, quiet
from charsweep.train.methods.textual_inversion import TextualInversion, TokenEmbeddings

METHOD = "method=textual_inversion"
FILE = "learned_embeds.safetensors"


def without_times(rows: list[LossRow]) -> list[tuple[float, ...]]:
    return [(row.step, row.loss, row.lr, row.grad_norm) for row in rows]


def sdxl(sweep: Sweep) -> LoadedPipeline:
    return load_base(sweep.cells[0].trajectory.base, base_named(sweep, "sdxl"), torch.device("cpu"))


# -- exactness -------------------------------------------------------------------------------------


def test_eight_steps_with_a_snapshot_at_four_hold_four_steps_and_resume(tmp_path: Path) -> None:
    sweep, whole, (four, eight) = execute(tmp_path / "whole", METHOD, "+axes.train_steps=[4,8]")
    _, parts, (short,) = execute(tmp_path / "parts", METHOD, "train_steps=4")
    _, parts, (resumed,) = execute(tmp_path / "parts", METHOD, "train_steps=8")
    spec = sweep.cells[0].trajectory
    for step, one, other in ((4, four, short), (8, eight, resumed)):
        at = SnapshotSpec(spec, step)
        assert snapshot_bytes(whole.snapshot(at)) == snapshot_bytes(parts.snapshot(at))
        assert one.scores == other.scores
    assert without_times(whole.losses(spec)) == without_times(parts.losses(spec))
    vectors = [load_file(whole.snapshot(SnapshotSpec(spec, step)) / FILE) for step in (4, 8)]
    assert all(not torch.equal(vectors[0][name], vectors[1][name]) for name in vectors[0])


@pytest.mark.slow
def test_a_trial_does_not_depend_on_its_pack_nor_its_images_on_the_batch(tmp_path: Path) -> None:
    words = [METHOD, "train_steps=3", "sampler.batch_width=8", "pack=4", "batch_size=2"]
    _, one, (alone,) = execute(tmp_path / "alone", *words, "lr=1e-2")
    axes = "+axes={lr:[1e-1,1e-3,1e-2],method.prompts:[captions,instance]}"
    sweep, many, results = execute(tmp_path / "many", *words, axes)
    place = next(i for i, r in enumerate(results) if r.trajectory == alone.trajectory)
    assert place > 0
    cell = sweep.cells[place]
    folders = [store.snapshot(cell.images.snapshot) for store in (one, many)]
    assert (folders[0] / FILE).read_bytes() == (folders[1] / FILE).read_bytes()
    drawn = [pictures(store.images(cell.images)) for store in (one, many)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 4
    others = [pictures(many.images(c.images)) for c in sweep.cells if c is not cell]
    assert all(other != drawn[0] for other in others)


def test_the_base_is_as_it_was(tmp_path: Path) -> None:
    sweep, store, _ = execute(tmp_path, METHOD, "train_steps=1", "lr=1e-1")
    cell, base = sweep.cells[0], sdxl(sweep)
    before = base.digest()
    tokenizers, encoders = base.tokenizers, base.text_encoders
    tables = [encoder.get_input_embeddings() for encoder in encoders]
    known = [len(tokenizer) for tokenizer in tokenizers]
    method, folder = method_of(cell.trajectory.method), store.snapshot(cell.images.snapshot)
    encoders[1].text_model.eos_token_id = 2  # as in published configs
    with method.painter(cell.images, folder, base, base.device):
        assert [len(one) for one in base.tokenizers] == [n + 4 for n in known]
        assert encoders[1].text_model.eos_token_id == tokenizers[1].eos_token_id
    assert encoders[1].text_model.eos_token_id == 2
    assert base.digest() == before
    assert all(one is other for one, other in zip(base.tokenizers, tokenizers, strict=True))
    assert [encoder.get_input_embeddings() for encoder in encoders] == tables
    assert [len(one) for one in tokenizers] == known


def test_only_what_the_identifier_stands_for_trains(tmp_path: Path) -> None:
    """It begins with the class noun's embedding, and a prompt without it is the base's own."""
    sweep = sweep_of(tmp_path, METHOD)
    spec, base = sweep.cells[0].trajectory, sdxl(sweep)
    plain = base.encode(["a picture of a girl on the beach"])
    noun = base.encode(["a picture of girl girl on the beach"])
    embeddings = TokenEmbeddings(base, 2, 2)
    embeddings.enter(1, spec)
    same = base.encode(["a picture of a girl on the beach"])
    (prompt,) = embeddings.prompts(1, ["a picture of unicorngirl on the beach"])
    assert prompt == "a picture of <1.0> <1.1> on the beach"
    begun = base.encode([prompt])
    embeddings.close()
    assert torch.equal(same.hidden, plain.hidden)
    assert torch.equal(begun.hidden, noun.hidden)
    assert torch.equal(begun.pooled, noun.pooled)
    begun.hidden.square().sum().backward()
    idle, own = (embeddings.vectors["text_encoder"][slot].grad for slot in (0, 1))
    assert own is not None
    assert bool((own != 0).any(1).all())
    assert not idle.any()
    assert all(one.grad is None for module in base.modules.values() for one in module.parameters())


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("base", FAMILIES)
def test_plain_diffusers_draws_the_same_image(base: str, count: int, tmp_path: Path) -> None:
    words = [METHOD, f"method.base={base}", f"method.num_vectors={count}", "lr=1e-1"]
    sweep, store, (result,) = execute(tmp_path, *words, "train_steps=2")
    spec = sweep.cells[0].trajectory
    folder = store.snapshot(sweep.cells[0].images.snapshot)
    kind: Any = StableDiffusionXLPipeline if base == "sdxl" else StableDiffusionPipeline
    with quiet():
        pipeline = kind.from_pretrained(base_named(sweep, base).path, dtype=torch.float32)
    learned = load_file(folder / FILE)
    if base == "sd15":
        assert {name: tuple(one.shape) for name, one in learned.items()} == {
            "unicorngirl": (count, 144)
        }
        pipeline.load_textual_inversion(folder)
    else:
        assert set(learned) == {"clip_l", "clip_g"}
        pipeline.load_textual_inversion(learned["clip_l"], token="unicorngirl")
        pipeline.load_textual_inversion(
            learned["clip_g"], token="unicorngirl",
            text_encoder=pipeline.text_encoder_2, tokenizer=pipeline.tokenizer_2,
        )  # fmt: skip
    images = sweep.cells[0].images
    (told,) = {method_of(spec.method).loading(spec, images.prompts[0], ".").prompt}
    assert told == images.prompts[0].replace("UnicornGirl", "unicorngirl")
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        [told] * 4, negative_prompt=[""] * 4, generator=[generator(0, "image") for _ in range(4)],
        num_inference_steps=images.inference_steps, guidance_scale=images.guidance_scale,
    ).images[0]  # fmt: skip
    stored = Image.open(store.folder / str(result.images) / "000.png")
    away = np.abs(np.asarray(drawn, dtype=int) - np.asarray(stored, dtype=int))
    assert away.max() == 0
    untaught = Image.open(store.images(sweep.cells[0].untaught_set) / "000.png")
    assert np.abs(np.asarray(untaught, int) - np.asarray(stored, int)).max() > 20


# -- wrong inputs ----------------------------------------------------------------------------------


def test_an_identifier_that_is_a_word_is_refused(tmp_path: Path) -> None:
    words = ["character.identifier=cat", "character.instance_prompt=a picture of cat"]
    with pytest.raises(ConfigError, match=r"character.identifier=cat: is a word that the base"):
        execute(tmp_path, METHOD, *words, "train_steps=1")


def test_captions_without_the_identifier_teach_nothing(tmp_path: Path) -> None:
    words = ["method.prompts=captions", "character.identifier=Zaluna",
             "character.instance_prompt=a picture of Zaluna"]  # fmt: skip
    with pytest.raises(ConfigError, match="no caption holds the identifier Zaluna"):
        sweep_of(tmp_path, METHOD, *words)


@pytest.mark.parametrize("wrong", ["method.num_vectors=0", "method.num_vectors=33"])
def test_a_number_of_vectors_that_no_prompt_holds(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.num_vectors="):
        sweep_of(tmp_path, METHOD, wrong)


def test_a_family_without_such_files_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, METHOD)
    spec = sweep.cells[0].trajectory
    three = copy.copy(base_named(sweep, "sdxl").family)
    object.__setattr__(three, "encoders", ("text_encoder", "text_encoder_2", "text_encoder_3"))
    with pytest.raises(ConfigError, match="no files of token embeddings"):
        TextualInversion("sdxl", "instance").check(spec, three)


# -- export ----------------------------------------------------------------------------------------


def test_the_export_is_the_file_and_a_card_whose_code_runs(tmp_path: Path) -> None:
    words = [METHOD, "train_steps=1", "lr=1e-1", "runtime.tracking=false", "metric=[score]"]
    assert main(small(tmp_path, *words)) == 0
    folder = export(load_sweep(["action=export", f"root={tmp_path}", "name=small"]))
    assert folder.name.startswith("textual_inversion-sdxl-v4-lr1e-01")
    source = next(Store(tmp_path).folder.glob("textual_inversion-*/step-000001"))
    assert (folder / FILE).read_bytes() == (source / FILE).read_bytes()
    assert json.loads((folder / "export.json").read_text())["kohya"] is None
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "under the same name" in card
    assert "library_name: diffusers" in card
    assert "| num vectors | 4 |" in card
    lines = card.split("```python\n")[1].split("```")[0].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("learned"))
    last = next(i for i, line in enumerate(lines) if line.startswith("image ="))
    assert drawn_by(lines, folder) != drawn_by(lines[:first] + lines[last:], folder)


def drawn_by(lines: list[str], folder: Path) -> bytes:
    """The picture that a card's code draws in the exported folder."""
    with contextlib.chdir(folder), quiet():
        torch.manual_seed(0)
        exec("\n".join(lines), {})
        return Path("picture.png").read_bytes()
