"""Simulated studies with a known truth: what a study's verdicts, intervals and claims get wrong stays as promised.

Values go in where runs would; everything from there on is what ``ablate`` and ``claims`` run. The large version of
the statistics alone is ``python bench.py page statistics``. Random seeds are fixed, so nothing here is flaky.
"""

import itertools
import math

import numpy as np
import pytest
import synthetic_values as made
from rich.console import Console

from harness.ablation import manifest as manifests
from harness.ablation.ablate import Sweep, interim_analyses_for
from harness.analysis import study_analysis, study_runs
from harness.analysis.claims import evaluate_claim
from harness.analysis.study_analysis import analyse
from harness.execution import Execution
from harness.stats.power import minimum_detectable_effect

ARMS = ("base", "a", "b", "c", "d", "e")
SD = 0.01                                          # of a run; what a seed's runs share is larger
SLACK = 3                                          # standard errors of a simulation at the promise's edge


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(study_runs, "arm_key", made.quick_key)
    monkeypatch.setattr(manifests, "arm_key", made.quick_key)
    monkeypatch.setattr(study_analysis, "seeds_needed", lambda *_, **__: math.nan)     # slow; decides nothing


def at_most(hits, studies, promised):
    """Whether ``hits`` of ``studies`` may be seen where each has a chance of ``promised`` or less."""
    return hits / studies <= promised + SLACK * math.sqrt(promised * (1 - promised) / studies)


def null(random, n, arms=ARMS):
    """Arms that do not differ: arm -> (n,) values that share what is the seed's."""
    shared = 0.8 + random.normal(0, 2 * SD, n)
    return {arm: shared + random.normal(0, SD, n) for arm in arms}


def outcome(values, n=None):
    return {"dice_macro": {arm: its[:n] for arm, its in values.items()}}


def one_part(values, seeds, counts=None, failed=(), **shape):
    manifest = made.manifest_of(tuple(values), seeds, counts, **shape)
    result, = analyse(manifest, made.runs_of(outcome(values, seeds), failed))
    return manifest, result


def decided(result, arms):
    return any(one.verdict != "undecided" for one in result.arms[1:] if one.arm.name in arms)


def covers(result):
    found = [one.comparison.interval for one in result.arms[1:] if one.comparison.interval.exists]
    return [interval.low <= 0 <= interval.high for interval in found]


@pytest.mark.parametrize("failing", [0, 0.04])
def test_fixed_seeds_family_error_and_coverage(failing):
    """Under the null: any verdict in 5 % of studies at most; intervals hold the truth 95 +- 2 % of the time."""
    random, studies, errors, covered = np.random.default_rng(1), 300, 0, []
    for _ in range(studies):
        lost = {(arm, seed) for arm in ARMS for seed in range(8) if random.random() < failing}
        _, result = one_part(null(random, 8), 8, failed=lost)
        errors += decided(result, ARMS)
        covered += covers(result)
    assert at_most(errors, studies, 0.05)
    slack = SLACK * math.sqrt(0.95 * 0.05 / studies)               # a study's five intervals count as one: one base
    assert 0.93 - slack <= np.mean(covered) <= 0.97 + slack and len(covered) > 4 * studies


@pytest.mark.parametrize("n", [8, 12])
def test_power_at_what_is_stated_as_detectable(n):
    random, studies, found = np.random.default_rng(n), 300, []
    effect = minimum_detectable_effect(SD * math.sqrt(2), n, comparisons=5)
    stated = []
    for _ in range(studies):
        values = null(random, n)
        values["a"] = values["a"] + effect
        arm = one_part(values, n)[1].arms[1]
        found.append(arm.verdict == "better")
        stated.append(arm.detectable)
    assert abs(np.mean(found) - 0.8) <= 0.02 + SLACK * math.sqrt(0.8 * 0.2 / studies)
    assert np.median(stated) == pytest.approx(effect, rel=0.15)            # from each study's own scatter


