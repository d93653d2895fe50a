"""Proposing captions for a folder of training images: the table, and the files written.

Files that were written here are a person's from then on: anything that exists is left as it is, and
to have a caption proposed anew one deletes its file. Rejected: marking files as ours (a line that
training would have to skip, or a list beside them that goes stale once somebody edits one).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic
from rich.console import Console
from rich.table import Table
from rich.text import Text

from charsweep.actions.caption.proposal import Captioner, Proposal
from charsweep.actions.caption.write import caption_file, check_writable, is_shipped, write_new
from charsweep.character import Character
from charsweep.config import Settings, load_settings
from charsweep.config.settings.actions import CaptionSettings
from charsweep.config.settings.mistakes import mistakes
from charsweep.config.variants import character_of
from charsweep.core.errors import ConfigError
from charsweep.core.plugins import resolve
from charsweep.core.system.console import out
from charsweep.core.system.images import open_image
from charsweep.engine.progress import ProgressView

HAS_ITS_OWN = "kept: it has a caption"
NOTHING = "nothing sure: the instance prompt stays"


@dataclass(frozen=True)
class Outcome:
    """What was proposed for an image, and what became of it."""

    image: str
    proposal: Proposal
    state: str


def propose(words: Sequence[str]) -> list[Outcome]:
    """Propose, show and write captions; the words are the command line's.

    Raises `CharsweepError`: unusable drawings, no such captioner, a folder that cannot be written.
    """
    settings = load_settings(words)
    captioner = captioner_of(settings.caption)
    character = character_of(settings)
    folder = character.paths[0].parent
    given = character.found.captions
    write = settings.caption.write and not is_shipped(folder)
    if write:
        check_writable(folder, [path for path in character.paths if path.name not in given])
    proposals = read_all(settings, captioner, character)
    outcomes = [
        settle(path, proposal, given, write)
        for path, proposal in zip(character.paths, proposals, strict=True)
    ]
    tell(outcomes, folder, settings.caption.write)
    return outcomes


def captioner_of(settings: CaptionSettings) -> Captioner:
    """The captioner with its own settings checked; `ConfigError` names all that is wrong."""
    kind = resolve(settings.target)
    if not isinstance(kind, type) or not issubclass(kind, pydantic.BaseModel):
        raise ConfigError(
            f"caption._target_={settings.target} is no captioner; name a pydantic model with an "
            "open method, as charsweep.actions.caption.zero_shot.ZeroShot is"
        )
    try:
        captioner: Captioner = kind.model_validate(settings.model_extra or {})  # type: ignore[assignment]  # by its protocol
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(mistakes(error, "caption"))) from error
    return captioner


def read_all(settings: Settings, captioner: Captioner, character: Character) -> list[Proposal]:
    """One proposal per image, in their order."""
    with ProgressView() as view:
        view.expect(images=len(character.paths))
        view.doing(f"{settings.caption.name}: loading")
        if settings.runtime.threads:
            import torch

            torch.set_num_threads(settings.runtime.threads)
        read = captioner.open(settings, character.spec)
        proposals = []
        for path in character.paths:
            view.line.plain = f"{settings.caption.name}: {path.name}"
            began = time.perf_counter()
            proposals.append(read(open_image(path)))
            view.advance("images", 1, time.perf_counter() - began)
    return proposals


def settle(path: Path, proposal: Proposal, given: Mapping[str, str], write: bool) -> Outcome:
    """Write the caption, unless the image has one, none was found, or it is only shown."""
    if path.name in given:
        return Outcome(path.name, proposal, HAS_ITS_OWN)
    if proposal.caption is None:
        return Outcome(path.name, proposal, NOTHING)
    if not write:
        return Outcome(path.name, proposal, "shown only")
    written = write_new(caption_file(path), proposal.caption + "\n")
    return Outcome(path.name, proposal, "written" if written else HAS_ITS_OWN)


def tell(outcomes: Sequence[Outcome], folder: Path, asked_to_write: bool) -> None:
    """The table, and what to do next, on standard output."""
    table = Table("image", "proposed caption", "because", "what became of it", show_lines=True)
    for outcome in outcomes:
        proposal = outcome.proposal
        cells = (outcome.image, proposal.caption or "–", proposal.because, outcome.state)
        table.add_row(*map(Text, cells))  # Text: brackets in a caption are no markup
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    written = sum(outcome.state == "written" for outcome in outcomes)
    if written:
        out(
            f"captions written to {folder}: {written}. Read and mend them: what is there is never "
            "written over; delete a file to have its caption proposed anew"
        )
    elif asked_to_write and is_shipped(folder):
        out(f"{folder} came with charsweep and is not written to; give character=folder your own")
    else:
        out(f"no captions written to {folder}")
