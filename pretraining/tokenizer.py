"""The embedded models' CLIPTokenizer, with a byte-pair vocabulary of 1,024 entries of its own.

The vocabulary has CLIP's order (256 bytes, 256 bytes that end a word, merges, start, end), so that
the end-of-text token has the highest number and both transformers and open_clip find it there.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from pretraining import data
from pretraining.captions import caption

VOCABULARY = 1_024
LENGTH = 48  # tokens of a padded prompt; the longest captions of the world need 46
START, END = "<|startoftext|>", "<|endoftext|>"


def new_tokenizer(seed: int, captions: int = 20_000) -> CLIPTokenizer:
    """Learn merges from captions of the world (Sennrich et al. 2016)."""
    rng = Random(f"tokenizer-{seed}")
    texts = [caption(data.figure(seed, index), rng) for index in range(captions)]
    alphabet = _byte_alphabet()
    vocabulary = alphabet + [letter + "</w>" for letter in alphabet]
    merges = []
    for first, second in _learned_merges(texts):
        if len(vocabulary) < VOCABULARY - 2 and first + second not in vocabulary:
            vocabulary.append(first + second)
            merges.append((first, second))
    vocabulary += [START, END]
    assert len(vocabulary) == VOCABULARY, f"only {len(vocabulary)} entries learned"
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(vocabulary)},
        merges=merges,  # type: ignore[arg-type]  # pairs are what the tokenizers library takes
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )


def _byte_alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _learned_merges(texts: list[str]) -> list[tuple[str, str]]:
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=VOCABULARY, end_of_word_suffix="</w>", show_progress=False),
    )

    found = json.loads(learner.to_str())["model"]["merges"]
    return [(first, second) for first, second in found]


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load and check: transformers 5 returns an empty tokenizer instead of an error."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder))
    if len(tokenizer) != VOCABULARY:
        raise ValueError(f"{folder} holds {len(tokenizer)} tokens, not {VOCABULARY}")
    return tokenizer
