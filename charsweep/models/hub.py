"""Repositories of the Hugging Face hub, `OWNER/NAME` or `OWNER/NAME@REVISION`, in its cache.

What is in the cache needs no network. Files are wanted in two turns: the small ones, which say what
a repository is and pin its commit, when a sweep is planned, and the weights when they are loaded.
Only safetensors, ONNX, JSON, text and the templates of chats are ever fetched: no pickles, no code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charsweep.core.errors import ModelsError

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?", re.ASCII)
# Files by what they are for: the small ones, and the weights; of a base, those in its parts too.
SMALL = {
    "base": ["*model_index.json"],
    "vae": ["config.json"],
    "clip": ["open_clip_config.json", "*token*.json", "vocab.json", "merges.txt"],
    "dino": ["config.json"],
    "ccip": ["metrics.json"],
    "captioner": ["config.json", "*.json", "*.txt"],
}
LARGE = {
    "base": [],
    "vae": ["diffusion_pytorch_model*.safetensors"],
    "clip": ["open_clip_model*.safetensors"],
    "dino": ["model*.safetensors"],
    "ccip": ["model_feat.onnx", "model_metrics.onnx"],
    "captioner": ["model*.safetensors"],
}
TEXTS = ("json", "txt", "jinja")  # of a base's parts
OTHER_VARIANTS = ["*.fp16*", "*.non_ema*", "*.bf16*", "*.ema_only*"]


def find(
    name: str,
    what: str,
    variant: str = "",
    parts: Sequence[str] = (),
    *,
    weights: bool,
    setting: str = "",
) -> Path:
    """The snapshot folder of a repository, with the files that are wanted; fetched if need be.

    `parts` are the folders that a base is made of, first what predicts; a variant of CCIP is a
    folder too. `setting` is the one that names it, where `what` does not say.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is not listed
        HFValidationError,
        HTTPError,  # what its transport raises, by its own name
        LocalEntryNotFoundError,
    )

    repository, _, revision = name.partition("@")
    small = [
        *_within(SMALL, what, variant),
        *(f"{part}/*.{end}" for part in parts for end in TEXTS),
    ]
    large = [*_within(LARGE, what, variant), *(f"{part}/*.safetensors" for part in parts)]
    large = _large(large, variant)
    asked: dict[str, Any] = {
        "revision": revision or None,
        "allow_patterns": [*small, *(large if weights else ())],
        "ignore_patterns": None if variant else OTHER_VARIANTS,
    }
    try:
        found = Path(snapshot_download(repository, local_files_only=True, **asked))
        if is_complete(found, what, variant, parts, weights=weights):
            return found
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        HfApi().model_info(repository, revision=asked["revision"], timeout=10)  # fails at once
        found = Path(snapshot_download(repository, **asked))
    except (HTTPError, HFValidationError, OSError) as error:
        raise _explained(name, what, variant, setting, error) from error
    if not is_complete(found, what, variant, parts, weights=weights):
        kind = f"{variant}.safetensors" if variant else "safetensors"
        kind = f"{variant} ONNX" if what == "ccip" else kind
        raise ModelsError(
            f"{name} has no {kind} weights of the kind wanted here ({', '.join(large)}); choose "
            "another repository or revision, or another variant="
        )
    return found


def _within(files: Mapping[str, list[str]], what: str, variant: str) -> list[str]:
    """Files of a kind as they lie in a repository: CCIP's in a folder for each variant."""
    return [f"{variant}/{name}" if what == "ccip" else name for name in files[what]]


def _large(patterns: Sequence[str], variant: str) -> list[str]:
    ending = f"*.{variant}*.safetensors" if variant else "*.safetensors"
    return [pattern.replace("*.safetensors", ending) for pattern in patterns]


