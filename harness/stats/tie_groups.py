"""Which arms cannot be told apart: every pair tested by seed, Holm over all pairs. No torch import."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.stats.hypothesis_tests import holm, sign_flip_test, smallest_p
from harness.stats.paired import Direction, paired_differences

LETTERS = string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True)
class TieGroups:
    """Arms from best mean to worst, and the groups within which no pair was told apart.

    Two arms share a letter exactly if the data do not tell them apart. That is not transitive: with letters
    "a", "ab" and "b" the first and third differ though neither differs from the second.
    """

    order: tuple[str, ...]                         # arms, best mean first; those without a value last
    groups: tuple[tuple[str, ...], ...]            # maximal sets of mutually undistinguished arms, best first
    letters: dict[str, str]                        # compact letter display: "a" for the best group, then "b", ...
    p: dict[frozenset[str], float]                 # of each pair, Holm-adjusted; NaN where it could not be tested
    decidable: bool                                # whether any pair had seeds enough to be told apart at alpha


def tie_groups(arms: Mapping[str, Mapping[Hashable, float]], *, direction: Direction = "higher",
               alpha: float = 0.05) -> TieGroups:
    """Group arms, each a mapping of seed to value, that all-pairs sign-flip tests under Holm do not separate.

    A pair that cannot be tested (no seed in common) is not told apart. With k arms there are k (k - 1) / 2
    pairs, so many arms need more seeds before any pair can differ: see ``decidable`` and
    :func:`harness.stats.power.smallest_n`. Source of the letters: Piepho, J. Comput. Graph. Stat. 13:456-466, 2004.
    """
    sign = -1 if direction == "higher" else 1
    means = {name: _mean(values.values()) for name, values in arms.items()}
    order = sorted(arms, key=lambda name: (math.isnan(means[name]), sign * means[name], name))
    pairs = list(itertools.combinations(order, 2))
    tests = [sign_flip_test(paired_differences(arms[b], arms[a], direction).values) for a, b in pairs]
    adjusted = holm(test.p for test in tests)
    p = {frozenset(pair): float(value) for pair, value in zip(pairs, adjusted, strict=True)}
    tied = {name: {other for other in order if other != name and not p[frozenset((name, other))] <= alpha}
            for name in order}
    counted = sum(test.n > 0 for test in tests)
    decidable = any(test.n and smallest_p(test.n) * counted <= alpha for test in tests)
    place = {name: i for i, name in enumerate(order)}
    ranks = sorted(sorted(place[name] for name in clique) for clique in maximal_cliques(tied))
    groups = [tuple(order[i] for i in members) for members in ranks]
    letters = {name: "".join(_letter(i) for i, group in enumerate(groups) if name in group) for name in order}
    return TieGroups(tuple(order), tuple(groups), letters, p, decidable)


def maximal_cliques(neighbours: Mapping[str, set[str]]) -> list[set[str]]:
    """Every set of mutual neighbours that no other contains.

    Source: Bron & Kerbosch, Commun. ACM 16:575-577, 1973, with the pivot of Tomita et al. 2006.
    """
    found = []

    def grow(clique: set[str], candidates: set[str], excluded: set[str]) -> None:
        if not candidates and not excluded:
            found.append(clique)
            return
        pivot = max(sorted(candidates | excluded), key=lambda name: len(neighbours[name] & candidates))
        for name in sorted(candidates - neighbours[pivot]):
            grow(clique | {name}, candidates & neighbours[name], excluded & neighbours[name])
            candidates = candidates - {name}
            excluded = excluded | {name}

    if neighbours:
        grow(set(), set(neighbours), set())
    return found


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if math.isfinite(value)]
    return float(np.mean(defined)) if defined else math.nan


def _letter(i: int) -> str:
    return LETTERS[i] if i < len(LETTERS) else f"({i + 1})"
