"""A comparison -> one or two sentences: who leads, by how much, and how sure that is. No torch import."""

from __future__ import annotations

import math

from harness.analysis.comparison import Arm, Group, data_name
from harness.formatting import format_interval, format_value, listed
from harness.stats.intervals import CASES, Interval


def conclusion(group: Group) -> str:
    """Who leads by how much, with interval, n and the score of real data - or that the data cannot tell.

    Arms whose 95 % intervals overlap are not told apart; an arm without an interval is left open.
    """
    record = group.runs[0].record
    where = f"On {data_name(record)}" + group.title.removeprefix(f"{record.spec.suite.capitalize()} on "
                                                                  f"{data_name(record)}")
    lost = [run.record.status for run in group.runs if run.record.status != "ok"]
    lost_words = f" {len(lost)} of {len(group.runs)} runs did not finish." if lost else ""
    column = group.headline
    if column is None:
        return f"{where}, no run has a result.{lost_words}"
    unit = f" {column.metric.unit}" if column.metric.unit else ""
    found = ((arm, group.intervals[arm.label, column]) for arm in group.arms)
    ranked = [(arm, interval) for arm, interval in found if math.isfinite(interval.mean)]
    if not ranked:
        return f"{where}, {column.label} is undefined for every run.{lost_words}"
    (leader, best), others = ranked[0], ranked[1:]
    superlative = {"higher": "highest", "lower": "lowest", "none": "first listed"}[column.metric.direction]
    if not others:
        text = (f"{where}, {leader.label} scores {column.label} {_value(best, unit)}; nothing else can be ranked with "
                "it.")
    else:
        tied = [(arm, interval) for arm, interval in others if best.overlaps(interval)]
        untold = [(arm, interval) for arm, interval in others if not (best.exists and interval.exists)]
        clear = [(arm, interval) for arm, interval in others if best.exists and interval.exists
                 and not best.overlaps(interval)]
        text = f"{where}, {leader.label} has the {superlative} {column.label}: {_value(best, unit)}"
        if tied:
            text += f". It cannot be told apart from {_listed(tied, unit)}: their 95 % intervals overlap."
        if clear:
            arm, second = clear[0]
            widest = max(best.half_width, second.half_width)
            gap = format_value(abs(second.mean - best.mean), widest).partition(" ")[0]
            side = "higher" if second.mean > best.mean else "lower"
            text += (f" The first clearly behind is {arm.label}: {_value(second, unit)}, {gap}{unit} {side}." if tied
                     else f". Next is {arm.label}: {_value(second, unit)}, {gap}{unit} {side}; the intervals do not "
                     "overlap.")
        if untold and best.exists:
            text += f"{'' if tied or clear else '.'} {_listed(untold, unit)}: one seed, no interval, so left open."
        elif untold:
            text += (f". With one seed no interval exists, so whether it is ahead is open; next is "
                     f"{_listed(untold[:1], unit)}.")
    if best.method == CASES:
        text += " The interval is over test cases; how far another seed would land is unknown."
    real_scores = [metric.real_data_reference for arm in group.arms for run in arm.finished
              if (metric := column.of(run)) is not None and metric.real_data_reference is not None]
    if real_scores:
        text += f" Held-out real data scores {format_value(sum(real_scores) / len(real_scores))}."
    if column.mark:
        text += f" {column.metric.label} was measured under several protocols; only {column.mark} is ranked here."
    return text + lost_words


def _value(interval: Interval, unit: str) -> str:
    over = "test case" if interval.method == CASES else "seed"
    return f"{format_interval(interval)}{unit} over {interval.n} {over}{'s' * (interval.n > 1)}"


def _listed(arms: list[tuple[Arm, Interval]], unit: str, most: int = 4) -> str:
    return listed([f"{arm.label} ({format_interval(interval)}{unit})" for arm, interval in arms], most)
