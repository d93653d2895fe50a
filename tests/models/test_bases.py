"""Every family of bases that a transformer draws for: one .py and one .yaml, through everything.

Weights are random and tiny, so what they draw means nothing; that diffusers alone draws the same,
and that a plain loop teaches the same, does. `helpers.tiny_bases.TINY` has an entry for each.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from helpers.small import ONE_IMAGE, base_named, execute, small, snapshot_bytes, sweep_of
from helpers.tiny_bases import TINY, draw_plainly, load_plainly, write_tiny
from helpers.variants import first, slow
from peft import LoraConfig
from PIL import Image
from safetensors.torch import save_file

from charsweep.__main__ import main
from charsweep.character import middle_square
from charsweep.config import Sweep
from charsweep.core.seeding import chosen, generator
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.models.kohya import tensors_in
from charsweep.models.load import load_base
from charsweep.models.pipeline import LoadedPipeline, pixels_of
from charsweep.plan import cost, memory
from charsweep.train.methods import Materials
from charsweep.train.methods.denoising import DenoisingTrainable
from charsweep.train.stacked_lora import Adapters

NAMES = list(TINY)
ENCODERS = [
    f"models.encoders.{name}.{setting}"
    for name in ("clip", "dino")
    for setting in (f"path=embedded:weights/{name}", "resize=64", "crop=64")
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {name: write_tiny(name, root / name) for name in NAMES}


def words(name: str, folder: Path, *more: str) -> list[str]:
    return [f"models={name}", f"method.base={name}", f"models.bases.{name}.path={folder}", "pack=2",
            "resolution=64", f"models.bases.{name}.resolution=64", *ENCODERS, *more]  # fmt: skip


SELDOM = ("krea2", "qwen_image")  # what they have of their own is in test_klein.py, every time


@pytest.fixture(params=[slow(name) if name in SELDOM else name for name in NAMES])
def given(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Callable[..., list[str]]:
    """Words that choose a family's tiny pipeline, with more."""
    name = request.param

    def choose(*more: str) -> list[str]:
        return words(name, folders[name], *more)

    choose.name, choose.folder = name, folders[name]  # type: ignore[attr-defined]
    return choose


def loaded(sweep: Sweep, name: str, dtype: torch.dtype = torch.float32) -> LoadedPipeline:
    weights = base_named(sweep, name)
    return load_base(weights.spec, weights, torch.device("cpu"), dtype)


# -- teaching --------------------------------------------------------------------------------------


def test_the_first_ten_losses_are_those_of_a_plain_loop(given: Any, tmp_path: Path) -> None:
    """Written from the family's own definition, with diffusers and peft alone."""
    tiny = TINY[given.name]
    sweep, store, _ = execute(tmp_path, *given("train_steps=10", "lr=1e-2", "pack=1"), *ONE_IMAGE)
    spec = sweep.cells[0].trajectory
    pipeline = load_plainly(given.name, given.folder)
    transformer = pipeline.transformer
    transformer.requires_grad_(False)
    layers = [
        name for name, layer in transformer.named_modules()
        if isinstance(layer, torch.nn.Linear)
        and name.endswith(tiny.targets) and not name.startswith(tiny.kept)
    ]  # fmt: skip
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=layers))
    source = generator(spec.seed, "adapter")
    for name, layer in transformer.named_modules():
        if name in layers:
            a = layer.lora_A["default"].weight.data
            a.copy_(torch.randn(a.shape, generator=source) / 4)
    trained = [tensor for tensor in transformer.parameters() if tensor.requires_grad]
    settings = {**spec.optimizer.settings, "lr": spec.learning_rate}
    optimizer = torch.optim.AdamW(trained, **settings)
    paths = [sweep.drawings.paths[digest] for digest in spec.character.digests]
    pictures = [pixels_of([middle_square(open_image(path), 64)]) for path in paths]
    losses = []
    for step in range(10):
        (index,) = chosen(spec.seed, "image", len(paths), 1, step)
        with torch.no_grad():
            latents = tiny.latents(
                pipeline, pictures[index],
                torch.randn(tiny.shape, generator=generator(spec.seed, "image", step)),
            )  # fmt: skip
        noise = torch.randn(tiny.shape, generator=generator(spec.seed, "image noise", step))
        time = tiny.times(generator(spec.seed, "image timestep", step))
        noisy = (1 - time) * latents + time * noise
        predicted = tiny.velocity(pipeline, noisy, time, spec.character.instance_prompt)
        loss = torch.nn.functional.mse_loss(predicted, noise - latents)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, spec.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    assert [row.loss for row in store.losses(spec)] == pytest.approx(losses, rel=1e-5)
    assert len(set(losses)) == 10


