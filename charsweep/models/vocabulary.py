"""The vocabulary of CLIP's tokenizer, from its files alone: nothing is imported to read them."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

WORD_END = "</w>"
COMMON = 0.8  # of a vocabulary, which begins with the commonest; CLIP's last fifth has "sks"
MERGES = 49_152 - 256 - 2  # of CLIP's own, of which open_clip ships more


def common_words(configs: Path) -> frozenset[str]:
    """Words that a CLIP tokenizer has one token for, the rarest left out, without loading it.

    `configs` is a folder as diffusers lays it out. Empty where no vocabulary is found.
    """
    tokens = _tokens_of(configs / "tokenizer") or _own_tokens()
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


def _own_tokens() -> list[str]:
    """Those that a merge makes, of CLIP's own vocabulary; [] without open_clip."""
    spec = importlib.util.find_spec("open_clip")
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / "bpe_simple_vocab_16e6.txt.gz"
        if file.is_file():
            merges = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
            return ["".join(merge.split()) for merge in merges[1 : MERGES + 1]]
    return []
