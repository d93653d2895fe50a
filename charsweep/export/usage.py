"""A chosen cell and its exported files in; out, the Python that draws with them and nothing else.

The tests run what is written here.
"""

from __future__ import annotations

from charsweep.adapterfile import ADAPTER_FILE
from charsweep.export.chosen import Chosen, Ground
from charsweep.export.weights import PIPELINE_INDEX, Weights
from charsweep.plugins import resolve
from charsweep.store import Store, read_json

HERE = "."
PIPELINES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
FACTORED = """\
tensors = load_file("adapter.safetensors")
for name, settings in json.loads(Path("adapter_config.json").read_text()).items():
    module = getattr(pipeline, name)
    module.add_adapter(PeftConfig.from_peft_type(**settings))
    own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
    set_peft_model_state_dict(module, own)"""


FETCHED = """\
import os
from huggingface_hub import snapshot_download

os.chdir(snapshot_download("{place}"))
"""


def python_code(chosen: Chosen, weights: Weights, store: Store, place: str) -> str | None:
    """Lines that end with `image`, a picture; None where the method offers none.

    `place` is what the exported folder is called: ".", or its name on the hub.
    """
    code = loading_code(chosen, weights, store, place)
    by_path = weights.kind in ("factored", "own")  # files that the hub's own loaders do not know
    return FETCHED.format(place=place) + code if code and by_path and place != HERE else code


def loading_code(chosen: Chosen, weights: Weights, store: Store, place: str) -> str | None:
    if weights.kind == "pipeline":
        index = read_json(store.snapshot(chosen.images.snapshot) / PIPELINE_INDEX)
        name = index["_class_name"]
        loaded = f'pipeline = {name}.from_pretrained("{place}")'
        return "\n".join([f"from diffusers import {name}", "", loaded, drawn(chosen)])
    if chosen.ground is None:
        method = chosen.trajectory.method
        loading = getattr(resolve(method.target), "loading", None)
        return None if loading is None else str(loading)
    name = PIPELINES[chosen.ground.kind]
    imports, source = source_of(chosen.ground)
    first = ["import torch", f"from diffusers import {name}", *imports]
    put_on = f'pipeline.load_lora_weights("{place}", weight_name="{ADAPTER_FILE}")'
    if weights.kind == "factored":
        put_on = FACTORED
        first = [
            "import json", "from pathlib import Path", "", *first,
            "from peft import PeftConfig, set_peft_model_state_dict",
            "from safetensors.torch import load_file",
        ]  # fmt: skip
    way = "from_single_file" if chosen.ground.is_file else "from_pretrained"
    base = f"pipeline = {name}.{way}({source})"
    if not chosen.ground.is_embedded:
        base += '.to("cuda")'
    return "\n".join([*first, "", base, put_on, drawn(chosen)])


def source_of(ground: Ground) -> tuple[list[str], str]:
    """What to import for the base, and how it is named."""
    if ground.is_embedded:
        path = ground.path.partition(":")[2]
        return ["from charsweep.embedded import FOLDER"], f'FOLDER / "{path}", dtype=torch.float32'
    named = ground.hub_id or f"PATH/{ground.title}"
    pinned = f'revision="{ground.revision}", ' if ground.revision else ""
    return [], f'"{named}", {pinned}dtype=torch.float16'


def drawn(chosen: Chosen) -> str:
    """The call that draws the first prompt of the exam as the sweep did, but for the sampler."""
    words = [f"num_inference_steps={chosen.images.inference_steps}"]
    if chosen.is_prompted:
        prompt = chosen.images.prompts[0]
        words = [repr(prompt), *words, f"guidance_scale={chosen.images.guidance_scale:g}"]
    return f"image = pipeline({', '.join(words)}).images[0]"
