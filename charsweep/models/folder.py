"""A diffusers folder, part by part, before anything is loaded: what it lacks, in words; no torch.

diffusers takes a part's class from the index, its config and weights from the part's folder by the
names that its libraries write, and of a part with half-precision weights alone only those.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import read_json
from charsweep.models.families import Family, parts_of
from charsweep.models.hub import variant_of
from charsweep.models.identify import holds, index_of, what_is
from charsweep.models.safetensors_file import tensor_shapes

# What a part's weights are called, by the library that reads them, and its settings.
NAMES = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
SETTINGS = {"scheduler": "scheduler_config.json"}
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
KL = "AutoencoderKL"
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")


def needed_parts(folder: Path, family: Family, *, has_vae: bool) -> list[str]:
    """Names of the parts that are read; another autoencoder may stand in for the folder's own."""
    left = {*family.left_out(folder), *(["vae"] if has_vae else [])}
    return [part for part in parts_of(family) if part not in left]


def check_folder(
    folder: Path, family: Family, setting: str, variant: str, *, has_vae: bool, weights: bool
) -> None:
    """Raise ModelsError, which names all that is wrong, unless every part can be read.

    `setting` is what the base is called on the command line, `weights` whether they are here too.
    """
    path = index_of(folder)
    assert path is not None
    index = json.loads(path.read_text(encoding="utf-8"))
    problems = []
    for part in needed_parts(folder, family, has_vae=has_vae):
        own = folder / part
        if own.is_dir() and not _names_class(index.get(part)):
            problems.append(f"{path.name} names no class for {part}/")
            continue
        library = str(index[part][0]) if part in index else ""
        is_tokenizer = part in family.tokenizers
        problems += list(_problems(own, library, is_tokenizer, variant, weights=weights))
    if not problems:
        return
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    more = (
        "" if has_vae or "vae" in found else f"; a VAE may come from {setting}.vae=FILE-OR-FOLDER"
    )
    raise ModelsError(
        f"{setting}.path={folder}: {'; '.join(problems)} (there is {', '.join(found) or 'nothing'})"
        f"{more}; mend that, or fetch the folder again"
    )


def _names_class(entry: Any) -> bool:
    """Whether it names a library and a class; of a modular pipeline, also where that lies."""
    return isinstance(entry, list) and len(entry) in (2, 3) and all(entry[:2])


def _problems(
    part: Path, library: str, is_tokenizer: bool, variant: str, *, weights: bool
) -> Iterator[str]:
    """What keeps one part from being read."""
    name = part.name
    if not part.is_dir():
        yield f"{name}/ is missing"
        return
    if is_tokenizer:
        if not any(all((part / one).exists() for one in files) for files in VOCABULARIES):
            files = "tokenizer.json, or vocab.json and merges.txt"
            yield f"{name}/ lacks its tokenizer's words ({files})"
        return
    settings = part / SETTINGS.get(name, "config.json")
    if not settings.exists():
        yield f"{name}/ lacks {settings.name}"
    elif problem := _unreadable(settings):
        yield problem
    if weights and name not in SETTINGS:
        yield from _weight_problems(part, NAMES.get(library, "model"), variant)


def _weight_problems(part: Path, stem: str, variant: str) -> Iterator[str]:
    name, files = part.name, sorted(path.name for path in part.iterdir() if path.is_file())
    tensors = [file for file in files if file.endswith((".safetensors", ".sft"))]
    read = [file for file in tensors if _is_called(file, stem)]
    chosen = chosen_variant(part, variant)
    own = [file for file in read if variant_of(Path(file)) == chosen]
    if not tensors:
        pickled = [file for file in files if file.endswith(PICKLED)]
        held = f"only {pickled[0]}, which may hold code and is not read" if pickled else "none"
        yield f"{name}/ has no .safetensors weights, {held}"
    elif not read:
        yield f"{name}/ has {tensors[0]}, which is read as {stem}.safetensors alone: rename it"
    elif not own:
        kinds = ", ".join(sorted({variant_of(Path(file)) or "full" for file in read}))
        yield f"{name}/ has weights in {kinds} precision alone, which none of variant= is read as"
    else:
        yield from _lost_pieces(part, stem, chosen)
    if variant and (odd := [file for file in files if "." not in file]):
        yield f"{name}/{odd[0]} has no ending, over which diffusers falls with variant=: remove it"


