"""A loaded diffusers pipeline with cached latents and text embeddings.

`charsweep.models.load` makes one.

A base is loaded once per process and is the same, bit for bit, between trajectories: whoever puts
adapters on it or changes its weights puts it back (`LoadedPipeline.digest` shows it). Latents and
text embeddings of the untouched base are computed once and kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections import ChainMap
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from transformers.utils import logging as transformers_logging

from charsweep.core.errors import ModelsError
from charsweep.core.specs import BaseSpec
from charsweep.core.store.files import read_json
from charsweep.models.adapter_changes import at_strength, changed, rows_of
from charsweep.models.adapter_file import (
    ADAPTER_FILE,
    FACTORED,
    FACTORED_CONFIG,
    FACTORED_FILE,
    MAGNITUDE,
)
from charsweep.models.conditioning import Conditioning, join
from charsweep.models.families import Family
from charsweep.models.foreign_adapter import AdapterLayer, adapter_layers, plain_shapes


@dataclass
class LoadedPipeline:
    """A pretrained pipeline, loaded in this process: encodes, predicts, draws."""

    spec: BaseSpec
    family: Family
    pipeline: Any
    device: torch.device
    dtype: torch.dtype = torch.float32  # of all but the autoencoder
    _latents: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _texts: dict[str, Conditioning] = field(default_factory=dict)

    @property
    def denoiser(self) -> Any:
        return self.modules[self.family.denoiser]

    @property
    def text_encoders(self) -> list[Any]:
        return [self.modules[name] for name in self.family.encoders if name in self.modules]

    @property
    def tokenizers(self) -> list[Any]:
        """Of each of the text encoders, what makes numbers of its prompts."""
        pairs = zip(self.family.encoders, self.family.tokenizers, strict=True)
        return [getattr(self.pipeline, own) for name, own in pairs if name in self.modules]

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """Everything with weights, by its name in the pipeline."""
        parts = self.pipeline.components.items()
        return {name: part for name, part in parts if isinstance(part, torch.nn.Module)}

    def parts(self, names: Iterable[str]) -> dict[str, torch.nn.Module]:
        """Those of these parts that it has."""
        return {name: self.modules[name] for name in names if name in self.modules}

    def digest(self) -> str:
        """Digest of all weights as they are now, names and bytes."""
        total = hashlib.sha256()
        for name, module in self.modules.items():
            for key, tensor in module.state_dict().items():
                total.update(f"{name}.{key}".encode())
                total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return total.hexdigest()[:16]

    # -- images and texts ----------------------------------------------------------------------

    def latents(self, key: Hashable, picture: Image.Image) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (C, h, w), of the latent of a picture as it is.

        Scaled as the denoiser expects them; computed once per process and `key`.
        """
        if key not in self._latents:
            self.bring("vae")
            pixels = pixels_of([picture]).to(self.device)
            with torch.no_grad():
                mean, deviation = self.family.latents(self.pipeline, pixels)
            self._latents[key] = (mean[0], deviation[0])
        return self._latents[key]

    def texts(self, prompts: Sequence[str], *, keep: bool = True) -> Conditioning:
        """Embeddings of prompts by the untouched text encoders.

        Each by itself and in their own precision, whoever asks; kept while the process lives,
        unless there may be too many.
        """
        known = self._texts if keep else ChainMap({}, self._texts)
        for prompt in prompts:
            if prompt not in known:
                self.bring(*self.family.encoders)
                with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                    known[prompt] = self.encode([prompt])
        return join([known[prompt] for prompt in prompts])

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Embeddings of prompts by the text encoders as they are now, with gradients if wanted."""
        return self.family.embed(self.pipeline, prompts)

    def predict(
        self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, sizes: Tensor
    ) -> Tensor:
        """The denoiser's output for latents (N, C, h, w) and timesteps (N,).

        `sizes` (N, 6), in pixels: height and width of the picture before it was cropped, top and
        left of the crop, height and width of the crop (Podell et al. 2023, section 2.2).
        """
        told = conditioning.to(self.dtype)
        predicted = self.family.predict(self.pipeline, noisy.to(self.dtype), timesteps, told, sizes)
        return predicted.float()

    # -- where it lies and how it works -------------------------------------------------------

    def send(self, tensor: Tensor) -> Tensor:
        """A CPU tensor on its way to the device; nobody waits until it is there."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def bring(self, *names: str) -> None:
        """Have parts, or all of them, on the device."""
        for name, module in self.modules.items():
            if not names or name in names:
                module.to(self.device)

    def put_away(self, *names: str) -> None:
        """Let parts leave a card's memory until they are needed."""
        if self.device.type == "cuda":
            for name in names:
                if name in self.modules:
                    self.modules[name].to("cpu")

    @contextlib.contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Until the block ends, activations are made anew, not kept (Chen et al. 2016)."""
        self.denoiser.enable_gradient_checkpointing()
        try:
            yield
        finally:
            self.denoiser.disable_gradient_checkpointing()

    @contextlib.contextmanager
    def compiled(self, mode: str = "default") -> Iterator[None]:
        """Until the block ends, the denoiser's repeated blocks run compiled, each as it is now.

        In one of torch.compile's modes, of which "reduce-overhead" makes CUDA graphs. Which blocks
        are repeated, some classes of diffusers' say only for how they are spread over devices.
        """
        denoiser = self.denoiser
        names = denoiser._repeated_blocks or denoiser._no_split_modules
        for module in denoiser.modules():
            if type(module).__name__ in names:
                module.compile(mode=mode)
        try:
            yield
        finally:
            for module in denoiser.modules():
                module._compiled_call_impl = None  # no public way back

    # -- snapshots -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def with_snapshot(self, folder: Path, strength: float = 1.0) -> Iterator[None]:
        """The base with the adapter, or the weights, in `folder`; put back afterwards.

        At strength 1, adapters lie beside the weights; at others, weights are changed in part.
        """
        is_lora = (folder / ADAPTER_FILE).exists()
        is_adapter = is_lora or (folder / FACTORED_FILE).exists()
        if is_adapter and strength != 1:
            with self.changed(folder / (ADAPTER_FILE if is_lora else FACTORED_FILE), strength):
                yield
        elif is_adapter:
            try:
                if is_lora:
                    with quiet():
                        self.pipeline.load_lora_weights(folder, weight_name=ADAPTER_FILE)
                    self._put_magnitudes_on(folder / ADAPTER_FILE)
                else:
                    self._put_on(folder)
                yield
            finally:
                self.pipeline.unload_lora_weights()
        else:
            with self.restored():
                for name, module in self._teachable().items():
                    weights = _weights(folder / name)
                    if strength != 1:
                        own = module.state_dict()
                        weights = {
                            key: at_strength(own[key], after.to(own[key].device), strength)
                            if after.is_floating_point() else after
                            for key, after in weights.items()
                        }  # fmt: skip
                    module.load_state_dict(weights)
                yield

    @contextlib.contextmanager
    def fused(self, adapter: Mapping[str, Tensor], scale: float) -> Iterator[None]:
        """The base with a low-rank adapter added to its weights; put back, bit for bit, afterwards.

        `adapter` has `MODULE.LAYER.lora_A.weight` and `….lora_B.weight` of each layer.
        """
        kept: dict[str, Tensor] = {}
        try:
            with torch.no_grad():
                for name in (name for name in adapter if name.endswith(".lora_A.weight")):
                    layer = name.removesuffix(".lora_A.weight")
                    weight = self._weight(layer)
                    kept[layer] = weight.clone()
                    a, b = adapter[name], adapter[f"{layer}.lora_B.weight"]
                    change = scale * (b.flatten(1).float() @ a.flatten(1).float())
                    weight.copy_(weight.float() + change.view(weight.shape).to(weight.device))
            yield
        finally:
            with torch.no_grad():
                for layer, weight in kept.items():
                    self._weight(layer).copy_(weight)

    @contextlib.contextmanager
    def changed(self, file: Path, strength: float = 1.0) -> Iterator[None]:
        """The base with what an adapter file of any program changes, as far as the strength says;
        put back afterwards.

        Raises `ModelsError` where the file is not whole, or of another base.
        """
        with self.composed([(file, 1.0)], strength):
            yield

    @contextlib.contextmanager
    def composed(
        self, files: Iterable[tuple[Path, float]], strength: float = 1.0
    ) -> Iterator[Sequence[Tensor]]:
        """The base with several adapter files, each at a strength of its own times the common one;
        the tensors that they change.

        Put back afterwards. What each adds does not depend on the others, unless it is DoRA; a
        weight in half precision is rounded once, when all have changed it. Raises as `changed`.
        """
        taught = self._teachable()
        kept: list[tuple[Tensor, Tensor]] = []
        try:
            with torch.no_grad(), contextlib.ExitStack() as opened:
                changes = self._changes(files, taught, opened)
                for (module, path), own in changes.items():
                    self.bring(module)
                    found = _layer(taught[module], path)
                    kept.append((found.weight, found.weight.clone()))
                    weight = found.weight.float()
                    for layer, file, part in own:
                        tensors = {
                            name: file.get_tensor(called).to(self.device)
                            for name, called in layer.tensors.items()
                        }
                        after = changed(layer, tensors, weight)
                        weight = at_strength(weight, after, part * strength)
                        if "diff_b" in tensors:
                            kept.append((found.bias, found.bias.clone()))
                            more = rows_of(layer, tensors["diff_b"])
                            found.bias.add_(more, alpha=part * strength)
                    found.weight.copy_(weight)
            yield [tensor for tensor, _ in kept]
        finally:
            with torch.no_grad():
                for tensor, was in reversed(kept):
                    tensor.copy_(was)

    @contextlib.contextmanager
    def apart(self, files: Iterable[tuple[Path, float]]) -> Iterator[Callable[[int], None]]:
        """The base with one of several adapter files at a time, each at its own strength: what puts
        the one at a place on.

        Put back afterwards; raises as `changed`.
        """
        states: list[dict[Tensor, Tensor]] = []
        for file in files:
            with self.composed([file]) as tensors:
                states.append({tensor: tensor.detach().clone() for tensor in tensors})
        plain = {tensor: tensor.data for state in states for tensor in state}

        def choose(place: int) -> None:
            for tensor, own in {**plain, **states[place]}.items():
                tensor.data = own

        try:
            yield choose
        finally:
            for tensor, own in plain.items():
                tensor.data = own

    def _changes(
        self,
        files: Iterable[tuple[Path, float]],
        taught: Mapping[str, torch.nn.Module],
        opened: contextlib.ExitStack,
    ) -> dict[tuple[str, str], list[tuple[AdapterLayer, Any, float]]]:
        """By module and layer, what files change of it, each opened and with its strength."""
        states = {name: module.state_dict() for name, module in taught.items()}
        shapes = {n: {key: list(t.shape) for key, t in own.items()} for n, own in states.items()}
        found: dict[tuple[str, str], list[tuple[AdapterLayer, Any, float]]] = {}
        for path, strength in files:
            try:
                layers = adapter_layers(path, plain_shapes(shapes), list(taught))
            except ModelsError as error:
                raise ModelsError(
                    f"the adapter cannot be put on {self.spec.name}: {error}"
                ) from error
            file = opened.enter_context(safe_open(path, "pt"))
            for layer in layers:
                found.setdefault((layer.module, layer.layer), []).append((layer, file, strength))
        return found

    def _weight(self, layer: str) -> Tensor:
        """The weight of `MODULE.LAYER`."""
        module, _, path = layer.partition(".")
        weight: Tensor = self.modules[module].get_submodule(path).weight  # type: ignore[assignment]
        return weight

    def _put_on(self, folder: Path) -> None:
        """Put peft's own kind of adapter file on the modules that it names."""
        from peft import PeftConfig, set_peft_model_state_dict
        from safetensors.torch import load_file

        tensors = load_file(folder / FACTORED_FILE)
        for name, settings in read_json(folder / FACTORED_CONFIG).items():
            module: Any = self.modules[name]
            kind: Any = PeftConfig
            if str(settings.get("peft_type")).lower() not in FACTORED:  # others import modules
                raise ModelsError(
                    f"{folder / FACTORED_CONFIG} is of no kind that is written there "
                    f"({', '.join(FACTORED)}); delete {folder} and run the sweep's command again"
                )
            module.add_adapter(kind.from_peft_type(**settings))
            prefix = f"{name}."
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            set_peft_model_state_dict(module, own)
            module.requires_grad_(False)

    def _put_magnitudes_on(self, file: Path) -> None:
        """Text encoders' magnitudes by the name that files once had, which transformers skips."""
        with safe_open(file, "pt") as opened, torch.no_grad():
            for name in opened.keys():  # noqa: SIM118  # it is no mapping
                module, _, rest = name.partition(".")
                layer, _, is_last = rest.rpartition(".")
                if module.startswith("text_encoder") and is_last == MAGNITUDE:
                    found = _layer(self.modules[module], layer.removeprefix("text_model."))
                    for magnitudes in found.lora_magnitude_vector.values():
                        magnitudes.weight.copy_(opened.get_tensor(name))

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Put all that can be taught back, bit for bit, when the block ends; kept off a card."""
        kept = {
            name: {key: tensor.to("cpu", copy=True) for key, tensor in module.state_dict().items()}
            for name, module in self._teachable().items()
        }
        try:
            yield
        finally:
            for name, state in kept.items():
                self.modules[name].load_state_dict(state)

    def _teachable(self) -> dict[str, torch.nn.Module]:
        return self.parts(self.family.taught(text_encoder=True))


def _layer(module: torch.nn.Module, path: str) -> Any:
    """A layer by its name, with the level `text_model` or, since transformers 5, without."""
    wrapped = getattr(module, "text_model", None)
    try:
        return (module if wrapped is None else wrapped).get_submodule(path)
    except AttributeError:  # a projection lies beside that level
        return module.get_submodule(path)


def pixels_of(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures as NCHW float in [-1, 1]."""
    arrays = [np.asarray(picture, dtype=np.float32) / 127.5 - 1.0 for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelsError(f"{folder} holds no safetensors; delete the snapshot and run again")
    return {key: tensor for file in files for key, tensor in load_file(file).items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' notices about loading (harmless, and not ours) off the screen."""
    names = (None, "diffusers", "transformers", "peft", "open_clip", "timm")  # None: the root
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    try:
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        disable_progress_bar()
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
