"""Every number of a results folder as tables in full precision: table.csv, study-table.csv, scaling.csv. No torch."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.ablation.manifest import Manifest
from harness.analysis.comparison import Group
from harness.analysis.scaling import QUANTITIES, TABLE, Scaling, scaling_of
from harness.analysis.study_parts import StudyFindings, change_words, made_equal, study_and_groups
from harness.formatting import listed
from harness.record import Metric
from harness.run_files import Run
from harness.stats.intervals import Interval
from harness.stats.paired import PairedComparison


def frames(out: Path, manifest: Manifest | None, runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """Make every table of the results folder ``out`` from its runs: file name -> table."""
    study, groups = study_and_groups(out, manifest, runs)
    scaling = scaling_of(runs)
    made = {"table.csv": run_frame([*(study.groups if study else []), *groups])}
    if study:
        made["study-table.csv"] = study_frame(study)
    if scaling and len(scaling.sides) > 1:
        made[TABLE] = scaling_frame(scaling)
    return made


def _run_fields(group: Group, run: Run, superseded: bool) -> dict:
    record, spec = run.record, run.record.spec
    return {"group": group.id, "comparison": group.title, "suite": spec.suite, "dataset": spec.data.name,
            "variant": spec.variant, "options": json.dumps(spec.options, sort_keys=True),
            "seed_init": spec.seeds.init, "seed_data": spec.seeds.data, "seed_sampling": spec.seeds.sampling,
            "run_id": record.run_id, "status": record.status, "error": record.error,
            "superseded": superseded, "started": record.started,
            "duration [s]": record.duration_s, "device": spec.device, "code": record.code}


def run_frame(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per run, every number in full precision; units in the headers.

    Numbers of different protocol fingerprints never share a column: where a label has several, the
    fingerprint follows it. A quality number is followed by its ``n``, ``undefined`` and, where known,
    that of real data.
    """
    rows: dict[tuple[str, str], dict] = {}
    numbers: dict[tuple[str, str, str], dict[int, Metric]] = {}  # kind, key, fingerprint -> number of the row -> it
    for group in groups:
        for run, old in [(run, old) for arm in group.arms
                         for old, found in ((False, arm.runs), (True, arm.superseded)) for run in found]:
            at = group.id, run.record.run_id
            if at in rows:
                continue
            for kind in ("metrics", "cost"):
                for key, metric in getattr(run.record, kind).items():
                    numbers.setdefault((kind, key, metric.fingerprint), {})[len(rows)] = metric
            rows[at] = _run_fields(group, run, old)
    labels = Counter(next(iter(found.values())).label for found in numbers.values())
    added = {}
    for (kind, key, fingerprint), found in numbers.items():
        first = next(iter(found.values()))
        name = first.label + (f" {{{key} {fingerprint[:8]}}}" if labels[first.label] > 1 else "")
        added[f"{name} [{first.unit}]" if first.unit else name] = _column(found, "value", len(rows))
        if kind == "metrics" and "/" not in key:
            added[f"{name} n"] = _column(found, "n", len(rows)).astype("Int64")
            added[f"{name} undefined"] = _column(found, "undefined", len(rows)).astype("Int64")
            if any(metric.real_data_reference is not None for metric in found.values()):
                added[f"{name} of real data"] = _column(found, "real_data_reference", len(rows))
    frame = pd.DataFrame([*rows.values()])
    return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)


def _column(found: dict[int, Metric], name: str, length: int) -> pd.Series:
    """The attribute ``name`` of each number in the row that it belongs to; NaN in the others."""
    column = np.full(length, np.nan)
    values = [getattr(metric, name) for metric in found.values()]
    column[[*found]] = [np.nan if value is None else value for value in values]
    return pd.Series(column)


def study_frame(study: StudyFindings) -> pd.DataFrame:
    """One row for each part, arm and metric, in full precision. Only the outcome's p values are corrected."""
    rows = []
    for part in study.parts:
        if part.result is None:
            continue
        result = part.result
        metrics = {part.part.outcome: result.metric, **result.also_metrics}
        for arm in result.arms:
            head = {"part": part.part.title, "arm": arm.arm.name, "change": change_words(arm.arm),
                    "made equal": made_equal(arm.arm)}
            for key, metric in metrics.items():
                primary = key == part.part.outcome
                comparison = arm.comparison if primary else result.also.get(key, {}).get(arm.arm.name)
                row = {**head, "metric": key, "unit": metric.unit, "better": metric.direction, "primary": primary}
                if primary:
                    row |= {"seeds": arm.interval.n, "mean": arm.interval.mean, "mean low": arm.interval.low,
                            "mean high": arm.interval.high, "verdict": arm.verdict, "p corrected": arm.adjusted_p,
                            "detectable": arm.detectable, "seeds needed": arm.needed, "ties": arm.letters}
                if comparison is not None:
                    row |= _comparison(comparison)
                if primary or comparison is not None:
                    rows.append(row)
    return pd.DataFrame(rows)


def _comparison(found: PairedComparison) -> dict:
    return {"pairs": found.test.n, "difference": found.interval.mean, "difference low": found.interval.low,
            "difference high": found.interval.high, "sd of differences": found.sd, "effect size": found.effect_size,
            "p": found.test.p}


def scaling_frame(scaling: Scaling) -> pd.DataFrame:
    """One row per condition, network and cost, in full precision: exponents with intervals, and the cost at each side.

    Where seeds were repeated, a cost is their mean. The exponent's bounds are the fit's.
    """
    rows = []
    for condition in scaling.conditions:
        for curve in condition.curves:
            lost = listed([f"{side} px: {run.record.status}" for label, side, run in condition.lost
                           if label == curve.label], None)
            for key in QUANTITIES:
                metric, points, fit = condition.metric(key), curve.points(key), curve.fit(key).exponent
                if metric is None:
                    continue
                local, ends = curve.local(key), curve.ends(key) or ("", "")
                rows.append({"part": condition.title, "variant": curve.label, "metric": key, "unit": metric.unit,
                             "machine": condition.device, "sizes": len(points), **_bounds("exponent", fit),
                             **_bounds("local exponent", local), "local from [px]": ends[0], "local to [px]": ends[1],
                             "one network": curve.one_network, "did not finish": lost,
                             **{f"at {side} px": points.get(side, math.nan) for side in scaling.sides}})
    return pd.DataFrame(rows)


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name} low": interval.low, f"{name} high": interval.high}
