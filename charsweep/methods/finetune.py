"""A pretrained base and a character in, a student whose weights or adapters train out.

DreamBooth, LoRA and DreamBooth + LoRA are this one class: they differ in what trains and on which
prompts (Ruiz et al. 2022, arXiv 2208.12242; Hu et al. 2021, arXiv 2106.09685).
"""

from __future__ import annotations

import contextlib
import json
import struct
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image
    from torch import Tensor

    from charsweep.bases import Base, Conditioning
    from charsweep.character import Character
    from charsweep.specs import TrajectorySpec

UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class FineTune:
    """What of the base trains, on which prompts, against which loss."""

    version: ClassVar[int] = 1

    base: str
    trains: Literal["weights", "adapters"]
    prompts: Literal["instance", "captions"]
    text_encoder: bool = False
    adapter: Literal["lora", "dora"] | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    prior_weight: Annotated[float, Field(ge=0)] = 0.0
    class_images: Annotated[int, Field(ge=1, le=10_000)] = 32
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None
    noise_offset: Annotated[float, Field(ge=0)] = 0.0

    def __post_init__(self) -> None:
        whole = (self.adapter, self.rank, self.alpha)
        if self.trains == "adapters" and None in whole:
            raise ValueError("trains=adapters needs adapter, rank and alpha")
        if self.trains == "weights" and whole != (None, None, None):
            raise ValueError("trains=weights takes no adapter, rank or alpha; use trains=adapters")

    def student(
        self,
        spec: TrajectorySpec,
        base: Base,
        character: Character,
        pictures: list[Image.Image],
        class_pictures: list[Image.Image],
    ) -> Student:
        """What trains, on `base`, which is put back when the student's `close` is called."""
        captions = list(character.captions)
        if self.prompts == "instance":
            captions = [character.instance_prompt] * len(pictures)
        lessons = Lessons(base, spec, "image", list(character.spec.digests), pictures, captions)
        prior = None
        if class_pictures:
            keys = [f"{spec.class_images}/{i}" for i in range(len(class_pictures))]
            prompts = [character.class_prompt] * len(class_pictures)
            prior = Lessons(base, spec, "class image", keys, class_pictures, prompts)
        return Student(self, spec, base, lessons, prior)


