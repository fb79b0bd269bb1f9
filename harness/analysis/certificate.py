"""Was the comparison fair? What was matched, tuned and shared by a study's arms, and what was not. No torch import.

Every statement is read off the manifest and the records, so that it says what happened and not what was meant.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import stats

from harness.ablation.manifest import Manifest
from harness.analysis.comparison import code_versions
from harness.analysis.study_conclusion import uncorrected
from harness.analysis.study_result import ArmResult, PartResult
from harness.analysis.study_runs import STATUS, metric_of, values
from harness.formatting import MINUS, listed, quoted
from harness.stats.intervals import mean_interval

COSTS = ("parameters", "macs", "step_ms", "peak_memory_bytes")
MATCHED = {"params": "parameters", "macs": "macs", "latency": "step_ms"}   # matching -> its cost
WORDS = {"params": "Parameters", "macs": "MACs", "latency": "Time per training step"}
KINDS = ("matched", "cost", "tuned", "not tuned", "seeds", "order", "budget", "runs")   # of a part, in this order
MACHINE = ("cpu", "gpu", "device", "threads", "system", "python")          # of the environment, beside torch


@dataclass(frozen=True)
class Statement:
    """One line of the certificate."""

    kind: str                                      # "matched", "cost", "tuned", "seeds", "order", "budget", ...
    text: str
    holds: bool | None                             # is the comparison fair in this? None = neither, a fact to know


def certificate(manifest: Manifest, results: Sequence[PartResult]) -> list[Statement]:
    """All statements: first of the study, then of each part, then whether the ranking survives each matching."""
    found, titles = [*_shared(manifest, results)], defaultdict(list)
    for result in results:
        for statement in (_matched(result), _cost(result), *_tuned(result), _pairs(manifest, result), _order(result),
                          _budget(result), _present(manifest, result)):
            titles[statement].append(result.part.title)
    for statement, its in sorted(titles.items(), key=lambda item: KINDS.index(item[0].kind)):
        prefix = f"{' and '.join(its)}: " if len(its) < len(results) else ""     # what all parts share is said once
        found.append(replace(statement, text=prefix + statement.text))
    by_suite: dict[str, list[PartResult]] = defaultdict(list)
    for result in results:
        by_suite[result.part.suite].append(result)
    found += [_ranking(first, other) for first, *others in by_suite.values() for other in others]
    return found


def _shared(manifest: Manifest, results: Sequence[PartResult]) -> Iterable[Statement]:
    """What all parts share: how many seeds were decided on when, code, machine."""
    if manifest.interim_analyses:
        counts = listed([str(count) for count in manifest.interim_analyses.counts])
        yield Statement("analyses", "Seeds were added until the question was decided or all were in, with analyses "
                                    f"planned at {counts} seeds; the error over all analyses and arms stays at 5 %.",
                        True)
    else:
        late = next(filter(None, (uncorrected(result, manifest) for result in results)), "")
        fixed = f"The number of seeds, {len(manifest.seeds)}, was not raised after a result that could be decided."
        yield Statement("analyses", late or fixed, not late)
    outcomes = listed(list(dict.fromkeys(result.metric.label for result in results)))
    yield Statement("outcome", f"The study's file names what decides: {outcomes}, on test data, evaluated once after "
                               "training. Other metrics, curves and costs decide nothing and are not corrected for "
                               "being many.", None)
    if len(results) > 1:
        titles = "; ".join(result.part.title for result in results)
        yield Statement("families", f"Each of the {len(results)} parts ({titles}) is a family of its own, at 5 % "
                                    "error: the chance of a false verdict in any of them may be up to "
                                    f"{5 * len(results)} %. Tie letters and effects of factors are families of their "
                                    "own, too.", None)
    records = list({run.record.run_id: run.record for result in results for arm in result.arms
                    for run in arm.runs.values()}.values())
    if not records:
        return
    changed = [f"{quoted(variant)} ({len(codes)} versions)" for variant, codes in code_versions(records).items()]
    yield Statement("code", f"Runs of one network were made by different versions of its code: {listed(changed)}."
                    if changed else f"All {len(records)} runs of each network used the same version of its code.",
                    not changed)
    machines = Counter(", ".join(f"{key} {record.env[key]}" for key in MACHINE if record.env.get(key) is not None)
                       + f", torch {record.env.get('packages', {}).get('torch', 'unknown')}" for record in records)
    told = listed([f"{name} ({count} runs)" for name, count in machines.most_common()])
    yield Statement("machine", f"The {len(records)} runs did not all use the same machine, but {told}."
                    if len(machines) > 1 else f"All {len(records)} runs used the same machine: {next(iter(machines))}.",
                    len(machines) == 1)


def _each(texts: Mapping[str, str], most: int | None = None) -> str:
    """Say of every arm what ``texts`` says of it."""
    return listed([f"{quoted(name)} {text}" for name, text in texts.items()], most)


def _matched(result: PartResult) -> Statement:
    """What was matched, and how close each arm came."""
    quantity = result.part.matching
    if quantity == "none":
        return Statement("matched", "No size was matched: every arm has the size that its change gives it.", False)
    arms = result.part.arms[1:]
    close = {arm.name: arm.match for arm in arms if arm.match is not None and arm.match.error is not None}
    holds = len(close) == len(arms) and all(match.within for match in close.values())
    lost = [quoted(arm.name) for arm in arms if arm.match is None or not arm.match.within]
    text = f"{WORDS[quantity]} matched to those of {quoted(result.part.base.name)}"
    if close:
        first = next(iter(close.values()))
        target = f"{first.target:,}" if isinstance(first.target, int) else f"{first.target:.4g} ms"
        errors = {name: f"{100 * match.error:+.1f} %".replace("-", MINUS) for name, match in close.items()}
        text += f" ({target}, within {100 * first.tolerance:g} %): {_each(errors)}"
    return Statement("matched", text + (f". Not matched: {listed(lost)}." if lost else "."), holds)


def _cost(result: PartResult) -> Statement:
    """Costs that were not matched, as multiples of the base's."""
    told = []
    for key in COSTS:
        base = _mean(result.base, key)
        if key == MATCHED.get(result.part.matching) or not base > 0:
            continue
        ratios = [(ratio, arm.arm.name) for arm in result.arms[1:] if math.isfinite(ratio := _mean(arm, key) / base)]
        if ratios:
            (low, least), (high, most) = min(ratios), max(ratios)
            label = next(metric_of(run, key).label for run in result.base.runs.values() if metric_of(run, key))
            told.append(f"{label} {low:.2f} ({quoted(least)}) to {high:.2f} ({quoted(most)})"
                        if f"{low:.2f}" < f"{high:.2f}" else f"{label} {low:.2f}")
    known = f"Not matched, as multiples of {quoted(result.base.arm.name)}: {listed(told)}."
    return Statement("cost", known if told else "No costs are known to compare.", None)


