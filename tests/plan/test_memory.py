"""The memory that a plan names: from shapes, guessed, measured; what is refused, and what helps."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from helpers.small import command, execute, small, sweep_of
from helpers.tiny_sd3 import write_sd3
from helpers.variants import first

from charsweep.__main__ import main
from charsweep.config import Sweep
from charsweep.core.errors import ConfigError
from charsweep.core.methods import method_of
from charsweep.core.specs import TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.system.hardware import Card
from charsweep.engine.local import LocalEngine
from charsweep.engine.measure_memory import Peak, peak_memory_mb
from charsweep.engine.progress import ProgressView
from charsweep.plan import Speeds, plan_work
from charsweep.plan.memory import (
    Need,
    Place,
    Work,
    name_of,
    needs_checkpointing,
    needs_of,
    refuse,
    summary,
    works_of,
)

GIB = 2**30
CPU = Card("CPU", 24 * GIB, device="cpu")
L4 = Card("NVIDIA L4", 24 * GIB, (8, 9))
ADAPTERS = ("method=dreambooth_lora", "pack=1")
WEIGHTS = ("method=dreambooth", "method.prior_weight=0")
TRUE = ("models=random", "sampler.batch_width=1")


def planned(card: Card | None, root: Path, *words: str) -> tuple[list[Work], Place, Sweep]:
    sweep, store = sweep_of(root, *words), Store(root)
    place = Place(sweep.bases, Speeds(store), card)
    plan = plan_work(sweep.cells, store)
    return works_of(plan, place, sweep.settings.runtime), place, sweep


def training(card: Card | None, root: Path, *words: str) -> Need:
    works, place, _ = planned(card, root, *words)
    (need,) = (n for n in needs_of(works, place) if isinstance(n.work.spec, TrajectorySpec))
    return need


def measured_as(need: Need, place: Place, size: int) -> None:
    place.speeds.remember_peak(name_of(need.work, place.device), size)


# -- by shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    [*ADAPTERS, "pack=4", "method.rank=12"],
    [*ADAPTERS, "method.adapter=dora"],
    [*ADAPTERS, "method.adapter=loha"],
    [*ADAPTERS, "method.text_encoder=true", "pack=2"],
    [*ADAPTERS, "method.target_modules=[to_q,conv1,conv2]"],
    [*WEIGHTS],
    ["method=gan"],
    ["method=diffusion"],
])  # fmt: skip
def test_weights_gradients_and_optimizer_are_what_is_there(
    words: list[str], tmp_path: Path
) -> None:
    """Of every method, against the tensors that it trains and that lie in the base."""
    need = training(CPU, tmp_path, *words)
    spec = need.work.spec
    assert isinstance(spec, TrajectorySpec)
    sweep = sweep_of(tmp_path, *words)
    with ProgressView() as view:
        engine = LocalEngine(sweep, Store(tmp_path), view)
        base = engine.packs._taught_base(spec)
        modules = base.modules.values() if base else ()
        frozen = sum(weight.nbytes for module in modules for weight in module.parameters())
        trainable = engine.packs._trainable(spec, engine.packs.team)
    trained = 0
    for slot in range(spec.pack):
        trainable.enter(slot, spec)
        trained += sum(tensor.nbytes for tensor in trainable.named(slot).values())
    if low := method_of(spec.method).low_rank:  # slots hold ranks padded to a power of two
        trained = trained * low.held_rank // low.rank
    assert need.parts["gradients"] == pytest.approx(trained, rel=0.02)  # a GAN's biases
    assert need.parts["optimizer"] == pytest.approx(2 * trained, rel=0.02)
    own = 0 if words == [*WEIGHTS] else trained
    assert need.parts["weights"] == pytest.approx(frozen + own, rel=0.02)
    trainable.close()


def test_precision_and_a_card_decide_where_weights_lie(tmp_path: Path) -> None:
    full = training(L4, tmp_path, *TRUE, *ADAPTERS, "precision=fp32")
    half = training(L4, tmp_path, *TRUE, *ADAPTERS, "precision=bf16")
    assert full.parts["weights"] == pytest.approx(10.3e9, rel=0.01)  # SDXL's U-Net alone
    assert half.parts["weights"] == pytest.approx(5.2e9, rel=0.02)
    assert half.passing == pytest.approx(full.passing / 2)
    weights = training(L4, tmp_path, *TRUE, *WEIGHTS, "precision=bf16")
    assert weights.parts["weights"] == pytest.approx(3.44e9, rel=0.01)  # float32 all the same
    assert weights.parts["other bases"] == pytest.approx(1.72e9, rel=0.01)  # the one that draws
    assert "copy that restores the weights" not in weights.parts
    eight = training(L4, tmp_path, *TRUE, *WEIGHTS, "optimizer=adamw8bit")
    assert eight.parts["optimizer"] == weights.parts["optimizer"] / 4


def test_adapters_that_draw_apart_each_have_a_copy_of_what_they_change(tmp_path: Path) -> None:
    """Beside the base; and a pass is of one column, however many there are."""
    found = []
    for asked in ("false", "true"):
        words = ("exam=company", "method=lora", f"sampler.regional={asked}")
        sweep = sweep_of(tmp_path, "characters=[unicorn_girl,thunder_bear]", *words)
        (wide,) = (one.images for one in sweep.cells[0].parts if one.name == "together")
        found += needs_of([Work(wide)], Place(sweep.bases, Speeds(Store(tmp_path)), CPU))
    whole, apart = found
    (base,) = sweep.bases.values()
    ends = tuple(f".{target}.weight" for target in base.family.targets)
    changed = sum(
        math.prod(shape) for name, shape in base.shapes["unet"].items() if name.endswith(ends)
    )
    assert apart.parts.pop("weights of adapters that draw apart") == 2 * 4 * changed > 0
    assert (apart.parts, apart.passing) == (whole.parts, whole.passing)
    assert name_of(apart.work, "cpu") != name_of(whole.work, "cpu")


def test_sd3_is_planned_like_any_other_base(tmp_path: Path) -> None:
    folder = write_sd3(tmp_path / "sd3", t5=True)
    words = ["models=sd3", "method.base=sd3", f"models.bases.sd3.path={folder}", "resolution=64",
             "models.encoders.clip.path=embedded:weights/clip", "sampler=base",
             "models.encoders.dino.path=embedded:weights/dino", *ADAPTERS]  # fmt: skip
    need = training(None, tmp_path, *words)
    written = (folder / "transformer").glob("*.safetensors")
    assert need.parts["weights"] == pytest.approx(sum(p.stat().st_size for p in written), rel=0.1)
    assert need.passing > 0
    assert not need.measured


# -- measured --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_measured_peak_takes_the_place_of_the_guess(tmp_path: Path) -> None:
    """In a process of its own: what others have left in this one would count."""
    words = ["+axes.method=[dreambooth_lora,gan,diffusion]", "pack=1", "train_steps=1"]
    works, place, _ = planned(CPU, tmp_path, *words)
    guessed = needs_of(works, place)
    assert not any(need.measured for need in guessed)
    text = summary(guessed, CPU)["text"]
    assert "(a guess; not measured here yet)" in text
    quiet = ["runtime.device=cpu", "runtime.workers=1", "runtime.tracking=false"]
    done = command(*small(tmp_path, *words, *quiet, "runtime.energy=false"))
    assert done.returncode == 0, done.stderr
    measured = needs_of(works, replace_speeds(place, tmp_path))
    assert all(need.measured for need in measured)
    for before, after in zip(guessed, measured, strict=True):
        assert 0.5 < before.bytes / after.bytes < 1.5
    assert summary(measured, CPU)["text"].endswith("; as measured here")
    for provenance in tmp_path.glob("sweeps/store/*/provenance.json"):
        (run,) = json.loads(provenance.read_text())["runs"]
        assert run["peak_memory_mb"] > 100


def replace_speeds(place: Place, root: Path) -> Place:
    return place._replace(speeds=Speeds(Store(root)))


@pytest.mark.parametrize("other", first(5, [
    ["pack=4"], ["precision=bf16"], ["batch_size=2"], ["resolution=128"], ["method.base=sd15"],
    ["runtime.checkpointing=true"], ["runtime.micro_batch=1", "batch_size=4"], ["method.rank=16"],
    ["optimizer=adafactor"], ["method.adapter=loha"], ["runtime.compile=true"],
]))  # fmt: skip
def test_a_measurement_is_of_its_own_kind_only(other: list[str], tmp_path: Path) -> None:
    need = training(CPU, tmp_path, *ADAPTERS)
    place = Place({}, Speeds(Store(tmp_path)), CPU)
    measured_as(need, place, 7 * GIB)
    assert training(CPU, tmp_path, *ADAPTERS).bytes == 7 * GIB
    assert training(CPU, tmp_path, *ADAPTERS, "lr=1e-5", "seed=3").bytes == 7 * GIB
    assert not training(CPU, tmp_path, *ADAPTERS, *other).measured
    assert not training(L4, tmp_path, *ADAPTERS).measured  # a CPU's is none of a card's


def test_the_highest_is_remembered_and_the_peak_counts_from_its_beginning() -> None:
    cpu = torch.device("cpu")
    first = Peak(cpu)
    block = torch.ones(2**27)  # half a GiB, touched
    high, before = first.bytes(), peak_memory_mb(cpu)
    del block
    gc.collect()
    second = Peak(cpu)
    assert high is not None
    if Path("/proc/self/clear_refs").exists():
        assert second.bytes() < high - 0.4 * GIB
    assert peak_memory_mb(cpu) > before - 1  # what is recorded of a run stays the highest


@pytest.mark.gpu
@pytest.mark.parametrize("words", [[*ADAPTERS, "pack=8"], [*WEIGHTS, "batch_size=8"]])
def test_a_card_holds_what_is_planned(words: list[str], tmp_path: Path) -> None:
    words = [*words, "resolution=256", "train_steps=2", "runtime.device=cuda"]
    card = Card("card", 1000 * GIB, (9, 0))
    guess = training(card, tmp_path, *words)
    execute(tmp_path, *words)
    measured = Speeds(Store(tmp_path)).peak(name_of(guess.work, "cuda"))
    assert measured is not None
    assert 0.5 < guess.bytes / measured < 2
    assert guess.least < 1.05 * measured


# -- what fits -------------------------------------------------------------------------------------


def test_the_embedded_models_fit_any_machine(tmp_path: Path) -> None:
    smallest = Card("CPU", 2 * GIB, device="cpu")
    for words in (["pack=16", "batch_size=4"], [*WEIGHTS, "batch_size=16"], ["method=gan"]):
        works, place, _ = planned(smallest, tmp_path, *words)
        refuse(works, place)
        assert not any(work.checkpointing for work in works)


def advice(card: Card, root: Path, *words: str) -> tuple[str, list[str]]:
    """The message, and each setting that it names as enough, as it is typed."""
    works, place, sweep = planned(card, root, *words)
    with pytest.raises(ConfigError) as refusal:
        refuse(works, place, sweep.axes)
    message = str(refusal.value)
    _, told, listed = message.partition("any one of these would fit: ")
    return message, [one.partition(" (")[0] for one in listed.split(", ")] if told else []


@pytest.mark.parametrize(("gib", "words", "named"), [
    (11, [*ADAPTERS, "precision=fp32"], ["precision=bf16"]),
    (15, [*ADAPTERS, "method.rank=512", "precision=bf16"], ["method.rank=256"]),
    (14, [*ADAPTERS, "pack=64", "precision=bf16"], ["pack=4"]),
    (12, [*WEIGHTS, "precision=fp32"], ["optimizer=adafactor"]),
])  # fmt: skip
def test_what_shapes_alone_forbid_is_refused_with_what_would_fit(
    gib: int, words: list[str], named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting that is named is enough, typed as it stands there."""
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else known(name)
    )
    card = Card("NVIDIA card", gib * GIB, (8, 9))
    message, settings = advice(card, tmp_path, *TRUE, *words)
    assert " px would take at least " in message
    assert f"this machine has {gib * GIB / 1e9:.1f} GB (NVIDIA card); any one of" in message
    assert set(named) <= set(settings)
    for setting in settings:
        works, place, sweep = planned(card, tmp_path, *TRUE, *words, setting)
        refuse(works, place, sweep.axes)


