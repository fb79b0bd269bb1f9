"""Adding seeds until a question is decided, with the correction that testing several times needs. No torch import.

Testing after every few seeds and stopping at the first p <= .05 rejects a true null hypothesis far more often
than 1 time in 20. So the analyses are fixed in advance, and by the analysis at n of at most N seeds no more than
alpha * (n / N) ** 2 may be spent (an alpha-spending function: Lan & DeMets, Biometrika 70:659-663, 1983; the
power family of Kim & DeMets, Biometrika 74:149-154, 1987). What an analysis spends is counted, not approximated:
under the null hypothesis all assignments of signs to the differences are equally likely (see
harness/hypothesis_tests.py), so an analysis rejects the most extreme of those assignments that no earlier analysis has
rejected, as many as the spending allows, ties together. What it cannot spend (few seeds have few assignments)
is left for the next. The error is therefore at most alpha for any symmetric differences and any number of analyses.

Several arms against one base: closed testing, which is Holm's procedure where there is one analysis. Every set of r
arms is tested with alpha / r for each of them, and an arm is decided once every set that holds it is rejected.
The chance of any false decision, over all analyses and arms, stays <= alpha however the arms depend on each other
(Marcus, Peritz & Gabriel, Biometrika 63:655-660, 1976).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from harness.errors import InputError
from harness.stats.hypothesis_tests import TIE, sign_flip_test
from harness.stats.power import smallest_n

GROWTH = 2.0                                       # share of alpha spent by n of N seeds: (n / N) ** GROWTH
EXACT_UP_TO = 16                                   # seeds; all 2**(n - 1) assignments up to here
MONTE_CARLO = 2**15                                # assignments beyond: the one found and random ones, valid too


@dataclass(frozen=True)
class Decision:
    """Where one question stands."""

    status: Literal["decided", "continue", "exhausted"]
    side: int                                      # decided: +1 mean above the threshold, -1 below; else 0
    p: float                                       # of the last analysis by itself, for no analyses or arms corrected
    seeds: int                                     # at the last analysis made; 0 before the first
    next_analysis: int | None                      # seeds to have by the next analysis; None if decided or exhausted


@dataclass(frozen=True)
class SequentialPlan:
    """When to test, and what each analysis may spend.

    ``analyses`` of them (or that many as fit), evenly spread from ``min_seeds`` to ``max_seeds``; or the seed
    counts themselves. ``comparisons`` = arms tested against the base; it is fixed in advance too. Raises
    InputError for a plan that could never decide anything: then ``max_seeds`` is below
    :func:`harness.stats.power.smallest_n`.
    """

    min_seeds: int
    max_seeds: int
    analyses: int | tuple[int, ...] = 3
    alpha: float = 0.05
    comparisons: int = 1

    def __post_init__(self):
        if not 1 <= self.min_seeds <= self.max_seeds:
            raise InputError(f"from {self.min_seeds} to {self.max_seeds} seeds: the least is 1 or more, and not more "
                             "than the most")
        if isinstance(self.analyses, int):
            if self.analyses < 1:
                raise InputError(f"a plan takes at least one analysis, not {self.analyses}")
        elif list(self.analyses) != sorted(set(self.analyses)) or not self.analyses \
                or self.analyses[-1] != self.max_seeds or self.analyses[0] < self.min_seeds:
            raise InputError(f"analyses {list(self.analyses)}: growing numbers of seeds from {self.min_seeds} or more, "
                             f"the last {self.max_seeds}")
        floor = smallest_n(self.alpha, comparisons=self.comparisons)
        if self.max_seeds < floor:
            raise InputError(f"{self.max_seeds} seeds at most can decide nothing: an exact paired test of "
                             f"{self.comparisons} comparison{'s' if self.comparisons > 1 else ''} at alpha = "
                             f"{self.alpha:g} needs at least {floor}")

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Seeds at each analysis."""
        if not isinstance(self.analyses, int):
            return tuple(self.analyses)
        spread = np.linspace(self.min_seeds, self.max_seeds, self.analyses) if self.analyses > 1 else [self.max_seeds]
        return tuple(sorted({int(n + 0.5) for n in spread}))

    def alpha_spent_by(self, n: int) -> float:
        """Share of alpha that may be spent by the analysis at ``n`` seeds; 1 at the last."""
        return (n / self.max_seeds) ** GROWTH

    def interval_level(self, n: int) -> float:
        """Level for :func:`harness.stats.paired.difference_interval` at the analysis at ``n`` seeds.

        At these levels the intervals of all arms at all analyses together hold with chance 1 - alpha (Bonferroni
        over what each analysis adds), so an interval may be read wherever the plan stopped. They are wider than
        the decision needs: an arm may be decided whose interval still holds the threshold.
        """
        before = max((count for count in self.counts if count < n), default=0)
        added = self.alpha_spent_by(n) - (self.alpha_spent_by(before) if before else 0)
        return 1 - self.alpha * added / self.comparisons

    def decide(self, differences: Iterable[float], threshold: float = 0.0) -> Decision:
        """Whether one arm's ``differences`` (n,) decide its question, at alpha / comparisons.

        In the order in which the seeds were added, NaN for a failed seed. Only planned analyses count: seeds
        beyond the last analysis made wait for the next. Two-sided about ``threshold`` (the smallest difference
        that matters, or 0): decided with side +1 supports "better by more than the threshold", with side -1
        contradicts it. "exhausted": all seeds of the plan are in and neither holds.
        """
        return self.decide_family({"": differences}, threshold)[""]

    def decide_family(self, differences: Mapping[str, Iterable[float]],
                      threshold: float = 0.0) -> dict[str, Decision]:
        """The same for several arms. Arms of the plan that are not given count as not decided.

        Raises InputError for more arms than the plan's ``comparisons``.
        """
        if len(differences) > self.comparisons:
            raise InputError(f"{len(differences)} arms in a plan of {self.comparisons} comparisons: the number is "
                             "fixed before the first analysis")
        values = {arm: np.asarray(list(its), dtype=float) for arm, its in differences.items()}
        sizes = range(1, self.comparisons + 1)
        crossed = {arm: self._sides(its - threshold, [self.alpha / r for r in sizes]) for arm, its in values.items()}
        decided = dict.fromkeys(values, True)
        for r in sizes:
            open_arms = self.comparisons - sum(sides[r - 1] != 0 for sides in crossed.values())
            for arm, sides in crossed.items():
                # r arms of which none crossed at alpha / r are a set that is not rejected
                decided[arm] &= sides[r - 1] != 0 or open_arms < r
        return {arm: self._decision(its, crossed[arm][0] if decided[arm] else 0, threshold)
                for arm, its in values.items()}

    def _decision(self, values: np.ndarray, side: int, threshold: float) -> Decision:
        seeds = max((n for n in self.counts if n <= len(values)), default=0)
        later = None if side else next((n for n in self.counts if n > seeds), None)
        status = "decided" if side else "continue" if later else "exhausted"
        return Decision(status, side, sign_flip_test(values[:seeds], threshold=threshold).p, seeds, later)

    def _sides(self, shifted: np.ndarray, levels: list[float]) -> list[int]:
        """For each level: the side (+1, -1) on which the test crossed at any analysis so far, or 0."""
        shifted = np.where(np.isfinite(shifted), shifted, 0.0)    # a failed seed speaks for neither side
        made = [n for n in self.counts if n <= len(shifted)]
        if not made:
            return [0] * len(levels)
        signs = _signs(self.max_seeds)
        sums = {n: np.abs(signs[:, :n] @ shifted[:n]) for n in made}
        tie = TIE * np.abs(shifted).sum()
        sides = []
        for level in levels:
            alive, side = np.ones(len(signs), bool), 0
            for n in made:
                # rejected so far + rejected now <= level * share of all assignments
                room = int(level * self.alpha_spent_by(n) * len(signs) + 1e-9) - int((~alive).sum())
                left = sums[n][alive]
                if room <= 0 or len(left) <= room:
                    continue
                bar = np.partition(left, len(left) - room - 1)[len(left) - room - 1]  # the largest not to fit
                alive &= sums[n] <= bar + tie
                if not alive[0]:                   # the first assignment is the one found
                    side = int(np.sign(shifted[:n].sum()))
                    break
            sides.append(side)
        return sides


@lru_cache(maxsize=4)
def _signs(n: int) -> np.ndarray:
    """(assignments, n) of +1 and -1; the first row is all +1. Opposite rows count as one: the test is two-sided."""
    if n > EXACT_UP_TO:
        signs = 2.0 * np.random.default_rng(n).integers(0, 2, (MONTE_CARLO, n)) - 1
        signs[0] = 1.0
        return signs
    bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    return 1.0 - 2.0 * bits
