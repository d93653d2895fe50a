"""DINO, DINOv2, DINOv3 and any other network of timm's."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ModelsError
from charsweep.core.specs import EncoderSpec
from charsweep.evaluate.encoders import Encoder
from charsweep.models.weights import Layout, Weights


@dataclass(frozen=True, config={"extra": "forbid"})
class Timm:
    """A timm network without a head; it sees images as its config says (`pretrained_cfg`).

    `pool` is what of its last layer is taken: the class token, the mean of the patches, or what
    timm's own class takes. DINO, DINOv2 and DINOv3 are compared by their class tokens (Caron et al.
    2021, Oquab et al. 2023, Siméoni et al. 2025); timm takes DINOv3's mean where nothing is said.
    """

    size: Annotated[int, Field(ge=16, le=4096)] | None = None  # pixels a side; None: its config's
    pool: Literal["token", "avg"] | None = None

    version: ClassVar[int] = 1
    layout: ClassVar[Layout] = "dino"
    reads_prompts: ClassVar[bool] = False

    def load(self, spec: EncoderSpec, weights: Weights) -> Encoder:
        """Raises `ModelsError` for weights that are none of timm's."""
        import timm

        from charsweep.evaluate.encoders.network import Network, Preprocessing, read_from

        asked = {"img_size": self.size, "global_pool": self.pool}
        chosen: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        with read_from(weights) as name:
            try:
                network: Any = timm.create_model(name, pretrained=True, num_classes=0, **chosen)
            except (TypeError, AssertionError) as error:  # it may be one that takes neither
                if not chosen:
                    raise
                raise ModelsError(
                    f"encoder.{spec.name}: its network takes no such size or pool ({error}); set "
                    f"encoder.{spec.name}.size=null and encoder.{spec.name}.pool=null"
                ) from error
            config: dict[str, Any] = network.pretrained_cfg
            size = self.size or config["input_size"][-1]
            preprocessing = Preprocessing(
                math.floor(size / config.get("crop_pct", 1.0)), size, config["mean"],
                config["std"], config.get("interpolation") or "bicubic",
                squash=config.get("crop_mode") == "squash",
            )  # fmt: skip
        return Network(network.float().eval(), preprocessing.of(spec))
