"""Weights as planning found them in; their folder or file, made or fetched if need be, out."""

from __future__ import annotations

from pathlib import Path

from charsweep.models import hub
from charsweep.models.random_weights import make
from charsweep.models.weights import Weights


def ready(weights: Weights) -> Path:
    """Where the weights lie, all of them; ModelsError says how to get what cannot be fetched."""
    if weights.source == "random":
        make(weights.recipe, weights.path)
    elif weights.source == "hub":
        return hub.find(weights.name, weights.what, weights.variant, weights.parts, weights=True)
    return weights.path
