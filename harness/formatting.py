"""Words and numbers as people read them: lists, intervals, p values, units with their prefix. No torch import."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.stats.intervals import CASES, Interval

DASH = "–"                                         # what is undefined
MINUS = "\N{MINUS SIGN}"                           # as wide as a plus in tabular figures
SCALED = ("", "B", "MAC", "FLOP", "FLOP/s")        # units whose prefix follows their size


def short(label: str, width: int = 26) -> str:
    """Cut a long label in its middle: labels differ at their start and end."""
    return label if len(label) <= width else f"{label[:width // 2 - 1]}…{label[-width // 2:]}"


def quoted(name: str) -> str:
    """Write an arm's name as it stands in a sentence: one may be called "none"."""
    return f"“{name}”"


def listed(names: Sequence[str], most: int | None = 6) -> str:
    """Join names as "a, b and c"; beyond ``most`` (None: all), say how many more."""
    shown = list(names) if most is None or len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def number(value: float) -> str:
    """Write a number with three significant digits."""
    return f"{value:.3g}" if math.isfinite(value) else "undefined" if math.isnan(value) else "infinite"


def signed(value: float, unit: str = "") -> str:
    """Write a number with its sign, three significant digits and its unit."""
    text = f"{value:+.3g}" if math.isfinite(value) else number(value)
    return f"{text} {unit}".strip()


def scale(value: float, unit: str) -> tuple[float, str]:
    """Find the factor and unit in which a cost reads best: bytes in KiB ... TiB, counts in k, M, G, T.

    >>> scale(1_234_000, "MAC")
    (1e-06, 'MMAC')
    """
    if unit not in SCALED or not math.isfinite(value):
        return 1.0, unit
    base, prefixes = (1024, ("", "Ki", "Mi", "Gi", "Ti")) if unit == "B" else (1000, ("", "k", "M", "G", "T", "P"))
    power = min(int(math.log(max(abs(value), 1), base) + 1e-9), len(prefixes) - 1)
    return 1.0 / base**power, prefixes[power] + unit


def format_value(value: float, half_width: float = math.nan) -> str:
    """Write a number with as many digits as its interval supports; three significant ones without one.

    The half-width keeps two significant digits where its first is 1 or 2, else one (the Particle Data
    Group's rule), and no second one beyond three significant digits of the value. Undefined is a dash.
    """
    if not math.isfinite(value):
        return DASH
    decimals = decimals_of(value, half_width)
    interval = f" ± {half_width:.{decimals}f}" if math.isfinite(half_width) else ""
    return f"{value:.{decimals}f}{interval}"


def decimals_of(value: float, half_width: float) -> int:
    """Count the decimals that :func:`format_value` gives a number."""
    size = math.floor(math.log10(abs(value))) if value else 0
    decimals = 2 - size
    if half_width > 0:
        first = -math.floor(math.log10(half_width))
        second = first + (half_width < 3 * 10.0**-first)
        decimals = min(max(first, min(second, decimals)), 4 - size)  # seeds that agree need no 17 digits
    return max(0, decimals)


def format_interval(interval: Interval) -> str:
    """Write ``mean ± half-width`` over seeds, ``mean [low, high]`` over cases (not symmetric), or the mean alone."""
    if interval.method == CASES:
        decimals = decimals_of(interval.mean, interval.half_width)
        return f"{interval.mean:.{decimals}f} [{interval.low:.{decimals}f}, {interval.high:.{decimals}f}]"
    return format_value(interval.mean, interval.half_width)


def format_cost(interval: Interval, unit: str) -> str:
    """Write an interval with the prefix of its size: "34.1 MMAC", "148 ± 3 MiB"."""
    factor, shown_unit = scale(interval.mean, unit)
    exact = interval.low == interval.high          # counted, not measured: the same for every seed
    text = format_value(interval.mean * factor, math.nan if exact else interval.half_width * factor)
    return f"{text} {shown_unit}".strip() if unit in SCALED else text


def shared_decimals(intervals: Iterable[Interval], most: int = 2) -> int:
    """Find the decimals at which a column of intervals reads best, so that its points align.

    As many as its finest interval supports, but at most ``most`` more than its coarsest.
    """
    found = [decimals_of(i.mean, i.half_width) for i in intervals if math.isfinite(i.mean)]
    return min(max(found), min(found) + most) if found else 0


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """Write ``value`` with ``decimals``, a real minus, and with ``sign`` a plus; undefined is a dash.

    >>> fixed(-0.04999, 2, sign=True)
    '−0.05'
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    if not float(text):                            # neither +0.00 nor -0.00: no direction is left at this precision
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def bounds(interval: Interval, decimals: int, *, sign: bool = True) -> str:
    """Write ``[low, high]``; a dash where there is none."""
    if not interval.exists:
        return DASH
    return f"[{fixed(interval.low, decimals, sign=sign)}, {fixed(interval.high, decimals, sign=sign)}]"


def plus_minus(interval: Interval, decimals: int) -> str:
    """Write ``mean ± half-width``, or the mean alone."""
    text = fixed(interval.mean, decimals)
    return f"{text} ± {interval.half_width:.{decimals}f}" if interval.exists else text


def format_p(p: float) -> str:
    """Write a p value with three decimals, as papers print it."""
    if math.isnan(p):
        return DASH
    return "<0.001" if p < 0.0005 else f"{p:.3f}"