def is_complete(
    folder: Path, what: str, variant: str, parts: Sequence[str], *, weights: bool
) -> bool:
    """Whether what is certainly needed is there; an interrupted download may have left less."""
    if not any(folder.glob(_within(SMALL, what, variant)[0])):
        return False
    if not weights:
        return True
    if what == "ccip":
        return all((folder / name).exists() for name in _within(LARGE, what, variant))
    if what != "base":
        return any(folder.glob(LARGE[what][0]))
    modules = [part for part in parts if (folder / part / "config.json").exists()]
    return parts[0] in modules and all(
        any(variant_of(path) == variant for path in (folder / part).glob("*.safetensors"))
        for part in modules
    )


def variant_of(path: Path) -> str:
    """`fp16` of `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`."""
    return path.stem.partition(".")[2].partition("-")[0]


def _explained(name: str, what: str, variant: str, setting: str, error: Exception) -> ModelsError:
    """What went wrong, in words, with what to do about it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    if isinstance(error, GatedRepoError):
        return ModelsError(
            f"{repository} is gated: its owner wants its licence accepted first. Accept it on the "
            "repository's page while logged in, make an access token, and set HF_TOKEN to it (or "
            "`hf auth login`); then run the same command again"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelsError(
            f"{repository} has no revision {revision or 'main'}; give a commit, tag or branch that "
            f"it has, as in {repository}@main"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return ModelsError(
            f"the hub shows no repository {repository}: it does not exist (check the spelling) or "
            "is private (set HF_TOKEN to a token that may read it); a folder on disk is given "
            "with its path, as in ./FOLDER"
        )
    if isinstance(error, HFValidationError):
        return ModelsError(f"{name} is no name of a hub repository; give OWNER/NAME, or a folder")
    if isinstance(error, OSError) and error.errno is not None:
        return ModelsError(
            f"{name} cannot be written to the hub's cache {constants.HF_HUB_CACHE} "
            f"({error.strerror}); free space there, or set HF_HOME to a folder that has some"
        )
    reason = f"status {status}" if status else type(error).__name__
    if constants.HF_HUB_OFFLINE and status is None:
        reason = "HF_HUB_OFFLINE is set"
    return ModelsError(
        f"{name} is not in the hub's cache ({constants.HF_HUB_CACHE}) and the hub cannot be "
        f"reached ({reason}). {how_to_fetch(name, what, variant, setting)}"
    )


def how_to_fetch(name: str, what: str, variant: str = "", setting: str = "") -> str:
    """Every way to get the weights onto this machine."""
    repository, _, revision = name.partition("@")
    pinned = f" --revision {revision}" if revision else ""
    ending = f"*.{variant}.safetensors" if variant else "*.safetensors"
    # a base's repository has single-file copies at its top, which are not needed
    files = (*SMALL["base"], *(f"*/*.{end}" for end in TEXTS), f"*/{ending}")
    texts = ("*.txt",) if what == "captioner" else ()
    chosen = files if what == "base" else ("*.json", *texts, ending)
    if what == "ccip":
        chosen = (f"{variant}/*",)
    wanted = " ".join(f"--include '{pattern}'" for pattern in chosen)
    if what == "base" and not variant:
        wanted += " --exclude '*.fp16.*' --exclude '*.non_ema.*'"
    setting = setting or {
        "base": "models.bases.NAME.path", "vae": "models.bases.NAME.vae",
        "captioner": "caption.path",
    }.get(what, f"models.encoders.{what}.path")  # fmt: skip
    instead = (
        "models=embedded (small, ships with charsweep) or models=random (true sizes, untaught)"
    )
    if what == "captioner":
        instead = "caption=zero_shot (the CLIP of models=, no other model)"
    elif setting.startswith("encoder."):
        instead = "the encoders that come with models=, clip and dino"
    return (
        f"Where there is a network, run `hf download {repository}{pinned} {wanted} "
        f"--local-dir FOLDER`, copy FOLDER here and set {setting}=FOLDER; or use {instead}"
    )
