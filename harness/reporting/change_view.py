"""What :mod:`harness.analysis.result_sets` found, for people and as JSON. No torch import."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.arm_change import Change
from harness.analysis.result_sets import Comparison, FamilyChange
from harness.formatting import DASH, format_interval, format_value
from harness.stats.intervals import Interval

STYLES = {"better": "green", "worse": "bold red", "changed": "yellow", "cannot tell": "dim", "same run": "dim"}
SIGNS = {"better": "▲ better", "worse": "▼ worse"}


def show(comparison: Comparison, console: Console) -> None:
    """Tables of every family, what cannot be compared, and one sentence."""
    console.print(Text(f"A: {comparison.a}\nB: {comparison.b}"))
    for family in comparison.families:
        rows = [(arm.arm, arm.headline) for arm in family.arms]
        labels = {_label(change) for _, change in rows if change is not None}
        console.print(Text(f"\n{family.title}" + (f": {labels.pop()}" if len(labels) == 1 else ""), style="bold"))
        console.print(_changes(rows, name_metric=bool(labels)))
        for line in _shared([(arm.arm, arm.headline.note) for arm in family.arms if arm.headline], len(family.arms)):
            console.print(Text(line, style="dim"))
        moved = [(arm.arm, change) for arm in family.arms for change in arm.others
                 if change.verdict in ("better", "worse", "changed")]
        others = [change for arm in family.arms for change in arm.others]
        if moved:
            console.print(Text("\nOther metrics that moved"))
            console.print(_changes(moved, name_metric=True))
        if others:
            tests = sum(not math.isnan(change.p) for change in others)
            console.print(Text(f"other metrics, Holm over {tests} tests: {_counts(others)}", style="dim"))
        exact = [(arm.arm, key, values) for arm in family.arms for key, values in arm.exact.items()]
        for arm, key, (old, new) in exact:
            style = "bold red" if max(new) > max(old) else "yellow"
            console.print(Text(f"{key} of {arm}: {_exact(old)} -> {_exact(new)}", style=style))
        if any(arm.ratios for arm in family.arms):
            console.print(Text("\nMeasured costs, B / A. Two sessions: not tested, and the machine may differ"))
            console.print(_ratios(family))
        for arm in family.arms:
            for line in arm.lost:
                console.print(Text(f"{arm.arm}: {line}", style="bold red"))
        notes = _shared([(arm.arm, note) for arm in family.arms for note in arm.notes], len(family.arms))
        for line in (*notes, *family.notes):
            console.print(Text(line, style="dim"))
    for line in comparison.unmatched:
        console.print(Text(line, style="dim"))
    for line in comparison.problems:
        console.print(Text(f"left out: {line}", style="red"))
    console.print(Text(f"\n{summary(comparison)}", style="bold"))


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
        moved = sum(counts[verdict] for verdict in ("better", "worse", "changed"))
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


def _shared(notes: list[tuple[str, str]], arms: int) -> list[str]:
    """(arm, note) -> lines; a note that several arms share stands once."""
    by_note: dict[str, list[str]] = {}
    for arm, note in notes:
        by_note.setdefault(note, []).append(arm)
    return [f"{'every arm' if 1 < len(its) == arms else ', '.join(its)}: {note}"
            for note, its in by_note.items() if note]


def _changes(rows: list[tuple[str, Change | None]], *, name_metric: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("arm", overflow="fold", min_width=8)
    if name_metric:
        table.add_column("metric", overflow="fold", min_width=8)
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
            Text(_signed(change.difference)), DASH if math.isnan(change.adjusted_p) else f"{change.adjusted_p:.3g}",
            Text(SIGNS.get(change.verdict, change.verdict), style=STYLES.get(change.verdict, "")))
    return table


def _label(change: Change) -> str:
    return change.metric.label + (f" ({change.metric.unit})" if change.metric.unit else "")


def _signed(found: Interval) -> str:
    """Mean and interval of a difference, with as many digits as the interval supports."""
    if not math.isfinite(found.mean):
        return DASH
    if found.low == found.high == 0:
        return "0"
    half = found.half_width if found.exists and found.half_width else math.nan
    decimals = len(format_value(found.mean, half).partition(" ")[0].partition(".")[2])
    mean, low, high = (f"{value:+.{decimals}f}" for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]" if found.exists else mean


def _exact(values: list[float]) -> str:
    return " / ".join(f"{value:,.0f}" for value in values)


def _ratios(family: FamilyChange) -> Table:
    keys = dict.fromkeys(key for arm in family.arms for key in arm.ratios)
    labels = {key: next(arm.ratios[key][0] for arm in family.arms if key in arm.ratios) for key in keys}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("arm", overflow="fold")
    for key in keys:
        better = {"higher": " ↑", "lower": " ↓", "none": ""}[labels[key].direction]
        table.add_column(f"{labels[key].label}{better}", justify="right", overflow="fold")
    for arm in family.arms:
        found = (arm.ratios.get(key) for key in keys)
        table.add_row(Text(arm.arm), *(Text(DASH if one is None else _ratio(one[1])) for one in found))
    return table


def _ratio(interval: Interval) -> str:
    decimals = 2 if 0.1 <= interval.mean < 10 else 0 if interval.mean >= 100 else 3
    mean, low, high = (f"{value:.{decimals}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]" if interval.exists else mean


def as_json(comparison: Comparison) -> str:
    """Everything, NaN as null; protocols left out."""
    content = {**asdict(comparison), "worse": comparison.worse, "summary": summary(comparison)}
    for family in content["families"]:
        for arm in family["arms"]:
            for change in (arm["headline"], *arm["others"]):
                if change is not None:
                    change["metric"] = _head(change["metric"])
            arm["exact"] = {key: {"a": old, "b": new} for key, (old, new) in arm["exact"].items()}
            arm["ratios"] = {key: {"metric": _head(metric), "ratio": interval}
                             for key, (metric, interval) in arm["ratios"].items()}
    return json.dumps(_plain(content), indent=1, allow_nan=False)


def _head(metric) -> dict[str, str]:
    return {"label": metric.label, "unit": metric.unit, "direction": metric.direction}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