def gradients(sweep: Sweep, base: LoadedPipeline, width: int) -> list[dict[str, torch.Tensor]]:
    """Of four trials with seeds 0 to 3 at their first step, so many in a pass."""
    spec = replace(sweep.cells[0].trajectory, pack=width)
    drawings, digests = sweep.drawings, spec.character.digests
    images = [one.image for one in drawings.training_images(digests, ())]
    found = []
    for start in range(0, 4, width):
        materials = Materials(base.device, base, images, lambda _: [])
        trainable = spec.method.made.trainable(spec, materials)
        assert isinstance(trainable, DenoisingTrainable)
        with contextlib.closing(trainable):
            for slot in range(width):
                trainable.enter(slot, replace(spec, seed=start + slot))
            for slot in range(width):  # the second factor begins at zero, where the first has none
                for name, tensor in trainable.named(slot).items():
                    if name.endswith("lora_B"):
                        source = generator(start + slot, name)
                        tensor.data.copy_(0.1 * torch.randn(tensor.shape, generator=source))
            trainable.zero_grad()
            for share in trainable.losses([0] * width):
                share.sum().backward()
            found += [
                {name: tensor.grad.clone() for name, tensor in trainable.named(slot).items()}
                for slot in range(width)
            ]
    return found


def test_a_pack_of_four_learns_what_each_learns_alone(given: Any, tmp_path: Path) -> None:
    """Captions of four lengths, so that the longest of them is beside each."""
    sweep = sweep_of(tmp_path, *given("method=lora", f"method.base={given.name}"))
    base = loaded(sweep, given.name)
    before = base.digest()
    together, alone = gradients(sweep, base, 4), gradients(sweep, base, 1)
    assert base.digest() == before
    for packed, own in zip(together, alone, strict=True):
        assert packed.keys() == own.keys()
        for name in own:
            torch.testing.assert_close(packed[name], own[name], rtol=1e-6, atol=1e-6)
            assert own[name].abs().sum() > 0


def test_layers_in_which_samples_share_a_row_are_left_out(given: Any, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *given())
    base = loaded(sweep, given.name)
    family = base.family
    assert all(base.denoiser.get_submodule(start) for start in family.mixing)
    latents = torch.randn(2, *TINY[given.name].shape[1:])
    times = torch.tensor([300.0, 600.0])
    told, sizes = base.texts(["a girl", "a picture of a girl on the beach"]), torch.zeros(2, 6)
    for name, layer in base.denoiser.named_modules():
        if not isinstance(layer, torch.nn.Linear):
            continue
        adapters = Adapters({"transformer": base.denoiser}, {"transformer": (name,)}, 2, 8)
        adapters.attach()
        mixes = bool(family.mixing) and name.startswith(family.mixing)
        with torch.no_grad(), pytest.raises(AssertionError) if mixes else contextlib.nullcontext():
            base.predict(latents, times, told, sizes)
        adapters.detach()


