import math

import numpy as np
import pytest

from harness.errors import InputError
from harness.stats.time_to_quality import Curve, first_reach, running_mean, time_to_quality


def curve(values, step=10, second=2.0):
    at = np.arange(1, len(values) + 1)
    return Curve(at * step, at * second, values)


def test_running_mean_looks_back_only():
    assert running_mean([1, 2, 3, 4], 2) == pytest.approx([math.nan, 1.5, 2.5, 3.5], nan_ok=True)
    assert running_mean([1, math.nan, 3, 4, 5], 2) == pytest.approx([math.nan] * 3 + [3.5, 4.5], nan_ok=True)
    assert np.isnan(running_mean([1.0], 2)).all()
    with pytest.raises(InputError):
        running_mean([1.0], 0)


def test_first_reach_knows_which_way_is_better():
    found = first_reach(curve([0.2, 0.5, 0.4, 0.6]), 0.5)
    assert (found.step, found.seconds, found.ever) == (20, 4.0, True)
    assert first_reach(curve([9, 7, 5, 6]), 6, "lower").step == 30
    assert not first_reach(curve([0.1, math.nan]), 0.5).ever
    assert first_reach(curve([0.1, 0.9, 0.1, 0.5, 0.6]), 0.5, window=2).step == 20
    with pytest.raises(InputError, match="direction"):
        first_reach(curve([1]), 1, "best")


def test_an_arm_twice_as_fast_in_steps_and_as_slow_per_step():
    base = {seed: curve([0.1, 0.2, 0.3, 0.4 + seed]) for seed in range(8)}
    arm = {seed: curve([0.2, 0.4 + seed, 0.5, 0.5], second=8.0) for seed in range(8)}
    found = time_to_quality(base, arm)
    assert found.steps.ratio.mean == pytest.approx(0.5) and found.steps.median == 0.5
    assert (found.steps.ratio.low, found.steps.ratio.high) == pytest.approx((0.5, 0.5))
    assert found.seconds.ratio.mean == pytest.approx(2.0)
    assert found.steps.p == 2 / 256 and found.never == 0 and found.targets[2] == 2.4


def test_the_base_may_reach_its_own_final_quality_early():
    found = time_to_quality({0: curve([0.1, 0.8, 0.9, 0.8])}, {0: curve([0.8, 0.8, 0.8, 0.8])})
    assert found.base[0].step == 20 and found.steps.ratio.mean == 0.5
    assert not found.steps.ratio.exists                    # one seed


def test_seeds_that_never_reach_are_censored_not_left_out():
    base = {seed: curve([0.1, 0.2, 0.3, 0.4]) for seed in range(5)}
    arm = {seed: curve([0.0, 0.4, 0.4, 0.4]) for seed in range(3)} | {3: curve([0.0] * 4), 4: curve([math.nan] * 4)}
    found = time_to_quality(base, arm)
    assert found.never == 2 and math.isnan(found.arm[3].step)
    assert found.steps.median == 0.5 and not found.steps.ratio.exists and math.isnan(found.steps.p)
    assert (found.steps.ratio.n, found.steps.ratio.undefined) == (3, 2)
    arm[2] = curve([0.0] * 4)
    assert time_to_quality(base, arm).steps.median == math.inf


def test_no_target_and_no_pair():
    found = time_to_quality({0: curve([0.1, math.nan]), 1: curve([0.1])}, {0: curve([1, 1]), 2: curve([1])})
    assert found.undefined == 1 and not found.targets
    assert math.isnan(found.steps.ratio.mean) and math.isnan(found.steps.median) and math.isnan(found.steps.p)


def test_intervals_of_ratios_cover_the_truth():
    random, hits = np.random.default_rng(0), 0
    for _ in range(300):
        base = {seed: Curve([100.0], [100.0], [1.0]) for seed in range(8)}
        steps = 70 * np.exp(0.3 * random.standard_normal(8))
        ratio = time_to_quality(base, {seed: Curve([s], [s], [1.0]) for seed, s in enumerate(steps)}).steps.ratio
        hits += ratio.low <= 0.7 <= ratio.high
    assert 0.91 <= hits / 300 <= 0.99
