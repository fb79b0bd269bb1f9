"""One run on several devices: every process holds the network and computes a part of each batch.

The batch, its order and its loss are those of one process: each process makes the whole batch, sends its part through
the network, and gathers the outputs of all, so that any loss (a Dice over the batch, too) is that of the whole batch.
Weights' gradients are averaged by PyTorch's DistributedDataParallel (Li et al. 2020, arXiv:2006.15704), which
accelerate sets up. Batch norm takes its statistics over a process's part, except on GPUs, where they are synchronised.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from harness.errors import InputError


class ShardedForward(nn.Module):
    """A network called with the whole batch, of which this process computes its part.

    ``forward(x, ...)`` returns outputs of the whole batch; those of other processes carry no gradient.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.rank, self.world = network, dist.get_rank(), dist.get_world_size()

    def forward(self, x: Tensor, *others: Tensor | None) -> Tensor:
        rows = len(x) // self.world
        part = slice(self.rank * rows, (self.rank + 1) * rows)
        mine = self.network(*(value if value is None else value[part] for value in (x, *others)))
        outputs = [torch.empty_like(mine, memory_format=torch.contiguous_format) for _ in range(self.world)]
        dist.all_gather(outputs, mine.detach().contiguous())
        if mine.requires_grad:
            # Every process has the gradient of the whole loss in its own part; their mean is taken, their sum is meant.
            mine.register_hook(lambda gradient: gradient * self.world)
        outputs[self.rank] = mine
        return torch.cat(outputs)


def check_parts(batch_size: int, processes: int) -> None:
    """Raise InputError where a batch cannot be shared out evenly."""
    if batch_size % processes:
        raise InputError(f"a batch of {batch_size} cannot be shared out evenly to {processes} processes")


def synchronized(model: nn.Module, device: torch.device) -> nn.Module:
    """Let batch norms take their statistics over all processes, where PyTorch can: on GPUs."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if device.type == "cuda" else model


def free_port() -> int:
    """Find a port on this machine at which the processes of a run can meet."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def meet(rank: int, processes: int, port: int) -> None:
    """Tell accelerate, by the environment, which of how many processes this is."""
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes),
                       "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)})


def rank_of(accelerator: Any) -> int:
    """Give this process's number among those of the run; 0 writes."""
    return accelerator.process_index
