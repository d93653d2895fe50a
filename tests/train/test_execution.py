"""How training is carried out: what is kept in memory, who shares a batch, who waits for whom.

Nothing of it may change a result by more than rounding.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small import ONE_IMAGE, execute, small, sweep_of
from helpers.variants import slow
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from charsweep.core.errors import ConfigError
from charsweep.core.store import Store
from charsweep.core.system.distributed import Team
from charsweep.core.system.images import open_image
from charsweep.models.load import load_base
from charsweep.plan import plan_work
from charsweep.train.loop import train
from charsweep.train.methods import ClassImage, Execution, Materials
from charsweep.train.methods.denoising import DenoisingTrainable

WHOLE = Execution()
ADAPTER = "step-000003/pytorch_lora_weights.safetensors"


def trained(root: Path, *words: str, execution: Execution = WHOLE) -> tuple[list[float], bytes]:
    """Losses and the last snapshot's adapter after three steps, nothing drawn."""
    sweep, store = sweep_of(root, "train_steps=3", *words), Store(root)
    (training,) = plan_work(sweep.cells, store).trainings
    spec = training.trajectory
    trainable = trainable_of(root, *words, execution=execution)
    for _ in train(trainable, iter([training]), store, 60):
        pass
    trainable.close()
    losses = [row.loss for row in store.losses(spec)]
    return losses, (store.source(spec) / ADAPTER).read_bytes()


def trainable_of(root: Path, *words: str, execution: Execution = WHOLE) -> Any:
    sweep = sweep_of(root, "train_steps=3", *words)
    spec = sweep.cells[0].trajectory
    base = load_base(spec.base, sweep.bases[spec.base.key], torch.device("cpu"))
    images = [open_image(path) for path in sweep.character.paths]
    priors = [ClassImage(path, "a picture of a girl") for path in sweep.character.paths[:2]]
    method = spec.method.made
    materials = Materials(base.device, base, images, lambda _: priors, execution)
    return method.trainable(spec, materials)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], bytes]:
    return trained(tmp_path_factory.mktemp("whole"), "batch_size=4", "pack=2")


def test_checkpointing_changes_no_bit(tmp_path: Path, whole: tuple[list[float], bytes]) -> None:
    again = trained(tmp_path, "batch_size=4", "pack=2", execution=Execution(checkpointing=True))
    assert again == whole


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_batch_in_parts_is_the_batch(
    micro_batch: int, tmp_path: Path, whole: tuple[list[float], bytes]
) -> None:
    execution = Execution(micro_batch=micro_batch)
    losses, _ = trained(tmp_path, "batch_size=4", "pack=2", execution=execution)
    assert losses == pytest.approx(whole[0], rel=1e-5)


def test_a_part_of_the_batch_is_each_process_s(tmp_path: Path) -> None:
    """The losses of two processes add up to that of one, prior preservation included."""
    words = ("batch_size=3", "pack=1", "method.prior_weight=0.5")
    sums = []
    for teams in ([Team()], [Team(0, 2), Team(1, 2)]):
        losses = torch.zeros(1)
        for team in teams:
            trainable = trainable_of(tmp_path, *words, execution=Execution(team=team))
            trainable.enter(0, sweep_of(tmp_path, *words).cells[0].trajectory)
            losses += sum(share.detach() for share in trainable.losses([0]))
            trainable.close()
        sums.append(losses.item())
    assert sums[1] == pytest.approx(sums[0], rel=1e-6)


def test_a_batch_must_reach_for_all_processes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=1: 2 processes share a batch"):
        trainable_of(tmp_path, execution=Execution(team=Team(0, 2)))


# -- the device is not waited for ------------------------------------------------------------------