def test_a_measured_peak_is_refused_on_a_smaller_card_with_what_would_fit(tmp_path: Path) -> None:
    words = [*TRUE, *ADAPTERS, "precision=bf16", "batch_size=8", "runtime.checkpointing=false"]
    works, place, _ = planned(L4, tmp_path, *words)
    refuse(works, place)  # a guess refuses nothing
    need = training(L4, tmp_path, *words)
    measured_as(need, place, 51_000_000_000)
    message, settings = advice(L4, tmp_path, *words)
    assert message.startswith("training dreambooth_lora-sdxl at 1024 px takes 51.0 GB of memory, ")
    assert settings[:2] == ["runtime.checkpointing=true", "runtime.micro_batch=2"]
    assert any(one.startswith("resolution=") for one in settings)
    for setting in settings:
        works, place, sweep = planned(L4, tmp_path, *words, setting)
        refuse(works, place, sweep.axes)
        assert training(L4, tmp_path, *words, setting).least < L4.memory_bytes
    _, without = advice(L4, tmp_path, *words, "+axes.resolution=[1024]")
    assert without
    assert not any(one.startswith("resolution=") for one in without)


def test_where_one_setting_is_not_enough_several_are_named(tmp_path: Path) -> None:
    card, words = Card("T4", 16 * GIB, (7, 5)), [*TRUE, *ADAPTERS, "method.rank=512", "pack=4"]
    message, alone = advice(card, tmp_path, *words, "precision=fp32")
    assert not alone
    _, told, listed = message.partition("together these would fit: ")
    assert told
    settings = listed.partition(" (")[0].split()
    assert len(settings) > 1
    works, place, _ = planned(card, tmp_path, *words, *settings)
    refuse(works, place)
    message, _ = advice(Card("small", GIB, (8, 0)), tmp_path, *words)
    assert message.endswith("it needs more memory, or a smaller base")


