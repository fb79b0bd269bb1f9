"""Was the comparison fair? What was matched, tuned and shared by a study's arms, and what was not. No torch import.

Every statement is read off the manifest and the records, so that it says what happened and not what was meant.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scipy import stats

from harness.ablation.manifest import Manifest
from harness.analysis.comparison import code_versions
from harness.analysis.study_conclusion import uncorrected
from harness.analysis.study_result import ArmResult, PartResult
from harness.analysis.study_runs import STATUS, metric_of, values
from harness.formatting import listed, quoted
from harness.record import Record

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
    records = [run.record for result in results for arm in result.arms for run in arm.runs.values()]
    records = list({record.run_id: record for record in records}.values())
    if records:
        yield _code(records)
        machines = [", ".join(f"{key} {record.env[key]}" for key in MACHINE if record.env.get(key) is not None)
                    + f", torch {record.env.get('packages', {}).get('torch', 'unknown')}" for record in records]
        yield _same("machine", "the same machine", machines)


def _code(records: Sequence[Record]) -> Statement:
    """State whether a network's code changed between its runs."""
    changed = [f"{quoted(variant)} ({len(codes)} versions)" for variant, codes in code_versions(records).items()]
    if changed:
        return Statement("code", f"Runs of one network were made by different versions of its code: {listed(changed)}.",
                         False)
    return Statement("code", f"All {len(records)} runs of each network used the same version of its code.", True)


def _same(kind: str, what: str, found: Sequence[str]) -> Statement:
    counts = Counter(found).most_common()
    if len(counts) == 1:
        return Statement(kind, f"All {len(found)} runs used {what}: {counts[0][0]}.", True)
    told = listed([f"{name} ({count} runs)" for name, count in counts])
    return Statement(kind, f"The {len(found)} runs did not all use {what}, but {told}.", False)


def _matched(result: PartResult) -> Statement:
    """What was matched, and how close each arm came."""
    quantity = result.part.matching
    if quantity == "none":
        return Statement("matched", "No size was matched: every arm has the size that its change gives it.", False)
    arms = result.part.arms[1:]
    close = [(arm.name, arm.match) for arm in arms if arm.match is not None and arm.match.error is not None]
    told = listed([f"{quoted(name)} {_percent(match.error)}" for name, match in close], most=len(close))
    holds = len(close) == len(arms) and all(match.within for _, match in close)
    lost = [quoted(arm.name) for arm in arms if arm.match is None or not arm.match.within]
    text = f"{WORDS[quantity]} matched to those of {quoted(result.part.base.name)}"
    if close:
        target, tolerance = close[0][1].target, close[0][1].tolerance
        target = f"{target:,}" if isinstance(target, int) else f"{target:.4g} ms"
        text += f" ({target}, within {100 * tolerance:g} %): {told}"
    return Statement("matched", text + (f". Not matched: {listed(lost)}." if lost else "."), holds)


def _cost(result: PartResult) -> Statement:
    """Costs that were not matched, as multiples of the base's."""
    told = []
    for key in COSTS:
        base = _mean(result.base, key)
        if key == MATCHED.get(result.part.matching) or not base > 0:
            continue
        ratios = [(_mean(arm, key) / base, arm.arm.name) for arm in result.arms[1:]]
        ratios = [ratio for ratio in ratios if math.isfinite(ratio[0])]
        if ratios:
            (low, least), (high, most) = min(ratios), max(ratios)
            label = next(metric_of(run, key).label for run in result.base.runs.values() if metric_of(run, key))
            told.append(f"{label} {low:.2f} ({quoted(least)}) to {high:.2f} ({quoted(most)})"
                        if f"{low:.2f}" < f"{high:.2f}" else f"{label} {low:.2f}")
    if not told:
        return Statement("cost", "No costs are known to compare.", None)
    return Statement("cost", f"Not matched, as multiples of {quoted(result.base.arm.name)}: {listed(told)}.", None)


