"""The plain training loop to compare with, as diffusers' public example scripts write it.

The loop is theirs, call by call: `unet.add_adapter` with a Gaussian start, one `AdamW`,
`get_scheduler`, `Accelerator.prepare`; then `accelerator.accumulate`, latents sampled from the VAE,
noise and timesteps from the global generator, `DDPMScheduler.add_noise`, the U-Net, the loss in
float32, `accelerator.backward`, `clip_grad_norm_`, optimizer and schedule, `zero_grad`, the loss
read and shown after every step. Frozen weights are in the precision of the run, the VAE of SDXL in
float32; new adapters get the precision of the layers that they are on, as there, but float32 under
fp16. Which script:

    lora             text_to_image/train_text_to_image_lora_sdxl.py
    dreambooth_lora  dreambooth/train_dreambooth_lora_sdxl.py
    dreambooth       dreambooth/train_dreambooth.py, with prior preservation

Where this differs from the scripts, it is the faster: the drawings are opened by Pillow and not
through the `datasets` library, no tracker is behind `accelerator.log` (the scripts' default is
TensorBoard), no checkpoint is written (theirs is every 500 steps), nothing is validated, and a card
multiplies float32 as it does for charsweep (for theirs exactly, without --allow_tf32).
`Script.with_caches` is the same loop with what scripts of that family offer to save time: latents
and embeddings computed beforehand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.optimization import get_scheduler
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from benchmarks.speed.clock import Timed, synchronize
from benchmarks.speed.ours import encoders
from benchmarks.speed.scripts import Drawings, Script
from benchmarks.speed.task import FIRST_RATE, Task
from charsweep.core.specs import SnapshotSpec
from charsweep.models.load import ready
from charsweep.models.pipeline import quiet
from charsweep.models.precision import dtype_of, set_products


class Reference:
    """The plain loop, one learning rate at a time."""

    rest = "data"
    width = 1

    def __init__(self, task: Task, script: Script) -> None:
        self.task, self.script = task, script
        set_products(task.precision)
        mixed = "no" if task.precision in ("fp32", "tf32") else task.precision
        self.accelerator = Accelerator(mixed_precision=mixed, cpu=task.device.type == "cpu")
        self.dtype = dtype_of(task.precision)
        names = task.weights.family.encoders
        self.is_xl = len(names) > 1
        with quiet():
            self.pipeline = self._load()
        self.vae, unet = self.pipeline.vae, self.pipeline.unet
        self.text_encoders = [getattr(self.pipeline, name) for name in names]
        self.noise_scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        method = task.method.settings
        if method["trains"] == "adapters":
            unet.add_adapter(
                LoraConfig(
                    r=method["rank"], lora_alpha=method["alpha"], init_lora_weights="gaussian",
                    target_modules=list(method["target_modules"]),
                )
            )  # fmt: skip
            if task.precision == "fp16":
                cast_training_params(unet, dtype=torch.float32)
        parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=FIRST_RATE, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
        )
        tokenizers = [getattr(self.pipeline, name.replace("text_encoder", "tokenizer"))
                      for name in names]  # fmt: skip
        drawings = Drawings(task, script, tokenizers)
        self.embeddings = self._embeddings(drawings) if script.encodes_prompts_once else {}
        loader = DataLoader(drawings, batch_size=1, shuffle=True, collate_fn=lambda batch: batch[0])
        schedule = get_scheduler("constant", optimizer)
        self.unet, self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            unet, optimizer, loader, schedule
        )
        self.parameters = parameters
        self.latents = self._latents(drawings) if script.encodes_pictures_once else {}
        for module in (*self.text_encoders, self.vae):
            if self.latents if module is self.vae else self.embeddings:
                module.to("cpu")  # the scripts delete it
        self.nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - closed by `close`
        self.bar = tqdm(desc="Steps", file=self.nowhere)
        self.steps = self._train()

    def _load(self) -> Any:
        """The pipeline: frozen weights in the run's precision, the VAE of SDXL and weights that
        train in float32."""
        path, device = ready(self.task.weights.pipeline), self.accelerator.device
        pipeline = DiffusionPipeline.from_pretrained(
            path, dtype=torch.float32, local_files_only=True
        )
        pipeline.set_progress_bar_config(disable=True)
        frozen = {name: part for name, part in pipeline.components.items()
                  if isinstance(part, torch.nn.Module)}  # fmt: skip
        if self.task.method.settings["trains"] == "weights":
            del frozen["unet"]
        for name, part in frozen.items():
            part.requires_grad_(False)
            is_exact = name == "vae" and self.is_xl  # to avoid NaN losses
            part.to(device, torch.float32 if is_exact else self.dtype)
        return pipeline

    def _train(self) -> Generator[None]:
        """The loop; yields after each step."""
        accelerator, step = self.accelerator, 0
        while True:
            self.unet.train()
            train_loss = 0.0
            for batch in self.loader:
                with accelerator.accumulate(self.unet):
                    loss = self._loss(*self._inputs(batch))
                    if self.script.gathers_losses:
                        train_loss += accelerator.gather(loss.repeat(1)).mean().item()
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(self.parameters, 1.0)
                    self.optimizer.step()
                    self.schedule.step()
                    self.optimizer.zero_grad()
                logs = {"loss": loss.detach().item(), "lr": self.schedule.get_last_lr()[0]}
                if accelerator.sync_gradients:
                    step += 1
                    self.bar.update(1)
                    accelerator.log({"train_loss": train_loss, **logs}, step=step)
                    train_loss = 0.0
                self.bar.set_postfix(**logs)
                yield

    def _inputs(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents, embedded prompts and pooled prompts of a batch."""
        hidden, pooled = self._prompts(batch)
        if self.latents:  # as a cache of posteriors is used: drawn from anew at every step
            latents = self.latents[batch["index"]].sample()
        else:
            latents = self.vae.encode(batch["pixels"].to(self.vae.dtype)).latent_dist.sample()
        latents = (latents * self.vae.config.scaling_factor).to(self.dtype)
        return latents, hidden, pooled

    def _loss(self, latents: Tensor, hidden: Tensor, pooled: Tensor | None) -> Tensor:
        """The mean squared error of the predicted noise, plus that of the prior if there is one."""
        noise = torch.randn_like(latents)
        timesteps = torch.randint(
            0, self.noise_scheduler.config.num_train_timesteps, (len(latents),),
            device=latents.device,
        ).long()  # fmt: skip
        noisy = self.noise_scheduler.add_noise(latents, noise, timesteps)
        added = None
        if pooled is not None:
            size = self.task.resolution
            time_ids = torch.tensor([[size, size, 0, 0, size, size]] * len(latents))
            added = {"text_embeds": pooled, "time_ids": time_ids.to(latents)}
        predicted = self.unet(noisy, timesteps, hidden, added_cond_kwargs=added).sample
        target = noise
        if self.noise_scheduler.config.prediction_type == "v_prediction":
            target = self.noise_scheduler.get_velocity(latents, noise, timesteps)
        if not self.task.has_prior:
            return F.mse_loss(predicted.float(), target.float(), reduction="mean")
        predicted, predicted_prior = torch.chunk(predicted, 2, dim=0)
        target, target_prior = torch.chunk(target, 2, dim=0)
        prior = F.mse_loss(predicted_prior.float(), target_prior.float(), reduction="mean")
        loss = F.mse_loss(predicted.float(), target.float(), reduction="mean")
        weight: float = self.task.learner.loss.prior_weight
        return loss + weight * prior

    def _prompts(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        if not self.embeddings:
            return self._encode(batch["ids"])
        found = [self.embeddings[prompt] for prompt in batch["prompts"]]
        pooled = [embedding for _, embedding in found if embedding is not None]
        return torch.cat([hidden for hidden, _ in found]), torch.cat(pooled) if pooled else None

    def _encode(self, ids: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        hidden, pooled = [], None
        for own, encoder in zip(ids, self.text_encoders, strict=True):
            if not self.is_xl:
                return encoder(own.to(encoder.device))[0], None
            output = encoder(own.to(encoder.device), output_hidden_states=True)
            pooled = output[0]
            hidden.append(output.hidden_states[-2])
        return torch.cat(hidden, dim=-1), pooled

    # -- what can be computed beforehand -------------------------------------------------------

    @torch.no_grad()
    def _embeddings(self, drawings: Drawings) -> dict[str, tuple[Tensor, Tensor | None]]:
        prompts = sorted({prompt for item in drawings.all() for prompt in item["prompts"]})
        return {prompt: self._encode(drawings.tokens([prompt])) for prompt in prompts}

    @torch.no_grad()
    def _latents(self, drawings: Drawings) -> dict[int, Any]:
        device = self.accelerator.device
        return {
            item["index"]: self.vae.encode(item["pixels"].to(device, self.vae.dtype)).latent_dist
            for item in drawings.all()
        }

    # -- measured ------------------------------------------------------------------------------

    def advance(self, steps: int) -> float:
        """Train so many steps more; seconds of one."""
        synchronize(self.task.device)
        started = time.perf_counter()
        for _ in range(steps):
            next(self.steps)
        synchronize(self.task.device)
        return (time.perf_counter() - started) / steps

    def flops(self) -> int:
        """Floating-point operations of one step in the U-Net, forward and backward."""
        inputs = self._inputs(next(iter(self.loader)))
        with FlopCounterMode(display=False) as counter:
            self._loss(*inputs).backward()
        self.optimizer.zero_grad()
        return int(counter.get_total_flops())

    @property
    def functions(self) -> list[Timed]:
        """Where the parts of a step are spent."""
        return [
            (self.unet, "forward", "forward"),
            (self.optimizer, "zero_grad", "optimizer"),
            (self.schedule, "step", "optimizer"),
            (self.accelerator, "gather", "logging"),
            (self.accelerator, "log", "logging"),
            (self.bar, "update", "logging"),
            (self.bar, "set_postfix", "logging"),
            *encoders(self.pipeline),
        ]

    def draw(self, seeds: range, inference_steps: int) -> float:
        """Draw images one after the other, as the scripts validate; seconds of one."""
        device = self.accelerator.device
        self.pipeline.unet = self.accelerator.unwrap_model(self.unet)
        self.pipeline.to(device)
        spec = self.task.images(SnapshotSpec(self.task.weights.spec, 0), seeds, inference_steps)
        started = time.perf_counter()
        for seed in seeds:
            with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
                self.pipeline(
                    self.task.character.spec.instance_prompt,
                    num_inference_steps=inference_steps,
                    guidance_scale=spec.guidance_scale,
                    height=self.task.resolution,
                    width=self.task.resolution,
                    generator=torch.Generator(device).manual_seed(seed),
                )
        synchronize(device)
        return (time.perf_counter() - started) / len(seeds)

    def close(self) -> None:
        self.steps.close()
        self.bar.close()
        self.nowhere.close()
        self.accelerator.free_memory()
