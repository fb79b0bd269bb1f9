"""A study's runs -> its findings: every arm against the base, paired by seed. No torch import.

One part of a study (a suite under a matching) has one primary outcome, and its family of tests is that
outcome's comparisons of every arm with the base: p values are Holm's over that family, and a verdict comes
from them only. A factorial design's effects are a second family, and the tie letters of all pairs a third, each
with its own Holm. What else is shown (other metrics, time to quality) is not corrected and decides nothing.
With ``--seeds auto`` all of them hold over all analyses together; seeds beyond the last whole analysis wait for the
next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness import suites
from harness.ablation.manifest import Manifest, Part
from harness.analysis.study_conclusion import conclusion
from harness.analysis.study_result import ALPHA, ArmResult, PartResult, Verdict
from harness.analysis.study_runs import (
    Collected,
    by_arm,
    collect,
    curves,
    one_protocol,
    seen_at_analysis,
    values,
)
from harness.errors import unknown
from harness.record import Metric
from harness.run_files import Run
from harness.stats.factorial import FactorialEffects, factorial_effects
from harness.stats.hypothesis_tests import holm
from harness.stats.intervals import LEVEL, mean_interval
from harness.stats.paired import PairedComparison, compare_paired
from harness.stats.power import minimum_detectable_effect, seeds_needed, smallest_n
from harness.stats.sequential import Decision, SequentialPlan
from harness.stats.tie_groups import TieGroups, tie_groups
from harness.stats.time_to_quality import TimeToQuality, time_to_quality

TIE_WORK = 3e6                                     # microseconds, about, that the tests of all pairs may take


def analyse(manifest: Manifest, runs: Sequence[Run]) -> tuple[PartResult, ...]:
    """Every part of the study from the runs of its folder; runs of other studies among them are left alone.

    Raises InputError where finished runs lack the outcome, or where arms were measured in different ways that
    are not what the study varies.
    """
    keyed = by_arm(runs)
    return tuple(_analyse_part(manifest, part, collect(part, keyed, manifest.seeds)) for part in manifest.parts)


def _analyse_part(manifest: Manifest, part: Part, collected: Collected) -> PartResult:
    present = sum(map(len, collected.arms.values()))
    comparisons, plan, analyses = len(part.arms) - 1, None, manifest.interim_analyses
    decisions, level, alpha_spent, alpha = {}, LEVEL, ALPHA, ALPHA
    if analyses:
        collected, analysed = seen_at_analysis(collected, manifest.seeds, analyses.counts)
    metric, outcome = _outcome(part, collected)
    if analyses:
        plan = SequentialPlan(analyses.min_seeds, analyses.max_seeds, analyses.counts, ALPHA, comparisons)
        decisions = plan.decide_family(_in_order(manifest.seeds, part, collected, outcome, metric.direction))
        alpha_spent = alpha = 0.0
        if analysed:
            level, alpha_spent = plan.interval_level(analysed), ALPHA * plan.alpha_spent_by(analysed)
            alpha = (1 - level) * comparisons
    compared = _against_base(part, outcome, metric.direction, level)
    # an arm whose runs are still to come keeps its place in the family: p = 1, not none
    p = [comparison.test.p for comparison in compared.values()]
    adjusted = dict(zip(compared, holm(1.0 if math.isnan(one) else one for one in p), strict=True))
    ties = _ties(outcome, metric.direction, alpha)
    speeds = _speeds(part, collected)
    arms = []
    for arm in part.arms:
        comparison, decision = compared.get(arm.name), decisions.get(arm.name)
        corrected = math.nan if comparison is None or plan or not comparison.test.n else float(adjusted[arm.name])
        arms.append(ArmResult(
            arm, collected.arms[arm.name], mean_interval(outcome[arm.name].values()), comparison, corrected,
            _verdict(comparison, corrected, decision), *_sight(comparison, comparisons, alpha_spent),
            ties.letters[arm.name] if ties.decidable else "",
            speeds.get(arm.name), decision))
    also_metrics = {key: one_protocol(part, collected.arms, key) for key in part.also}
    also_metrics = {key: found for key, found in also_metrics.items() if found and found.direction != "none"}
    also = {key: _against_base(part, {name: values(runs, key) for name, runs in collected.arms.items()},
                               found.direction, LEVEL) for key, found in also_metrics.items()}
    effects = _effects(manifest, part, outcome, metric.direction, 1 - alpha if alpha else LEVEL)
    missing = len(part.arms) * len(manifest.seeds) - present
    result = PartResult(part, metric, tuple(arms), ties, effects, also,
                        collected.excluded + _undefined(outcome, metric), "", also_metrics,
                        _correction(manifest, part), level, missing, alpha_spent, alpha)
    return replace(result, conclusion=conclusion(result, manifest))


def _outcome(part: Part, collected: Collected) -> tuple[Metric, dict[str, dict[int, float]]]:
    """The outcome's metric, and arm -> seed -> value of the runs that finished."""
    metric = one_protocol(part, collected.arms, part.outcome)
    finished = [run for runs in collected.arms.values() for run in runs.values() if run.record.status == "ok"]
    if metric is None and finished:
        raise unknown("metric", part.outcome, finished[0].record.metrics)
    if metric is None:                             # nothing has finished: there is no label yet
        metric = Metric(value=math.nan, label=part.outcome, unit="", direction="higher", n=0)
    return metric, {name: values(runs, part.outcome) for name, runs in collected.arms.items()}


