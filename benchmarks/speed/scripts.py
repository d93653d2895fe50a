"""The batches of diffusers' example scripts: images as pixels, prompts as token ids.

What a script does once or at every step is in `SCRIPTS`, its own defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from benchmarks.speed.task import Task


@dataclass(frozen=True)
class Script:
    """What one script does once, where the others do it at every step."""

    opens_pictures_once: bool
    encodes_prompts_once: bool
    encodes_pictures_once: bool = False
    gathers_losses: bool = False

    def with_caches(self) -> Script:
        return replace(
            self, opens_pictures_once=True, encodes_prompts_once=True, encodes_pictures_once=True
        )


SCRIPTS = {
    "lora": Script(opens_pictures_once=False, encodes_prompts_once=False, gathers_losses=True),
    "dreambooth_lora": Script(opens_pictures_once=True, encodes_prompts_once=True),
    "dreambooth": Script(opens_pictures_once=False, encodes_prompts_once=False),
}


class Drawings(Dataset[dict[str, Any]]):
    """Pictures as pixels in [-1, 1] and prompts as token ids, made when they are asked for.

    With prior preservation, each comes with a picture and the prompt of the class.
    """

    def __init__(self, task: Task, script: Script, tokenizers: list[Any]) -> None:
        self.task, self.script, self.tokenizers = task, script, tokenizers
        size = task.resolution
        self.crop = transforms.Compose(
            [
                transforms.Resize(size, transforms.InterpolationMode.BILINEAR),
                transforms.RandomCrop(size),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )
        once = script.opens_pictures_once
        self.pixels = [self._open(index) for index in range(len(self))] if once else None

    def __len__(self) -> int:
        return len(self.task.character.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        character = self.task.character.spec
        instance = self.task.method.settings["prompts"] == "instance"
        prompts = [character.instance_prompt if instance else character.captions[index]]
        pictures = [self.pixels[index] if self.pixels else self._open(index)]
        if self.task.has_prior:  # the drawings stand in for pictures of the class
            prompts.append(character.class_prompt)
            pictures.append(self.pixels[index] if self.pixels else self._open(index))
        ids = [] if self.script.encodes_prompts_once else self.tokens(prompts)
        return {"pixels": torch.stack(pictures), "ids": ids, "prompts": prompts, "index": index}

    def all(self) -> Iterator[dict[str, Any]]:
        """Each once, in order."""
        return (self[index] for index in range(len(self)))

    def tokens(self, prompts: list[str]) -> list[Tensor]:
        """Token ids of prompts, by each tokenizer."""
        return [
            tokenizer(
                prompts, padding="max_length", max_length=tokenizer.model_max_length,
                truncation=True, return_tensors="pt",
            ).input_ids
            for tokenizer in self.tokenizers
        ]  # fmt: skip

    def _open(self, index: int) -> Tensor:
        with Image.open(self.task.character.paths[index]) as image:
            upright = ImageOps.exif_transpose(image)
            pixels: Tensor = self.crop(upright.convert("RGB"))
        return pixels
