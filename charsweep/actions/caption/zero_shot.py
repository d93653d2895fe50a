"""The captioner by zero-shot classification: CLIP and a vocabulary, one attribute after another.

As in Radford et al. 2021 (section 3.1.4): each word is put into every template, the text features
are averaged, and the softmax of cosine times CLIP's learned scale is its probability. An attribute
is asked within the caption so far ("a picture of a girl sitting on the beach ..."): the embedded
CLIP was taught whole captions and then tells moods apart that it mixes up in bare templates.

`sure` is the probability from which an answer is believed; at 0.5 it is as likely as all others
together, so that is the least one may ask for. 0.8 was measured on 800 drawings of the embedded
world that its CLIP has never seen, half of them of UnicornGirl: position, place and eyes are then
answered for 98 to 100 % of the drawings and always rightly, arms for 97 %, 99.6 % of them rightly.
Mood wants 0.95: answered for 14 %, 99 % of them rightly. tests/actions/test_caption.py measures it
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pydantic
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from charsweep.actions.caption.proposal import Proposal, Reader
from charsweep.config import Settings
from charsweep.config.locations import made_in
from charsweep.config.settings.field_types import STRICT, Text
from charsweep.config.settings.groups import Attribute, Probability
from charsweep.core.errors import ConfigError
from charsweep.core.specs import CharacterSpec, EncoderSpec
from charsweep.models.weights import find_weights

if TYPE_CHECKING:  # torch
    from charsweep.evaluate.encoders.network import Network

Features = NDArray[np.float32]


def _with_places(template: str) -> str:
    if missing := [place for place in ("{subject}", "{words}") if place not in template]:
        raise ValueError(f"lacks {missing[0]}")
    return template


Template = Annotated[Text, pydantic.AfterValidator(_with_places)]


class ZeroShot(pydantic.BaseModel):
    """The captioner of conf/caption/zero_shot.yaml."""

    model_config = STRICT
    describe_character: bool
    sure: Probability
    templates: Annotated[list[Template], Field(min_length=1)]
    attributes: Annotated[dict[Text, Attribute], Field(min_length=1)]

    def open(self, settings: Settings, character: CharacterSpec) -> Reader:
        """Load the CLIP of the models in use."""
        from charsweep.evaluate.encoders import load_encoder
        from charsweep.evaluate.encoders.network import Network  # torch

        encoder = settings.models.encoders.get("clip")
        if encoder is None:
            raise ConfigError(
                f"caption=zero_shot: models={settings.models.name} has no encoders.clip to read "
                "pictures with; give one as models.encoders.clip.path=..., or choose caption=blip"
            )
        weights = find_weights(encoder.path, "clip", made_in(settings))
        spec = EncoderSpec("clip", weights.digest, encoder.resize, encoder.crop)
        clip = load_encoder(spec, weights)
        assert isinstance(clip, Network)
        return _Reading(self, character, clip).propose


@dataclass
class _Reading:
    """A vocabulary and a CLIP; text features are kept, since images ask for the same ones."""

    words: ZeroShot
    character: CharacterSpec
    clip: Network
    _kept: dict[tuple[str, ...], Features] = field(default_factory=dict)

    def propose(self, image: Image.Image) -> Proposal:
        features = self.clip.images([image])[0]
        said: list[str] = []
        because = []
        for name, attribute in self.words.attributes.items():
            if attribute.of_character and not self.words.describe_character:
                continue
            answers = self.probabilities(features, said, attribute.words)
            word, probability = max(answers.items(), key=itemgetter(1))
            sure = probability >= (attribute.sure or self.words.sure)
            because.append(f"{name}: {word} {probability:.2f}{'' if sure else ' (unsure)'}")
            if sure and word not in attribute.unsaid:
                said.append(word)
        caption = " ".join([self.character.instance_prompt, *said]) if said else None
        return Proposal(caption, ", ".join(because))

    def probabilities(
        self, features: Features, said: Sequence[str], words: Sequence[str]
    ) -> Mapping[str, float]:
        """How likely each word is to come next in the caption; together 1."""
        scale = float(self.clip.network.logit_scale.detach().exp())
        cosines = self._texts([" ".join([*said, word]) for word in words]) @ features
        likely = np.exp(scale * (cosines - cosines.max()).astype(np.float64))
        return dict(zip(words, (likely / likely.sum()).tolist(), strict=True))

    def _texts(self, asked: Sequence[str]) -> Features:
        """Features (W, D) of length 1, each the mean over the templates."""
        if tuple(asked) not in self._kept:
            subject = self.character.one_of_class
            prompts = [
                template.replace("{subject}", subject).replace("{words}", words)
                for words in asked
                for template in self.words.templates
            ]
            rows = self.clip.texts(prompts).reshape(len(asked), len(self.words.templates), -1)
            mean = rows.mean(1)
            self._kept[tuple(asked)] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return self._kept[tuple(asked)]
