"""What `action=export` writes, what its card says, and that what the card says is so."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.adapters import base_of
from helpers.small import loaded_after, small
from helpers.variants import first
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from charsweep.__main__ import main
from charsweep.actions.export.card import write_card
from charsweep.actions.export.chosen import find_chosen
from charsweep.actions.export.formats import WrittenWeights
from charsweep.actions.export.metadata import network
from charsweep.actions.export.push import open_hub
from charsweep.actions.export.usage import python_code
from charsweep.actions.export.write import export
from charsweep.config import load_sweep
from charsweep.core.errors import ConfigError, ModelsError, StoreError
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.models.embedded import FOLDER
from charsweep.models.pipeline import quiet
from charsweep.models.prediction import prediction_of
from charsweep.models.weights import Weights as Source
from charsweep.results import read_results
from charsweep.results.recommendation import recommendation_of

ADAPTER = "pytorch_lora_weights.safetensors"


def run(root: Path, *words: str) -> None:
    assert main(small(root, "runtime.tracking=false", *words)) == 0


def exported(root: Path, *words: str) -> Path:
    """The folder that `action=export` writes for the small sweep in `root`."""
    return export(load_sweep(["action=export", f"root={root}", "name=small", *words]))


def cells(root: Path) -> dict[str, Any]:
    return read_results(root / "sweeps/small/cells.jsonl")


def header(folder: Path) -> dict[str, Any]:
    """The metadata of a model card, as the hub reads it."""
    _, text, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(text)


def code_of(folder: Path) -> str:
    card = (folder / "README.md").read_text(encoding="utf-8")
    return card.split("```python\n")[1].split("```")[0]


def picture_by_card(folder: Path, without: str | None = None) -> bytes:
    """Run the card's own code in the exported folder; its picture's pixels.

    With `without`, lines that hold that word are left out.
    """
    lines = code_of(folder).splitlines()
    code = "\n".join(line for line in lines if without is None or without not in line)
    with contextlib.chdir(folder), quiet():
        torch.manual_seed(0)
        exec(code, {})
        with Image.open("picture.png") as picture:
            assert picture.size == (64, 64)
            pixels = picture.convert("RGB").tobytes()
        Path("picture.png").unlink()
    assert len(set(pixels)) > 16  # not one flat colour
    return pixels


def code_when_pushed(root: Path, repository: str) -> str:
    """The code of a card that is pushed to a repository, without the push."""
    sweep = load_sweep([f"root={root}", "name=small", f"export.push={repository}"])
    return code_of(export(sweep, Recorder()))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training seeds, with text encoders, alpha another than the rank."""
    root = tmp_path_factory.mktemp("export")
    run(root, "train_steps=3", "lr=1e-2", "seeds=2", "method.text_encoder=true",
        "method.rank=3", "method.alpha=6")  # fmt: skip
    return root


@pytest.fixture(scope="module")
def adapter(swept: Path) -> Path:
    return exported(swept)


# -- an adapter ------------------------------------------------------------------------------------


def test_the_best_cell_is_the_story_s(swept: Path, adapter: Path) -> None:
    best = recommendation_of(swept / "sweeps/small").cell
    assert best is not None
    record = read_json(adapter / "export.json")
    assert record["cell"] == best.cell
    assert adapter.name.endswith(f"-step3--{best.cell}")
    assert adapter.parent == swept / "sweeps/small/export"


def test_files_of_an_adapter(swept: Path, adapter: Path) -> None:
    best = cells(swept)[read_json(adapter / "export.json")["cell"]]
    names = {path.name for path in adapter.iterdir()}
    kohya = "UnicornGirl-kohya.safetensors"
    assert names == {
        ADAPTER, kohya, "README.md", "contact_sheet.png", "images", "export.json"
    }  # fmt: skip
    source = swept / "sweeps/store" / best.images
    assert (adapter / ADAPTER).read_bytes() == (source.parent / ADAPTER).read_bytes()
    first = [source / f"{index:03d}.png" for index in (0, 2)]  # two prompts of two seeds
    samples = sorted((adapter / "images").iterdir())
    assert [one.read_bytes() for one in samples] == [one.read_bytes() for one in first]
    with Image.open(adapter / "contact_sheet.png") as sheet:
        assert sheet.width > 2 * 160
    assert not list(adapter.parent.glob(".*"))


