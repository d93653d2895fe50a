"""Where things lie that the settings name: the store, and the weights that are read."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from charsweep.config.settings import Settings
from charsweep.core.errors import ConfigError, ModelsError
from charsweep.core.keys import digest_of_content
from charsweep.core.specs import EncoderSpec
from charsweep.core.store import Store
from charsweep.models.weights import BaseWeights, Weights, find_base, find_encoder, find_weights


def store_of(settings: Settings) -> Store:
    """The store below the folder that everything is written to."""
    return Store(Path(settings.root).expanduser().resolve())


def made_in(settings: Settings) -> Path:
    """The folder in which the random weights of models=random are made."""
    return store_of(settings).made_weights


def base_weights(settings: Settings, name: str) -> BaseWeights:
    """Where the base of that name lies, or will."""
    bases = settings.models.bases
    plugins = {other: base.plugin(other) for other, base in bases.items()}
    base, plugin = bases[name], plugins[name]
    return find_base(
        base.path, made_in(settings), plugin, base.vae, base.variant, plugins, base.prediction
    )


def encoders_of(settings: Settings) -> dict[str, tuple[EncoderSpec, Weights]]:
    """The models' own, and those that metrics ask for, by name; ModelsError names all that cannot
    be used."""
    found: dict[str, tuple[EncoderSpec, Weights]] = {}
    problems = []
    for name in (*settings.models.encoders, *settings.encoders_asked):
        if name in found:
            continue
        try:
            found[name] = _encoder(settings, name)
        except ModelsError as error:
            problems.append(str(error))
    if problems:
        raise ModelsError("\n".join(problems))
    return found


def _encoder(settings: Settings, name: str) -> tuple[EncoderSpec, Weights]:
    made = made_in(settings)
    for layout, own in settings.models.encoders.items():
        if layout == name:
            weights = find_weights(own.path, layout, made)
            return EncoderSpec(name, weights.digest, own.resize, own.crop), weights
    further = settings.encoder[name]
    plugin = further.plugin(name)
    variant = plugin.settings.get("variant")
    weights = find_encoder(
        further.path, plugin.find().layout, made, variant, f"encoder.{name}.path",
        further.megabytes,
    )  # fmt: skip
    return EncoderSpec(name, weights.digest, None, None, plugin), weights


def teaching_file(settings: Settings, name: str) -> tuple[Path, str] | None:
    """The adapter that is on the base of that name while it is taught, and its digest."""
    given = settings.models.bases[name].teaching_adapter
    if given is None:
        return None
    file = Path(given).expanduser().resolve()
    if file.suffix != ".safetensors" or not file.is_file():
        raise ConfigError(
            f"models.bases.{name}.teaching_adapter={given}: there is no such .safetensors file; "
            "give an adapter's own file, or null"
        )
    state = file.stat()
    return file, _digest(file, state.st_size, state.st_mtime_ns)


@cache
def _digest(file: Path, size: int, changed_ns: int) -> str:
    """Of a file as it is now, which many cells ask for."""
    return digest_of_content(file)
