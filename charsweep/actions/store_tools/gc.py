"""`action=gc`: what no sweep refers to, with sizes; removed when asked.

    python -m charsweep action=gc
    python -m charsweep action=gc store.remove=true

A sweep refers to its cells' weights and images, to what these are compared with, and to the class
images that they were trained on; a story to its scenes. One that has not ended keeps all that it
has begun. What only serves to go on (resume states, made weights) is listed apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charsweep.actions.store_tools.check import drop
from charsweep.actions.store_tools.inventory import LIGHT, Item, items_of
from charsweep.actions.store_tools.references import Use, left_alone, nothing_running, uses_of
from charsweep.config import Settings
from charsweep.core.store import Store
from charsweep.core.system.console import out
from charsweep.results.labels import bytes_text

UNUSED = "no sweep refers to"
SPENT = "serves only to go on, and no sweep is unfinished that would"


@dataclass(frozen=True)
class Waste:
    """Something that can go, and why."""

    item: Item
    why: str
    size: int


def act(settings: Settings, store: Store) -> None:
    """List, and remove when `remove` says so; StoreError while a sweep runs."""
    if not settings.store.remove:
        tell(store, list(wastes(store)))
        return
    with nothing_running(store, "removed"):
        tell(store, [waste for waste in list(wastes(store)) if removed(waste, store)], "removed")


def removed(waste: Waste, store: Store) -> bool:
    """Remove it, unless another process works on what it lies in."""
    path = waste.item.path
    with left_alone(waste.item) as free:
        if not free:
            out(f"in use, and left: {path.relative_to(store.folder)}")
            return False
        drop(path)
    if path.parent.name == "resume" and not any(path.parent.iterdir()):
        path.parent.rmdir()
    return True


def tell(store: Store, found: Sequence[Waste], done: str = "") -> None:
    """Print the list by its reasons, the largest first."""
    for why in (UNUSED, SPENT):
        alike = sorted((waste for waste in found if waste.why == why), key=lambda w: -w.size)
        if alike:
            out(why)
        for waste in alike:
            where = waste.item.path.relative_to(store.folder)
            out(f"  {bytes_text(waste.size):>12}  {waste.item.kind:<17}  {where}")
    total = sum(waste.size for waste in found)
    if not found:
        out(f"nothing to remove: sweeps refer to all that is in {store.folder}")
    elif done:
        out(f"{bytes_text(total)} {done}")
    else:
        out(f"{bytes_text(total)} in {len(found)} places; store.remove=true removes them")


def wastes(store: Store) -> Iterator[Waste]:
    """What can go, each with all that it contains."""
    items = list(items_of(store))
    uses = uses_of(store, items)
    gone: list[Item] = []
    for item in items:
        if item.parent in gone:
            gone.append(item)
        elif why := reason(item, uses):
            gone.append(item)
            yield Waste(item, why, item.freed)


def reason(item: Item, uses: Sequence[Use]) -> str:
    """Why an item can go; empty if it is needed, or is not gc's to judge."""
    open_ones = [use for use in uses if not use.is_finished]
    if item.kind == "made weights":
        recipe = item.path.name.removeprefix("random-").partition("--")[0]
        return "" if any(recipe in use.recipes for use in open_ones) else SPENT
    asking = [use for use in uses if item.source.key in use.sources]
    if item.kind in ("trajectory", *LIGHT):
        return "" if asking else UNUSED
    going_on = any(not use.is_finished for use in asking)
    if item.kind == "resume state":
        return "" if going_on else SPENT
    if item.kind == "snapshot":
        step = (item.source.key, item.step)
        return "" if going_on or any(step in use.steps for use in asking) else UNUSED
    if item.kind == "image set":
        return "" if any(item.key in use.images for use in asking) else UNUSED
    return ""
