"""What votes say: the model beside choix's own, decisive or not, constancy, and the next pair."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import choix
import numpy as np
import pytest
from helpers.small import loaded_after
from helpers.voting import vote

from charsweep.results import preference
from charsweep.results.next_pair import CHECKS, REPEATS, Pair, information_about_best, next_pair
from charsweep.results.preference import Candidate, posterior, preferences
from charsweep.results.votes import Vote


def cells(count: int, rivals: int | None = None, seeds: int = 1) -> tuple[Candidate, ...]:
    """Settings, the first ones in question; the later, the dearer."""
    return tuple(
        Candidate(
            tuple(f"{10 * at + seed:012x}" for seed in range(seeds)), f"c{at}", (at + 1.0, 1, 1),
            rivals is None or at < rivals,
        )
        for at in range(count)
    )  # fmt: skip


def on(asked: Sequence[Candidate], *pairs: tuple[int, int], answer: str = "left") -> list[Vote]:
    return [vote(asked[a].sets[0], asked[b].sets[0], answer) for a, b in pairs]


def test_without_votes_nothing_is_said() -> None:
    known = preferences((), cells(3))
    assert (known.votes, known.best, known.taken, known.strengths) == (0, None, None, {})
    assert known.says == "There are no votes yet."
    assert preferences((), ()).best is None
    elsewhere = preferences([vote("d" * 12, "e" * 12)], cells(3))
    assert elsewhere.votes == 0


def test_strengths_are_those_of_choix() -> None:
    """Of its expectation propagation, with the prior that the ties make; a tie is half a win."""
    chance, asked = np.random.default_rng(0), cells(6)
    true = np.linspace(-1.2, 1.2, 6)
    cast, data = [], []
    for _ in range(150):
        a, b = chance.choice(6, 2, replace=False)
        if chance.random() > 1 / (1 + np.exp(true[b] - true[a])):
            a, b = b, a
        cast += on(asked, (a, b))
        data.append((int(a), int(b)))
    found = posterior(cast, asked)
    mean, covariance = choix.ep_pairwise(6, data, alpha=preference.precision(6))
    assert found.mean == pytest.approx(mean - mean.mean(), abs=0.1)
    level = np.eye(6) - 1 / 6  # strengths are known up to a constant
    errors = np.sqrt(np.diag(level @ covariance @ level))
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(errors, rel=0.05)
    tied = posterior([*on(asked, (0, 1), (1, 0))], asked)
    halves = posterior(on(asked, (0, 1), (0, 1), answer="tie"), asked)
    assert halves.mean == pytest.approx(tied.mean)
    assert halves.covariance == pytest.approx(tied.covariance)


def test_one_that_always_wins_is_best_and_sure() -> None:
    asked = cells(3)
    known = preferences(on(asked, *[(2, 0), (2, 1)] * 12), asked)
    assert known.taken is asked[2]
    assert known.chance > 0.9
    assert not known.alike
    assert known.says == f"c2 is best with {known.chance:.0%} after 24 votes."
    best, other = known.strengths[asked[2].sets[0]], known.strengths[asked[0].sets[0]]
    assert 0.5 < best.low < best.value < best.high < 1
    assert other.high < best.low


def test_two_that_are_alike_are_told_and_the_cheaper_is_taken() -> None:
    asked = cells(3)
    pairs = [(1, 0), (2, 0), (1, 2), (1, 0), (2, 0), (2, 1)]
    known = preferences(on(asked, *pairs * 25), asked)
    assert known.taken is asked[1]
    assert known.alike == (asked[2],)
    assert known.says == "c1 and c2 cannot be told apart after 150 votes: take c1, it is cheaper."
    a_little = preferences(on(asked, *pairs * 20, *[(2, 1)] * 6), asked)
    assert a_little.taken is asked[2]
    assert a_little.says.endswith("take c2, it is likelier the best.")


def test_few_votes_say_nothing_and_more_name_a_leader() -> None:
    asked = cells(8)
    few = preferences(on(asked, (3, 1), (3, 2)), asked)
    assert few.nothing
    assert few.says == "These votes say nothing yet: 2 votes could be coin flips."
    more = preferences(on(asked, *[(3, 1), (3, 2), (4, 1), (4, 2)] * 4), asked)
    assert not more.nothing
    assert more.taken is None
    assert more.says.startswith(f"{more.best.label} leads with" if more.best else "?")
    assert "may be better" in more.says


def test_a_guess_says_nothing_however_often() -> None:
    asked, chance = cells(5), Random(3)
    cast = [
        one
        for pair in itertools.islice(itertools.cycle(itertools.combinations(range(5), 2)), 200)
        for one in on(asked, pair, answer=chance.choice(["left", "right"]))
    ]
    assert preferences(cast, asked).nothing
    assert preferences(cast, asked).taken is None


def test_repeated_pairs_tell_how_constant_a_voter_is() -> None:
    a, b = (one.sets[0] for one in cells(2))
    cast = [
        vote(a, b), vote(b, a, "right"), vote(b, a, "left"),  # alike, then otherwise
        vote(a, b, voter="bob"), vote(a, b, seed=1), vote(a, b, "skip"),  # none is a repeat
        vote(a, b, "tie", prompt=1), vote(b, a, "tie", prompt=1),
    ]  # fmt: skip
    known = preferences(cast, cells(2)).constancy
    assert (known.same, known.repeats) == (2, 3)


def test_training_seeds_of_a_setting_count_for_it() -> None:
    asked = cells(2, seeds=3)
    cast = [vote(asked[1].sets[at % 3], asked[0].sets[0]) for at in range(20)]
    within = [vote(asked[1].sets[0], asked[1].sets[1])]
    known = preferences([*cast, *within], asked)
    assert known.votes == 20
    assert known.taken is asked[1]
    assert len({known.strengths[key] for key in asked[1].sets}) == 1


def test_an_outsider_that_wins_is_in_question_and_one_that_loses_is_not() -> None:
    asked = cells(6, rivals=2)
    known = preferences(on(asked, (4, 0), (0, 5)), asked)
    assert {one.label for one, _ in known.chances} == {"c0", "c1", "c4"}
    assert asked[3].sets[0] not in known.strengths


# -- the next pair ---------------------------------------------------------------------------------


def ask(
    asked: Sequence[Candidate], count: int, answer: Callable[[Pair], str], seed: int = 0
) -> tuple[list[Vote], list[Pair]]:
    """So many answers of ann to what is asked of an exam of four prompts and two seeds."""
    cast, pairs, random = list[Vote](), [], Random(seed)
    for _ in range(count):
        pair = next_pair(cast, asked, 4, (5, 7), random, "ann")
        assert pair is not None
        pairs.append(pair)
        cast.append(vote(pair.left, pair.right, answer(pair), prompt=pair.prompt, seed=pair.seed))
    return cast, pairs


def by_number(pair: Pair) -> str:
    """The one with the higher key is liked more."""
    return "left" if pair.left > pair.right else "right"


def test_pairs_find_the_best_and_prompts_are_asked_evenly() -> None:
    asked = cells(6)
    cast, pairs = ask(asked, 60, by_number)
    assert preferences(cast, asked).taken is asked[5]
    times = Counter(key for pair in pairs for key in (pair.left, pair.right))
    assert times[asked[5].sets[0]] > 2 * times[asked[0].sets[0]]  # asked where it matters
    prompts = Counter(pair.prompt for pair in pairs if not pair.repeat)
    assert max(prompts.values()) - min(prompts.values()) <= 4
    assert {pair.seed for pair in pairs} == {5, 7}
    lefts = sum(pair.left > pair.right for pair in pairs)
    assert 18 <= lefts <= 42


def test_one_pair_in_twenty_is_repeated_with_sides_swapped() -> None:
    cast, pairs = ask(cells(5), 200, by_number, seed=1)
    repeats = [at for at, pair in enumerate(pairs) if pair.repeat]
    assert 3 <= len(repeats) <= 25 * 200 * REPEATS / 10
    for at in repeats:
        pair = pairs[at]
        swapped = [(old.left, old.right, old.prompt, old.seed) for old in pairs[:at]]
        assert (pair.right, pair.left, pair.prompt, pair.seed) in swapped
    known = preferences(cast, cells(5)).constancy
    assert known.same == known.repeats >= len(repeats)


def test_at_times_an_outsider_is_set_beside_the_likely_best() -> None:
    asked = cells(12, rivals=4)
    _, pairs = ask(asked, 150, lambda pair: "right" if pair.left > pair.right else "left")
    outside = {key for one in asked[4:] for key in one.sets}
    checked = [pair for pair in pairs if {pair.left, pair.right} & outside]
    assert 150 * CHECKS / 3 <= len(checked) <= 150 * CHECKS * 3
    assert all(not {pair.left, pair.right} <= outside for pair in checked)


def test_the_same_random_numbers_ask_the_same() -> None:
    assert ask(cells(5), 30, by_number, seed=4)[1] == ask(cells(5), 30, by_number, seed=4)[1]


def test_settings_read_anew_are_the_same_settings() -> None:
    """What was found of equal ones is kept, and none is set beside itself for that."""
    posterior([], cells(3))
    for number in range(200):
        pair = next_pair([], cells(3), 2, (0,), Random(number))
        assert pair is not None
        assert pair.left != pair.right


def test_fewer_than_two_are_not_compared() -> None:
    assert next_pair((), cells(1), 4, (0,), Random(0)) is None
    one = cells(3, rivals=1)
    pair = next_pair((), one, 4, (0,), Random(0))
    assert pair is not None
    assert one[0].sets[0] in (pair.left, pair.right)


def test_information_is_what_an_answer_tells_of_the_best() -> None:
    """Beside its definition, counted by samples; and a pair that cannot be best tells less."""
    samples = np.random.default_rng(0).normal([1.0, 0.8, -3.0, -3.0], 0.5, (400, 4))
    worth = information_about_best(samples)
    for left, right in itertools.combinations(range(4), 2):
        chance = 1 / (1 + np.exp(samples[:, right] - samples[:, left]))
        best = samples.argmax(axis=1)
        told = 0.0
        for answer in (chance, 1 - chance):
            for cell in range(4):
                both = np.mean(answer * (best == cell))
                if both:
                    told += both * np.log(both / np.mean(answer) / np.mean(best == cell))
        assert worth[left, right] == pytest.approx(told, abs=1e-9)
    assert np.unravel_index(worth.argmax(), worth.shape) == (0, 1)
    assert worth[2, 3] < worth[0, 1] / 20


def test_thousands_of_settings_are_asked_about_as_fast() -> None:
    asked = cells(4200, rivals=24)
    cast, _ = ask(asked, 30, by_number)
    begin = time.perf_counter()
    for seed in range(3):
        next_pair(cast[: 20 + seed], asked, 8, (0, 1), Random(seed))
        preferences(cast[: 20 + seed], asked)
    assert (time.perf_counter() - begin) / 3 < 1.5  # ten times what it takes, for a busy machine


def test_choix_is_loaded_where_votes_are_counted_alone(tmp_path: Path) -> None:
    assert "choix" not in loaded_after("import charsweep.results, charsweep.results.next_pair")