@pytest.mark.parametrize("given", first(1, reversed(NAMES)), indirect=True)
def test_a_trajectory_goes_on_bit_for_bit(given: Any, tmp_path: Path) -> None:
    taught = given(*ONE_IMAGE, "lr=1e-2")
    execute(tmp_path / "twice", *taught, "train_steps=2")
    sweep, store, _ = execute(tmp_path / "twice", *taught, "train_steps=4")
    _, whole, _ = execute(tmp_path / "once", *taught, "train_steps=4")
    last = sweep.cells[0].images.snapshot
    files = snapshot_bytes(store.snapshot(last))
    assert files.keys() >= {"pytorch_lora_weights.safetensors"}
    assert files == snapshot_bytes(whole.snapshot(last))
    size = len(files["pytorch_lora_weights.safetensors"])
    assert cost.snapshot_bytes(sweep.cells[0].trajectory, sweep.bases) == size


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch keeps it to itself
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_compiled_blocks_learn_the_same(given: Any, tmp_path: Path) -> None:
    """Also those of classes that name no repeated blocks."""
    taught = given(*ONE_IMAGE, "pack=1", "train_steps=3")
    sweep, plain, _ = execute(tmp_path / "plain", *taught)
    _, fast, _ = execute(tmp_path / "compiled", *taught, "runtime.compile=true")
    losses = [
        [row.loss for row in store.losses(sweep.cells[0].trajectory)] for store in (plain, fast)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


# -- the whole command -----------------------------------------------------------------------------


def test_a_sweep_is_trained_drawn_scored_exported_and_read_again(
    given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = given.name
    asked = small(tmp_path, *given("lr=1e-2", "train_steps=2", "method.alpha=6",
                                   "runtime.tracking=false", "runtime.energy=false"))  # fmt: skip
    assert main(asked) == 0
    assert main([*asked, "action=export"]) == 0
    capsys.readouterr()
    step = next(tmp_path.glob(f"sweeps/store/dreambooth_lora-{name}-*/step-000002"))
    (images,) = (path.parent for path in step.glob("*/images.json"))
    manifest = json.loads((images / "images.json").read_text())
    prompts = [manifest["prompts"][one["prompt"]] for one in manifest["files"]]
    seeds = [one["seed"] for one in manifest["files"]]
    shown = [np.asarray(Image.open(images / one["file"]), int) for one in manifest["files"]]
    assert len(shown) == 4
    assert list((images / "scores").glob("dino*.json"))
    untaught = draw_plainly(name, load_plainly(name, given.folder), prompts, seeds)
    (export,) = (tmp_path / "sweeps/small/export").iterdir()
    own, comfy = (
        step / "pytorch_lora_weights.safetensors",
        export / "UnicornGirl-comfyui.safetensors",
    )
    for file in (own, comfy):
        plain = draw_plainly(name, load_plainly(name, given.folder, file), prompts, seeds)
        assert not any(np.array_equal(*pair) for pair in zip(plain, untaught, strict=True))
        for ours, theirs in zip(shown, plain, strict=True):
            assert np.abs(ours - theirs).max() <= 1  # ours has the adapter in the weights
    check_comfy(name, comfy)
    readme = (export / "README.md").read_text()
    assert comfy.name in readme
    assert TINY[name].pipeline in readme
    check_code(readme, given.folder, export)
    files = tmp_path.glob("sweeps/store/*/step-*/*.safetensors")
    written = {path: path.stat().st_mtime_ns for path in files}
    assert len(written) == 1
    assert main(asked) == 0  # all of it is found again
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())


# ComfyUI's own rules (comfy/lora.py, `model_lora_keys_unet`, and comfy/utils.py at v0.26.1): the
# names of layers that it finds below `diffusion_model.`, as patterns, and what it calls the parts.
COMFY_LAYERS = {
    # `z_image_to_diffusers`: diffusers' names, mapped onto its own fused ones
    "zimage": r"(layers|noise_refiner|context_refiner)\.\d+\.(attention\.to_[qkv]|"
    r"attention\.to_out\.0|feed_forward\.w[123]|adaLN_modulation\.0)",
    # any weight of the model by its own name: those of comfy/ldm/cosmos/predict2.py
    "anima": r"blocks\.\d+\.((self|cross)_attn\.([qkv]_proj|output_proj)|mlp\.layer[12]|"
    r"adaln_modulation_(self_attn|cross_attn|mlp)\.[12])",
    # the same: those of comfy/ldm/flux/layers.py
    "klein": r"double_blocks\.\d+\.(img|txt)_(attn\.(qkv|proj)|mlp\.[02])|"
    r"single_blocks\.\d+\.linear[12]",
    # the same, as `krea2_to_diffusers` lists them
    "krea2": r"(blocks|txtfusion\.(layerwise|refiner)_blocks)\.\d+\."
    r"(attn\.(w[qkvo]|gate)|mlp\.(gate|up|down))|"
    r"first|last\.linear|tmlp\.[02]|tproj\.1|txtmlp\.[13]|txtfusion\.projector",
    # the same, those of comfy/ldm/qwen_image/model.py
    "qwen_image": r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|"
    r"to_add_out)|(img|txt)_(mod\.1|mlp\.net\.(0\.proj|2)))",
}
COMFY_PARTS = r"(lora_A\.weight|lora_B\.weight)"  # `diffusers3_lora` of its weight adapters


def check_comfy(name: str, file: Path) -> None:
    """No tensor of the file is left over, and none of the file's layers lacks its half."""
    import re

    pattern = re.compile(rf"diffusion_model\.({COMFY_LAYERS[name]})\.{COMFY_PARTS}")
    found = {key: pattern.fullmatch(key) for key in tensors_in(file)}
    assert all(found.values()), [key for key, match in found.items() if not match]
    halves = [match.group(match.lastindex) for match in found.values() if match and match.lastindex]
    assert halves.count("lora_A.weight") == halves.count("lora_B.weight") > 0


def check_code(readme: str, folder: Path, export: Path) -> None:
    """The card's Python is run as it stands, but for where the base lies and the card it is on."""
    code = readme.partition("```python\n")[2].partition("```")[0]
    for old, new in ((f"PATH/{folder.name}", str(folder)), ('.to("cuda")', '.to("cpu")'),
                     ("bfloat16", "float32"), ('("."', f'("{export}"')):  # fmt: skip
        code = code.replace(old, new)
    known: dict[str, Any] = {}
    with contextlib.chdir(export):
        exec(code, known)
    assert known["image"].size == (64, 64)


# -- what a plan says ------------------------------------------------------------------------------


def shapes_of(module: torch.nn.Module) -> dict[str, list[int]]:
    """Of its tensors by name, but for those that are others of them once more."""
    twice = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    again = twice - {name for name, _ in module.named_parameters()}
    tensors = module.state_dict().items()
    return {name: list(tensor.shape) for name, tensor in tensors if name not in again}


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_those_of_the_classes(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Of the tiny parts as they lie there, and of those in the published sizes."""
    sweep = sweep_of(tmp_path, *words(name, folders[name]))
    family = base_named(sweep, name).family
    told = family.shapes(folders[name])
    real = {part: shapes_of(module) for part, module in loaded(sweep, name).modules.items()}
    assert told == real
    for part, (kind, config, numbers) in TINY[name].published.items():
        with torch.device("meta"):
            if isinstance(kind, str):
                made = getattr(diffusers, kind)(**config)
                config = dict(made.config)
            else:
                made = kind(kind.config_class(**config))
                config = made.config.to_dict()
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
        shapes = family.shapes(tmp_path)[part]
        assert shapes == shapes_of(made)
        assert sum(math.prod(shape) for shape in shapes.values()) == numbers


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_needs_no_weights(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As a repository lies in the cache once it has been planned with: small files alone."""
    import huggingface_hub

    cached = tmp_path / "snapshots" / "0123abc"
    shutil.copytree(folders[name], cached, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(cached))
    said = [f"models.bases.{name}.path=OWNER/NAME", "action=plan", "train_steps=3"]
    assert main(small(tmp_path, *words(name, folders[name], *said))) == 0
    plan = capsys.readouterr().out
    for word in ("download      about ", "OWNER/NAME", "estimate", "memory        expected peak"):
        assert word in plan, plan
    here = sweep_of(tmp_path, *words(name, folders[name], "train_steps=3"))
    away = sweep_of(tmp_path, *words(name, folders[name], *said))
    base, unseen = (base_named(sweep, name) for sweep in (here, away))
    assert unseen.shapes.keys() == base.shapes.keys()
    parts = list(base.shapes)
    assert unseen.numbers(parts) == base.numbers(parts) > 0
    assert unseen.to_fetch == 2 * base.numbers(parts)
    assert base.to_fetch == 0
    sizes = [cost.snapshot_bytes(s.cells[0].trajectory, s.bases) for s in (here, away)]
    assert sizes[0] == sizes[1]
    needs = []
    for sweep in (here, away):
        place = memory.Place(sweep.bases, cost.Speeds(Store(tmp_path)), None)
        needs += memory.needs_of([memory.Work(sweep.cells[0].trajectory)], place)
    assert needs[0].parts == needs[1].parts
    assert needs[0].passing == needs[1].passing > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_without_a_network(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real library, told to stay offline, and the repository of conf/."""
    message = refused(capsys, tmp_path, f"models={name}", f"method.base={name}", "action=plan")
    for word in (
        "HF_HUB_OFFLINE", "hf download", "'*/*.jinja'", "--local-dir FOLDER",
        f"models.bases.{name}.path=FOLDER", "models.encoders.dino.path=FOLDER",
    ):  # fmt: skip
        assert word in message, message


# -- what is refused -------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], root: Path, *given: str) -> str:
    quietly = ("runtime.tracking=false", "runtime.energy=false")
    assert main(small(root, *given, *quietly)) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert not list(root.glob("sweeps/store/*/step-*"))
    return message


REFUSED: list[tuple[str, list[str]]] = [
    ("method.min_snr_gamma=5", ["min_snr_gamma=5", "flow matching", "min_snr_gamma=null"]),
    ("method.text_encoder=true", ["text encoders are not taught", "method.text_encoder=false"]),
    ("resolution=72", ["resolution=72", "multiples of 16 pixels", "resolution=64"]),
    ("sampler=dpm", ["DPMSolverMultistepScheduler", "flow matching", "sampler=base"]),
    ("method=textual_inversion", ["no files of token embeddings", "method=dreambooth_lora"]),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED, ids=[wrong for wrong, _ in REFUSED])
def test_what_such_a_base_has_no_use_for(
    wrong: str, said: list[str], given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"method.base={given.name}"] if wrong.startswith("method=") else []
    message = refused(capsys, tmp_path, *given(wrong, *more))
    for word in said:
        assert word in message, message


def test_a_scheduler_that_its_pipeline_does_not_take(
    given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heun = "sampler._target_=diffusers.FlowMatchHeunDiscreteScheduler"
    message = refused(capsys, tmp_path, *given(heun))
    for word in ("does not take FlowMatchHeun", "FlowMatchEulerDiscreteScheduler", "sampler=base"):
        assert word in message, message


def test_forms_that_are_not_read(
    given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, tiny = given.name, TINY[given.name]
    file = tmp_path / "mine.safetensors"
    save_file({tiny.mark: torch.zeros(1)}, file)
    message = refused(capsys, tmp_path, *words(name, file))
    assert "diffusers folders only" in message
    message = refused(capsys, tmp_path, *words(name, Path("embedded:weights/sdxl")))
    for word in ("StableDiffusionXLPipeline", "stands for", "a diffusers folder"):
        assert word in message, message
    folder = tmp_path / "base"
    shutil.copytree(given.folder, folder)
    shutil.rmtree(folder / "text_encoder")
    assert "text_encoder/ is missing" in refused(capsys, tmp_path, *words(name, folder))


def test_a_template_of_chats_is_part_of_a_base(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It decides what the text encoder reads: another is another base, and none is refused."""
    folder = tmp_path / "base"
    shutil.copytree(folders["zimage"], folder)
    (template,) = folder.rglob("chat_template.jinja")

    def digest(place: Path) -> str:
        return base_named(sweep_of(tmp_path, *words("zimage", place)), "zimage").digest

    before = digest(folder)
    assert before == digest(folders["zimage"])
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "tokenizer" / template.name).write_text(template.read_text() + "!")
    assert digest(other) != before
    template.unlink()
    message = refused(capsys, tmp_path, *words("zimage", folder))
    assert "lacks chat_template.jinja" in message


def test_a_module_of_somebody_s_is_not_imported(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A modular index names a library twice for each part, and a path that is not followed."""
    for number, change in enumerate(
        (
            lambda entry: ["somebodys", *entry[1:]],
            lambda entry: [*entry[:2], entry[2] | {"type_hint": ["somebodys", "Model"]}],
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(folders["anima"], folder)
        index = folder / "modular_model_index.json"
        content = json.loads(index.read_text())
        content["transformer"] = change(content["transformer"])
        index.write_text(json.dumps(content))
        message = refused(capsys, tmp_path, *words("anima", folder))
        assert "'somebodys'" in message
        assert "none of the libraries" in message


# -- shapes ----------------------------------------------------------------------------------------


def test_a_wide_picture_is_the_one_that_diffusers_draws(given: Any, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *given())
    base = loaded(sweep, given.name)
    spec = replace(
        sweep.cells[0].images, size=(96, 64), guidance_scale=5.0, inference_steps=2, batch_width=2
    )
    prompts = ["a girl", "a bear"]
    with torch.inference_mode():
        ours = base.family.draw(
            base.pipeline, spec, prompts, [generator(i, "image") for i in range(2)]
        )
    theirs = draw_plainly(given.name, load_plainly(given.name, given.folder), prompts, [0, 1], 96)
    assert ours.shape == (2, 64, 96, 3)
    assert np.abs((ours * 255).round() - np.stack(theirs)).max() <= 1


# -- guidance --------------------------------------------------------------------------------------


def test_one_scale_of_guidance(given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 asks the denoiser once a step, and what is reckoned is what is asked."""
    sweep = sweep_of(tmp_path, *given())
    base = loaded(sweep, given.name)
    asked: list[int] = []

    def count(module: torch.nn.Module, given: Any, named: Any) -> None:
        asked.append(len(next(iter((*given, *named.values())))))

    base.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    images = sweep.cells[0].images
    for scale in (1.0, 2.0):
        asked.clear()
        spec = replace(images, guidance_scale=scale, inference_steps=2, batch_width=2)
        with torch.inference_mode():
            base.family.draw(
                base.pipeline, spec, ["a girl", "a"], [generator(i, "image") for i in range(2)]
            )
        assert sum(asked) == 2 * cost.calls_each(spec)


def test_parts_are_loaded_in_their_own_precision(given: Any, tmp_path: Path) -> None:
    """What a model keeps in float32 stays so: the turns of Qwen's positions, for one."""
    sweep = sweep_of(tmp_path, *given())
    base = loaded(sweep, given.name, torch.bfloat16)
    assert base.denoiser.dtype == torch.bfloat16
    assert base.modules["vae"].dtype == torch.float32
    reader, whole = base.modules["text_encoder"], loaded(sweep, given.name).modules["text_encoder"]
    turned = {name: tensor for name, tensor in reader.named_buffers() if "inv_freq" in name}
    assert turned
    for name, tensor in turned.items():
        assert torch.equal(tensor, whole.get_buffer(name))
