"""The expected peak of memory: held against what training takes, and what follows from it."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import shrunk
from helpers.small import command, sweep_of
from helpers.true_shapes import modules_in, shapes

from charsweep.character.load import open_drawings
from charsweep.config.sweep import Sweep
from charsweep.core.specs import TrajectorySpec
from charsweep.core.store.store import Store
from charsweep.core.system.hardware import Card
from charsweep.embedded import FOLDER as EMBEDDED
from charsweep.engine import measure_memory as footprint
from charsweep.engine.local import LocalEngine
from charsweep.engine.progress import View
from charsweep.models.architectures import FOLDER, shapes_of
from charsweep.models.load import load_base
from charsweep.plan.memory import advice as fits
from charsweep.plan.memory import estimate as memory
from charsweep.plan.memory.figures import (
    Known,
    drawing_way,
    fingerprint,
    shipped,
    training_way,
)
from charsweep.plan.work import plan_work
from charsweep.train.loop import make_optimizer
from charsweep.train.methods import Execution, Materials

GIB = 2**30
PLAINLY = Execution()
ADAPTERS = ("method=dreambooth_lora", "pack=1")
WEIGHTS = ("method=dreambooth", "method.prior_weight=0")


def spec_of(root: Path, *words: str) -> tuple[Sweep, TrajectorySpec]:
    sweep = sweep_of(root, *words)
    return sweep, sweep.cells[0].trajectory


def estimate(sweep: Sweep, spec: TrajectorySpec, execution: Execution = PLAINLY) -> memory.Peak:
    peak = memory.training(
        spec, sweep.bases[spec.base_name], Known(), checkpointing=execution.checkpointing,
        micro_batch=execution.micro_batch,
    )  # fmt: skip
    assert peak is not None
    return peak


# -- against what training takes -------------------------------------------------------------------


def bytes_of_tensors() -> int:
    """Of all that are alive, each storage once."""
    gc.collect()
    alive = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}.values()
    )


def bytes_allocated(step: Callable[[], None], path: Path) -> int:
    """How far the CPU's allocator goes beyond where it stands, as torch's profiler sees it."""
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        step()
    profile.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"]
              if event.get("name") == "[memory]" and event["args"]["Device Type"] == 0]  # fmt: skip
    first = min(events, key=lambda event: event["ts"])["args"]
    highest = max(event["args"]["Total Allocated"] for event in events)
    return int(highest - (first["Total Allocated"] - first["Bytes"]))


def trained(
    sweep: Sweep, spec: TrajectorySpec, execution: Execution, device: torch.device,
    measure: Callable[[Callable[[], None]], int],
) -> int:  # fmt: skip
    """What `measure` says of a step, once there is an optimizer's state."""
    assert spec.base is not None
    base = load_base(spec.base, sweep.bases[spec.base.name], device)
    drawings = open_drawings(sweep.character, masked=False)
    pictures, masks = [one.picture for one in drawings], [one.mask for one in drawings]
    method = spec.method.make()
    materials = Materials(device, base, sweep.character, pictures, lambda _: [], execution, masks)
    with contextlib.closing(method.students(spec, materials)) as students:
        optimizers = []
        for slot in range(spec.pack):
            students.enter(slot, replace(spec, seed=slot))
            optimizers.append(make_optimizer(spec, list(students.named(slot).values())))

        def step() -> None:
            students.zero_grad()
            for share in students.losses([0] * spec.pack):
                share.sum().backward()
            for optimizer in optimizers:
                optimizer.step()

        step()
        students.zero_grad()
        return measure(step)


@pytest.mark.parametrize(("words", "execution"), [
    ([*ADAPTERS, "pack=8"], Execution()),
    ([*ADAPTERS, "pack=8"], Execution(checkpointing=True)),
    ([*ADAPTERS, "pack=4", "batch_size=4"], Execution()),
    ([*ADAPTERS, "pack=4", "batch_size=4"], Execution(micro_batch=1)),
    ([*ADAPTERS, "resolution=128", "method.rank=64", "method.base=sd15"], Execution()),
    ([*ADAPTERS, "method.adapter=dora", "batch_size=4"], Execution()),
    ([*ADAPTERS, "method.text_encoder=true", "pack=4"], Execution()),
    ([*ADAPTERS, "method.target_modules=[to_q,conv1,conv2]", "pack=4"], Execution()),
    ([*WEIGHTS, "batch_size=8"], Execution()),
    ([*WEIGHTS, "batch_size=8"], Execution(checkpointing=True)),
    ([*WEIGHTS, "batch_size=8"], Execution(micro_batch=2)),
])  # fmt: skip
def test_training_takes_what_is_expected(
    words: list[str], execution: Execution, tmp_path: Path
) -> None:
    sweep, spec = spec_of(tmp_path, *words)
    spec = replace(spec, class_images=None)
    others = bytes_of_tensors()  # of other tests

    def measure(step: Callable[[], None]) -> int:
        return bytes_of_tensors() - others + bytes_allocated(step, tmp_path / "trace.json")

    taken = trained(sweep, spec, execution, torch.device("cpu"), measure)
    assert 0.95 < estimate(sweep, spec, execution).bytes / taken < 1.13


