"""The precision of training: as set or, for `auto`, what the card is good at that a store began on.

A precision belongs to a trajectory's spec. So what `auto` meant in a store's first run is kept
there: a machine without a card that plans, or another card that goes on, must not change keys. No
torch: planning asks this too.
"""

from __future__ import annotations

from typing import Any

from charsweep.config.settings import Settings
from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.store import Store
from charsweep.core.store.files import read_json, write_json
from charsweep.core.system.hardware import Card, find_card, torch_is_built_for, usable_precision

FILE = "precision.json"


def precision_of(settings: Settings, store: Store) -> str:
    """As set, or as the models say; `auto` is what the store remembers, else what fits the card."""
    wanted = settings.precision or settings.models.precision
    if wanted != "auto":
        return usable_precision(wanted, None)
    known = remembered(store)
    return known["precision"] if known else usable_precision("auto", card_of(settings))


def card_of(settings: Settings) -> Card | None:
    """The card that `auto` is about; ConfigError where one is named that is not here."""
    device = settings.runtime.device
    card = find_card(device)
    if card is None and device == "cuda" and "cuda" in torch_is_built_for():
        raise ConfigError(
            "precision=auto: the card that runtime.device=cuda names is not here to be asked what "
            "it is good at; set precision=bf16 (NVIDIA's since 2020), fp16 or fp32"
        )
    return card


def remembered(store: Store) -> dict[str, str] | None:
    """What `auto` means in a store and on which card it was asked; None before its first run."""
    path = store.folder / FILE
    if not path.exists():
        return None
    known: dict[str, Any] = read_json(path, "precision", "card")
    if known["precision"] not in ("fp32", "bf16", "fp16"):
        raise StoreError(
            f"{path} holds no precision; write fp32, bf16 or fp16 there, as the trajectories of "
            "this store have it, or set precision="
        )
    return {name: str(known[name]) for name in ("precision", "card")}


def is_open(settings: Settings, store: Store) -> bool:
    """Whether it is `auto`, and not known yet what that means in this store."""
    return (settings.precision or settings.models.precision) == "auto" and not remembered(store)


def remember_precision(settings: Settings, store: Store, there: Card | None = None) -> None:
    """Keep what `auto` means, once it is trained by; on a card that is `there`, not here."""
    if is_open(settings, store):
        card = there or card_of(settings)
        meant = {"precision": usable_precision("auto", card), "card": name_of(card)}
        store.folder.mkdir(parents=True, exist_ok=True)
        write_json(store.folder / FILE, meant)


def precision_note(settings: Settings, store: Store) -> str:
    """What the plan should say of `auto`: where another machine would choose otherwise."""
    if (settings.precision or settings.models.precision) != "auto":
        return ""
    known, card = remembered(store), find_card(settings.runtime.device)
    here = usable_precision("auto", card)
    if known and known["precision"] != here:
        return (
            f"{known['precision']}, as this store was begun on {known['card']}; on "
            f"{name_of(card)} it would be {here}: set precision={here} for that"
        )
    if not known and (card is None or card.capability is None):
        return f"{here} on {name_of(card)}; to plan for an NVIDIA card, set precision=bf16"
    return ""


def name_of(card: Card | None) -> str:
    return card.name if card else "an unknown card"