def test_the_kohya_file_tells_what_it_is(adapter: Path) -> None:
    best = read_json(adapter / "export.json")["values"]
    with safe_open(adapter / "UnicornGirl-kohya.safetensors", "pt") as file:
        told = file.metadata()
        keys = set(file.keys())
    assert {key.split("_")[1] for key in keys} == {"unet", "te1", "te2"}
    wanted = {
        "ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False", "ss_network_dim": "3",
        "ss_network_alpha": "6", "ss_network_module": "networks.lora", "ss_steps": "3",
        "ss_learning_rate": f"{best['lr']:g}", "ss_text_encoder_lr": f"{best['lr']:g}",
        "ss_seed": str(best["seed"]), "ss_num_train_images": "6", "ss_resolution": "(64, 64)",
        "ss_sd_model_name": "charsweep's embedded sdxl", "ss_mixed_precision": "no",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.trigger_phrase": "UnicornGirl", "modelspec.license": "apache-2.0",
        "modelspec.prediction_type": "epsilon", "modelspec.resolution": "64x64",
    }  # fmt: skip
    assert {name: told.get(name) for name in wanted} == wanted
    tags = json.loads(told["ss_tag_frequency"])
    assert tags == {"1_UnicornGirl": {"a picture of UnicornGirl": 6}}
    assert told["modelspec.date"].startswith("20")
    assert told["modelspec.hash_sha256"] == f"0x{told['sshs_model_hash']}"
    assert str(adapter.parents[3]) not in json.dumps(told)


def test_the_card_is_one_that_the_hub_reads(adapter: Path) -> None:
    told = header(adapter)
    assert told["license"] == "apache-2.0"
    assert told["library_name"] == "diffusers"
    assert told["instance_prompt"] == "a picture of UnicornGirl"
    assert {"lora", "dreambooth", "text-to-image", "template:sd-lora"} <= set(told["tags"])
    assert "base_model" not in told  # the embedded base is not on the hub
    assert told["widget"] == [
        {"text": "a picture of UnicornGirl jumping", "output": {"url": "images/01.png"}},
        {"text": "a picture of UnicornGirl on the beach", "output": {"url": "images/02.png"}},
    ]
    assert all((adapter / one["output"]["url"]).exists() for one in told["widget"])


def test_the_card_gives_scores_with_intervals(swept: Path, adapter: Path) -> None:
    card = (adapter / "README.md").read_text(encoding="utf-8")
    best = cells(swept)[read_json(adapter / "export.json")["cell"]]
    seeds = cells(swept).values()
    assert len(seeds) == 2
    row = next(line for line in card.splitlines() if line.startswith("| DINO |"))
    value, mean, interval, base = (part.strip() for part in row.split("|")[2:6])
    images = np.array([one.per_image["dino"] for one in seeds]).reshape(2, 2, 2)  # by prompt
    of_seeds, of_prompts = images.mean(axis=(1, 2)), images.mean(axis=(0, 2))
    error = math.sqrt(of_seeds.var(ddof=1) / 2 + of_prompts.var(ddof=1) / 2)
    middle = images.mean()
    assert value == f"{best.scores['dino']:.3f}"
    assert mean == f"{middle:.3f}"
    ends = [float(end) for end in interval.split(" to ")]
    assert ends == pytest.approx([middle - 2 * error, middle + 2 * error], abs=6e-4)
    assert base == f"{best.scores['dino'] - best.gains['dino']:.3f}"
    assert "| rank | 3 |" in card
    assert str(swept) not in card
    assert "\n\n\n" not in card


def test_the_card_s_code_draws_with_the_adapter(adapter: Path) -> None:
    assert picture_by_card(adapter) != picture_by_card(adapter, without="load_lora_weights")


def test_an_export_needs_no_torch_and_is_the_same_again(swept: Path, adapter: Path) -> None:
    before = {path.name: path.read_bytes() for path in adapter.iterdir() if path.is_file()}
    (adapter / "left over").touch()
    modules = loaded_after(
        "from charsweep.__main__ import main\n"
        f"main(['action=export', 'root={swept}', 'name=small'])"
    )
    assert "torch" not in modules
    assert {name: (adapter / name).read_bytes() for name in before} == before
    assert not (adapter / "left over").exists()  # replaced whole