@pytest.mark.gpu
@pytest.mark.parametrize("words", [[*ADAPTERS, "pack=8"], [*WEIGHTS, "batch_size=8"]])
def test_a_card_holds_what_is_expected(words: list[str], tmp_path: Path) -> None:
    sweep, spec = spec_of(tmp_path, *words, "resolution=256")
    spec = replace(spec, class_images=None)

    def measure(step: Callable[[], None]) -> int:
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()

    taken = trained(sweep, spec, Execution(), torch.device("cuda"), measure)
    assert 0.8 < estimate(sweep, spec).bytes / taken < 1.2  # workspaces of kernels are in it


# -- against other sizes on the meta device --------------------------------------------------------


@pytest.mark.parametrize(("base", "trains", "checkpointing", "size"), [
    ("sd15", "lora", False, footprint.Size(1, 1, 64, 128)),
    ("sd15", "weights", True, footprint.Size(1, 3, 64)),
    ("sdxl", "lora", True, footprint.Size(1, 1, 128, 8)),
    ("sdxl", "weights", False, footprint.Size(1, 1, 128)),
])  # fmt: skip
def test_figures_of_small_runs_hold_at_full_size(
    base: str, trains: str, checkpointing: bool, size: footprint.Size
) -> None:
    config = json.loads((FOLDER / base / "unet" / "config.json").read_text())
    way = footprint.Way(trains, half=False, checkpointing=checkpointing)
    activations, gradients = footprint.training_curve(config, way, size)
    instants = Known().find(shapes_of(base)["unet"], training_way(trains, "fp32", checkpointing))
    expected = memory.highest(instants, size.samples, size.side**2, size.rank)
    assert expected
    assert sum(expected) == pytest.approx((activations + gradients).max(), rel=0.02)


def test_what_is_shipped_is_what_is_measured() -> None:
    folder = EMBEDDED / "weights" / "sdxl"
    shapes = footprint.shapes_at(folder)["unet"]
    ways = shipped()[fingerprint(shapes)]["ways"]
    again = footprint.unet_figures(folder / "unet", ("lora",), ("fp32",))
    assert set(again) == {
        *(training_way("lora", "fp32", on) for on in (False, True)), drawing_way("fp32"),
    }  # fmt: skip
    for way, instants in again.items():
        assert [list(one) for one in instants] == ways[way]


def test_half_precision_takes_less_and_attention_is_not_squared() -> None:
    shapes = shapes_of("sdxl")["unet"]

    def taken(precision: str, side: int) -> int:
        instants = Known().find(shapes, training_way("lora", precision, False))
        found = memory.highest(instants, 1, side**2, 8)
        assert found
        return sum(found)

    assert taken("bf16", 128) == pytest.approx(taken("fp32", 128) / 2, rel=0.05)
    assert taken("fp32", 128) < 4 * taken("fp32", 64)


@pytest.mark.slow
def test_another_architecture_is_measured_once(tmp_path: Path) -> None:
    shrunk.shrink(tmp_path / "small")
    sweep, spec = spec_of(tmp_path, *ADAPTERS, "method.base=sd15")
    folder, store = tmp_path / "small" / "sd15", Store(tmp_path)
    base = replace(sweep.bases["sd15"], pipeline=replace(sweep.bases["sd15"].pipeline, path=folder))
    vars(base)["shapes"] = shapes(modules_in(folder))  # there are no weights beside the configs
    assert memory.training(spec, base, Known(store)) is None
    assert not fits.needs_checkpointing(spec, base, Known(store), Card("", 1))
    assert fits.unmeasured([spec], {"sd15": base}, Known(store)) == (spec,)
    footprint.measure(spec, base, store)
    assert fits.unmeasured([spec], {"sd15": base}, Known(store)) == ()
    less = memory.training(spec, base, Known(store), checkpointing=True)
    peak = memory.training(spec, base, Known(store))
    assert peak
    assert less
    assert 0 < less.parts["activations"] < peak.parts["activations"]
    drawn = memory.drawing(sweep.cells[0].images, base, Known(store))
    assert drawn
    assert drawn.parts["activations"] > 0


