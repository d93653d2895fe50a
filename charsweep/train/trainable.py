"""Trainable weights of a pack: K stacked LoRAs, or one full, DoRA, LoHa or LoKr trial; and saving
them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from charsweep.core.methods import method_of
from charsweep.core.seeding import generator
from charsweep.core.specs import TrajectorySpec
from charsweep.core.store.files import read_json, write_json
from charsweep.models.adapter_file import (
    ADAPTER_FILE,
    FACTORED,
    FACTORED_CONFIG,
    FACTORED_FILE,
    METADATA,
    LowRank,
    factored_config,
    lora_metadata,
    padded_rank,
    published,
)
from charsweep.models.identify import MODULAR_INDEX
from charsweep.models.pipeline import LoadedPipeline, quiet
from charsweep.models.safetensors_file import settle_header
from charsweep.train.methods import SharedSlots
from charsweep.train.stacked_lora import Adapters, gaussian


def slot_weights(
    low: LowRank | None, base: LoadedPipeline, taught: Mapping[str, nn.Module], width: int
) -> SharedSlots:
    """`width` slots for adapters or all weights; only plain low-rank adapters have several."""
    if low and low.kind == "lora":
        return StackedAdapters(low, base, taught, width)
    assert width == 1
    return SingleTrial(base, taught)


class StackedAdapters:
    """Low-rank adapters of all slots side by side on the base's layers."""

    def __init__(
        self, low: LowRank, base: LoadedPipeline, taught: Mapping[str, nn.Module], width: int
    ) -> None:
        self.taught = taught
        self.own = low = on_base(low, base, taught)  # while its layers have their own names
        targets = {name: low.of(name) for name in taught}
        self.adapters = Adapters(taught, targets, width, padded_rank(low.rank), low.but)
        self.adapters.attach()
        self.low: dict[int, LowRank] = {}
        self.zero_grad, self.aside = self.adapters.zero_grad, self.adapters.aside
        self.narrow = self.adapters.narrow

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        low = method_of(spec.method).low_rank
        assert low is not None
        self.low[slot] = low._replace(targets=self.own.targets, but=self.own.but)
        shapes = self.adapters.weights(slot, low.rank)
        first = gaussian(shapes, low.rank, generator(spec.seed, "adapter"))
        self.adapters.set(slot, first, low.scale)

    def leave(self, slot: int) -> None:
        self.adapters.clear(slot)

    def gradients(self) -> list[Tensor]:
        return [self.adapters.gradient]

    def named(self, slot: int) -> Mapping[str, Tensor]:
        return self.adapters.views(slot, self.low[slot].rank)

    def save(self, slot: int, folder: Path) -> None:
        low = self.low[slot]
        settings = {name: low.settings(name) for name in self.taught}
        save_adapter(self.adapters.weights(slot, low.rank), settings, folder)

    def close(self) -> None:
        self.adapters.detach()


class SingleTrial:
    """What only one trial at a time can change: all weights, or an adapter that peft puts on."""

    def __init__(self, base: LoadedPipeline, taught: Mapping[str, Any]) -> None:
        self.base, self.taught = base, taught
        self.low: LowRank | None = None
        self._undo = contextlib.ExitStack()

    def enter(self, slot: int, spec: TrajectorySpec) -> None:
        low = method_of(spec.method).low_rank
        self.low = low = on_base(low, self.base, self.taught) if low else None
        if low is None:
            self._undo.enter_context(self.base.restored())
            for module in self.taught.values():
                module.requires_grad_(True)
            return
        self._undo.callback(self.base.pipeline.unload_lora_weights)
        for name, module in self.taught.items():
            with torch.random.fork_rng(devices=[]):  # peft draws from the global generator
                torch.manual_seed(generator(spec.seed, f"adapter {name}").initial_seed())
                module.add_adapter(low.config(name))
            for tensor in trained_parameters({name: module}).values():
                tensor.data = tensor.data.float()  # whatever the base's precision

    def narrow(self, slots: slice) -> None:
        """There is only one."""

    def leave(self, slot: int) -> None:
        self._undo.close()
        self.zero_grad()
        for module in self.taught.values():
            module.requires_grad_(False)

    def named(self, slot: int) -> Mapping[str, Tensor]:
        return trained_parameters(self.taught)

    def zero_grad(self) -> None:
        for module in self.taught.values():
            module.zero_grad(set_to_none=True)

    def gradients(self) -> list[Tensor]:
        named = trained_parameters(self.taught)
        return [tensor.grad for tensor in named.values() if tensor.grad is not None]

    def save(self, slot: int, folder: Path) -> None:
        if self.low is None:
            with quiet():
                self.base.pipeline.save_pretrained(str(folder), safe_serialization=True)
            forget_place(folder / MODULAR_INDEX)
            return
        weights = {
            f"{name}.{key}": tensor
            for name, module in self.taught.items()
            for key, tensor in get_peft_model_state_dict(module).items()
        }
        settings = {name: self.low.settings(name) for name in self.taught}
        if self.low.kind in FACTORED:
            save_factored(weights, settings, folder)
        else:
            save_adapter(weights, settings, folder)

    def aside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # who is drawn has left, and nobody else is here

    def close(self) -> None:
        """Nothing is left on the base once the trial has left."""


def trained_parameters(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.named_parameters()
        if tensor.requires_grad
    }


def forget_place(index: Path) -> None:
    """Have a modular pipeline's index, where there is one, say of no part that it lies in the
    folder that it was saved in: what is stored does not depend on where."""
    if index.exists():
        content = read_json(index)
        for entry in content.values():
            if isinstance(entry, list) and len(entry) == 3:
                entry[2]["pretrained_model_name_or_path"] = "."
        write_json(index, content)


def on_base(low: LowRank, base: LoadedPipeline, taught: Mapping[str, nn.Module]) -> LowRank:
    """The adapter on these parts of a base, without the layers that its family leaves out."""
    shapes = {
        name: {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
        for name, module in taught.items()
    }
    return low.on(base.family, shapes)


def save_adapter(
    weights: Mapping[str, Tensor], settings: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Write `MODULE.LAYER.lora_A.weight` … as a LoRA file that plain diffusers loads."""
    metadata = {"format": "pt", METADATA: lora_metadata(settings)}
    _save({published(name): tensor for name, tensor in weights.items()},
          folder / ADAPTER_FILE, metadata)  # fmt: skip


def _save(weights: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, file, metadata)
    settle_header(file)


def save_factored(
    weights: Mapping[str, Tensor], settings: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Write what LoRA files cannot hold: peft's own tensors, and its settings of each module."""
    named = {published(name, FACTORED[0]): tensor for name, tensor in weights.items()}
    _save(named, folder / FACTORED_FILE, None)
    (folder / FACTORED_CONFIG).write_text(factored_config(settings), encoding="utf-8")


def read_adapter(folder: Path, base: LoadedPipeline) -> dict[str, Tensor]:
    """What `save_adapter` wrote of the base, by the names that its modules have now."""
    tensors = load_file(folder / ADAPTER_FILE)
    if hasattr(base.modules.get("text_encoder"), "text_model"):
        return tensors
    return {
        k.replace("text_encoder.text_model.", "text_encoder.", 1): v for k, v in tensors.items()
    }
