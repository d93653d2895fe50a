"""Weights that cannot be used: each is one message that says which, why, and how to get others."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from helpers.small import EXAM, family
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import save_file

from charsweep.__main__ import main
from charsweep.models import embedded
from charsweep.models import hub as charsweep_hub
from charsweep.models.families import parts_of
from charsweep.models.families.stable_diffusion import StableDiffusionXL

WEIGHTS = embedded.FOLDER / "weights"
UNET = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}
VAE = {"first_stage_model.decoder.conv_in.weight": torch.zeros(4, 4)}
SD = {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.zeros(2)}
SDXL = {"conditioner.embedders.1.model.token_embedding.weight": torch.zeros(2)}


def refused(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> str:
    """The message of a command that is refused."""
    given = [*words, f"root={root}", "runtime.tracking=false", "runtime.energy=false", *EXAM]
    assert main(given) == 2
    message = capsys.readouterr().err
    assert message.count("ModelsError") == 1
    assert "Traceback" not in message
    return message


# -- files and folders -----------------------------------------------------------------------------


def checkpoint(*parts: dict[str, torch.Tensor]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tensors = {name: tensor for part in parts for name, tensor in part.items()}
        save_file(tensors, folder / "mine.safetensors")
        return folder / "mine.safetensors"

    return make


def file_of(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def cut(folder: Path) -> Path:
    path = checkpoint(UNET, VAE, SD)(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def folder_of(name: str, change: Callable[[Path], None] | None = None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        shutil.copytree(WEIGHTS / name, folder / "base")
        if change:
            change(folder / "base")
        return folder / "base"

    return make


def cut_vae(folder: Path) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def only_pickles(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def no_tokenizer(folder: Path) -> None:
    for path in (folder / "tokenizer").iterdir():
        path.unlink()


def no_class(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')


def loose_files(folder: Path) -> Path:
    (folder / "checkpoints").mkdir()
    checkpoint(UNET, VAE, SD)(folder / "checkpoints")
    return folder / "checkpoints"


LORA = {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(2)}
REFINER = {"conditioner.embedders.0.model.ln_final.weight": torch.zeros(2)}
INPAINTING = {name: torch.zeros(8, 9, 3, 3) for name in UNET}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n"

# What is given as sd15, and words that the message must hold.
GIVEN: list[tuple[str, Callable[[Path], Path], list[str]]] = [
    ("ckpt", file_of("a.ckpt", b"PK"), ["a.ckpt", "pickled", "safetensors", "save_pretrained"]),
    ("cut file", cut, ["mine.safetensors", "cut short", "bytes", "fetch it again"]),
    ("cut folder", folder_of("sd15", cut_vae), ["vae", "cut short", "fetch it again"]),
    ("empty file", file_of("a.safetensors", b""), ["a.safetensors", "0 bytes", "fetch it again"]),
    ("a web page", file_of("a.safetensors", b"<!doctype html>" * 9), ["web page"]),
    ("a pointer", file_of("a.safetensors", LFS), ["72 bytes", "point at the file"]),
    ("sdxl file", checkpoint(UNET, VAE, SDXL), ["SDXL-type", "sd15", "models.bases.sdxl.path="]),
    ("sdxl folder", folder_of("sdxl"), ["SDXL-type", "sd15", "method.base=sdxl"]),
    ("adapter", checkpoint(LORA), ["an adapter, not a base", "story.adapter"]),
    ("refiner", checkpoint(UNET, VAE, REFINER), ["refiner", "SD 1.5"]),
    ("inpainting", checkpoint(INPAINTING, VAE, SD), ["9 channels", "inpainting"]),
    ("no VAE", checkpoint(UNET, SD), ["no VAE", "models.bases.sd15.vae="]),
    ("text only", checkpoint(SD), ["no whole pipeline"]),
    ("half a file", checkpoint(UNET, VAE, SD), ["mine.safetensors", "again"]),
    ("pickles", folder_of("sd15", only_pickles), [".bin", "may hold code"]),
    ("loose files", loose_files, ["model_index.json", "mine.safetensors"]),
    ("no class", folder_of("sd15", no_class), ["model_index.json", "names no class", "give a"]),
    ("no tokenizer", folder_of("sd15", no_tokenizer), ["tokenizer", "fetch the folder again"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), [g[1:] for g in GIVEN], ids=[g[0] for g in GIVEN])
def test_a_base_that_is_none(
    make: Callable[[Path], Path], said: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = make(tmp_path)
    message = refused(capsys, tmp_path, "method.base=sd15", f"models.bases.sd15.path={path}")
    for word in said:
        assert word in message, message


def test_an_sd15_folder_is_not_sdxl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, tmp_path, "models.bases.sdxl.path=embedded:weights/sd15")
    for word in ("SD 1.5-type", "SDXL-type", "models.bases.sd15.path=", "method.base=sd15"):
        assert word in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models.bases.sdxl.path=mine.safetensors"], ["mine.safetensors", "not there"]),
        (["models.bases.sdxl.path=random:sd3"], ["random:sd3", "random:sdxl"]),
        (["models.bases.sdxl.variant=fp16"], [".fp16.safetensors"]),
        (["models.bases.sdxl.vae=random:sdxl"], ["random:sdxl", "vae"]),
        (["models.encoders.clip.path=random:dino"], ["random:dino", "random:clip"]),
        ([f"models.bases.sdxl.vae={WEIGHTS / 'sdxl' / 'unet'}"], ["unet"]),
    ],
    ids=lambda one: one[0] if len(one[0]) < 60 else "vae",
)
def test_a_wrong_name(
    words: list[str], said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"{words[0]}"]
    if "fp16" in words[0]:  # what ships is not chosen by variant
        shutil.copytree(WEIGHTS / "sdxl", tmp_path / "base")
        given.append(f"models.bases.sdxl.path={tmp_path / 'base'}")
    message = refused(capsys, tmp_path, *given)
    for word in said:
        assert word in message, message


def test_a_vae_of_another_kind_of_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(WEIGHTS / "sdxl" / "vae", tmp_path / "vae")
    path = tmp_path / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scaling_factor": 0.18215}))
    message = refused(capsys, tmp_path, f"models.bases.sdxl.vae={tmp_path / 'vae'}")
    for word in ("scaling_factor", "0.18215", str(tmp_path / "vae")):
        assert word in message


@pytest.mark.parametrize("what", ["clip", "dino"])
def test_an_encoder_s_file_that_is_none(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(UNET)(tmp_path)
    message = refused(capsys, tmp_path, f"models.encoders.{what}.path={path}", "train_steps=1")
    assert str(path) in message
    assert "naming" in message


# -- the hub ---------------------------------------------------------------------------------------


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Stands in for the hub and its cache: serves the embedded models as one repository's files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path, served: Path) -> None:
        self.folder = cache / "models--OWNER--NAME" / "snapshots" / COMMIT
        self.served, self.error = served, None
        self.asked: list[dict[str, Any]] = []
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", self.info)

    def info(self, *_: Any, **__: Any) -> None:
        if self.error:
            raise self.error

    def download(self, repository: str, *, local_files_only: bool = False, **asked: Any) -> str:
        if local_files_only:
            if not self.folder.exists():
                raise errors.LocalEntryNotFoundError("not cached")
            return str(self.folder)
        self.asked.append({"repository": repository, **asked})
        names = [p.relative_to(self.served).as_posix() for p in self.served.rglob("*.*")]
        for name in filter_repo_objects(
            names, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
        ):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.served / name, self.folder / name)
        return str(self.folder)

    @property
    def weights(self) -> list[Path]:
        return list(self.folder.rglob("*.safetensors"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    return FakeHub(monkeypatch, tmp_path / "cache", WEIGHTS / "sdxl")


NAMED = "models.bases.sdxl.path=OWNER/NAME@0123456789abcdef"


def test_planning_fetches_the_small_files_and_a_run_the_weights(
    hub: FakeHub, tmp_path: Path
) -> None:
    words = [NAMED, f"root={tmp_path}", "runtime.tracking=false", "runtime.energy=false", *EXAM,
             "train_steps=1"]  # fmt: skip
    assert main([*words, "action=plan"]) == 0
    assert (hub.folder / "unet" / "config.json").exists()
    assert hub.weights == []
    assert main(words) == 0
    assert len(hub.weights) == 4
    assert {asked["revision"] for asked in hub.asked} == {"0123456789abcdef"}
    patterns = [pattern for asked in hub.asked for pattern in asked["allow_patterns"]]
    assert not any(pattern.endswith((".bin", ".ckpt", ".pt", ".py", "*")) for pattern in patterns)
    count = len(hub.asked)
    assert main([*words, "lr=1e-5"]) == 0  # all is in the cache now
    assert len(hub.asked) == count


def test_a_revision_and_a_variant_are_other_weights(hub: FakeHub, tmp_path: Path) -> None:
    from charsweep.models.weights import find_base

    digests = {
        find_base("OWNER/NAME@0123456789abcdef", tmp_path, family("sdxl"), variant=variant).digest
        for variant in (None, "fp16")
    }
    assert hub.folder.name[:16] in digests
    assert len(digests) == 2


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_only_files_of_the_variant_are_fetched(variant: str, hub: FakeHub, tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS / "sdxl", tmp_path / "served")
    for path in list((tmp_path / "served").rglob("*.safetensors")):
        for other in (".fp16", ".non_ema"):
            shutil.copy(path, path.with_suffix(f"{other}.safetensors"))
        shutil.copy(path, path.with_suffix(".bin"))
        shutil.copy(path, tmp_path / "served" / "whole.safetensors")
    hub.served = tmp_path / "served"
    folder = charsweep_hub.find(
        "OWNER/NAME", "base", variant, parts_of(StableDiffusionXL()), weights=True
    )
    assert len(hub.weights) == 4
    assert all(charsweep_hub.variant_of(path) == variant for path in hub.weights)
    assert not list(folder.rglob("*.bin"))
    assert not list(folder.glob("*.safetensors"))


def answered(kind: type[errors.HfHubHTTPError], status: int) -> Exception:
    """The library's own exception, as it raises it over an answer with this status."""
    from httpx2 import Request, Response

    request = Request("GET", "http://127.0.0.1/api/models/OWNER/NAME")
    return kind("no", response=Response(status, request=request))


