"""What is wrong with the encoders of conf/encoder/, and with how metrics ask for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

from charsweep.config.settings import Settings
from charsweep.core.encoders import OWN, encoder_fields
from charsweep.core.errors import shown
from charsweep.core.signatures import how_to_install

HISTOGRAM = "colour"  # what metrics know beside encoders, by its name there
ANSWERS = ("layout", "reads_prompts")  # of a class, before it is loaded


def encoder_mistakes(settings: Settings) -> list[str]:
    """A line for each."""
    kinds = {name: encoder.plugin(name).find() for name, encoder in settings.encoder.items()}
    if problems := list(_of_files(settings, kinds)):
        return problems
    own = settings.models.encoders
    reading: list[str] = [name for name in own if name == "clip"]
    reading += [name for name, kind in kinds.items() if kind.reads_prompts]
    if problems := list(_of_metrics(settings, [*own, *kinds], reading)):
        return problems
    return list(_not_installed({name: kinds.get(name) for name in settings.encoders_asked}))


def _of_files(settings: Settings, kinds: dict[str, Any]) -> Iterator[str]:
    for name, kind in kinds.items():
        if name in (*settings.models.encoders, HISTOGRAM):
            yield f"encoder.{name}: metrics know something else by that name; give it another"
        if lacking := [answer for answer in ANSWERS if not hasattr(kind, answer)]:
            yield (
                f"encoder.{name}._target_={settings.encoder[name].target}: has no {lacking[0]}; "
                "name a class that answers EncoderKind of charsweep.evaluate.encoders"
            )


def _of_metrics(settings: Settings, known: Sequence[str], reading: Sequence[str]) -> Iterator[str]:
    """Encoders that there are not, or that read no prompts where they should; each once."""
    asked = {"identity_encoder": (settings.identity_encoder, False),
             "prompt_encoder": (settings.prompt_encoder, True)}  # fmt: skip
    for metric in settings.metric:
        made = settings.metric_plugin(metric).made
        for field, reads in encoder_fields(made).items():
            asked[f"metric.{metric}.{field}"] = (getattr(made, field), reads)
    told = []
    for setting, (given, reads) in asked.items():
        fitting = reading if reads else known
        if given in fitting or (given, reads) in told:
            continue
        told.append((given, reads))
        what, ours = "there is no such encoder", f"choose {', '.join(fitting)}"
        if given in known:
            what = "reads no prompts"
        elif given in OWN:
            what = f"models={settings.models.name} has no encoders.{given}"
            ours = f"give one as models.encoders.{given}.path=..., or {ours}"
        yield f"{setting}={shown(given)}: {what}; {ours}"


def _not_installed(asked: dict[str, Any]) -> Iterator[str]:
    for name, kind in asked.items():
        package = getattr(kind, "package", None)
        if package and importlib.util.find_spec(package) is None:
            ours = how_to_install(package)
            yield f"encoder.{name}: {package}, which it needs, is not installed; {ours}"
