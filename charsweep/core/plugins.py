"""Lookup of plug-in classes by dotted name, restricted to the packages that may hold them.

A configuration may come from somebody else, so a name is looked up only where plug-ins live: the
package is checked before anything is imported, and what was found is checked before anything is
called. Whoever has plug-ins of their own names their package in the environment, which no file can:

    CHARSWEEP_PLUGINS=my_package python -m charsweep --config-dir my_conf metric=[dino,mine]
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from charsweep.core.errors import ConfigError

OWN = "CHARSWEEP_PLUGINS"
# Where a name may lie, and which class, or which attribute, it must then have.
PLACES = {
    "charsweep.train.methods": "version",
    "charsweep.evaluate.metrics": "version",
    "charsweep.evaluate.encoders": "version",
    "charsweep.train.schedules": "version",
    "charsweep.models.families": "version",
    "charsweep.actions.caption": "pydantic.main.BaseModel",
    "charsweep.study": "optuna.pruners._base.BasePruner",
    "torch.optim": "torch.optim.optimizer.Optimizer",
    "bitsandbytes.optim": "torch.optim.optimizer.Optimizer",
    "prodigyopt": "torch.optim.optimizer.Optimizer",
    "diffusers": "diffusers.schedulers.scheduling_utils.SchedulerMixin",
    "optuna.samplers": "optuna.samplers._base.BaseSampler",
    "optuna.pruners": "optuna.pruners._base.BasePruner",
}
DOTTED = re.compile(r"[A-Za-z]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
CONF = next(
    folder
    for folder in (Path(__file__).parents[2] / "conf", Path(__file__).parents[1] / "conf")
    if (folder / "config.yaml").exists()
)


def identity_of(target: str) -> str:
    """What a key knows a class by: see `charsweep.core.specs.Plugin`."""
    return target.rpartition(".")[2] if _lies_in(target, "charsweep") else target


@cache
def own_classes() -> dict[str, str]:
    """Dotted paths of charsweep's own plug-ins by their bare names, as the files of conf/ say."""
    texts = (path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml"))
    targets = (re.findall(r"_target_: (charsweep[.\w]+\w)", text) for text in texts)
    return {identity_of(target): target for target in itertools.chain(*targets)}


def resolve(target: str) -> Any:
    """Import `package.module.Class`, or an own plug-in by its bare name.

    ConfigError if there is no such thing or it may not be.
    """
    target = own_classes().get(target, target)
    if problem := refused(target):
        raise ConfigError(f"_target_={target} {problem}")
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"_target_={target}: {error}; give the dotted name of a class that can be imported, or "
            "install its package"
        ) from error
    place = _place_of(target)
    if not isinstance(found, type) or (place is not None and not _is_one(found, place)):
        raise ConfigError(
            f"_target_={target} is no plug-in; name a dataclass with a version, or a class of the "
            "kind that the files of conf/ name"
        )
    return found


def refused(target: str) -> str | None:
    """Why a name may not even be imported; None if it may."""
    if not DOTTED.fullmatch(target):
        return "is no dotted name of a class, as torch.optim.AdamW is"
    vouched_for = os.environ.get(OWN, "").split(",")  # by a person, and nowhere else
    if _place_of(target) or any(_lies_in(target, own.strip()) for own in vouched_for):
        return None
    return (
        f"is in none of the packages that plug-ins are taken from ({', '.join(PLACES)}); for a "
        f"package of your own, or one that you trust as much, set {OWN}=PACKAGE"
    )


def is_known(target: str) -> bool:
    """Whether a name lies where the plug-ins of charsweep's own files do."""
    return _place_of(target) is not None


def _place_of(target: str) -> str | None:
    return next((place for place in PLACES if _lies_in(target, place)), None)


def _lies_in(name: str, package: str) -> bool:
    return name.startswith(f"{package}.")


def _is_one(found: type, place: str) -> bool:
    """Whether a class is defined in its place, and is of the kind that is found there.

    By the names of its ancestors, so that what is not needed is not imported for this.
    """
    wanted = PLACES[place]
    if not _lies_in(f"{found.__module__}.", place):  # what the place itself imported
        return False
    if wanted == "version":
        return isinstance(getattr(found, wanted, None), int)
    return any(f"{base.__module__}.{base.__qualname__}" == wanted for base in found.__mro__)
