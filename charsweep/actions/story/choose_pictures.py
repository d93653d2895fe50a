"""The choice of the image that shows each scene of a story. Pure.

Identity (DINO, of two characters that of whom a scene asks for) and prompt (CLIP-T) weigh alike:
each score's distance from its scene's mean, in
standard deviations within scenes, the two added. The spread is pooled over the story, so that
chance does not decide a scene whose images hardly differ in one of the scores. Ties go to the
first. Which cell draws the story is not chosen here: see `charsweep.results.recommendation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from charsweep.core.errors import ConfigError

RULE = (
    "DINO (identity) and CLIP-T (prompt), each as its distance from the scene's mean in standard "
    "deviations within scenes, added; the highest sum is kept"
)
OF_BOTH = (
    "DINO is that of whom the scene asks for, and of both the lower of the two, one in the left "
    "half of the picture and one in the right"
)
OF_PLACE = (
    "DINO is that of what the scene asks for, the character in the whole picture and the place at "
    "its edges, and of both the lower of the two"
)

IDENTITY, PROMPT = "dino", "clip_t"


@dataclass(frozen=True)
class Candidate:
    """One image of a scene: its seed, its place in the image set, its scores, their sum."""

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
    """One choice per scene from images in scene-major order; `keep` maps scenes to seeds."""
    width = len(seeds)
    groups = [index // width for index in range(len(files))]
    sums = standings([dino, clip_t], groups)
    everything = [
        Candidate(seeds[i % width], files[i], dino[i], clip_t[i], round(sums[i], 6))
        for i in range(len(files))
    ]
    scenes = [everything[first : first + width] for first in range(0, len(files), width)]
    return tuple(_choice(scene, keep.get(number)) for number, scene in enumerate(scenes, 1))


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


def _choice(candidates: Sequence[Candidate], seed: int | None) -> Choice:
    if seed is None:
        best = max(candidates, key=lambda each: each.standing)  # the first of those that tie
        return Choice(tuple(candidates), best, by_person=False)
    named = next(candidate for candidate in candidates if candidate.seed == seed)
    return Choice(tuple(candidates), named, by_person=True)
