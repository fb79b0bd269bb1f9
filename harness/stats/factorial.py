"""Main effects and interactions of a factorial study, paired by seed. No torch import.

A factor's main effect is how much its level changes the outcome, averaged over all settings of the other
factors; an interaction of two is how much one's effect changes when the other's level does (a difference of
differences, twice what Box, Hunter & Hunter call the interaction). Each is a weighted sum of the runs of one
seed, so each seed gives one value of it, and the interval and the test are those of paired differences.
Source: Box, Hunter & Hunter, Statistics for Experimenters, 2nd ed. 2005, chapters 5-6.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import InputError, unknown
from harness.stats.hypothesis_tests import holm, sign_flip_test
from harness.stats.intervals import LEVEL, Interval
from harness.stats.paired import difference_interval, effect_size

Cell = tuple[Hashable, ...]                        # one level of each factor, in the factors' order


@dataclass(frozen=True)
class Effect:
    """One main effect or interaction; positive raises the outcome (for direction "lower": lowers it)."""

    term: tuple[str, ...]                          # the factors: one = main effect, several = interaction
    levels: tuple[Hashable, ...]                   # of those factors, each against that factor's first level
    interval: Interval                             # in the outcome's unit; its n is seeds with every run
    effect_size: float                             # in SDs over seeds (harness.stats.paired.effect_size)
    p: float                                       # two-sided sign-flip test over seeds
    adjusted_p: float                              # Holm over the study's effects; aliases are one test, not several
    aliases: tuple[str, ...]                       # effects of up to the same order that the fraction confounds

    @property
    def label(self) -> str:
        return " x ".join(f"{factor} = {level}" for factor, level in zip(self.term, self.levels, strict=True))


@dataclass(frozen=True)
class FactorialEffects:
    effects: list[Effect]                          # main effects first, then by order of interaction
    inestimable: tuple[str, ...]                   # effects that this fraction confounds with the overall mean
    incomplete: tuple[Hashable, ...]               # seeds left out: a run is missing or undefined
    fraction: float                                # runs of one seed / runs of the full factorial


def factorial_effects(outcomes: Mapping[Cell, Mapping[Hashable, float]], factors: Mapping[str, Sequence[Hashable]],
                      *, order: int = 2, direction: str = "higher", level: float = LEVEL) -> FactorialEffects:
    """Effects up to interactions of ``order`` factors.

    ``outcomes[cell][seed]`` is the outcome of one run; ``factors`` names each factor's levels, the reference
    first. Full factorials may have any number of levels (each is compared with the reference). Fractions must
    have two levels per factor, and every two effects either orthogonal or aliased (a regular fraction, such as
    one made by generators); an aliased effect is named with what it cannot be told from.

    Raises InputError where a cell has an unknown level, a factor has fewer than two, or the design is neither
    full nor a regular two-level fraction.
    """
    if direction not in ("higher", "lower"):
        raise unknown("direction", direction, ("higher", "lower"))
    cells = _cells(outcomes, factors)
    full = math.prod(len(levels) for levels in factors.values())
    weights = _weights(cells, factors, order)
    if len(cells) < full:
        _regular(cells, factors, weights, full)
    seeds = sorted(set().union(*(outcomes[cell] for cell in cells)))
    table = np.array([[outcomes[cell].get(seed, math.nan) for cell in cells] for seed in seeds], dtype=float)
    whole = np.isfinite(table).all(axis=1)
    values = table[whole] if direction == "higher" else -table[whole]

    found, groups, inestimable = [], {}, []
    for key, weight in weights.items():
        if np.ptp(weight) == 0:                    # the fraction runs only one sign of it
            inestimable.append(_label(key))
            continue
        first = weight[np.flatnonzero(weight)[0]]
        groups.setdefault(tuple(np.round(weight / first, 9)), []).append(key)
    for members in groups.values():
        for key in members:
            differences = values @ weights[key]
            found.append((key, members, difference_interval(differences, level), effect_size(differences),
                          sign_flip_test(differences).p))
    # aliases share one p up to sign, so one of each group enters the family
    family = dict(zip(groups, holm(next(p for key, _, _, _, p in found if key == members[0])
                                   for members in groups.values()), strict=True))
    adjusted = {key: float(family[group]) for group, members in groups.items() for key in members}
    place = {key: i for i, key in enumerate(weights)}
    effects = [Effect(*key, interval, size, p, adjusted[key], tuple(_label(k) for k in members if k != key))
               for key, members, interval, size, p in sorted(found, key=lambda entry: place[entry[0]])]
    return FactorialEffects(effects, tuple(inestimable),
                            tuple(seed for seed, kept in zip(seeds, whole, strict=True) if not kept), len(cells) / full)


def _cells(outcomes: Mapping[Cell, Mapping], factors: Mapping[str, Sequence[Hashable]]) -> list[Cell]:
    for name, levels in factors.items():
        if len(set(levels)) < 2 or len(set(levels)) < len(levels):
            raise InputError(f"factor {name!r} needs two or more different levels, not {list(levels)}")
    for cell in outcomes:
        if len(cell) != len(factors):
            raise InputError(f"run {cell} has {len(cell)} levels, not one for each of {', '.join(factors)}")
        for (name, levels), value in zip(factors.items(), cell, strict=True):
            if value not in levels:
                raise unknown(f"level of {name}", str(value), map(str, levels))
    return list(outcomes)


def _weights(cells: list[Cell], factors: Mapping[str, Sequence[Hashable]],
             order: int) -> dict[tuple[tuple[str, ...], Cell], np.ndarray]:
    """(factors, levels) -> (cells,): what each run of one seed counts towards that effect."""
    position, weights = {name: i for i, name in enumerate(factors)}, {}
    for size in range(1, min(order, len(factors)) + 1):
        for term in itertools.combinations(factors, size):
            # each side of the contrast is a mean over the runs at that setting of the term's factors
            scale = math.prod(len(factors[name]) for name in term) / len(cells)
            for levels in itertools.product(*(factors[name][1:] for name in term)):
                weight = np.full(len(cells), scale)
                for name, level in zip(term, levels, strict=True):
                    at = [cell[position[name]] for cell in cells]
                    weight *= [1.0 if x == level else -1.0 if x == factors[name][0] else 0.0 for x in at]
                weights[term, levels] = weight
    return weights


def _regular(cells: list[Cell], factors: Mapping[str, Sequence[Hashable]], weights: Mapping, full: int) -> None:
    wide = [name for name, levels in factors.items() if len(levels) > 2]
    if wide:
        raise InputError(f"{full - len(cells)} of {full} combinations have no runs: a fraction of a factorial needs "
                         f"two levels per factor, and {', '.join(wide)} has more")
    for (a, x), (b, y) in itertools.combinations(weights.items(), 2):
        x, y = np.sign(x), np.sign(y)
        if abs(x @ y) not in (0, len(cells)) or abs(x.sum()) not in (0, len(cells)):
            raise InputError(f"not a regular fraction: in these {len(cells)} of {full} combinations {_label(a)} is "
                             f"partly confounded with {_label(b)} or with the mean; run the full factorial, or "
                             "half of it by a generator")


def _label(key: tuple[tuple[str, ...], Cell]) -> str:
    return " x ".join(f"{factor} = {level}" for factor, level in zip(*key, strict=True))
