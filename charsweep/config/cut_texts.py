"""Prompts that are longer than what reads them: named, and refused where the character is lost.

A text encoder reads so many tokens and never sees the rest. What a sweep's captions and prompts
lose by that is known before anything is trained; one whose identifier is lost would teach, or draw,
somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from charsweep.character import Drawings, captions_of_both
from charsweep.core.cells import Cell
from charsweep.core.columns import regional
from charsweep.core.errors import ConfigError, shown
from charsweep.core.methods import Method, method_of
from charsweep.core.specs import BaseSpec, CharacterSpec, EncoderSpec
from charsweep.core.words import holds, places_in, replaced, same
from charsweep.models.prompt_tokens import PromptReader, readers_of, scoring_reader
from charsweep.models.weights import BaseWeights, Weights

MOST_NAMED = 10  # mistakes in one message
TOKEN = "a"  # a word that every vocabulary holds as one token
EXAM = "exam prompt"


class Prompt(NamedTuple):
    """A text that a base reads, and what a person knows it as."""

    what: str  # "exam prompt", "caption of 01.png"
    text: str
    moved: bool = False  # whether its tags change places while it is taught


class CutText(NamedTuple):
    """A text of which the end is not read."""

    what: str
    tokens: int
    reader: str  # "sdxl"
    room: int  # how many tokens of it are read
    unread: str
    advice: str  # how it would be read whole


@dataclass(frozen=True)
class BaseReader:
    """What a base reads of prompts. `identifier_tokens` stand for the character where a method says
    so; `taught` is a base whose settings are those that a stored cell was taught with."""

    base: BaseWeights
    identifier: str
    identifier_tokens: int | None = None
    taught: bool = False

    @property
    def name(self) -> str:
        return self.base.plugin.name

    @cached_property
    def encoders(self) -> list[PromptReader]:
        return readers_of(self.base)

    def cut(self, prompts: Iterable[Prompt]) -> Iterator[CutText]:
        """The prompts that are not read to their end."""
        for prompt in prompts:
            text = self._written(prompt.text)
            least = min(self.encoders, key=lambda encoder: encoder.room - encoder.count(text))
            if unread := least.unread(text):
                whole = [encoder.name for encoder in self.encoders if not encoder.unread(text)]
                others = f" ({', '.join(whole)} reads it whole)" if whole else ""
                yield CutText(
                    prompt.what, least.count(text), f"{self.name}{others}", least.room, unread,
                    self._advice(least, text),
                )  # fmt: skip

    def lost(self, prompts: Iterable[Prompt]) -> Iterator[str]:
        """What is wrong with prompts whose identifier no encoder reads."""
        for prompt in prompts:
            if (before := self._until_identifier(prompt)) is None:
                continue
            if any(encoder.count(before) <= encoder.room for encoder in self.encoders):
                continue
            most = max(self.encoders, key=lambda encoder: encoder.room)
            text = self._written(prompt.text)
            where = "may be moved" if prompt.moved else "stands"
            mend = "write it earlier"
            if prompt.moved:
                mend = "write it among the first tags, with method.keep_tokens=1 or as many"
            yield (
                f"{prompt.what}: the identifier {shown(self.identifier)} {where} beyond the first "
                f"{most.room} tokens, which are all that {self.name} reads of {most.count(text)}: "
                f"{mend}, or {self._advice(most, text)}"
            )

    def _advice(self, reader: PromptReader, text: str) -> str:
        family = self.base.family
        wanted = reader.chunks(text, family.text_chunks)
        if self.taught or wanted > family.most_text_chunks:
            return "make it shorter"
        return f"set models.bases.{self.name}.text_chunks={wanted}, which reads it whole"

    def _written(self, text: str) -> str:
        if self.identifier_tokens is None:
            return text
        return replaced(text, self.identifier, " ".join([TOKEN] * self.identifier_tokens))

    def _until_identifier(self, prompt: Prompt) -> str | None:
        """The text up to the identifier's end, at its latest place; None where it has none."""
        text, name = same(prompt.text), same(self.identifier)
        if prompt.moved:  # to the end, at worst
            text = ",".join(sorted(text.split(","), key=lambda tag: holds(tag, name)))
        first = next(places_in(text, [name]), None)
        return None if first is None else self._written(text[: first.end])


