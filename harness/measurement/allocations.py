"""Memory that tensors take while something runs: from PyTorch's profiler on a CPU, from the allocator on a GPU."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MARK = "harness.measurement.allocations: "          # begins the names of marks among the profiler's events

Mark = Callable[[str], None]


@dataclass(frozen=True)
class Allocations:
    """Bytes above the level at the start. NaN where the device's allocator cannot say."""

    peak: float
    at: dict[str, float] = field(default_factory=dict)  # at each mark


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind ``tensors``, each once."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


def follow(call: Callable[[Mark], object], device: torch.device) -> Allocations:
    """Run ``call(mark)`` and say what was allocated meanwhile; ``mark("here")`` notes the level at that place.

    On a CPU: every allocation and release that PyTorch's profiler saw. On CUDA: ``memory_allocated`` and
    ``max_memory_allocated`` of the allocator, whose blocks are multiples of 512 bytes.
    """
    gc.collect()                                   # what is garbage at the start must not be released meanwhile
    if device.type == "cpu":
        return _profiled(call)
    if device.type == "cuda":
        return _from_cuda(call, device)
    call(lambda name: None)
    return Allocations(math.nan)


def _profiled(call: Callable[[Mark], object]) -> Allocations:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")    # the profiler reports its own doings on stderr

    def mark(name: str) -> None:
        with torch.autograd.profiler.record_function(MARK + name):
            pass

    with torch.autograd.profiler.profile(profile_memory=True) as profiled:
        call(mark)
    now = peak = 0
    at = {}
    for event in sorted(profiled.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
        elif event.name().startswith(MARK):
            at[event.name().removeprefix(MARK)] = now
    return Allocations(peak, at)


def _from_cuda(call: Callable[[Mark], object], device: torch.device) -> Allocations:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before, at = torch.cuda.memory_allocated(device), {}

    def mark(name: str) -> None:                   # the allocator's books follow the calls, not the kernels
        at[name] = torch.cuda.memory_allocated(device) - before

    call(mark)
    return Allocations(torch.cuda.max_memory_allocated(device) - before, at)


def tensors_of(value: Any) -> list[Tensor]:
    """List the tensors in what a module takes or returns: one, several, or those of a mapping."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in tensors_of(item)]
