"""The rule of a search in stages, on worlds where the score of every setting is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from helpers.fake_sweep import result

from benchmarks.racing.simulate import raced
from charsweep.config import load_settings
from charsweep.config.find import start_of
from charsweep.config.settings.search import FindSettings
from charsweep.core.errors import ConfigError
from charsweep.results import CellResult
from charsweep.study.stages import Stage, Stages, at_most, beside

UNTAUGHT = 0.05
DECADES = "find.rates=[1e-5,1e-4,1e-3,1e-2]"
Score = Callable[[Mapping[str, Any]], float | None]  # of a cell's values; None: it diverges


@dataclass
class World:
    """Answers with true scores, image by image with noise: .06 is always told, .01 never."""

    score: Score
    given_up: tuple[str, ...] = ()
    leak: Score = field(default=lambda values: 0.0)
    identity: Score | None = None  # the same in all images
    looks: tuple[int, ...] = ()  # of the race of each stage

    def __call__(self, values: Mapping[str, Any]) -> CellResult:
        score = self.score(values)
        if score is None:
            return result(cell=str(values), state="diverged", values=dict(values), base="sdxl")
        chance = random.Random(str(sorted(values.items())))
        rows = [[score + chance.gauss(0, 0.03) for _ in range(2)] for _ in range(8)]
        shift = score - sum(map(sum, rows)) / 16
        rows = [[one + shift for one in row] for row in rows]
        images = {"score": rows}
        scores = {"score": score, "leak": self.leak(values)}
        if self.identity and (identity := self.identity(values)) is not None:
            images["identity"], scores["identity"] = [[identity] * 2] * 8, identity
        return result(
            cell=str(values), values=dict(values), base="sdxl", step=values["train_steps"],
            scores=scores, gains={"score": score - UNTAUGHT}, per_image=images,
            size_mb=float(values.get("method.rank", 4)),
        )  # fmt: skip


@cache
def find_of(*words: str) -> tuple[FindSettings, dict[str, Any]]:
    settings = load_settings(["search=find", DECADES, *words])
    assert settings.find is not None
    return settings.find, start_of(settings)


def search(world: World, *words: str, **more: Any) -> tuple[list[Stage], dict[str, Any], Stages]:
    """Every stage, and the values that are recommended at the end; {} for none."""
    rule = Stages(*find_of(*words), **more)
    running, stages = rule.run(), []
    try:
        stage = next(running)
        while True:
            stages.append(stage)
            left_out = not stage.cells or stage.over in world.given_up
            told = raced([world(cell) for cell in stage.cells], world.looks)
            stage = running.send(None if left_out else told)
    except StopIteration:
        found = rule.recommended()
        return stages, dict(found.cells[0].values) if found else {}, rule


def hill(peak: float, best_steps: int = 10**9, width: float = 0.5) -> Score:
    """A score with its peak at a rate; the more steps the higher, up to a number of them."""

    def score(values: Mapping[str, Any]) -> float:
        away = math.log10(values["lr"] / peak) / width
        long = min(values["train_steps"], best_steps) / 1000
        return UNTAUGHT + 0.9 * math.exp(-(away**2) / 2) * min(1.0, long**0.5)

    return score


def tried(stages: Sequence[Stage], name: str) -> set[Any]:
    return {cell[name] for stage in stages for cell in stage.cells}


@pytest.mark.parametrize("peak", [1e-6, 3e-6, 1e-5, 1e-4, 2e-4, 1e-3, 2e-3, 5e-3, 1e-2, 3e-2, 1e-1])
def test_a_peak_is_found_wherever_it_lies(peak: float) -> None:
    """Within the decades, between them, and past either end."""
    stages, found, _ = search(World(hill(peak)))
    assert 0.6 * peak < found["lr"] < 1.7 * peak
    assert found["train_steps"] == 1000
    assert any("they may do better" in stage.text for stage in stages)


def test_thirds_begin_with_the_longer_training() -> None:
    stages, found, _ = search(World(hill(2e-3)))
    first = next(stage for stage in stages if stage.over == "steps")
    assert {cell["lr"] for cell in first.cells} >= {1e-3, 2e-3, 3e-3, 5e-3}
    assert all(cell["lr"] != 2e-3 for cell in sum((s.cells for s in stages if s.over == "lr"), ()))
    assert found["lr"] == 2e-3
    alone, found, _ = search(World(hill(2e-3)), "find.steps=[250]")
    assert any("thirds of a decade" in stage.text for stage in alone)
    assert found["lr"] == 2e-3


@pytest.mark.parametrize("peak", [1e-6, 2e-4, 1e-3, 5e-3, 1e-1])
@pytest.mark.parametrize("steps", [300, 1000])
def test_a_race_of_each_stage_comes_to_the_same(peak: float, steps: int) -> None:
    """After one image of each prompt, half of the exam."""
    over = "find.over=[lr,steps,inference_steps]"
    whole, found, _ = search(World(hill(peak, steps)), over)
    stages, best, rule = search(World(hill(peak, steps), looks=(1,)), over)
    left = [cell for cell in rule.told if cell.left]
    assert left
    assert {cell.left for cell in left} == {"left the race after 8 of 16 images"}
    assert (stages, best) == (whole, found)
    alone = [stage.cells[0] for stage in stages if len(stage.cells) == 1]
    assert not any(cell.values in alone for cell in left)


def test_rates_that_cannot_be_told_apart_are_not_parted_further() -> None:
    stages, found, _ = search(World(lambda values: 0.8))
    assert any("none past it is tried" in stage.text for stage in stages)
    assert len(tried(stages, "lr")) == 6  # the decades, and half-decades beside one of them
    assert not any("thirds" in stage.text for stage in stages)
    assert any("no better than 250, as far as" in stage.text for stage in stages)
    assert found["train_steps"] == 250  # the cheapest of equals
    assert tried(stages, "train_steps") == {250, 500}


def test_a_peak_as_broad_as_its_neighbours_is_not_parted_further() -> None:
    def broad(values: Mapping[str, Any]) -> float:
        if values["lr"] == 1e-3:
            return 0.804
        return 0.8 if 2e-4 < values["lr"] < 5e-3 else 0.3

    stages, found, _ = search(World(broad))
    assert any(stage.text.endswith("nothing between them is tried") for stage in stages)
    assert found["lr"] in (3e-4, 1e-3, 3e-3)


def test_where_all_diverges_lower_rates_are_tried() -> None:
    stages, found, _ = search(World(lambda values: None if values["lr"] > 3e-7 else 0.7))
    assert min(tried(stages, "lr")) < 1e-6
    assert found["lr"] <= 3e-7


def test_where_nothing_ever_finishes_it_ends_and_recommends_nothing() -> None:
    stages, found, _ = search(World(lambda values: None))
    assert not found
    assert tried(stages, "train_steps") == {250}
    assert tried(stages, "inference_steps") == {50}


def test_where_nothing_is_taught_longer_is_tried_and_nothing_else() -> None:
    stages, _, rule = search(World(lambda values: UNTAUGHT))
    assert tried(stages, "train_steps") == {250, 500, 1000}
    assert tried(stages, "lr") == {1e-5, 1e-4, 1e-3, 1e-2}
    found = rule.recommended()
    assert found
    assert not found.is_taught


def test_what_is_taught_late_is_zoomed_in_on_late() -> None:
    def late(values: Mapping[str, Any]) -> float:
        return hill(3e-4)(values) if values["train_steps"] >= 500 else UNTAUGHT

    stages, found, _ = search(World(late))
    halves = [stage for stage in stages if "half a decade" in stage.text]
    assert [cell["train_steps"] for stage in halves for cell in stage.cells] == [500, 500]
    assert 1e-4 < found["lr"] <= 1e-3


def test_rates_that_fall_with_the_length_are_followed() -> None:
    """Hot ones lead after few steps and have burst after many."""

    def moving(values: Mapping[str, Any]) -> float:
        return hill(1e-2 * 250 / values["train_steps"], width=0.35)(values)

    _, found, _ = search(World(moving))
    assert (found["lr"], found["train_steps"]) in {(2e-3, 1000), (3e-3, 1000)}


def test_steps_go_on_while_more_of_them_would_be_recommended() -> None:
    """By more than one standard error, though not told apart by two."""
    stages, found, _ = search(
        World(lambda values: 0.6 + 0.016 * math.log2(values["train_steps"])), "find.over=[steps]"
    )
    assert tried(stages, "train_steps") == {250, 500, 1000}
    assert found["train_steps"] == 1000


def test_inference_steps_are_compared_at_what_is_recommended() -> None:
    def score(values: Mapping[str, Any]) -> float:
        lost = {10: 0.3, 50: 0.0, 40: 0.0}[values["inference_steps"]]
        return hill(1e-3, 500)(values) - lost

    stages, found, _ = search(World(score))
    (own,) = (stage for stage in stages if stage.over == "inference_steps")
    assert {cell["inference_steps"] for cell in own.cells} == {10, 40}
    assert {(cell["lr"], cell["train_steps"]) for cell in own.cells} == {(1e-3, 500)}
    assert found["inference_steps"] == 40  # as good, and cheaper


def test_what_cannot_be_told_is_said() -> None:
    stages, found, _ = search(World(hill(1e-3, 250)), "find.over=[rank,prior,captions]", "lr=1e-3")
    said = [stage.text for stage in stages if not stage.cells]
    assert said == ["none of these can be told from 4", "none of these can be told from 0",
                    "none of these can be told from instance"]  # fmt: skip
    assert tried(stages, "method.rank") == {2, 4, 8, 16}
    assert found["method.rank"] == 2  # the smallest file


def test_other_methods_get_rates_and_steps_of_their_own() -> None:
    def score(values: Mapping[str, Any]) -> float:
        peak = {"lora": 1e-4, "dreambooth": 1e-5, "dreambooth_lora": 1e-3}[values["method"]]
        return hill(peak)(values) - 0.2 * (values["method"] != "lora")

    stages, found, _ = search(World(score), "find.over=[lr,steps,rank,method]")
    assert (found["method"], found["lr"]) == ("lora", 1e-4)
    others = [c for s in stages if s.over == "method" for c in s.cells]
    assert {cell["method"] for cell in others} == {"lora", "dreambooth"}
    assert not any("method.rank" in cell for cell in others)  # each has its own


@pytest.mark.parametrize("given_up", ["lr", "steps", "inference_steps"])
def test_what_is_given_up_stops_nothing_else(given_up: str) -> None:
    stages, found, rule = search(World(hill(1e-3), (given_up,)))
    asked = {stage.over for stage in stages if stage.cells}
    assert asked >= ({"lr"} if given_up == "lr" else {"lr", "steps", "inference_steps"})
    assert (not found) == (given_up == "lr")
    assert all(dict(cell.values) in rule.asked for cell in rule.told)


def test_of_settings_those_within_the_constraints_lead() -> None:
    leak: Score = lambda values: 0.9 if values["lr"] > 5e-4 else 0.1  # noqa: E731
    world = World(hill(1e-3), leak=leak)
    _, free, _ = search(world)
    _, kept, _ = search(world, constraints={"leak": {"least": None, "most": 0.3}})
    assert free["lr"] == 1e-3
    assert kept["lr"] <= 5e-4


@pytest.mark.parametrize("over", ["[lr]", "[steps]", "[lr,inference_steps]", "[captions]"])
def test_only_what_is_asked_for_varies(over: str) -> None:
    stages, _, rule = search(World(hill(1e-3)), f"find.over={over}", "lr=2e-3")
    names = {"lr": "lr", "steps": "train_steps", "inference_steps": "inference_steps",
             "captions": "method.prompts"}  # fmt: skip
    held = [axis for name, axis in names.items() if name not in over and axis in rule.start]
    assert all(tried(stages, axis) == {rule.start[axis]} for axis in held)
    assert len(rule.told) > 1


def chance_world(seed: int) -> World:
    """Anything: hills, ridges, cliffs, noise."""
    chance = random.Random(seed)
    peak, width = 10 ** chance.uniform(-7, 0), chance.uniform(0.1, 3)
    burst, best = 10 ** chance.uniform(-6, 2), chance.choice([100, 500, 10**9])
    noise, late = chance.choice([0, 0.02, 0.3]), chance.choice([0, 0, 400, 800])

    def score(values: Mapping[str, Any]) -> float | None:
        own = random.Random(f"{seed} {sorted(values.items())}")
        if values["lr"] > burst:
            return None
        if values["train_steps"] < late:
            return UNTAUGHT
        return max(0.0, hill(peak, best, width)(values) + own.gauss(0, noise))

    return World(score)


def steps_of(stages: Sequence[Stage]) -> tuple[int, int, int]:
    """Steps if each trajectory goes on, passes of eight at once, and inference steps."""
    reached: dict[Any, int] = {}
    steps = passes = drawn = 0
    for stage in stages:
        new: dict[Any, int] = {}
        for cell in stage.cells:
            untaught = ("train_steps", "inference_steps", "strength")
            taught = tuple(item for item in sorted(cell.items()) if item[0] not in untaught)
            new[taught] = cell["train_steps"] - reached.get(taught, 0)
            reached[taught] = max(cell["train_steps"], reached.get(taught, 0))
            drawn += cell["inference_steps"]
        steps += sum(max(0, n) for n in new.values())
        passes += math.ceil(len(new) / 8) * max([0, *new.values()])
    return steps, passes, drawn


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["find.over=[lr,steps,inference_steps,rank,method]"],
        ["find.steps=[100,1000]", "find.rates=[1e-3,1e-2]"],
        ["find.over=[lr,captions]", "find.most_rates=1"],
        ["find.over=[inference_steps,strength,prior,captions]", "inference_steps=20"],
    ],
)
def test_no_search_takes_more_than_the_plan_says(words: list[str]) -> None:
    most = steps_of(at_most(*find_of(*words)))
    for seed in range(200):
        stages, _, rule = search(chance_world(seed), *words)
        cells = [str(sorted(cell.items())) for cell in rule.asked]
        assert len(set(cells)) == len(cells)  # none is asked for twice
        assert all(a <= b for a, b in zip(steps_of(stages), most, strict=True)), seed


def test_a_list_with_nothing_new_is_no_stage() -> None:
    words = "find.inference_steps=[50]", "find.strengths=[1]", "find.steps=[250]"
    stages, _, _ = search(World(hill(1e-3)), *words)
    assert {stage.over for stage in stages} == {"lr"}


def test_cells_that_failed_are_no_reason_to_try_lower_rates() -> None:
    rule = Stages(*find_of())
    running = rule.run()
    first = next(running)
    failed = [result(cell=str(c), state="failed", values=dict(c), base="") for c in first.cells]
    with pytest.raises(StopIteration):
        running.send(failed)


def test_the_same_results_give_the_same_stages() -> None:
    assert search(chance_world(3))[0] == search(chance_world(3))[0]


def test_neighbours_are_round_numbers() -> None:
    assert beside(1e-2, (1, 3)) == [3e-3, 3e-2]
    assert beside(3e-3, (1, 2, 3, 5)) == [2e-3, 5e-3]
    assert beside(2.5e-4, (1, 3)) == [1e-4, 3e-4]
    assert beside(100, (1, 3)) == [30]  # there are no higher ones


def test_strengths_are_tried_at_the_best_settings_and_train_nothing() -> None:
    def weaker(values: Mapping[str, Any]) -> float:
        return hill(1e-3)(values) - 0.5 * abs(values["strength"] - 0.8)

    stages, found, rule = search(World(weaker), "find.over=[lr,strength]")
    first, more = (one for one in stages if one.over == "strength" and one.cells)
    assert first.text == "strength 0.8 and 1.2 beside 1"
    assert more.text == "strength 0.8 and 1.2 at the 3 next best settings"
    assert [cell["strength"] for cell in (*first.cells, *more.cells)] == [0.8, 1.2] * 4
    before = [cell for cell in rule.told if cell.values["strength"] == 1]
    before.sort(key=lambda cell: -cell.scores["score"])
    best = [cell.values["lr"] for cell in before[:4]]
    assert [cell["lr"] for cell in (*first.cells, *more.cells)] == [r for r in best for _ in "12"]
    assert found["lr"] == best[0]
    assert found["strength"] == 0.8
    alone, _, _ = search(World(weaker), "find.over=[strength]")
    assert [stage.text for stage in alone][1:] == ["strength 0.8 and 1.2 beside 1"]


def test_where_another_setting_is_better_at_another_strength_none_is_said_to_be_alike() -> None:
    """Strengths that make no difference at what was recommended by then do at the next best."""

    def score(values: Mapping[str, Any]) -> float:
        short = {0.8: 0.7, 1.0: 0.9, 1.2: 1.0}[values["strength"]]
        return hill(1e-3, 500)(values) * (short if values["train_steps"] == 500 else 1.0)

    words = "find.over=[lr,steps,strength]", "find.rates=[5e-4,1e-3,2e-3]", "find.steps=[500,1000]"
    stages, found, _ = search(World(score), *words)
    assert (found["train_steps"], found["strength"]) == (500, 1.2)
    assert tried(stages, "strength") == {0.8, 1.0, 1.2}
    texts = [stage.text for stage in stages if stage.over == "strength"]
    assert texts[-1] == "strength 0.8 and 1.2 at the 3 next best settings"


def test_a_strength_that_identity_alone_prefers_is_taken_and_nothing_else_is_said() -> None:
    def alike(values: Mapping[str, Any]) -> float:
        return 0.5 + 0.1 * values["strength"]

    words = "find.over=[lr,strength]", "find.rates=[1e-3,3e-3]"
    stages, found, _ = search(World(lambda values: 0.8, identity=alike), *words)
    assert found["strength"] == 1.2
    assert "none of these can be told from 1" not in [stage.text for stage in stages]
    stages, found, _ = search(World(lambda values: 0.8, identity=lambda values: 0.5), *words)
    assert "none of these can be told from 1" in [stage.text for stage in stages]


def test_what_has_no_strength_is_not_looked_over_for_one() -> None:
    words = "find.over=[lr,strength]", "method=textual_inversion"
    stages, found, _ = search(World(hill(1e-3)), *words)
    assert {stage.over for stage in stages} == {"lr"}
    assert "strength" not in found
    with pytest.raises(ConfigError, match=r"find\.over: strength: .* as in find\.over=\[lr\]"):
        find_of("find.over=[strength]", "method=textual_inversion")