def _mean(arm: ArmResult, key: str) -> float:
    return mean_interval(values(arm.runs, key).values()).mean


def _tuned(result: PartResult) -> Iterable[Statement]:
    """What was tuned, from how many trials, to what; whether an optimum lies at the edge; what was not tuned."""
    tuned = {arm.name: arm.tuning for arm in result.part.arms if arm.tuning is not None}
    rates = {arm.name: arm.spec.train.learning_rate for arm in result.part.arms}
    if not tuned:
        shared = sorted(set(rates.values()))
        told = (f"all arms train at one learning rate, {shared[0]:.3g}, which may suit one better than another"
                if len(shared) == 1 else "the learning rates are those of the study's file")
        yield Statement("tuned", f"Nothing was tuned: {told}.", False)
        return
    counts = {name: len(tuning.trials) for name, tuning in tuned.items()}
    fair = len(tuned) == len(rates) and len(set(counts.values())) == 1
    tried = {name: [trial.learning_rate for trial in tuning.trials] for name, tuning in tuned.items()}
    chosen = _each({name: f"{tuning.learning_rate:.2g}" for name, tuning in tuned.items()})
    many = f"{next(iter(counts.values()))} learning-rate trials for every arm" if fair else \
        f"Learning-rate trials: {_each({name: counts.get(name, 0) for name in rates})}"
    curve, every = next(iter(tuned.values())).curve, [rate for its in tried.values() for rate in its]
    yield Statement("tuned", f"{many}, chosen by the {curve} on validation data, from {min(every):.2g} to "
                             f"{max(every):.2g}. Chosen: {chosen}.", fair)
    edge = [quoted(name) for name, tuning in tuned.items()
            if tuning.learning_rate in (min(tried[name]), max(tried[name]))]
    if edge:
        yield Statement("tuned", f"Optimum at the edge of the range that was tried, so that a better rate may lie "
                                 f"beyond it: {listed(edge)}.", False)
    lost = {name: f"{count} of {counts[name]}" for name, tuning in tuned.items()
            if (count := sum(trial.value is None for trial in tuning.trials))}
    if lost:
        yield Statement("tuned", f"Trials that failed, and count as used: {_each(lost, 6)}.", None)
    yield Statement("not tuned", "Batch size, weight decay, warm-up, number of steps and the networks' other options "
                                 "were not tuned.", None)


