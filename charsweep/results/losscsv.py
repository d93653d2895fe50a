"""A trajectory's loss.csv in, its steps and losses out. Pure but for the one file it reads."""

from __future__ import annotations

from pathlib import Path

OWN = ("step", "loss", "lr", "grad_norm", "seconds")  # any other column is a share of the loss
Losses = tuple[tuple[int, ...], tuple[float, ...], dict[str, tuple[float, ...]]]


def read_losses(path: Path, last: int | None) -> Losses:
    """Steps, losses and the losses of each network that has its own, up to step `last`.

    A last row cut short is left out. ValueError that names the line when another one is.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",") if lines else []
    if "step" not in columns or "loss" not in columns:
        raise ValueError(f"{path} has no columns step and loss")
    step_at, loss_at = columns.index("step"), columns.index("loss")
    others = {share_name(column): columns.index(column) for column in columns if is_share(column)}
    steps: list[int] = []
    losses: list[float] = []
    shares: dict[str, list[float]] = {name: [] for name in others}
    for number, line in enumerate(lines[1:], start=2):
        row = line.split(",")
        if len(row) < len(columns) and number == len(lines):
            break
        try:
            step, loss = int(row[step_at]), float(row[loss_at])
            parts = {name: float(row[at]) for name, at in others.items()}
        except (ValueError, IndexError):
            raise ValueError(f"line {number} of {path} is {line!r}") from None
        if last is not None and step > last:
            break
        steps.append(step)
        losses.append(loss)
        for name, part in parts.items():
            shares[name].append(part)
    return tuple(steps), tuple(losses), {name: tuple(own) for name, own in shares.items()}


def is_share(column: str) -> bool:
    """Whether a column holds the loss of one of several networks."""
    return bool(column) and column not in OWN


def share_name(column: str) -> str:
    """loss_discriminator -> "discriminator"."""
    return column.removeprefix("loss_").replace("_", " ") or column
