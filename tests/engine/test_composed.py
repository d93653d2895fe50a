"""Adapters of two characters on one base: added up, drawn, and trained by nobody anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.adapters import base_of, write_adapter
from helpers.small import execute, pictures, sweep_of, weights_at
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from charsweep.config import Sweep
from charsweep.config.company_cells import composed
from charsweep.core.errors import ModelsError
from charsweep.core.specs import ComposedSpec, ImageSetSpec
from charsweep.core.store import Store
from charsweep.engine.image_sets import Bases, ImageSets
from charsweep.engine.progress import ProgressView
from charsweep.models.adapter_file import ADAPTER_FILE
from charsweep.models.composition import added_files, compose
from charsweep.models.embedded import FOLDER
from charsweep.models.load import load_base
from charsweep.plan import Speeds

WORDS = ("method=lora", "train_steps=2", "lr=1e-2", "pack=1")
TWO = ("unicorn_girl", "thunder_bear")
CALLED = ("UnicornGirl", "ThunderBear")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Store, list[ImageSetSpec]]:
    """What each of two adapters draws, each trained in a command of its own."""
    root = tmp_path_factory.mktemp("taught")
    for name in TWO:
        sweep, store, _ = execute(root, f"character={name}", *WORDS)
    cells = [sweep_of(root, f"character={name}", *WORDS).cells[0] for name in TWO]
    return sweep, store, [cell.images for cell in cells]


def test_what_is_composed_adds_what_each_adapter_adds(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    sweep, store, (first, other) = taught
    together = composed(first, other, 0.5, 2.0)
    compose(together.snapshot, store)
    base = Bases(sweep, torch.device("cpu"), ProgressView())(first.drawing_base, "fp32")
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    own = base._weight(layer).clone()

    def added(images: ImageSetSpec) -> torch.Tensor:
        source = images.snapshot.source
        with base.composed(added_files(source, store.snapshot(images.snapshot))):
            return base._weight(layer) - own

    alone = [added(composed_of(one, store)) for one in (first, other)]
    assert all(change.abs().max() > 1e-4 for change in alone)
    torch.testing.assert_close(added(together), 0.5 * alone[0] + 2.0 * alone[1])
    assert torch.equal(base._weight(layer), own)


def test_in_half_precision_weights_are_rounded_once(tmp_path: Path) -> None:
    """So that of two changes which cancel hardly anything is left."""
    weights = weights_at(FOLDER / "weights" / "sdxl")
    folder = tmp_path / "adapter"
    write_adapter(base_of("sdxl"), folder, targets=("to_q", "conv1"), text_encoder=False)
    base = load_base(weights.spec, weights, torch.device("cpu"), torch.bfloat16)
    before, file = base.digest(), folder / ADAPTER_FILE
    own = {name: tensor.clone() for name, tensor in base.modules["unet"].state_dict().items()}
    with base.composed([(file, 1.0)]):
        assert base.digest() != before
    with base.composed([(file, 1.0), (file, -1.0)]):
        now = base.modules["unet"].state_dict()
        torch.testing.assert_close(now, own, rtol=0.0, atol=1e-6)  # rounded after each, more is
    foreign = base.composed([(file, 1.0), (write_other(tmp_path), 1.0)])
    with pytest.raises(ModelsError, match="the adapter cannot be put on"), foreign:
        raise AssertionError
    assert base.digest() == before


def write_other(folder: Path) -> Path:
    """A file that is no adapter."""
    save_file({"a.weight": torch.zeros(1)}, folder / "other.safetensors")
    return folder / "other.safetensors"


def composed_of(one: ImageSetSpec, store: Store) -> ImageSetSpec:
    """The adapter by itself, as something composed."""
    both = composed(one, one, 1.0, 1.0)
    source = both.snapshot.source
    assert isinstance(source, ComposedSpec)
    alone = replace(both.snapshot, source=replace(source, components=source.components[:1]))
    compose(alone, store)
    return replace(both, snapshot=alone)


def test_its_images_are_drawn_and_kept_like_any_others(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    sweep, store, (first, other) = taught
    together = composed(first, other, 1.0, 1.0)
    assert not store.has_images(together)
    compose(together.snapshot, store)
    bases = Bases(sweep, torch.device("cpu"), ProgressView())
    ImageSets(sweep, store, ProgressView(), bases, Speeds(store)).draw([together])
    drawn = pictures(store.images(together))
    assert len(drawn) == together.count
    assert drawn != pictures(store.images(first))


def test_pictures_of_one_are_not_drawn_again_where_halves_have_words(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    sweep, store, (first, _) = taught
    halves = replace(first, regional=True)
    assert halves.key != first.key
    bases = Bases(sweep, torch.device("cpu"), ProgressView())
    ImageSets(sweep, store, ProgressView(), bases, Speeds(store)).draw([halves])
    assert not bases.loaded  # nothing had to be drawn
    assert pictures(store.images(halves)) == pictures(store.images(first))
    assert halves.untaught == first.untaught


def test_apart_each_draws_what_names_it(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    """Pictures of one are those of its adapter alone, bit for bit."""
    sweep, store, (first, other) = taught
    bases = Bases(sweep, torch.device("cpu"), ProgressView())
    base = bases(first.drawing_base, "fp32")
    digest, sets = base.digest(), ImageSets(sweep, store, ProgressView(), bases, Speeds(store))
    both = composed(first, other, 1.0, 1.0, CALLED)
    bears = tuple(prompt.replace(*CALLED) for prompt in first.prompts)
    compose(both.snapshot, store)
    for apart, alone in (
        (both, first),
        (replace(both, prompts=bears), replace(other, prompts=bears)),
        (replace(both, prompts=("a hat",), whose=1), replace(other, prompts=("a hat",))),
    ):
        assert apart.key not in (alone.key, composed(first, other, 1.0, 1.0).key)
        sets.draw([apart])
        assert store.has_images(alone) == (alone.prompts != ("a hat",))  # nothing else is stored
        sets.draw([alone])
        assert pictures(store.images(apart)) == pictures(store.images(alone))
    assert base.digest() == digest


def test_what_is_drawn_as_one_is_drawn_once(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    """Neither with halves nor without, under no key but those that are asked for."""
    sweep, store, (first, _) = taught
    bases = Bases(sweep, torch.device("cpu"), ProgressView())
    sets = ImageSets(sweep, store, ProgressView(), bases, Speeds(store))
    halves = replace(first, prompts=("a hat", "a tree"), regional=True)
    plain = replace(halves, regional=False)
    before = set(store.snapshot(first.snapshot).iterdir())
    sets.draw([halves])
    assert set(store.snapshot(first.snapshot).iterdir()) - before == {store.images(halves)}
    bases.loaded.clear()
    sets.draw([plain])
    assert not bases.loaded
    assert pictures(store.images(plain)) == pictures(store.images(halves))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_apart_each_half_is_drawn_by_its_own_adapter(kind: str, tmp_path: Path) -> None:
    """A weaker one changes its own half above all, on whichever side it stands."""
    cells = []
    for name in TWO:
        words = (
            "method=lora",
            f"method.adapter={kind}",
            "train_steps=20",
            "lr=1e-2",
            "pack=1",
            "inference_steps=4",
        )
        sweep, store, _ = execute(tmp_path, f"character={name}", *words)
        cells.append(sweep_of(tmp_path, f"character={name}", *words).cells[0])
    bases = Bases(sweep, torch.device("cpu"), ProgressView())
    sets = ImageSets(sweep, store, ProgressView(), bases, Speeds(store))

    def drawn(strengths: tuple[float, float], prompt: str) -> NDArray[np.float32]:
        images = composed(cells[0].images, cells[1].images, *strengths, CALLED)
        wide = replace(images, prompts=(prompt,), seeds=(0,), size=(96, 64), batch_width=2)
        compose(wide.snapshot, store)
        sets.draw([wide])
        (file,) = store.images(wide).glob("*.png")
        return np.asarray(Image.open(file), dtype=np.float32)

    told = "two at night ADDBASE {} at night ADDCOL {} at night"
    for sides in (CALLED, CALLED[::-1]):
        whole = drawn((1.0, 1.0), told.format(*sides))
        for who, strengths in zip(CALLED, [(0.2, 1.0), (1.0, 0.2)], strict=True):
            changes = np.abs(drawn(strengths, told.format(*sides)) - whole)
            by_half = changes.reshape(64, 2, 48, 3).mean((0, 2, 3))
            assert by_half.argmax() == sides.index(who)


def test_at_strength_0_the_other_alone_draws(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    _, _, (first, other) = taught
    assert composed(first, other, 1.0, 0.0).key == first.key
    alone = composed(first, other, 0.0, 1.0)
    assert (alone.snapshot, alone.prompts) == (other.snapshot, first.prompts)


def test_where_one_has_diverged_so_has_what_is_composed(
    taught: tuple[Sweep, Store, list[ImageSetSpec]],
) -> None:
    _, store, (first, other) = taught
    broken = replace(other, snapshot=replace(other.snapshot, step=9))
    store.mark_diverged(other.snapshot.source, 8)
    together = composed(first, broken, 1.0, 1.0)
    compose(together.snapshot, store)
    assert store.diverged_at(together.snapshot.source) == 0
    assert not store.has_snapshot(together.snapshot)
