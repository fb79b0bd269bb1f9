"""The processor: how many cores this process may use, and how much time it gets on them. No torch import."""

from __future__ import annotations

import os
from pathlib import Path

ENOUGH = 0.9                                       # of the processor time asked for: a timing with less is disturbed


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_threads() -> int:
    """Count the threads that one run may compute on: its cores, or OMP_NUM_THREADS where that is fewer."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(asked)) if asked.isdecimal() and int(asked) else usable_cores()


class ProcessorShare:
    """How much of the processor time that this process asked for it has got since it was made (Linux).

    Asked for is the time that its threads ran or were ready to run; what the host of a virtual machine took away
    meanwhile ("steal") counts as not got.
    """

    def __init__(self):
        self.before = _processor_times()

    def stop(self) -> float | None:
        """Return the share, 0..1; None where the system does not count, or nothing was asked for."""
        after = _processor_times()
        if self.before is None or after is None:
            return None
        ran, waited, busy, stolen = (max(0.0, b - a) for a, b in zip(self.before, after, strict=True))
        if ran + waited == 0:
            return None
        given = 1 - stolen / (busy + stolen) if busy + stolen > 0 else 1.0
        return given * ran / (ran + waited)


def _processor_times() -> tuple[float, float, float, float] | None:
    """Nanoseconds that the threads of this process ran and waited; ticks that the machine was busy and was stolen."""
    ran = waited = 0.0
    try:
        for task in Path("/proc/self/task").iterdir():
            try:
                fields = (task / "schedstat").read_text().split()
            except OSError:                        # the thread ended meanwhile
                continue
            ran, waited = ran + float(fields[0]), waited + float(fields[1])
        user, nice, system, _, _, irq, softirq, steal = map(float, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError, IndexError):      # another system, or a kernel that does not count
        return None
    return ran, waited, user + nice + system + irq + softirq, steal
