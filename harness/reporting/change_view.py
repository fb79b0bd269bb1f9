"""What :mod:`harness.analysis.result_sets` found, for people and as JSON. No torch import."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.arm_change import Change
from harness.analysis.result_sets import Comparison, FamilyChange
from harness.formatting import DASH, decimals_of, format_interval
from harness.record import Metric
from harness.stats.intervals import Interval

MOVED = ("better", "worse", "changed")
STYLES = {"better": "green", "worse": "bold red", "changed": "yellow", "cannot tell": "dim", "same run": "dim"}
SIGNS = {"better": "▲ better", "worse": "▼ worse"}


def show(comparison: Comparison, console: Console) -> None:
    """Print tables of every family, what cannot be compared, and one sentence."""
    console.print(Text(f"A: {comparison.a}\nB: {comparison.b}"))
    for family in comparison.families:
        for part in _family(family):
            console.print(part)
    for line in comparison.unmatched:
        console.print(Text(line, style="dim"))
    for line in comparison.problems:
        console.print(Text(f"left out: {line}", style="red"))
    console.print(Text(f"\n{summary(comparison)}", style="bold"))


def _family(family: FamilyChange) -> Iterator[Text | Table]:
    rows = [(arm.arm, arm.headline) for arm in family.arms]
    labels = {_label(change) for _, change in rows if change is not None}
    yield Text(f"\n{family.title}" + (f": {labels.pop()}" if len(labels) == 1 else ""), style="bold")
    yield _changes(rows, name_metric=bool(labels))
    yield from _shared([(arm.arm, arm.headline.note) for arm in family.arms if arm.headline], len(family.arms))
    others = [(arm.arm, change) for arm in family.arms for change in arm.others]
    moved = [(arm, change) for arm, change in others if change.verdict in MOVED]
    if moved:
        yield Text("\nOther metrics that moved")
        yield _changes(moved, name_metric=True)
    if others:
        tests = sum(not math.isnan(change.p) for _, change in others)
        yield Text(f"other metrics, Holm over {tests} tests: {_counts([change for _, change in others])}", style="dim")
    for arm in family.arms:
        for key, values in arm.exact.items():
            old, new = (" / ".join(f"{value:,.0f}" for value in values[side]) for side in ("a", "b"))
            yield Text(f"{key} of {arm.arm}: {old} -> {new}",
                       style="bold red" if max(values["b"]) > max(values["a"]) else "yellow")
    if any(arm.ratios for arm in family.arms):
        yield Text("\nMeasured costs, B / A. Two sessions: not tested, and the machine may differ")
        yield _ratios(family)
    for arm in family.arms:
        for line in arm.lost:
            yield Text(f"{arm.arm}: {line}", style="bold red")
    yield from _shared([(arm.arm, note) for arm in family.arms for note in arm.notes], len(family.arms))
    for note in family.notes:
        yield Text(note, style="dim")


def summary(comparison: Comparison) -> str:
    """What moved beyond noise, in a sentence or two."""
    changes = [arm.headline for family in comparison.families for arm in family.arms if arm.headline is not None]
    arms = sum(len(family.arms) for family in comparison.families)
    counts = Counter(change.verdict for change in changes)
    of = f"{arms} arm{'s' * (arms != 1)}"
    if changes and set(counts) == {"same run"}:
        text = f"0 of {of} moved: the same runs on both sides."
    elif changes and set(counts) <= {"same run", "equal"}:
        text = f"0 of {of} moved: the headline is the same to the last digit."
    else:
        moved = sum(counts[verdict] for verdict in MOVED)
        text = f"{moved} of {of} moved beyond noise in the headline: {_counts(changes) or 'no values'}."
    worse = comparison.worse
    if not worse:
        return f"{text} Nothing is worse beyond noise."
    return f"{text} Worse: {'; '.join(worse[:6])}{'; ...' if worse[6:] else ''}."


def _counts(changes: list[Change]) -> str:
    """ "2 better, 3 cannot tell (3 seeds; 7 needed for 2 tests)"; of several reasons the commonest."""
    texts = []
    for verdict, count in Counter(change.verdict for change in changes).most_common():
        why = Counter(change.note for change in changes if change.verdict == verdict == "cannot tell").most_common(1)
        texts.append(f"{count} {verdict}" + (f" ({why[0][0]})" if why else ""))
    return ", ".join(texts)


def _shared(notes: list[tuple[str, str]], arms: int) -> Iterator[Text]:
    """(arm, note) -> lines; a note that several arms share stands once."""
    by_note: dict[str, list[str]] = {}
    for arm, note in notes:
        by_note.setdefault(note, []).append(arm)
    for note, its in by_note.items():
        if note:
            yield Text(f"{'every arm' if 1 < len(its) == arms else ', '.join(its)}: {note}", style="dim")


def _grid() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)


def _changes(rows: list[tuple[str, Change | None]], *, name_metric: bool) -> Table:
    table = _grid()
    for title in ("arm", "metric") if name_metric else ("arm",):
        table.add_column(title, overflow="fold", min_width=8)
    for title in ("seeds", "A", "B", "B - A", "p (Holm)"):
        table.add_column(title, justify="right", no_wrap=title != "B - A")
    table.add_column("verdict", overflow="fold", min_width=11)
    for arm, change in rows:
        metric = [Text(_label(change) if change else DASH)] if name_metric else []
        if change is None:
            table.add_row(Text(arm), *metric, *[DASH] * 5, Text("no value in both", style="dim"))
            continue
        seeds = str(change.after.n) if change.paired else f"{change.before.n}, {change.after.n}"
        table.add_row(                             # Text, since rich takes square brackets for markup
            Text(arm), *metric, seeds, format_interval(change.before), format_interval(change.after),
            Text(_difference(change.difference)), DASH if math.isnan(change.adjusted_p) else f"{change.adjusted_p:.3g}",
            Text(SIGNS.get(change.verdict, change.verdict), style=STYLES.get(change.verdict, "")))
    return table


def _ratios(family: FamilyChange) -> Table:
    metrics: dict[str, Metric] = {}
    for arm in family.arms:
        for key, its in arm.ratios.items():
            metrics.setdefault(key, its["metric"])
    table = _grid()
    table.add_column("arm", overflow="fold")
    for metric in metrics.values():
        better = {"higher": " ↑", "lower": " ↓", "none": ""}[metric.direction]
        table.add_column(f"{metric.label}{better}", justify="right", overflow="fold")
    for arm in family.arms:
        table.add_row(Text(arm.arm), *(Text(_ratio(arm.ratios[key]["ratio"]) if key in arm.ratios else DASH)
                                       for key in metrics))
    return table


def _label(change: Change) -> str:
    return change.metric.label + (f" ({change.metric.unit})" if change.metric.unit else "")


def _difference(found: Interval) -> str:
    """Mean and interval, with as many digits as the interval supports."""
    if not math.isfinite(found.mean):
        return DASH
    if found.low == found.high == 0:
        return "0"
    half = found.half_width if found.exists and found.half_width else math.nan
    return _bounds(found, f"+.{decimals_of(found.mean, half)}f")


def _ratio(found: Interval) -> str:
    return _bounds(found, f".{2 if 0.1 <= found.mean < 10 else 0 if found.mean >= 100 else 3}f")


def _bounds(found: Interval, form: str) -> str:
    mean, low, high = (format(value, form) for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]" if found.exists else mean


def as_json(comparison: Comparison) -> str:
    """Everything, NaN as null; protocols left out."""
    content = {**vars(comparison), "worse": comparison.worse, "summary": summary(comparison)}
    return json.dumps(_plain(content), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Metric):
        return {"label": value.label, "unit": value.unit, "direction": value.direction}
    if is_dataclass(value):
        return _plain(vars(value))
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
