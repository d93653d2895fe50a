"""The Python code in a model card: lines that draw with the exported files and nothing else.

The tests run what is written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from charsweep.actions.export.by_columns import code_by_columns, is_by_columns
from charsweep.actions.export.chosen import BaseModel, Chosen
from charsweep.actions.export.formats import WrittenWeights
from charsweep.core.columns import regional
from charsweep.core.store import Store
from charsweep.core.store.files import read_json
from charsweep.models.families import Drawing
from charsweep.models.folder import KL
from charsweep.models.identify import MODULAR_INDEX, index_of
from charsweep.models.weights import Weights as Source

HERE = "."
PART_OF_DORA = """\
for part in ({parts},):  # peft scales a DoRA's factors and not its magnitudes
    for layer in getattr(pipeline, part).modules():
        if isinstance(layer, BaseTunerLayer):
            before = layer.get_base_layer().weight.data.clone()
            layer.merge()
            merged = layer.get_base_layer().weight
            merged.data = torch.lerp(before, merged.data, {strength})"""
FETCHED = """\
import os
from huggingface_hub import snapshot_download

os.chdir(snapshot_download("{place}"))
"""


def python_code(chosen: Chosen, weights: WrittenWeights, store: Store, place: str) -> str | None:
    """Lines whose last assigns the drawn `image`; None where the method offers none.

    `place` is what the exported folder is called: ".", or its name on the hub.
    """
    if weights.is_pipeline:
        return pipeline_code(chosen, store, place)
    loading = chosen.method.loading(chosen.trajectory, first_prompt(chosen), place)
    if loading is None:
        return None
    own_imports, own = at_strength(chosen)
    lines = "\n".join([*loading.lines, *own])
    if chosen.drawing_model is None:
        code = lines
    else:
        imports, base = base_lines(chosen.drawing_model)
        first = in_order([*imports, *loading.imports, *own_imports])
        last = (
            code_by_columns(chosen, {}) if is_by_columns(chosen) else drawn(chosen, loading.prompt)
        )
        code = "\n".join([*first, "", *base, lines, last])
    by_path = place != HERE and place not in lines  # the hub's own loaders do not know the files
    return FETCHED.format(place=place) + code if by_path else code


def at_strength(chosen: Chosen) -> tuple[Sequence[str], Sequence[str]]:
    """Imports, and lines that put a loaded adapter on in part."""
    strength, low = chosen.strength, chosen.method.low_rank
    if strength == 1 or low is None:
        return (), ()
    if low.kind != "dora":
        return (), (f"pipeline.set_adapters(pipeline.get_active_adapters(), {strength:g})",)
    assert chosen.drawing_model is not None
    parts = chosen.method.taught(chosen.drawing_model.weights.family)
    lines = PART_OF_DORA.format(parts=", ".join(map(repr, parts)), strength=f"{strength:g}")
    return ("from peft.tuners.tuners_utils import BaseTunerLayer",), lines.splitlines()


def pipeline_code(chosen: Chosen, store: Store, place: str) -> str:
    index = index_of(store.snapshot(chosen.images.snapshot))
    assert index is not None
    name = read_json(index)["_class_name"]
    assert str(name).isidentifier()  # it becomes code
    words = [f'"{place}"', *(without(chosen.base_model) if chosen.base_model else ())]
    made = [f"pipeline = {name}.from_pretrained({', '.join(words)})"]
    made += ["pipeline.load_components()"] * (index.name == MODULAR_INDEX)
    imports = [f"from diffusers import {name}"]
    if is_by_columns(chosen):
        imports, drawing = ["import torch", *imports], code_by_columns(chosen, {})
    else:
        drawing = drawn(chosen, first_prompt(chosen))
    return "\n".join([*imports, "", *made, drawing])


def first_prompt(chosen: Chosen) -> str:
    """Of what the card shows, whole."""
    return regional(chosen.shown.prompts[0]).whole


def in_order(imports: Sequence[str]) -> list[str]:
    """Imports of Python's own modules first, then, after a gap, the others."""
    own = [line for line in imports if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    others = sorted(set(imports) - set(own), key=lambda line: (line.startswith("from"), line))
    return [*own, *[""] * bool(own), *others]


def base_lines(base_model: BaseModel) -> tuple[list[str], list[str]]:
    """Imports, and lines that make `pipeline`, the untaught base as it was trained on."""
    name, vae = base_model.weights.family.pipeline, base_model.weights.vae
    changed = scheduler(base_model)
    autoencoder = base_model.weights.family.autoencoder
    names = [autoencoder] * bool(vae) + [name]
    names += [base_model.weights.scheduler[0]] * bool(changed)
    imports = ["import torch", f"from diffusers import {', '.join(sorted(names))}"]
    words = "dtype=torch.float16" if autoencoder == KL else "dtype=torch.float32"
    own = [f"vae = {autoencoder}.{loaded(vae, words, 'vae')}"] if vae else []
    more = ", ".join(["vae=vae"] * bool(vae) + without(base_model))
    if base_model.is_embedded:
        path = base_model.path.partition(":")[2]
        words = ", ".join(filter(None, [f'FOLDER / "{path}"', "dtype=torch.float32", more]))
        return (
            [*imports, "from charsweep.models.embedded import FOLDER"],
            [*own, f"pipeline = {name}.from_pretrained({words})", *changed],
        )
    half = "bfloat16" if base_model.weights.family.loads_parts else "float16"
    pipeline = base_model.weights.pipeline
    if is_modular(base_model):
        made = [
            f"pipeline = {name}.{loaded(pipeline)}",
            *["pipeline.update_components(vae=vae)"] * bool(vae),
            f"pipeline.load_components(dtype=torch.{half})",
            'pipeline.to("cuda")',
        ]
    else:
        words = ", ".join(filter(None, [f"dtype=torch.{half}", more]))
        made = [f'pipeline = {name}.{loaded(pipeline, words)}.to("cuda")']
    return imports, [*own, *made, *changed]


def is_modular(base_model: BaseModel) -> bool:
    """Whether its pipeline is of diffusers' newer form, which takes its parts in a second step."""
    index = index_of(base_model.weights.configs)
    return index is not None and index.name == MODULAR_INDEX


def without(base_model: BaseModel) -> list[str]:
    """Words that tell a pipeline's class that it has no such text encoder."""
    left = base_model.weights.family.left_out(base_model.weights.configs)
    return [f"{part}=None" for part in left if part.startswith(("text_encoder", "tokenizer"))]


def loaded(weights: Source, more: str = "", part: str = "") -> str:
    """The call that loads weights from the hub, or from a folder or file whose place is private."""
    named, _, revision = weights.name.partition("@")
    if weights.source != "hub":
        named, revision = f"PATH/{Path(weights.name).name}", ""
    way = "from_single_file" if weights.path.is_file() else "from_pretrained"
    words = [
        json.dumps(named, ensure_ascii=False),  # a file's name may hold quotes
        f'revision="{revision}"' if revision else "",
        f'subfolder="{part}"' if part and (weights.path / part / "config.json").exists() else "",
        more,
    ]
    return f"{way}({', '.join(filter(None, words))})"


def scheduler(base_model: BaseModel) -> list[str]:
    """What the base predicts, where diffusers does not read it from its files."""
    name, changes = base_model.weights.scheduler
    if not changes:
        return []
    words = [f"    {word}={json.dumps(value)}," for word, value in changes.items()]
    words = [word.replace("true", "True").replace("false", "False") for word in words]
    first = f"pipeline.scheduler = {name}.from_config("
    return [first, "    pipeline.scheduler.config,", *words, ")"]


def drawn(chosen: Chosen, prompt: str) -> str:
    """Lines that draw a prompt as the sweep did, but for the sampler."""
    images = chosen.shown
    if not chosen.is_prompted or chosen.base_model is None:
        return f"image = pipeline(num_inference_steps={images.inference_steps}).images[0]"
    drawing = Drawing(images.inference_steps, images.guidance_scale)
    family = chosen.base_model.weights.family
    return "\n".join(family.code(prompt, drawing, images.pixels))
