"""The weights of one step as other programs read them, and the state that a trial goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from charsweep.core.errors import ConfigError, StoreError
from charsweep.core.methods import method_of
from charsweep.core.specs import SnapshotSpec, TrajectorySpec
from charsweep.core.store import Store
from charsweep.core.store.files import new_folder
from charsweep.core.system.versions import numerical_versions
from charsweep.models.families import Family
from charsweep.train.methods import Trainable


def make_optimizer(spec: TrajectorySpec, named: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """The optimizer of named tensors; those with another learning rate are a group of their own."""
    settings = dict(spec.optimizer.settings)
    kind = spec.optimizer.find()
    if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer._target_={spec.optimizer.identity} is no torch optimizer; "
            "torch.optim.AdamW is one"
        )
    try:
        return kind(_groups(spec, named), **{**settings, "lr": spec.learning_rate})
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"optimizer {spec.optimizer.identity} does not take {settings}: {error}; "
            "mend optimizer.* or choose another file of conf/optimizer/"
        ) from error


def _groups(spec: TrajectorySpec, named: Mapping[str, Tensor]) -> list[Any]:
    """All tensors or, where the text encoders have a learning rate of their own, two groups."""
    own = method_of(spec.method).text_encoder_lr
    if own is None or spec.base is None:
        return list(named.values())
    family: Family = spec.base.family.made
    groups: list[Any] = [{"params": []}, {"params": [], "lr": own}]
    for name, tensor in named.items():
        groups[name.partition(".")[0] in family.encoders]["params"].append(tensor)
    return groups


def make_scaler(spec: TrajectorySpec, device: torch.device) -> torch.amp.GradScaler | None:
    """Keeps half precision's gradients from vanishing (Micikevicius et al. 2018, section 3.2)."""
    return torch.amp.GradScaler(device.type) if spec.precision == "fp16" else None


def save_snapshot(spec: SnapshotSpec, trainable: Trainable, slot: int, store: Store) -> None:
    """Write the weights of one step as other programs read them; the manifest comes last."""
    manifest: dict[str, Any] = {"spec": {"step": spec.step}}
    with new_folder(store.snapshot(spec), "snapshot.json", manifest) as folder:
        trainable.save(slot, folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        manifest["bytes"] = sum(path.stat().st_size for path in files)


def save_state(
    store: Store,
    spec: TrajectorySpec,
    step: int,
    named: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write what is needed to go on after `step`, then drop the older state."""
    state = optimizer.state_dict()
    tensors = {f"weight/{name}": tensor for name, tensor in named.items()}
    numbers: dict[str, Any] = {
        _group_name(number): own_numbers(group)
        for number, group in enumerate(state["param_groups"])
    }
    if scaler:
        numbers["scaler"] = scaler.state_dict()
    for place, value in leaves(state["state"], "optimizer"):
        (tensors if isinstance(value, Tensor) else numbers)[place] = value
    manifest = {"step": step, "versions": numerical_versions()}
    with new_folder(store.resume(spec, step), "resume.json", manifest) as folder:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, folder / "state.safetensors")
        (folder / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")
    store.commit_resume(spec, step)


def _group_name(number: int) -> str:
    """ "group", "group1", … in numbers.json."""
    return f"group{number or ''}"


def leaves(tree: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    """The values of nested dictionaries, each with the keys that lead to it."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}/{key}")
        else:
            yield f"{path}/{key}", value


def own_numbers(group: Mapping[str, Any]) -> dict[str, float]:
    """What an optimizer keeps beside its tensors, like the rate that Prodigy finds by itself."""
    return {name: value for name, value in group.items() if isinstance(value, (int, float))}


def load_state(
    folder: Path,
    named: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Put weights and optimizer back as `save_state` found them."""
    try:
        tensors = load_file(folder / "state.safetensors")
        numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
        groups = [
            {**group, **numbers.pop(_group_name(number))}
            for number, group in enumerate(optimizer.state_dict()["param_groups"])
        ]
        if scaler:
            scaler.load_state_dict(numbers.pop("scaler"))
        with torch.no_grad():
            for name, tensor in named.items():
                tensor.copy_(tensors.pop(f"weight/{name}"))
        state: dict[int, dict[str, Any]] = {}
        for place, value in {**tensors, **numbers}.items():
            _, index, *inner, name = place.split("/")
            branch = state.setdefault(int(index), {})
            for key in inner:
                branch = branch.setdefault(key, {})
            branch[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except Exception as error:
        raise StoreError(
            f"cannot resume from {folder}: {error}; delete that folder and run the same command "
            "again"
        ) from error