def _undefined(outcome: Mapping[str, Mapping[int, float]], metric: Metric) -> list[str]:
    return [f"{name}, seed {seed}: finished, but {metric.label} is undefined"
            for name, its in outcome.items() for seed, value in its.items() if not math.isfinite(value)]


def _against_base(part: Part, outcome: Mapping[str, Mapping[int, float]], direction: str,
                  level: float) -> dict[str, PairedComparison]:
    base = outcome[part.base.name]
    return {arm.name: compare_paired(base, outcome[arm.name], direction=direction, level=level)
            for arm in part.arms[1:]}


def _in_order(seeds: Sequence[int], part: Part, collected: Collected, outcome: Mapping[str, Mapping[int, float]],
              direction: str) -> dict[str, list[float]]:
    """Arm -> differences to the base in the order in which the seeds were added; NaN for a failed run.

    They end before the first seed that a run is still missing of: analyses count seeds that are in.
    """
    sign = 1 if direction == "higher" else -1
    base, base_runs = outcome[part.base.name], collected.arms[part.base.name]
    found = {}
    for arm in part.arms[1:]:
        its, runs, differences = outcome[arm.name], collected.arms[arm.name], []
        for seed in seeds:
            if seed not in runs or seed not in base_runs:
                break
            differences.append(sign * (its.get(seed, math.nan) - base.get(seed, math.nan)))
        found[arm.name] = differences
    return found


def _verdict(comparison: PairedComparison | None, adjusted_p: float, decision: Decision | None) -> Verdict:
    if comparison is None:
        return "base"
    side = decision.side if decision else comparison.test.mean if adjusted_p <= ALPHA else 0
    return "better" if side > 0 else "worse" if side < 0 else "undecided"


def _sight(comparison: PairedComparison | None, comparisons: int, alpha_spent: float) -> tuple[float, float]:
    """The difference that is detectable, and the seeds that the one seen would need; NaN below two pairs.

    ``alpha_spent``: the error that may be spent by now. At an early analysis that is less than 5 %, and less is
    detectable.
    """
    if comparison is None or not comparison.test.n:
        return math.nan, math.nan
    n, sd = comparison.test.n, comparison.sd
    if not alpha_spent or n < smallest_n(alpha_spent, comparisons=comparisons):
        detectable = math.inf
    else:
        detectable = minimum_detectable_effect(sd, n, alpha=alpha_spent, comparisons=comparisons)
    return detectable, seeds_needed(comparison.test.mean, sd, alpha=ALPHA, comparisons=comparisons)


def _ties(outcome: Mapping[str, Mapping[int, float]], direction: str, alpha: float) -> TieGroups:
    """Tie groups; without letters where testing all pairs would take long. So many letters say little anyway.

    Without letters before the first analysis, too: then ``alpha`` is 0.
    """
    pairs, n = math.comb(len(outcome), 2), max(map(len, outcome.values()))
    one_test = 50 + 2 ** (n / 2) / 10 if n <= 30 else 500 * n      # microseconds, as measured on one core
    if alpha and pairs * one_test <= TIE_WORK:
        return tie_groups(outcome, direction=direction, alpha=alpha)
    sign = -1 if direction == "higher" else 1
    means = {name: mean_interval(its.values()).mean for name, its in outcome.items()}
    order = sorted(outcome, key=lambda name: (math.isnan(means[name]), sign * means[name], name))
    return TieGroups(tuple(order), (), dict.fromkeys(outcome, ""), {}, False)


def _speeds(part: Part, collected: Collected) -> dict[str, TimeToQuality]:
    """Arm -> time to the base's final quality; the suite says of each of its curves which way is better."""
    if not part.curve:
        return {}
    direction = suites.registry.constant(part.suite, "CURVES")[part.curve]
    curve_of = {name: curves(runs, part.curve) for name, runs in collected.arms.items()}
    base = curve_of.pop(part.base.name)
    return {name: time_to_quality(base, its, direction) for name, its in curve_of.items() if base.keys() & its.keys()}


def _effects(manifest: Manifest, part: Part, outcome: Mapping[str, Mapping[int, float]],
             direction: str, level: float) -> FactorialEffects | None:
    if not part.axes or manifest.study.design == "one_at_a_time" or not any(outcome.values()):
        return None
    cells = {tuple(arm.levels[axis] for axis in part.axes): outcome[arm.name] for arm in part.arms}
    return factorial_effects(cells, part.axes, direction=direction, level=level)


def _correction(manifest: Manifest, part: Part) -> str:
    """What the decisions are corrected for."""
    comparisons = len(part.arms) - 1
    family = f"{comparisons} comparison{'s' if comparisons > 1 else ''} with {part.base.name}"
    family += ", in this part alone" if len(manifest.parts) > 1 else ""
    if manifest.interim_analyses:
        counts = ", ".join(map(str, manifest.interim_analyses.counts))
        return f"closed testing over {family} and planned analyses at {counts} seeds, 5 % error over all of them"
    return f"Holm over {family}"
