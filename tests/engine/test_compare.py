"""`+sweep=compare`: adapters that other programs wrote, as cells, without any training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.adapters import ATTENTION, base_of, naming, write_adapter
from helpers.small import EXAM, cells_without_times, sweep_of
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from charsweep.__main__ import main
from charsweep.actions.run import keep_adapters
from charsweep.config import Sweep, load_sweep
from charsweep.core.errors import CharsweepError
from charsweep.core.specs import AdapterSpec
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED_CONFIG
from charsweep.models.kohya import original_name, write_kohya
from charsweep.models.pipeline import LoadedPipeline
from charsweep.plan import plan_work

Named = dict[str, Tensor]
RANK, ALPHA = 3, 7.0
COMPARE = ["+sweep=compare", "runtime.tracking=false"]


ELSEWHERE = "exam.parts={elsewhere: {prompts: ['a picture of a bear in the snow'], seeds: [0]}}"


def words(root: Path, *files: Path | str, more: tuple[str, ...] = ()) -> list[str]:
    return [f"root={root}", *COMPARE, *EXAM, f"adapters=[{','.join(map(str, files))}]", *more]


# -- the formats of other programs -----------------------------------------------------------------


def kohya(snapshot: Path, file: Path) -> None:
    write_kohya(snapshot, naming("sdxl"), file, {})


def kohya_without_alpha(snapshot: Path, file: Path) -> None:
    """Scaled already, as a reader takes it that finds none."""
    kohya(snapshot, file)
    tensors = load_file(file)
    scaled = {
        name: tensor * (ALPHA / RANK if "lora_up" in name else 1)
        for name, tensor in tensors.items()
        if not name.endswith(".alpha")
    }
    save_file(scaled, file)


def old_diffusers(snapshot: Path, file: Path) -> None:
    """As diffusers called them up to its release 0.26, without a word on alpha."""
    tensors = load_file(snapshot / ADAPTER_FILE)
    renamed = {}
    for key, tensor in tensors.items():
        name = re.sub(r"\.attn(\d)\.to_out\.0\.", r".attn\1.processor.to_out_lora.", key)
        name = re.sub(r"\.attn(\d)\.to_([qkv])\.", r".attn\1.processor.to_\2_lora.", name)
        name = re.sub(r"\.(q|k|v|out)_proj\.", r".to_\1_lora.", name)
        is_up = name.endswith("lora_B.weight")
        name = name.replace("lora_A.weight", "down.weight").replace("lora_B.weight", "up.weight")
        renamed[name] = tensor * (ALPHA / RANK if is_up else 1)
    save_file(renamed, file)


def comfy(snapshot: Path, file: Path) -> None:
    """The original code's names, dotted, and ComfyUI's own of the text encoders."""
    per_block = base_of("sdxl").denoiser.config.layers_per_block
    renamed: Named = {}
    for key, tensor in load_file(snapshot / ADAPTER_FILE).items():
        module, _, rest = key.partition(".")
        layer, _, part = rest.rpartition(".lora_")
        if module == "unet":
            name = f"diffusion_model.{original_name(layer, per_block)}"
        else:
            clip = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}[module]
            name = f"text_encoders.{clip}.transformer.{layer}"
        way = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[part]
        renamed[f"{name}.{way}"] = tensor
        renamed[f"{name}.alpha"] = torch.tensor(ALPHA)
    save_file(renamed, file)


def simple_tuner(snapshot: Path, file: Path) -> None:
    """diffusers' own names and header."""
    shutil.copy(snapshot / ADAPTER_FILE, file)


def one_trainer(snapshot: Path, file: Path) -> None:
    """diffusers' names of U-Net layers, with kohya's prefixes and parts."""
    renamed: Named = {}
    for key, tensor in load_file(snapshot / ADAPTER_FILE).items():
        module, _, rest = key.partition(".")
        layer, _, part = rest.rpartition(".lora_")
        start = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
        name = f"{start[module]}_{layer.replace('.', '_')}"
        way = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[part]
        renamed[f"{name}.{way}"] = tensor
        renamed[f"{name}.alpha"] = torch.tensor(ALPHA)
    save_file(renamed, file)


