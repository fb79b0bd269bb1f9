"""What a study found, as data: each arm against the base, and each part of the study. No torch import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from harness.ablation.manifest import Part, PlannedArm
from harness.record import Metric
from harness.run_files import Run
from harness.stats.factorial import FactorialEffects
from harness.stats.intervals import LEVEL, Interval
from harness.stats.paired import PairedComparison
from harness.stats.sequential import Decision
from harness.stats.tie_groups import TieGroups
from harness.stats.time_to_quality import TimeToQuality

ALPHA = 0.05

Verdict = Literal["base", "better", "worse", "undecided"]


@dataclass(frozen=True)
class ArmResult:
    """One arm. ``comparison`` is positive where the arm is better; None for the base."""

    arm: PlannedArm
    runs: dict[int, Run]                           # seed -> its run that counts, whatever its status
    interval: Interval                             # mean of the outcome, 95 %
    comparison: PairedComparison | None
    adjusted_p: float                              # Holm over the part's arms; NaN for the base, without pairs, and
                                                   # with --seeds auto, where the plan of analyses decides
    verdict: Verdict
    detectable: float                              # at this n, 80 % power, Holm's first step; in the metric's unit.
                                                   # With analyses, at what the analyses so far may spend
    needed: float                                  # seeds to decide a difference as large as the one that was seen
    letters: str                                   # tie letters; "" where no pair could be told apart, or pairs are
                                                   # too many to test
    speed: TimeToQuality | None = None             # time to the base's final quality
    decision: Decision | None = None               # with --seeds auto


@dataclass(frozen=True)
class PartResult:
    """What one part of a study found."""

    part: Part
    metric: Metric                                 # one value of the outcome, for its label, unit, direction, protocol
    arms: tuple[ArmResult, ...]                    # the base first, then in the study's order
    ties: TieGroups
    effects: FactorialEffects | None               # of full and fractional factorial designs
    also: dict[str, dict[str, PairedComparison]]   # metric -> arm -> comparison; NOT corrected for being many
    excluded: list[str]                            # one line for each run that does not count, and why
    conclusion: str                                    # the finding, in a few sentences
    also_metrics: dict[str, Metric] = field(default_factory=dict)   # of ``also``, for label, unit, direction
    correction: str = ""                           # what the p values or decisions are corrected for, in words
    level: float = LEVEL                           # of the intervals of differences
    missing: int = 0                               # runs that were planned and are not there
    alpha_spent: float = ALPHA                     # that may be spent so far; with analyses less, 0 before the first
    alpha: float = ALPHA                           # of ties, effects, claims: what the last analysis adds to that

    @property
    def base(self) -> ArmResult:
        return self.arms[0]

    @property
    def comparisons(self) -> int:
        """Tests in the family: arms other than the base, tested yet or not."""
        return len(self.arms) - 1

    @property
    def seeds(self) -> int:
        """The most pairs that any comparison has."""
        return max((arm.comparison.test.n for arm in self.arms[1:]), default=0)
