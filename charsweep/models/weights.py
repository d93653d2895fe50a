"""Weights on disk, in the hub or to be made: where they lie, and their digest; no torch.

A name is `embedded:PATH` (shipped with the package), `random:NAME` (a published architecture with
seeded random weights), a folder or a single .safetensors file on disk, or a hub repository
`OWNER/NAME@REVISION`. The digest is of the content, so the same weights in another place give the
same keys; of random weights it is that of their recipe, of a repository the commit, so that
planning needs neither made nor fetched. `charsweep.models.load` does that when they are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from charsweep.core.errors import ModelsError
from charsweep.core.keys import digest_of, digest_of_content, digest_of_files
from charsweep.core.specs import BaseSpec, Plugin
from charsweep.core.store.files import read_json
from charsweep.models import architectures, embedded, hub
from charsweep.models.architectures import Shapes
from charsweep.models.families import Family, parts_of
from charsweep.models.folder import check_folder, check_vae, chosen_variant, only_variant
from charsweep.models.identify import index_of, what_is
from charsweep.models.prediction import (
    Prediction,
    in_content,
    prediction_of,
    scheduler_changes,
    scheduler_class,
)
from charsweep.models.safetensors_file import tensor_shapes
from charsweep.models.single_file import check_whole

PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
SAFETENSORS = (".safetensors", ".sft")
Layout = Literal["clip", "dino", "ccip"]  # of encoders: open_clip's, timm's, deepghs'
What = Literal["base", "vae", "clip", "dino", "ccip", "captioner"]
HALF, FULL = 2, 4  # bytes of a number
CONFIGS = {"clip": "open_clip_config.json", "dino": "config.json", "vae": "config.json"}


@dataclass(frozen=True)
class Weights:
    """One network's or pipeline's weights: where, by which name, and by which digest."""

    name: str  # as it was typed
    what: What
    path: Path  # a folder or a single file; of random ones, where they will be made
    digest: str
    variant: str = ""  # "fp16": the files with that in their names; of CCIP: a folder
    source: Literal["disk", "hub", "random"] = "disk"
    parts: tuple[str, ...] = ()  # of a base: the folders that it is made of
    setting: str = ""  # by which it is given, where `what` does not say
    megabytes: float | None = None  # of an encoder, where its file says so

    @property
    def recipe(self) -> str:
        """The architecture that random weights are made for."""
        return self.name.removeprefix("random:")

    @property
    def encoder_to_fetch(self) -> float:
        """Bytes of an encoder's weights that are to be fetched, about; 0 where they are here, or
        where nothing says."""
        if self.source != "hub" or hub.is_complete(
            self.path, self.what, self.variant, self.parts, weights=True
        ):
            return 0
        if self.setting:
            return (self.megabytes or 0) * 1e6
        (tensors,) = architectures.shapes_of(self.what).values()
        return 4 * sum(map(math.prod, tensors.values()))  # the published one, in float32

    @property
    def small(self) -> Path:
        """Where the configs lie, also while the weights are neither made nor fetched."""
        return architectures.folder_of(self.recipe) if self.source == "random" else self.path


@dataclass(frozen=True)
class BaseWeights:
    """A base: its pipeline, and the autoencoder that stands in for the pipeline's own, if any."""

    pipeline: Weights
    vae: Weights | None
    plugin: Plugin  # its family, as the YAML names it
    prediction: Prediction | None  # None: of a flow

    @cached_property
    def family(self) -> Family:
        """What pipelines of its class have in common."""
        family: Family = self.plugin.made
        return family

    @property
    def path(self) -> Path:
        """The pipeline's folder or single file."""
        return self.pipeline.path

    @property
    def digest(self) -> str:
        """Digest of the pipeline's weights, of the autoencoder's that stands in, and of what it
        predicts where that is said elsewhere."""
        digest = self.pipeline.digest
        if self.vae is not None:
            digest = digest_of(f"{digest} vae {self.vae.digest}".encode())
        if self.prediction and self.prediction != in_content(self.path, self.configs):
            digest = digest_of(f"{digest} predicts {self.prediction}".encode())
        return digest

    @property
    def spec(self) -> BaseSpec:
        """What it is, as part of keys."""
        return BaseSpec(self.plugin.name, self.digest, self.plugin)

    @property
    def configs(self) -> Path:
        """A folder laid out as diffusers does, with all configs and perhaps without weights."""
        return read_as(self.family) if self.path.is_file() else self.pipeline.small

    @property
    def vae_configs(self) -> Path | None:
        """What an autoencoder's single file is read with; None where nothing says."""
        if (self.configs / "vae" / "config.json").exists():
            return self.configs
        return read_as(self.family) if self.family.published else None

    @property
    def scheduler(self) -> tuple[str, dict[str, Any]]:
        """Its scheduler's class in diffusers, and what must be told beyond what is read with it."""
        config = read_json(self.configs / "scheduler" / "scheduler_config.json")
        index = index_of(self.configs)
        assert index is not None
        own = str(read_json(index)["scheduler"][1])
        if self.prediction is None:
            return own, {}
        changes = scheduler_changes(self.prediction, config)
        return scheduler_class(self.prediction, own), changes

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes of all tensors by part; the family's, where no folder is here to say."""
        own = self.pipeline
        files = weight_files(own.path, own.variant, own.parts) if own.path.is_dir() else []
        shapes: Shapes = {}
        for file in files:
            shapes.setdefault(file.parent.name, {}).update(tensor_shapes(file))
        return shapes if self.family.denoiser in shapes else self.family.shapes(self.configs)

    def numbers(self, parts: Iterable[str]) -> int:
        """How many numbers parts hold; those that are absent, or not known before they are here,
        none."""
        tensors = (self.shapes.get(part, {}).values() for part in parts)
        return sum(math.prod(shape) for part in tensors for shape in part)

    @property
    def to_fetch(self) -> int:
        """Bytes of its weights that are to be fetched, about; 0 where they are here.

        Of a part in several files their index says it; else it is as most are published.
        """
        own = self.pipeline
        if own.source != "hub" or hub.is_complete(
            own.path, "base", own.variant, own.parts, weights=True
        ):
            return 0
        each = HALF if own.variant or self.family.loads_parts else FULL
        parts = (part for part in own.parts if part not in self.family.left_out(own.path))
        return sum(bytes_in(own.path / part) or each * self.numbers([part]) for part in parts)