def _pairs(manifest: Manifest, result: PartResult) -> Statement:
    planned = len(manifest.seeds)
    short = {arm.arm.name: n for arm in result.arms[1:] if (n := arm.comparison.test.n) < planned}
    return Statement("seeds", f"Arms are compared seed by seed, but not on all {planned} seeds: {_each(short, 6)}."
                     if short else f"Every arm is compared with the base seed by seed, on the same {planned} seeds.",
                     not short)


def _order(result: PartResult) -> Statement:
    """The same data in the same order: one data seed gives it as long as the batches are equally large."""
    data = {run.record.data.get("fingerprint") for arm in result.arms for run in arm.runs.values()} - {None}
    shown = f" ({next(iter(data))})" if len(data) == 1 else ""
    one_size = len({arm.spec.train.batch_size for arm in result.part.arms}) == 1
    return Statement("order", f"All runs read the same data{shown}" + (
        "; with one seed every arm has the same order of data, augmentation and noise." if one_size else
        ", but not in the same batches: the arms differ in batch size."), True if one_size else None)


def _budget(result: PartResult) -> Statement:
    """The same number of steps and images; where a study varies them, that is its treatment."""
    budgets = {arm.name: (arm.spec.train.steps, arm.spec.train.batch_size) for arm in result.part.arms}
    if len(set(budgets.values())) == 1:
        steps, batch = next(iter(budgets.values()))
        return Statement("budget", f"Every arm trains {steps:,} steps of {batch} images: {steps * batch:,} images "
                                   "seen.", True)
    told = _each({name: f"{steps:,} x {batch} = {steps * batch:,}" for name, (steps, batch) in budgets.items()})
    same = len({steps * batch for steps, batch in budgets.values()}) == 1
    seen = "the same number of images" if same else "different numbers of images"
    return Statement("budget", f"The study varies the budget: the arms see {seen} (steps x batch size): {told}.",
                     None if same else False)


def _present(manifest: Manifest, result: PartResult) -> Statement:
    ended = Counter(run.record.status for arm in result.arms for run in arm.runs.values())
    planned = len(result.arms) * len(manifest.seeds)
    if ended["ok"] == planned:
        return Statement("runs", f"All {planned} planned runs finished.", True)
    told = [f"{result.missing} are not there"] if result.missing else []
    told += [f"{ended[status]} {words}" for status, words in STATUS.items() if ended[status]]
    return Statement("runs", f"Of {planned} planned runs {ended['ok']} finished: {listed(told)}.", False)


def _ranking(first: PartResult, other: PartResult) -> Statement:
    """Whether what was found under one matching holds under another."""
    means = [{arm.arm.name: arm.interval.mean for arm in result.arms if math.isfinite(arm.interval.mean)}
             for result in (first, other)]
    names = [name for name in means[0] if name in means[1]]
    tau = math.nan
    if len(names) > 1:
        tau = float(stats.kendalltau([means[0][name] for name in names], [means[1][name] for name in names]).statistic)
    verdicts = {arm.arm.name: arm.verdict for arm in other.arms}
    changed = [f"{quoted(arm.arm.name)} is {arm.verdict} in one, {verdicts[arm.arm.name]} in the other"
               for arm in first.arms if verdicts.get(arm.arm.name, arm.verdict) != arm.verdict]
    changed += [f"{quoted(one)} and {quoted(two)} change places" for one, two in _flips(first, other, means)]
    where = f"{first.part.suite}: the ranking of {len(names)} arms with {_size(first)} and with {_size(other)}"
    agrees = "cannot be compared" if math.isnan(tau) else f"agrees with a Kendall tau of {tau:.2f}"
    return Statement("ranking", f"{where} {agrees}; {listed(changed) if changed else 'no verdict changes'}.",
                     None if math.isnan(tau) else not changed)


def _flips(first: PartResult, other: PartResult, means: Sequence[dict[str, float]]) -> list[tuple[str, str]]:
    """Pairs that are told apart under both, the other way round. Pairs with the base are its verdicts."""
    names = [arm.arm.name for arm in first.arms[1:]]
    return [(one, two) for one, two in itertools.combinations(names, 2)
            if all(result.ties.p.get(frozenset((one, two)), 1.0) <= result.alpha for result in (first, other))
            and (means[0][one] < means[0][two]) != (means[1][one] < means[1][two])]


def _size(result: PartResult) -> str:
    return "sizes as they come" if result.part.matching == "none" else f"equal {result.part.matching}"