def _mean(arm: ArmResult, key: str) -> float:
    found = [value for value in values(arm.runs, key).values() if math.isfinite(value)]
    return sum(found) / len(found) if found else math.nan


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
    tried = [trial.learning_rate for tuning in tuned.values() for trial in tuning.trials]
    chosen = listed([f"{quoted(name)} {tuning.learning_rate:.2g}" for name, tuning in tuned.items()], most=len(tuned))
    many = f"{next(iter(counts.values()))} learning-rate trials for every arm" if fair else \
        "learning-rate trials: " + listed([f"{quoted(name)} {counts.get(name, 0)}" for name in rates], most=len(rates))
    curve = next(iter(tuned.values())).curve
    yield Statement("tuned", f"{many[0].upper()}{many[1:]}, chosen by the {curve} on validation data, from "
                             f"{min(tried):.2g} to {max(tried):.2g}. Chosen: {chosen}.", fair)
    edge = [name for name, tuning in tuned.items()
            if tuning.learning_rate in (min(t.learning_rate for t in tuning.trials),
                                        max(t.learning_rate for t in tuning.trials))]
    if edge:
        yield Statement("tuned", f"Optimum at the edge of the range that was tried, so that a better rate may lie "
                                 f"beyond it: {listed([quoted(name) for name in edge])}.", False)
    lost = {name: sum(trial.value is None for trial in tuning.trials) for name, tuning in tuned.items()}
    if any(lost.values()):
        told = listed([f"{quoted(name)} {count} of {counts[name]}" for name, count in lost.items() if count])
        yield Statement("tuned", f"Trials that failed, and count as used: {told}.", None)
    yield Statement("not tuned", "Batch size, weight decay, warm-up, number of steps and the networks' other options "
                                 "were not tuned.", None)


def _pairs(manifest: Manifest, result: PartResult) -> Statement:
    planned = len(manifest.seeds)
    short = [f"{quoted(arm.arm.name)} {arm.comparison.test.n}" for arm in result.arms[1:]
             if arm.comparison.test.n < planned]
    if short:
        return Statement("seeds", f"Arms are compared seed by seed, but not on all {planned} seeds: {listed(short)}.",
                         False)
    return Statement("seeds", f"Every arm is compared with the base seed by seed, on the same {planned} seeds.", True)


def _order(result: PartResult) -> Statement:
    """The same data in the same order: one data seed gives it as long as the batches are equally large."""
    data = {run.record.data.get("fingerprint") for arm in result.arms for run in arm.runs.values()} - {None}
    shown = f" ({next(iter(data))})" if len(data) == 1 else ""
    sizes = {arm.spec.train.batch_size for arm in result.part.arms}
    if len(sizes) > 1:
        return Statement("order", f"All runs read the same data{shown}, but not in the same batches: the arms differ "
                                  "in batch size.", None)
    return Statement("order", f"All runs read the same data{shown}; with one seed every arm has the same order of "
                              "data, augmentation and noise.", True)


def _budget(result: PartResult) -> Statement:
    """The same number of steps and images; where a study varies them, that is its treatment."""
    budgets = {arm.name: (arm.spec.train.steps, arm.spec.train.batch_size) for arm in result.part.arms}
    if len(set(budgets.values())) == 1:
        steps, batch = next(iter(budgets.values()))
        return Statement("budget", f"Every arm trains {steps:,} steps of {batch} images: {steps * batch:,} images "
                                   "seen.", True)
    told = listed([f"{quoted(name)} {steps:,} x {batch} = {steps * batch:,}"
                   for name, (steps, batch) in budgets.items()], most=len(budgets))
    seen = {steps * batch for steps, batch in budgets.values()}
    same = "the same number of images" if len(seen) == 1 else "different numbers of images"
    return Statement("budget", f"The study varies the budget: the arms see {same} (steps x batch size): {told}.",
                     None if len(seen) == 1 else False)


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


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-", "\N{MINUS SIGN}")
