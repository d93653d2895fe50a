"""The task that both loops train: method, base, character, and where.

The settings are those of conf/, read without Hydra, so that what is measured is what a sweep would
train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from charsweep.character import Character, load_character
from charsweep.core.errors import ConfigError
from charsweep.core.keys import keyed
from charsweep.core.methods import Method, method_of
from charsweep.core.plugins import CONF, identity_of, resolve
from charsweep.core.specs import Framing, ImageSetSpec, Plugin, SnapshotSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.system.hardware import find_card, usable_precision
from charsweep.engine.environment import find_device
from charsweep.models.weights import BaseWeights, find_base, find_folder

WIDTHS = (1, 2, 4, 8)  # where the models leave the width of a pack to measuring
FIRST_RATE, NEXT_RATE = 1e-4, 0.8  # of a pack's trials; none of them diverges
METHODS = ("lora", "dreambooth_lora", "dreambooth")  # those that teach a base
NAMING = ("name", "_target_")
# Of a base; the rest is its kind.
WHERE = ("path", "resolution", "vae", "variant", "prediction", "teaching_adapter")
SNAPSHOTS = 100  # steps between two, as the study keeps them


@dataclass(frozen=True)
class Task:
    """What both loops train: a method on a base, taught by the embedded drawings."""

    models: str
    method: Plugin
    weights: BaseWeights
    character: Character
    resolution: int
    precision: str
    device: torch.device
    threads: int | None
    widths: tuple[int, ...]
    batch_width: int  # images that are drawn at once

    @property
    def learner(self) -> Method:
        """The method itself."""
        return method_of(self.method)

    @property
    def has_prior(self) -> bool:
        return bool(self.learner.prior_images)

    def spec(self, width: int, number: int = 0) -> TrajectorySpec:
        """The trajectory of a pack's trial; trials differ in their learning rates."""
        return TrajectorySpec(
            base=self.weights.spec,
            character=self.character.spec,
            method=self.method,
            optimizer=_optimizer(),
            schedule=_plugin(_read("schedule/constant")),
            learning_rate=FIRST_RATE * NEXT_RATE**number,
            seed=0,
            batch_size=1,
            resolution=self.resolution,
            framing=Framing(),
            precision=self.precision,
            max_grad_norm=1.0,
            pack=width,
            class_images="bench" if self.has_prior else None,
            horizon=None,
        )

    def images(self, snapshot: SnapshotSpec, seeds: range, inference_steps: int) -> ImageSetSpec:
        """An exam of one prompt, drawn as conf/sampler/base.yaml says."""
        sampler = _read("sampler/base")
        return ImageSetSpec(
            snapshot=snapshot,
            sampler=Plugin("base", "", 1, {}),
            inference_steps=inference_steps,
            guidance_scale=sampler["guidance_scale"],
            negative_prompt=sampler["negative_prompt"],
            prompts=(self.character.spec.instance_prompt,),
            seeds=tuple(seeds),
            resolution=self.resolution,
            batch_width=sampler["batch_width"] or self.batch_width,
            precision=self.precision,
        )


def find_task(
    models: str | None, method: str, base: str | None, resolution: int | None,
    precision: str | None, device: str, threads: int | None, widths: tuple[int, ...] | None,
) -> Task:  # fmt: skip
    """What these options stand for; ConfigError where something cannot be."""
    place = _device(device)
    models = models or ("random" if place.type == "cuda" else "embedded")
    known, settings = _read(f"models/{models}"), _read(f"method/{method}")
    name = base or settings["base"]
    plugin = _plugin({**settings, "base": name})
    chosen = known["bases"][name]
    kind = _plugin({"name": name, **{k: v for k, v in chosen.items() if k not in WHERE}})
    alone = method_of(plugin).pack_key is None
    if alone and widths not in (None, (1,)):
        given = ",".join(map(str, widths))
        raise ConfigError(f"--packs {given}: {method} trains alone; leave --packs out")
    own = WIDTHS if known["pack"] == "auto" else (1, known["pack"])
    weights = find_base(chosen["path"], Store(Path()).made_weights, kind)
    settled = method_of(plugin).settled(weights.family)
    plugin = replace(plugin, settings={**plugin.settings, **settled})
    return Task(
        models=models,
        method=plugin,
        weights=weights,
        character=_character(),
        resolution=resolution or chosen["resolution"],
        precision=usable_precision(precision or known["precision"], find_card(place.type)),
        device=place,
        threads=threads,
        widths=(1,) if alone else widths or own,
        batch_width=known["batch_width"],
    )


def _device(name: str) -> torch.device:
    try:
        return find_device(name)
    except ConfigError as error:
        raise ConfigError(f"--device {name}: this machine has none; leave --device out") from error


def _character() -> Character:
    said = _read("character/unicorn_girl")
    words = {key: said[key] for key in ("identifier", "class_noun")}
    prompts = {}
    for key in ("instance_prompt", "class_prompt"):
        prompt = said[key]
        for word, text in words.items():
            prompt = prompt.replace(f"${{.{word}}}", text)
        prompts[key] = prompt
    return load_character(said["name"], find_folder(said["images"]), **words, **prompts)


def _optimizer() -> Plugin:
    settings = _read("optimizer/adamw")
    name, target = settings.pop("name"), settings.pop("_target_")
    # to this reader of YAML, 1e-8 is a text
    numbers = {k: float(v) if isinstance(v, str) else v for k, v in settings.items()}
    return Plugin(name, identity_of(target), 1, numbers)


def _plugin(settings: Mapping[str, Any]) -> Plugin:
    """What the class that a file of conf/ names makes of the file's settings."""
    target, own = settings["_target_"], {k: v for k, v in settings.items() if k not in NAMING}
    made = resolve(target)(**own)
    return Plugin(settings["name"], identity_of(target), type(made).version, keyed(made))


def _read(name: str) -> dict[str, Any]:
    """One file of conf/."""
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings
