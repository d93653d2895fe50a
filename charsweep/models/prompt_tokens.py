"""Tokens of prompts, counted as a base's own tokenizers do, while it is not loaded; no torch.

What is not read of a prompt, because it is too long for the text encoders, is known at planning.
A pipeline's tokenizers lie in its folder; those of single files, and of random weights, are CLIP's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import read_json
from charsweep.models.vocabulary import END, LENGTH, Merges, clip_vocabulary
from charsweep.models.weights import CONFIGS, BaseWeights, Weights, config_beside

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What CLIP's tokenizer parts a text by, as transformers has it.
PARTS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


@dataclass(frozen=True)
class PromptReader:
    """An encoder that reads `room` tokens of a prompt, by the tokenizer in `folder`."""

    name: str
    folder: Path | None  # None: CLIP's own
    room: int

    def count(self, text: str) -> int:
        """Tokens of a text, without those that stand for its beginning and end."""
        return len(_encoded(self.folder, text))

    def unread(self, text: str) -> str:
        """The end of a text that has no room; "" where all of it is read."""
        starts = _encoded(self.folder, text)
        return text[starts[self.room] :].strip(" ,") if len(starts) > self.room else ""

    def chunks(self, text: str, chunks: int) -> int:
        """In how many chunks all of it would be read, where `chunks` have the room there is."""
        return -(-self.count(text) * chunks // self.room)


def readers_of(base: BaseWeights) -> list[PromptReader]:
    """The text encoders of a base."""
    family, configs = base.family, base.configs
    absent = family.left_out(configs)
    found = []
    for encoder, tokenizer in zip(family.encoders, family.tokenizers, strict=True):
        if encoder not in absent:
            folder, length = _tokenizer_in(configs / tokenizer)
            found.append(PromptReader(encoder, folder, family.room(encoder, length)))
    return found


def scoring_reader(clip: Weights) -> PromptReader:
    """The CLIP that compares images with prompts."""
    is_file = clip.path.is_file()
    file = config_beside(clip.path, "clip") if is_file else clip.small / CONFIGS["clip"]
    config = read_json(file) if file.exists() else {}
    texts = config.get("model_cfg", config).get("text_cfg", {})
    folder, _ = _tokenizer_in(file.parent)
    return PromptReader("clip", folder, texts.get("context_length", LENGTH) - 2)


def _tokenizer_in(folder: Path) -> tuple[Path | None, int]:
    """The folder, if a tokenizer is in it, and the length that prompts are cut at."""
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return None, LENGTH
    config = folder / "tokenizer_config.json"
    length = read_json(config).get("model_max_length") if config.exists() else None
    return folder, length if isinstance(length, int) else LENGTH


@cache  # a sweep asks for the same few texts in every cell
def _encoded(folder: Path | None, text: str) -> list[int]:
    """Where each token of a text begins in it."""
    return [start for start, _ in _tokenizer(folder).encode(text, add_special_tokens=False).offsets]


@cache
def _tokenizer(folder: Path | None) -> Tokenizer:
    from tokenizers import Tokenizer

    if folder is None:
        return _clip(*clip_vocabulary())
    try:
        if (folder / "tokenizer.json").exists():
            found = Tokenizer.from_file(str(folder / "tokenizer.json"))
            found.no_truncation()
            found.no_padding()
            return found
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        pairs = [line.split() for line in lines if line and not line.startswith("#version")]
        return _clip(read_json(folder / "vocab.json"), [(a, b) for a, b in pairs])
    except Exception as error:  # `tokenizers` raises no kinds of its own
        raise ModelsError(
            f"cannot read the tokenizer in {folder}: {error}; fetch the files in it again"
        ) from error


def _clip(vocabulary: dict[str, int], merges: Merges) -> Tokenizer:
    """CLIP's tokenizer, as transformers' `CLIPTokenizer` makes it."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    made: Any = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token=END)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PARTS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer: Tokenizer = made
    return tokenizer
