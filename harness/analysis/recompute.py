"""What of one record follows from its other files, computed again; and the list of what differs. No torch import.

Shares no code with what made the numbers (harness/metrics, harness/suites): it states the same rules a second time.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from PIL import Image

from harness.record import Metric
from harness.run_files import COLUMNS, Columns, Run, read_columns
from harness.spec import default_tables, digest

TOLERANCE = 1e-6                                   # relative; of a mean whose cases were written as text
BACKGROUND = "background"                          # left out of means over classes (harness/metrics/overlap.py)
CALLS = {"step": ("training step ms", "train_images_per_s"), "forward": ("forward ms", "inference_images_per_s")}


@dataclass(frozen=True)
class Difference:
    """One place where what a file states is not what it follows from."""

    file: str                                      # relative to the results folder
    place: str
    stated: str
    recomputed: str


@dataclass
class Findings:
    """What was compared. ``unchecked`` says what cannot be, and why: it is not agreement."""

    checked: int = 0
    differences: list[Difference] = field(default_factory=list)
    unchecked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))   # why -> what

    def compare(self, file: str, place: str, stated: Any, recomputed: Any, tolerance: float = 0.0) -> None:
        """Count one value, and keep it where it differs; numbers by relative ``tolerance``."""
        self.checked += 1
        if not same(stated, recomputed, tolerance):
            self.wrong(file, place, *(repr(value) if isinstance(value, float) else str(value)
                                      for value in (stated, recomputed)))

    def wrong(self, file: str, place: str, stated: str, recomputed: str) -> None:
        self.differences.append(Difference(file, place, stated, recomputed))


def same(stated: Any, recomputed: Any, tolerance: float = 0.0) -> bool:
    """Equal, or two numbers that agree within a relative tolerance; NaN equals NaN."""
    if isinstance(stated, int | float) and isinstance(recomputed, int | float):
        if math.isnan(stated) or math.isnan(recomputed):
            return math.isnan(stated) and math.isnan(recomputed)
        return math.isclose(stated, recomputed, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    return stated == recomputed


def check_run(run: Run, findings: Findings) -> None:
    """The run's id, metrics, costs, curves and pictures."""
    folder = f"runs/{run.folder.name}"
    check_id(run, findings, f"{folder}/record.json")
    check_costs(run, findings, f"{folder}/record.json")
    if run.record.status != "ok":
        return
    check_metrics(run, findings, folder)
    check_files(run, findings, folder)


def check_id(run: Run, findings: Findings, file: str) -> None:
    """The folder's name, the id that the record states, and the hash of its spec, code and data are one."""
    record = run.record
    findings.compare(file, "run_id", record.run_id, run.folder.name)
    data = record.data.get("fingerprint")
    if data is None:
        findings.unchecked["run_id: the run ended before its data was read"].append(file)
        return
    # Ids were once those of the whole spec as it was written; now, of what differs from the defaults of their time.
    spec = run.written()["spec"]
    written = {key: value for key, value in spec.items() if key != "profile"}
    written["data"] = {key: spec["data"].get(key) for key in ("name", "options")}
    possible = (*(record.spec.run_id(code=record.code, data=data, schema=schema) for schema in default_tables()),
                digest({"spec": written, "code": record.code, "data": data}))
    recomputed = run.folder.name if run.folder.name in possible else possible[0]
    findings.compare(file, "run_id (hash of spec, code and data)", run.folder.name, recomputed)


def check_costs(run: Run, findings: Findings, file: str) -> None:
    """Costs that follow from each other: FLOPs from MACs, throughput of training from the time of a step."""
    cost = run.record.cost
    if {"macs", "flops"} <= cost.keys():
        findings.compare(file, "cost flops (2 x macs)", cost["flops"].value, 2 * cost["macs"].value, TOLERANCE)
    step, speed = cost.get("step_ms"), cost.get("train_images_per_s")
    if step and speed and step.value and "batch_size" in step.protocol:
        findings.compare(file, "cost train_images_per_s (batch size / step_ms)", speed.value,
                         1e3 * step.protocol["batch_size"] / step.value, TOLERANCE)
    stated = cost.keys() - {"flops"} - ({"train_images_per_s"} if step and speed else set())
    if stated:
        findings.unchecked["costs: measured or counted while running, and kept in record.json only"] += [
            f"{file}: {key}" for key in sorted(stated)]


