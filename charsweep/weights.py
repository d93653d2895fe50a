"""Name of weights or pictures in, folder and digest out; no torch.

A name is `embedded:PATH` (shipped with the package), a folder on disk, or the id of a hub
repository. The digest is of the content, so the same weights in another place give the same keys.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from charsweep import embedded
from charsweep.errors import ModelsError
from charsweep.keys import digest_of_files

PIPELINES = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl"}


def find_folder(name: str) -> Path:
    """The folder that `name` stands for; hub ids come from the cache or are fetched into it."""
    if name.startswith("embedded:"):
        folder = embedded.FOLDER / name.removeprefix("embedded:")
        if not folder.is_dir():
            raise ModelsError(f"{name} is not part of this installation: {folder} is missing")
        return folder
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.suffix in (".ckpt", ".bin", ".pt", ".pth"):
        raise ModelsError(
            f"{name} may hold pickled code and is not read; convert it to a diffusers folder "
            "of safetensors"
        )
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelsError(f"{name} is not a folder; give a diffusers folder or a hub id OWNER/NAME")
    return _fetch(name)


def _fetch(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "*.safetensors"]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelsError(
            f"weights {repository} are not in the hub cache and cannot be fetched "
            f"({type(error).__name__}). With a network: `hf download {repository}` (gated "
            "ones: accept their licence and set HF_TOKEN). Without: copy a diffusers folder here "
            "and give its path, or use models=embedded"
        ) from error


@cache
def weights_digest(folder: Path) -> str:
    """Digest of all safetensors and JSON files below a folder."""
    resolved = folder.resolve()
    if resolved.parent.name == "snapshots":  # the hub's cache: the commit names the content
        return resolved.name[:16]
    files = [path for ending in ("*.safetensors", "*.json") for path in folder.rglob(ending)]
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelsError(f"{folder} holds no .safetensors weights; give a folder that does")
    try:
        return digest_of_files(files, folder)
    except OSError as error:
        raise ModelsError(f"cannot read {error.filename}: {error.strerror}") from error


def pipeline_kind(folder: Path) -> str:
    """`sd` or `sdxl`, as the folder's `model_index.json` says."""
    index = folder / "model_index.json"
    if not index.exists():
        raise ModelsError(
            f"{folder} has no model_index.json: it is not a diffusers pipeline folder"
        )
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelsError(f"{index} cannot be read ({error}); fetch the folder again") from error
    if name not in PIPELINES:
        raise ModelsError(f"{folder} is a {name}; charsweep teaches {' and '.join(PIPELINES)}")
    return PIPELINES[name]
