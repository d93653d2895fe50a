"""Overrides in, a checked and frozen `Sweep` out; the only file that knows Hydra.

YAML is composed by Hydra, checked by pydantic (all mistakes are collected and shown together) and
turned into specs. A cell whose axes name another file of a config group (`method=lora`) or a field
inside one (`method.rank=8`) is composed anew with that override, once per combination; the four
plain numbers (lr, train_steps, inference_steps, seed) are filled in directly.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field, StringConstraints

from charsweep.character import Character, load_character, load_truth
from charsweep.errors import CharsweepError, ConfigError
from charsweep.plugins import resolve
from charsweep.specs import (
    BaseSpec,
    Cell,
    EncoderSpec,
    ImageSetSpec,
    Plugin,
    SnapshotSpec,
    TrajectorySpec,
    TruthSpec,
)
from charsweep.weights import find_folder, pipeline_kind, weights_digest

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parent / "conf")
    if (folder / "config.yaml").exists()
)
NOT_AXES = ("action", "name", "question", "root", "runtime", "axes", "objectives", "models",
            "character", "exam", "metric")  # fmt: skip
STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Rate = Annotated[float, Field(gt=0, le=100)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
InferenceSteps = Annotated[int, Field(ge=1, le=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Pixels = Annotated[int, Field(ge=16, le=4096, multiple_of=8)]
FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]

_FINITE = ConfigDict(allow_inf_nan=False)
PLAIN_AXES: dict[str, pydantic.TypeAdapter[Any]] = {
    "lr": pydantic.TypeAdapter(tuple[Rate, ...], config=_FINITE),
    "train_steps": pydantic.TypeAdapter(tuple[Steps, ...]),
    "inference_steps": pydantic.TypeAdapter(tuple[InferenceSteps, ...]),
    "seed": pydantic.TypeAdapter(tuple[Seed, ...]),
}
ALWAYS = ("method", *PLAIN_AXES)


class _Base(pydantic.BaseModel):
    model_config = STRICT
    path: Text
    resolution: Pixels


class _Encoder(pydantic.BaseModel):
    model_config = STRICT
    path: Text
    resize: Annotated[int, Field(ge=16, le=1024)]
    crop: Annotated[int, Field(ge=16, le=1024)]


class _Models(pydantic.BaseModel):
    model_config = STRICT
    name: Text
    bases: Annotated[dict[Text, _Base], Field(min_length=1)]
    encoders: dict[Literal["clip", "dino"], _Encoder]


class _Character(pydantic.BaseModel):
    model_config = STRICT
    name: Text
    images: Text
    identifier: Text
    class_noun: Text
    instance_prompt: Text
    class_prompt: Text
    truth: Text | None


class _Sampler(pydantic.BaseModel):
    model_config = STRICT
    name: Text
    target: Annotated[Text | None, Field(alias="_target_")]
    settings: dict[str, Any]
    guidance_scale: Annotated[float, Field(ge=1, le=100)]
    negative_prompt: str
    batch_width: Annotated[int, Field(ge=1, le=256)]


class _Exam(pydantic.BaseModel):
    model_config = STRICT
    name: Text
    prompts: Annotated[list[Text], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]


class _Plugin(pydantic.BaseModel):
    """A plug-in's own settings are checked by its own class."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: Text
    target: Annotated[Text, Field(alias="_target_")]

    def plugin(self) -> Plugin:
        """Settings as the plug-in's class reads them, so that 4 and 4.0 are one key."""
        made = resolve(self.target)(**(self.model_extra or {}))
        return Plugin(self.name, self.target, type(made).version, asdict(made))


class _Optimizer(_Plugin):
    """A class of torch's or somebody else's: not even imported while planning."""

    def plugin(self) -> Plugin:
        return Plugin(self.name, self.target, 1, dict(self.model_extra or {}))


class Runtime(pydantic.BaseModel):
    """Where and how the work is done; nothing of it is in a key."""

    model_config = STRICT
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    tracking: bool
    tracking_uri: Text | None
    resume_seconds: Annotated[float, Field(gt=0)]


