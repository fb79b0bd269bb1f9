"""Which run of a folder counts for which arm of a study, its values and curves, and why others do not count.

No torch import.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.ablation.manifest import Manifest, Part, arm_key
from harness.analysis.comparison import require_one_protocol
from harness.record import Metric
from harness.run_files import Run, read_columns
from harness.spec import Seeds
from harness.stats.time_to_quality import Curve

STATUS = {"failed": "failed", "oom": "ran out of memory", "diverged": "diverged"}

Runs = Mapping[int, Run]                           # seed -> its run


@dataclass(frozen=True)
class Collected:
    """The runs of one part."""

    arms: dict[str, dict[int, Run]]                # arm -> seed -> the run that counts, whatever its status
    excluded: list[str]                            # one line for each run that does not count, and why


def by_arm(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Arm key -> its runs, oldest first."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.record.started):
        found[arm_key(run.record.spec)].append(run)
    return found


def arm_runs(part: Part, runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """Arm name -> seed -> its latest run, whatever its status; the seeds in order.

    A run counts where its three seeds are one number: otherwise it shares its data order or sampling noise
    with no run of another arm, and cannot be paired.
    """
    return collect(part, by_arm(runs)).arms


def collect(part: Part, keyed: Mapping[str, list[Run]], seeds: Sequence[int] | None = None) -> Collected:
    """The runs of ``part``, of ``seeds`` only (None = any), with a line for each that does not count.

    ``keyed`` as from :func:`by_arm`. Runs on other data than the latest run's do not count.
    """
    arms, excluded, data = {}, [], _latest_data(part, keyed)
    for arm in part.arms:
        latest: dict[int, Run] = {}
        for run in keyed.get(arm.key, ()):
            record, seed = run.record, run.record.spec.seeds.init
            name = f"{arm.name}, seed {seed}"
            if record.spec.seeds != Seeds(init=seed, data=seed, sampling=seed):
                excluded.append(f"{arm.name}: run {record.run_id} has three different seeds, and no run to be paired "
                                "with")
            elif seeds is not None and seed not in seeds:
                excluded.append(f"{name}: not a seed of the study")
            elif record.data.get("fingerprint", data) != data:
                excluded.append(f"{name}: run {record.run_id} is on other data than the latest runs")
            else:
                if seed in latest:
                    excluded.append(f"{name}: run {latest[seed].record.run_id} was superseded by a later one")
                latest[seed] = run
        arms[arm.name] = dict(sorted(latest.items()))
        excluded += [f"{arm.name}, seed {seed}: {STATUS[run.record.status]}{_reason(run)}"
                     for seed, run in arms[arm.name].items() if run.record.status != "ok"]
    return Collected(arms, excluded)


def seen_at_analysis(collected: Collected, seeds: Sequence[int], counts: Sequence[int]) -> tuple[Collected, int]:
    """The runs of the last whole analysis, and its number of seeds: what is seen between two analyses decides nothing.

    ``seeds`` in the order in which they were added; ``counts`` = seeds at each analysis. One is whole once every
    arm has a run of each of its seeds, whatever its status. Before the first all runs are shown, and 0 is said.
    """
    whole = 0
    while whole < len(seeds) and all(seeds[whole] in runs for runs in collected.arms.values()):
        whole += 1
    analysed = max((count for count in counts if count <= whole), default=0)
    if not analysed:
        return collected, 0
    seen, later = set(seeds[:analysed]), next((count for count in counts if count > analysed), analysed)
    arms = {name: {seed: run for seed, run in runs.items() if seed in seen} for name, runs in collected.arms.items()}
    waiting = [seed for seed in seeds[analysed:] if any(seed in runs for runs in collected.arms.values())]
    told = [f"seed {seed}: waits for the analysis at {later} seeds" for seed in waiting]
    return Collected(arms, collected.excluded + told), analysed


def _reason(run: Run) -> str:
    words = " ".join((run.record.error or "").split())
    return f" ({words})" if words else ""


def _latest_data(part: Part, keyed: Mapping[str, list[Run]]) -> str | None:
    found = [run.record for arm in part.arms for run in keyed.get(arm.key, ()) if run.record.data.get("fingerprint")]
    return max(found, key=lambda record: record.started).data["fingerprint"] if found else None


def unassigned_runs(manifest: Manifest, runs: Sequence[Run]) -> list[Run]:
    """Runs that belong to no arm of the study."""
    keys = {arm.key for part in manifest.parts for arm in part.arms}
    return [run for key, found in by_arm(runs).items() if key not in keys for run in found]


def metric_of(run: Run, key: str) -> Metric | None:
    """The metric, or the cost, ``key`` of a run that finished; None where it has none."""
    record = run.record
    if record.status != "ok":
        return None
    return record.metrics.get(key) or record.cost.get(key)


def values(runs: Runs, key: str) -> dict[int, float]:
    """Seed -> metric (or cost) of the runs that finished and have it; NaN where it is undefined."""
    found = {seed: metric_of(run, key) for seed, run in runs.items()}
    return {seed: metric.value for seed, metric in found.items() if metric is not None}


def curves(runs: Runs, name: str) -> dict[int, Curve]:
    """Seed -> the curve ``name`` of the runs that finished and have it."""
    found = {seed: _curve(run, name) for seed, run in runs.items() if run.record.status == "ok"}
    return {seed: curve for seed, curve in found.items() if curve is not None}


def _curve(run: Run, name: str) -> Curve | None:
    """None where the file is missing, bad (it is named where it is drawn) or without that curve."""
    columns = read_columns(run, "curves.csv", [], also=["seconds"])
    if columns is None:
        return None
    points = [(float(step), seconds, value) for step, seconds, one, value in zip(
        columns["step"], columns["seconds"], columns["name"], columns["value"]) if one == name]
    return Curve(*zip(*points, strict=True)) if points else None


def one_protocol(part: Part, arms: Mapping[str, Runs], key: str) -> Metric | None:
    """One of the values of the metric ``key``, for its label, unit and direction; None where no run has it.

    Raises InputError where two of its values were measured in ways that differ in more than what the study
    itself varies: it would be the measurement, not the treatment, that is seen.
    """
    found: dict[str, Metric] = {}
    for name, runs in arms.items():
        for seed, run in runs.items():
            metric = metric_of(run, key)
            if metric is None:
                continue
            first = found.setdefault(name, metric)
            if (metric.label, metric.unit, metric.protocol) != (first.label, first.unit, first.protocol):
                found[f"{name}, seed {seed}"] = metric
    if not found:
        return None
    require_one_protocol(found, treated(part, found.values()))
    return next((metric for metric in found.values() if math.isfinite(metric.value)), next(iter(found.values())))


def treated(part: Part, metrics: Iterable[Metric]) -> set[str]:
    """Entries of a protocol that the study varies: settings and budget in which its arms differ.

    Also settings that only some of the values name: where an arm's treatment is another sampler, say, DDIM's
    eta is not used, so it is part of that treatment.
    """
    metrics, varied = list(metrics), set()
    for section in ("settings", "train"):
        fields = [dict(getattr(arm.spec, section)) for arm in part.arms]
        known = set().union(*fields)
        differing = {name for name in known if any(its.get(name) != fields[0].get(name) for its in fields)}
        varied |= differing
        if section == "settings" and differing:
            named = Counter(name for metric in metrics for name in known & metric.protocol.keys())
            varied |= {name for name, count in named.items() if count < len(metrics)}
    return varied
