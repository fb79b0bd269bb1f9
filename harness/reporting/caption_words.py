"""What figures say in words: floors, which intervals are drawn, how many arms are left out. No torch import."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.comparison import Column, Group
from harness.stats.intervals import NONE


def floor_of(group: Group, column: Column) -> float | None:
    found = [metric.floor for arm in group.arms for metric in arm.metrics(column) if metric.floor is not None]
    return float(np.mean(found)) if found else None


def interval_words(methods: set[str]) -> str:
    found = sorted(methods - {NONE})
    if not found:
        return "No intervals: one seed each."
    partly = " Where there is none, no interval exists." if NONE in methods else ""
    return f"Lines are 95 % intervals ({'; '.join(found)}).{partly}"


def floor_words(floors: Sequence[float | None]) -> str:
    return "" if all(floor is None for floor in floors) else " Dashed: what held-out real data scores (floor)."


def cut_words(shown: int, group: Group) -> str:
    arms = sum(bool(arm.finished) for arm in group.arms)
    return f" The best {shown} of {arms} arms." if shown < arms else ""