class Loop(Sweep):
    """The loop of ``--seeds auto``, with values instead of training."""

    def __init__(self, manifest, values, failed, tmp_path):
        super().__init__(manifest, {}, tmp_path, Console(quiet=True), how=Execution(in_process=True))
        self.values, self.failed, self.reports, self.runs = values, failed, [], []

    def write(self):
        pass

    def run_seeds(self, seeds):
        self.runs = made.runs_of(outcome(self.values, len(self.manifest.seeds)), self.failed)
        self.reports += analyse(self.manifest, self.runs)


def auto(values, monkeypatch, tmp_path, most=12, failed=()):
    """Every report that ``--seeds auto`` would have shown."""
    counts = interim_analyses_for(most, len(values) - 1).counts
    loop = Loop(made.manifest_of(tuple(values), counts[0], counts), values, failed, tmp_path)
    monkeypatch.setattr("harness.record.read_records", lambda path: ([run.record for run in loop.runs], []))
    loop.run()
    return loop.reports


@pytest.mark.parametrize("failing, real", [(0, 0), (0.03, 0), (0, 2)])
def test_auto_family_error_over_all_looks(monkeypatch, tmp_path, failing, real):
    """Any false verdict, any equal arms told apart, any interval that misses, at any analysis: each in 5 % at most."""
    random, studies = np.random.default_rng([2, real]), 120
    errors = ties = missed = 0
    for _ in range(studies):
        values = null(random, 12)
        for arm in ARMS[1:1 + real]:
            values[arm] = values[arm] + 5 * SD
        equal = [arm for arm in ARMS if arm not in ARMS[1:1 + real]]
        lost = {(arm, seed) for arm in ARMS for seed in range(12) if random.random() < failing}
        reports = auto(values, monkeypatch, tmp_path, failed=lost)
        errors += any(decided(result, equal) for result in reports)
        ties += any(result.arms[i].letters and result.arms[j].letters
                    and not set(result.arms[i].letters) & set(result.arms[j].letters) for result in reports
                    for i, j in itertools.combinations([ARMS.index(arm) for arm in equal], 2))
        missed += any(not all(covers(result)) for result in reports) if not real else 0
    assert at_most(errors, studies, 0.05) and at_most(ties, studies, 0.05) and at_most(missed, studies, 0.05)


def test_auto_stops_early_where_all_arms_differ(monkeypatch, tmp_path):
    values = null(np.random.default_rng(3), 20)
    for arm in ARMS[1:]:
        values[arm] = values[arm] + 10 * SD
    reports = auto(values, monkeypatch, tmp_path, most=20)
    assert len(reports) == 1 and reports[0].seeds == 10 and {one.verdict for one in reports[0].arms[1:]} == {"better"}


def test_the_first_look_of_auto_can_decide():
    """An analysis at which no result, however clear, could be decided would only cost its report."""
    for most, comparisons in itertools.product((9, 12, 20), (1, 5)):
        counts = interim_analyses_for(most, comparisons).counts
        values = {arm: [0.5 + 0.1 * bool(i)] * counts[0] for i, arm in enumerate(ARMS[:comparisons + 1])}
        _, result = one_part(values, counts[0], counts)
        assert {one.verdict for one in result.arms[1:]} == {"better"} and result.arms[1].detectable == 0


CELLS = tuple(itertools.product(("plain", "residual"), ("1", "4")))
FACTORIAL = {"axes": (("block", ("plain", "residual")), ("depth", ("1", "4"))), "levels": CELLS}


def test_effects_of_factors_over_all_looks():
    """Effects have a family of their own: 5 % over it and all analyses."""
    random, studies, errors, counts = np.random.default_rng(4), 150, 0, (8, 10, 12)
    for _ in range(studies):
        values = null(random, 12, [", ".join(cell) for cell in CELLS])
        results = [one_part(values, count, counts, **FACTORIAL)[1] for count in counts]
        errors += any(effect.adjusted_p <= result.alpha for result in results for effect in result.effects.effects)
    assert at_most(errors, studies, 0.05)