class Lessons:
    """Pictures and captions as latents and prompts; a batch is a function of (seed, step)."""

    def __init__(
        self,
        base: Base,
        spec: TrajectorySpec,
        purpose: str,
        keys: list[str],
        pictures: list[Image.Image],
        captions: list[str],
    ) -> None:
        import torch

        pairs = zip(keys, pictures, strict=True)
        latents = [base.latents(key, one, spec.resolution) for key, one in pairs]
        self.mean = torch.stack([mean for mean, _ in latents])
        self.std = torch.stack([std for _, std in latents])
        self.captions, self.purpose = captions, purpose
        self.seed, self.batch_size = spec.seed, spec.batch_size

    def batch(self, step: int) -> tuple[Tensor, list[str]]:
        """Latents (B, C, h, w) drawn from the posterior, and their captions.

        Every picture is seen once per epoch, in an order of its own per epoch.
        """
        import torch

        from charsweep.bases import generator

        count = len(self.captions)
        chosen = []
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            order = torch.randperm(
                count, generator=generator(self.seed, f"{self.purpose} order", place // count)
            )
            chosen.append(int(order[place % count]))
        mean, std = self.mean[chosen], self.std[chosen]
        noise = torch.randn(mean.shape, generator=generator(self.seed, self.purpose, step))
        return mean + std * noise.to(mean), [self.captions[i] for i in chosen]


class Student:
    """A base with something on it that trains; gives the loss of a step, saves and loads itself."""

    def __init__(
        self,
        method: FineTune,
        spec: TrajectorySpec,
        base: Base,
        lessons: Lessons,
        prior: Lessons | None,
    ) -> None:
        from diffusers import DDPMScheduler

        self.method, self.spec, self.base = method, spec, base
        self.lessons, self.prior = lessons, prior
        self.noising = DDPMScheduler.from_config(base.pipeline.scheduler.config)
        self.taught = {"unet": base.unet}
        if method.text_encoder:
            names = ("text_encoder", "text_encoder_2")
            self.taught |= {n: base.modules[n] for n in names if n in base.modules}
        self._stack = contextlib.ExitStack()
        if method.trains == "adapters":
            self._add_adapters()
        else:
            self._stack.enter_context(base.restored())
            for module in self.taught.values():
                module.requires_grad_(True)
        self.named = {
            f"{name}.{key}": tensor
            for name, module in self.taught.items()
            for key, tensor in module.named_parameters()
            if tensor.requires_grad
        }

    def _add_adapters(self) -> None:
        import torch
        from peft import LoraConfig

        from charsweep.bases import generator

        for name, module in self.taught.items():
            config = LoraConfig(
                r=self.method.rank or 0,
                lora_alpha=self.method.alpha,  # type: ignore[arg-type]  # peft multiplies by it
                init_lora_weights="gaussian",
                use_dora=self.method.adapter == "dora",
                target_modules=UNET_TARGETS if name == "unet" else TEXT_TARGETS,
            )
            with torch.random.fork_rng(devices=[]):  # peft draws from the global generator
                torch.manual_seed(generator(self.spec.seed, f"adapter {name}").initial_seed())
                module.add_adapter(config)

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.named.values())

    def loss(self, step: int) -> Tensor:
        """The denoising loss of one step (from 0), with the class images' part if there are any."""
        instance = self._loss(self.lessons, step)
        if self.prior is None:
            return instance
        return instance + self.method.prior_weight * self._loss(self.prior, step)

    def _loss(self, lessons: Lessons, step: int) -> Tensor:
        """Mean squared error of the noise or velocity that the base was made to predict."""
        import torch
        import torch.nn.functional as F

        from charsweep.bases import generator

        latents, captions = lessons.batch(step)
        seed, purpose = self.spec.seed, lessons.purpose
        noise_source = generator(seed, f"{purpose} noise", step)
        noise = torch.randn(latents.shape, generator=noise_source).to(latents)
        if self.method.noise_offset:  # Guttenberg 2023: one more normal number per channel
            offset = torch.randn(*latents.shape[:2], 1, 1, generator=noise_source)
            noise = noise + self.method.noise_offset * offset.to(latents)
        timesteps = torch.randint(
            self.noising.config.num_train_timesteps,
            (len(latents),),
            generator=generator(seed, f"{purpose} timestep", step),
        ).to(latents.device)
        noisy = self.noising.add_noise(latents, noise, timesteps)
        predicted = self.base.predict(
            noisy, timesteps, self._conditioning(captions), self.spec.resolution
        )
        target = noise
        if self.noising.config.prediction_type == "v_prediction":
            target = self.noising.get_velocity(latents, noise, timesteps)
        if self.method.min_snr_gamma is None:
            return F.mse_loss(predicted, target)
        each = F.mse_loss(predicted, target, reduction="none").mean(dim=(1, 2, 3))
        return (each * self._min_snr(timesteps)).mean()

    def _min_snr(self, timesteps: Tensor) -> Tensor:
        """Weights (N,) of Hang et al. 2023 (arXiv 2303.09556), equation 5 and its v form."""
        kept = self.noising.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = kept / (1 - kept)
        divisor = snr + 1 if self.noising.config.prediction_type == "v_prediction" else snr
        weights: Tensor = snr.clamp(max=self.method.min_snr_gamma) / divisor
        return weights

    def _conditioning(self, captions: list[str]) -> Conditioning:
        if self.method.text_encoder:
            return self.base.encode(captions)
        return self.base.texts(captions)

    def save(self, folder: Path) -> None:
        """Write what a person would use: a LoRA file, or a whole pipeline folder."""
        from peft import get_peft_model_state_dict

        from charsweep.bases import quiet

        pipeline = self.base.pipeline
        if self.method.trains == "weights":
            with quiet():
                pipeline.save_pretrained(folder, safe_serialization=True)
            return
        layers = {}
        for name, module in self.taught.items():
            state = get_peft_model_state_dict(module)
            if (
                name == "text_encoder"
            ):  # the published name of a layer that transformers 5 flattened
                state = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in state.items()}
            layers[f"{name}_lora_layers"] = state
            config = module.peft_config["default"].to_dict()
            config["target_modules"] = sorted(config["target_modules"])  # a set has no order
            layers[f"{name}_lora_adapter_metadata"] = config
        pipeline.save_lora_weights(folder, **layers)
        for path in folder.glob("*.safetensors"):
            settle_header(path)

    def close(self) -> None:
        """Put the base back as it was."""
        if self.method.trains == "adapters":
            self.base.pipeline.unload_lora_weights()
        for module in self.taught.values():
            module.requires_grad_(False)
            module.zero_grad(set_to_none=True)
        self._stack.close()


def settle_header(path: Path) -> None:
    """Sort a safetensors header: the library writes its metadata in an order of chance.

    So that the same weights are the same file, byte for byte.
    """
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    padded = header.encode().ljust((len(header.encode()) + 7) // 8 * 8)
    path.write_bytes(struct.pack("<Q", len(padded)) + padded + data[8 + length :])
