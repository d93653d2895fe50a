"""CLIP's vocabulary (Radford et al. 2021), which open_clip ships; no torch."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # of a prompt, with its beginning and end
MERGES = 49152 - 256 - 2

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
