"""`action=caption`: proposed captions, `NAME.txt` beside each training image that has none."""

from __future__ import annotations

from collections.abc import Sequence


def caption_images(words: Sequence[str]) -> None:
    """Propose, show and write captions; the words are the command line's.

    Raises `CharsweepError`: unusable drawings, no such captioner, a folder that cannot be written.
    """
    # Imported here: what is needed is Hydra and pydantic first, torch only once all is checked.
    from charsweep.actions.caption.propose import propose

    propose(words)


__all__ = ["caption_images"]
