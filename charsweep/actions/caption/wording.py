"""Rewriting a captioner's sentence about the character: the identifier, and not her looks.

A caption says what the identifier shall *not* mean: what is left unsaid is learned as part of it.
So people who train characters keep position and place and take out, or "prune", the words for hair,
eyes and clothes that the character always has (hollowstrawberry, stable-diffusion-guide, "Lora
training"; khanon, lora-training, "Tagging methodology"). Both note the price: what is not said can
later not be asked for otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from charsweep.core.specs import CharacterSpec

# Words that begin a phrase of its own in a one-sentence caption.
BEGINS = (
    "with|without|wearing|dressed|in|on|at|under|by|near|against|next|while|and|holding|standing|"
    "sitting|jumping|walking|running|lying|flying|riding|playing|waving|dancing|sleeping|kneeling|"
    "looking|smiling|is"
)
ARTICLE = r"(?:a|an|the)\s+"
NO_ADJECTIVE = r"(?!(?:a|an|the|of|and|with|in|on|at|by)\b)"


def about_character(text: str, character: CharacterSpec, looks: Collection[str] = ()) -> str | None:
    """A sentence with the identifier in it; None where nothing else is left of it.

    Phrases with one of the words in `looks` are taken out.
    """
    text = " ".join(text.split()).rstrip(".")
    noun = re.escape(character.class_noun)
    subject = rf"\b{ARTICLE}(?:{NO_ADJECTIVE}[\w'-]+\s+){{0,4}}{noun}\b"
    before, found, after = _around(subject, text)
    rest = without_looks(after if found else text, looks)
    if found:  # "a girl is sitting": after "a picture of" there is no verb
        rest = rest.removeprefix("is ")
    if not rest:
        return None
    if not found:  # another word for her, or none: her name goes before all of it
        return f"{character.instance_prompt}, {rest}"
    if before and not before.endswith(" of"):  # "on the beach, a girl": she comes first
        rest = f"{rest}, {before.rstrip(', ')}"
    return f"{character.instance_prompt} {rest}"


def _around(pattern: str, text: str) -> tuple[str, bool, str]:
    match = re.search(pattern, text, re.IGNORECASE)
    if match is None:
        return "", False, text
    return text[: match.start()].strip(), True, text[match.end() :].strip(" ,")


def without_looks(text: str, looks: Collection[str]) -> str:
    """The phrases of a sentence that hold none of the words in `looks`."""
    kept: list[str] = []
    cut = True  # at the beginning, and after what was taken out, nothing is there to be joined
    for phrase in _phrases(text):
        if {word.strip(",.").casefold() for word in phrase.split()} & set(looks):
            cut = True
            continue
        kept.append(phrase.removeprefix("and ") if cut else phrase)
        cut = False
    return " ".join(kept).strip(" ,")


def _phrases(text: str) -> Iterator[str]:
    """`sitting on the beach and smiling` -> `sitting`, `on the beach`, `and smiling`."""
    joined = ""
    for phrase in re.split(rf"\s+(?=(?:{BEGINS})\b)", text.strip()):
        if phrase == "and":
            joined = "and "
        elif phrase:
            yield joined + phrase
            joined = ""
