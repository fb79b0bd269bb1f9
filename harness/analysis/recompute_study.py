"""What ``study.json`` states, from the records: which runs are whose, sizes that were matched, rates that were tuned.

No torch import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.ablation.manifest import FILE, Manifest, PlannedArm, Tuning
from harness.analysis.recompute import TOLERANCE, Findings, check_id
from harness.analysis.study_runs import by_arm
from harness.formatting import listed
from harness.record import read_record
from harness.run_files import COLUMNS, Run

MATCHED = {"params": "parameters", "macs": "macs"}  # what was matched -> the cost that records state


def check_study(out: Path, manifest: Manifest, runs: Sequence[Run], findings: Findings) -> None:
    """Every arm has its runs, no run is nobody's, and what the study says of an arm is so in its runs."""
    found = {key: {run.record.spec.seeds.init: run for run in its} for key, its in by_arm(runs).items()}
    planned = {arm.key for part in manifest.parts for arm in part.arms}
    unassigned = [run.folder.name for key, its in found.items() if key not in planned for run in its.values()]
    for part in manifest.parts:
        for arm in part.arms:
            place, its = f"{part.title}: arm {arm.name!r}", found.get(arm.key, {})
            findings.checked += 1
            if not its and unassigned:             # a spec that was changed leaves its runs behind
                findings.wrong(FILE, f"{place}, spec", f"key {arm.key}, of no record",
                               f"records of no arm: {listed(unassigned, 3)}")
            missing, extra = (", ".join(map(str, sorted(seeds))) for seeds in (
                set(manifest.seeds) - its.keys(), its.keys() - set(manifest.seeds)))
            if missing:
                findings.unchecked["arms of the study without a run of every seed"].append(
                    f"{place}: seed{'s' * (',' in missing)} {missing}")
            if extra:
                findings.wrong(FILE, f"{place}, seeds", ", ".join(map(str, manifest.seeds)),
                               f"a run of seed {extra}, too")
            check_arm(arm, its, found.get(part.base.key, {}), findings, place)
            if arm.tuning is not None:
                check_tuning(out, arm, arm.tuning, findings, place)
    if unassigned and planned <= found.keys():
        findings.unchecked["runs that belong to no arm of the study"] += [f"runs/{name}" for name in unassigned]


def check_arm(arm: PlannedArm, runs: dict[int, Run], base: dict[int, Run], findings: Findings, place: str) -> None:
    """Its change and its size, as the study, its runs and those of the base have them."""
    for key, value in arm.difference.items():
        section, _, name = key.partition(".")
        stated = getattr(arm.spec, section)
        stated = stated if section == "variant" else dict(stated).get(name)
        if value is not None and (arm.match is None or name not in arm.match.options):
            findings.compare(FILE, f"{place}, difference {key}", value, stated)
    match = arm.match
    if match is None:
        return
    cost = MATCHED.get(match.quantity)
    if match.value is not None:
        error = match.value / match.target - 1
        findings.compare(FILE, f"{place}, match error (value / target - 1)", match.error, error, TOLERANCE)
        findings.compare(FILE, f"{place}, match within", match.within, abs(error) <= match.tolerance)
        for name, value in match.options.items():
            findings.compare(FILE, f"{place}, match options {name}", value, arm.spec.options.get(name))
        if cost is None:
            findings.unchecked["a latency that was matched: timed before the runs"].append(f"{FILE}: {place}")
    for name, stated, its in (("value", match.value, runs), ("target", match.target, base)):
        for seed, run in its.items():
            if cost in run.record.cost:
                findings.compare(FILE, f"{place}, match {name} (record of seed {seed})", stated,
                                 run.record.cost[cost].value)


def check_tuning(out: Path, arm: PlannedArm, tuning: Tuning, findings: Findings, place: str) -> None:
    """The rate is that of the best trial, and each trial's value the last one of its run's curve."""
    best = (min if tuning.direction == "lower" else max)
    tried = [trial for trial in tuning.trials if trial.value is not None]
    if tried:
        findings.compare(FILE, f"{place}, tuning learning_rate (of the best trial)", tuning.learning_rate,
                         best(tried, key=lambda trial: trial.value).learning_rate)
    findings.compare(FILE, f"{place}, spec train.learning_rate (as tuned)", arm.spec.train.learning_rate,
                     tuning.learning_rate)
    for i, trial in enumerate(tuning.trials, 1):
        folder = out / "tuning" / "runs" / trial.run_id
        if not folder.is_dir():
            findings.unchecked["learning-rate trials whose runs are not kept"].append(f"{place}, trial {i}")
            continue
        try:
            run = Run(read_record(folder), folder)
            value = _last(run, tuning.curve) if run.record.status == "ok" else None
        except (ValueError, OSError, KeyError) as error:
            findings.wrong(f"tuning/runs/{trial.run_id}", f"{place}, trial {i}", f"unreadable ({error})", "a trial")
            continue
        check_id(run, findings, f"tuning/runs/{trial.run_id}/record.json")
        findings.compare(FILE, f"{place}, trial {i} learning_rate", trial.learning_rate,
                         run.record.spec.train.learning_rate)
        findings.compare(FILE, f"{place}, trial {i} value (end of {tuning.curve})", trial.value, value)


def _last(run: Run, curve: str) -> float | None:
    """The curve's last value; None without one. Raises OSError or ValueError where the file is bad."""
    columns = run.columns("curves.csv", COLUMNS["curves.csv"])
    values = [value for name, value in zip(columns["name"], columns["value"]) if name == curve] if columns else []
    return values[-1] if values and math.isfinite(values[-1]) else None