def unreachable() -> Exception:
    from httpx2 import ConnectError

    return ConnectError("Name or service not known")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lambda: answered(errors.GatedRepoError, 403), ["gated", "licence", "HF_TOKEN"]),
        (lambda: answered(errors.GatedRepoError, 401), ["gated", "licence", "HF_TOKEN"]),
        (
            lambda: answered(errors.RepositoryNotFoundError, 401),
            ["spelling", "private", "HF_TOKEN"],
        ),
        (lambda: answered(errors.RepositoryNotFoundError, 404), ["spelling", "private"]),
        (lambda: answered(errors.HfHubHTTPError, 403), ["spelling", "HF_TOKEN"]),
        (lambda: answered(errors.RevisionNotFoundError, 404), ["no revision 0123456789abcdef"]),
        (lambda: answered(errors.HfHubHTTPError, 503), ["503", "hf download", "--revision"]),
        (lambda: errors.OfflineModeIsEnabled("offline"), ["HF_HUB_OFFLINE", "hf download"]),
        (unreachable, ["cannot be reached", "hf download", "models=embedded"]),
        (lambda: errors.HFValidationError("bad"), ["OWNER/NAME", "folder"]),
        (lambda: OSError(28, "No space left on device"), ["No space left", "HF_HOME"]),
    ],
)
def test_what_the_hub_answers_is_one_message(
    error: Callable[[], Exception], said: list[str], hub: FakeHub, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    hub.error = error()
    message = refused(capsys, tmp_path, NAMED, "action=plan")
    for word in ("OWNER/NAME", *said):
        assert word in message, message
    assert not list(tmp_path.glob("sweeps"))


def test_weights_that_cannot_be_fetched_after_planning(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([NAMED, f"root={tmp_path}", "action=plan", *EXAM]) == 0
    hub.error = unreachable()
    message = refused(capsys, tmp_path, NAMED, "train_steps=1")
    for word in ("OWNER/NAME", "hf download", "models.bases.NAME.path=FOLDER"):
        assert word in message


def test_a_repository_without_safetensors(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(WEIGHTS / "sdxl", tmp_path / "served")
    only_pickles(tmp_path / "served")
    hub.served = tmp_path / "served"
    message = refused(capsys, tmp_path, NAMED, "train_steps=1")
    assert "no safetensors weights" in message
    assert hub.weights == []


def test_models_hub_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real library, told to stay offline; every model that is missing is named at once."""
    base, clip, dino = refused(capsys, tmp_path, "models=hub", "action=plan").splitlines()
    for word in ("stabilityai/stable-diffusion-xl-base-1.0", "HF_HUB_OFFLINE", "hf download",
                 "--revision 4621659", "--local-dir FOLDER", "models.bases.sdxl.path=FOLDER",
                 "models=random"):  # fmt: skip
        assert word in base
    assert "models.encoders.clip.path=FOLDER" in clip
    assert "models.encoders.dino.path=FOLDER" in dino


def test_the_command_that_is_printed_is_one_that_the_hub_s_program_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.cli.download
    import huggingface_hub.cli.hf

    asked: dict[str, Any] = {}

    def snapshot_download(**words: Any) -> str:
        asked.update(words)
        return "FOLDER"

    monkeypatch.setattr(huggingface_hub.cli.download, "snapshot_download", snapshot_download)
    printed = charsweep_hub.how_to_fetch("OWNER/NAME@abc", "base").split("`")[1]
    monkeypatch.setattr("sys.argv", shlex.split(printed))
    with pytest.raises(SystemExit) as left:
        huggingface_hub.cli.hf.main()
    assert left.value.code in (0, None)
    assert (asked["repo_id"], asked["revision"]) == ("OWNER/NAME", "abc")
    files = list(
        filter_repo_objects(
            PUBLISHED,
            allow_patterns=asked["allow_patterns"],
            ignore_patterns=asked["ignore_patterns"],
        )
    )
    assert files == [name for name in PUBLISHED if not name.endswith(UNWANTED)]


UNWANTED = (".bin", ".fp16.safetensors", "pruned.safetensors", ".ckpt", ".md")
PUBLISHED = [
    "README.md", "model_index.json", "unet/config.json", "v1-5-pruned.safetensors", "v1-5.ckpt",
    "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin", "tokenizer/merges.txt", "tokenizer/vocab.json",
]  # fmt: skip
