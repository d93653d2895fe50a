"""CCIP: whether two drawings show one character, by the networks of deepghs.

Its features have a measure of their own, a second network: the difference of every pair, 0 for the
same character and at most 1. Published as ONNX (deepghs/ccip_onnx), with the preprocessing of
imgutils.metrics.ccip: both sides 384 pixels, bilinear, CLIP's mean and deviation. The character is
to stand alone in the picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import StringConstraints
from pydantic.dataclasses import dataclass

from charsweep.core.errors import ModelsError
from charsweep.core.specs import EncoderSpec
from charsweep.evaluate.encoders import Encoder
from charsweep.evaluate.metrics import Features
from charsweep.models.weights import Layout, Weights

SIZE = 384
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
AT_ONCE = 16  # images
FEATURES, DIFFERENCES = "model_feat.onnx", "model_metrics.onnx"
DIMENSIONS = {FEATURES: 4, DIFFERENCES: 2}  # of what each takes


@dataclass(frozen=True, config={"extra": "forbid"})
class Ccip:
    """Features and differences of a variant of CCIP, by onnxruntime on the CPU."""

    variant: Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]  # its folder

    version: ClassVar[int] = 1
    layout: ClassVar[Layout] = "ccip"
    reads_prompts: ClassVar[bool] = False
    package: ClassVar[str] = "onnxruntime"

    def load(self, spec: EncoderSpec, weights: Weights) -> Encoder:
        """Raises `ModelsError` for files that are not CCIP's."""
        from charsweep.evaluate.encoders.network import Preprocessing  # torch
        from charsweep.models.load import ready

        path = ready(weights)
        folder = path / self.variant if (path / self.variant).is_dir() else path
        seen = Preprocessing(SIZE, SIZE, MEAN, STD, "bilinear", squash=True)
        return Networks(seen, _session(folder / FEATURES), _session(folder / DIFFERENCES))


@dataclasses.dataclass(frozen=True)
class Networks:
    """CCIP's two networks as an `Encoder`."""

    preprocessing: Any
    features: Any  # (N, 3, 384, 384) -> (N, D)
    differences: Any  # (N, D) -> (N, N)

    def images(self, images: Sequence[Image.Image]) -> Features:
        """Features (N, D), of any length."""
        batches = (images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE))
        read = self.preprocessing.pixels
        return np.concatenate([_run(self.features, read(batch).numpy()) for batch in batches])

    def measure(self, images: Features, others: Features) -> NDArray[np.float64]:
        """1 - difference (N, M): 1 is the same character."""
        pairs = _run(self.differences, np.concatenate([images, others]))
        return 1.0 - pairs[: len(images), len(images) :].astype(np.float64)


def _session(path: Path) -> Any:
    """A network, checked to take and give what it should."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors, which are raised anyway
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of kinds that onnxruntime keeps to itself
        reason = str(error).strip().splitlines()[0]
        raise ModelsError(f"cannot read the network in {path}: {reason}; fetch it again") from error
    (taken, *more), (given, *_) = session.get_inputs(), session.get_outputs()
    if (
        more
        or (taken.name, given.name) != ("input", "output")
        or (len(taken.shape) != DIMENSIONS[path.name])
    ):
        raise ModelsError(
            f"{path} takes {taken.name} {taken.shape}, as CCIP's {path.name} does not; fetch it "
            "again"
        )
    return session


def _run(session: Any, values: NDArray[np.float32]) -> Features:
    (output,) = session.run(["output"], {"input": values})
    found: Features = output.astype(np.float32)
    return found