def _is_called(file: str, stem: str) -> bool:
    """`STEM.safetensors`, `STEM.fp16.safetensors`, `STEM-00001-of-00002.safetensors`."""
    return file.endswith(".safetensors") and file.partition(".")[0].partition("-")[0] == stem


def _lost_pieces(part: Path, stem: str, variant: str) -> Iterator[str]:
    """Pieces that the index of weights in several files names and that are not there."""
    middle = f".{variant}" if variant else ""
    index = part / f"{stem}.safetensors.index{middle}.json"
    if not index.exists() or (part / f"{stem}{middle}.safetensors").exists():
        return
    if problem := _unreadable(index):
        yield problem
        return
    pieces = {*json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()}
    if lost := sorted(piece for piece in pieces if not (part / piece).exists()):
        yield f"{part.name}/ lacks {lost[0]}, which {index.name} names"


def _unreadable(path: Path) -> str:
    """Why a file of settings cannot be read; "" if it can."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{path.parent.name}/{path.name} cannot be read ({error})"
    return "" if isinstance(content, dict) else f"{path.parent.name}/{path.name} holds no settings"


def check_template(name: str, folder: Path) -> None:
    """Raise ModelsError where a tokenizer does not say how a chat with its model is written."""
    tokenizer = folder / "tokenizer"
    config = tokenizer / "tokenizer_config.json"
    told = read_json(config) if config.exists() else {}
    if not (tokenizer / "chat_template.jinja").exists() and "chat_template" not in told:
        raise ModelsError(
            f"models.bases.{name}.path: tokenizer/ lacks chat_template.jinja, by which its text "
            "encoder is asked; fetch the folder again, with that file"
        )


def check_vae(path: Path, name: str, setting: str, variant: str, wanted: str) -> None:
    """Raise ModelsError unless there is an autoencoder of the class that is wanted, in a folder of
    its own or a pipeline's, or an `AutoencoderKL` in a single file."""
    if path.is_file() and wanted != KL:
        raise ModelsError(
            f"{setting}={name} is a single file; give the folder of an {wanted}, or a pipeline's"
        )
    if path.is_file():
        starts = ("first_stage_model.", "decoder.conv_in.")
        if not any(holds(tensor_shapes(path), start) for start in starts):
            raise ModelsError(
                f"{setting}={name} is {what_is(path)} and holds no VAE; give a file, a folder or a "
                "repository that does"
            )
        return
    within = path / "vae"
    part = within if (within / "config.json").exists() else path
    config = part / "config.json"
    problem = _unreadable(config) if config.exists() else f"{part.name}/ lacks config.json"
    if not problem:
        kind = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
        problem = "" if kind == wanted else f"{part.name}/ is of class {kind}"
    problem = problem or next(_weight_problems(part, NAMES["diffusers"], variant), "")
    if problem:
        raise ModelsError(
            f"{setting}={name}: {problem}; give the folder of an {wanted}, or the pipeline's"
        )


# -- variants --------------------------------------------------------------------------------------


def chosen_variant(part: Path, variant: str) -> str:
    """Of which variant diffusers reads a part's weights: that asked for, where there are any."""
    found = {variant_of(path) for path in part.glob("*.safetensors")}
    return variant if variant and variant in found else ""


def only_variant(folder: Path, parts: Collection[str] = ()) -> str:
    """`fp16` where full precision is not whole: in all of a folder, or in one of a base's parts."""
    places = [folder / part for part in parts] if parts else [folder]
    for place in places:
        found = {variant_of(path) for path in place.rglob("*.safetensors")}
        if "fp16" in found and "" not in found:
            return "fp16"
    return ""