def test_a_cell_is_named_by_its_key(swept: Path) -> None:
    best = recommendation_of(swept / "sweeps/small").cell
    other = next(cell for cell in cells(swept).values() if cell != best)
    folder = exported(swept, f"export.cell={other.cell[:8]}", "export.license=cc-by-4.0")
    assert folder.name.endswith(other.cell)
    assert header(folder)["license"] == "cc-by-4.0"


def test_what_cannot_be_exported_is_said(swept: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"export\.cell=000000: there is no such cell"):
        exported(swept, "export.cell=000000")
    with pytest.raises(StoreError, match="there is no sweep small"):
        exported(tmp_path)
    with pytest.raises(ConfigError, match=r"export\.push=nobody"):
        exported(swept, "export.push=nobody")


def card_on(swept: Path, folder: Path, path: str, vae: Source | None = None) -> str:
    """The card that the best cell would have, had its base come from `path`."""
    sweep, store = load_sweep([f"root={swept}", "name=small"]), Store(swept)
    chosen = find_chosen(sweep, store)
    weights, source = chosen.base_model.weights, "disk" if Path(path).exists() else "hub"
    file = Path(path) if Path(path).exists() else weights.path
    pipeline = replace(weights.pipeline, name=path, source=source, path=file)
    taught = replace(weights, pipeline=pipeline, vae=vae)
    said = prediction_of(file, taught.configs, None, "")
    taught = replace(taught, prediction=said)
    ground = replace(chosen.base_model, weights=taught)
    chosen = replace(chosen, base_model=ground, drawing_model=ground)
    written = WrittenWeights(False, "UnicornGirl-kohya.safetensors", None)
    code = python_code(chosen, written, store, ".")
    folder.mkdir()
    write_card(chosen, written, code, ground.licence, [], folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_card_on_a_published_base_names_it_and_its_licence(swept: Path, tmp_path: Path) -> None:
    name = "stabilityai/stable-diffusion-xl-base-1.0"
    card = card_on(swept, tmp_path / "card", name)
    told = header(tmp_path / "card")
    assert (told["base_model"], told["license"]) == (name, "openrail++")
    assert f'from_pretrained("{name}", dtype=torch.float16).to("cuda")' in card
    assert "<lora:UnicornGirl-kohya:1>" in card
    pinned = card_on(swept, tmp_path / "pinned", f"{name}@abc123")
    assert f'from_pretrained("{name}", revision="abc123", dtype=torch.float16)' in pinned
    assert header(tmp_path / "pinned")["base_model"] == name
    assert "models/loras" in card


def test_a_card_on_a_folder_of_one_s_own_keeps_where_it_lies(swept: Path, tmp_path: Path) -> None:
    own = tmp_path / "private" / "my_base"
    shutil.copytree(FOLDER / "weights/sdxl", own)
    card = card_on(swept, tmp_path / "card", str(own))
    assert "my_base" in card
    assert "private" not in card
    told = header(tmp_path / "card")
    assert (told["license"], told["license_name"]) == ("other", "that-of-the-base")
    assert "base_model" not in told


def test_a_card_on_a_base_with_another_autoencoder_loads_it(swept: Path, tmp_path: Path) -> None:
    name = "madebyollin/sdxl-vae-fp16-fix"
    vae = Source(f"{name}@abc", "vae", tmp_path / "nowhere", "", source="hub")
    card_on(swept, tmp_path / "card", "stabilityai/stable-diffusion-xl-base-1.0", vae)
    code = code_of(tmp_path / "card")
    call = f'from_pretrained("{name}", revision="abc", dtype=torch.float16)'
    assert f"vae = AutoencoderKL.{call}" in code
    assert 'dtype=torch.float16, vae=vae).to("cuda")' in code
    compile(code, "card", "exec")


def test_a_card_on_a_single_file_says_what_the_file_says(swept: Path, tmp_path: Path) -> None:
    file = tmp_path / "my_base.safetensors"
    save_file({"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, file)
    card_on(swept, tmp_path / "card", str(file))
    code = code_of(tmp_path / "card")
    assert 'from_single_file("PATH/my_base.safetensors", dtype=torch.float16).to("cuda")' in code
    assert 'prediction_type="v_prediction"' in code
    assert "rescale_betas_zero_snr=True" in code
    compile(code, "card", "exec")
    save_file({"a": torch.zeros(0)}, file, {"modelspec.prediction_type": "v"})
    card_on(swept, tmp_path / "other", str(file))
    assert 'prediction_type="v_prediction"' in code_of(tmp_path / "other")
    assert "rescale_betas_zero_snr" not in code_of(tmp_path / "other")


def test_convolutions_have_their_own_words(swept: Path) -> None:
    chosen = find_chosen(load_sweep([f"root={swept}", "name=small"]), Store(swept))
    method = chosen.trajectory.method
    for layers, words in {("to_q", "proj_in"): None, ("conv1",): ("3", "6")}.items():
        settings = {**method.settings, "target_modules": layers}
        taught = replace(chosen.trajectory, method=replace(method, settings=settings))
        told = json.loads(network(taught, chosen.base_model).get("ss_network_args", "{}"))
        assert told == ({"conv_dim": words[0], "conv_alpha": words[1]} if words else {})


# -- other kinds -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dora", pytest.param("loha", marks=pytest.mark.slow), "lokr"])
def test_other_adapters(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, f"method.adapter={kind}", "train_steps=1", "metric=[score]")
    folder = exported(tmp_path)
    card = (folder / "README.md").read_text(encoding="utf-8")
    kohya = folder / "UnicornGirl-kohya.safetensors"
    assert kohya.exists() == (kind != "dora")
    assert ("There is no file for ComfyUI and A1111: DoRA" in card) == (kind == "dora")
    assert ("kohya    none: DoRA" in capsys.readouterr().out) == (kind == "dora")
    if kohya.exists():
        with safe_open(kohya, "pt") as file:
            assert json.loads(file.metadata()["ss_network_args"])["algo"] == kind
    assert picture_by_card(folder)
    pushed = code_when_pushed(tmp_path, "me/unicorn")
    assert ('os.chdir(snapshot_download("me/unicorn"))' in pushed) == (kind != "dora")


@pytest.mark.parametrize("words", first(1, [
    ["method.adapter=lora"], ["method.adapter=dora"], ["method.adapter=loha"],
    ["method.adapter=lokr"], ["method=dreambooth", "method.prior_weight=0"],
]))  # fmt: skip
def test_an_export_says_at_which_strength_it_was_drawn_or_bakes_it(
    words: list[str], tmp_path: Path
) -> None:
    """Either way the card's code draws what the base does that is so far on the way."""
    lr = "lr=1e-3" if "dreambooth" in words[0] else "lr=3e-2"
    run(tmp_path, *words, "train_steps=1", lr, "strength=0.5", "metric=[score]")
    (cell,) = cells(tmp_path).values()
    snapshot = tmp_path / "sweeps/store" / Path(cell.images).parent
    wanted = picture_at(0.5, snapshot)
    assert np.abs(picture_at(1.0, snapshot) - wanted).max() > 4
    folders = [exported(tmp_path)]
    if "dora" not in words[0]:
        folders.append(exported(tmp_path, "export.strength=bake"))
    for folder in folders:
        drawn = np.frombuffer(picture_by_card(folder), np.uint8).astype(int)
        assert np.abs(drawn - wanted).max() <= 2
    first_card = (folders[0] / "README.md").read_text(encoding="utf-8")
    is_whole = "dreambooth" in words[0]
    assert ("**strength 0.5**" in first_card) == (not is_whole)
    if "=lora" in words[0]:
        with safe_open(folders[0] / "UnicornGirl-kohya.safetensors", "pt") as file:
            assert file.metadata()["modelspec.usage_hint"].endswith("; strength 0.5")
        assert "strength 0.5 of what was taught, which is scaled" in (
            folders[1] / "README.md"
        ).read_text(encoding="utf-8")
    if "dora" in words[0]:
        with pytest.raises(ModelsError, match="a DoRA cannot be scaled in its file"):
            exported(tmp_path, "export.strength=bake")
        assert exported(tmp_path, "export.strength=note") == folders[0]


def picture_at(strength: float, snapshot: Path) -> Any:
    """Pixels of the first prompt's picture by the base with a snapshot put on in part."""
    name = "sd15" if (snapshot / "unet").exists() else "sdxl"
    base = base_of(name)
    with base.with_snapshot(snapshot, strength), quiet():
        torch.manual_seed(0)
        image = base.pipeline(
            "a picture of UnicornGirl jumping", num_inference_steps=2, guidance_scale=5
        ).images[0]
    return np.asarray(image.convert("RGB")).ravel().astype(int)


def test_of_the_untaught_base_there_is_nothing_to_export(tmp_path: Path) -> None:
    run(tmp_path, "train_steps=1", "strength=0", "metric=[score]")
    with pytest.raises(ConfigError, match="drawn at strength 0, by the untaught base"):
        exported(tmp_path)


def test_whole_weights_are_a_pipeline(tmp_path: Path) -> None:
    run(tmp_path, "method=dreambooth", "method.prior_weight=0", "train_steps=1",
        "metric=[score]")  # fmt: skip
    folder = exported(tmp_path)
    assert (folder / "unet/diffusion_pytorch_model.safetensors").exists()
    assert not list(folder.glob("*kohya*"))
    assert "lora" not in header(folder)["tags"]
    assert picture_by_card(folder)


@pytest.mark.parametrize(("method", "settings"), [
    ("gan", ["method.channels=8"]), ("diffusion", ["method.channels=[8,8]"]),
])  # fmt: skip
def test_networks_from_nothing(method: str, settings: list[str], tmp_path: Path) -> None:
    run(tmp_path, f"method={method}", *settings, "train_steps=1", "batch_size=2", "metric=[dino]",
        "objectives=[dino]")  # fmt: skip
    with pytest.raises(StoreError, match=r"Name a cell with export\.cell=KEY"):
        exported(tmp_path)
    (key,) = cells(tmp_path)
    folder = exported(tmp_path, f"export.cell={key}")
    told = header(folder)
    assert not {"license", "widget", "instance_prompt", "base_model"} & told.keys()
    assert "It reads no prompts" in (folder / "README.md").read_text(encoding="utf-8")
    assert picture_by_card(folder)


# -- the hub ---------------------------------------------------------------------------------------


class Recorder:
    """A hub that notes what it is asked to do; or refuses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def create_repo(self, repo_id: str, **more: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, **more}))
        if self.error:
            raise self.error

    def upload_folder(self, **more: Any) -> None:
        names = sorted(path.name for path in more["folder_path"].iterdir())
        self.calls.append(("upload_folder", {**more, "names": names}))


def test_a_push_is_one_private_repository_and_one_commit(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Recorder()
    sweep = load_sweep(["action=export", f"root={swept}", "name=small", "export.push=me/unicorn"])
    folder = export(sweep, hub)
    (made, created), (sent, upload) = hub.calls
    assert (made, created) == (
        "create_repo", {"repo_id": "me/unicorn", "private": True, "exist_ok": True}
    )  # fmt: skip
    assert sent == "upload_folder"
    assert (upload["repo_id"], upload["folder_path"]) == ("me/unicorn", folder)
    assert {ADAPTER, "README.md", "UnicornGirl-kohya.safetensors"} <= set(upload["names"])
    assert 'load_lora_weights("me/unicorn"' in code_of(folder)
    assert "pushed   https://huggingface.co/me/unicorn" in capsys.readouterr().out


def test_nothing_is_pushed_unless_asked(swept: Path) -> None:
    hub = Recorder()
    export(load_sweep(["action=export", f"root={swept}", "name=small"]), hub)
    assert hub.calls == []


def test_a_push_that_the_hub_refuses_says_why(swept: Path) -> None:
    words = ["action=export", f"root={swept}", "name=small", "export.push=me/unicorn"]
    answer = SimpleNamespace(headers={}, request=None)
    refused = HfHubHTTPError("403 Forbidden: no right to create", response=answer)
    with pytest.raises(ModelsError, match=r"did not take it .403 Forbidden"):
        export(load_sweep(words), Recorder(refused))
    for error in (HTTPError("no route to host"), ConnectionError("no route to host")):
        with pytest.raises(ModelsError, match=r"did not take it .no route"):
            export(load_sweep(words), Recorder(error))
    with pytest.raises(ModelsError, match="HF_HUB_OFFLINE is set"):
        export(load_sweep(words), Recorder(OfflineModeIsEnabled()))


def test_a_push_needs_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="set HF_TOKEN"):
        open_hub("me/unicorn")