# -- what fits -------------------------------------------------------------------------------------


def found_on(card: Card | None, root: Path, *words: str) -> tuple[fits.Expected, Sweep]:
    sweep, store = sweep_of(root, *words), Store(root)
    plan = plan_work(sweep.cells, store, sweep.truth)
    found = fits.expected(plan, sweep.bases, sweep.settings.runtime, card, Known(store))
    assert found
    return found, sweep


def test_the_embedded_models_fit_any_machine(tmp_path: Path) -> None:
    smallest = Card("CPU", 2 * GIB, device="cpu")
    for words in (["pack=16", "batch_size=4"], [*WEIGHTS, "batch_size=16"]):
        found, _ = found_on(smallest, tmp_path, *words)
        assert not fits.is_too_much(found, smallest)
        assert not found.carried.checkpointing


def test_what_cannot_fit_is_refused_with_what_would(tmp_path: Path) -> None:
    words = ["models=random", *ADAPTERS, "batch_size=8", "exam.seeds=[0]", "sampler.batch_width=1"]
    card = Card("NVIDIA L4", 24 * GIB, (8, 9))
    found, sweep = found_on(card, tmp_path, *words, "runtime.checkpointing=false")
    assert fits.is_too_much(found, card)
    message = str(fits.refusal(found, sweep.bases, card, Known()))
    assert message.startswith("training dreambooth_lora-sdxl at 1024 px would take ")
    assert "most of it activations " in message
    assert "this machine has 25.8 GB (NVIDIA L4); any one of these would fit: " in message
    fitting = fits.remedies(found, sweep.bases, card, Known())
    assert fitting[0].words == "runtime.checkpointing=true"
    assert all(one.bytes < 0.9 * card.memory_bytes for one in fitting)
    for one in fitting:  # each is as it says
        again, _ = found_on(card, tmp_path, *words, "runtime.checkpointing=false", one.words)
        assert again.peak.bytes == one.bytes


def test_where_one_remedy_is_not_enough_several_are_named(tmp_path: Path) -> None:
    card = Card("NVIDIA T4", 16 * GIB, (7, 5))
    words = ["models=random", *ADAPTERS, "batch_size=8", "sampler.batch_width=1"]
    found, sweep = found_on(card, tmp_path, *words, "runtime.checkpointing=false")
    message = str(fits.refusal(found, sweep.bases, card, Known()))
    assert "; together these would fit: runtime.checkpointing=true runtime.micro_batch=1" in message
    tiny = Card("small", GIB, (8, 0))
    message = str(fits.refusal(found, sweep.bases, tiny, Known()))
    assert "it needs a card with more memory" in message


def test_auto_makes_activations_again_only_where_they_do_not_fit(tmp_path: Path) -> None:
    sweep, spec = spec_of(tmp_path, "models=random", *ADAPTERS, "batch_size=2")
    cards = [Card("small", 24 * GIB, (8, 9)), Card("large", 80 * GIB, (9, 0)), None]
    base = sweep.bases["sdxl"]
    found = [fits.needs_checkpointing(spec, base, Known(), card) for card in cards]
    assert found == [True, False, False]
    assert not fits.needs_checkpointing(spec, base, Known(), cards[0], micro_batch=1)


def test_the_engine_does_as_the_plan_says(tmp_path: Path) -> None:
    sweep, spec = spec_of(tmp_path, *ADAPTERS)
    with View() as view:
        engine = LocalEngine(sweep, Store(tmp_path), view)
    assert not engine._checkpoints(spec)
    engine.card = Card("small", estimate(sweep, spec).bytes, device="cpu")
    assert engine._checkpoints(spec)
    assert engine._students(spec, engine.team).base.denoiser.is_gradient_checkpointing


# -- on the command line ---------------------------------------------------------------------------


def test_the_plan_names_its_peak(tmp_path: Path) -> None:
    done = command("action=plan", f"root={tmp_path}", "runtime.device=cpu")
    assert done.returncode == 0
    (line,) = (one for one in done.stdout.splitlines() if one.startswith("  memory"))
    assert "expected peak " in line
    assert " (CPU), training dreambooth_lora-sdxl; most of it: " in line


def test_a_run_that_cannot_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    words = ["models=random", "resolution=4096", "batch_size=256", "runtime.checkpointing=false",
             "pack=1", "runtime.device=cpu", f"root={tmp_path}"]  # fmt: skip
    planned = command("action=plan", *words)
    assert planned.returncode == 0  # as for another machine
    done = command(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "ConfigError: training dreambooth_lora-sdxl at 4096 px would take"
    )
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
