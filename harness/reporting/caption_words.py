"""Words of figures' captions: scores of real data, intervals drawn, arms left out. No torch import."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.comparison import Column, Group
from harness.stats.intervals import NONE


def real_data_score(group: Group, column: Column) -> float | None:
    found = [score for arm in group.arms for metric in arm.metrics(column)
             if (score := metric.real_data_reference) is not None]
    return float(np.mean(found)) if found else None


def interval_words(methods: set[str]) -> str:
    found = sorted(methods - {NONE})
    if not found:
        return "No intervals: one seed each."
    partly = " Where there is none, no interval exists." if NONE in methods else ""
    return f"Lines are 95 % intervals ({'; '.join(found)}).{partly}"


def real_data_words(scores: Sequence[float | None]) -> str:
    return "" if all(score is None for score in scores) else " Dashed: what held-out real data scores."


def cut_words(shown: int, group: Group) -> str:
    arms = sum(bool(arm.finished) for arm in group.arms)
    return f" The best {shown} of {arms} arms." if shown < arms else ""
