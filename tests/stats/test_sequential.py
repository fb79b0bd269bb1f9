import itertools
import math

import numpy as np
import pytest

from harness.errors import InputError
from harness.inspection.statistics_page import sequential_error, sequential_power
from harness.stats.hypothesis_tests import holm, sign_flip_test
from harness.stats.sequential import SequentialPlan


def test_looks_are_spread_or_given():
    assert SequentialPlan(8, 16, 3).counts == (8, 12, 16)
    assert SequentialPlan(6, 8, 9).counts == (6, 7, 8)
    assert SequentialPlan(6, 12, 1).counts == (12,)
    assert SequentialPlan(6, 12, (6, 7, 12)).counts == (6, 7, 12)


@pytest.mark.parametrize("wrong, says", [
    ({"min_seeds": 0, "max_seeds": 8}, "1 or more"), ({"min_seeds": 9, "max_seeds": 8}, "not more"),
    ({"min_seeds": 6, "max_seeds": 8, "analyses": 0}, "at least one analysis"),
    ({"min_seeds": 6, "max_seeds": 8, "analyses": (6, 7)}, "the last 8"),
    ({"min_seeds": 6, "max_seeds": 8, "analyses": (8, 6)}, "growing"),
    ({"min_seeds": 3, "max_seeds": 5}, "needs at least 6"),
    ({"min_seeds": 3, "max_seeds": 7, "comparisons": 5}, "5 comparisons at alpha = 0.05 needs at least 8"),
    ({"min_seeds": 6, "max_seeds": 8, "alpha": 2}, "alpha"),
])
def test_a_plan_that_makes_no_sense_says_why(wrong, says):
    with pytest.raises(InputError, match=says):
        SequentialPlan(**wrong)


def test_one_look_is_the_fixed_test_and_holm():
    random = np.random.default_rng(0)
    alone, family = SequentialPlan(9, 9, 1), SequentialPlan(9, 9, 1, comparisons=4)
    for _ in range(60):
        rows = random.normal(0.8, 1, (4, 9))
        assert (alone.decide(rows[0]).status == "decided") == (sign_flip_test(rows[0]).p <= 0.05)
        adjusted = holm(sign_flip_test(row).p for row in rows)
        found = family.decide_family({str(i): row for i, row in enumerate(rows)})
        assert [found[str(i)].status == "decided" for i in range(4)] == list(adjusted <= 0.05)


@pytest.mark.parametrize("analyses", [(6, 8, 10), (5, 6, 7, 8, 9, 10), (8, 10)])
def test_over_all_assignments_of_signs_no_more_than_alpha_is_ever_rejected(analyses):
    """The exact error, given the sizes of the differences: every assignment tried, none simulated."""
    plan = SequentialPlan(analyses[0], 10, analyses)
    sizes = np.abs(np.random.default_rng(1).normal(size=10))
    rejected = {n: 0 for n in analyses}
    for signs in itertools.product((1, -1), repeat=9):
        values = sizes * np.array([1, *signs])     # the mirror image of each is rejected alike
        for n in analyses:
            if plan.decide(values[:n]).status == "decided":
                rejected[n] += 1
    for n in analyses:
        assert rejected[n] / 2**9 <= 0.05 * plan.alpha_spent_by(n) + 1e-12
    assert rejected[10] / 2**9 >= 0.05 - 2 / 2**9  # and next to nothing of it is wasted


def test_status_side_and_next_look():
    plan = SequentialPlan(6, 10, 3)
    clear = [1.0, 1.2, 0.9, 1.1, 1.3, 0.8, 1.0, 1.1, 0.9, 1.2]
    none_yet = plan.decide(clear[:5])
    assert (none_yet.status, none_yet.seeds, none_yet.next_analysis) == ("continue", 0, 6) and math.isnan(none_yet.p)
    assert plan.decide(clear[:7]).seeds == 6       # the seventh waits for the next analysis
    done = plan.decide(clear)
    assert (done.status, done.side, done.next_analysis, done.p) == ("decided", 1, None, 2 / 2**10)
    assert plan.decide([-x for x in clear]).side == -1
    assert plan.decide(clear, threshold=2).side == -1
    open_still = plan.decide([1, -1] * 5)
    assert (open_still.status, open_still.side, open_still.p) == ("exhausted", 0, 1)


def test_what_was_decided_stays_decided():
    plan = SequentialPlan(8, 12, 3)
    early = np.r_[np.ones(8), -np.ones(4)]
    assert [plan.decide(early[:n]).status for n in (8, 10, 12)] == ["decided"] * 3


def test_failed_seeds_speak_for_neither_side():
    plan = SequentialPlan(8, 12, 2)
    assert plan.decide([1.0] * 9 + [math.nan] * 3).status == "decided"
    assert plan.decide([1.0] * 5 + [math.nan] * 7).status == "exhausted"


def test_an_arm_decided_makes_the_next_easier_as_in_holm():
    plan = SequentialPlan(8, 8, 1, comparisons=2)  # one arm alone at .025, the second at .05
    weak = [1.0, 1.1, 0.9, 1.2, 0.8, 1.3, 0.7, -0.95]
    assert 0.025 < sign_flip_test(weak).p <= 0.05
    assert plan.decide(weak).status == "exhausted"
    both = plan.decide_family({"strong": [1.0] * 8, "weak": weak})
    assert [both[arm].status for arm in both] == ["decided", "decided"]
    with pytest.raises(InputError, match="3 arms in a plan of 2"):
        plan.decide_family({"a": [], "b": [], "c": []})


def test_interval_levels_spend_alpha_once():
    plan = SequentialPlan(6, 12, 4, comparisons=3)
    assert sum(1 - plan.interval_level(n) for n in plan.counts) == pytest.approx(0.05 / 3)


def test_family_error_over_all_looks_and_arms_stays_within_five_percent():
    rows = [sequential_error(SequentialPlan(6, 11, 6), 600),
            sequential_error(SequentialPlan(8, 11, 4, comparisons=4), 200),
            sequential_error(SequentialPlan(8, 11, 4, comparisons=4), 200, real=2)]
    assert [row.kept for row in rows] == ["yes"] * 3, rows
    assert sequential_error(SequentialPlan(6, 11, 6), 600, corrected=False).found > 0.07


def test_more_than_sixteen_seeds_are_sampled_the_same_way_every_time():
    plan = SequentialPlan(8, 18, 2)
    values = 0.7 + np.random.default_rng(0).standard_normal(18)
    assert plan.decide(values) == plan.decide(values)
    assert plan.decide(values).status == "decided"


def test_looking_early_saves_seeds_and_costs_little_power():
    analyses, all_seeds, used = sequential_power(SequentialPlan(8, 12, 3), 1.2, 300)
    assert analyses.found > all_seeds.found - 0.06 and used.found < 11