def test_auto_makes_activations_again_only_where_they_would_not_fit(tmp_path: Path) -> None:
    words = [*TRUE, *ADAPTERS, "batch_size=2", "precision=fp32"]
    cards = [Card("small", 24 * GIB, (8, 9)), Card("large", 80 * GIB, (9, 0)), None]
    assert [training(card, tmp_path, *words).work.checkpointing for card in cards] == [
        True, False, False,
    ]  # fmt: skip
    need = training(cards[0], tmp_path, *words, "runtime.checkpointing=false")
    place = Place(sweep_of(tmp_path, *words).bases, Speeds(Store(tmp_path)), cards[0])
    assert needs_checkpointing(need.work, place)
    measured_as(need, place, 23 * GIB)  # it does fit
    assert not needs_checkpointing(need.work, place)


def test_the_engine_does_as_the_plan_says(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *ADAPTERS)
    spec = sweep.cells[0].trajectory
    with ProgressView() as view:
        packs = LocalEngine(sweep, Store(tmp_path), view).packs
    assert not packs._checkpoints(spec)
    packs.place = packs.place._replace(card=Card("small", GIB, device="cpu"))
    assert packs._checkpoints(spec)
    assert packs._trainable(spec, packs.team).base.denoiser.is_gradient_checkpointing


# -- on the command line ---------------------------------------------------------------------------


def test_the_plan_names_its_peak_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action=plan", f"root={tmp_path}", "runtime.device=cpu"]) == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("  memory"))
    assert "expected peak " in line
    assert " (CPU), " in line
    assert line.endswith("(a guess; not measured here yet)")


def test_a_run_that_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["models=random", "method.rank=1024", "pack=64", "method.text_encoder=true",
             "runtime.device=cpu", f"root={tmp_path}"]  # fmt: skip
    assert main(["action=plan", *words]) == 0  # as for another machine
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "ConfigError: training dreambooth_lora-sdxl at 1024 px would take at least"
    )
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
