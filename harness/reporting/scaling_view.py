"""Efficiency runs -> what a report says of them: sentences, exponents in a table, scaling.csv, claims. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.analysis.claims import Verdict, claim_names, judge_growth, read_claim
from harness.analysis.run_files import Run
from harness.analysis.scaling import QUANTITIES, TABLE, Condition, Curve, Scaling, scaling_of
from harness.errors import InputError
from harness.reporting.grid import Entry, Grid, Heading, bounds, fixed, told
from harness.reporting.plots import Plot, Style
from harness.reporting.scaling_plots import write_scaling_plots
from harness.reporting.table_view import DASH
from harness.spec import digest
from harness.stats.intervals import Interval

MOST = 8                                           # conditions with figures; of more, the first
NAMES = {"step_ms": "training step", "forward_ms": "forward pass", "memory_bytes": "training memory", "macs": "MACs"}


@dataclass(frozen=True)
class ScalingView:
    """What is shown of a folder's efficiency runs."""

    scaling: Scaling
    answers: tuple[str, ...]                       # a sentence or two for each condition; "" with one size
    exponents: Grid | None
    lost: Grid | None                              # the runs that did not finish
    claims: tuple[Verdict, ...]                    # those about networks that were run
    problems: tuple[str, ...]

    @property
    def title(self) -> str:
        return "Cost against resolution" if len(self.scaling.sides) > 1 else "Memory and share of the roofline"

    def slug(self, condition: Condition) -> str:
        """A file name for its figures, unlike any other condition's."""
        return f"scaling-{digest([condition.title, condition.device])[:8]}"


def view_scaling(runs: Sequence[Run], out: Path) -> ScalingView | None:
    """What the efficiency runs among ``runs``, those of the results folder ``out``, show; None where there are none."""
    scaling = scaling_of(runs)
    if scaling is None or not scaling.conditions:
        return None
    problems = list(scaling.problems)
    try:
        found = [judge_growth(claim, scaling, out) for claim in map(read_claim, claim_names()) if claim.of_growth]
    except InputError as error:                    # a broken claim takes no report of measured runs with it
        found = []
        problems.append(f"claims not judged: {error}")
    several = len(scaling.sides) > 1
    return ScalingView(scaling, tuple(map(answer, scaling.conditions)),
                       exponents_grid(scaling) if several else None, lost_grid(scaling),
                       tuple(verdict for verdict in found if verdict.link), tuple(problems))


def answer(condition: Condition, key: str = "step_ms") -> str:
    """Whose cost grows fastest and whose slowest between its two largest sizes; "" where no network has two.

    Two whose intervals overlap are not told apart. A network that is another one at those sizes is named apart.
    """
    found: dict[str, tuple[Interval, tuple[int, int]]] = {}
    other = []
    for curve in condition.curves:
        ends = curve.ends(key)
        if ends and len({curve.parameters.get(side) for side in ends}) == 1:
            found[curve.label] = curve.local(key), ends
        elif ends:
            other.append(curve.label)
    if not found:
        return ""
    ranked = sorted(found, key=lambda label: found[label][0].mean)
    slowest, fastest = ranked[0], ranked[-1]

    def power(label: str) -> str:
        exponent, (low, high) = found[label]
        shown = f"{fixed(exponent.mean, 2)} {bounds(exponent, 2, sign=False)}" if exponent.exists else \
            fixed(exponent.mean, 2)
        return f"{label} (pixels to the power {shown} from {low} to {high} px)"

    text = f"{condition.title[:1].upper()}{condition.title[1:]}: "
    if len(ranked) == 1:
        text += f"the time of a training step grows as that of {power(fastest)}."
    elif found[fastest][0].low > found[slowest][0].high:
        text += f"the time of a training step grows fastest for {power(fastest)} and slowest for {power(slowest)}."
    else:
        text += (f"whose training step grows faster with the image cannot be told. It lies between {power(slowest)} "
                 f"and {power(fastest)}.")
    if other:
        are = "is another network" if len(other) == 1 else "are other networks"
        text += f" Left out: {told(other)}, which {are} at each of these sizes."
    lost = len(condition.lost)
    return text + (f" {lost} run{'s' * (lost > 1)} did not finish." if lost else "")


def exponents_grid(scaling: Scaling, styles: Mapping[str, Style] | None = None) -> Grid:
    """A row per network and condition: the exponent of each cost over all sizes, and between the two largest."""
    shown = [key for key in QUANTITIES if any(condition.metric(key) for condition in scaling.conditions)]
    headings = (Heading("network", words=True, choose=True), Heading("condition", words=True, choose=True),
                Heading("sizes", "px"), *(Heading(NAMES[key].capitalize() if key != "macs" else NAMES[key], "exponent",
                                                  edge=not i) for i, key in enumerate(shown)))
    rows = []
    for condition in scaling.conditions:
        for curve in condition.curves:
            colour = styles[curve.label].colour if styles else ""
            sides = sorted(curve.finished)
            rows.append((Entry(curve.label, tokens=(curve.label,), colour=colour),
                         Entry(condition.title, tokens=(condition.title,)), Entry(_range(sides), float(len(sides))),
                         *(_exponent(curve, key) for key in shown)))
    return Grid("Exponents of growth", headings, tuple(rows), tuple(_notes(scaling)))