class Settings(pydantic.BaseModel):
    """The whole configuration of one combination of axis values."""

    model_config = STRICT
    action: Literal["run", "plan", "report"]
    name: FolderName
    question: str
    root: Text
    lr: Rate
    train_steps: Steps
    inference_steps: InferenceSteps
    seed: Seed
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    resolution: Pixels | None
    precision: Literal["fp32"]
    max_grad_norm: Annotated[float, Field(gt=0)]
    axes: dict[str, Any]
    objectives: Annotated[dict[Text, Literal["maximize", "minimize"]], Field(min_length=1)]
    models: _Models
    character: _Character
    method: _Plugin
    schedule: _Plugin
    optimizer: _Optimizer
    sampler: _Sampler
    exam: _Exam
    metric: Annotated[dict[Text, dict[str, Any]], Field(min_length=1)]
    runtime: Runtime


@dataclass(frozen=True)
class Sweep:
    """What was asked: the settings, the axes and the cells they span."""

    overrides: tuple[str, ...]
    settings: Settings
    resolved: Mapping[str, Any]  # the composed configuration as plain data, for the record
    axes: Mapping[str, tuple[Any, ...]]
    character: Character
    cells: tuple[Cell, ...]
    truth: ImageSetSpec | None
    truth_folder: Path | None
    bases: Mapping[str, Path]
    encoders: Mapping[str, tuple[EncoderSpec, Path]]
    meaning: Mapping[str, Any]  # what must stay the same for the study to go on

    @property
    def name(self) -> str:
        return self.settings.name

    @cached_property
    def root(self) -> Path:
        return Path(self.settings.root).expanduser().resolve()

    @property
    def folder(self) -> Path:
        return self.root / "sweeps" / self.name

    @property
    def command(self) -> str:
        return " ".join(["python -m charsweep", *self.overrides])


def load_sweep(overrides: Sequence[str]) -> Sweep:
    """Compose and check; ConfigError names everything that is wrong at once."""
    overrides, folders = _search_path(overrides)
    with _Composing(folders):
        raw = _compose(overrides)
        first = _check(raw)
        axes = _axes(first.axes, raw)
        combinations = list(_combinations(overrides, axes, first))
    character = _character(first)
    cells = tuple(itertools.chain(*(_cells(axes, *one, character) for one in combinations)))
    truth, truth_folder = _truth(first, cells[0], character)
    settings = [one[1] for one in combinations]
    return Sweep(
        overrides=tuple(overrides),
        settings=first,
        resolved=raw,
        axes=axes,
        character=character,
        cells=cells,
        truth=truth,
        truth_folder=truth_folder,
        bases={name: find_folder(first.models.bases[name].path) for name in _base_names(cells)},
        encoders=_encoders(first),
        meaning=_meaning(settings, cells, axes),
    )


# -- composing -------------------------------------------------------------------------------------


