"""The order of a training set: what a batch holds is a function of (seed, step) alone.

So any step's batch can be made without those before it, by any process, and a run that goes on from step n sees what
an unbroken one would have seen.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor | None, ...]


class Batches(Protocol):
    """Batches by step, from 0. Cheap to make and to pickle; reads only what the batch holds."""

    def __getitem__(self, step: int) -> Batch:
        """The batch's tensors, on the CPU."""


def generator(seed: int, step: int, purpose: int = 0) -> torch.Generator:
    """Random numbers of one step: independent of those of other steps, seeds and purposes.

    PyTorch's generator keeps the lower 32 bits of its seed, so hashes of (seed, step) would collide within 100,000
    steps. Here the hash of (seed, purpose) is the start of a count that ``step`` continues, and a one-to-one mixer
    (the finaliser of MurmurHash3, A. Appleby 2011) spreads it: no two of 2^32 steps share a state.
    """
    [start] = np.random.SeedSequence((seed % 2**64, purpose)).generate_state(1)
    mixed = (int(start) + step) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> shift)) * factor % 2**32
    return torch.Generator().manual_seed(mixed ^ (mixed >> 16))


class EpochOrder:
    """``count`` items in batches of ``batch_size``: each once an epoch, in an order of its own for every epoch.

    Batches run on over the end of an epoch, so all are full.
    """

    PURPOSE = 1                                    # beside the draws within a step

    def __init__(self, count: int, batch_size: int, seed: int):
        assert count > 0 and batch_size > 0
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._epochs: dict[int, Tensor] = {}       # the last two that were asked for

    def indices(self, step: int) -> Tensor:
        """(batch_size,) int64: the items of batch ``step``, from 0."""
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        for epoch in range(first // self.count, (last - 1) // self.count + 1):
            start = epoch * self.count
            parts.append(self._order(epoch)[max(0, first - start):last - start])
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            if len(self._epochs) > 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = torch.randperm(self.count, generator=generator(self.seed, epoch, self.PURPOSE))
        return self._epochs[epoch]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_epochs": {}}
