"""The vocabulary of CLIP's tokenizer, from its files alone: nothing is imported to read them."""

from __future__ import annotations

import json
from pathlib import Path

from charsweep.models.clip_vocabulary import clip_vocabulary

WORD_END = "</w>"
COMMON = 0.8  # of a vocabulary, which begins with the commonest; CLIP's last fifth has "sks"
LETTERS = 512  # tokens of CLIP's own that no merge makes


def common_words(configs: Path) -> frozenset[str]:
    """Words that a CLIP tokenizer has one token for, the rarest left out, without loading it.

    `configs` is a folder as diffusers lays it out; CLIP's own where it says nothing.
    """
    tokens = _tokens_of(configs / "tokenizer") or list(clip_vocabulary()[0])[LETTERS:]
    common = tokens[: int(COMMON * len(tokens))]
    return frozenset(token.removesuffix(WORD_END) for token in common if token.endswith(WORD_END))


def _tokens_of(folder: Path) -> list[str]:
    """All tokens in the order of their numbers; [] where the folder has none."""
    for name in ("vocab.json", "tokenizer.json"):
        try:
            read = json.loads((folder / name).read_text(encoding="utf-8"))
            vocabulary = read["model"]["vocab"] if name == "tokenizer.json" else read
            return sorted(vocabulary, key=vocabulary.__getitem__)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return []