class Asked(TorchDispatchMode):
    """Counts how often a tensor's value is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["dreambooth", "lora", "dreambooth_lora"])
def test_no_step_asks_for_a_value(method: str, tmp_path: Path) -> None:
    words = (f"method={method}", "train_steps=3", "optimizer.fused=true")
    sweep, store = sweep_of(tmp_path, *words), Store(tmp_path)
    (training,) = plan_work(sweep.cells, store).trainings
    trainable = trainable_of(tmp_path, *words)
    trainable.enter(0, training.trajectory)  # latents and embeddings are made
    trainable.leave(0)
    steps = train(trainable, iter([training]), store, 60, fetch_seconds=600)
    with Asked() as asked:
        assert torch.ones(1).item() == 1
        assert asked.count == 1  # it would be seen
        assert [one.row.step for one in next(steps)] == [1, 2, 3]
        assert asked.count == 1
    steps.close()
    trainable.close()


@pytest.mark.gpu
def test_no_step_waits_for_the_card(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "runtime.device=cuda", "train_steps=3")
    spec = sweep.cells[0].trajectory
    base = load_base(spec.base, sweep.bases[spec.base.key], torch.device("cuda"))
    images = [open_image(path) for path in sweep.character.paths]
    method = spec.method.made
    materials = Materials(base.device, base, images, lambda _: [])
    trainable = method.trainable(spec, materials)
    trainable.enter(0, spec)
    idle = [None] * (spec.pack - 1)
    for share in trainable.losses([0, *idle]):  # kernels are chosen
        share.sum().backward()
    torch.cuda.set_sync_debug_mode("error")  # whatever waits raises
    shares = []
    try:
        for step in range(1, 4):
            for share in trainable.losses([step, *idle]):
                share.sum().backward()
                shares.append(share.detach()[0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
        trainable.close()
    assert len(shares) == 3
    assert torch.stack(shares).isfinite().all()


# -- optimizers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("optimizer=prodigy", "lr=1"),
        slow(("optimizer=adafactor", "lr=1e-2")),
        ("optimizer=adamw8bit", "lr=1e-3"),
    ],
)
def test_other_optimizers_go_on_where_they_stopped(words: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever they remember is in the resume state: 2 + 2 steps are 4, bit for bit."""
    whole_root, parts_root = tmp_path / "whole", tmp_path / "parts"
    words = (*ONE_IMAGE, *words)
    _, store, _ = execute(whole_root, *words, "train_steps=4", "method.rank=16")
    execute(parts_root, *words, "train_steps=2", "method.rank=16")
    sweep, parts, _ = execute(parts_root, *words, "train_steps=4", "method.rank=16")
    spec = sweep.cells[0].trajectory
    assert [r.loss for r in parts.losses(spec)] == [r.loss for r in store.losses(spec)]
    name = "step-000004/pytorch_lora_weights.safetensors"
    assert (parts.source(spec) / name).read_bytes() == (store.source(spec) / name).read_bytes()


def test_a_missing_optimizer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARSWEEP_PLUGINS", "nowhere")
    with pytest.raises(ConfigError, match="nowhere is not installed; install it"):
        execute(tmp_path, "optimizer._target_=nowhere.Optimizer")


# -- memory ----------------------------------------------------------------------------------------


def test_out_of_memory_is_adapted_to_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its last state on, checkpointed, then in half batches; the result is the same."""
    plain = DenoisingTrainable.losses

    def greedy(trainable: DenoisingTrainable, steps: Sequence[int | None]) -> Iterator[Tensor]:
        how = trainable.execution
        if (steps[0] or 0) >= 2 and not (how.checkpointing and how.micro_batch):
            raise torch.OutOfMemoryError("no room for 1 GiB")
        return plain(trainable, steps)

    words = ("batch_size=2", "+axes.train_steps=[2,4]")
    sweep, calm, _ = execute(tmp_path / "calm", *words)
    monkeypatch.setattr(DenoisingTrainable, "losses", greedy)
    _, _, refused = execute(tmp_path / "refused", *words)
    assert [r.state for r in refused] == ["finished", "failed"]
    assert "runtime.adapt=true" in refused[1].error
    _, store, results = execute(tmp_path / "adapted", *words, "runtime.adapt=true")
    assert [r.state for r in results] == ["finished", "finished"]
    said = capsys.readouterr().err
    assert "goes on with runtime.checkpointing=true" in said
    assert "goes on with micro_batch=1" in said
    spec = sweep.cells[0].trajectory
    losses = [row.loss for row in store.losses(spec)]
    assert losses == pytest.approx([row.loss for row in calm.losses(spec)], rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch keeps it to itself
def test_compiled_blocks_give_the_same_and_warm_up_apart(tmp_path: Path) -> None:
    words = ("pack=1", "train_steps=4")
    sweep, plain, _ = execute(tmp_path / "plain", *words)
    spec = sweep.cells[0].trajectory
    _, fast, _ = execute(tmp_path / "compiled", *words, "runtime.compile=true")
    assert [r.loss for r in fast.losses(spec)] == pytest.approx(
        [r.loss for r in plain.losses(spec)], rel=1e-4
    )
    (run,) = json.loads((fast.source(spec) / "provenance.json").read_text())["runs"]
    assert run["warm_up_seconds"] > 10 * max(row.seconds for row in fast.losses(spec))


# -- several processes -----------------------------------------------------------------------------


def launched(*words: str) -> subprocess.Popen[str]:
    """Two processes, as `accelerate launch` starts them on cards."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
            "-m", "charsweep", *words, "runtime.tracking=false", "runtime.energy=false",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_train_one_trajectory(tmp_path: Path) -> None:
    """They share the batch, and one of them writes."""
    words = ("batch_size=2", "train_steps=3", "runtime.device=cpu")
    process = launched(*small(tmp_path / "two", *words))
    said, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert said.count("report   ") == 1
    sweep, alone, _ = execute(tmp_path / "one", *words)
    spec, two = sweep.cells[0].trajectory, Store(tmp_path / "two")
    assert [r.loss for r in two.losses(spec)] == pytest.approx(
        [r.loss for r in alone.losses(spec)], rel=1e-5
    )
    (run,) = json.loads((two.source(spec) / "provenance.json").read_text())["runs"]
    assert run["processes"] == 2


