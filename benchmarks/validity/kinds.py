"""`python -m benchmarks.validity.kinds`: is a character seen in its place, and with its object?

Planted pictures, every second one gone through the autoencoder, of which it is known what they
show, are judged by the metric `together` as if a taught base had drawn them, with the DINO that
ships; strangers of the right species stand for the untaught base. The metric's numbers, and the
window that it sees a place through, were chosen on other pictures of the pairs in PLACES[0] and
OBJECTS[0]; those in PLACES[1] and OBJECTS[1] were not chosen on. With `--windows` it is told of
each window and encoder how well it tells a place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.validity.judge import coded
from benchmarks.validity.kinds_planted import (
    FIGURES,
    IN_PLACE,
    LANDS,
    THINGS,
    WITH_OBJECT,
    planted_in_place,
    planted_with_object,
    untaught_in_place,
    untaught_with_object,
)
from charsweep.character.masks import NEUTRAL
from charsweep.config import load_sweep
from charsweep.core.specs import OBJECT, PLACE
from charsweep.evaluate.encoders import Encoder, load_encoder
from charsweep.evaluate.metrics import Exam, Features, ImageFeatures, colour_features, similarity
from charsweep.evaluate.metrics.outcomes import Outcome
from charsweep.evaluate.metrics.together import Together
from charsweep.evaluate.windows import EDGES, SQUARES, Windows, edges_of
from pretraining.drawing import draw
from pretraining.land import draw_land
from pretraining.thing import draw_thing
from pretraining.world import ANGLES, DRAWINGS, VIEWS, in_scene

Pair = tuple[str, str]  # a place or an object, and a character
Read = Callable[[Sequence[Image.Image]], Features]
PLACES: tuple[tuple[Pair, ...], tuple[Pair, ...]] = (
    (("candyland", "unicorn_girl"), ("mushrooms", "bear"), ("crystals", "boy"), ("desert", "cat")),
    (
        ("candyland", "robot"), ("ruins", "unicorn_girl"), ("balloons", "thunder_bear"),
        ("lava", "bear"), ("mint", "boy"), ("autumn", "cat"), ("glacier", "frog"),
    ),
)  # fmt: skip
OBJECTS: tuple[tuple[Pair, ...], tuple[Pair, ...]] = (
    (("star_kite", "unicorn_girl"), ("teapot", "bear"), ("umbrella", "boy")),
    (
        ("drum", "cat"),
        ("ball", "thunder_bear"),
        ("lantern", "robot"),
        ("star_kite", "robot"),
        ("parasol", "bunny"),
        ("bauble", "unicorn_girl"),
    ),
)
UNTAUGHT = 16  # pictures that stand for the untaught base's


@dataclass(frozen=True)
class Planted:
    """Pictures of a pair, in one order: of what kind each is, which outcome that should be, where
    the character was asked for; and what stands for the untaught base's."""

    kinds: Sequence[str]
    meant: Sequence[Outcome | None]
    left: Sequence[str]
    pictures: Sequence[Image.Image]
    untaught: Sequence[Image.Image]


@dataclass(frozen=True)
class Judged:
    """Of what kind planted pictures are, what each should be told and is told, in one order."""

    kinds: Sequence[str]
    meant: Sequence[Outcome | None]
    told: Sequence[Outcome]

    def right(self, kind: str) -> float:
        """Share of the pictures of a kind that were told right; of mixtures, that are `both`."""
        trios = zip(self.kinds, self.meant, self.told, strict=True)
        own = [told == (meant or "both") for shown, meant, told in trios if shown == kind]
        return float(np.mean(own))

    @property
    def agreement(self) -> float:
        """The mean over outcomes of how many pictures are told right."""
        pairs = list(zip(self.meant, self.told, strict=True))
        outcomes = sorted({meant for meant in self.meant if meant})
        return float(np.mean([np.mean([b == a for a, b in pairs if a == one]) for one in outcomes]))


def places(pair: Pair, count: int) -> Planted:
    """As many pictures as asked of each kind of a character in a place."""
    name, who = pair
    figure, seed = FIGURES[who], f"{name}-{who}"
    made = [
        (kind, planted_in_place(kind, figure, name, Random(f"in place-{seed}-{kind}-{index}")))
        for kind in IN_PLACE
        for index in range(count)
    ]
    untaught = [untaught_in_place(figure, Random(f"land-{seed}-{n}")) for n in range(UNTAUGHT)]
    return Planted(
        [kind for kind, _ in made], [IN_PLACE[kind] for kind, _ in made], [],
        half_coded([picture for _, picture in made]), half_coded(untaught),
    )  # fmt: skip


