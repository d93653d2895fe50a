"""A plan in words, as the console shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charsweep.character import Character
from charsweep.character.lint import lint_captions, lint_drawings, lint_identifier
from charsweep.config import Range, Sweep
from charsweep.config.company import a_kind
from charsweep.config.cut_texts import CutText
from charsweep.config.precision import precision_note
from charsweep.config.settings.groups import OF_TWO
from charsweep.core.errors import shown
from charsweep.core.methods import method_of
from charsweep.core.specs import (
    CHARACTER,
    PLACE,
    Added,
    AttributeSpec,
    ComposedSpec,
    TrajectorySpec,
)
from charsweep.core.store import Store
from charsweep.core.system.console import span
from charsweep.core.system.hardware import find_card
from charsweep.models.prediction import EPSILON, VELOCITY_ZERO_SNR
from charsweep.models.vocabulary import common_words
from charsweep.models.weights import BaseWeights
from charsweep.plan import cost, memory
from charsweep.plan.work import Plan, plan_work
from charsweep.plan.workers import is_asynchronous, is_elsewhere, refuse_workers
from charsweep.results.labels import bytes_text, in_quotes, listing

MOST_CUT = 4  # texts that a plan names


def describe_plan(sweep: Sweep, numbers: Mapping[str, Any]) -> str:
    """The plan in a few lines, of a grid or of a search."""
    lines = [*_asked(sweep), *_of_character(sweep), *_to_fetch(sweep)]
    if sweep.settings.find:
        lines += _of_stages(sweep, numbers)
    else:
        lines += _of_grid(numbers) if sweep.cells else _of_search(sweep, numbers["workers"])
    lines += _of_race(sweep, numbers)
    lines += _of_triggers(sweep)
    lines += _encoders_to_fetch(sweep)
    if sweep.unmeasured:
        lines.append(
            "  pack=auto      not measured here yet: reckoned one by one; a run measures it first"
        )
    lines += _in_time(sweep, numbers)
    if note := precision_note(sweep.settings, Store(sweep.root)):
        lines.append(f"  precision=auto {note}")
    return "\n".join(lines)


def _to_fetch(sweep: Sweep) -> Iterator[str]:
    """What a run fetches first, once."""
    for base in sweep.bases.values():
        if size := base.to_fetch:
            yield (
                f"  download      about {bytes_text(size)} for {base.plugin.name}, once: "
                f"{base.pipeline.name}"
            )


def _of_character(sweep: Sweep) -> Iterator[str]:
    """What was found of each character, and what may spoil it."""
    is_cut = any(companion.cut for companion in sweep.variants.companions)
    for name, one in _taught(sweep).items():
        yield f"  {one.spec.kind:<14}{name}{_found(one, is_cut)}"
    told = dict.fromkeys(_company(cell.source) for cell in sweep.examples)
    yield from (f"  company       {line}" for line in told if line)
    for line in lint(sweep):
        yield f"  lint          {line}"


def _company(spec: TrajectorySpec | Added) -> str:
    """How a trajectory teaches two, or how two adapters draw; empty for one."""
    if isinstance(spec, ComposedSpec):
        where = "each on its own half of a picture of both"
        return f"an adapter each, {where if spec.called else 'both on all of every picture'}"
    if not isinstance(spec, TrajectorySpec) or (company := spec.company) is None:
        return ""
    first, other = spec.character.identifier, company.other.identifier
    share = f"{100 * company.joint_share:g} %" if company.joint_share else "none"
    what = f"pictures {len(company.joint)} of your own"
    if company.composes and company.other.kind == PLACE:
        what = f"{first}, cut out by masks, on the drawings of {other}"
    elif company.composes:
        what = "pictures composed by their masks"
    how = f": {what}" if company.joint_share else ""
    return f"{first} and {other} in one adapter, {share} of the steps show both{how}"


def _encoders_to_fetch(sweep: Sweep) -> Iterator[str]:
    """The encoders that a run fetches, once."""
    for spec, weights in sweep.encoders.items():
        if size := weights.encoder_to_fetch:
            yield f"  download      about {bytes_text(size)} for {spec.name}, once: {weights.name}"


def _taught(sweep: Sweep) -> dict[str, Character]:
    """The characters by what a line on each begins with: of one, nothing."""
    variants = sweep.variants
    every = (*variants.characters, *(companion.other for companion in variants.companions))
    known = list({one.spec: one for one in every}.values())
    if len(known) == 1:
        return {"": known[0]}
    words = [one.spec.identifier for one in known]
    places = [one.paths[0].parent.name if one.paths else one.spec.name for one in known]
    names = [
        f"{word} ({place})" if words.count(word) > 1 else word
        for word, place in zip(words, places, strict=True)
    ]
    told = [
        f"{name}, {at}: " if names.count(name) > 1 else f"{name}: "
        for at, name in enumerate(names, start=1)
    ]
    return dict(zip(told, known, strict=True))


def _found(character: Character, is_cut: bool = False) -> str:
    """What the folder of a character holds, whose masks may be what it is cut out by."""
    found, kept = character.found, character.held_out
    if not found.thumbnails:
        others = f"{len(kept.paths)} held out" if kept else "so identity stays blank"
        return f"no drawings, {others}"
    numbers = {
        "drawing": len(found.thumbnails),
        "caption": len(found.captions),
        "mask": found.masks,
    }
    if character.spec.kind == PLACE and not found.masks:  # nobody is cut out of it
        del numbers["mask"]
    text = ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in numbers.items())
    if found.masks and not is_cut and (character.masks is None or None in character.masks.paths):
        text += " (not used)"
    if kept:
        text += f", {len(kept.paths)} held out"
    if found.folder:
        text += f"; of {found.folder}, whose repeats and words are not used"
    if found.left_out:
        text += f"; left out: {', '.join(found.left_out)}"
    return text


def lint(sweep: Sweep) -> Iterator[str]:
    """What may spoil what the sweep teaches, each with its remedy."""
    for name, character in _taught(sweep).items():
        specs = [cell.trajectory for cell in sweep.examples if cell.is_trained]
        own = [
            spec
            for spec in specs
            if character.spec in (spec.character, spec.company and spec.company.other)
        ]
        if own:
            yield from (f"{name}{line}" for line in _lint_of(character, own, sweep))


def _lint_of(character: Character, taught: Sequence[TrajectorySpec], sweep: Sweep) -> Iterator[str]:
    found = character.found
    kept = character.held_out.thumbnails if character.held_out else ()
    yield from lint_drawings(found.thumbnails, kept, max(spec.resolution for spec in taught))
    if sweep.bases:
        base = next(iter(sweep.bases.values()))
        yield from lint_identifier(character.spec, common_words(base.configs))
    read = {method_of(spec.method).captions(character.spec) for spec in taught}
    if character.spec.captions in read:
        known = sweep.settings.attributes.items()
        looks, changing = (
            [
                AttributeSpec(name, tuple(one.words))
                for name, one in known
                if one.of_character is own
            ]
            for own in (True, False)
        )
        yield from lint_captions(character.spec, found.captions, looks, changing)


def _of_grid(numbers: Mapping[str, Any]) -> Iterator[str]:
    stored, workers = numbers["stored"], numbers["workers"]
    asked, needed = numbers["steps_asked"], numbers["steps_needed"]
    yield f"  cells         {numbers['cells']} ({stored['cells']} stored already)"
    if adapters := numbers["adapters"]:
        yield f"  adapters      {adapters} from elsewhere"
    if composed := numbers["composed"]:
        yield f"  composed      {composed} of what others train; for them nothing is trained"
    if trajectories := numbers["trajectories"] - adapters - composed:
        idle = stored["trajectories"] - adapters - composed
        yield f"  trajectories  {trajectories} ({idle} need no training)"
        yield f"  steps         {needed:,} to train; each cell alone would take {asked:,}"
        yield f"  packs         {_packs(numbers)}"
    yield f"  images        {numbers['images']:,} to draw, {numbers['scores']:,} scores to compute"
    yield f"  estimate      {_estimate(numbers)}, {numbers['bytes'] / 1e6:,.1f} MB"
    if known := numbers.get("memory"):
        each = f" of each of {workers} workers" if workers > 1 else ""
        yield f"  memory        expected peak{each} {known['text']}"
    if numbers["kwh"] is not None:  # once the power of this machine is known
        saved = numbers["kwh_alone"] - numbers["kwh"]
        sharing = f"; sharing saves about {kwh(saved)}" if saved > 0 else ""
        yield f"  energy        about {kwh(numbers['kwh'])}{sharing}"


def _estimate(numbers: Mapping[str, Any]) -> str:
    """ "2 min 10 s by 2 workers", and whether that is a guess."""
    workers, machine = numbers["workers"], numbers["guessed_for"]
    by = f" by {workers} workers" if workers > 1 else ""
    guessed = f" (a guess for {machine}; not measured here yet)" if machine else ""
    return f"{span(numbers['seconds'])}{by}{guessed}"


def _of_triggers(sweep: Sweep) -> Iterator[str]:
    """Adapters that say they were taught with other words than prompts call the character by."""
    named = {cell.source.key: cell.identifier for cell in sweep.examples}
    for key, file in sweep.adapters.items():
        used = named[key]
        said = str(file.making.get("trigger", ""))
        if said and file.trigger is None and used.lower() not in said.lower():
            entry = f"{{path: {file.path}, trigger: {in_quotes(said)}}}"
            yield (
                f"  trigger       {file.name} says {in_quotes(said)}, and prompts say {used}; "
                f"'adapters=[{entry}]' has its own words"
            )


def _of_race(sweep: Sweep, numbers: Mapping[str, Any]) -> list[str]:
    """After how many images cells may leave a race, of one in which any still may."""
    settings = sweep.settings
    is_race = settings.search.is_race or (settings.find is not None and settings.by_score)
    if not is_race or not numbers["images"]:
        return []
    racing = [cell for cell in sweep.examples if not cell.worst_of]
    counts = sorted({own.count for cell in racing for own in cell.images.beginnings})
    if not counts:
        return []
    whole = max(cell.images.count for cell in sweep.examples)
    return [
        f"  race          all this at most: cells that are worse beyond doubt leave after "
        f"{listing([str(count) for count in counts], most=8)} of {whole} images"
    ]


def _of_stages(sweep: Sweep, numbers: Mapping[str, Any]) -> Iterator[str]:
    """The worst that a search in stages may come to: what is told apart early ends it sooner."""
    find = sweep.settings.find
    assert find is not None
    for over in dict.fromkeys(stage["over"] for stage in numbers["stages"]):
        own = [stage for stage in numbers["stages"] if stage["over"] == over]
        cells, seconds = (sum(stage[name] for stage in own) for name in ("cells", "seconds"))
        word = "cell" if cells == 1 else "cells"
        yield f"  {over.replace('_steps', ''):<13} at most {cells} {word}, {span(seconds)}"
    most = f"{numbers['steps_needed']:,}"
    yield f"  training      at most {most} steps; what is stored is not trained again"
    yield f"  images        at most {numbers['images']:,} to draw"
    yield f"  estimate      at most {_estimate(numbers)}"
    if find.seconds is not None:
        money = f" ({span(find.seconds)} at {find.price:g} an hour)" if find.price else ""
        yield f"  budget        {find.budget}{money}: what does not fit is given up"


def _of_search(sweep: Sweep, workers: int) -> Iterator[str]:
    """What an adaptive search may do: its cells are not known before they are chosen."""
    settings, search = sweep.settings, sweep.settings.search
    axis = sweep.axes.get("train_steps", (settings.train_steps,))
    longest = max(axis.values if isinstance(axis, Range) else axis)
    assert search.trials is not None
    free = is_asynchronous(sweep, workers)
    asked = "asked for when a worker is free" if free else f"{search.at_once} at a time"
    yield f"  search        {search.name}: {search.trials} trials, {asked}"
    most = f"{search.trials * longest:,}"
    yield f"  steps         at most {most}; what is stored is not trained again"
    if search.rungs:
        yield f"  rungs         at {', '.join(map(str, search.rungs))} steps"


def _in_time(sweep: Sweep, numbers: Mapping[str, Any]) -> Iterator[str]:
    """Whether a time limit is expected to do."""
    if (whole := sweep.settings.runtime.stop_after) is None:
        return
    lacks = numbers["seconds"] - cost.seconds_for_work(whole, numbers["seconds_to_stop"])
    text = "all of it is expected to fit"
    if not (sweep.cells or sweep.settings.find):
        text = "what is left then, the same command goes on with"
    elif lacks > 0:
        about = "at most" if sweep.settings.find else "about"
        text = f"{about} {span(lacks)} of work will be left; the same command goes on with it"
    yield f"  stop after    {span(whole)}, report included: {text}"


def _asked(sweep: Sweep) -> list[str]:
    lines = [f"{sweep.name}: {sweep.settings.question}"]
    for part in sweep.parts:
        lines.append(f"  {part.name:<13} {len(part.cells)} cells: {part.question}")
    for exam, settings in {v.settings.exam.name: v.settings for v in sweep.variants}.items():
        are_two, parts = bool(settings.characters), settings.unasked
        if unasked := [name for name, part in parts.items() if are_two or part not in OF_TWO]:
            text = f"{', '.join(unasked)}: exam={exam} has no prompts for them"
            lines.append(f"  not asked     {text}")
        if not are_two and (
            asked := [part for part in OF_TWO if part in (settings.exam.parts or {})]
        ):
            kind = settings.exam.kind
            both = "two characters" if kind == CHARACTER else f"a character with {a_kind(kind)}"
            text = f"exam={exam} asks for {both} ({', '.join(asked)}), and there is one"
            lines.append(f"  not asked     {text}")
    lines += unread(sweep.cut)
    for own in sweep.drawings.class_images.values():
        taught = (cell.trajectory for cell in sweep.examples if cell.is_trained)
        used = any(
            own.key in (one.class_images, one.company and one.company.class_images)
            for one in taught
        )
        why = "" if used else ", not used: no method here has a prior_weight above 0"
        lines.append(f"  class images  {len(own.paths)} of your own{why}")
    if not sweep.parts:
        axes = "; ".join(f"{name}: {_values(axis)}" for name, axis in sweep.axes.items())
        axes = ", ".join(sweep.axes) if sweep.settings.find else axes
        lines.append(f"  axes          {axes or 'none'}")
    return [*lines, *(f"  base          {line}" for line in _predicting(sweep.bases))]


def _predicting(bases: Mapping[str, BaseWeights]) -> Iterator[str]:
    """What is taught to predict velocity, which most bases do not."""
    for base in bases.values():
        if base.prediction not in (None, EPSILON):
            end = ", with zero terminal SNR" if base.prediction == VELOCITY_ZERO_SNR else ""
            yield f"{base.plugin.name} predicts velocity{end}"


def unread(texts: Sequence[CutText]) -> Iterator[str]:
    """Captions and prompts of which the end is not read, and how they would be read whole."""
    for number, text in enumerate(texts[:MOST_CUT]):
        name = "" if number else "not read"
        yield (
            f"  {name:<13} {text.what}: {text.reader} reads {text.room} of {text.tokens} tokens, "
            f'not "{shown(text.unread, 40)}"'
        )
    if len(texts) > MOST_CUT:
        yield f"  {'':<13} and {len(texts) - MOST_CUT} more captions and prompts"
    longest = {text.reader: text for text in sorted(texts, key=lambda text: text.tokens)}
    for advice in dict.fromkeys(text.advice for text in longest.values()):
        yield f"  {'':<13} {advice}"


def _values(axis: tuple[Any, ...] | Range) -> str:
    if not isinstance(axis, Range):
        return ", ".join(map(_short, axis))
    how = " (log)" if axis.log else f" in steps of {axis.step:g}" if axis.step else ""
    return f"{_short(axis.low)} to {_short(axis.high)}{how}"


def _packs(numbers: Mapping[str, Any]) -> str:
    """ "7 trajectories, 8 at once: 1,000 passes; slots idle 12.5 %"."""
    packs = numbers["packs"]
    if not packs:
        return "none"
    together = [pack for pack in packs if pack["width"] > 1]
    alone = len(packs) - len(together)
    parts = [
        f"{pack['trajectories']} trajectories, {pack['width']} at once: {pack['passes']:,} passes"
        for pack in together
    ]
    if alone:
        parts.append(f"{alone} trained alone")
    return "; ".join(parts) + f"; slots idle {numbers['idle']:.1%}"


def kwh(energy: float) -> str:
    """An energy given in kWh, in words: "1.20 kWh", "3.4 Wh"."""
    return f"{energy:.2f} kWh" if energy >= 1 else f"{1000 * energy:.1f} Wh"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else in_quotes(str(value))


def reckon(sweep: Sweep, store: Store, plan: Plan, workers: int = 1) -> dict[str, Any]:
    """The plan in numbers, its memory too."""
    works, place = memory_works(sweep, store, plan)
    cells = len(sweep.cells) or sweep.settings.search.trials or 0
    return {
        **cost.summary(plan, store, dict(sweep.bases), workers),
        "bytes_to_fetch": sum(base.to_fetch for base in sweep.bases.values())
        + sum(round(encoder.encoder_to_fetch) for encoder in sweep.encoders.values()),
        "seconds_to_stop": seconds_to_stop(sweep, store, plan, cells),
        "memory": memory.summary(memory.needs_of(works, place), place.card),
    }


def seconds_to_stop(sweep: Sweep, store: Store, plan: Plan, cells: int) -> float:
    """What a stop in order takes, by what trains of a grid or may train in a search."""
    asked = plan if sweep.cells else plan_work(sweep.examples, store)
    return cost.seconds_to_stop(asked, cells, store, dict(sweep.bases))


def refuse_too_much(sweep: Sweep, store: Store, plan: Plan, workers: int) -> None:
    """ConfigError if what is missing cannot fit this machine's memory."""
    works, place = memory_works(sweep, store, plan)
    memory.refuse(works, place, sweep.axes)
    refuse_workers(workers, memory.needs_of(works, place), place)


def memory_works(sweep: Sweep, store: Store, plan: Plan) -> tuple[list[memory.Work], memory.Place]:
    """What of a plan takes memory, and where."""
    runtime = sweep.settings.runtime
    card = None if is_elsewhere(runtime) else find_card(runtime.device)
    place = memory.Place(sweep.bases, cost.Speeds(store), card)
    return memory.works_of(plan, place, runtime), place
