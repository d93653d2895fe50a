"""Vocabularies of CLIP's tokenizers (Radford et al. 2021), read without torch and transformers.

That of a pipeline lies in its folder; CLIP's own is shipped by open_clip.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # of a prompt, with its beginning and end
MERGES = 49152 - 256 - 2
WORD_END, SPACE = "</w>", "Ġ"
COMMON = 0.8  # of a vocabulary, which begins with the commonest; CLIP's last fifth has "sks"
LETTERS = 512  # tokens of CLIP's own that no merge makes

Merges = list[tuple[str, str]]


def clip_vocabulary() -> tuple[dict[str, int], Merges]:
    """Numbers by token, and the pairs that are merged, first ones first.

    Read from a file in open_clip's package, which itself would bring torch with it.
    """
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")
    merges = [(first, second) for first, second in map(str.split, lines[1 : MERGES + 1])]
    letters = _letters()
    tokens = [*letters, *(f"{one}</w>" for one in letters), *map("".join, merges), START, END]
    return {token: number for number, token in enumerate(tokens)}, merges


def _letters() -> list[str]:
    """The 256 bytes as letters, printable ones first, as GPT-2 has them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = (256 + number for number in range(256 - len(printable)))
    return list(map(chr, [*printable, *others]))


def common_words(configs: Path) -> frozenset[str]:
    """Words that a tokenizer has one token for, the rarest left out, without loading it.

    `configs` is a folder as diffusers lays it out; CLIP's own where it says nothing. CLIP marks the
    end of a word, Qwen's tokenizer the space before it.
    """
    tokens = _tokens_of(configs / "tokenizer") or list(clip_vocabulary()[0])[LETTERS:]
    common = tokens[: int(COMMON * len(tokens))]
    ended = (token.removesuffix(WORD_END) for token in common if token.endswith(WORD_END))
    begun = (token.removeprefix(SPACE).lower() for token in common if token.startswith(SPACE))
    return frozenset((*ended, *begun))


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