def objects(pair: Pair, count: int) -> Planted:
    """The same of a character with an object."""
    name, who = pair
    figure, seed = FIGURES[who], f"{name}-{who}"
    made = []
    for kind in WITH_OBJECT:
        for index in range(count):
            rng = Random(f"with object-{seed}-{kind}-{index}")
            is_left = rng.random() < 0.5
            picture = planted_with_object(kind, figure, name, is_left, rng)
            made.append((kind, "subject" if is_left else "other", picture))
    untaught = [
        untaught_with_object(figure, name, Random(f"thing-{seed}-{n}")) for n in range(UNTAUGHT)
    ]
    return Planted(
        [kind for kind, _, _ in made], [WITH_OBJECT[kind] for kind, _, _ in made],
        [left for _, left, _ in made], half_coded([picture for *_, picture in made]),
        half_coded(untaught),
    )  # fmt: skip


def half_coded(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures of which every second one has gone through the autoencoder."""
    drawn = np.stack([np.asarray(picture) for picture in pictures])
    drawn[1::2] = coded(drawn[1::2])
    return [Image.fromarray(one) for one in drawn]


def judged_places(pair: Pair, count: int, encoder: Encoder) -> Judged:
    """Pictures of a character in a place, by the metric."""
    planted = places(pair, count)
    exam = exam_of(planted, pair, encoder)
    exam = replace(
        exam,
        kind=PLACE,
        images=_features(encoder, planted.pictures),
        untaught=_features(encoder, planted.untaught),
        windows=_windows(encoder, planted.pictures, EDGES),
        untaught_windows=_windows(encoder, planted.untaught, EDGES),
        other={"dino": encoder.images([edges_of(one)[0] for one in drawings_of_land(pair[0])])},
    )
    return Judged(planted.kinds, planted.meant, Together()(exam).details["outcomes"])


def judged_objects(pair: Pair, count: int, encoder: Encoder) -> Judged:
    """The same of a character with an object."""
    planted = objects(pair, count)
    drawings = [draw_thing(replace(THINGS[pair[0]], **angle)) for _, angle in ANGLES]
    exam = replace(
        exam_of(planted, pair, encoder),
        kind=OBJECT,
        windows=_windows(encoder, planted.pictures, SQUARES),
        untaught_windows=_windows(encoder, planted.untaught, SQUARES),
        other={"dino": encoder.images(drawings)},
        left=planted.left,
    )
    return Judged(planted.kinds, planted.meant, Together()(exam).details["outcomes"])


def exam_of(planted: Planted, pair: Pair, encoder: Encoder) -> Exam:
    """Of the character's drawings, as far as it is the same for places and objects."""
    hers = [draw(in_scene(FIGURES[pair[1]], scene)) for _, scene in DRAWINGS]
    return Exam(ImageFeatures({}, ()), {"dino": encoder.images(hers)}, None, None)


def drawings_of_land(name: str) -> list[Image.Image]:
    return [draw_land(replace(LANDS[name], **view)) for _, view in VIEWS]


def _features(encoder: Encoder, pictures: Sequence[Image.Image]) -> ImageFeatures:
    return ImageFeatures({"dino": encoder.images(pictures)}, tuple(range(len(pictures))))


def _windows(encoder: Encoder, pictures: Sequence[Image.Image], windows: Windows) -> ImageFeatures:
    rows = encoder.images([one for picture in pictures for one in windows.of(picture)])
    seen = rows.reshape(len(pictures), windows.count, -1)
    return ImageFeatures({"dino": seen}, tuple(range(len(pictures))))


# -- which window sees a place, and with which encoder

CORNERS = ((0, 0), (0.6, 0), (0, 0.6), (0.6, 0.6))


def _upper(picture: Image.Image) -> list[Image.Image]:
    half = picture.width // 2
    return [picture.crop((left, 0, left + half, half)) for left in (0, picture.width - half)]


def _corners(picture: Image.Image) -> list[Image.Image]:
    boxes = ((x, y, x + 0.4, y + 0.4) for x, y in CORNERS)
    return [picture.crop(tuple(round(n * picture.width) for n in box)) for box in boxes]  # type: ignore[arg-type]


def _around(picture: Image.Image) -> list[Image.Image]:
    """All but the middle, where somebody stands."""
    around, side = picture.copy(), picture.width
    around.paste(NEUTRAL, (round(0.22 * side), round(0.1 * side), round(0.78 * side), side))
    return [around]


CANDIDATES: Mapping[str, Callable[[Image.Image], list[Image.Image]]] = {
    "the whole picture": lambda picture: [picture],
    "its upper corners": _upper,
    "its four corners": _corners,
    "all but its middle": _around,
    "its edges": edges_of,
}


def told_by_window(
    cut: Callable[[Image.Image], list[Image.Image]], read: Read,
    planted: Mapping[Pair, Planted], nearest: bool,
) -> tuple[float, float]:  # fmt: skip
    """Of the pairs that were chosen on, and of the others: the mean share of pictures with the
    place, and of those without, that are told right by the first ones' best threshold."""
    values: dict[Pair, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for pair, own in planted.items():
        drawings = _rows(cut, read, drawings_of_land(pair[0]))
        found = [_rows(cut, read, pictures) for pictures in (own.pictures, own.untaught)]
        likeness = [similarity(rows, drawings) for rows in found]
        among = similarity(drawings, drawings)[~np.eye(len(drawings), dtype=bool)]
        parts = [*likeness, among.reshape(len(drawings), -1)]
        at, base, end = (part.max(axis=1) if nearest else part.mean(axis=1) for part in parts)
        scale = (at - base.mean()) / max(float(np.median(end)) - base.mean(), 1e-3)
        is_there = np.isin(own.kinds, ("both", "stranger", "nobody"))
        is_away = np.isin(own.kinds, ("elsewhere", "another land", "neither"))
        values[pair] = (scale[is_there], scale[is_away])

    def right(pairs: Sequence[Pair], least: float) -> float:
        each = (values[pair] for pair in pairs)
        return float(np.mean([((a >= least).mean() + (b < least).mean()) / 2 for a, b in each]))

    best = max(np.linspace(-0.5, 1.5, 81), key=lambda least: right(PLACES[0], least))
    return right(PLACES[0], best), right(PLACES[1], best)


def _rows(
    cut: Callable[[Image.Image], list[Image.Image]], read: Read, pictures: Sequence[Image.Image]
) -> Features:
    """Of each picture the features of all its windows in a row, of length 1."""
    windows = [cut(picture) for picture in pictures]
    rows = read([one for each in windows for one in each])
    return rows.reshape(len(pictures), -1) / np.float32(np.sqrt(len(windows[0])))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity.kinds")
    parser.add_argument("--count", type=int, default=40, help="pictures of each kind")
    parser.add_argument("--windows", action="store_true", help="compare windows of a place")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sweep = load_sweep([f"root={Path.cwd()}"])
    encoders = {spec.name: load_encoder(spec, own) for spec, own in sweep.encoders.items()}
    if options.windows:
        compare_windows(encoders, options.count)
        return
    ways = (("place", PLACES, judged_places), ("object", OBJECTS, judged_objects))
    for title, halves, judge in ways:
        for name, pairs in zip(("chosen on", "checked on"), halves, strict=True):
            print(f"{title}, {name}")
            agreements = []
            for pair in pairs:
                found = judge(pair, options.count, encoders["dino"])
                agreements.append(found.agreement)
                told = (f"{kind} {found.right(kind):.2f}" for kind in dict.fromkeys(found.kinds))
                print(f"  {' + '.join(pair):26}{found.agreement:6.3f}  {', '.join(told)}")
            print(f"  {'mean':26}{np.mean(agreements):6.3f}")


def compare_windows(encoders: Mapping[str, Encoder], count: int) -> None:
    """Print what each window tells with each encoder."""
    planted = {pair: places(pair, count) for half in PLACES for pair in half}
    reads: dict[str, Read] = {name: one.images for name, one in encoders.items()}
    reads["colour"] = colour_features
    for window, cut in CANDIDATES.items():
        for name, read in reads.items():
            told = [told_by_window(cut, read, planted, nearest) for nearest in (True, False)]
            shares = ", ".join(
                f"{which} {chosen:.3f} {checked:.3f}"
                for which, (chosen, checked) in zip(("nearest", "mean"), told, strict=True)
            )
            print(f"{window:20}{name:8}{shares}")


if __name__ == "__main__":
    main()