def check_metrics(run: Run, findings: Findings, folder: str) -> None:
    """Every metric that its per-case values or timed calls decide, with its n and its count of undefined values."""
    metrics, file, timed = run.record.metrics, f"{folder}/record.json", recompute_timings(run)
    cases = read_cases(run, f"{folder}/cases.csv", findings)
    for key, metric in metrics.items():
        found, told = recompute_mean(key, metric, cases), ""
        if found is None and key in timed:
            found, told = timed[key], " (timed calls)"
        if found is not None:
            for name, value in zip(("value", "n", "undefined"), found):
                findings.compare(file, f"metrics {key} {name}{told}", getattr(metric, name), value, TOLERANCE)
            continue
        why = ("metrics measured while running, and kept in record.json only" if timed else
               "means over cases: no cases.csv" if cases.empty and key.endswith("_macro") else
               "metrics of pixels or samples, which are not kept")
        findings.unchecked[why].append(f"{file}: {key}")
    if {"dice_micro", "iou_micro"} <= metrics.keys():
        dice, iou = (metrics[key].value for key in ("dice_micro", "iou_micro"))
        findings.compare(file, "metrics iou_micro (dice / (2 - dice))", iou, dice / (2 - dice), TOLERANCE)


def read_cases(run: Run, file: str, findings: Findings) -> pd.DataFrame:
    """(metric, class) -> mean over the cases that define it, cases, and defined ones; empty without cases.

    A second value of a case is a difference, and so is an IoU that is not Dice / (2 - Dice) of its case.
    """
    rows = pd.DataFrame(_columns(run, "cases.csv", file, findings) or {}, columns=COLUMNS["cases.csv"])
    rows = rows.astype({"metric": str, "class": str, "value": float})
    names = ["metric", "class", "case"]
    for row in rows[rows.duplicated(names)].to_dict("records"):
        findings.wrong(file, f"{row['metric']} of {row['class']}, case {row['case']}", "a second value", "one value")
    rows = rows.drop_duplicates(names, keep="last")
    iou, dice = (rows[rows["metric"] == name] for name in ("iou", "dice"))
    for row in iou.merge(dice, on=["class", "case"], suffixes=("", " of dice")).to_dict("records"):
        findings.compare(file, f"iou of {row['class']}, case {row['case']} (dice / (2 - dice))", row["value"],
                         row["value of dice"] / (2 - row["value of dice"]), TOLERANCE)
    return rows.groupby(["metric", "class"], sort=False)["value"].agg(["mean", "size", "count"])


def recompute_mean(key: str, metric: Metric, cases: pd.DataFrame) -> tuple[float, int, int] | None:
    """(value, n, undefined) of a metric from its cases; None where these do not decide it.

    ``x/class`` is the mean over the cases in which the class is defined; ``x_macro``, and ``x`` itself, the mean
    of those over the classes that its protocol names, else over all but the background.
    """
    stem, slash, name = key.partition("/")
    stem = stem.removesuffix("_macro")
    if stem not in cases.index.get_level_values("metric"):
        return None
    by_class = cases.loc[stem]
    classes = [name] if slash else [str(one) for one in metric.protocol.get(
        "classes", [one for one in by_class.index if one != BACKGROUND])]
    if not set(classes) <= {*by_class.index}:
        return None
    found = by_class.loc[classes]
    n = int(found["size"].sum())
    return float(found["mean"].mean()), n, n - int(found["count"].sum())


def recompute_timings(run: Run) -> dict[str, tuple[float, int]]:
    """Metric of an efficiency run -> (value, n): medians, interquartile ranges and images per second of timed calls.

    Empty for runs of other suites, and for calls that curves.csv does not have or that are no numbers.
    """
    columns = read_columns(run, "curves.csv", []) if run.record.spec.suite == "efficiency" else None
    found: dict[str, tuple[float, int]] = {}
    for name, (curve, throughput) in CALLS.items():
        ms = [value for one, value in zip(columns["name"], columns["value"]) if one == curve] if columns else []
        if len(ms) > 1:
            lower, middle, upper = statistics.quantiles(ms, n=4, method="inclusive")
            found |= {f"{name}_ms": (middle, len(ms)), f"{name}_iqr_ms": (upper - lower, len(ms)),
                      throughput: (1e3 * run.record.spec.train.batch_size / middle, len(ms))}
    return found


def _columns(run: Run, name: str, file: str, findings: Findings) -> Columns | None:
    """Read one of the run's tables; None where there is none, or where it is bad, which is a difference."""
    try:
        return run.columns(name, COLUMNS[name])
    except (OSError, ValueError, OverflowError) as error:
        findings.wrong(file, f"columns {', '.join(COLUMNS[name])}", f"unreadable ({error})", "a table of numbers")
        return None


def check_files(run: Run, findings: Findings, folder: str) -> None:
    """Curves are numbers, and the pictures that the record lists are there and can be cut as it says."""
    _columns(run, "curves.csv", f"{folder}/curves.csv", findings)
    if not run.has("curves.csv"):
        findings.unchecked["curves: no curves.csv"].append(folder)
    for name, picture in run.record.pictures.items():
        try:
            with Image.open(run.picture(name)) as image:
                width, height = image.size
        except (OSError, ValueError, Image.DecompressionBombError):
            findings.wrong(f"{folder}/{name}", "picture", "listed in record.json", "absent or no picture")
            continue
        findings.compare(f"{folder}/{name}", f"size in {picture.columns} x {picture.rows} tiles",
                         (width % picture.columns, height % picture.rows), (0, 0))
