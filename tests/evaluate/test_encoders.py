"""The encoders of conf/encoder/: they read as their libraries do, and only who asks is judged anew.

On tiny random networks in the published formats: weights of the real ones are in no repository.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import timm
import torch
from helpers.small import execute, sweep_of
from helpers.tiny_encoders import CCIP_VARIANT, write_ccip, write_siglip, write_vit
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from timm.models._hub import save_for_hf

from charsweep.__main__ import main
from charsweep.config import Sweep
from charsweep.core.errors import CharsweepError, ConfigError, ModelsError
from charsweep.core.plugins import CONF
from charsweep.core.store import Store
from charsweep.core.system.images import open_image
from charsweep.evaluate.encoders import Encoder, load_encoder
from charsweep.evaluate.encoders.network import Network
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures
from charsweep.evaluate.metrics.copy import Copy
from charsweep.evaluate.metrics.dino import Dino
from charsweep.evaluate.metrics.diversity import Diversity
from charsweep.evaluate.metrics.drift import Drift
from charsweep.evaluate.metrics.identity import Identity
from charsweep.evaluate.metrics.leak import Leak
from charsweep.results.cells import judged_by, stored_scores

PUBLISHED = {"dinov2": "vit_base_patch14_dinov2.lvd142m",
             "dinov3": "vit_base_patch16_dinov3.lvd1689m"}  # fmt: skip


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each file of conf/encoder/."""
    root = tmp_path_factory.mktemp("encoders")
    words = ["a", "picture", "of", "girl", "jumping", "on", "the", "beach"]
    made = {
        "dinov2": write_vit(root / "dinov2", PUBLISHED["dinov2"], 56),
        "dinov3": write_vit(root / "dinov3", PUBLISHED["dinov3"], 64),
        "siglip2": write_siglip(root / "siglip2", words),
        "ccip": write_ccip(root / "ccip" / CCIP_VARIANT).parent,
    }
    assert sorted(made) == sorted(path.stem for path in (CONF / "encoder").glob("*.yaml"))
    return made


def asking(tiny: dict[str, Path], name: str, *metrics: str) -> list[str]:
    """Words by which metrics are read by an encoder."""
    return [f"encoder.{name}.path={tiny[name]}",
            *(f"metric.{metric}.encoder={name}" for metric in metrics)]  # fmt: skip


def loaded(sweep: Sweep, name: str) -> Encoder:
    (pair,) = (pair for pair in sweep.encoders.items() if pair[0].name == name)
    return load_encoder(*pair)


def drawings(sweep: Sweep) -> list[Image.Image]:
    """The first drawings, one of them wider than high."""
    first, second, *_ = (open_image(path) for path in sweep.character.paths)
    return [first, second.resize((90, 60))]


def unit(rows: torch.Tensor) -> Features:
    found: Features = torch.nn.functional.normalize(rows, dim=-1).numpy()
    return found


