"""Data parallelism over the processes of `accelerate launch`: the `Team` that shares a batch.

One trajectory's batch is split among the processes, whose gradients are added up: data parallelism
with the result of one process, up to rounding. The leader plans, writes, draws and scores; the
others train along when it says so. Without a launcher the team is one process, and all this is
nothing. torch is imported where it is needed, because planning reads the methods, which know teams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PATIENCE = timedelta(days=7)  # how long the others wait while the leader draws and scores


@dataclass(frozen=True)
class Team:
    """This process's place among `size`; the one with rank 0 leads."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process plans, writes, draws and scores."""
        return self.rank == 0

    def part(self, count: int) -> list[int]:
        """Which of `count` samples are this process's."""
        return list(range(self.rank, count, self.size))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor the sum of all processes', in place."""
        if self.size > 1:
            import torch

            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def broadcast(self, said: Any = None) -> Any:
        """What the leader says, to all; its own words to itself."""
        if self.size == 1:
            return said
        import torch

        words = [said]
        torch.distributed.broadcast_object_list(words, src=0)
        return words[0]

    def close(self) -> None:
        """Nobody has anything more to say; without this, a process may abort as it ends."""
        if self.size > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


ALONE = Team()


def is_launched() -> bool:
    """Whether `accelerate launch` or `torchrun` started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_leader() -> bool:
    """Whether this process leads, by its environment alone; the only one does."""
    return int(os.environ.get("RANK", "0")) == 0


def join_team(on_cpu: bool) -> Team:
    """Meet the other processes that were launched, if any."""
    if not is_launched():
        return ALONE
    from accelerate import PartialState

    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    return Team(state.process_index, state.num_processes)


def device_of(team: Team, found: torch.device) -> torch.device:
    """This process's own device."""
    if team.size == 1:
        return found
    from accelerate import PartialState

    device: torch.device = PartialState().device
    return device


def broadcast_each(answers: Iterator[Any], team: Team) -> Iterator[Any]:
    """Each of the leader's answers, None after the last, told to all."""
    while True:
        yield team.broadcast(next(answers, None))