def cut_texts(
    cells: Sequence[Cell],
    drawings: Drawings,
    bases: Mapping[str, BaseWeights],
    encoders: Mapping[EncoderSpec, Weights],
) -> tuple[CutText, ...]:
    """What bases, and the CLIP that scores, do not read of a sweep's texts; ConfigError where a
    base does not read the character."""
    readings: dict[tuple[Any, ...], BaseReader] = {}
    for cell in _unlike(cells):
        base, name = cell.base, cell.identifier
        assert base is not None
        method = method_of(cell.trajectory.method) if cell.is_trained else None
        tokens = method.identifier_tokens if method else None
        taught = tuple(_taught(cell, drawings, method)) if method else ()
        texts, others = (*taught, *_drawn(cell)), tuple(_others(cell, drawings))
        second = (who.identifier for one in cell.trainings for who in one.characters)
        for called in dict.fromkeys((name, *second)):
            asked = (base.key, tokens, called, texts, others)
            if asked not in readings:
                readings[asked] = reader_of(base, bases, called, method)
    cut = [text for (*_, named, others), reader in readings.items()
           for text in reader.cut([*named, *others])]  # fmt: skip
    known = {text.what for text in cut}
    for spec, weights in encoders.items():
        if weights.what != "clip":  # which alone reads texts
            continue
        name = "CLIP" if spec.name == "clip" else spec.name
        scored = _unscored(f"{name}, which scores,", scoring_reader(weights), readings)
        cut += [text for text in scored if text.what not in known]
    refuse([line for (*_, named, _), reader in readings.items() for line in reader.lost(named)])
    return tuple(dict.fromkeys(cut))


def _unscored(
    scorer: str, clip: PromptReader, readings: Iterable[tuple[Any, ...]]
) -> Iterator[CutText]:
    for prompt in dict.fromkeys(prompt for (*_, drawn, _) in readings for prompt in drawn):
        if prompt.what.startswith(EXAM) and (unread := clip.unread(prompt.text)):
            count = clip.count(prompt.text)
            yield CutText(prompt.what, count, scorer, clip.room, unread, "make it shorter")


def refuse(lost: Iterable[str]) -> None:
    """ConfigError that names them, if there are any."""
    lines = list(dict.fromkeys(lost))
    if lines:
        more = len(lines) - MOST_NAMED
        rest = [f"and {more} more prompts like these"] if more > 0 else []
        raise ConfigError("\n".join([*lines[:MOST_NAMED], *rest]))


def reader_of(
    base: BaseSpec, bases: Mapping[str, BaseWeights], identifier: str, method: Method | None = None
) -> BaseReader:
    """How a base, with the settings that this spec has of it, reads prompts."""
    tokens = method.identifier_tokens if method else None
    return BaseReader(replace(bases[base.key], plugin=base.family), identifier, tokens)


def _unlike(cells: Sequence[Cell]) -> Iterator[Cell]:
    """One cell for all that read the same: those of one combination of axes share these values."""
    seen = set[tuple[object, ...]]()
    for cell in cells:
        source, images = cell.source, cell.images
        own = (id(cell.base), id(getattr(source, "method", None)), id(cell.character),
               id(images.prompts), images.negative_prompt, len(cell.parts))  # fmt: skip
        if cell.base is not None and own not in seen:
            seen.add(own)
            yield cell


def _taught(cell: Cell, drawings: Drawings, method: Method) -> Iterator[Prompt]:
    """What a trajectory is taught with: of each character, and of both."""
    for character in cell.trajectory.characters:
        yield from _captions(character, drawings, method)
    yield from _of_both(cell, drawings, method)


def _of_both(cell: Cell, drawings: Drawings, method: Method) -> Iterator[Prompt]:
    """What pictures of two characters are taught with."""
    if (company := cell.trajectory.company) is None:
        return
    names = (cell.trajectory.character.identifier, company.other.identifier)
    changes = method.caption_changes
    for digest, text in zip(company.joint, company.joint_captions, strict=True):
        kept = ",".join(text.split(",")[: changes.kept])
        moved = changes.shuffle and not all(holds(kept, name) for name in names)
        yield Prompt(f"caption of {drawings.paths[digest].name}", text, moved)
    if company.composes:
        for text in captions_of_both(names[0], company.other):
            yield Prompt("caption of both", text)


def _captions(spec: CharacterSpec, drawings: Drawings, method: Method) -> Iterator[Prompt]:
    changes = method.caption_changes
    paths = (drawings.paths[digest] for digest in spec.digests)
    for path, text in zip(paths, method.captions(spec), strict=False):
        kept = ",".join(text.split(",")[: changes.kept])
        moved = changes.shuffle and not holds(kept, spec.identifier)
        of_all = text == spec.instance_prompt
        yield Prompt("instance prompt" if of_all else f"caption of {path.name}", text, moved)


def _drawn(cell: Cell) -> Iterator[Prompt]:
    for images in cell.drawn_sets:
        for prompt in dict.fromkeys(images.prompts):
            for text in regional(prompt).texts:
                yield Prompt(f'{EXAM} "{text[:30]}…"', text)


def _others(cell: Cell, drawings: Drawings) -> Iterator[Prompt]:
    """What is read, but not for the character's sake."""
    yield Prompt("negative prompt", cell.images.negative_prompt)
    used = cell.trajectory.class_images if cell.is_trained else None
    if used and (own := drawings.class_images.get(used)):
        for path, text in zip(own.paths, own.captions, strict=True):
            yield Prompt(f"caption of {path.name}, a class image", text)
    elif used:
        yield Prompt("class prompt", cell.trajectory.character.class_prompt)
    if others := cell.other_class_images:
        yield Prompt("class prompt of the other", others.prompts[0])
