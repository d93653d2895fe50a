"""What a pipeline's folder or single file says of itself: its class, parts and marks; no torch.

A folder says what it is in `model_index.json`; a single file, the format in which checkpoints are
passed around, only by the names of its tensors (those of Rombach et al.'s and Podell et al.'s
code). Which of them is of which kind, `charsweep.models.families` says.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from charsweep.core.errors import ModelsError
from charsweep.models.safetensors_file import tensor_shapes

VAE = "first_stage_model."
INDEX, MODULAR_INDEX = "model_index.json", "modular_model_index.json"
# What is passed around as one file and is no base that was asked for: part of a tensor's name.
LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")  # of a pipeline's parts
OTHERS = {
    "conditioner.embedders.0.model.": "the SDXL refiner",
    "cond_stage_model.model.": "of SD 2 type",
    "joint_blocks.": "of SD 3 type",
    "single_stream_modulation.": "of FLUX.2 type",
    "distilled_guidance_layer.": "of Chroma type",
    "double_blocks.": "of FLUX type",
    "txtfusion.": "of Krea 2 type",
    "llm_adapter.": "of Anima type",
    "cap_embedder.": "of Z-Image or Lumina type",
    "lora_": "an adapter, not a base (action=story draws with one: story.adapter=FILE)",
    "down_blocks.": "one part of a pipeline; give the pipeline's folder instead",
    "control_model.": "a ControlNet, not a base",
}


def index_of(folder: Path) -> Path | None:
    """The index of a pipeline's folder, of parts or, in diffusers' newer form, of modular ones."""
    found = (folder / name for name in (INDEX, MODULAR_INDEX))
    return next((index for index in found if index.exists()), None)


def class_of(folder: Path) -> str:
    """The class of a pipeline's folder, by its index."""
    index = index_of(folder)
    if index is None:
        files = sorted(folder.glob("*.safetensors"))
        instead = f", as in {files[0]}" if files else ""
        raise ModelsError(
            f"{folder} has no {INDEX}: it is not a diffusers pipeline folder; give the "
            "folder that holds it beside vae/, text_encoder/ and the others, or a single "
            f".safetensors checkpoint{instead}"
        )
    check_indices(folder)
    content = json.loads(index.read_text(encoding="utf-8"))
    return str(content.get("_class_name", f"folder whose {index.name} names no class"))


def check_indices(folder: Path) -> None:
    """Raise ModelsError where a pipeline's index, or one within it, names a library of its own.

    diffusers imports whatever module an index names for a part. Of a modular one, the folder's own
    parts are read wherever it says that they lie, and all must be there (`models.folder`).
    """
    for index in sorted(folder.rglob(f"*{INDEX}")):
        try:
            parts = json.loads(index.read_text(encoding="utf-8")).items()
        except (ValueError, AttributeError, OSError, RecursionError) as error:
            raise ModelsError(
                f"{index} cannot be read ({error}); fetch the folder again"
            ) from error
        for name, entry in parts:
            for library in _libraries(entry):
                if library not in LIBRARIES:
                    raise ModelsError(
                        f"{index} takes {name} from [{library!r}], which is none of the libraries "
                        "that models are read with; give a folder as diffusers writes it"
                    )


def _libraries(entry: Any) -> Iterator[Any]:
    """The modules that an entry of an index names; of one that is a list of numbers, none."""
    if not isinstance(entry, list) or (entry and all(type(one) is int for one in entry)):
        return
    yield entry[0] if entry else ""
    for more in entry[2:]:
        hint = more.get("type_hint") if isinstance(more, Mapping) else None
        if isinstance(hint, list):
            yield hint[0] if hint else ""


def what_is(path: Path) -> str:
    """A folder or file in words, whatever it is."""
    if path.is_dir():
        return f"a {class_of(path)}"
    shapes = tensor_shapes(path)
    found = (what for part, what in OTHERS.items() if holds(shapes, part, within=True))
    return next(found, "no whole pipeline")


def holds(
    names: Mapping[str, object] | Collection[str], part: str, *, within: bool = False
) -> bool:
    """Whether a tensor's name begins with something, or has it anywhere in it."""
    return any(part in name if within else name.startswith(part) for name in names)
