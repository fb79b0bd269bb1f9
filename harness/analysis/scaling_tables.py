"""Efficiency runs -> their tables: exponents of every cost, runs that did not finish. No torch import."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analysis.scaling import QUANTITIES, Curve, Scaling
from harness.analysis.table import Cell, Heading, Table
from harness.formatting import DASH, fixed

NAMES = {"step_ms": "training step", "forward_ms": "forward pass", "memory_bytes": "training memory", "macs": "MACs"}


def exponents_table(scaling: Scaling, colours: Mapping[str, str] | None = None) -> Table:
    """A row per network and condition: the exponent of each cost over all sizes, and between the two largest."""
    shown = [key for key in QUANTITIES if any(condition.metric(key) for condition in scaling.conditions)]
    headings = (Heading("network", words=True, choose=True), Heading("condition", words=True, choose=True),
                Heading("sizes", "px"), *(Heading(NAMES[key].capitalize() if key != "macs" else NAMES[key], "exponent",
                                                  edge=not i) for i, key in enumerate(shown)))
    rows = []
    for condition in scaling.conditions:
        for curve in condition.curves:
            colour = (colours or {}).get(curve.label, "")
            sides = sorted(curve.finished)
            rows.append((Cell(curve.label, tokens=(curve.label,), colour=colour),
                         Cell(condition.title, tokens=(condition.title,)), Cell(_range(sides), float(len(sides))),
                         *(_exponent(curve, key) for key in shown)))
    return Table("Exponents of growth", headings, tuple(rows), tuple(_notes(scaling)))


def _range(sides: Sequence[int]) -> str:
    if len(sides) < 2:
        return str(sides[0]) if sides else DASH
    return f"{sides[0]}{DASH}{sides[-1]} ({len(sides)})"


def _exponent(curve: Curve, key: str) -> Cell:
    found, ends = curve.fit(key).exponent, curve.ends(key)
    if ends is None:
        return Cell(DASH, math.nan)
    text = fixed(found.mean, 2) + (f" ± {found.half_width:.2f}" if found.exists else "")
    local = f"{fixed(curve.local(key).mean, 2)} from {ends[0]} to {ends[1]}" if found.n > 2 else ""
    return Cell(text, found.mean, small=local)


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


def lost_table(scaling: Scaling) -> Table | None:
    """The runs that did not finish, each with its size; None where all did."""
    rows = tuple(
        (Cell(label), Cell(str(side), float(side)), Cell(condition.title), Cell(run.record.status, tone="bad"),
         Cell(" ".join((run.record.error or "no reason recorded").split())))
        for condition in scaling.conditions for label, side, run in condition.lost)
    headings = (Heading("network", words=True), Heading("side", "px"), Heading("condition", words=True),
                Heading("status", words=True), Heading("reason", words=True))
    return Table("Runs that did not finish", headings, rows) if rows else None
