"""What a class takes, read from its source, is what Python says once it is imported."""

from __future__ import annotations

import inspect

import pytest
from helpers.small import loaded_after

from charsweep.core import signatures
from charsweep.core.errors import ConfigError
from charsweep.core.plugins import resolve
from charsweep.core.signatures import how_to_install, parameters_of

MADE = ["torch.optim.AdamW", "torch.optim.SGD", "torch.optim.Adafactor", "prodigyopt.Prodigy",
        "bitsandbytes.optim.AdamW8bit", "diffusers.DDIMScheduler",
        "diffusers.UniPCMultistepScheduler", "diffusers.DPMSolverMultistepScheduler",
        "diffusers.FlowMatchEulerDiscreteScheduler",
        "optuna.samplers.TPESampler", "optuna.pruners.HyperbandPruner",
        "charsweep.study.halving.Halving"]  # fmt: skip


@pytest.mark.parametrize("target", MADE)
def test_parameters_are_those_of_the_class(target: str) -> None:
    taken = set(inspect.signature(resolve(target).__init__).parameters) - {"self"}
    assert parameters_of(target) == taken


@pytest.mark.parametrize(
    "target",
    ["charsweep.actions.caption.zero_shot.ZeroShot",
     "charsweep.actions.caption.image_to_text.ImageToText"],
)  # fmt: skip
def test_fields_are_those_of_the_model(target: str) -> None:
    assert parameters_of(target) == set(resolve(target).model_fields)


def test_nothing_is_imported() -> None:
    code = (
        "from charsweep.core.signatures import parameters_of\n"
        f"for target in {MADE!r}: parameters_of(target)"
    )
    loaded = loaded_after(code)
    assert "charsweep" in loaded
    assert not {"torch", "diffusers", "optuna", "bitsandbytes", "prodigyopt"} & loaded


def test_a_class_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"torch\.optim\.Nope: torch has no such class"):
        parameters_of("torch.optim.Nope")


@pytest.mark.parametrize(
    ("package", "remedy"),
    [("prodigyopt", "charsweep[optimizers]"), ("nothing_such", "pip install nothing_such")],
)
def test_a_package_that_is_not_there(
    package: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures.importlib.util, "find_spec", lambda _: None)
    parameters_of.cache_clear()
    with pytest.raises(ConfigError, match=f"{package} is not installed") as refused:
        parameters_of(f"{package}.Anything")
    assert remedy in str(refused.value)
    assert remedy in how_to_install(package)
    parameters_of.cache_clear()
