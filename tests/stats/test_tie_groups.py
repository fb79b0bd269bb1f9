import itertools
import math

import numpy as np
import pytest

from harness.stats.tie_groups import maximal_cliques, tie_groups


def arms(means, n=12, sd=0.1):
    random = np.random.default_rng(0)
    return {name: dict(enumerate(mean + sd * random.standard_normal(n))) for name, mean in means.items()}


def test_clear_groups_get_letters_best_first():
    found = tie_groups(arms({"low": 0.0, "high": 5.0, "high too": 5.01, "middle": 2.0}))
    assert set(found.order[:2]) == {"high", "high too"} and found.order[2:] == ("middle", "low")
    assert found.letters == {"high": "a", "high too": "a", "middle": "b", "low": "c"}
    assert [set(group) for group in found.groups] == [{"high", "high too"}, {"middle"}, {"low"}]
    assert found.decidable


def test_lower_is_better_turns_the_order():
    values = arms({"x": 0.0, "y": 3.0})
    assert tie_groups(values, direction="lower").order == ("x", "y")
    assert tie_groups(values).order == ("y", "x")


def test_a_middle_arm_that_differs_from_neither_has_both_letters():
    steps = np.linspace(-1, 1, 8)
    values = {"top": dict(enumerate(1.0 + 0 * steps)), "between": dict(enumerate(0.5 + 2 * steps)),
              "bottom": dict(enumerate(0 * steps))}
    assert tie_groups(values).letters == {"top": "a", "between": "ab", "bottom": "b"}


def test_arms_share_a_letter_exactly_if_they_are_not_told_apart():
    random = np.random.default_rng(4)
    values = {f"arm {i}": dict(enumerate(0.25 * i + 0.5 * random.standard_normal(14))) for i in range(8)}
    found = tie_groups(values)
    assert any(p <= 0.05 for p in found.p.values()) and any(p > 0.05 for p in found.p.values())
    for a, b in itertools.combinations(values, 2):
        assert bool(set(found.letters[a]) & set(found.letters[b])) == (found.p[frozenset((a, b))] > 0.05)
    assert len(set(found.groups)) == len(found.groups)


def test_few_seeds_separate_nothing_and_say_so():
    found = tie_groups(arms({"a": 0.0, "b": 5.0, "c": 9.0}, n=5))
    assert len(found.groups) == 1 and not found.decidable


def test_an_arm_that_cannot_be_tested_is_tied_with_all():
    values = arms({"a": 0.0, "b": 5.0}) | {"failed": {0: math.nan}, "elsewhere": {100: 2.0}}
    found = tie_groups(values)
    assert found.order[-1] == "failed" and math.isnan(found.p[frozenset(("a", "failed"))])
    assert set(found.letters["failed"]) == {"a", "b"}
    assert tie_groups({}).groups == () and tie_groups({"one": {0: 1.0}}).letters == {"one": "a"}


@pytest.mark.parametrize("seed", range(5))
def test_maximal_cliques_are_those_found_by_trying_all_sets(seed):
    random, names = np.random.default_rng(seed), "abcdefg"
    neighbours = {name: set() for name in names}
    for a, b in itertools.combinations(names, 2):
        if random.random() < 0.5:
            neighbours[a].add(b)
            neighbours[b].add(a)
    cliques = [set(members) for size in range(1, 8) for members in itertools.combinations(names, size)
               if all(b in neighbours[a] for a, b in itertools.combinations(members, 2))]
    expected = [clique for clique in cliques if not any(clique < other for other in cliques)]
    assert sorted(map(sorted, maximal_cliques(neighbours))) == sorted(map(sorted, expected))