def _search_path(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off `--config-dir FOLDER`: a person's own conf folder, searched after ours."""
    left, folders = [], []
    words = iter(overrides)
    for word in words:
        if word.startswith("--config-dir"):
            folder = word.partition("=")[2] or next(words, "")
            if not Path(folder).is_dir():
                raise ConfigError(
                    f"--config-dir {folder}: no such folder; give one with YAML files"
                )
            folders.append(str(Path(folder).resolve()))
        else:
            left.append(word)
    return left, folders


class _Composing:
    """Hydra's global state, entered and left clean."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders

    def __enter__(self) -> None:
        GlobalHydra.instance().clear()
        initialize_config_dir(str(CONF), version_base="1.3", job_name="charsweep").__enter__()
        loader = GlobalHydra.instance().config_loader()
        for folder in self.folders:
            loader.get_search_path().append("own", f"file://{folder}")

    def __exit__(self, *error: object) -> None:
        GlobalHydra.instance().clear()


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    try:
        composed = compose("config", overrides=list(overrides))
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            raise ConfigError(
                "\n".join(f"{name} is not set; give it as {name}=VALUE" for name in missing)
            )
        plain = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides)) from error
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message in one paragraph, with the words that were typed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("full_key:", "object_type=")))
    text = re.sub(r"(Available options in '[^']+':) *", r"\1 ", text)
    text = re.sub(r"Config search path:.*", "", text)
    if sweep := next((o for o in overrides if o.startswith("sweep=")), None):
        return f"{sweep}: a sweep is added with a plus sign; type +{sweep}"
    return f"{text.strip()} (given: {' '.join(overrides) or 'nothing'})"


# -- checking --------------------------------------------------------------------------------------


def _check(raw: Mapping[str, Any]) -> Settings:
    problems: list[str] = []
    settings = None
    try:
        settings = Settings.model_validate(raw)
    except pydantic.ValidationError as error:
        problems += _problems(error)
    for group in ("method", "schedule"):
        if isinstance(raw.get(group), dict):
            problems += _plugin_problems(group, raw[group])
    metrics = raw.get("metric")
    for name, plugin in (metrics if isinstance(metrics, dict) else {}).items():
        problems += _plugin_problems(f"metric.{name}", {"name": name, **(plugin or {})})
    if settings is not None and not problems:
        problems += _sense(settings)
    if problems or settings is None:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return settings


def _problems(error: pydantic.ValidationError, prefix: str = "") -> list[str]:
    """One line per mistake: where, the value, what is wanted."""
    lines = []
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in (prefix, *one["loc"]) if str(part))
        if one["type"] == "extra_forbidden" or one["type"] == "unexpected_keyword_argument":
            lines.append(f"{where}: there is no such setting; take it out or mend its name")
        elif one["type"] in ("missing", "missing_argument"):
            lines.append(f"{where}: is missing; set it with {where}=VALUE")
        else:
            message = one["msg"].replace("Input should", "should")
            lines.append(f"{where}={one['input']}: {message}")
    return lines


def _plugin_problems(where: str, raw: Mapping[str, Any]) -> list[str]:
    try:
        _Plugin.model_validate(raw).plugin()
    except pydantic.ValidationError as error:
        return _problems(error, where)
    except CharsweepError as error:
        return [f"{where}: {error}"]
    except (TypeError, ValueError, AttributeError) as error:
        return [f"{where}: {error}; see the file in conf/{where.partition('.')[0]}/"]
    return []


def _sense(settings: Settings) -> list[str]:
    """What each field alone cannot say."""
    problems = []
    base = settings.method.plugin().settings.get("base")
    if base is not None and base not in settings.models.bases:
        known = ", ".join(settings.models.bases)
        problems.append(f"method.base={base}: models={settings.models.name} has {known}")
    for metric in settings.objectives:
        if metric not in settings.metric:
            problems.append(
                f"objectives.{metric}: not among the metrics ({', '.join(settings.metric)}); "
                "add it to metric=[...] or choose another objective"
            )
    for prompt in settings.exam.prompts:
        if "{subject}" not in prompt:
            problems.append(f"exam.prompts: '{prompt}' lacks {{subject}}, the character's place")
    for name in ("seeds", "prompts"):
        values = getattr(settings.exam, name)
        if len(set(values)) < len(values):
            problems.append(f"exam.{name}: a value stands there twice; take one out")
    if settings.character.identifier not in settings.character.instance_prompt:
        problems.append(
            f"character.instance_prompt='{settings.character.instance_prompt}': should contain "
            f"the identifier {settings.character.identifier}"
        )
    return problems


def _axes(raw: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Flatten `axes` to dotted names; each value a non-empty list without repeats."""
    axes: dict[str, tuple[Any, ...]] = {}
    problems = []
    for name, values in _leaves(raw):
        top = name.partition(".")[0]
        if not isinstance(values, list):
            problems.append(f"axes.{name}={values}: should be a list, as in axes.{name}=[1,2]")
        elif not values:
            problems.append(f"axes.{name}=[]: is empty; give values or take the axis out (~axes)")
        elif any(isinstance(value, dict | list) for value in values):
            problems.append(f"axes.{name}={values}: should list numbers or words")
        elif len({str(value) for value in values}) < len(values):
            problems.append(f"axes.{name}={values}: a value stands there twice; take one out")
        elif top not in config or top in NOT_AXES:
            possible = ", ".join(axis for axis in config if axis not in NOT_AXES)
            problems.append(f"axes.{name}: nothing of that name can vary; there is {possible}")
        else:
            axes[name] = tuple(values)
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def _leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# -- cells -----------------------------------------------------------------------------------------


def _combinations(
    overrides: Sequence[str], axes: Mapping[str, tuple[Any, ...]], first: Settings
) -> Iterator[tuple[dict[str, Any], Settings]]:
    """Each combination of the axes that need composing, with its settings."""
    names = [name for name in axes if name not in PLAIN_AXES]
    names.sort(key=lambda name: "." in name)  # a group is chosen before its fields are set
    for values in itertools.product(*(axes[name] for name in names)):
        chosen = dict(zip(names, values, strict=True))
        if not chosen:
            yield chosen, first
            continue
        typed = [f"{name}={_spell(value)}" for name, value in chosen.items()]
        yield chosen, _check(_compose([*overrides, *typed]))


def _spell(value: Any) -> str:
    """A value as Hydra's override grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _cells(
    axes: Mapping[str, tuple[Any, ...]],
    chosen: Mapping[str, Any],
    settings: Settings,
    character: Character,
) -> Iterator[Cell]:
    """The cells of one combination: every product of the four plain axes."""
    spans = [_plain_values(name, axes, settings) for name in PLAIN_AXES]
    trajectory = _trajectory(settings, character)
    class_images = _class_images(settings, trajectory)
    if class_images is not None:
        trajectory = replace(trajectory, class_images=class_images.key)
    needs_horizon = resolve(settings.schedule.target).needs_horizon
    template = _cell(settings, character, trajectory)
    untaught = replace(template.images, snapshot=SnapshotSpec(trajectory.base, 0))
    with_noun = replace(untaught, prompts=template.exam_prompts)
    trajectories: dict[tuple[float, int, int], TrajectorySpec] = {}
    for lr, steps, inference, seed in itertools.product(*spans):
        horizon = steps if needs_horizon else None
        taught = trajectories.setdefault(
            (lr, seed, horizon or 0),
            replace(trajectory, learning_rate=lr, seed=seed, horizon=horizon),
        )
        typed = {"method": settings.method.name, "lr": lr, "train_steps": steps,
                 "inference_steps": inference, "seed": seed}  # fmt: skip
        yield replace(
            template,
            class_images=class_images,
            values={**typed, **{k: v for k, v in chosen.items() if k not in typed}},
            images=replace(
                template.images, snapshot=SnapshotSpec(taught, steps), inference_steps=inference
            ),
            reference=replace(untaught, inference_steps=inference),
            noun=replace(with_noun, inference_steps=inference),
        )


def _plain_values(
    name: str, axes: Mapping[str, tuple[Any, ...]], settings: Settings
) -> tuple[Any, ...]:
    if name not in axes:
        return (getattr(settings, name),)
    try:
        values = PLAIN_AXES[name].validate_python(axes[name])
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_problems(error, f"axes.{name}"))) from error
    if len(set(values)) < len(values):
        raise ConfigError(f"axes.{name}={list(values)}: a value stands there twice; take one out")
    return tuple(values)


def _trajectory(settings: Settings, character: Character) -> TrajectorySpec:
    method = settings.method.plugin()
    name = str(method.settings.get("base", next(iter(settings.models.bases))))
    base = settings.models.bases[name]
    folder = find_folder(base.path)
    pipeline_kind(folder)
    return TrajectorySpec(
        base=BaseSpec(name, weights_digest(folder)),
        character=character.spec,
        method=method,
        optimizer=settings.optimizer.plugin(),
        schedule=settings.schedule.plugin(),
        learning_rate=settings.lr,
        seed=settings.seed,
        batch_size=settings.batch_size,
        resolution=settings.resolution or base.resolution,
        precision=settings.precision,
        max_grad_norm=settings.max_grad_norm,
        class_images=None,
        horizon=None,
    )


def _cell(settings: Settings, character: Character, trajectory: TrajectorySpec) -> Cell:
    sampler, exam = settings.sampler, settings.exam
    noun = character.class_noun
    article = "an" if noun[:1].lower() in "aeiou" else "a"
    images = ImageSetSpec(
        snapshot=SnapshotSpec(trajectory, settings.train_steps),
        sampler=Plugin(sampler.name, sampler.target or "", 1, sampler.settings),
        inference_steps=settings.inference_steps,
        guidance_scale=sampler.guidance_scale,
        negative_prompt=sampler.negative_prompt,
        prompts=tuple(p.replace("{subject}", character.identifier) for p in exam.prompts),
        seeds=tuple(exam.seeds),
        resolution=trajectory.resolution,
        batch_width=sampler.batch_width,
        precision=trajectory.precision,
    )
    encoders = _encoders(settings)
    return Cell(
        values={},
        images=images,
        reference=images,
        noun=None,
        class_images=None,
        metrics=tuple(
            _Plugin.model_validate({"name": name, **plugin}).plugin()
            for name, plugin in settings.metric.items()
        ),
        encoders=tuple(spec for spec, _ in encoders.values()),
        exam_prompts=tuple(p.replace("{subject}", f"{article} {noun}") for p in exam.prompts),
    )


def _class_images(settings: Settings, trajectory: TrajectorySpec) -> ImageSetSpec | None:
    """The class pictures of prior preservation: an image set of the untaught base.

    Drawn in one way whatever the sweep varies, so that all its trajectories share them.
    """
    method = trajectory.method.settings
    if not method.get("prior_weight"):
        return None
    return ImageSetSpec(
        snapshot=SnapshotSpec(trajectory.base, 0),
        sampler=Plugin("base", "", 1, {}),
        inference_steps=50,
        guidance_scale=5.0,
        negative_prompt="",
        prompts=(settings.character.class_prompt,),
        seeds=tuple(range(method["class_images"])),
        resolution=trajectory.resolution,
        batch_width=16,
        precision=trajectory.precision,
    )


def _encoders(settings: Settings) -> dict[str, tuple[EncoderSpec, Path]]:
    found = {}
    for name, encoder in settings.models.encoders.items():
        folder = find_folder(encoder.path)
        spec = EncoderSpec(name, weights_digest(folder), encoder.resize, encoder.crop)
        found[str(name)] = (spec, folder)
    return found


def _character(settings: Settings) -> Character:
    one = settings.character
    folder = find_folder(one.images) if one.images.startswith("embedded:") else Path(one.images)
    return load_character(
        one.name, folder.expanduser(), one.identifier, one.class_noun, one.instance_prompt,
        one.class_prompt,
    )  # fmt: skip


def _truth(
    settings: Settings, cell: Cell, character: Character
) -> tuple[ImageSetSpec | None, Path | None]:
    """The true pictures as an image set, so that they are scored like any other."""
    if settings.character.truth is None:
        return None, None
    folder = find_folder(settings.character.truth)
    asked = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    if asked != settings.exam.prompts:  # pictures of another exam
        return None, None
    digests = load_truth(folder, len(asked))
    spec = TruthSpec(character.name, tuple(digests), cell.images.resolution)
    drawn = Plugin("drawn", "", 1, {})
    return (
        replace(
            cell.images, snapshot=SnapshotSpec(spec, 0), sampler=drawn, inference_steps=1,
            guidance_scale=1.0, negative_prompt="", seeds=(0,),
        ),
        folder,
    )  # fmt: skip


def _base_names(cells: Sequence[Cell]) -> list[str]:
    return sorted({cell.trajectory.base.name for cell in cells})


def _meaning(
    settings: Sequence[Settings], cells: Sequence[Cell], axes: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """Everything that is the same for all cells of a study and not varied by it."""
    cell = cells[0]
    meaning: dict[str, Any] = {
        "character": asdict(cell.trajectory.character),
        "exam": {"prompts": settings[0].exam.prompts, "seeds": settings[0].exam.seeds},
        "encoders": {spec.name: asdict(spec) for spec in cell.encoders},
        "objectives": settings[0].objectives,
    }
    for one in cells:
        taught, images = one.trajectory, one.images
        fields = {
            f"base.{taught.base.name}": taught.base.digest,
            **{f"{taught.method.name}.{k}": v for k, v in taught.method.settings.items()},
            **{f"{taught.optimizer.name}.{k}": v for k, v in taught.optimizer.settings.items()},
            **{f"{taught.schedule.name}.{k}": v for k, v in taught.schedule.settings.items()},
            **{f"{images.sampler.name}.{k}": v for k, v in images.sampler.settings.items()},
            f"{images.sampler.name}.guidance_scale": images.guidance_scale,
            f"{images.sampler.name}.negative_prompt": images.negative_prompt,
            "optimizer": taught.optimizer.name,
            "schedule": taught.schedule.name,
            "sampler": images.sampler.name,
            "batch_size": taught.batch_size,
            "resolution": taught.resolution,
            "precision": taught.precision,
            "max_grad_norm": taught.max_grad_norm,
        }
        varied = (
            set(axes)
            | {
                f"{getattr(taught, group).name}.{name.partition('.')[2]}"
                for name in axes
                for group in ("method", "optimizer", "schedule")
                if name.startswith(f"{group}.")
            }
            | {
                f"{images.sampler.name}.{name.partition('.')[2].removeprefix('settings.')}"
                for name in axes
                if name.startswith("sampler.")
            }
        )
        meaning.update({k: v for k, v in fields.items() if k not in varied})
    return meaning
