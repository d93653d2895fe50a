"""An export of what was composed: each adapter in a folder of its own, and a card for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import ModelCardData

import charsweep
from charsweep.actions.export.adapter import write_adapter
from charsweep.actions.export.by_columns import code_by_columns, is_by_columns
from charsweep.actions.export.card import (
    SHEET,
    cell_text,
    licence_fields,
    licence_note,
    scores,
    sizes,
    without_gaps,
)
from charsweep.actions.export.chosen import Chosen
from charsweep.actions.export.formats import write_weights
from charsweep.actions.export.usage import (
    FETCHED,
    HERE,
    base_lines,
    drawn,
    first_prompt,
    in_order,
)
from charsweep.core.specs import BESIDE, ComposedSpec
from charsweep.core.store import Store
from charsweep.core.store.files import write_text
from charsweep.core.system.names import as_title
from charsweep.core.system.templates import fill
from charsweep.models.adapter_file import ADAPTER_FILE, FACTORED
from charsweep.models.foreign_adapter import CONFIG, PLAIN, split
from charsweep.models.safetensors_file import tensor_shapes

LOAD_FACTORED = """\
def load_factored(folder, adapter):
    tensors = load_file(Path(folder, "adapter.safetensors"))
    for name, settings in json.loads(Path(folder, "adapter_config.json").read_text()).items():
        module = getattr(pipeline, name)
        module.add_adapter(PeftConfig.from_peft_type(**settings), adapter)
        start = f"{name}."
        own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        set_peft_model_state_dict(module, own, adapter)"""


class Written(NamedTuple):
    """One of the adapters in the export: its folder, what prompts call whom it draws by, its kind,
    and its file for other programs, or why there is none."""

    one: Chosen
    name: str
    trigger: str
    kind: str  # "lora", "dora", "loha" or "lokr"; "" of one from elsewhere that is no plain LoRA
    weights: str  # the file that diffusers is to load
    file: str | None
    refusal: str | None

    @property
    def strength(self) -> float:
        """At which it is put on, as its file is."""
        return float(f"{self.one.strength:g}")


def alone(chosen: Chosen) -> list[Chosen]:
    """Each of the adapters, as if it had been chosen by itself, at its own strength."""
    source = chosen.images.snapshot.source
    assert isinstance(source, ComposedSpec)
    return [
        replace(
            chosen,
            images=replace(chosen.images, snapshot=one.snapshot, strength=one.strength),
            is_baked=chosen.is_baked and one.strength != 1,
            called=name if chosen.is_foreign else "",
            both=None,
        )
        for name, one in zip(names_of(chosen), source.components, strict=True)
    ]


def write_composed(
    chosen: Chosen, store: Store, samples: Sequence[tuple[str, str]], licence: str | None,
    folder: Path, place: str = HERE,
) -> None:  # fmt: skip
    """Write both adapters and README.md, which says how they are put together; `place` is what the
    folder is called: ".", or its name on the hub."""
    adapters = [
        written(one, name, trigger, store, licence, folder / name)
        for one, name, trigger in zip(
            alone(chosen), names_of(chosen), triggers_of(chosen), strict=True
        )
    ]
    assert chosen.base_model is not None
    assert chosen.drawing_model is not None
    family = chosen.base_model.weights.family
    fields: dict[str, Any] = {
        "tags": ["charsweep", "character", "text-to-image", *family.tags],
        "pipeline_tag": "text-to-image",
        "library_name": "diffusers",
        "widget": [{"text": text, "output": {"url": image}} for image, text in samples],
        **({} if chosen.is_foreign and not licence else licence_fields(chosen, licence)),
        **({"base_model": chosen.base_model.hub_id} if chosen.base_model.hub_id else {}),
    }
    words = {
        "chosen": chosen,
        "images": chosen.images,
        "adapters": adapters,
        "drawing_title": chosen.drawing_model.title,
        "code": code(chosen, adapters, place),
        "is_flow": family.is_flow,
        "refusals": list(dict.fromkeys(one.refusal for one in adapters if one.refusal)),
        "files": sizes(folder),
        "scores": list(scores(chosen)),
        "text": cell_text,
        "sheet": SHEET,
        "header": str(ModelCardData(**fields).to_yaml(line_break="\n")).rstrip(),
        "licence_note": terms(chosen, licence),
        "version": charsweep.__version__,
    }
    text = fill(Path(__file__).with_name("composed_card_template.md"), words)
    write_text(folder / "README.md", "\n".join(without_gaps(text.splitlines())) + "\n")


def written(
    one: Chosen, name: str, trigger: str, store: Store, licence: str | None, folder: Path
) -> Written:
    """Write one of the adapters into a folder of its own."""
    folder.mkdir()
    if not one.is_trained:
        file = write_adapter(one, store, folder)
        parts = {split(tensor)[1] for tensor in tensor_shapes(folder / file)}
        is_plain = parts <= PLAIN and not (folder / CONFIG).exists()
        return Written(one, name, trigger, "lora" if is_plain else "", file, file, None)
    found, low = write_weights(one, store, folder, licence), one.method.low_rank
    assert low is not None
    return Written(one, name, trigger, low.kind, ADAPTER_FILE, found.kohya, found.refusal)


def terms(chosen: Chosen, licence: str | None) -> str:
    """What the card says of the licence."""
    if chosen.is_foreign and not licence:
        return "The files are their authors': look up their licences before you share them."
    return licence_note(chosen, licence)


def names_of(chosen: Chosen) -> list[str]:
    """The folders of the adapters in the export: by whom they draw, or as they were called."""
    names = list(chosen.characters) or chosen.called.split(BESIDE)
    titles = [as_title(name) for name in names]
    return titles if len(set(titles)) == len(names) == 2 else ["first", "second"]


def triggers_of(chosen: Chosen) -> list[str]:
    """What prompts call the two by; "" for what nobody has said."""
    made: Mapping[str, Any] = chosen.cell.made
    told = [str(made.get(name) or "") for name in ("trigger", "other_trigger")]
    return list(chosen.characters) or told


def code(chosen: Chosen, adapters: Sequence[Written], place: str = HERE) -> str | None:
    """Python that draws with both; the last line assigns `image`. None where diffusers and peft
    would draw otherwise: of DoRA they scale the factors and not the magnitudes."""
    kinds = {one.kind for one in adapters}
    if not kinds <= {"lora", *FACTORED}:
        return None
    assert chosen.drawing_model is not None
    imports, base = base_lines(chosen.drawing_model)
    factored = [one.one for one in adapters if one.kind in FACTORED]
    defined = ["", *LOAD_FACTORED.splitlines(), ""] if factored else []
    loadings = (one.method.loading(one.trajectory, "", HERE) for one in factored)
    own_imports = {line for loading in loadings if loading for line in loading.imports}
    loads = [
        f'load_factored("{one.name}", "{one.name}")'
        if one.kind in FACTORED
        else f'pipeline.load_lora_weights("{one.name}", weight_name="{one.weights}", '
        f'adapter_name="{one.name}")'
        for one in adapters
    ]
    names, strengths = [one.name for one in adapters], [one.strength for one in adapters]
    known = dict(enumerate(zip(names, strengths, strict=True))) if chosen.drawn_apart else {}
    if is_by_columns(chosen):
        last = [code_by_columns(chosen, known)]
    else:
        last = [drawn(chosen, first_prompt(chosen))]
    if not (known and is_by_columns(chosen)):
        named, at = known.get(chosen.shown.columns[0][0].drawer, (names, strengths))
        last = [f"pipeline.set_adapters({named!r}, {at})", *last]
    first = in_order([*imports, *sorted(own_imports)])
    lines = "\n".join([*first, "", *base, *defined, *loads, *last])
    return lines if place == HERE else FETCHED.format(place=place) + lines