def _range(sides: Sequence[int]) -> str:
    if len(sides) < 2:
        return str(sides[0]) if sides else DASH
    return f"{sides[0]}{DASH}{sides[-1]} ({len(sides)})"


def _exponent(curve: Curve, key: str) -> Entry:
    found, ends = curve.fit(key).exponent, curve.ends(key)
    if ends is None:
        return Entry(DASH, math.nan)
    text = fixed(found.mean, 2) + (f" ± {found.half_width:.2f}" if found.exists else "")
    local = f"{fixed(curve.local(key).mean, 2)} from {ends[0]} to {ends[1]}" if found.n > 2 else ""
    return Entry(text, found.mean, small=local)


def _notes(scaling: Scaling) -> list[str]:
    curves = [curve for condition in scaling.conditions for curve in condition.curves]
    fits = [curve.fit(key).exponent for curve in curves for key in QUANTITIES]
    notes = ["Cost ~ pixels to the power of the exponent, by least squares on logarithms over all sizes: 1 is growth "
             "in proportion to the number of pixels, 2 with its square. Below it, the exponent between the two largest "
             "sizes: attention costs the square only on large maps, and at small sizes fixed costs hide what grows."]
    if any(fit.exists for fit in fits):
        notes.append("±: 95 % interval of the fit (Student t on its residuals, n − 2 degrees of freedom). It says how "
                     "well one power law describes the sizes measured, not how another run would scatter.")
    if any(fit.n == 2 for fit in fits):
        notes.append("Two sizes give an exponent and no interval.")
    changing = {}
    for curve in curves:
        if not curve.one_network:
            changing[curve.label] = ", ".join(f"{count / 1e6:.3g} M at {side} px"
                                              for side, count in curve.parameters.items())
    if changing:
        notes.append("Not one network over these sizes, because its depth, patches or levels with attention follow the "
                     "size, so that its exponent mixes both. Parameters: " + "; ".join(
                         f"{label} {counts}" for label, counts in changing.items()) + ".")
    return notes


def lost_grid(scaling: Scaling) -> Grid | None:
    """The runs that did not finish, each with its size; None where all did."""
    rows = tuple(
        (Entry(label), Entry(str(side), float(side)), Entry(condition.title), Entry(run.record.status, tone="bad"),
         Entry(" ".join((run.record.error or "no reason recorded").split())))
        for condition in scaling.conditions for label, side, run in condition.lost)
    headings = (Heading("network", words=True), Heading("side", "px"), Heading("condition", words=True),
                Heading("status", words=True), Heading("reason", words=True))
    return Grid("Runs that did not finish", headings, rows) if rows else None


def write_scaling_table(out: Path, view: ScalingView) -> list[Path]:
    """Write ``scaling.csv`` into ``out``: none with one size. Raises OSError where it cannot."""
    if view.exponents is None:
        return []
    scaling_frame(view.scaling).to_csv(out / TABLE, index=False)
    return [out / TABLE]


def scaling_frame(scaling: Scaling) -> pd.DataFrame:
    """One row per condition, network and cost, in full precision: exponents with intervals, and the cost at each side.

    Where seeds were repeated, a cost is their mean. The exponent's bounds are the fit's.
    """
    rows = []
    for condition in scaling.conditions:
        for curve in condition.curves:
            lost = told([f"{side} px: {run.record.status}" for label, side, run in condition.lost
                         if label == curve.label])
            for key in QUANTITIES:
                metric, points, fit = condition.metric(key), curve.points(key), curve.fit(key).exponent
                if metric is None:
                    continue
                local, ends = curve.local(key), curve.ends(key) or ("", "")
                rows.append({"part": condition.title, "variant": curve.label, "metric": key, "unit": metric.unit,
                             "machine": condition.device, "sizes": len(points), **_bounds("exponent", fit),
                             **_bounds("local exponent", local), "local from [px]": ends[0], "local to [px]": ends[1],
                             "one network": curve.one_network, "did not finish": lost,
                             **{f"at {side} px": points.get(side, math.nan) for side in scaling.sides}})
    return pd.DataFrame(rows)


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name} low": interval.low, f"{name} high": interval.high}


def cell_words(title: str) -> str:
    """A comparison's title in a list of many: of a cell of the efficiency suite, only what tells it from others."""
    found = re.fullmatch(r"Efficiency on \S+ \((.*)\)", title)
    return re.sub(r"\b(settings|train)\.", "", found[1]).replace(" = ", " ") if found else title


def draw_scaling(folder: Path, view: ScalingView, styles: Mapping[str, Style]) -> list[tuple[Condition, list[Plot]]]:
    """The figures of the first ``MOST`` conditions, written into ``folder``."""
    return [(condition, write_scaling_plots(folder, view.slug(condition), condition, styles))
            for condition in view.scaling.conditions[:MOST]]
