"""CLIP's byte-pair tokenizer, for pipelines that come without one.

A single checkpoint file has no tokenizer. Its vocabulary is CLIP's (Radford et al. 2021), which
open_clip ships, so nothing has to be fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
# By folder, what fills a prompt up: SDXL's second encoder was trained with id 0.
TOKENIZERS = {"tokenizer": END, "tokenizer_2": "!"}


def clip_tokenizer(part: str) -> CLIPTokenizer:
    """The tokenizer that belongs in folder `part` of a pipeline."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    own = SimpleTokenizer()  # which has other words for the last two tokens, start and end
    *tokens, _, _ = own.encoder
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate([*tokens, START, END])},
        merges=list(own.bpe_ranks),
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=TOKENIZERS[part],
    )