@pytest.mark.slow
def test_two_processes_stop_in_order_and_go_on(tmp_path: Path) -> None:
    """A signal to the launcher reaches both; one of them says how to go on."""
    words = small(tmp_path, "batch_size=2", "train_steps=400", "runtime.device=cpu")
    spec, store = sweep_of(tmp_path, *words).cells[0].trajectory, Store(tmp_path)
    curve = store.source(spec) / "loss.csv"
    process = launched(*words)
    while not (curve.exists() and curve.read_bytes().count(b"\n") > 1):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=100)
    assert errors.count("stopped by SIGTERM; to go on, launch it again:") == 1
    last = store.losses(spec)[-1].step
    assert 0 < last < 400
    assert store.resume_step(spec) == last

    process = launched(*words)
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert [row.step for row in store.losses(spec)] == list(range(1, 401))


# -- precision -------------------------------------------------------------------------------------


def test_half_precision_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """`auto` is float32 on a CPU, where half precision is slower by orders of magnitude."""
    asked = {
        words: sweep_of(tmp_path, *words, "runtime.device=cpu").cells[0]
        for words in [(), ("precision=auto",), ("precision=bf16",)]
    }
    assert [cell.trajectory.precision for cell in asked.values()] == ["fp32", "fp32", "bf16"]
    assert [cell.images.precision for cell in asked.values()] == ["fp32", "fp32", "bf16"]
    assert len({cell.key for cell in asked.values()}) == 2


@pytest.mark.parametrize("precision", ["bf16", slow("fp16")])
@pytest.mark.parametrize("method", ["dreambooth_lora", slow("dora"), slow("dreambooth")])
def test_what_trains_is_float32_whatever_is_multiplied(
    method: str, precision: str, tmp_path: Path
) -> None:
    words = {
        "dora": ("method=lora", "method.adapter=dora"),
        "dreambooth": ("method=dreambooth", "method.prior_weight=0"),
    }.get(method, ())
    words = (*words, "train_steps=3", "pack=1", f"precision={precision}")
    sweep, store, (result,) = execute(tmp_path, *words)
    assert result.state == "finished", result.error
    spec = sweep.cells[0].trajectory
    exact, exact_store, _ = execute(tmp_path, *words, "precision=fp32")
    assert [r.loss for r in store.losses(spec)] == pytest.approx(
        [r.loss for r in exact_store.losses(exact.cells[0].trajectory)], rel=0.05
    )
    folder = store.source(spec) / "step-000003"
    for file in folder.rglob("*.safetensors"):
        if file.parent.name in ("step-000003", "unet"):
            assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}


@pytest.mark.slow
def test_a_scaler_goes_on_where_it_stopped(tmp_path: Path) -> None:
    words = ("precision=fp16", "pack=1", "lr=1e-3")
    sweep, whole, _ = execute(tmp_path / "whole", *words, "train_steps=4")
    execute(tmp_path / "parts", *words, "train_steps=2")
    _, parts, _ = execute(tmp_path / "parts", *words, "train_steps=4")
    spec = sweep.cells[0].trajectory
    assert [r.loss for r in parts.losses(spec)] == [r.loss for r in whole.losses(spec)]
    numbers = json.loads((parts.resume(spec, 4) / "numbers.json").read_text())
    assert numbers["scaler"]["_growth_tracker"] == 4
