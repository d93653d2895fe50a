"""Scores in; out, which cell tells the story and which picture shows each scene. Pure.

Both choices weigh identity (DINO) and prompt (CLIP-T) alike, by one rule: each score's distance
from its group's mean, in standard deviations within groups, the two added. Of cells, all are one
group; of pictures, each scene is one, and the spread is pooled over the story, so that chance does
not decide a scene whose pictures hardly differ in one of the scores. Ties go to the first.
Rejected: ranks (they make much of differences that are none), and the sum of the bare cosines
(DINO spreads several times as wide as CLIP-T and would decide alone).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from charsweep.core.errors import ConfigError, StoreError
from charsweep.results.cells import CellResult

IDENTITY, PROMPT = "dino", "clip_t"
RULE = (
    "DINO (identity) and CLIP-T (prompt), each as its distance from the scene's mean in standard "
    "deviations within scenes, added; the highest sum is kept"
)


@dataclass(frozen=True)
class Candidate:
    """One picture of a scene: its seed, its place in the image set, its scores, their sum."""

    seed: int
    file: str
    dino: float
    clip_t: float
    standing: float


@dataclass(frozen=True)
class Choice:
    """A scene's candidates, the one that is shown, and whether a person named it."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    by_person: bool


def standings(scores: Sequence[Sequence[float]], groups: Sequence[int]) -> list[float]:
    """Per item, the sum over scores of its distance from its group's mean in pooled deviations."""
    total = np.zeros(len(groups))
    for column in scores:
        values, members = np.array(column, dtype=np.float64), np.array(groups)
        means = {group: values[members == group].mean() for group in set(groups)}
        distance = values - np.array([means[group] for group in groups])
        spread = float(np.sqrt((distance**2).mean()))
        if spread > 1e-12:  # all alike: this score decides nothing
            total += distance / spread
    return [float(value) for value in total]


def check_keep(keep: Mapping[int, int], scenes: int, seeds: Sequence[int]) -> None:
    """Raise `ConfigError` for a scene (counted from 1) or a seed that is not there."""
    for scene, seed in keep.items():
        if not 1 <= scene <= scenes:
            raise ConfigError(
                f"story.keep={{{scene}: {seed}}}: there is no scene {scene}; the story has scenes "
                f"1 to {scenes}"
            )
        if seed not in seeds:
            raise ConfigError(
                f"story.keep={{{scene}: {seed}}}: seed {seed} is not drawn; choose one of "
                f"{', '.join(map(str, seeds))}, or add it to story.seeds"
            )


def choose_pictures(
    files: Sequence[str],
    seeds: Sequence[int],
    dino: Sequence[float],
    clip_t: Sequence[float],
    keep: Mapping[int, int],
) -> tuple[Choice, ...]:
    """One choice per scene from pictures in scene-major order; `keep` maps scenes to seeds."""
    width = len(seeds)
    groups = [index // width for index in range(len(files))]
    sums = standings([dino, clip_t], groups)
    everything = [
        Candidate(seeds[i % width], files[i], dino[i], clip_t[i], round(sums[i], 6))
        for i in range(len(files))
    ]
    scenes = [everything[first : first + width] for first in range(0, len(files), width)]
    return tuple(_choice(scene, keep.get(number)) for number, scene in enumerate(scenes, 1))


def _choice(candidates: Sequence[Candidate], seed: int | None) -> Choice:
    if seed is None:
        best = max(candidates, key=lambda one: one.standing)  # the first of those that tie
        return Choice(tuple(candidates), best, by_person=False)
    named = next(one for one in candidates if one.seed == seed)
    return Choice(tuple(candidates), named, by_person=True)


def cells_in_order(
    results: Iterable[CellResult], sweep: str, otherwise: str = "give story.adapter=PATH"
) -> list[CellResult]:
    """The finished cells that have both scores, the best first. Raises `StoreError` for none."""
    known = [
        (one, float(dino), float(clip_t))
        for one in results
        if one.state == "finished"
        and (dino := one.scores.get(IDENTITY)) is not None
        and (clip_t := one.scores.get(PROMPT)) is not None
    ]
    if not known:
        raise StoreError(
            f"sweep {sweep} has no finished cell with {IDENTITY} and {PROMPT}, the scores of a "
            f"method that follows prompts; run it to its end, or {otherwise}"
        )
    sums = standings([[dino for _, dino, _ in known], [t for _, _, t in known]], [0] * len(known))
    order = sorted(range(len(known)), key=lambda i: -sums[i])
    return [known[i][0] for i in order]


def named_cell(
    results: Mapping[str, CellResult], key: str, sweep: str, setting: str = "story.cell"
) -> CellResult:
    """The finished cell whose key begins so. Raises `ConfigError`."""
    found = [one for cell, one in results.items() if cell.startswith(key)]
    if len(found) != 1:
        what = "several cells begin so" if found else "there is no such cell"
        raise ConfigError(
            f"{setting}={key}: {what} in sweep {sweep}; its cells.csv lists them by key"
        )
    if found[0].state != "finished":
        raise ConfigError(
            f"{setting}={key}: that cell is {found[0].state} and has nothing to draw with; "
            "choose a finished one"
        )
    return found[0]
