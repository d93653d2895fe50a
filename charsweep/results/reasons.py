"""Why a setting is recommended, how sure that is and what else it does, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from charsweep.core.system.console import span
from charsweep.results.cells import SCORE, CellResult
from charsweep.results.choice import Bounds, Choice
from charsweep.results.labels import (
    COUNTED,
    axis_label,
    bytes_text,
    error_text,
    gain_text,
    listing,
    metric_label,
    score_text,
    value_text,
)
from charsweep.results.points import ERRORS, SAME, Point, difference
from charsweep.results.preference import Preferences
from charsweep.results.records import Record, Value

MUCH = 0.25  # of leak, or of what flexibility lacks, to be worth a word


def setting_text(values: Mapping[str, Value]) -> str:
    """Values by the names that people read: "lora · learning rate 1e-3 · 400 training steps"."""
    texts = [str(values["method"])] if "method" in values else []
    for axis, value in values.items():
        if axis in COUNTED and isinstance(value, int):
            texts.append(f"{value:,} {axis_label(axis)}")
        elif axis != "method":
            texts.append(f"{axis_label(axis)} {value_text(axis, value)}")
    return " · ".join(texts)


def reason_for(choice: Choice, left: int = 0) -> str:
    """Why its best is recommended; `left` settings were so much worse that they left the race."""
    best, alike = choice.best, choice.alike
    if not alike and not choice.others and not left:
        return "it is the one setting that has a score"
    if not alike:
        worse = len(choice.others) + left
        rest = f"each of the {worse} others" if worse > 1 else "the other"
        return f"sure, {rest} is worse by more than chance would do"
    labels = listing([point.label for point in alike], most=3)
    less_alike = f"; {lower(choice.less_alike)}" if choice.less_alike else ""
    if choice.surface and choice.fitted is not None:
        top = max(choice.fitted_cells.values())
        what = "highest in" if choice.fitted >= top else f"within {SAME:g} of the highest"
        what = what if choice.fitted >= top - SAME else "best of its kind in"
        return (
            f"{what} fitted score ({score_text(choice.fitted)}), on a surface through the scores "
            f"of the {len(choice.surface.points)} settings near the best; as far as their own "
            f"images tell, {labels} are as good{less_alike}"
        )
    dearer = [point for point in alike if point.price > best.price]
    if dearer and (saved := savings(best, dearer)):
        dearest = listing([point.label for point in dearer], most=3)
        text = f"as good as {dearest}, as far as these images tell, and cheaper: {saved}"
        return f"{text}{less_alike}"
    score = best.mean(SCORE) or 0.0
    if all(score >= (point.mean(SCORE) or 0.0) for point in alike):
        return f"highest in score, though {labels} cannot be told from it by these images"
    return f"no worse in score than {labels}, as far as these images tell{less_alike}"


def lower(less_alike: Sequence[Point]) -> str:
    """ "lr = 1e-4, no dearer, is lower in identity"."""
    labels = listing([point.label for point in less_alike], most=3)
    return f"{labels}, no dearer, {'is' if len(less_alike) == 1 else 'are'} lower in identity"


def savings(best: Point, dearer: Sequence[Point]) -> str:
    """What it saves against the dearest of these."""
    dearest = max(dearer, key=lambda point: point.price)
    (steps, drawn, size), (most_steps, most_drawn, most_size) = best.price, dearest.price
    texts = []
    if most_steps > steps:
        seconds = (dearest.cost("train_seconds") or 0.0) - (best.cost("train_seconds") or 0.0)
        time = f" ({span(seconds)} of training)" if seconds > 0 else ""
        texts.append(f"{most_steps - steps:,.0f} training steps{time}")
    if most_drawn > drawn:
        quick, slow = best.cost("sample_seconds"), dearest.cost("sample_seconds")
        share = f" ({1 - quick / slow:.0%} of the drawing time)" if quick and slow else ""
        texts.append(f"{most_drawn - drawn:,.0f} inference steps{share}")
    if most_size > size and not texts:
        texts.append(bytes_text((most_size - size) * 1e6))
    return f"up to {' and '.join(texts)} less" if texts else ""


def evidence_of(best: Point) -> str:
    """ "score 0.866 ± 0.050; 94 % of its images are the character and show all that was asked"."""
    text = with_error(best)
    right, both = best.mean("quality_ratio"), best.mean("both")
    if worst := dict.fromkeys(cell.worst for cell in best.finished if cell.worst):
        text += f", its worst ({listing([metric_label(name).short for name in worst])})"
        if both is not None:
            text += f"; {both:.0%} of its pictures of two show both, each where it should be"
    elif right is not None:
        text += f"; {right:.0%} of its images are the character and show all that was asked"
    seeds = len(best.scores(SCORE))
    return f"{text}, over {seeds} training seeds" if seeds > 1 else text


def voted_for(votes: Preferences) -> str:
    """Why votes decide on it."""
    if not votes.alike:
        return f"preferred by people: {votes.how_good} after {votes.votes} votes"
    labels = listing([one.label for one in votes.alike], most=3)
    return f"{votes.votes} votes cannot tell {labels} from it, and it {votes.why_taken}"


def votes_beside(votes: Preferences, best: Point, by_score: Point | None) -> list[str]:
    """How constant the votes are, and what the scores say beside them."""
    same, repeats = votes.constancy.same, votes.constancy.repeats
    texts = [f"{same} of {repeats} repeated pairs were answered alike."] if repeats else []
    if by_score is None:
        return texts
    if by_score is best:
        return ["The scores name the same setting.", *texts]
    scored = with_error(by_score)
    return [f"Votes count above scores, which name {by_score.label} ({scored}).", *texts]


def with_error(point: Point) -> str:
    """ "score 0.866 ± 0.050"."""
    if point.mean(SCORE) is None:
        return "it has no score"
    return f"score {score_text(point.mean(SCORE))}{error_text(point.interval(SCORE))}"


def doubts(choice: Choice, left: int = 0) -> list[str]:
    """How sure a recommendation is, in sentences."""
    best, alike, others = choice.best, choice.alike, choice.others
    texts = []
    gaps = ((point, difference(best, point, SCORE)) for point in others)
    if following := next(((p, gap) for p, gap in gaps if not gap.is_within(ERRORS)), None):
        point, gap = following
        error = f" ± {score_text(ERRORS * gap.error)}" if gap.error else ""
        told = " that is told apart" if alike else ""
        texts.append(f"The next{told}, {point.label}, scores {score_text(gap.value)}{error} less.")
    elif not (alike or others or left):
        texts.append("Nothing stands beside it, so nothing is compared.")
    if left:
        settings, their = ("1 setting", "its") if left == 1 else (f"{left} settings", "their")
        texts.append(
            f"{settings} left the race, worse beyond doubt by {their} first images; search=grid "
            "draws the rest."
        )
    if best.interval(SCORE) is None:
        texts.append(
            "One image a cell says nothing of chance: more exam prompts or exam.seeds would."
        )
    elif not best.is_taught:
        texts.append(
            f"It hardly draws the character: its score is {gain_text(best.gain(SCORE) or 0.0)} "
            "from the untaught base's, which chance could do."
        )
    return texts


def left_out(
    constraints: Mapping[str, Bounds], scored: Sequence[Point], kept: Sequence[Point]
) -> list[str]:
    """How many settings do not keep the constraints."""
    lost = len(scored) - len(kept)
    if not lost:
        return []
    signs = {"least": "≥", "most": "≤"}
    told = listing(
        [
            f"{metric_label(name).short} {signs[end]} {value:g}"
            for name, bounds in constraints.items()
            for end, value in bounds.items()
            if value is not None
        ]
    )
    if not kept:
        return [f"No setting keeps to {told}: this is the best of those that do not."]
    return [f"Left out: {lost} of {len(scored)} settings, which do not keep to {told}."]


def side_effects(record: Record, best: Point) -> list[str]:
    """What else teaching did to the model, where it is more than chance and worth a word."""
    noun = record.sweep.character.class_noun or "other"
    is_of_two = any(cell.worst for cell in best.finished)
    whom = {"leak": (f"every {noun}", "the character")}
    if is_of_two:
        whom = {f"{which}leak": (f"others of the {name}'s class", f"the {name}")
                for which, name in (("", "first"), ("other_", "second"))}  # fmt: skip
    texts = []
    for metric, (others, who) in whom.items():
        leak, span = best.mean(metric), best.interval(metric) or (-math.inf, math.inf)
        if (leak or 0.0) >= MUCH and span[0] > 0:
            texts.append(
                f"It also turns {others} into {who} (leak {score_text(leak)} of 1): prior "
                "preservation (method.prior_weight=1) or fewer steps may mend that."
            )
    flexible = best.mean("flexibility")
    if flexible is not None and flexible <= 1 - MUCH:
        texts.append(
            f"It hardly changes when asked to (flexibility {score_text(flexible)} of 1): captions "
            "that name the clothes (method.prompts=captions), or fewer steps, may."
        )
    return texts


def of_bases(groups: Sequence[Sequence[Point]], best: Sequence[Point]) -> list[str]:
    """What may be the base's doing and not the method's; groups by base, with the best of each."""
    if len(groups) < 2:
        return []
    methods = [
        dict.fromkeys(str(point.finished[0].values.get("method")) for point in group)
        for group in groups
    ]
    bases = [point.finished[0].base for point in best]
    rest = [
        f"on {base} the best is {point.label} ({with_error(point)})"
        for base, point in zip(bases, best, strict=True)
    ]
    text = (
        "Scores are measured from each untaught base, so they are compared within one: "
        f"{'; '.join(rest)}."
    )
    if set.intersection(*map(set, methods)):
        return [text]
    told = [f"{listing(list(own))} on {base}" for own, base in zip(methods, bases, strict=True)]
    return [
        f"{text} Method and base are mixed up here ({'; '.join(told)}): what differs may be the "
        "base. `python -m charsweep +sweep=methods` crosses them."
    ]


def nothing_to_recommend(cells: Sequence[CellResult]) -> str:
    """Why no cell is recommended, and what to do then."""
    if not cells:
        return "No cell has ended yet, so there is nothing to recommend: run the sweep first."
    states = [cell.state for cell in cells]
    how_many = f"All {len(cells)} cells" if len(cells) > 1 else "The one cell"
    if set(states) == {"diverged"}:
        return (
            f"{how_many} diverged: the loss stopped being finite, so nothing was drawn and nothing "
            "can be recommended. Try smaller learning rates."
        )
    if "finished" not in states:
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        ended = ", ".join(f"{count} {state}" for state, count in counts.items())
        return (
            f"No cell finished ({ended}), so nothing can be recommended; the report says why. "
            "The sweep's command tries failed cells again."
        )
    return (
        "There is no finished cell with a score, which needs a base, prompts and drawings, so "
        "nothing is recommended; look at the images, or vote on them (action=choose)."
    )
