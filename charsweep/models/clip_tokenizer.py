"""CLIP's byte-pair tokenizer, for pipelines that come without one.

A single checkpoint file has no tokenizer. Its vocabulary is CLIP's (Radford et al. 2021), which
open_clip ships, so nothing has to be fetched.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from charsweep.models.architectures import VOCABULARY

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
# By folder, what fills a prompt up: SDXL's second encoder was trained with id 0.
TOKENIZERS = {"tokenizer": END, "tokenizer_2": "!"}


def clip_tokenizer(part: str) -> CLIPTokenizer:
    """The tokenizer that belongs in folder `part` of a pipeline."""
    from transformers import CLIPTokenizer

    tokens, merges = _vocabulary()
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=list(merges),  # type: ignore[arg-type]  # pairs are what the tokenizers library takes
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=TOKENIZERS[part],
    )


@cache
def _vocabulary() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """All tokens by their number, and the merges by their rank."""
    from open_clip.tokenizer import bytes_to_unicode, default_bpe

    letters = list(bytes_to_unicode().values())
    count = VOCABULARY - 2 * len(letters) - 2
    with gzip.open(Path(default_bpe()), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : count + 1]
    merges = tuple((first, second) for first, second in (line.split() for line in lines))
    words = [letter + "</w>" for letter in letters]
    return (*letters, *words, *map("".join, merges), START, END), merges
