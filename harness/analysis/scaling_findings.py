"""Efficiency runs -> what they say: whose cost grows fastest, in a sentence; verdicts on claims. No torch import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.claims import Verdict, claim_names, read_claim, scaling_verdict
from harness.analysis.scaling import Condition, Scaling, scaling_of
from harness.errors import InputError
from harness.formatting import bounds, fixed, listed
from harness.run_files import Run
from harness.stats.intervals import Interval


@dataclass(frozen=True)
class ScalingFindings:
    """What is known of a folder's efficiency runs."""

    scaling: Scaling
    conclusions: tuple[str, ...]                   # a sentence or two for each condition; "" with one size
    claims: tuple[Verdict, ...]                    # those about networks that were run
    problems: tuple[str, ...]

    @property
    def title(self) -> str:
        return "Cost against resolution" if self.several_sizes else "Memory and share of the roofline"

    @property
    def several_sizes(self) -> bool:
        """Whether there is more than one size, without which no exponent exists."""
        return len(self.scaling.sides) > 1


def scaling_findings(runs: Sequence[Run], out: Path) -> ScalingFindings | None:
    """Find what the efficiency runs among ``runs``, those of the results folder ``out``, say; None without any."""
    scaling = scaling_of(runs)
    if scaling is None or not scaling.conditions:
        return None
    problems = list(scaling.problems)
    try:
        claims = [claim for claim in map(read_claim, claim_names()) if claim.about_scaling]
        found = [scaling_verdict(claim, scaling, out) for claim in claims]
    except InputError as error:                    # a broken claim takes no report of measured runs with it
        found = []
        problems.append(f"claims not evaluated: {error}")
    return ScalingFindings(scaling, tuple(map(conclusion, scaling.conditions)),
                           tuple(verdict for verdict in found if verdict.link), tuple(problems))


def conclusion(condition: Condition, key: str = "step_ms") -> str:
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
        text += f" Left out: {listed(other, None)}, which {are} at each of these sizes."
    lost = len(condition.lost)
    return text + (f" {lost} run{'s' * (lost > 1)} did not finish." if lost else "")