def ai_toolkit(snapshot: Path, file: Path) -> None:
    """kohya's names, in half precision, and a header of its own."""
    kohya(snapshot, file)
    told = {"software": json.dumps({"name": "ai-toolkit"}),
            "training_info": json.dumps({"step": 250, "epoch": 3})}  # fmt: skip
    save_file(load_file(file), file, told)


LORA: dict[str, Callable[[Path, Path], None]] = {
    "kohya": kohya,
    "kohya_without_alpha": kohya_without_alpha,
    "simple_tuner": simple_tuner,
    "old_diffusers": old_diffusers,
    "comfy": comfy,
    "one_trainer": one_trainer,
    "ai_toolkit": ai_toolkit,
}


def drawn(base: LoadedPipeline) -> NDArray[np.float32]:
    images: NDArray[np.float32] = base.pipeline(
        "a picture of UnicornGirl jumping", num_inference_steps=2, output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    return images


def by_its_own(snapshot: Path) -> NDArray[np.float32]:
    """As peft draws with it, beside the weights and not in them."""
    base = base_of("sdxl")
    with base.with_snapshot(snapshot):
        return drawn(base)


def by_cells(sweep: Sweep) -> dict[str, NDArray[np.float32]]:
    """What the cell of each adapter draws with, from the store, whatever became of its file."""
    base, store, found = base_of("sdxl"), Store(sweep.root), {}
    for cell in sweep.cells:
        assert isinstance(cell.source, AdapterSpec)
        assert store.has_snapshot(cell.images.snapshot)
        with base.changed(store.snapshot(cell.images.snapshot) / ADAPTER_FILE):
            found[str(cell.values["adapter"])] = drawn(base)
    return found


def test_files_of_every_program_draw_what_the_adapter_draws_that_they_came_from(
    tmp_path: Path,
) -> None:
    base = base_of("sdxl")
    write_adapter(base, tmp_path / "lora", "lora", RANK, ALPHA, ATTENTION)
    files = [tmp_path / f"{name}.safetensors" for name in LORA]
    for write, file in zip(LORA.values(), files, strict=True):
        write(tmp_path / "lora", file)
    wanted = dict.fromkeys(LORA, by_its_own(tmp_path / "lora"))
    assert np.abs(wanted["kohya"] - drawn(base)).max() > 0.01
    for kind in ("loha", "lokr"):
        write_adapter(base, tmp_path / kind, kind, RANK, ALPHA, ATTENTION)
        kohya(tmp_path / kind, tmp_path / f"lycoris_{kind}.safetensors")
        files += [tmp_path / f"lycoris_{kind}.safetensors", tmp_path / kind]
        wanted |= dict.fromkeys((f"lycoris_{kind}", kind), by_its_own(tmp_path / kind))
    folder = tmp_path / "peft"  # of peft itself: the denoiser's layers, and settings beside them
    write_adapter(base, tmp_path / "unet", "lora", RANK, ALPHA, ATTENTION, text_encoder=False)
    folder.mkdir()
    tensors = load_file(tmp_path / "unet" / ADAPTER_FILE)
    save_file(
        {f"base_model.model.{name.removeprefix('unet.')}": own for name, own in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (folder / FACTORED_CONFIG).write_text(json.dumps(settings))
    wanted["peft"] = by_its_own(tmp_path / "unet")
    sweep = load_sweep(words(tmp_path / "root", *files, folder))
    keep_adapters(sweep, Store(sweep.root))
    for file in (*files, folder):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    got = by_cells(sweep)
    assert got.keys() == wanted.keys()
    for name, images in got.items():
        assert np.abs(images - wanted[name]).max() <= 1e-4, name


# -- keys ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kohya file of random numbers on all attention, called mine.safetensors."""
    folder = tmp_path_factory.mktemp("mine")
    write_adapter(base_of("sdxl"), folder / "snapshot", targets=ATTENTION)
    kohya(folder / "snapshot", folder / "mine.safetensors")
    return folder / "mine.safetensors"


def test_a_key_is_of_the_content_and_of_how_it_is_drawn(mine: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed.safetensors"
    moved.parent.mkdir()
    shutil.copy(mine, moved)
    (cell,) = load_sweep(words(tmp_path, mine)).cells
    (other,) = load_sweep(words(tmp_path, moved, more=("name=other", "lr=0.5"))).cells
    assert cell.key == other.key
    assert [one.values["adapter"] for one in (cell, other)] == ["mine", "renamed"]
    axes = ("+axes.strength=[0.5,1]", "+axes.inference_steps=[1,2]",
            "+axes={sampler: [base,ddim], sampler.guidance_scale: [3,5]}")  # fmt: skip
    cells = load_sweep(words(tmp_path, mine, more=axes)).cells
    assert len({one.key for one in cells}) == len(cells) == 16
    assert cell.key in {one.key for one in cells}
    assert {one.source.key for one in cells} == {cell.source.key}


def test_adapters_stand_beside_what_is_trained(mine: Path, tmp_path: Path) -> None:
    trained = sweep_of(tmp_path, "+axes.lr=[1e-3,1e-4]", "+axes.method.rank=[2,4]")
    beside = sweep_of(
        tmp_path, "+axes.lr=[1e-3,1e-4]", "+axes.method.rank=[2,4]", f"adapters=[{mine}]"
    )
    assert [cell.key for cell in beside.cells if cell.is_trained] == [c.key for c in trained.cells]
    (own,) = (cell for cell in beside.cells if not cell.is_trained)
    assert own.values == {"method": "adapter", "adapter": "mine", "inference_steps": 2}
    assert own.exam == trained.cells[0].exam
    assert own.untaught_set == trained.cells[0].untaught_set
    plan = plan_work(beside.cells, Store(tmp_path))
    assert plan.steps_needed == plan_work(trained.cells, Store(tmp_path)).steps_needed


def test_each_adapter_has_its_own_trigger(mine: Path, tmp_path: Path) -> None:
    asked = f"{{path: '{mine}', name: hers, trigger: 'zwx girl'}}"
    (cell,) = load_sweep(words(tmp_path, asked)).cells
    (plain,) = load_sweep(words(tmp_path, mine)).cells
    assert cell.values["adapter"] == "hers"
    assert cell.images.prompts[0] == plain.images.prompts[0].replace("UnicornGirl", "zwx girl")
    assert cell.exam == plain.exam
    assert cell.made["trigger"] == "zwx girl"


# -- what is refused -------------------------------------------------------------------------------


def half_the_keys(tensors: Named) -> Named:
    return {name: tensor for name, tensor in tensors.items() if "lora_up" not in name}


def half_of_other_names(tensors: Named) -> Named:
    layers = sorted({name.partition(".")[0] for name in tensors})
    renamed = set(layers[::2])
    return {
        (f"lora_unet_elsewhere_{name}" if name.partition(".")[0] in renamed else name): tensor
        for name, tensor in tensors.items()
    }


def wrong_rank(tensors: Named) -> Named:
    return {
        name: tensor[:2].contiguous() if "lora_down" in name else tensor
        for name, tensor in tensors.items()
    }


def wrong_size(tensors: Named) -> Named:
    return {
        name: tensor[:, :-1].contiguous() if "lora_down" in name else tensor
        for name, tensor in tensors.items()
    }


def nothing(tensors: Named) -> Named:
    return {n: torch.zeros_like(t) if "lora_up" in n else t for n, t in tensors.items()}


SPOILT: dict[str, tuple[Callable[[Named], Named], str]] = {
    "half the keys": (half_the_keys, "it has alpha, down, which make no change: it is not whole"),
    "half of other names": (
        half_of_other_names,
        r"\d+ of its \d+ tensors belong to no layer there \(lora_unet_elsewhere_.*, "
        r"lora_unet_elsewhere_.*, lora_unet_elsewhere_.* and \d+ more\)",
    ),
    "wrong rank": (wrong_rank, "is made for a layer of another size"),
    "wrong size": (wrong_size, "is made for a layer of another size .* another kind of base"),
    "nothing": (nothing, "it changes nothing: in each of its layers a factor is zero"),
}


@pytest.mark.parametrize("way", SPOILT)
def test_a_spoilt_file_is_one_message(
    way: str, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, file = mine, tmp_path / "spoilt.safetensors"
    spoil, said = SPOILT[way]
    save_file(spoil(load_file(good)), file)
    assert main(words(tmp_path / "root", good, file)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"ModelsError: adapters={file}: it cannot be put on sdxl: .*{said}", line)
    assert not (tmp_path / "root").exists()
    load_sweep(words(tmp_path / "root", good))  # as the message says: without it


def test_an_adapter_of_another_base_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded bases' attention is alike in size, so the header tells; else the layers do."""
    write_adapter(base_of("sd15"), tmp_path / "other", targets=ATTENTION)
    file = tmp_path / "of_sd15.safetensors"
    write_kohya(tmp_path / "other", naming("sd15"), file, {"ss_base_model_version": "sd_v1"})
    assert main(words(tmp_path / "root", file)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ModelsError: adapters={file}: it cannot be put on sdxl: ")
    remedy = "method.base=sd15"
    assert f"it belongs on sd15: set {remedy}" in line
    (cell,) = load_sweep(words(tmp_path / "root", file, more=(remedy,))).cells
    assert cell.base_label == "sd15"
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["adapters=[]"], "adapters=[]: nothing is trained (train=false)"),
        (["adapters=[x.pt,nowhere.safetensors]"], "adapters=x.pt: it may hold pickled code"),
        (["adapters=[FILE]", "+axes.lr=[1e-3]"], "axes.lr: nothing is trained"),
        (["adapters=[FILE]", "seeds=2"], "seeds=2: nothing is trained"),
        (["adapters=[FILE]", "search=tpe"], "adapters: search=tpe chooses its cells by itself"),
        (["adapters=[FILE]", "method=gan"], "adapters=FILE: it needs a base to be put on"),
        (["adapters=[FILE]", "train=true", "character=none", "character.identifier=x"],
         "train=true: character=none has no drawings for that"),
        (["adapters=[FILE]", "character=none"], "character.identifier is not set; give it as"),
        (["adapters=[FILE]", "+axes.train=[true]"], "axes.train: nothing is trained"),
        (["adapters=[{file: FILE}]"], "adapters.0.path: is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(
    asked: list[str], said: str, mine: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK")
    own = [word.replace("FILE", str(mine)).replace("x.pt", f"{tmp_path}/x.pt") for word in asked]
    with pytest.raises(CharsweepError) as error:
        load_sweep([f"root={tmp_path}/root", *COMPARE, *EXAM, *own])
    text = str(error.value).replace(str(mine), "FILE").replace(f"{tmp_path}/", "")
    assert text.startswith(said)


# -- a whole run -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_checkpoints_is_drawn_scored_reported_and_exported(
    mine: Path, tmp_path: Path
) -> None:
    """Without drawings of the character: identity is blank, prompts and drift are not."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for steps in (250, 500):
        own = {n: t * steps / 500 if "lora_up" in n else t for n, t in load_file(mine).items()}
        told = {"training_info": json.dumps({"step": steps})}
        save_file(own, runs / f"girl_{steps:09d}.safetensors", told)
    metrics = "metric=[score,identity,prompt,drift,diversity,dino,copy]"
    asked = words(
        tmp_path, runs, more=(metrics, "character=none", "character.identifier=UnicornGirl",
                              "character.class_noun=girl", ELSEWHERE),
    )  # fmt: skip
    assert main(asked) == 0
    folder = tmp_path / "sweeps" / "compare"
    rows = cells_without_times(folder / "cells.csv")
    assert [(row["adapter"], row["train_steps"], row["state"]) for row in rows] == [
        ("girl", "250", "finished"), ("girl", "500", "finished"),
    ]  # fmt: skip
    for row in rows:
        assert (row["score"], row["identity"], row["dino"], row["copy"]) == ("", "", "", "")
        assert float(row["drift"]) > 0
        assert 0 <= float(row["prompt"]) <= 1
        assert (row["made_kind"], row["made_rank"]) == ("LoRA", "3")
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "training steps" in page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweeps/store/**/*.png")}
    assert main(asked) == 0  # again: nothing is drawn
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("sweeps/store/**/*.png")}
    key = rows[1]["cell"]
    assert main([f"root={tmp_path}", "name=compare", "action=export", f"export.cell='{key}'",
                 "runtime.tracking=false"]) == 0  # fmt: skip
    (exported,) = (folder / "export").iterdir()
    given = exported / "girl.safetensors"
    assert given.read_bytes() == (runs / "girl_000000500.safetensors").read_bytes()
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "girl" in card
    assert read_json(exported / "export.json")["cell"] == key