def at_difference(random, n, difference=0.02):
    values = null(random, n, ("base", "arm"))
    return {"dice_macro": {"base": values["base"], "arm": values["arm"] + difference}}


def at_ratio(random, n, ratio=1.0):
    """The ratio of two arms is ``ratio`` times e to noise without skew."""
    base = 0.5 * np.exp(random.normal(0, 0.1, n))
    return {"base": base, "arm": base * ratio * np.exp(random.normal(0, 0.05, n))}


def at_order(random, n):
    base = 0.5 * np.exp(random.normal(0, 0.1, n))
    return {"dice_macro": {arm: base * mean * np.exp(random.normal(0, 0.02, n))
                           for arm, mean in zip("abc", (1, 0.7, 0.7), strict=True)}}


def at_interaction(random, n):
    values = null(random, n, [", ".join(cell) for cell in CELLS])
    return {"dice_macro": {arm: its + more for (arm, its), more in
                           zip(values.items(), (0, 0.01, 0.03, 0.06), strict=True)}}


def at_edge(random, n):
    return {"dice_macro": at_ratio(random, n, 1.2), "edges": at_ratio(random, n, 1.2 * 1.05)}


# What the claim asks for, and values whose truth is just that: of the noise around it neither way may be found.
AT_THE_BAR = {
    "ratio": ({"arm": "arm", "reference": "base", "at_least": 15},
              lambda random, n: {"dice_macro": at_ratio(random, n, 1.15)}, {}),
    "difference": ({"arm": "arm", "reference": "base", "at_least": 0.02},
                   at_difference, {}),
    "ratio_of_ratios": ({"arm": "arm", "reference": "base", "metric": "edges", "against": "dice_macro", "at_least": 5},
                        at_edge, {"also": ("edges",)}),
    "speed": ({"arm": "arm", "reference": "base", "at_least": 2}, at_difference, {"curve": "validation Dice"}),
    "interaction": ({"effect": {"block": "residual", "depth": "4"}, "at_least": 0.02}, at_interaction, FACTORIAL),
    "order": ({"chains": [["a", "b", "c"]]}, at_order, {}),
}


@pytest.mark.parametrize("counts", [None, (8, 10, 12)], ids=["fixed", "auto"])
@pytest.mark.parametrize("kind", AT_THE_BAR)
def test_claims_at_their_bar(monkeypatch, kind, counts):
    """Where the truth is just the smallest effect that matters, either verdict comes in 2.5 % of studies at most."""
    entries, make, shape = AT_THE_BAR[kind]
    claim, random, studies, curves = made.claim_of(kind, **entries), np.random.default_rng(5), 100, {}
    monkeypatch.setattr(study_runs, "_curve", lambda run, name: curves.get(
        (run.record.spec.options["arm"], run.record.spec.seeds.init)))
    seen = {"supported": 0, "contradicted": 0, "inconclusive": 0}
    for _ in range(studies):
        n = counts[-1] if counts else 8
        values = make(random, n)
        for seed in range(n):
            curves[0, seed], curves[1, seed] = (made.curve_reaching(step * np.exp(random.normal(0, 0.1)))
                                                for step in (900, 450))
        found = set()
        for count in counts or (n,):
            manifest = made.manifest_of(tuple(values["dice_macro"]), count, counts, **shape)
            cut = {key: outcome(table, count)["dice_macro"] for key, table in values.items()}
            found.add(evaluate_claim(claim, manifest, analyse(manifest, made.runs_of(cut))).verdict)
        for word in found:
            seen[word] += 1
    assert at_most(seen["supported"], studies, 0.025) and at_most(seen["contradicted"], studies, 0.025)
    assert seen["inconclusive"] > 0.8 * studies    # all of them were evaluated
