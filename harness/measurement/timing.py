"""Timing calls alone on the machine, and how much processor time the calls got of what they asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from harness.measurement.lease import MachineLease
from harness.measurement.processor import ENOUGH, ProcessorShare, most_threads

ATTEMPTS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of every call, and the circumstances under which they were taken."""

    seconds: list[float]
    processor_share: float | None                  # 0..1; None where the system does not say
    alone: bool                                    # no other run of this project was at work on the machine
    threads: int


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def time_calls(call: Callable[[], object], device: torch.device, *, warmup: int = 1, repeats: int = 5) -> list[float]:
    """Time each of ``repeats`` calls in seconds, after ``warmup`` that are not counted, synchronised."""
    seconds = []
    for i in range(warmup + repeats):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        if i >= warmup:
            seconds.append(time.perf_counter() - started)
    return seconds


def time_alone(call: Callable[[], object], device: torch.device, lease: MachineLease, *, warmup: int = 1,
               repeats: int = 5, threads: int | None = None, attempts: int | None = None) -> Timing:
    """Time ``repeats`` calls alone on the machine, on ``threads`` of the CPU (None: on every core that it may use).

    Where the calls got less than ENOUGH of the processor time that they asked for, they are timed again, at most
    ``attempts`` times (None: ATTEMPTS); the attempt with the largest share is returned, whatever its times.
    """
    best = None
    with lease.alone() as alone, cpu_threads(threads or most_threads()):
        for _ in range(attempts or ATTEMPTS):
            share = ProcessorShare()
            seconds = time_calls(call, device, warmup=warmup, repeats=repeats)
            found = Timing(seconds, share.stop(), alone, torch.get_num_threads())
            if best is None or (found.processor_share or 0) > (best.processor_share or 0):
                best = found
            if found.processor_share is None or found.processor_share >= ENOUGH:
                break
    return best


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute on ``count`` threads inside this."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
