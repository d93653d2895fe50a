"""CLIP's byte-pair tokenizer, for pipelines that come without one.

A single checkpoint file has no tokenizer. Its vocabulary is CLIP's, which ships with open_clip, so
nothing has to be fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from charsweep.models.vocabulary import END, LENGTH, START, clip_vocabulary

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

# By folder, what fills a prompt up: SDXL's second encoder was trained with id 0.
TOKENIZERS = {"tokenizer": END, "tokenizer_2": "!"}


def clip_tokenizer(part: str) -> CLIPTokenizer:
    """The tokenizer that belongs in folder `part` of a pipeline."""
    from transformers import CLIPTokenizer

    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # which means pairs
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=TOKENIZERS[part],
    )
