"""The captioner by an image-to-text model of the hub, of transformers' own classes.

Safetensors only, and no code from the repository: a model that needs its own is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic
from PIL import Image
from pydantic import Field

from charsweep.actions.caption.proposal import Proposal, Reader
from charsweep.actions.caption.wording import about_character
from charsweep.config import Settings
from charsweep.config.locations import made_in
from charsweep.config.settings.field_types import STRICT, Text
from charsweep.core.errors import ModelsError
from charsweep.core.specs import CharacterSpec
from charsweep.models.weights import find_weights


class ImageToText(pydantic.BaseModel):
    """The captioner of conf/caption/blip.yaml."""

    model_config = STRICT
    describe_character: bool
    path: Text
    prompt: str
    beams: Annotated[int, Field(ge=1, le=16)]
    max_tokens: Annotated[int, Field(ge=1, le=512)]
    looks: list[Text]

    def open(self, settings: Settings, character: CharacterSpec) -> Reader:
        """Load the captioner, fetching it first where that is possible."""
        from charsweep.engine.environment import find_device  # torch
        from charsweep.models.load import ready

        weights = find_weights(self.path, "captioner", made_in(settings))
        processor, network = load_captioner(ready(weights))
        network = network.to(find_device(settings.runtime.device))
        prompt = self.prompt.replace("{class_prompt}", character.class_prompt)
        looks = () if self.describe_character else self.looks

        def propose(image: Image.Image) -> Proposal:
            text = said_by(processor, network, prompt, self, image)
            return Proposal(about_character(text, character, looks), text)

        return propose


def load_captioner(folder: Path) -> tuple[Any, Any]:
    """Processor and network in float32 from a folder of transformers' layout; ModelsError."""
    import torch
    import transformers

    from charsweep.models.load import UNREADABLE
    from charsweep.models.pipeline import quiet

    library: Any = transformers  # half of its types are missing here
    own = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            processor = library.AutoProcessor.from_pretrained(folder, **own)
            network, loading = library.AutoModelForImageTextToText.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **own
            )
    except (*UNREADABLE, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelsError(
            f"{folder} cannot be loaded as a captioner: {reason}; give an image-to-text model of "
            "transformers' own classes as caption.path, or choose caption=zero_shot"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelsError(
            f"{folder} lacks {len(missing)} tensors of a {type(network).__name__} ({missing[0]} "
            "for one); give a captioner, as in caption.path=Salesforce/blip-image-captioning-large"
        )
    tokenizer = getattr(processor, "tokenizer", None)
    vocabulary = network.get_input_embeddings().num_embeddings
    if tokenizer is None or not vocabulary // 2 < len(tokenizer) <= vocabulary:
        # transformers makes an empty tokenizer where it finds none
        knows = 0 if tokenizer is None else len(tokenizer)
        raise ModelsError(
            f"{folder}: its tokenizer knows {knows} tokens, its network {vocabulary}; fetch the "
            "folder again, with tokenizer.json and tokenizer_config.json"
        )
    return processor, network.eval()


def said_by(
    processor: Any, network: Any, prompt: str, asked: ImageToText, image: Image.Image
) -> str:
    """What the captioner itself says; no sampling, so the same image gives the same words."""
    import torch

    inputs = processor(images=image, text=prompt or None, return_tensors="pt")
    with torch.inference_mode():
        tokens = network.generate(
            **inputs.to(network.device), do_sample=False, num_beams=asked.beams,
            max_new_tokens=asked.max_tokens,
        )  # fmt: skip
    text: str = processor.batch_decode(tokens, skip_special_tokens=True)[0]
    return text.strip()
