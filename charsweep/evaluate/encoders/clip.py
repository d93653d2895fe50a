"""CLIP, SigLIP and their like, as open_clip reads them."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from charsweep.core.specs import EncoderSpec
from charsweep.evaluate.encoders import Encoder
from charsweep.models.weights import Layout, Weights


@dataclass(frozen=True, config={"extra": "forbid"})
class OpenClip:
    """An open_clip model with its tokenizer; it sees images as its config says (`preprocess_cfg`).

    Similarity of image and text is the cosine, also of SigLIP (Tschannen et al. 2025, arXiv
    2502.14786), whose sigmoid rises with it.
    """

    version: ClassVar[int] = 1
    layout: ClassVar[Layout] = "clip"
    reads_prompts: ClassVar[bool] = True

    def load(self, spec: EncoderSpec, weights: Weights) -> Encoder:
        """Raises `ModelsError` for weights that are none of open_clip's."""
        import open_clip

        from charsweep.evaluate.encoders.network import Network, Preprocessing, read_from

        with read_from(weights) as name:
            network = open_clip.create_model(name, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(name)
            config = open_clip.get_model_preprocess_cfg(network)
            size = config["size"]
            size = size if isinstance(size, int) else size[0]
            preprocessing = Preprocessing(
                size, size, config["mean"], config["std"], config["interpolation"],
                squash=config["resize_mode"] == "squash",
            )  # fmt: skip
        return Network(network.float().eval(), preprocessing.of(spec), tokenizer)