def bytes_in(part: Path) -> int:
    """What a part's files take together, by the index of its weights; 0 where there is none."""
    indices = sorted(part.glob("*.safetensors.index.json"))
    sizes = (read_json(index).get("metadata", {}).get("total_size", 0) for index in indices)
    return int(next(sizes, 0))


def read_as(family: Family) -> Path:
    """The configs that a single file of this family is read with."""
    assert family.published is not None
    return architectures.folder_of(family.published)


def find_base(
    path: str, made: Path, plugin: Plugin, vae: str | None = None, variant: str | None = None,
    others: Mapping[str, Plugin] = MappingProxyType({}), prediction: Prediction | None = None,
) -> BaseWeights:  # fmt: skip
    """The base of this family at `path`; ModelsError if it is of another, perhaps of `others`.

    The plug-ins' names are those of the bases among the models. `made` is the folder for random
    weights.
    """
    family: Family = plugin.made
    setting, has_vae = f"models.bases.{plugin.name}", vae is not None
    where = find_folder(path)
    if where.exists() and where.suffix.lower() not in PICKLES:  # before anything large is read
        _check_family(where, path, plugin, others)
        if where.is_dir():
            chosen = variant or only_variant(where, parts_of(family))
            check_folder(where, family, setting, chosen, has_vae=has_vae, weights=True)
        else:
            check_whole(where, setting, has_vae=has_vae)
    try:
        pipeline = find_weights(path, "base", made, variant, family)
        other = _find_vae(vae, made, f"{setting}.vae", family) if vae is not None else None
    except ModelsError as error:  # the hub does not know what a base is called here
        raise ModelsError(str(error).replace("bases.NAME.", f"bases.{plugin.name}.")) from error
    if pipeline.source == "hub":
        _check_family(pipeline.small, path, plugin, others)
        check_folder(pipeline.small, family, setting, "", has_vae=has_vae, weights=False)
    found = BaseWeights(pipeline, other, plugin, None)
    if other is not None and other.path.is_file() and found.vae_configs is None:
        raise ModelsError(
            f"{setting}.vae={vae} is a single file, and {path} has no vae/ that says how it is "
            "built; give the VAE as a diffusers folder"
        )
    family.check(plugin.name, found.configs)
    return replace(found, prediction=_prediction(found, prediction, f"{setting}.prediction"))