# -- as published ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_timms_own_transform_and_class_token(
    name: str, tiny: dict[str, Path], tmp_path: Path
) -> None:
    sweep = sweep_of(tmp_path, *asking(tiny, name, "dino"))
    network = timm.create_model(f"local-dir:{tiny[name]}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    images = drawings(sweep)
    with torch.inference_mode():
        pixels = torch.stack([transform(image) for image in images])
        token = network.forward_features(pixels)[:, 0]
    ours = loaded(sweep, name)
    assert isinstance(ours, Network)
    assert ours.pixels(images).numpy() == pytest.approx(pixels.numpy(), abs=1e-5)
    assert ours.images(images) == pytest.approx(unit(token), abs=1e-5)


def test_open_clips_own_transform_and_tokenizer(tiny: dict[str, Path], tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, *asking(tiny, "siglip2", "clip_t"))
    name = f"local-dir:{tiny['siglip2']}"
    network, transform = open_clip.create_model_from_pretrained(name)
    images, texts = drawings(sweep), ["a picture of a girl", "the beach"]
    with torch.inference_mode():
        pixels = torch.stack([transform(image) for image in images])
        seen = network.eval().encode_image(pixels)
        read = network.encode_text(open_clip.get_tokenizer(name)(texts))
    ours = loaded(sweep, "siglip2")
    assert isinstance(ours, Network)
    assert ours.preprocessing.squash  # both sides, as SigLIP was taught
    assert ours.pixels(images).numpy() == pytest.approx(pixels.numpy(), abs=1e-5)
    assert ours.images(images) == pytest.approx(unit(seen), abs=1e-5)
    assert ours.texts(texts) == pytest.approx(unit(read), abs=1e-5)
    assert abs(read[0] - read[1]).max() > 1e-3


def test_ccip_is_its_preprocessing_and_its_second_network(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """The preprocessing of imgutils.metrics.ccip, by hand; the pictures are of two batches."""
    import onnxruntime

    sweep = sweep_of(tmp_path, *asking(tiny, "ccip", "dino"))
    images = [*drawings(sweep), *[Image.new("RGB", (40, 40), (5 * i, 90, 20)) for i in range(18)]]
    mean = np.array([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = np.array([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    pixels = [
        (
            np.asarray(one.resize((384, 384), Image.Resampling.BILINEAR)).transpose(2, 0, 1) / 255
            - mean
        )
        / std
        for one in images
    ]
    folder = tiny["ccip"] / CCIP_VARIANT
    run = {
        path.stem: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run
        for path in folder.glob("*.onnx")
    }
    (features,) = run["model_feat"](["output"], {"input": np.stack(pixels).astype(np.float32)})
    (differences,) = run["model_metrics"](["output"], {"input": features})
    ours = loaded(sweep, "ccip")
    seen = ours.images(images)
    assert seen == pytest.approx(features, abs=1e-5)
    assert ours.measure is not None
    assert ours.measure(seen[:3], seen[3:]) == pytest.approx(1 - differences[:3, 3:], abs=1e-5)
    assert differences.max() > 0.05


def test_a_size_of_ones_own(tiny: dict[str, Path], tmp_path: Path) -> None:
    words = asking(tiny, "dinov2", "dino")
    sweep, smaller = (
        sweep_of(tmp_path, *words),
        sweep_of(tmp_path, *words, "encoder.dinov2.size=28"),
    )
    images = drawings(sweep)
    encoder = loaded(smaller, "dinov2")
    assert isinstance(encoder, Network)
    assert encoder.pixels(images).shape == (2, 3, 28, 28)
    assert encoder.images(images).shape == loaded(sweep, "dinov2").images(images).shape
    specs = [next(spec for spec in one.encoders if spec.kind) for one in (sweep, smaller)]
    assert specs[0] != specs[1]


# -- a measure of its own --------------------------------------------------------------------------


def far(images: Features, others: Features) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A likeness that is no cosine: 1 - distance."""
    return 1.0 - np.linalg.norm(images[:, None].astype(float) - others[None], axis=2)


def test_metrics_ask_an_encoder_for_its_measure() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
    drawn, base = rows, rows + np.float32(0.25)
    exam = Exam(
        ImageFeatures({"own": drawn}, (0, 0, 1, 1)),
        {"own": rows[:3]},
        None,
        ImageFeatures({"own": base}, (0, 0, 1, 1)),
        measures={"own": far},
    )
    pairs = far(drawn, rows[:3])
    assert Dino("own")(exam).per_image == pytest.approx(pairs.mean(axis=1))
    among = [far(rows[:3], rows[:3])[i][np.arange(3) != i] for i in range(3)]
    assert Dino("own").among(exam) == pytest.approx(np.mean(among))
    nearest = pairs.max(axis=1) - np.max(among, axis=1).mean()
    assert Copy("own")(exam).per_image == pytest.approx(nearest)
    assert Drift("own")(exam).per_image == pytest.approx(1 - far(drawn, base).diagonal())
    low = far(base, rows[:3]).mean()
    high = np.mean(among, axis=1).min()
    placed = (pairs.mean(axis=1) - low) / (high - low)
    assert Identity("own")(exam).per_image == pytest.approx(np.clip(placed, 0, 1))
    base_placed = (far(base, rows[:3]).mean(axis=1) - low) / (high - low)
    assert Leak("own")(exam).per_image == pytest.approx(placed - base_placed)
    apart = [1 - far(rows[:2], rows[:2])[0, 1], 1 - far(rows[2:], rows[2:])[0, 1]]
    assert Diversity(encoder="own", identity_encoder="own")(exam).value == pytest.approx(
        np.mean(apart)
    )


# -- in a sweep ------------------------------------------------------------------------------------


def written(store: Store) -> set[Path]:
    return {path for path in store.folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_who_asks_is_judged_anew_and_nobody_else(tiny: dict[str, Path], tmp_path: Path) -> None:
    words = ["train_steps=1", "metric=[score,identity,prompt,dino,clip_t,ccip]"]
    own = [*words, f"encoder.ccip.path={tiny['ccip']}"]
    first, store, (before,) = execute(tmp_path, *own)
    known = written(store)
    later, _, (after,) = execute(
        tmp_path, *own, *asking(tiny, "dinov3", "dino"), *asking(tiny, "siglip2", "clip_t")
    )
    new = written(store) - known
    assert {path.parent.name for path in new} == {"scores"}
    assert {path.name.partition("--")[0] for path in new} == {"dino", "clip_t"}
    changed = {name for name in after.scores if after.scores[name] != before.scores[name]}
    assert changed == {"dino", "clip_t"}
    assert after.cell == before.cell
    old, now = judged_by(first.cells[0]), judged_by(later.cells[0])
    assert {name for name in old | now if old.get(name) != now.get(name)} == {
        "metric dino", "metric clip_t", "encoder dinov3", "encoder siglip2"
    }  # fmt: skip
    cell = later.cells[0]
    dino = next(metric for metric in cell.metrics if metric.name == "dino")
    spec = store.read_score(cell.score_spec(dino, cell.images))["spec"]["exam"]["encoders"]
    assert [one["name"] for one in spec] == ["clip", "dino", "dinov3"]
    assert spec[-1]["kind"]["settings"] == {"pool": "token", "size": None}
    assert 0 < (after.scores["ccip"] or 0) <= 1


def test_identity_by_ccip_and_prompts_by_siglip(tiny: dict[str, Path], tmp_path: Path) -> None:
    words = ["train_steps=1", "metric=[score,identity,prompt,leak,dino]", "exam.parts=null",
             "identity_encoder=ccip", "prompt_encoder=siglip2",
             *asking(tiny, "ccip"), *asking(tiny, "siglip2")]  # fmt: skip
    sweep, store, (result,) = execute(tmp_path, *words)
    cell = sweep.cells[0]
    found = stored_scores(cell, cell.images, store)
    assert found["identity"]["details"]["encoder"] == "ccip"
    assert found["prompt"]["details"]["encoder"] == "siglip2"
    both = np.array(found["identity"]["per_image"]) * np.array(found["prompt"]["per_image"])
    assert found["score"]["per_image"] == pytest.approx(both)
    ccip, images = loaded(sweep, "ccip"), store.images(cell.images)
    seen = ccip.images([open_image(path) for path in sorted(images.glob("*.png"))])
    drawn = ccip.images([open_image(path) for path in sweep.character.paths])
    assert ccip.measure is not None
    base = found["identity"]["details"]["base"]
    end = found["identity"]["details"]["least"]
    placed = (ccip.measure(seen, drawn).mean(axis=1) - base) / (end - base)
    assert found["identity"]["per_image"] == pytest.approx(np.clip(placed, 0, 1), abs=1e-4)
    assert result.scores["score"] == pytest.approx(both.mean())


# -- what can be wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["identity_encoder=dinov9"], "identity_encoder=dinov9: there is no such encoder; choose"),
        (["prompt_encoder=dinov2"], "prompt_encoder=dinov2: reads no prompts; choose clip, sigl"),
        (["metric.clip_t.encoder=ccip"], "metric.clip_t.encoder=ccip: reads no prompts"),
        (["prompt_encoder=dino"], "prompt_encoder=dino: reads no prompts; choose clip, siglip2"),
        (["metric.dino.encoder=[dino,clip]"], "metric.dino.encoder=['dino', 'clip']: there is no"),
        (
            ["encoder.siglip2._target_=charsweep.evaluate.metrics.colour.Colour"],
            "has no layout",
        ),
        (["+encoder.dino={_target_:charsweep.evaluate.encoders.dino.Timm,path:x}"], "another"),
        (["encoder.dinov2.size=3"], "encoder.dinov2.size=3: should be greater than"),
        (["encoder.ccip.variant=../x"], r"encoder.ccip.variant=../x"),
        (["+axes.metric.dino.encoder=[dino,dinov2]"], "only judges them otherwise"),
    ],
)
def test_one_message(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        sweep_of(tmp_path, *words)
    (line,) = str(error.value).splitlines()
    assert said in line


def folders(tiny: dict[str, Path], tmp_path: Path) -> dict[str, tuple[str, Path, str]]:
    """What a person may give: encoder, its path, and what the message says."""
    lacking, swapped, file = tmp_path / "lacking", tmp_path / "swapped", tmp_path / "file"
    shutil.copytree(tiny["ccip"] / CCIP_VARIANT, lacking)
    shutil.copytree(lacking, swapped)
    (lacking / "model_metrics.onnx").unlink()
    (swapped / "model_feat.onnx").unlink()
    (swapped / "model_metrics.onnx").rename(swapped / "model_feat.onnx")
    shutil.copy(tiny["ccip"] / CCIP_VARIANT / "model_feat.onnx", swapped / "model_metrics.onnx")
    shutil.copytree(lacking, tmp_path / "torn")
    (tmp_path / "torn" / "model_metrics.onnx").write_bytes(b"no network")
    file.mkdir()
    shutil.copy(tiny["dinov2"] / "model.safetensors", file)
    shutil.copytree(tiny["dinov2"], tmp_path / "unlike")
    config = json.loads((tmp_path / "unlike" / "config.json").read_text())
    config["model_args"]["embed_dim"] = 96
    (tmp_path / "unlike" / "config.json").write_text(json.dumps(config))
    return {
        "a network is missing": ("ccip", lacking, "model_metrics.onnx is not there"),
        "networks in each other's place": ("ccip", swapped, "fetch it again"),
        "no network at all": ("ccip", tmp_path / "torn", "cannot read the network"),
        "a file of CCIP's": ("ccip", lacking / "model_feat.onnx", "give a folder that holds"),
        "a file without its config": ("dinov2", file / "model.safetensors", "config.json"),
        "the config of another": ("dinov2", tmp_path / "unlike", "cannot read the weights"),
        "nothing": ("siglip2", tmp_path / "nothing", "is not there"),
    }


def test_weights_that_cannot_be_used(tiny: dict[str, Path], tmp_path: Path) -> None:
    for what, (name, path, said) in folders(tiny, tmp_path).items():
        with pytest.raises(ModelsError) as error:
            loaded(sweep_of(tmp_path, f"encoder.{name}.path={path}", f"metric.dino.encoder={name}"),
                   name)  # fmt: skip
        assert said in str(error.value), what
        assert str(path) in str(error.value), what
        assert "\n" not in str(error.value), what


def test_a_network_that_has_no_class_token_and_takes_no_size(tmp_path: Path) -> None:
    folder = tmp_path / "convnext"
    folder.mkdir()
    save_for_hf(timm.create_model("test_convnext", num_classes=0), folder, safe_serialization=True)
    words = [f"encoder.dinov2.path={folder}", "metric.dino.encoder=dinov2"]
    mended = "encoder.dinov2.size=null and encoder.dinov2.pool=null"
    for size in ("null", "64"):
        pool = "token" if size == "null" else "null"
        asked = [*words, f"encoder.dinov2.pool={pool}", f"encoder.dinov2.size={size}"]
        with pytest.raises(ModelsError, match=mended):
            loaded(sweep_of(tmp_path, *asked), "dinov2")
    sweep = sweep_of(tmp_path, *words, *mended.split(" and "))
    assert len(loaded(sweep, "dinov2").images(drawings(sweep))) == 2


def test_without_a_network_the_message_says_how_to_give_a_folder(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the folder that the command makes is laid out, so it is read."""
    assert main(["action=plan", f"root={tmp_path}", "identity_encoder=ccip"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in ("deepghs/ccip_onnx", f"--include '{CCIP_VARIANT}/*'", "encoder.ccip.path=FOLDER",
                 "clip and dino"):  # fmt: skip
        assert word in line
    sweep = sweep_of(tmp_path, "identity_encoder=ccip", f"encoder.ccip.path={tiny['ccip']}")
    assert loaded(sweep, "ccip").images(drawings(sweep)).shape == (2, 8)


def test_planning_fetches_no_network_and_says_how_large_it_is(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Of a hub that serves CCIP in its folder, beside others."""
    cache = tmp_path / "cache" / "models--deepghs--ccip_onnx" / "snapshots" / ("0" * 40)
    served = tmp_path / "served"
    for name in (CCIP_VARIANT, "another"):
        shutil.copytree(tiny["ccip"] / CCIP_VARIANT, served / name)

    def download(_: str, *, local_files_only: bool = False, **asked: Any) -> str:
        names = [] if local_files_only else sorted(
            path.relative_to(served).as_posix() for path in served.rglob("*.*") if path.is_file()
        )  # fmt: skip
        for name in filter_repo_objects(names, allow_patterns=asked["allow_patterns"]):
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(served / name, cache / name)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)

    def held() -> set[str]:
        return {path.relative_to(cache).as_posix() for path in cache.rglob("*.*")}

    words = [f"root={tmp_path}", "identity_encoder=ccip"]
    assert main([*words, "action=plan"]) == 0
    assert (
        "download      about 150.0 MB for ccip, once: deepghs/ccip_onnx" in capsys.readouterr().out
    )
    assert held() == {f"{CCIP_VARIANT}/metrics.json"}
    sweep = sweep_of(tmp_path, *words[1:])
    assert loaded(sweep, "ccip").images(drawings(sweep)).shape == (2, 8)
    assert held() == {f"{CCIP_VARIANT}/{path.name}" for path in (served / "another").iterdir()}
    assert not any(weights.encoder_to_fetch for weights in sweep.encoders.values())


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.util import find_spec

    def missing(name: str, package: str | None = None) -> Any:
        return None if name == "onnxruntime" else find_spec(name, package)

    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(CharsweepError) as error:
        sweep_of(tmp_path, "identity_encoder=ccip")
    (line,) = str(error.value).splitlines()
    assert "encoder.ccip: onnxruntime, which it needs, is not installed; install it by pip " in line
    assert sweep_of(tmp_path).cells  # nobody asks for it
