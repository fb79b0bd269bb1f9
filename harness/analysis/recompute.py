"""What of one record follows from its other files, computed again; and the list of what differs.

Shares no code with what made the numbers (harness/metrics): it states the same rules a second time. No torch
import.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from harness.analysis.recompute_timings import recompute_timings
from harness.record import Metric
from harness.run_files import COLUMNS, Run
from harness.spec import default_tables, digest

TOLERANCE = 1e-6                                   # relative; of a mean whose cases were written as text
BACKGROUND = "background"                          # left out of means over classes (harness/metrics/overlap.py)

Table = dict[str, dict[str, float]]                # class -> case -> value


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

    def compare(self, file: str, place: str, stated: Any, recomputed: Any, tolerance: float = 0.0) -> bool:
        """Count one value, and keep it where it differs; numbers by relative ``tolerance``."""
        self.checked += 1
        if same(stated, recomputed, tolerance):
            return True
        self.differences.append(Difference(file, place, _text(stated), _text(recomputed)))
        return False

    def wrong(self, file: str, place: str, stated: str, recomputed: str) -> None:
        self.differences.append(Difference(file, place, stated, recomputed))


def same(stated: Any, recomputed: Any, tolerance: float = 0.0) -> bool:
    """Equal, or two numbers that agree within a relative tolerance; NaN equals NaN."""
    if isinstance(stated, int | float) and isinstance(recomputed, int | float):
        if math.isnan(stated) or math.isnan(recomputed):
            return math.isnan(stated) and math.isnan(recomputed)
        return math.isclose(stated, recomputed, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
    return stated == recomputed


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


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
    cases: dict[str, Table] = {}
    if run.has("cases.csv"):
        cases = read_cases(run, f"{folder}/cases.csv", findings)
        check_overlap(cases, findings, f"{folder}/cases.csv")
    for key, metric in metrics.items():
        found = recompute(key, metric, cases)
        if found is not None:
            for name, value in zip(("value", "n", "undefined"), found, strict=True):
                findings.compare(file, f"metrics {key} {name}", getattr(metric, name), value, TOLERANCE)
        elif key in timed:
            for name, value in zip(("value", "n"), timed[key], strict=True):
                findings.compare(file, f"metrics {key} {name} (timed calls)", getattr(metric, name), value, TOLERANCE)
        elif timed:
            findings.unchecked["metrics measured while running, and kept in record.json only"].append(f"{file}: {key}")
        elif not cases and key.endswith("_macro"):
            findings.unchecked["means over cases: no cases.csv"].append(f"{file}: {key}")
        else:
            findings.unchecked["metrics of pixels or samples, which are not kept"].append(f"{file}: {key}")
    if {"dice_micro", "iou_micro"} <= metrics.keys():
        dice, iou = (metrics[key].value for key in ("dice_micro", "iou_micro"))
        findings.compare(file, "metrics iou_micro (dice / (2 - dice))", iou, dice / (2 - dice), TOLERANCE)


def read_cases(run: Run, file: str, findings: Findings) -> dict[str, Table]:
    """metric -> class -> case -> value. What is no number, or stands twice, is a difference."""
    tables: dict[str, Table] = defaultdict(lambda: defaultdict(dict))
    try:
        columns = run.columns("cases.csv", COLUMNS["cases.csv"])
    except (OSError, ValueError, OverflowError) as error:
        findings.wrong(file, "columns case, metric, class, value", f"unreadable ({error})", "a table of numbers")
        return tables
    for case, metric, of_class, value in zip(*(columns[name] for name in COLUMNS["cases.csv"])):
        column = tables[metric][str(of_class)]
        if case in column:
            findings.wrong(file, f"{metric} of {of_class}, case {case}", "a second value", "one value")
        column[case] = float(value)
    return tables


def check_overlap(cases: dict[str, Table], findings: Findings, file: str) -> None:
    """Case by case, IoU = Dice / (2 - Dice)."""
    for name, column in cases.get("iou", {}).items():
        for case, iou in column.items():
            dice = cases.get("dice", {}).get(name, {}).get(case)
            if dice is not None:
                place = f"iou of {name}, case {case} (dice / (2 - dice))"
                findings.compare(file, place, iou, dice / (2 - dice), TOLERANCE)


def recompute(key: str, metric: Metric, cases: dict[str, Table]) -> tuple[float, int, int] | None:
    """(value, n, undefined) of a metric from its cases; None where these do not decide it.

    ``x/class`` is the mean over the cases in which the class is defined; ``x_macro``, and ``x`` itself, the mean
    of those over the classes that its protocol names, else over all but the background.
    """
    stem, slash, name = key.partition("/")
    stem = stem.removesuffix("_macro")
    if stem not in cases:
        return None
    table = cases[stem]
    if slash:
        classes = [name]
    else:
        classes = [str(one) for one in metric.protocol.get("classes", [c for c in table if c != BACKGROUND])]
    if not all(one in table for one in classes):
        return None
    columns = [list(table[one].values()) for one in classes]
    means = [mean for column in columns if not math.isnan(mean := _mean(column))]
    values = [value for column in columns for value in column]
    return _mean(means), len(values), sum(math.isnan(value) for value in values)


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def check_files(run: Run, findings: Findings, folder: str) -> None:
    """Curves are numbers, and the pictures that the record lists are there and can be cut as it says."""
    try:
        if run.columns("curves.csv", COLUMNS["curves.csv"]) is None:
            findings.unchecked["curves: no curves.csv"].append(folder)
    except (OSError, ValueError, OverflowError) as error:
        findings.wrong(f"{folder}/curves.csv", "columns step, name, value", f"unreadable ({error})", "a table")
    for name, picture in run.record.pictures.items():
        try:
            with Image.open(run.picture(name)) as image:
                width, height = image.size
        except (OSError, ValueError, Image.DecompressionBombError):
            findings.wrong(f"{folder}/{name}", "picture", "listed in record.json", "absent or no picture")
            continue
        findings.compare(f"{folder}/{name}", f"size in {picture.columns} x {picture.rows} tiles",
                         (width % picture.columns, height % picture.rows), (0, 0))