def _prediction(base: BaseWeights, wanted: Prediction | None, setting: str) -> Prediction | None:
    """What it predicts; None of a flow, ModelsError where that is told otherwise."""
    if not base.family.is_flow:
        return prediction_of(base.path, base.configs, wanted, setting)
    if wanted is not None:
        raise ModelsError(
            f"{setting}={wanted}: {base.family.title} was trained by flow matching, which predicts "
            "one thing only; leave it null"
        )
    return None


def _find_vae(name: str, made: Path, setting: str, family: Family) -> Weights:
    place = find_folder(name)
    if place.exists() and place.suffix.lower() not in PICKLES:
        check_vae(place, name, setting, only_variant(place), family.autoencoder)
    return find_weights(name, "vae", made)


def _check_family(where: Path, path: str, plugin: Plugin, others: Mapping[str, Plugin]) -> None:
    """Raise ModelsError, which says what it is, for a pipeline that is not of the family it should
    be."""
    family: Family = plugin.made
    if family.recognises(where):
        return
    given = f"models.bases.{plugin.name}.path={path}"
    for name, other in others.items():
        own: Family = other.made
        if name != plugin.name and own.recognises(where):
            raise ModelsError(
                f"{given} is {own.title}, but {plugin.name} stands for {family.title}: give it as "
                f"models.bases.{name}.path=... with method.base={name}"
            )
    form = "a diffusers folder"
    if family.published:
        form += ", or a single .safetensors checkpoint that holds denoiser and text encoders"
    raise ModelsError(
        f"{given} is {what_is(where)}; {plugin.name} stands for {family.title}: give {form}"
    )


def find_encoder(
    name: str, layout: Layout, made: Path, variant: str | None, setting: str,
    megabytes: float | None = None,
) -> Weights:  # fmt: skip
    """The weights of an encoder of conf/encoder/, which are read with their own config alone."""
    path = find_folder(name)
    if path.exists() and layout == "ccip":
        return _ccip(path, variant or "", setting)
    if path.is_file() and not (path.parent / CONFIGS[layout]).is_file():
        raise ModelsError(
            f"{setting}={name}: {CONFIGS[layout]}, which says how it is built, does not lie beside "
            "it; give a folder that holds both"
        )
    found = find_weights(name, layout, made, variant, setting=setting)
    return replace(found, setting=setting, megabytes=megabytes)


@cache
def _ccip(path: Path, variant: str, setting: str) -> Weights:
    """CCIP's two networks in a folder, or in that of the variant below it."""
    folder = path / variant if (path / variant).is_dir() else path
    files = [folder / name for name in hub.LARGE["ccip"]]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelsError(
            f"{setting}={path}: {missing[0]} is not there; give a folder that holds "
            f"{' and '.join(file.name for file in files)}"
        )
    try:
        digest = digest_of_files(files, folder)
    except OSError as error:
        raise ModelsError(f"cannot read {error.filename}: {error.strerror}") from error
    return Weights(str(path), "ccip", folder, digest, variant, setting=setting)


def find_weights(
    name: str, what: What, made: Path, variant: str | None = None, family: Family | None = None,
    setting: str = "",
) -> Weights:  # fmt: skip
    """What `name` stands for; of a repository, only the small files are fetched.

    A base is of a `family`.
    """
    if name.startswith("random:"):
        return _random(name, what, made, family)
    if name.startswith("embedded:"):
        path = find_folder(name)
        return Weights(name, what, path, weights_digest(path))
    path = Path(name).expanduser()
    if path.suffix.lower() in PICKLES:
        raise ModelsError(
            f"{name} may hold pickled code and is not read; give a .safetensors file, as which "
            "most checkpoints are published too, or convert one that you trust, on a machine of "
            "its own, by diffusers' StableDiffusionPipeline.from_single_file(FILE).save_pretrained"
            "(FOLDER)"
        )
    if path.is_file() and what == "captioner":
        raise ModelsError(f"{name} is a file: give its folder, with config.json and tokenizer.json")
    if path.is_file():
        return Weights(
            name, what, path, _digest_of_file(path, what, read_as(family) if family else None)
        )
    if path.is_dir() and what in ("clip", "dino") and not (path / CONFIGS[what]).is_file():
        raise ModelsError(f"{name} lacks {CONFIGS[what]}: give a folder that holds it too")
    if path.is_dir():
        parts = parts_of(family) if family else ()
        chosen = variant or only_variant(path, parts)
        digest = weights_digest(path, chosen, parts)
        return Weights(name, what, path, digest, chosen, "disk", parts)
    if path.suffix in SAFETENSORS or not hub.REPOSITORY.fullmatch(name):
        raise ModelsError(
            f"{name} is not there (looked from {Path.cwd()}); give a folder, a .safetensors file, "
            "or a hub repository OWNER/NAME@REVISION"
        )
    parts = parts_of(family) if family else ()
    folder = hub.find(name, what, variant or "", parts, weights=False, setting=setting)
    digest = weights_digest(folder, variant or "")
    return Weights(name, what, folder, digest, variant or "", "hub", parts)


