"""The contract of methods: every file of conf/method/ goes through every room."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from helpers.small import execute, loaded_after, small, snapshot_bytes, sweep_of
from helpers.variants import first

from charsweep.__main__ import main
from charsweep.actions.export.write import export
from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError
from charsweep.core.methods import Method, method_of
from charsweep.core.plugins import CONF
from charsweep.core.specs import Plugin, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.models.load import load_base
from charsweep.plan import cost
from charsweep.plan.memory import Place, Work, needs_of
from charsweep.train.methods import ClassImage, Materials

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
TINY = {
    "dreambooth": ["method.class_images=2"],
    "gan": ["method.channels=8"],
    "diffusion": ["method.channels=[8,8]"],
}
LABELS = {"dreambooth_lora": "r4", "lora": "r4", "textual_inversion": "v4"}
ABOUT = ("dreambooth", "gan", "diffusion")  # whose configs, or biases, planning leaves out


def test_all_methods_are_here() -> None:
    assert len(METHODS) == 6


def words(method: str) -> list[str]:
    return [f"method={method}", *TINY.get(method, []), "train_steps=2", "pack=2", "batch_size=2"]


@pytest.mark.parametrize("method", first(3, METHODS))
def test_a_method_goes_through_every_room(method: str, tmp_path: Path) -> None:
    """Planned, trained, drawn, scored, reported and exported by nothing but what it answers."""
    chosen = [*words(method), "runtime.tracking=false", "metric=[score]"]
    assert main(small(tmp_path, *chosen)) == 0
    sweep, store = sweep_of(tmp_path, *chosen), Store(tmp_path)
    spec = sweep.cells[0].trajectory
    made = method_of(spec.method)
    assert store.source(spec).name.startswith(
        "-".join(filter(None, [method, spec.base_name, LABELS.get(method)])) + "-lr"
    )
    files = snapshot_bytes(store.snapshot(sweep.cells[0].images.snapshot))
    own = {n: len(d) for n, d in files.items() if "/" not in n or n.endswith(".safetensors")}
    written = sum(size for name, size in own.items() if name != "snapshot.json")
    planned = cost.snapshot_bytes(spec, sweep.bases)
    assert written == (pytest.approx(planned, rel=0.25) if method in ABOUT else planned)
    # what follows no prompts is never recommended, and is exported by name
    named = [] if made.prompted else [f"export.cell={sweep.cells[0].key}"]
    folder = export(load_sweep(["action=export", f"root={tmp_path}", "name=small", *named]))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert set(made.tags) <= set(card.split("---")[1].replace("- ", "").split())
    assert "```python" in card


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_holds_what_its_method_says(method: str, tmp_path: Path) -> None:
    """What planning reckons with is what the optimizer is given; and the base is left as it was."""
    sweep = sweep_of(tmp_path, *words(method))
    spec = sweep.cells[0].trajectory
    made, weights = method_of(spec.method), sweep.bases.get(spec.base_key)
    base = load_base(spec.base, weights, torch.device("cpu")) if weights else None
    before = base.digest() if base else ""
    images = [open_image(path) for path in sweep.character.paths]
    priors = [ClassImage(path, "") for path in sweep.character.paths[: 2 * bool(spec.class_images)]]
    materials = Materials(torch.device("cpu"), base, images, lambda _: priors)
    with contextlib.closing(made.trainable(spec, materials)) as trainable:
        trainable.enter(0, spec)
        trained = sum(tensor.numel() for tensor in trainable.named(0).values())
        shares = list(trainable.losses([0] + [None] * (trainable.width - 1)))
        assert trainable.width == spec.pack == (2 if made.pack_key is not None else 1)
        assert sum(shares).shape[-1] == trainable.width
        with trainable.aside():
            assert base is None or made.trains_base or base.digest() == before
    assert base is None or base.digest() == before
    low = made.low_rank
    padded = low.held_rank / low.rank if low else 1
    held = made.held(spec.resolution, weights)
    # biases are left out, which weigh more in networks as small as those from nothing are here
    assert held.trained == pytest.approx(trained * padded, rel=0.05 if weights is None else 0.01)
    assert held.of_base == made.trains_base
    (need,) = needs_of([Work(spec)], Place(sweep.bases, cost.Speeds(Store(tmp_path)), None))
    assert need.parts["gradients"] == 4 * spec.pack * held.trained


@pytest.mark.parametrize("method", METHODS)
def test_planning_a_method_is_free_of_torch(method: str) -> None:
    code = (
        "from charsweep.config.sweep import load_sweep; from charsweep.core.methods import *\n"
        f"made = method_of(load_sweep(['method={method}']).cells[0].trajectory.method)\n"
        "[getattr(made, name) for name in vars(Method) if not name.startswith('_')]"
    )
    assert not {"torch", "diffusers", "transformers", "peft"} & loaded_after(code)


def test_a_class_that_is_no_method_is_named_with_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match=r"Constant is no method: it lacks base, prompted, itera"):
        method_of(Plugin("constant", "Constant", 1, {"warmup_steps": 0}))


def test_a_method_says_nothing_that_the_protocol_does_not_ask(tmp_path: Path) -> None:
    """So that rooms which know the Protocol know all of a method but its settings."""
    asked = {name for name in vars(Method) if not name.startswith("_")} | {"adapter_slots"}
    for method in METHODS:
        spec: TrajectorySpec = sweep_of(tmp_path, *words(method)).cells[0].trajectory
        kind = type(method_of(spec.method))
        public = {name for name in dir(kind) if not name.startswith("_")}
        settings = {field.name for field in fields(kind)}
        assert public - asked - settings - {"unet"} == set()


def test_a_method_unlike_any_other_trains_and_draws(tmp_path: Path) -> None:
    """Two trials of unlike methods in one plan, each by its own file alone."""
    _, _, results = execute(
        tmp_path, "+axes.method=[textual_inversion,dreambooth_lora]", "train_steps=2"
    )
    assert [result.state for result in results] == ["finished", "finished"]
