"""The processes of a training run: one alone, or several that torchrun starts, each with its share of every batch."""

import os
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from gaq.errors import ConfigError

Members = TypeVar("Members", range, np.ndarray)


@dataclass(frozen=True)
class Workers:
    """Which of how many processes this is; all take the same steps, for they sum their gradients.

    Args:
        rank: 0..count - 1; the first one writes files.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @staticmethod
    def from_environment(device: str) -> "Workers":
        """Join the processes that torchrun started (gloo on CPU, NCCL on CUDA), or be alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return ALONE
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return Workers(distributed.get_rank(), distributed.get_world_size())

    @property
    def writes(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.rank == 0

    def share(self, batch: Members) -> Members:
        """Return the members of a batch that are for this process.

        Raises:
            ConfigError: fewer members than processes.
        """
        if len(batch) < self.count:
            raise ConfigError(f"{self.count} processes cannot share batches of {len(batch)} frames; "
                              "raise optimization.batch_size, or start fewer processes")
        return batch[self.rank :: self.count]

    def sum_gradients(self, model: nn.Module, loss: Tensor) -> Tensor:
        """Add up the gradients and the loss of all processes, in one message; return the whole loss."""
        if self.count == 1:
            return loss
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([loss.reshape(1).to(gradients[0]), *(g.reshape(-1) for g in gradients)])
        distributed.all_reduce(flat)
        parts = flat[1:].split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[0]

    def largest(self, value: int) -> int:
        """Return the largest value of all processes."""
        if self.count == 1:
            return value
        found = _message(value)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def agree(self, value: int) -> int:
        """Return what the first process says."""
        if self.count == 1:
            return value
        said = _message(value)
        distributed.broadcast(said, 0)
        return int(said)


def _message(value: int) -> Tensor:
    """Return a number where the processes can exchange it: NCCL knows no CPU."""
    return torch.tensor([value], device="cuda" if distributed.get_backend() == "nccl" else "cpu")


ALONE = Workers()