def _random(name: str, what: What, made: Path, family: Family | None) -> Weights:
    recipe = name.removeprefix("random:")
    own = what if what in architectures.NAMES else None
    fitting = family.published if family else own
    if recipe != fitting:
        wanted = f"{what}, {family.title}" if family else what
        raise ModelsError(
            f"{name}: there are no such random weights for a {wanted}; there is "
            f"{f'random:{fitting}' if fitting else 'none'}"
        )
    digest = architectures.recipe_digest(recipe)
    return Weights(name, what, made / f"random-{recipe}--{digest}", digest, "", "random")


def find_folder(name: str) -> Path:
    """The folder that `embedded:PATH`, or a path, stands for."""
    if not name.startswith("embedded:"):
        return Path(name).expanduser()
    folder = embedded.FOLDER / name.removeprefix("embedded:")
    if not folder.resolve().is_relative_to(embedded.FOLDER.resolve()) or not folder.is_dir():
        raise ModelsError(f"{name} is not part of this installation: {folder} is no folder of it")
    return folder


# -- files and their digests -----------------------------------------------------------------------


def weight_files(folder: Path, variant: str = "", parts: Collection[str] = ()) -> list[Path]:
    """The safetensors below a folder that are of a variant; those of others are not read.

    Of a base's `parts`, those of a part that has none of that variant are the plain ones.
    """
    plain = {part for part in parts if not chosen_variant(folder / part, variant)}
    return [
        path
        for path in sorted(folder.rglob("*.safetensors"))
        if hub.variant_of(path) == ("" if path.parent.name in plain else variant)
    ]


@cache
def weights_digest(folder: Path, variant: str = "", parts: tuple[str, ...] = ()) -> str:
    """Digest of the safetensors of a variant, all JSON files and templates below a folder."""
    resolved = folder.resolve()
    if resolved.parent.name == "snapshots":  # the hub's cache: the commit names the content
        return digest_of(f"{resolved.name} {variant}".encode()) if variant else resolved.name[:16]
    weights = weight_files(folder, variant, parts)
    if variant not in map(hub.variant_of, weights):
        wanted = f".{variant}.safetensors" if variant else ".safetensors"
        raise ModelsError(
            f"{folder} holds no {wanted} weights{_pickled(folder)}; give a folder that does"
        )
    for path in weights:
        tensor_shapes(path)
    try:
        texts = (path for end in ("json", "jinja") for path in folder.rglob(f"*.{end}"))
        return digest_of_files([*weights, *texts], folder)
    except OSError as error:
        raise ModelsError(f"cannot read {error.filename}: {error.strerror}") from error


def _pickled(folder: Path) -> str:
    found = sorted(path.name for path in folder.rglob("*") if path.suffix in PICKLES)
    return f", only {found[0]} and the like, which may hold code and are not read" if found else ""


@cache
def _digest_of_file(path: Path, what: What, folder: Path | None) -> str:
    """Digest of a single file's content, and of the configs that it is read with."""
    tensor_shapes(path)
    try:
        content = digest_of_content(path)  # not the name, which people change
        if folder is not None:
            configs = [path for path in folder.rglob("*.json") if path.name != "shapes.json"]
            return digest_of(f"{content} {digest_of_files(configs, folder)}".encode())
    except OSError as error:
        raise ModelsError(f"cannot read {error.filename}: {error.strerror}") from error
    if what == "vae":
        return content
    return digest_of(f"{content} {digest_of_content(config_beside(path, what))}".encode())


def config_beside(path: Path, what: What) -> Path:
    """The config of an encoder's file: one that lies beside it, or the published one."""
    beside = path.parent / CONFIGS[what]
    return beside if beside.exists() else architectures.folder_of(what) / CONFIGS[what]
